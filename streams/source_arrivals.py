"""What may be expected of the agents of a partition, and of the partition as their source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams.arrivals import NEVER, REACH, Arrivals
from streams.clock import UNSET
from streams.durations import MINUTE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.context import Context
    from streams.ledger import Ledger

    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]


class AgentArrivals(Arrivals):
    """Arrivals of agents, to whom a silence of the whole source is not put down.

    Attributes:
        resumed: when records of the partition came again, ms.
    """

    resumed = UNSET

    def last_seen(self, rows: I64, now: int) -> I64:
        """Return as of when each was last heard of; see `Arrivals`."""
        seen = super().last_seen(rows, now)
        found: I64 = np.where(seen == NEVER, NEVER, np.maximum(seen, min(self.resumed, now)))
        return found


class Hints:
    """Which gaps between the tasks of an agent are too short for it to be silent in them.

    It only saves work: what is not known here is looked at.
    """

    def __init__(self) -> None:
        self._seen = np.empty(0, np.int64)
        self._pace = np.empty(0, np.int64)
        self._until = np.empty(0, np.int64)

    def reserve(self, rows: int) -> None:
        """Make room for rows."""
        more = np.zeros(rows - len(self._seen), np.int64)
        self._seen = np.append(self._seen, more)
        self._pace = np.append(self._pace, more)
        self._until = np.append(self._until, more)

    def learn(self, rows: I64, seen: I64, paces: I64, until: int) -> None:
        """Remember when rows were last heard of, and which gaps are short up to a time, ms."""
        self._seen[rows] = np.maximum(self._seen[rows], seen)
        self._pace[rows], self._until[rows] = paces, until

    def note(self, rows: I64, events: I64) -> None:
        """Take tasks that are folded: int64[n] rows and event times."""
        np.maximum.at(self._seen, rows, events)

    def forget(self, rows: list[int]) -> None:
        """Know nothing of rows."""
        self._seen[rows] = self._pace[rows] = self._until[rows] = 0

    def put_off(self, rows: I64, events: I64, clocks: I64) -> tuple[I64, I64]:
        """Return rows, and the time before which each cannot be overdue.

        Args:
            rows: int64[n], of tasks to come.
            events: int64[n], their event times, ms.
            clocks: int64[n], the clock after each.
        """
        order = np.argsort(rows, kind="stable")
        rows, events, clocks = rows[order], events[order], clocks[order]
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        before = np.roll(events, 1)
        before[first] = self._seen[rows[first]]
        widest = np.maximum.reduceat(clocks - before, first)
        found = rows[first]
        last = np.append(first[1:], len(rows)) - 1
        then = np.minimum(events[last] + self._pace[found], self._until[found])
        close = widest < self._pace[found] - MINUTE
        return found[close], then[close] // MINUTE * MINUTE


class SourceArrivals(Arrivals):
    """Arrivals of the partition as a whole, as those of one row.

    Args:
        agents: of its agents.
        ledger: of the tasks.
        context: of the partition.
    """

    def __init__(self, agents: Arrivals, ledger: Ledger, context: Context) -> None:
        super().__init__(agents.rule, ledger.agent_hours, ledger.agent_minutes)
        self._ledger, self._context = ledger, context
        self.active = np.empty(0, np.int64)

    def newest(self, now: int) -> int:
        """Return the time of the newest task or queue depth, at most `now`; NEVER for none."""
        task, queue = self._ledger.newest, self._context.queues.newest(now)
        newest = max(task, UNSET if queue is None else queue)
        return NEVER if newest < now - REACH else min(newest, now)

    def last_seen(self, rows: I64, now: int) -> I64:
        """Return the same for its one row."""
        return np.full(len(rows), self.newest(now))

    def overdue(self, rows: I64, last_seen: I64, now: int, born: I64) -> F64:
        """Return how many tasks are overdue, without those of the agent with the most.

        If one agent makes nearly all tasks and stops, that is not the source.
        """
        del rows, born
        since = np.full(len(self.active), last_seen[0])
        births = self._ledger.series.born[self.active]
        each = super().overdue(self.active, since, now, births)
        return np.full(1, each.sum() - each.max(initial=0.0))

    def came(self, row: int, since: int, now: int) -> bool:
        """Return whether anything came at or after `since`."""
        del row
        return self.newest(now) > since
