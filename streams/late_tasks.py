"""Tasks as they were when their hour, or day, was closed: all that came later is kept apart.

Reviews are joined to tasks long after. By then late tasks may be in the panes or not, which
depends on how far each topic was read. What was there when the hour closed depends on the log of
the tasks alone: it is what is there now, less what came late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.clock import RETENTION
from streams.closing import GRACE
from streams.columns import AUTOMATED, BINS
from streams.durations import DAY, HOUR
from streams.panes import Panes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.ledger import Batch
    from streams.series import Agent, Series, Task

    I64 = NDArray[np.int64]

_DAYS = RETENTION // DAY + 4
_COST, _OUTPUT = 0, 3  # places of these sums in the ledger of tasks


class LateTasks:
    """Counts and sums of what came after its hour or day was closed, by task row.

    Both panes are sparse: a series without late tasks has nothing in them.

    Attributes:
        hours: counts of outcomes; sums of cost (micro-dollars) and output tokens.
        days: counts of (automated, other) by bin of confidence, as `Ledger.task_days`.
    """

    def __init__(self) -> None:
        self.hours = Panes(HOUR, DAY // HOUR, _DAYS, 2)
        self.days = Panes(DAY, 1, _DAYS, counts=2 * BINS)

    def reserve(self, rows: int) -> None:
        """Make room for task rows 0 … rows - 1."""
        self.hours.reserve(rows)
        self.days.reserve(rows)

    def note(self, batch: Batch) -> None:
        """Take events about to be folded; those in time are passed by.

        Args:
            batch: admitted tasks, in log order, all in panes that are kept.
        """
        if not len(batch.events) or not self._any(batch):
            return
        late = np.flatnonzero(batch.clocks >= (batch.events // HOUR + 1) * HOUR + GRACE)
        if not len(late):
            return
        hours, weights = batch.events[late] // HOUR, batch.weights
        weights = None if weights is None else weights[late]
        sums = [batch.sums[_COST][late], batch.sums[_OUTPUT][late]]
        self.hours.add(batch.tasks[late], hours, batch.outcomes[late], sums, weights)
        if batch.bins is not None:
            self._note_days(batch, batch.bins)

    def _any(self, batch: Batch) -> bool:
        oldest = int(batch.events.min()) // HOUR * HOUR
        return oldest + HOUR + GRACE <= int(batch.clocks[-1])

    def _note_days(self, batch: Batch, bins: I64) -> None:
        days = batch.events // DAY
        late = np.flatnonzero((batch.clocks >= (days + 1) * DAY + GRACE) & (bins >= 0))
        halves = bins[late] + BINS * (batch.outcomes[late] != AUTOMATED)
        weights = None if batch.weights is None else batch.weights[late]
        self.days.add(batch.tasks[late], days[late], halves, (), weights)


class TaskHour(NamedTuple):
    """The tasks of an agent and task type in an hour, of all models, as it was closed.

    Attributes:
        automated: tasks with this outcome.
        escalated: tasks with this outcome.
        failed: tasks with this outcome.
        unknown: tasks with this outcome.
        cost_micro_usd: their cost.
        output_tokens: their output tokens.
    """

    automated: int
    escalated: int
    failed: int
    unknown: int
    cost_micro_usd: int
    output_tokens: int

    @property
    def tasks(self) -> int:
        """All tasks."""
        return self.automated + self.escalated + self.failed + self.unknown


class ClosedTasks:
    """Looks tasks up as they were when closed, by agent and task type, over all models.

    Args:
        series: of the ledger of tasks.
        hours: its hour panes, with all sums.
        days: its day panes of confidence.
        late: what came late.
    """

    def __init__(self, series: Series, hours: Panes, days: Panes, late: LateTasks) -> None:
        self._series, self._hours, self._days, self._late = series, hours, days, late
        self._rows: dict[tuple[Agent, str], list[int]] = {}
        self._number = 0
        self._newest: Task | None = None

    def hour(self, agent: Agent, task_type: str, hour: int) -> TaskHour:
        """Return the tasks of an hour; `hour` is hours since 1970, closed by now."""
        rows = self._find(agent, task_type)
        panes = np.full(len(rows), hour)
        counts, sums = self._hours.values(rows, panes)
        late_counts, late_sums = self._late.hours.values(rows, panes)
        outcomes = (counts - late_counts).sum(axis=0)
        totals = (sums[:, [_COST, _OUTPUT]] - late_sums).sum(axis=0)
        return TaskHour(*map(int, (*outcomes, *totals)))

    def days(self, agent: Agent, task_type: str, first: int, number: int) -> I64:
        """Return int64[2, bins]: automated and other tasks by confidence in closed days.

        Args:
            agent: whose.
            task_type: which.
            first: days since 1970 of the first day.
            number: how many days.
        """
        rows = self._find(agent, task_type)
        if not len(rows):
            return np.zeros((2, BINS), np.int64)
        found = self._days.counts(rows, first, number).sum(axis=(0, 1), dtype=np.int64)
        late = self._late.days.counts(rows, first, number).sum(axis=(0, 1), dtype=np.int64)
        in_time: I64 = (found - late).reshape(2, BINS)
        return in_time

    def _find(self, agent: Agent, task_type: str) -> I64:
        """Return the rows of all models; the index is made anew when series came or went."""
        tasks = self._series.tasks
        newest = tasks[next(reversed(tasks))] if tasks else None
        if len(tasks) != self._number or newest is not self._newest:
            self._number, self._newest, self._rows = len(tasks), newest, {}
            for row, task in tasks.items():
                key = self._series.agents[task.agent], task.task_type
                self._rows.setdefault(key, []).append(row)
        return np.array(self._rows.get((agent, task_type), []), np.int64)
