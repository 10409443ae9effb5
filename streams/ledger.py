"""All that is remembered of the task events of one partition, and how it grows and ages.

Task series have hour panes with every column; agents have hour and minute panes with the counts
only, which is what rules look at. Agents' hour panes are the sums of those of their task series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams import state
from streams.clock import RETENTION, UNSET, Reached, ticks
from streams.closing import Added, Closing
from streams.durations import DAY, HOUR, MINUTE
from streams.evaluation import STEPS, Chunk, RateEvaluation, Tail, Touched
from streams.panes import Panes
from streams.series import Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streams.rules import RuleSet

    I64 = NDArray[np.int64]

MINUTES_KEPT = 180 * MINUTE
"""How long minute panes are kept: the longest window summed from them."""

_DAYS = RETENTION // DAY + 4  # with today, a batch's hour ahead, and the days at both ends
_HOURS = MINUTES_KEPT // HOUR + 5
_SUMS = 5


class Batch(NamedTuple):
    """Admitted task events, in log order.

    Attributes:
        agents: int64[n], agent rows.
        tasks: int64[n], task rows.
        outcomes: int64[n].
        events: int64[n], event times, ms.
        clocks: int64[n], the clock after each.
        offsets: int64[n].
        sums: int64[n] for each sum of a pane.
    """

    agents: I64
    tasks: I64
    outcomes: I64
    events: I64
    clocks: I64
    offsets: I64
    sums: Sequence[I64]

    def part(self, start: int, end: int) -> Batch:
        """Return the events [start, end)."""
        if start == 0 and end == len(self.events):
            return self
        cut = slice(start, end)
        return Batch(
            agents=self.agents[cut],
            tasks=self.tasks[cut],
            outcomes=self.outcomes[cut],
            events=self.events[cut],
            clocks=self.clocks[cut],
            offsets=self.offsets[cut],
            sums=[column[cut] for column in self.sums],
        )

    def seen(self, tick: int) -> int:
        """Return how many events a tick sees."""
        return int(np.searchsorted(self.clocks, tick))


_NONE = np.empty(0, np.int64)
NOTHING = Batch(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE, [_NONE] * _SUMS)
"""A batch without events."""


class Ledger:
    """The panes, series and rate rules of one partition.

    Args:
        rules: the rules.
        bound: most series, of agents and tasks together.

    Attributes:
        last_offset: of the last event folded, -1 before the first.
        newest: latest event time folded, ms; UNSET before the first.
        hour: hour that everything has been aged to, ms; UNSET before the first event.
        touched: int64[agent rows], the clock after the last event of each.
        gone: state keys of what was forgotten since the last snapshot.
    """

    def __init__(self, rules: RuleSet, bound: int) -> None:
        self.series = Series(bound)
        self.task_hours = Panes(HOUR, DAY // HOUR, _DAYS, _SUMS, published=True)
        self.agent_hours = Panes(HOUR, DAY // HOUR, _DAYS)
        self.agent_minutes = Panes(MINUTE, HOUR // MINUTE, _HOURS)
        panes = {HOUR: self.agent_hours, MINUTE: self.agent_minutes}
        self.rates = [RateEvaluation(rule, panes) for rule in rules.rates]
        self.closing = Closing(self.series, self.task_hours)
        self.reached = Reached()
        self.touched = np.empty(0, np.int64)
        self.last_offset = -1
        self.newest = UNSET
        self.hour = UNSET
        self.gone: list[bytes] = []
        self.widest = max(arm.window_ms for rule in rules.rates for arm in rule.arms)
        self.depth = min(rate.history.depth for rate in self.rates)

    # -- growing -----------------------------------------------------------------------------

    def reserve(self) -> None:
        """Make room for the rows that the series have by now."""
        agents = self.series.agent_rows
        self.task_hours.reserve(self.series.task_rows)
        self.agent_hours.reserve(agents)
        self.agent_minutes.reserve(agents)
        for rate in self.rates:
            rate.history.reserve(agents)
        if agents > len(self.touched):
            longer = np.full(2 * agents, UNSET, np.int64)
            longer[: len(self.touched)] = self.touched
            self.touched = longer

    def fold(self, batch: Batch, after: int, until: int) -> list[dict[str, Any]]:
        """Add events, all seen by the first tick after `until`; return the hours closed meanwhile.

        Args:
            batch: events with no tick between their clocks and this call that is not in the range.
            after: ticks up to this one have closed hours already.
            until: … and now do up to this one.
        """
        hours = batch.events // HOUR
        added = Added(batch.tasks, hours, batch.clocks, batch.outcomes, batch.sums)
        closed = self.closing.close(after, until, added)
        if len(hours):
            self.enter(int(batch.clocks[0]) // HOUR * HOUR)
            self.task_hours.add(batch.tasks, hours, batch.outcomes, batch.sums)
            self.agent_hours.add(batch.agents, hours, batch.outcomes)
            self._add_minutes(batch)
            self.series.bear(batch.agents, hours * HOUR)
            self.touched[batch.agents] = batch.clocks  # the last of each counts: clocks ascend
            self.newest = max(self.newest, int(batch.events.max()))
            self.last_offset = int(batch.offsets[-1])
            # Conservative by an hour: forgetting what is cached costs time, not truth.
            oldest = int(batch.clocks[-1]) + HOUR - self.depth
            if int(batch.events.min()) < oldest:
                for rate in self.rates:
                    rate.history.forget(batch.agents[batch.events < oldest])
        self.closing.commit(closed, added)
        return closed.records if closed is not None else []

    def _add_minutes(self, batch: Batch) -> None:
        minutes = batch.events // MINUTE
        if int(minutes.min()) >= (int(batch.clocks[-1]) - MINUTES_KEPT) // MINUTE:
            self.agent_minutes.add(batch.agents, minutes, batch.outcomes)
            return
        kept = minutes >= (batch.clocks - MINUTES_KEPT) // MINUTE
        self.agent_minutes.add(batch.agents[kept], minutes[kept], batch.outcomes[kept])

    # -- ticks -------------------------------------------------------------------------------

    def chunk(self, first: int, last: int, tail: Batch) -> Chunk:
        """Return the ticks in [first, last], an hour at most, and what they see.

        Args:
            first: a tick.
            last: a time in its hour.
            tail: events that are not folded and that some of the ticks see.
        """
        agents = self.series.agent_rows
        all_ticks = {step: ticks(first - 1, last, step) for step in STEPS}
        touched: dict[int, Touched] = {}
        for step, some in all_ticks.items():
            if not len(some):
                touched[step] = Touched(_NONE, _NONE)
                continue
            before = np.flatnonzero(self.touched[:agents] >= int(some[0]) - step)
            columns = tail.clocks // step + 1 - int(some[0]) // step
            keep = (columns >= 0) & (columns < len(some))
            rows = np.concatenate([before, tail.agents[keep]])
            columns = np.concatenate([np.zeros(len(before), np.int64), columns[keep]])
            touched[step] = Touched(rows, columns)
        seen = Tail(tail.agents, tail.outcomes, tail.events, tail.clocks)
        born = self.series.born[:agents]
        return Chunk(first // HOUR * HOUR, all_ticks, touched, seen, born)

    def busy(self) -> bool:
        """Return whether any rule needs every tick on any agent."""
        return any(rate.busy() for rate in self.rates)

    def relearn_at(self) -> int | None:
        """Return from when on the oldest firing of any rule is the new normal, None for none."""
        times = [time for rate in self.rates for time in rate.relearn_at().values()]
        return min(times, default=None)

    def hold(self, first: int, end: int) -> None:
        """Let the ticks in [first, end) pass, at all of which all windows are empty."""
        for rate in self.rates:
            for arm, spec in enumerate(rate.rule.arms):
                number = (end - 1) // spec.step_ms - (first - 1) // spec.step_ms
                rate.lives.hold(arm, number)

    def close_day(self, midnight: int) -> None:
        """Store the residuals of the day that ends at this tick."""
        agents = np.arange(self.series.agent_rows)
        if not len(agents):
            return
        first = (midnight - DAY - self.widest) // HOUR
        recent = self.agent_hours.counts(agents, first, midnight // HOUR - first)
        agents = agents[recent.any(axis=(1, 2))]
        born = self.series.born[: self.series.agent_rows]
        for rate in self.rates:
            rate.history.close_day(midnight - DAY, born, agents)

    # -- ageing ------------------------------------------------------------------------------

    def enter(self, hour: int) -> None:
        """Age everything to an hour, all ticks up to which have been evaluated."""
        if hour <= self.hour:
            return
        day_begins = self.hour != UNSET and hour // DAY > self.hour // DAY
        self.hour = hour
        gone = self.agent_minutes.expire(hour - MINUTES_KEPT)
        self.gone += [state.pane_key(MINUTE, key) for key in gone]
        self.reached.prune(hour)
        for rate in self.rates:
            rate.lives.prune(hour)
        if day_begins:
            self._enter_day(hour // DAY * DAY)

    def _enter_day(self, day: int) -> None:
        self.agent_hours.expire(day - RETENTION)
        gone = self.task_hours.expire(day - RETENTION)
        self.gone += [state.pane_key(HOUR, key) for key in gone]
        for rate in self.rates:
            for arm, residuals in rate.history.residuals.items():
                names = rate.rule.name, rate.rule.arms[arm].name
                self.gone += [
                    state.residual_key(*names, *key) for key in residuals.expire(day // DAY)
                ]
        self._release()

    def _release(self) -> None:
        """Free the rows of series without any trace: no panes, no residuals, no open life."""
        tasks = self.series.tasks
        alive = self.task_hours.alive(self.series.task_rows)
        lost = [row for row in sorted(tasks) if not alive[row]]
        alive = self.agent_hours.alive(self.series.agent_rows).copy()
        for rate in self.rates:
            for residuals in rate.history.residuals.values():
                alive |= residuals.alive(self.series.agent_rows)
        quiet = [
            row for row in sorted(self.series.agents) if not alive[row] and not self._open(row)
        ]
        for row in quiet:
            for rate in self.rates:
                rate.lives.forget(row)
        self.touched[quiet] = UNSET
        self.series.release(quiet, lost)

    def _open(self, row: int) -> bool:
        lives = (rate.lives.dump(row) for rate in self.rates)
        return any(life is not None and life["started_at"] is not None for life in lives)
