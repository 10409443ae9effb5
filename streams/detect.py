"""What one partition says about its events: the pure core of stage *detect*.

Events come in log order, batches of any size; findings, closed hours and changed state come out.
All of it depends on the logs and the clocks told alone, not on how they were cut into batches nor
on when state was written and read back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from streams import snapshot
from streams.admission import future_detail, late_detail
from streams.batch import Refusal
from streams.clock import AHEAD, RETENTION, Clock
from streams.durations import HOUR
from streams.feed import Feed
from streams.findings import Entity, Evidence, Finding, rate_finding
from streams.layout import TASKS, task_bins, task_sums
from streams.ledger import Ledger
from streams.reasons import DeadLetterReason, TransitionReason
from streams.security import SecurityLives, SeriesLimitLife

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streams.columns import SecurityEvent, TaskColumns
    from streams.feed import Taken
    from streams.rules import RuleSet
    from streams.sweep import Happened

    I64 = NDArray[np.int64]


class Drained(NamedTuple):
    """What came of the events since the last drain.

    Attributes:
        findings: in log order, then by tick, rule and agent.
        windows: Window records of closed hours, by tick.
        state: changed state records, None for one that is gone.
    """

    findings: list[Finding]
    windows: list[dict[str, Any]]
    state: list[tuple[bytes, bytes | None]]


class Detect:
    """Admits, folds and evaluates the events of one partition.

    Args:
        rules: the rules.
        partition: number of the partition.
        max_series: most series of agents and of their task types together; also most kinds of
            security events of agents. Raising it costs memory, up to about 60 KB a series.
        tasks_topic: topic of the task events, for the evidence.
        security_topic: topic of the security events, for the evidence.

    Attributes:
        ledger: what is remembered of the tasks; its watches are looked at every hour.
    """

    def __init__(
        self,
        rules: RuleSet,
        *,
        partition: int,
        max_series: int,
        tasks_topic: str = "agentops.tasks",
        security_topic: str = "agentops.security",
    ) -> None:
        self._source = tasks_topic, partition
        self._max_series = max_series
        self._security = Clock()
        self.ledger = Ledger(rules.rates, max_series, TASKS)
        self._threats = SecurityLives(rules.security, security_topic, partition)
        self._limit = SeriesLimitLife(rules.series_limit, tasks_topic, partition, max_series)
        self._tasks = Feed(
            self.ledger, self._limit, sums=task_sums, bins=task_bins, find=self._finding
        )
        self._parts = snapshot.Parts(
            books=[snapshot.Book(self.ledger, self._tasks.clock)],
            clocks={"security": self._security},
            keepers=[snapshot.ThreatKeeper(self._threats), snapshot.LimitKeeper(self._limit)],
        )
        self._findings: list[Finding] = []
        self._windows: list[dict[str, Any]] = []
        self._dirty = False

    def join(
        self,
        books: Sequence[snapshot.Book],
        clocks: Mapping[str, Clock],
        keepers: Sequence[snapshot.Keeper],
    ) -> None:
        """Store more with it: ledgers, clocks by stream, and what stores itself."""
        self._parts = snapshot.Parts(
            books=[*self._parts.books, *books],
            clocks={**self._parts.clocks, **clocks},
            keepers=[*self._parts.keepers, *keepers],
        )

    # -- what it is like ---------------------------------------------------------------------

    @property
    def taps(self) -> list[Callable[[Taken], None]]:
        """Who is told of tasks that were admitted, before any tick sees them."""
        return self._tasks.taps

    def tasks_clock(self) -> int | None:
        """Return the clock of the tasks, ms; None before the first."""
        return self._tasks.clock.now

    @property
    def clocks(self) -> dict[str, int]:
        """The clocks by stream, `tasks` and `security`; one without an event is left out."""
        both = {"tasks": self._tasks.clock.now, "security": self._security.now}
        return {stream: now for stream, now in both.items() if now is not None}

    @property
    def urgent(self) -> bool:
        """Whether a finding waits to be drained."""
        return bool(self._findings)

    @property
    def dirty(self) -> bool:
        """Whether there is anything to drain."""
        return self._dirty

    # -- events ------------------------------------------------------------------------------

    def fold_tasks(self, events: TaskColumns, offsets: I64, timestamps: I64) -> list[Refusal]:
        """Take task events in log order.

        Args:
            events: n events.
            offsets: int64[n], ascending.
            timestamps: int64[n], Kafka record timestamps, ms.

        Returns:
            Those not admitted, by position in `events`, ascending.
        """
        refused = self._tasks.fold(events, offsets, timestamps)
        self._collect()
        return refused

    def fold_security(
        self, events: Sequence[SecurityEvent], offsets: I64, timestamps: I64
    ) -> list[Refusal]:
        """Take security events in log order; each is handled at once. As `fold_tasks`."""
        refused: list[Refusal] = []
        clock, threats = self._security, self._threats
        times = zip(events, offsets.tolist(), timestamps.tolist(), strict=True)
        for place, (event, offset, stamp) in enumerate(times):
            refusal = self._refusal(place, event, stamp)
            if refusal is not None:
                refused.append(refusal)
                continue
            at = event.occurred_at
            seen = min(at, stamp)
            clock.move(seen if clock.now is None else max(clock.now, seen), at, stamp)
            self._report(threats.handle(event, clock.now or 0, offset))
            self._dirty = True
        return refused

    # -- time --------------------------------------------------------------------------------

    def quiet(self, clock: int) -> None:
        """Let security lives end that were quiet by this clock: no event before it is to come."""
        self._report(self._threats.quiet(clock))

    def idle(self, wall_ms: int) -> None:
        """Let the clocks follow the wall clock, because all topics are read to their ends.

        Each stays behind the wall by the lag of the record that set it. What that causes carries
        the reason IDLE.
        """
        self._tasks.idle(wall_ms)
        self._collect()
        security = self._security
        if security.now is not None and wall_ms - security.lag > security.now:
            until = wall_ms - security.lag
            self._dirty |= until // HOUR > security.now // HOUR
            security.move(until)
            self._report(self._threats.quiet(until), TransitionReason.IDLE)

    # -- state -------------------------------------------------------------------------------

    def drain(self) -> Drained:
        """Return what came since the last call, and what changed of the state."""
        drained = Drained(self._findings, self._windows, snapshot.take(self._parts))
        self._findings, self._windows, self._dirty = [], [], False
        return drained

    def restore(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over stored state, the newest value of each key in any order; once, at first.

        Raises:
            ValueError: a record is of another version, or was made by rules with other arms.
        """
        snapshot.put(self._parts, records)

    # -- inside ------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Take over what came of the tasks, behind what was there."""
        self._dirty |= self._tasks.dirty
        findings, windows = self._tasks.drain()
        self._findings += findings
        self._windows += windows

    def _finding(self, one: Happened) -> Finding:
        return rate_finding(
            one.rate.rule,
            one.found.step,
            Entity(one.agent.tenant, one.agent.agent_id),
            one.found.sample,
            Evidence(*self._source, one.first_offset, one.last_offset),
        )

    def _report(self, findings: list[Finding], reason: TransitionReason | None = None) -> None:
        if findings:
            self._findings += findings if reason is None else [f.because(reason) for f in findings]
            self._dirty = True

    def _refusal(self, place: int, event: SecurityEvent, stamp: int) -> Refusal | None:
        at, now, threats = event.occurred_at, self._security.now, self._threats
        if at > stamp + AHEAD:
            return Refusal(place, DeadLetterReason.FUTURE, future_detail(at, stamp))
        if now is not None and at < now // HOUR * HOUR - RETENTION:
            return Refusal(place, DeadLetterReason.TOO_LATE, late_detail(at, now))
        if len(threats) >= self._max_series and not threats.knows(event):
            detail = f"a new kind of event of an agent, and {len(threats)} are open or remembered"
            return Refusal(place, DeadLetterReason.SERIES_LIMIT, detail)
        return None
