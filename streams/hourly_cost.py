"""What agents spent in each hour of the last month, kept from hour to hour."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams.durations import DAY, HOUR
from streams.late import Late

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streams.panes import Panes
    from streams.series import Series

    I64 = NDArray[np.int64]

REACH = 30 * DAY // HOUR
"""Hours kept: today, of 25 hours at most, and 28 days before it."""

_COST = 0  # of the sums of a pane
_FRESH = 3  # newest hours, read again each hour
_AT_ONCE = 256  # agents added up together: bounds memory, not results
_NO_TICK = -1


class HourlyCost:
    """Cost of agents by hour: always what adding up the panes would give.

    Args:
        series: which task rows an agent has.
        hours: hour panes of task rows; the first sum is the cost in micro-dollars.
    """

    def __init__(self, series: Series, hours: Panes) -> None:
        self._series, self._hours = series, hours
        self._agents: list[int] = []
        self._spent = np.zeros((0, 2 * REACH), np.int64)  # by agent; the hours end at `_end`
        self._end = REACH
        self._stale: set[int] = set()
        self._rows: dict[int, list[int]] = {}
        self._count = -1
        self._tick = _NO_TICK
        self._late = Late()
        hours.late.append(self._late)

    def rows(self, agent: int) -> list[int]:
        """Return the task rows of an agent, ascending."""
        return self._rows.get(agent, [])

    def forget(self, agents: Sequence[int], tasks: Sequence[int]) -> None:
        """Drop what is known of rows that were freed."""
        del tasks  # a task row is freed when nothing of it is left
        self._count = -1
        self._stale.update(agents)

    def at(self, tick: int, agents: Sequence[int]) -> I64:
        """Return int64[agents, REACH], micro-dollars of the hours before a tick, oldest first.

        It is a view that the next call changes.

        Args:
            tick: whole hour, ms; not before that of the last call.
            agents: agent rows; only these are kept.
        """
        self._arrange()
        for row in self._late.take().tolist():
            task = self._series.tasks.get(row)
            if task is not None:
                self._stale.add(task.agent)
        self._choose(list(agents))
        self._advance(tick)
        stale = [place for place, agent in enumerate(self._agents) if agent in self._stale]
        for start in range(0, len(stale), _AT_ONCE):
            places = stale[start : start + _AT_ONCE]
            some = [self._agents[place] for place in places]
            self._spent[places, self._end - REACH : self._end] = self._read(some, tick, REACH)
        self._stale.clear()
        self._tick = tick
        self._late.before = tick // HOUR - _FRESH
        return self._spent[:, self._end - REACH : self._end]

    def _arrange(self) -> None:
        tasks = self._series.tasks
        if self._count == len(tasks):
            return
        self._rows = {}
        for row, task in sorted(tasks.items()):
            self._rows.setdefault(task.agent, []).append(row)
        self._count = len(tasks)

    def _choose(self, agents: list[int]) -> None:
        """Make room for just these agents."""
        if agents == self._agents:
            return
        place = {agent: at for at, agent in enumerate(self._agents)}
        spent = np.zeros((len(agents), 2 * REACH), np.int64)
        kept = [at for at, agent in enumerate(agents) if agent in place]
        spent[kept] = self._spent[[place[agents[at]] for at in kept]]
        self._stale.update(agent for agent in agents if agent not in place)
        self._agents, self._spent = agents, spent

    def _advance(self, tick: int) -> None:
        """Move what is kept on to a tick."""
        hours = (tick - self._tick) // HOUR
        if self._tick == _NO_TICK or hours + _FRESH >= REACH:
            self._stale.update(self._agents)
            return
        if not hours or not self._agents:
            return
        if self._end + hours > 2 * REACH:
            self._spent[:, :REACH] = self._spent[:, self._end - REACH : self._end].copy()
            self._end = REACH
        self._end += hours
        number = hours + _FRESH
        self._spent[:, self._end - number : self._end] = self._read(self._agents, tick, number)

    def _read(self, agents: Sequence[int], tick: int, number: int) -> I64:
        """Return int64[agents, number], the cost of the hours before a tick."""
        rows = [row for agent in agents for row in self.rows(agent)]
        found = np.zeros((len(agents), number), np.int64)
        if not rows:
            return found
        owner = np.repeat(np.arange(len(agents)), [len(self.rows(agent)) for agent in agents])
        first = tick // HOUR - number
        each = self._hours.sums(np.array(rows, np.int64), first, number)[..., _COST]
        np.add.at(found, owner, each)
        return found
