"""All that is remembered of one kind of events of a partition, and how it grows and ages.

Task series have hour panes with every column; agents have hour and minute panes with the counts
only, which is what rules look at. Agents' hour panes are the sums of those of their task series.
Where events come with a confidence, agents have its bins by hour, task series by day.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from streams import state
from streams.cells import Cells
from streams.clock import RETENTION, UNSET, Reached, ticks
from streams.closing import Added, Closing
from streams.columns import AUTOMATED, BINS
from streams.durations import DAY, HOUR, MINUTE
from streams.evaluation import STEPS, Chunk, RateEvaluation, Tail, Touched
from streams.panes import Panes
from streams.series import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from streams.findings import Finding
    from streams.layout import Layout
    from streams.rules import RateRule
    from streams.watch import MinuteWatch, Watch

    I64 = NDArray[np.int64]

MINUTES_KEPT = 180 * MINUTE
"""How long minute panes are kept: the longest window summed from them."""

_DAYS = RETENTION // DAY + 4  # with today, a batch's hour ahead, and the days at both ends
_HOURS = MINUTES_KEPT // HOUR + 5


class Batch(NamedTuple):
    """Admitted events, in log order.

    An event of weight w counts as w of them at the same place of the log, the first of which has
    its sums and the others zeros.

    Attributes:
        agents: int64[n], agent rows.
        tasks: int64[n], task rows.
        outcomes: int64[n].
        events: int64[n], event times, ms.
        clocks: int64[n], the clock after each.
        offsets: int64[n].
        sums: int64[n] for each sum of a pane.
        weights: int64[n], at least 1, how many events each stands for; None for 1 each.
        bins: int64[n], bin of confidence, -1 for none; None where no event has any.
    """

    agents: I64
    tasks: I64
    outcomes: I64
    events: I64
    clocks: I64
    offsets: I64
    sums: Sequence[I64]
    weights: I64 | None = None
    bins: I64 | None = None

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
            weights=None if self.weights is None else self.weights[cut],
            bins=None if self.bins is None else self.bins[cut],
        )

    def seen(self, tick: int) -> int:
        """Return how many events a tick sees."""
        return int(np.searchsorted(self.clocks, tick))


_NONE = np.empty(0, np.int64)
NOTHING = Batch(_NONE, _NONE, _NONE, _NONE, _NONE, _NONE, ())
"""A batch without events."""


class Listener(Protocol):
    """Who wants to know of events before they are folded."""

    def reserve(self, rows: int) -> None:
        """Make room for task rows 0 … rows - 1."""

    def note(self, batch: Batch) -> None:
        """Take events about to be folded."""


class Table(NamedTuple):
    """Panes that are stored as they are.

    Attributes:
        name: of the panes in state keys, distinct together with their width.
        panes: the panes.
        published: whether revisions and changes are stored too.
    """

    name: str
    panes: Panes
    published: bool = False


class Ledger:
    """The panes, series and rules on one kind of events of a partition.

    Args:
        rates: the rate rules, looked at every few seconds; without any there are no minute panes.
        bound: most series, of agents and tasks together.
        layout: what the columns are.

    Attributes:
        watches: rules looked at every hour, in the order of their findings.
        minutely: rules looked at in some minutes, likewise.
        listeners: told of events just before they are folded.
        holders: say of an agent row whether it must be kept without panes too.
        tables: the panes that are stored.
        last_offset: of the last event folded, -1 before the first.
        newest: latest event time folded, ms; UNSET before the first.
        hour: hour that everything has been aged to, ms; UNSET before the first event.
        touched: int64[agent rows], the clock after the last event of each.
        gone: state keys of what was forgotten since the last snapshot.
    """

    def __init__(self, rates: Sequence[RateRule], bound: int, layout: Layout) -> None:
        self.layout = layout
        self.series = Series(bound)
        self.task_hours = Panes(HOUR, DAY // HOUR, _DAYS, len(layout.sums), published=True)
        self.task_days = Panes(DAY, 1, _DAYS, counts=2 * BINS)
        self.agent_hours = Panes(HOUR, DAY // HOUR, _DAYS)
        self.agent_bins = Panes(HOUR, DAY // HOUR, _DAYS, counts=BINS)
        self.agent_minutes = Panes(MINUTE, HOUR // MINUTE, _HOURS)
        self.tables = [
            Table(layout.table, self.task_hours, published=True),
            Table(layout.table, self.agent_minutes),
            Table(f"{layout.table}-bins", self.agent_bins),
            Table(f"{layout.table}-days", self.task_days),
        ]
        panes = {HOUR: self.agent_hours, MINUTE: self.agent_minutes}
        self.rates = [RateEvaluation(rule, panes) for rule in rates]
        self.watches: list[Watch] = []
        self.minutely: list[MinuteWatch] = []
        self.listeners: list[Listener] = []
        self.holders: list[Callable[[int], bool]] = []
        self.closing = Closing(self.series, self.task_hours, layout)
        self.reached = Reached()
        self.touched = np.empty(0, np.int64)
        self.last_offset = -1
        self.newest = UNSET
        self.hour = UNSET
        self.gone: list[bytes] = []
        self.widest = max((arm.window_ms for rule in rates for arm in rule.arms), default=0)
        self.depth = min((rate.history.depth for rate in self.rates), default=RETENTION)

    # -- growing -----------------------------------------------------------------------------

    def reserve(self) -> None:
        """Make room for the rows that the series have by now."""
        agents, tasks = self.series.agent_rows, self.series.task_rows
        self.task_hours.reserve(tasks)
        self.agent_hours.reserve(agents)
        if self.rates:
            self.agent_minutes.reserve(agents)
        if self.layout.extras:
            self.task_days.reserve(tasks)
            self.agent_bins.reserve(agents)
        for rate in self.rates:
            rate.history.reserve(agents)
        for listener in self.listeners:
            listener.reserve(tasks)
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
        added = Added(batch.tasks, hours, batch.clocks, batch.outcomes, batch.sums, batch.weights)
        closed = self.closing.close(after, until, added)
        if len(hours):
            self.enter(int(batch.clocks[0]) // HOUR * HOUR)
            for listener in self.listeners:
                listener.note(batch)
            self._add_hours(batch, hours)
            if self.rates:
                self._add_minutes(batch)
            self.series.bear(batch.agents, hours * HOUR)
            self.touched[batch.agents] = batch.clocks  # the last of each counts: clocks ascend
            self.newest = max(self.newest, int(batch.events.max()))
            self.last_offset = int(batch.offsets[-1])
            for watch in self.minutely:
                watch.note(batch.agents, batch.events, batch.clocks)
            # Conservative by an hour: forgetting what is cached costs time, not truth.
            oldest = int(batch.clocks[-1]) + HOUR - self.depth
            if int(batch.events.min()) < oldest:
                for rate in self.rates:
                    rate.history.forget(batch.agents[batch.events < oldest])
        self.closing.commit(closed, added)
        return closed.records if closed is not None else []

    def _add_hours(self, batch: Batch, hours: I64) -> None:
        bins = batch.bins if self.layout.extras else None
        found = Cells(
            batch.agents, batch.tasks, hours, batch.outcomes, batch.sums, batch.weights, bins
        ).merged()
        self.task_hours.add(found.tasks, found.panes, found.outcomes, found.sums, found.weights)
        self.agent_hours.add(found.agents, found.panes, found.outcomes, (), found.weights)
        found = found.binned()
        if found.bins is None or not len(found.bins):
            return
        halves = found.bins + BINS * (found.outcomes != AUTOMATED)
        self.agent_bins.add(found.agents, found.panes, found.bins, (), found.weights)
        days = found.panes // (DAY // HOUR)
        self.task_days.add(found.tasks, days, halves, (), found.weights)

    def _add_minutes(self, batch: Batch) -> None:
        minutes = batch.events // MINUTE
        agents, outcomes, weights = batch.agents, batch.outcomes, batch.weights
        if int(minutes.min()) < (int(batch.clocks[-1]) - MINUTES_KEPT) // MINUTE:
            kept = minutes >= (batch.clocks - MINUTES_KEPT) // MINUTE
            agents, minutes, outcomes = agents[kept], minutes[kept], outcomes[kept]
            weights = None if weights is None else weights[kept]
        if len(agents):
            found = Cells(agents, agents, minutes, outcomes, (), weights).merged()
            self.agent_minutes.add(found.tasks, found.panes, found.outcomes, (), found.weights)

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
        seen = Tail(tail.agents, tail.outcomes, tail.events, tail.clocks, tail.weights)
        born = self.series.born[:agents]
        return Chunk(first // HOUR * HOUR, all_ticks, touched, seen, born)

    def busy(self) -> bool:
        """Return whether any rate rule needs every tick on any agent."""
        return any(rate.busy() for rate in self.rates)

    def watched(self, hour: int) -> bool:
        """Return whether a whole hour matters to the watches: a record came since the last one."""
        came = self.reached.has(hour - HOUR)
        return bool(self.watches) and (came or any(watch.busy() for watch in self.watches))

    def watch(self, hour: int) -> list[Finding]:
        """Look at all watches at a whole hour; all that its tick sees is folded.

        Everything is aged to the hour before, so that they see the same however batches were cut.
        """
        self.enter(hour - HOUR)
        return list(chain.from_iterable(watch.hour(hour) for watch in self.watches))

    def expect(self, coming: Batch) -> None:
        """Tell the minute watches of events that are not folded yet."""
        for watch in self.minutely:
            watch.expect(coming.agents, coming.events, coming.clocks)

    def next_minute(self, after: int, coming: Batch = NOTHING) -> int | None:
        """Return the first minute tick past `after` that a minute watch waits for.

        Args:
            after: ms.
            coming: events that are not folded yet.
        """
        ticks = [watch.next_tick(after) for watch in self.minutely]
        if len(coming.events):
            columns = coming.agents, coming.events, coming.clocks
            ticks += [watch.stirred(*columns) for watch in self.minutely]
        return min((tick for tick in ticks if tick is not None), default=None)

    def minute(self, tick: int) -> list[Finding]:
        """Look at the minute watches; all that the tick sees is folded.

        Everything is aged to the hour of what it sees last, as in `watch`.
        """
        self.enter((tick - 1) // HOUR * HOUR)
        return list(chain.from_iterable(watch.minute(tick) for watch in self.minutely))

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
        if not (self.rates and len(agents)):
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
        self._expire(MINUTE, hour - MINUTES_KEPT)
        self.reached.prune(hour)
        for rate in self.rates:
            rate.lives.prune(hour)
        if day_begins:
            self._enter_day(hour // DAY * DAY)

    def _enter_day(self, day: int) -> None:
        self.agent_hours.expire(day - RETENTION)
        for width in (HOUR, DAY):
            self._expire(width, day - RETENTION)
        for rate in self.rates:
            for arm, residuals in rate.history.residuals.items():
                names = rate.rule.name, rate.rule.arms[arm].name
                self.gone += [
                    state.residual_key(*names, *key) for key in residuals.expire(day // DAY)
                ]
        self._release()

    def _expire(self, width: int, before: int) -> None:
        for name, panes, _ in self.tables:
            if panes.width == width:
                self.gone += [state.pane_key(name, width, key) for key in panes.expire(before)]

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
            row
            for row in sorted(self.series.agents)
            if not (alive[row] or self._open(row) or any(holds(row) for holds in self.holders))
        ]
        for row in quiet:
            for rate in self.rates:
                rate.lives.forget(row)
        self.touched[quiet] = UNSET
        self.series.release(quiet, lost)
        if quiet or lost:
            for watch in self.watches:
                watch.forget(quiet, lost)

    def _open(self, row: int) -> bool:
        lives = (rate.lives.dump(row) for rate in self.rates)
        return any(life is not None and life["started_at"] is not None for life in lives)
