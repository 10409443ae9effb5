"""Events that fall into the same cell of a ledger, put together before they are added to its panes.

Thousands of events of a batch mostly belong to a few series and one pane. One pass finds what each
of these cells gets, and four tables of panes then have few additions to make instead of thousands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.columns import BINS
from streams.panes import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    I64 = NDArray[np.int64]


class Cells(NamedTuple):
    """What is added to panes of one width, one row an event, or many events of one kind.

    Attributes:
        agents: int64[n], agent rows.
        tasks: int64[n], task rows, each of one agent.
        panes: int64[n], number of the pane.
        outcomes: int64[n].
        sums: int64[n] for each sum.
        weights: int64[n], how many events each stands for; None for 1 each.
        bins: int64[n], bin of confidence, -1 for none; None where no event has any.
    """

    agents: I64
    tasks: I64
    panes: I64
    outcomes: I64
    sums: Sequence[I64]
    weights: I64 | None
    bins: I64 | None = None

    def merged(self) -> Cells:
        """Return at least one row with those of one kind as one, where that is less work."""
        first, rows = int(self.panes.min()), int(self.tasks.max()) + 1
        bins = 1 if self.bins is None else BINS + 1
        shape = (int(self.panes.max()) - first + 1, rows, OUTCOMES, bins)
        size = shape[0] * rows * OUTCOMES * bins
        if size > len(self.panes):
            return self
        places = self._places(first, rows)
        weights = added(places, self.weights, size)
        there = np.flatnonzero(weights)
        pane, task, outcome, bin_ = np.unravel_index(there, shape)
        if self.agents is self.tasks:
            agent = task
        else:
            owners = np.zeros(rows, np.int64)
            owners[self.tasks] = self.agents
            agent = owners[task]
        return Cells(
            agents=agent,
            tasks=task,
            panes=pane + first,
            outcomes=outcome,
            sums=[added(places, column, size)[there] for column in self.sums],
            weights=weights[there],
            bins=None if self.bins is None else bin_ - 1,
        )

    def _places(self, first: int, rows: int) -> I64:
        """Return a number for each row, the same for those of one kind; as `unravel_index` has it.

        It is done in place: arrays of a batch's size are dear to make.
        """
        places = self.panes - first
        places *= rows
        places += self.tasks
        places *= OUTCOMES
        places += self.outcomes
        if self.bins is not None:
            places *= BINS + 1
            places += self.bins
            places += 1
        return places

    def binned(self) -> Cells:
        """Return the rows with a confidence; of those the sums are left out."""
        if self.bins is None or int(self.bins.min()) >= 0:
            return self
        kept = np.flatnonzero(self.bins >= 0)
        return Cells(
            agents=self.agents[kept],
            tasks=self.tasks[kept],
            panes=self.panes[kept],
            outcomes=self.outcomes[kept],
            sums=(),
            weights=None if self.weights is None else self.weights[kept],
            bins=self.bins[kept],
        )


def added(places: I64, values: I64 | None, size: int) -> I64:
    """Return int64[size]: the values at each place, 1 each for None, added up exactly."""
    if values is None:
        return np.bincount(places, minlength=size)
    found = np.zeros(size, np.int64)
    np.add.at(found, places, values)
    return found
