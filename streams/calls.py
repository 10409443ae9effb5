"""Calls of agents to integrations, in one partition: counted per agent here, sent on to be judged.

Whether an integration is well is seen where the calls of all agents meet. Here its sums by minute,
its latencies and its error types become partials, and each closed hour of an agent a window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streams.columns import DictColumn
from streams.durations import HOUR, MINUTE
from streams.layout import Layout
from streams.operations import SEPARATOR
from streams.partials import EntityKey, Kind, condense, first_tick
from streams.sketch import index_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.columns import CallColumns
    from streams.feed import Taken
    from streams.partials import PartialWriter
    from streams.series import Agent, Series, Task

    I64 = NDArray[np.int64]

TEST = "contract-test"
"""Third part of the name of a series of contract tests, and first word of their marks."""


@dataclass(frozen=True, slots=True, eq=False)
class CallEvents:
    """Calls as a feed takes them: the series of an agent is integration, operation and purpose.

    Attributes:
        calls: the calls.
        task_type: names of series.
    """

    calls: CallColumns
    task_type: DictColumn

    @classmethod
    def of(cls, calls: CallColumns) -> CallEvents:
        """Name the series of calls."""
        columns = (calls.integration, calls.operation)
        test = calls.contract_test.astype(np.int64)
        codes = (columns[0].codes.astype(np.int64) * len(columns[1].values) + columns[1].codes) * 2
        distinct, inverse = np.unique(codes + test, return_inverse=True)
        names: list[str | None] = []
        for code in distinct.tolist():
            pair, is_test = divmod(code, 2)
            first, second = divmod(pair, len(columns[1].values))
            parts = [columns[0].values[first] or "", columns[1].values[second] or ""]
            names.append(SEPARATOR.join([*parts, TEST] if is_test else parts))
        return cls(calls, DictColumn(inverse.astype(np.int32), names))

    @property
    def occurred_at(self) -> I64:
        """Event times, ms."""
        return self.calls.occurred_at

    @property
    def outcome(self) -> NDArray[np.int8]:
        """Which count of a pane each raises."""
        return self.calls.outcome

    @property
    def tenant(self) -> DictColumn:
        """Tenant of each."""
        return self.calls.tenant

    @property
    def agent(self) -> DictColumn:
        """Agent of each."""
        return self.calls.agent

    @property
    def model(self) -> DictColumn:
        """None for each: a call has no model."""
        return DictColumn(np.zeros(len(self), np.int32), [None])

    def __len__(self) -> int:
        """Return the number of calls."""
        return len(self.calls)

    def take(self, indices: I64) -> CallEvents:
        """Return the calls at `indices`, in that order."""
        return CallEvents(self.calls.take(indices), self.task_type.take(indices))


def call_sums(events: CallEvents) -> list[I64]:
    """Return the sums of calls, int64[n] each, in the order of `CALLS.sums`."""
    calls = events.calls
    return [calls.duration_us, calls.attempts, calls.timeout.astype(np.int64)]


def call_window(agent: Agent, task: Task) -> dict[str, Any]:
    """Return whose a Window record of calls is."""
    integration, operation, *test = task.task_type.split(SEPARATOR)
    return {
        "tenant": agent.tenant,
        "agent_id": agent.agent_id,
        "task_type": "",
        "series": "CALLS",
        "integration": integration,
        "operation": operation,
        "contract_test": bool(test),
    }


CALLS = Layout(
    table="calls",
    sums=("duration_us", "attempts", "timeouts"),
    columns=("ok", None, "error", "unknown", "duration_us", "attempts", "timeout"),
    window=call_window,
)
"""The ledger of calls; `error` counts those in time-out too, which `timeout` tells apart."""


class CallTap:
    """Tells roll-up of the calls of one partition.

    Args:
        series: the series of the calls.
        writer: where partials go.
    """

    def __init__(self, series: Series, writer: PartialWriter) -> None:
        self._series, self._writer = series, writer

    def __call__(self, taken: Taken) -> None:
        """Take admitted calls."""
        calls: CallColumns = taken.events.calls
        real = np.flatnonzero(~calls.contract_test)
        if len(real):
            self._add(taken, real)
            self._add_latencies(taken, real)
            self._add_error_types(taken, real)
        for place in np.flatnonzero(calls.contract_test).tolist():
            self._mark(taken, place)

    def _add(self, taken: Taken, real: I64) -> None:
        sums = [column[real] for column in call_sums(taken.events)]
        calls = taken.events.calls
        outcomes = calls.outcome[real].astype(np.int64)
        rows, group = np.unique(taken.rows.task[real], return_inverse=True)
        added = condense(group, taken.clocks[real], calls.occurred_at[real], outcomes, sums)
        self._writer.add([self._key(row) for row in rows.tolist()], added)

    def _add_latencies(self, taken: Taken, real: I64) -> None:
        calls = taken.events.calls
        buckets = index_of(calls.duration_us[real])
        for (row, tick, hour, bucket), number in self._counted(taken, real, buckets):
            self._writer.add_bin(self._key(row), tick, hour, bucket, number)

    def _add_error_types(self, taken: Taken, real: I64) -> None:
        kinds = taken.events.calls.error_type
        known = np.array([name is not None for name in kinds.values], np.bool_)
        failed = real[known[kinds.codes[real]]] if len(known) else real[:0]
        if not len(failed):
            return
        codes = kinds.codes[failed].astype(np.int64)
        for (row, tick, hour, code), number in self._counted(taken, failed, codes):
            self._writer.add_bin(self._key(row), tick, hour, kinds.values[code] or "", number)

    def _counted(
        self, taken: Taken, places: I64, codes: I64
    ) -> list[tuple[tuple[int, int, int, int], int]]:
        """Return how many of the events at `places` share row, tick, hour and code."""
        ticks = first_tick(taken.clocks[places])
        hours = taken.events.occurred_at[places] // HOUR * HOUR
        columns = [taken.rows.task[places], ticks // MINUTE, hours // HOUR, codes]
        distinct, numbers = _counted(columns)
        rows = zip(
            distinct[0].tolist(),
            (distinct[1] * MINUTE).tolist(),
            (distinct[2] * HOUR).tolist(),
            distinct[3].tolist(),
            strict=True,
        )
        return list(zip(rows, numbers.tolist(), strict=True))

    def _mark(self, taken: Taken, place: int) -> None:
        calls = taken.events.calls
        at = int(calls.occurred_at[place])
        tick = int(first_tick(taken.clocks[place : place + 1])[0])
        name = calls.error_type.values[calls.error_type.codes[place]]
        outcome = "OK" if name is None else f"ERROR {name}"
        self._writer.mark(self._key(int(taken.rows.task[place])), tick, at, f"{TEST} {outcome}")

    def _key(self, row: int) -> EntityKey:
        task = self._series.tasks[row]
        integration, operation, *_ = task.task_type.split(SEPARATOR)
        tenant = self._series.agents[task.agent].tenant
        return EntityKey(Kind.OPERATION, tenant, integration, operation)


def _counted(columns: list[I64]) -> tuple[list[I64], I64]:
    """Return the distinct rows of some columns, as columns, and how often each comes.

    The columns are packed into one number, each less its minimum: rows, minutes and hours of one
    batch and codes span few values.
    """
    lows = [int(column.min()) for column in columns]
    spans = [int(column.max()) - low + 1 for column, low in zip(columns, lows, strict=True)]
    if math.prod(spans) >= 1 << 62:  # a batch that spans years: slower, and never seen
        table, numbers = np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)
        return list(table.T), numbers
    key = np.zeros(len(columns[0]), np.int64)
    for column, low, span in zip(columns, lows, spans, strict=True):
        key = key * span + (column - low)
    distinct, numbers = np.unique(key, return_counts=True)
    found: list[I64] = []
    for low, span in zip(reversed(lows), reversed(spans), strict=True):
        distinct, part = np.divmod(distinct, span)
        found.insert(0, part + low)
    return found, numbers
