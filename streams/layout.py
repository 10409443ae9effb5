"""What the columns of a ledger mean, and what its window records are called.

One kind of ledger remembers tasks, another calls or reviews: all count outcomes and add sums for
series of agents, and differ in names alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streams.columns import confidence_bins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from streams.columns import TaskColumns
    from streams.series import Agent, Task

    I64 = NDArray[np.int64]

COST_CAP = (1 << 26) - 1
"""Micro-dollars of a task beyond which its square grows no further: 67 dollars."""

COST_SHIFT = 3
"""The square is of the cost in units of 2^3 micro-dollars: 131,000 capped ones fit a window."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What one ledger keeps, and how it is told.

    Attributes:
        table: prefix of its state keys; the ledgers of one unit differ in it.
        sums: names of the sums of a series.
        columns: Window field of each count (four) and sum, None for one that is not told.
        window: gives the fields of a Window record that say whose it is.
        extras: whether bins of confidence are kept too.
    """

    table: str
    sums: tuple[str, ...]
    columns: tuple[str | None, ...]
    window: Callable[[Agent, Task], Mapping[str, Any]]
    extras: bool = False


def task_window(agent: Agent, task: Task) -> dict[str, Any]:
    """Return whose a Window record of tasks is."""
    return {
        "tenant": agent.tenant,
        "agent_id": agent.agent_id,
        "task_type": task.task_type,
        "series": "TASKS",
        "model": task.model,
    }


def task_sums(events: TaskColumns) -> list[I64]:
    """Return the sums of tasks, int64[n] each, in the order of `TASKS.sums`."""
    square = np.minimum(events.cost_micro, COST_CAP)
    square >>= COST_SHIFT
    square *= square
    return [
        events.cost_micro,
        events.duration_us,
        events.input_tokens,
        events.output_tokens,
        events.cached_tokens,
        square,
    ]


def task_bins(events: TaskColumns) -> I64:
    """Return the bin of confidence of tasks, int64[n]; -1 for none."""
    return confidence_bins(events.confidence)


_OUTCOMES = ("automated", "escalated", "failed", "unknown")
_SUMS = ("duration_us", "input_tokens", "output_tokens", "cached_tokens")

TASKS = Layout(
    table="tasks",
    sums=("cost_micro", *_SUMS, "cost_square"),
    columns=(*_OUTCOMES, "cost_micro_usd", *_SUMS, None),
    window=task_window,
    extras=True,
)
"""The ledger of finished tasks."""
