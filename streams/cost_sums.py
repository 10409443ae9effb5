"""Sums of cost and tokens over the windows of now and of the past weeks, kept from hour to hour.

Every task series of a partition is judged every hour, over windows of up to a week and the same
four weeks back. Adding up 35 days of panes each time would take seconds; from one hour to the
next each window gains one pane and loses one. What is kept here always equals what adding up the
panes would give: rows with late events are added up anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.cost_rules import PAST_WEEKS
from streams.durations import HOUR, WEEK
from streams.late import Late

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from streams.cost_rules import TokenWeights
    from streams.findings import Entity
    from streams.panes import Panes
    from streams.series import Agent, Series

    I64 = NDArray[np.int64]
    F64 = NDArray[np.float64]

TASKS, COST, SQUARE, INPUT, OUTPUT, CACHED = range(6)
"""Columns of the sums: tasks, micro-dollars, squares of eighths of them, and tokens."""

SQUARE_UNIT = 64
"""A square of a cost in micro-dollars is so many times that in the panes."""

_PICK = np.array([0, 5, 2, 3, 4])  # of the sums of a pane, in the order above, after the tasks
_COLUMNS = 1 + len(_PICK)
_FRESH = 3  # newest panes, read again each hour: most late events are late by seconds
_FAR = 24  # hours past which adding up anew is cheaper
_AT_ONCE = 128  # rows added up together: bounds memory, not results
_NO_TICK = -1


class Layout(NamedTuple):
    """Which task rows belong together; rows are ordered by owner, then task type, then number.

    Attributes:
        rows: int64[r], task rows.
        owners: agent row of each owner, in the order of their rows.
        entities: entity of each owner.
        owner_starts: int64[owners], place in `rows` where each begins.
        types: (owner, task type) of each type, in order.
        type_starts: int64[types], place in `rows` where each begins.
        prices: (owner, model) of each price.
        price_of: int64[r], price of each row.
        price_order: int64[r], places in `rows`, ordered by price.
        price_starts: int64[prices], place in `price_order` where each begins.
    """

    rows: I64
    owners: list[int]
    entities: list[Entity]
    owner_starts: I64
    types: list[tuple[int, str]]
    type_starts: I64
    prices: list[tuple[int, str | None]]
    price_of: I64
    price_order: I64
    price_starts: I64

    def owner_rows(self, owner: int) -> slice:
        """Return the places of an owner's rows."""
        return _between(self.owner_starts, owner, len(self.rows))

    def type_rows(self, kind: int) -> slice:
        """Return the places of the rows of an owner's task type."""
        return _between(self.type_starts, kind, len(self.rows))

    def price_rows(self, price: int) -> I64:
        """Return the places of the rows of an owner's model."""
        return self.price_order[_between(self.price_starts, price, len(self.rows))]


class CostSums:
    """Window sums of the task rows of one kind of entity.

    Args:
        series: which rows there are.
        hours: hour panes of task rows, with the sums cost, duration, input, output and cached
            tokens, and squares of cost.
        windows: lengths of the windows, ms, ascending.
        entity: the entity that an owner of rows stands for, None for one to leave out.

    Attributes:
        windows: as given.
        layout: of the rows, as of the last `at`.
    """

    def __init__(
        self,
        series: Series,
        hours: Panes,
        windows: Sequence[int],
        entity: Callable[[Agent], Entity | None],
    ) -> None:
        self.windows = tuple(windows)
        self.layout = _layout([], series, entity)
        self._series, self._hours, self._entity = series, hours, entity
        self._lengths = np.array([window // HOUR for window in windows], np.int64)
        self._tick = _NO_TICK
        self._count = 0  # task rows of the series when the layout was made
        self._values = np.zeros((0, len(windows), 1 + PAST_WEEKS, _COLUMNS), np.int64)
        self._fresh = np.zeros((0, _FRESH, _COLUMNS), np.int64)
        self._known = np.zeros(0, np.bool_)
        self._late = Late()
        hours.late.append(self._late)

    def at(self, tick: int) -> I64:
        """Return the sums as of a tick: int64[rows of the layout, windows, weeks, columns].

        Week 0 is the window that ends at the tick, week k the one that ends k weeks before.

        Args:
            tick: whole hour, ms; not before that of the last call.
        """
        if tick != self._tick or self._count != len(self._series.tasks):
            self._arrange()
            self._advance(tick)
            self._tick = tick
        self._refill(tick)
        self._late.before = tick // HOUR - _FRESH
        return self._values[self.layout.rows]

    def touched(self) -> NDArray[np.bool_]:
        """Return bool[rows of the layout]: those with a task in the newest hour."""
        newest: NDArray[np.bool_] = self._fresh[self.layout.rows, 0, TASKS] > 0
        return newest

    def born(self) -> I64:
        """Return int64[owners], first hour of each owner."""
        return self._series.born[np.array(self.layout.owners, np.int64)]

    def agents(self) -> list[Agent]:
        """Return the agent that each owner's row stands for."""
        return [self._series.agents[row] for row in self.layout.owners]

    def forget(self, tasks: Sequence[int]) -> None:
        """Drop what is known of task rows that were freed."""
        rows = np.array([row for row in tasks if row < len(self._known)], np.int64)
        self._known[rows] = False
        self._count = -1

    # -- keeping -----------------------------------------------------------------------------

    def _arrange(self) -> None:
        """Lay the rows out anew where series came or went."""
        tasks = self._series.tasks
        if self._count == len(tasks):
            return
        chosen = [row for row, task in tasks.items() if self._owned(task.agent)]
        self.layout = _layout(chosen, self._series, self._entity)
        self._count = len(tasks)
        room = self._series.task_rows
        if room > len(self._known):
            more = 2 * room - len(self._known)
            self._values = _longer(self._values, more)
            self._fresh = _longer(self._fresh, more)
            self._known = np.concatenate([self._known, np.zeros(more, np.bool_)])

    def _owned(self, agent: int) -> bool:
        return self._entity(self._series.agents[agent]) is not None

    def _advance(self, tick: int) -> None:
        hours = (tick - self._tick) // HOUR
        if self._tick == _NO_TICK or hours > _FAR:
            self._known[:] = False
            return
        rows = self.layout.rows[self._known[self.layout.rows]]
        for hour in range(tick // HOUR - hours + 1, tick // HOUR + 1):
            self._step(rows, hour)

    def _step(self, rows: I64, hour: int) -> None:
        """Move all windows of rows on by an hour, to end before this one."""
        ends = hour - 1 - WEEK // HOUR * np.arange(1 + PAST_WEEKS)
        leaving = ends - self._lengths[:, None]
        newest = hour - 1 - np.arange(_FRESH + 1)
        panes = np.concatenate([newest, ends[1:], leaving.reshape(-1)])
        read = self._read(rows, panes)
        fresh, rest = read[:, : _FRESH + 1], read[:, _FRESH + 1 :]
        enter = np.empty((len(rows), 1, 1 + PAST_WEEKS, _COLUMNS), np.int64)
        # Of the panes read an hour ago only what came since, of the newest all.
        enter[:, 0, 0] = fresh.sum(axis=1) - self._fresh[rows].sum(axis=1)
        enter[:, 0, 1:] = rest[:, :PAST_WEEKS]
        shape = (len(rows), *leaving.shape, _COLUMNS)
        self._values[rows] += enter - rest[:, PAST_WEEKS:].reshape(shape)
        self._fresh[rows] = fresh[:, :_FRESH]

    def _refill(self, tick: int) -> None:
        """Add up the rows that are new or changed in the past."""
        late = self._late.take()
        self._known[late[late < len(self._known)]] = False
        stale = self.layout.rows[~self._known[self.layout.rows]]
        for start in range(0, len(stale), _AT_ONCE):
            self._fill(stale[start : start + _AT_ONCE], tick // HOUR)
        self._known[stale] = True

    def _fill(self, rows: I64, hour: int) -> None:
        reach = int(self._lengths.max()) + PAST_WEEKS * WEEK // HOUR
        counts = self._hours.counts(rows, hour - reach, reach)
        sums = self._hours.sums(rows, hour - reach, reach)
        running = np.zeros((len(rows), reach + 1, _COLUMNS), np.int64)
        np.cumsum(counts.sum(axis=2, dtype=np.int64), axis=1, out=running[:, 1:, TASKS])
        np.cumsum(sums[..., _PICK], axis=1, out=running[:, 1:, COST:])
        ends = reach - WEEK // HOUR * np.arange(1 + PAST_WEEKS)
        self._values[rows] = running[:, ends][:, None] - running[:, ends - self._lengths[:, None]]
        newest = reach - np.arange(_FRESH)
        self._fresh[rows] = running[:, newest] - running[:, newest - 1]

    def _read(self, rows: I64, panes: I64) -> I64:
        """Return int64[rows, panes, columns]."""
        counts, sums = self._hours.values(np.repeat(rows, len(panes)), np.tile(panes, len(rows)))
        found = np.empty((len(counts), _COLUMNS), np.int64)
        found[:, TASKS] = counts.sum(axis=1)
        found[:, COST:] = sums[:, _PICK]
        return found.reshape(len(rows), len(panes), _COLUMNS)


def effective(sums: I64, weights: TokenWeights) -> F64:
    """Return the effective tokens of sums: float64[...] of int64[..., columns]."""
    cached = sums[..., CACHED]
    plain = np.maximum(sums[..., INPUT] - cached, 0)
    return np.asarray(plain + weights.cached * cached + weights.output * sums[..., OUTPUT])


def _layout(
    chosen: Sequence[int], series: Series, entity: Callable[[Agent], Entity | None]
) -> Layout:
    tasks = series.tasks
    rows = sorted(chosen, key=lambda row: (tasks[row].agent, tasks[row].task_type, row))
    owners: list[int] = []
    types: list[tuple[int, str]] = []
    prices: dict[tuple[int, str | None], int] = {}
    starts: tuple[list[int], list[int]] = [], []
    price_of: list[int] = []
    for place, row in enumerate(rows):
        task = tasks[row]
        if not owners or owners[-1] != task.agent:
            owners.append(task.agent)
            starts[0].append(place)
        owner = len(owners) - 1
        if not types or types[-1] != (owner, task.task_type):
            types.append((owner, task.task_type))
            starts[1].append(place)
        price_of.append(prices.setdefault((owner, task.model), len(prices)))
    order = np.argsort(np.array(price_of, np.int64), kind="stable")
    numbers = np.array(price_of, np.int64)
    found = [entity(series.agents[agent]) for agent in owners]
    return Layout(
        rows=np.array(rows, np.int64),
        owners=owners,
        entities=[one for one in found if one is not None],
        owner_starts=np.array(starts[0], np.int64),
        types=types,
        type_starts=np.array(starts[1], np.int64),
        prices=list(prices),
        price_of=numbers,
        price_order=order,
        price_starts=np.searchsorted(numbers[order], np.arange(len(prices))),
    )


def _between(starts: I64, index: int, end: int) -> slice:
    last = int(starts[index + 1]) if index + 1 < len(starts) else end
    return slice(int(starts[index]), last)


def _longer(array: I64, more: int) -> I64:
    return np.concatenate([array, np.zeros((more, *array.shape[1:]), np.int64)])
