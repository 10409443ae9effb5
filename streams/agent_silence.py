"""The silence of agents, to the minute: none finishes a task for longer than can be by chance.

When it is not one agent but the partition from which nothing comes, it is the source that is late:
that is one finding, and its agents are not silent meanwhile. Asking at every minute whether each
agent is overdue would cost too much: each has a time before which it cannot be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams import state
from streams.arrivals import NEVER, SilenceLives
from streams.durations import DAY, HOUR, MINUTE
from streams.findings import Entity, Evidence
from streams.reasons import EntityKind, Severity, Transition, TransitionReason
from streams.source_arrivals import AgentArrivals, Hints, SourceArrivals
from streams.watch import Happening, Measure, Subject, watch_finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.arrivals import Silenced, SilenceRule
    from streams.context import Context
    from streams.findings import Finding
    from streams.ledger import Ledger
    from streams.state import Stored
    from streams.watch import Change

    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]

FAR = int(np.iinfo(np.int64).max)
"""No time at all: the row is looked at when something comes, or at whole hours."""

LOOK_AHEAD = 6 * HOUR
"""A row is looked at again after so long at the latest; usual numbers so far on are known."""

_PARTS = 12  # usual numbers are in twelfths
_AT_ONCE = 256  # rows computed together: bounds memory, not results
_SOURCE = np.zeros(1, np.int64)  # the one row of the partition itself


class _Rule(NamedTuple):
    """What a finding says of the rule."""

    name: str
    version: int
    severity: Severity
    page: bool


class AgentSilence:
    """The silence rule on the agents of one partition, and on the partition as their source.

    Args:
        rule: its parameters.
        ledger: of the tasks.
        context: of the partition, read at least up to each tick.
        topic: topic of the tasks, for the evidence.
        partition: the partition.
    """

    def __init__(
        self, rule: SilenceRule, ledger: Ledger, context: Context, topic: str, partition: int
    ) -> None:
        self.rule = rule
        self._ledger, self._context = ledger, context
        self._evidence = Evidence(topic, partition, -1, -1)
        self._arrivals = AgentArrivals(rule, ledger.agent_hours, ledger.agent_minutes)
        self._source_arrivals = SourceArrivals(self._arrivals, ledger, context)
        self._agents = SilenceLives("agent", self._arrivals)
        self._source = SilenceLives("partition", self._source_arrivals)
        self._due = np.empty(0, np.int64)
        self._hints = Hints()
        self._source_due = 0
        self._source_hint = 0, 0
        self._profiles_seen = 0
        self._resumed_dirty = False

    # -- records -----------------------------------------------------------------------------

    def note(self, agents: I64, events: I64, clocks: I64) -> None:
        """Take tasks that are folded: who was silent is looked at at the next minute.

        Args:
            agents: int64[n], agent rows.
            events: int64[n], event times, ms.
            clocks: int64[n], the clock after each.
        """
        if not len(agents):
            return
        self._reserve()
        self._hints.note(agents, events)
        stirred = agents[self._stirs(agents, events, clocks)]
        if len(stirred):
            self._due[stirred] = 0
            self._source_due = 0

    def expect(self, agents: I64, events: I64, clocks: I64) -> None:
        """Put off looking at who has tasks to come, close to each other; see `note`.

        It saves ticks and changes no finding: nobody can be overdue between such tasks.
        """
        if not len(agents) or self._source.silent(0):
            return
        self._reserve()
        rows, times = self._hints.put_off(agents, events, clocks)
        known = (self._due[rows] > 0) & (self._due[rows] != FAR)
        rows, times = rows[known], times[known]
        self._due[rows] = np.maximum(self._due[rows], times)
        pace, until = self._source_hint
        newest = np.maximum.accumulate(np.append(self._ledger.newest, events))
        if self._source_due > 0 and int((clocks - newest[:-1]).max()) < pace - MINUTE:
            self._source_due = max(self._source_due, min(int(newest[-1]) + pace, until))

    def stirred(self, agents: I64, events: I64, clocks: I64) -> int | None:
        """Return the first minute tick at which tasks to come are looked at; see `note`."""
        places = np.flatnonzero(self._stirs(agents, events, clocks))
        return int(clocks[places[0]]) // MINUTE * MINUTE + MINUTE if len(places) else None

    def _stirs(self, agents: I64, events: I64, clocks: I64) -> NDArray[np.bool_]:
        """Return bool[n]: after which tasks somebody is to be looked at."""
        self._reserve()
        if self._source.silent(0):
            return np.ones(len(agents), np.bool_)
        # A late task can change what is usual, and with it when an agent is overdue.
        late = events < clocks - HOUR
        found: NDArray[np.bool_] = late | (self._due[agents] == FAR)
        return found

    # -- ticks -------------------------------------------------------------------------------

    def busy(self) -> bool:
        """Return whether whole hours without any record matter."""
        return bool(self._agents.rows()) or self._source.silent(0)

    def next_tick(self, after: int) -> int | None:
        """Return the first minute tick past `after` that matters if no more records come."""
        self._follow_profiles()
        due = self._source_due
        if self._source.silent(0):
            queue = self._context.queues.next_tick(after)
            due = min(due, FAR if queue is None else queue)
        else:
            due = min(due, int(self._due[: self._ledger.series.agent_rows].min(initial=FAR)))
        if due == FAR:
            return None
        return max(after // MINUTE + 1, -(-due // MINUTE)) * MINUTE

    def minute(self, tick: int) -> list[Finding]:
        """Return what a minute tick causes: of the partition, then by agent row.

        Args:
            tick: a whole minute, ms, later than that of the call before; all that it sees is
                folded.
        """
        self._reserve()
        self._follow_profiles()
        found: list[Finding] = []
        if self._source_due <= tick or self._source.silent(0):
            found += self._look_at_source(tick)
        if not self._source.silent(0):
            rows = np.flatnonzero(self._due[: self._ledger.series.agent_rows] <= tick)
            found += self._look_at(rows[~self._lost(rows, tick)], tick)
        return found

    def hour(self, tick: int) -> list[Finding]:
        """Return what a whole hour causes: who is given up, or gone by midnight, is not silent."""
        self._reserve()
        found: list[Finding] = []
        for row in self._agents.rows():
            if not self._active(row):
                gone = self._agents.close(row, TransitionReason.ENTITY_GONE)
                self._due[row] = 0
                found.append(self._finding(gone, tick))
        if tick % DAY == 0:
            found += self._look_at(np.array(self._agents.rows(), np.int64), tick)
            if self._source.silent(0):
                found += self._look_at_source(tick)
        return found

    def forget(self, agents: Sequence[int], tasks: Sequence[int]) -> None:
        """Drop what is known of agent rows that were freed."""
        del tasks
        self._reserve()
        self._agents.forget(agents)
        self._due[list(agents)] = 0
        self._hints.forget(list(agents))

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        yield from self._agents.changes()
        yield from self._source.changes()
        if self._resumed_dirty:
            self._resumed_dirty = False
            yield state.RESUME_KEY, state.encode("ResumeState", {"at": self._arrivals.resumed})

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        if stored.kind == "ResumeState":
            self._arrivals.resumed = stored.fields["at"]
            return True
        return self._agents.restore(stored) or self._source.restore(stored)

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._agents.settle()
        self._source.settle()

    # -- inside ------------------------------------------------------------------------------

    def _reserve(self) -> None:
        rows = self._ledger.series.agent_rows
        if rows > len(self._due):
            longer = np.zeros(max(64, 2 * rows), np.int64)
            longer[: len(self._due)] = self._due
            self._due = longer
            self._hints.reserve(len(longer))

    def _follow_profiles(self) -> None:
        """Look at all again at the next minute if any profile is another: who counts may be."""
        newest = self._context.profiles_desk.revision
        if newest != self._profiles_seen:
            self._profiles_seen = newest
            self._due[:] = self._source_due = 0

    def _active(self, row: int) -> bool:
        """Return whether an agent is missed: not one that is given up, or being so."""
        profile = self._context.profile(self._ledger.series.agents[row])
        return profile is None or profile.lifecycle == "ACTIVE"

    # -- agents ------------------------------------------------------------------------------

    def _look_at(self, rows: I64, tick: int) -> list[Finding]:
        self._due[rows] = tick + DAY  # for those that are free, or not missed
        agents = self._ledger.series.agents
        there = [row for row in rows.tolist() if row in agents]
        missed = [row for row in there if self._agents.silent(row) or self._active(row)]
        if not missed:
            return []
        rows = np.array(missed, np.int64)
        born = self._ledger.series.born
        silenced = self._agents.step(tick, rows, born, lambda row: self._typed(row, tick))
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            self._due[some] = self._next_due(some, tick)
        self._due[self._agents.rows()] = FAR
        return [self._finding(one, tick) for one in silenced]

    def _lost(self, rows: I64, tick: int) -> NDArray[np.bool_]:
        """Return bool[rows]: which are silent and have nothing left; they end at midnight only."""
        silent = np.isin(rows, np.array(self._agents.rows(), np.int64))
        found = silent.copy()
        if silent.any():
            found[silent] = self._arrivals.last_seen(rows[silent], tick) == NEVER
        self._due[rows[found]] = FAR
        return found

    def _typed(self, row: int, tick: int) -> TransitionReason:
        waits = self._context.depth(self._ledger.series.agents[row], tick)
        return TransitionReason.AGENT_DEAD if waits else TransitionReason.AGENT_IDLE

    def _next_due(self, rows: I64, tick: int) -> I64:
        """Return the time before which no row can be overdue, if nothing late comes."""
        seen = self._arrivals.last_seen(rows, tick)
        due = np.full(len(rows), tick + DAY)  # a row without records for weeks
        known = np.flatnonzero(seen != NEVER)
        if len(known):
            since = seen[known]
            usual, spent, end = self._ahead(rows[known], since, tick)
            over = np.cumsum(usual * spent, axis=1)
            due[known] = np.maximum(_crossing(over, usual, end, self._limit), since + self._gap)
            paces = self._pace(usual.max(axis=1))
            self._hints.learn(rows[known], since, paces, int(end[-1]))
        found: I64 = np.maximum(due // MINUTE * MINUTE, tick + MINUTE)
        return found

    def _ahead(self, rows: I64, since: I64, tick: int) -> tuple[I64, I64, I64]:
        """Return usual numbers by hour, the time spent since in each, and the ends of the hours."""
        first = int(since.min()) // HOUR
        number = (tick + LOOK_AHEAD) // HOUR - first
        end = (first + 1 + np.arange(number)) * HOUR
        spent = np.clip(end - since[:, None], 0, HOUR)
        born = self._ledger.series.born[rows]
        return self._arrivals.rates(rows, first, number, born), spent, end

    def _pace(self, usual: I64) -> I64:
        """Return the gap within which no row can be overdue, by its largest usual number, ms."""
        shortest = (self._limit / np.maximum(usual, 1)).astype(np.int64)
        return np.maximum(shortest, self._gap)

    @property
    def _limit(self) -> float:
        """What is overdue when it fires, in twelfths of a task times ms of an hour."""
        return self.rule.expected / self.rule.share * _PARTS * HOUR

    @property
    def _gap(self) -> int:
        return self.rule.min_gap_ms

    # -- the source --------------------------------------------------------------------------

    def _look_at_source(self, tick: int) -> list[Finding]:
        series = self._ledger.series
        if self._source.silent(0) and self._source_arrivals.newest(tick) == NEVER and tick % DAY:
            self._source_due = FAR  # it ends at midnight
            return []
        rows = [row for row in sorted(series.agents) if self._active(row)]
        source = self._source_arrivals
        source.active = np.array(rows, np.int64)
        silenced = self._source.step(tick, _SOURCE, _SOURCE, lambda _: TransitionReason.SOURCE_LATE)
        for one in silenced:
            if one.turn.transition is Transition.RESOLVED:
                self._arrivals.resumed = tick
                self._resumed_dirty = True
        silent = self._source.silent(0)
        self._source_due = FAR if silent else self._next_source_due(source.newest(tick), tick)
        return [self._source_finding(one, tick) for one in silenced]

    def _next_source_due(self, newest: int, tick: int) -> int:
        """Return the time before which the source cannot be overdue, if nothing late comes."""
        self._source_hint = 0, 0
        rows = self._source_arrivals.active
        due = tick + DAY  # one agent alone is no source
        if newest != NEVER and len(rows) > 1:
            since = np.full(len(rows), newest)
            usual, spent, end = self._ahead(rows, since, tick)
            over = np.cumsum(usual * spent, axis=1)
            past = np.flatnonzero(over.sum(axis=0) - over.max(axis=0) > self._limit)
            # To the minute within the hour: sums less the largest are no straight line.
            due = int(end[-1]) if not len(past) else self._minute_of(int(past[0]), over, usual, end)
            due = max(due, newest + self._gap)
            # The largest sum is at least that of the agent that has the most here.
            others = usual.sum(axis=0) - usual[np.argmax(over[:, -1])]
            self._source_hint = int(self._pace(others.max(keepdims=True))[0]), int(end[-1])
        return max(due // MINUTE * MINUTE, tick + MINUTE)

    def _minute_of(self, hour: int, over: I64, usual: I64, end: I64) -> int:
        left = np.arange(HOUR, 0, -MINUTE)  # ms before the end of the hour
        then = over[:, hour, None] - usual[:, hour, None] * left
        past = np.flatnonzero(then.sum(axis=0) - then.max(axis=0) > self._limit)
        return int(end[hour]) - (int(left[past[0]]) + MINUTE if len(past) else MINUTE)

    # -- findings ----------------------------------------------------------------------------

    def _finding(self, one: Silenced, tick: int) -> Finding:
        agent = self._ledger.series.agents[one.row]
        waits = self._context.depth(agent, tick)
        numbers = {} if waits is None else {"depth": float(waits)}
        return self._report(Subject(EntityKind.AGENT, Entity(*agent)), one, tick, numbers)

    def _source_finding(self, one: Silenced, tick: int) -> Finding:
        number = str(self._evidence.partition)
        return self._report(Subject(EntityKind.PARTITION, Entity(None, number)), one, tick, {})

    def _report(
        self, subject: Subject, one: Silenced, tick: int, numbers: dict[str, float]
    ) -> Finding:
        kind, rule = str(one.fired_for), self.rule
        gap = (tick - one.last_seen) // MINUTE
        named = _Rule(rule.name, rule.version, rule.severity[kind], kind in rule.paging)
        measure = Measure(
            value=one.expected,
            threshold=rule.expected,
            sample_count=0,
            window_start=one.last_seen,
            window_end=tick,
            detail=_SENTENCES[one.fired_for].format(gap),
            numbers={"minutes": float(gap), **numbers},
        )
        happening = Happening(one.turn, tick)
        # The reason of a finding made by the wall clock says that: what it is stands in the kind.
        return watch_finding(named, subject, happening, measure, self._evidence, kind=kind)


_SENTENCES = {
    TransitionReason.SOURCE_LATE: "no task or queue depth of any agent of the partition in {} min",
    TransitionReason.AGENT_DEAD: "no task finished in {} min, and work waits",
    TransitionReason.AGENT_IDLE: "no task finished in {} min, and no work is known to wait",
}


def _crossing(over: I64, usual: I64, end: I64, limit: float) -> I64:
    """Return when sums that rise steadily within each hour pass a limit, else the last end, ms.

    Args:
        over: int64[rows, hours], sums at the end of each hour.
        usual: int64[rows, hours], by how much they rise a ms.
        end: int64[hours], the ends, ms.
        limit: the limit.
    """
    past = over > limit
    hour = np.argmax(past, axis=1)
    place = np.arange(len(over)), hour
    back = (over[place] - limit) / np.maximum(usual[place], 1)
    exact = end[hour] - np.ceil(back).astype(np.int64)
    found: I64 = np.where(past.any(axis=1), exact, end[-1])
    return found
