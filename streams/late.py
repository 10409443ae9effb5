"""Which rows changed in the past: what a cache of sums over panes has to forget.

Who adds up panes once and keeps the sums must hear of events that come late. A `Late` is told of
every addition to the panes it follows, and remembers the rows of those older than the sums go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    I64 = NDArray[np.int64]

NOTHING_SETTLED = int(np.iinfo(np.int64).min)
"""A pane before all others."""


class Late:
    """Rows with an addition to a pane that somebody has added up already.

    Attributes:
        before: panes before this number are added up; additions to later ones are of no account.
    """

    def __init__(self) -> None:
        self.before = NOTHING_SETTLED
        self._rows: list[I64] = []

    def see(self, rows: I64, panes: I64) -> None:
        """Hear of additions.

        Args:
            rows: int64[n].
            panes: int64[n], number of the pane of each.
        """
        if not len(panes) or int(panes.min()) >= self.before:  # the usual case
            return
        self._rows.append(np.unique(rows[panes < self.before]))

    def take(self) -> I64:
        """Return the rows since the last call, ascending."""
        if not self._rows:
            return np.empty(0, np.int64)
        rows, self._rows = np.unique(np.concatenate(self._rows)), []
        return rows
