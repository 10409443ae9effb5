"""What one partition says about its events: the pure core of stage *detect*.

Events come in log order, batches of any size; findings, closed hours and changed state come out.
All of it depends on the logs and the clocks told alone, not on how they were cut into batches nor
on when state was written and read back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams import snapshot
from streams.admission import Gate, Piece, Records, future_detail, late_detail
from streams.batch import Refusal
from streams.clock import AHEAD, RETENTION, Clock
from streams.durations import HOUR
from streams.findings import Entity, Evidence, Finding, rate_finding
from streams.ledger import NOTHING, Batch, Ledger
from streams.reasons import DeadLetterReason, TransitionReason
from streams.security import SecurityLives, SeriesLimitLife
from streams.sweep import SHORT, Sweep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.columns import SecurityEvent, TaskColumns
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
            security events of agents. Raising it costs memory, up to about 50 KB a series.
        tasks_topic: topic of the task events, for the evidence.
        security_topic: topic of the security events, for the evidence.
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
        self._parts = snapshot.Parts(
            ledger=Ledger(rules, max_series),
            tasks=Clock(),
            security=Clock(),
            threats=SecurityLives(rules.security, security_topic, partition),
            limit=SeriesLimitLife(rules.series_limit, tasks_topic, partition, max_series),
        )
        self._gate = Gate(self._parts.tasks, self._parts.ledger.series, self._parts.limit)
        self._findings: list[Finding] = []
        self._windows: list[dict[str, Any]] = []
        self._dirty = False

    # -- what it is like ---------------------------------------------------------------------

    @property
    def clocks(self) -> dict[str, int]:
        """The clocks by stream, `tasks` and `security`; one without an event is left out."""
        both = {"tasks": self._parts.tasks.now, "security": self._parts.security.now}
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
        records = Records(events, offsets, timestamps)
        refused: list[Refusal] = []
        start = 0
        while start < len(events):
            piece = self._gate.piece(records, start)
            refused += piece.refused
            self._take(records, piece)
            if piece.crossing is not None:
                self._move(piece.crossing, records, piece.end)
            self._report(piece.findings)
            self._dirty |= bool(piece.refused)
            start = piece.end
        return refused

    def fold_security(
        self, events: Sequence[SecurityEvent], offsets: I64, timestamps: I64
    ) -> list[Refusal]:
        """Take security events in log order; each is handled at once. As `fold_tasks`."""
        refused: list[Refusal] = []
        clock, threats = self._parts.security, self._parts.threats
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
        self._report(self._parts.threats.quiet(clock))

    def idle(self, wall_ms: int) -> None:
        """Let the clocks follow the wall clock, because all topics are read to their ends.

        Each stays behind the wall by the lag of the record that set it. What that causes carries
        the reason IDLE.
        """
        tasks, security = self._parts.tasks, self._parts.security
        if tasks.now is not None and wall_ms - tasks.lag > tasks.now:
            until = wall_ms - tasks.lag
            # Within a tick nothing can tell the difference: not worth a state record.
            self._dirty |= until // SHORT > tasks.now // SHORT
            self._sweep(NOTHING, tasks.now, until, TransitionReason.IDLE)
            tasks.move(until)
            self._report(self._parts.limit.quiet(until), TransitionReason.IDLE)
        if security.now is not None and wall_ms - security.lag > security.now:
            until = wall_ms - security.lag
            self._dirty |= until // HOUR > security.now // HOUR
            security.move(until)
            self._report(self._parts.threats.quiet(until), TransitionReason.IDLE)

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

    def _take(self, records: Records, piece: Piece) -> None:
        """Evaluate the ticks up to the last admitted event of a piece, and fold its events."""
        if not len(piece.take):
            return
        whole = len(piece.take) == len(records.events)
        events = records.events if whole else records.events.take(piece.take)
        offsets = records.offsets if whole else records.offsets[piece.take]
        batch = Batch(
            agents=piece.rows.agent,
            tasks=piece.rows.task,
            outcomes=events.outcome.astype(np.int64),
            events=events.occurred_at,
            clocks=piece.clocks,
            offsets=offsets,
            sums=[
                events.cost_micro,
                events.duration_us,
                events.input_tokens,
                events.output_tokens,
                events.cached_tokens,
            ],
        )
        clock, until = self._parts.tasks, int(piece.clocks[-1])
        after = int(piece.clocks[0]) if clock.now is None else clock.now
        self._parts.ledger.reserve()
        self._parts.ledger.reached.note(piece.clocks, offsets)
        self._sweep(batch, after, until)
        setter = batch.seen(until)
        place = int(piece.take[setter])
        clock.move(until, int(batch.events[setter]), int(records.stamps[place]))
        self._dirty = True

    def _move(self, until: int, records: Records, place: int) -> None:
        """Let the clock go where the admitted event at `place` moves it, without the event yet."""
        clock = self._parts.tasks
        self._sweep(NOTHING, until if clock.now is None else clock.now, until)
        clock.move(until, int(records.events.occurred_at[place]), int(records.stamps[place]))
        self._report(self._parts.limit.quiet(until))
        self._dirty = True

    def _sweep(
        self, batch: Batch, after: int, until: int, reason: TransitionReason | None = None
    ) -> None:
        sweep = Sweep(self._parts.ledger, batch, after, until)
        sweep.run()
        self._windows += sweep.windows
        self._report([self._finding(one) for one in sweep.happened], reason)

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
        at, now, threats = event.occurred_at, self._parts.security.now, self._parts.threats
        if at > stamp + AHEAD:
            return Refusal(place, DeadLetterReason.FUTURE, future_detail(at, stamp))
        if now is not None and at < now // HOUR * HOUR - RETENTION:
            return Refusal(place, DeadLetterReason.TOO_LATE, late_detail(at, now))
        if len(threats) >= self._max_series and not threats.knows(event):
            detail = f"a new kind of event of an agent, and {len(threats)} are open or remembered"
            return Refusal(place, DeadLetterReason.SERIES_LIMIT, detail)
        return None
