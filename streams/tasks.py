"""Finished tasks of one partition on their way to roll-up: fleet, tenants and task types."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams.layout import task_sums
from streams.partials import EntityKey, Kind, Sums, condense

if TYPE_CHECKING:
    from streams.feed import Taken
    from streams.partials import PartialWriter
    from streams.series import Series

FLEET = EntityKey(Kind.FLEET)


class TaskTap:
    """Tells roll-up of the tasks of one partition.

    Args:
        series: the series of the tasks.
        writer: where partials go.
    """

    def __init__(self, series: Series, writer: PartialWriter) -> None:
        self._series, self._writer = series, writer

    def __call__(self, taken: Taken) -> None:
        """Take admitted tasks."""
        events = taken.events
        rows, group = np.unique(taken.rows.task, return_inverse=True)
        outcomes = events.outcome.astype(np.int64)
        sums = task_sums(events)
        added = condense(group, taken.clocks, events.occurred_at, outcomes, sums)
        series = [self._series.tasks[row] for row in rows.tolist()]
        tenants = [self._series.agents[task.agent].tenant for task in series]
        self._writer.add([FLEET] * len(rows), added)
        kinds = [
            EntityKey(Kind.TASK_TYPE, tenant, task.task_type, task.model)
            for tenant, task in zip(tenants, series, strict=True)
        ]
        self._writer.add(kinds, added)
        named = np.array([tenant is not None for tenant in tenants], np.bool_)
        if named.any():
            keep = named[added.group]
            some = Sums(*(column[keep] for column in added))
            self._writer.add([EntityKey(Kind.TENANT, tenant) for tenant in tenants], some)
