"""What spans partitions: the pure core of stage *roll-up*.

Partials of all partitions come in; findings and closed hours of integrations, task types, tenants
and the fleet come out. Inside it is the same machinery that watches agents, fed with additions
instead of events: a tick sees what all partitions had counted when their clocks passed it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from streams import snapshot
from streams.clock import Clock
from streams.confluence import Confluence
from streams.durations import HOUR
from streams.findings import Evidence
from streams.ledger import Batch
from streams.life import Turn
from streams.operations import SEPARATOR
from streams.partials import Kind
from streams.reasons import TransitionReason
from streams.series import MISSING, Agent
from streams.sweep import Sweep
from streams.watch import Happening, rate_measure, watch_finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from streams.confluence import Inflow
    from streams.findings import Finding
    from streams.ledger import Ledger
    from streams.partials import Bin, EntityKey, Mark, Stream
    from streams.snapshot import Keeper
    from streams.sweep import Happened
    from streams.watch import Change, Subject

    I64 = NDArray[np.int64]


class RolledUp(NamedTuple):
    """What came of the partials since the last drain.

    Attributes:
        findings: by tick.
        windows: Window records of closed hours, by tick.
        state: changed state records, None for one that is gone.
    """

    findings: list[Finding]
    windows: list[dict[str, Any]]
    state: list[Change]


class Details(Protocol):
    """What takes more of some entities than sums: latencies, error types, single events."""

    def take_bins(self, bins: Sequence[tuple[int, Bin]]) -> None:
        """Add to histograms, each with the row of its entity, by tick; called at each step."""

    def take_mark(self, row: int, mark: Mark) -> None:
        """Take a single event of a row."""

    def take_findings(self) -> list[Finding]:
        """Return what single events caused since the last call."""

    def report(self, happened: Happened, evidence: Evidence) -> Finding:
        """Return the finding of a step of a rate rule."""

    def window(self, row: int, hour: int, now: int) -> Mapping[str, Any]:
        """Return further fields of the Window record of a row."""


@dataclass(frozen=True, slots=True)
class Section:
    """A ledger of the roll-up, and which entities it keeps.

    Attributes:
        ledger: what is remembered of them.
        stream: input topic that its additions come from.
        kinds: of the entities.
        subject: what a finding on a row is about.
        details: what takes more than sums; None for nothing.
        clock: tick up to which everything was evaluated.
    """

    ledger: Ledger
    stream: Stream
    kinds: frozenset[Kind]
    subject: Callable[[Agent], Subject]
    details: Details | None = None
    clock: Clock = field(default_factory=Clock)

    def rows(self, key: EntityKey) -> list[int]:
        """Return the rows of an entity; an integration without an operation is all it has."""
        series = self.ledger.series
        if key.kind is Kind.OPERATION and key.part is None:
            first = f"{key.name}{SEPARATOR}"
            named = series.agents.items()
            return [
                row
                for row, one in sorted(named)
                if one.tenant == key.tenant and one.agent_id.startswith(first)
            ]
        row, _ = series.rows(agent_of(key), "", _model(key))
        return [] if row == MISSING else [row]


class RollUp:
    """Adds up and evaluates what the partitions send to one roll-up partition.

    Args:
        sections: its ledgers; several can share a stream.
        keepers: what else is stored.
        sources: how many partitions the input topics have.
        source: topic and partition of the partials, for the evidence.

    Attributes:
        dropped: additions to entities past the bound on series, since this worker began.
    """

    def __init__(
        self,
        sections: Sequence[Section],
        keepers: Sequence[Keeper] = (),
        *,
        sources: int,
        source: tuple[str, int],
    ) -> None:
        self.dropped = 0
        self._sections = tuple(sections)
        self._source = source
        self._streams = {
            stream: Confluence(stream, sources)
            for stream in dict.fromkeys(section.stream for section in sections)
        }
        self._parts = snapshot.Parts(
            books=[snapshot.Book(one.ledger, one.clock) for one in self._sections],
            clocks={},
            keepers=[*self._streams.values(), *keepers],
        )
        self._findings: list[Finding] = []
        self._windows: list[dict[str, Any]] = []

    @property
    def clocks(self) -> dict[str, int]:
        """Tick up to which each stream was evaluated, ms."""
        return {
            str(stream): one.taken for stream, one in self._streams.items() if one.taken is not None
        }

    @property
    def urgent(self) -> bool:
        """Whether a finding waits to be drained."""
        return bool(self._findings)

    @property
    def dirty(self) -> bool:
        """Whether there is anything to drain."""
        return any(one.dirty for one in self._streams.values())

    def fold(self, records: Sequence[Mapping[str, Any]], offsets: I64) -> list[tuple[int, str]]:
        """Take Partials records in the order of their topic.

        Returns:
            Those that contradict themselves, by position, with what is wrong.
        """
        wrong: list[tuple[int, str]] = []
        places = zip(records, offsets.tolist(), strict=True)
        for place, (record, offset) in enumerate(places):
            if record["stream"] not in self._streams:
                continue
            try:
                self._streams[record["stream"]].put(offset, record)
            except (ValueError, IndexError) as error:
                wrong.append((place, str(error)))
        for stream in self._streams:
            self._flow(stream)
        return wrong

    def drain(self) -> RolledUp:
        """Return what came since the last call, and what changed of the state."""
        drained = RolledUp(self._findings, self._windows, snapshot.take(self._parts))
        self._findings, self._windows = [], []
        return drained

    def restore(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over stored state, the newest value of each key in any order; once, at first.

        Raises:
            ValueError: a record is of another version, or was made by rules with other arms.
        """
        snapshot.put(self._parts, records)

    # -- inside ------------------------------------------------------------------------------

    def _flow(self, stream: Stream) -> None:
        """Let the ticks pass that nothing can add to any more."""
        meeting = self._streams[stream]
        until, first = meeting.ready(), meeting.first()
        if until is None or (meeting.taken is not None and until <= meeting.taken):
            return
        sections = [one for one in self._sections if one.stream is stream]
        start = meeting.taken if meeting.taken is not None else first
        reason = TransitionReason.IDLE if meeting.idle else None
        if start is not None:
            # Hour by hour: watches must not see what a later tick sees first.
            for stop in _stops(start, until, first):
                inflow = meeting.take(stop)
                for section in sections:
                    self._enter(section, inflow, stop, reason)
        meeting.take(until)

    def _enter(
        self, section: Section, inflow: Inflow, until: int, reason: TransitionReason | None
    ) -> None:
        """Fold and evaluate up to a tick."""
        ledger = section.ledger
        rows = self._rows(section, inflow)
        ledger.reserve()
        found: list[Finding] = []
        if section.details is not None:
            bins = [(rows[one.key][0], one) for one in inflow.bins if one.key in rows]
            section.details.take_bins(bins)
            for mark in inflow.marks:
                for row in section.rows(mark.key):
                    section.details.take_mark(row, mark)
            found = section.details.take_findings()
        batch = self._batch(inflow, rows, len(ledger.layout.sums))
        after = section.clock.now
        if after is None and not len(batch.events):
            return
        if len(batch.events):
            after = int(batch.clocks[0]) if after is None else after
            ledger.reached.note(batch.clocks, batch.offsets)
        sweep = Sweep(ledger, batch, after or 0, until, lambda one: self._found(section, one))
        sweep.run()
        section.clock.move(until)
        self._windows += [self._whole(section, one) for one in sweep.windows]
        found += sweep.findings
        self._findings += found if reason is None else [one.because(reason) for one in found]

    def _whole(self, section: Section, window: dict[str, Any]) -> dict[str, Any]:
        """Return a Window record with what only the details know."""
        if section.details is None:
            return window
        agent = Agent(window["tenant"], f"{window['integration']}{SEPARATOR}{window['operation']}")
        row, _ = section.ledger.series.rows(agent, "")
        if row == MISSING:
            return window
        return {**window, **section.details.window(row, window["window_start"], window["at"])}

    def _rows(self, section: Section, inflow: Inflow) -> dict[EntityKey, tuple[int, int]]:
        """Return the (agent row, task row) of each entity of a section, new ones made."""
        series = section.ledger.series
        found: dict[EntityKey, tuple[int, int]] = {}
        for key in inflow.keys:
            if key.kind not in section.kinds or (key.kind is Kind.OPERATION and key.part is None):
                continue
            agent, model = agent_of(key), _model(key)
            if series.needed(agent, "", model) > series.bound - len(series):
                self.dropped += 1
                continue
            series.add(agent, "", model)
            found[key] = series.rows(agent, "", model)
        return found

    def _batch(
        self, inflow: Inflow, rows: Mapping[EntityKey, tuple[int, int]], width: int
    ) -> Batch:
        """Return additions as weighted events: one for each outcome of each."""
        pairs = np.array([rows.get(key, (-1, -1)) for key in inflow.keys], np.int64).reshape(-1, 2)
        sums = inflow.sums
        entry, outcome = np.nonzero(sums.counts)
        keep = pairs[sums.group[entry], 0] >= 0 if len(entry) else np.empty(0, np.bool_)
        entry, outcome = entry[keep], outcome[keep]
        once = np.append(True, np.diff(entry) != 0) if len(entry) else np.empty(0, np.bool_)
        columns = [
            np.where(once, sums.sums[entry, column], 0) for column in range(sums.sums.shape[1])
        ] or [np.zeros(len(entry), np.int64)] * width
        return Batch(
            agents=pairs[sums.group[entry], 0],
            tasks=pairs[sums.group[entry], 1],
            outcomes=outcome,
            events=sums.pane[entry],
            clocks=sums.tick[entry] - 1,
            offsets=np.full(len(entry), -1, np.int64),
            sums=columns,
            weights=sums.counts[entry, outcome],
        )

    def _found(self, section: Section, one: Happened) -> Finding:
        evidence = Evidence(*self._source, one.first_offset, one.last_offset)
        if section.details is not None:
            return section.details.report(one, evidence)
        step, rule = one.found.step, one.rate.rule
        turn = Turn(step.transition, step.reason, step.arm, step.started_at)
        happening = Happening(turn, step.at, rule.arms[step.arm].name)
        measure = rate_measure(one.found.sample, rule.interval_z)
        return watch_finding(rule, section.subject(one.agent), happening, measure, evidence)


def agent_of(key: EntityKey) -> Agent:
    """Return the entity as a row of a ledger names it."""
    if key.kind is Kind.FLEET:
        return Agent(None, "fleet")
    if key.kind is Kind.TENANT:
        return Agent(key.tenant, "")
    if key.kind is Kind.OPERATION:
        return Agent(key.tenant, f"{key.name}{SEPARATOR}{key.part}")
    return Agent(key.tenant, key.name or "")


def _model(key: EntityKey) -> str | None:
    return key.part if key.kind is Kind.TASK_TYPE else None


def _stops(start: int, until: int, first: int | None) -> Iterable[int]:
    """Yield whole hours between, then the end; hours before the first addition only once."""
    begin = start if first is None else max(start, first - HOUR)
    yield from range(begin // HOUR * HOUR + HOUR, until, HOUR)
    yield until
