"""How far each past day was from its baseline, per agent and hour of the day, for half a year."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams.panes import BUCKET

if TYPE_CHECKING:
    from numpy.typing import NDArray

    I64 = NDArray[np.int64]
    F16 = NDArray[np.float16]

HOURS = 24
_NEVER = int(np.iinfo(np.int64).min)


class Residuals:
    """The daily residuals of one arm, in a ring of days that only agents with any occupy.

    Half precision: three digits are enough for the median of many, and halve the memory.

    Args:
        kept: days kept, beside the newest.
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self._ring = kept + 1
        self._slot = np.zeros(0, np.int32)  # of a row; slot 0 stays empty
        self._newest = np.zeros(0, np.int64)  # day of a row's last entry
        self._values = np.full((1, HOURS, self._ring, 2), np.nan, np.float16)
        self._free: list[int] = []
        self._used = 1
        self._days: dict[int, set[int]] = {}  # day → buckets stored
        self._dirty: set[tuple[int, int]] = set()

    def reserve(self, rows: int) -> None:
        """Make room for rows 0 … rows - 1."""
        missing = rows - len(self._slot)
        if missing > 0:
            missing += len(self._slot)
            self._slot = np.concatenate([self._slot, np.zeros(missing, np.int32)])
            self._newest = np.concatenate([self._newest, np.full(missing, _NEVER)])

    def put(self, day: int, rows: I64, residual: F16, spread: F16) -> None:
        """Store a day: float16[r, 24] each, NaN for none. A row without any entry is left out.

        Args:
            day: days since 1970.
            rows: int64[r], distinct.
            residual: rate minus baseline at each hour.
            spread: standard deviation by counting of each.
        """
        keep = ~np.isnan(residual).all(axis=1)
        rows, values = rows[keep], np.stack([residual[keep], spread[keep]], axis=-1)
        if not len(rows):
            return
        fresh = rows[self._slot[rows] == 0]
        self._slot[fresh] = self._take(len(fresh))
        self._values[self._slot[rows], :, day % self._ring] = values
        self._newest[rows] = np.maximum(self._newest[rows], day)
        self._dirty.update((bucket, day) for bucket in np.unique(rows // BUCKET).tolist())

    def column(self, rows: I64, hour: int, days: I64) -> tuple[F16, F16]:
        """Return (residual, spread), float16[rows, days] each, of one hour of the day."""
        found = self._values[self._slot[rows], hour][:, days % self._ring]
        return found[..., 0], found[..., 1]

    def alive(self, rows: int) -> NDArray[np.bool_]:
        """Return bool[rows]: whether a row has any entry."""
        return self._slot[:rows] > 0

    def expire(self, today: int) -> list[tuple[int, int]]:
        """Forget days before `today` - kept; return the stored (bucket, day) among them."""
        oldest = today - self.kept
        gone: list[tuple[int, int]] = []
        for day in [day for day in self._days if day < oldest]:
            gone += [(bucket, day) for bucket in sorted(self._days.pop(day))]
        stale = [key for key in self._dirty if key[1] < oldest]
        self._dirty.difference_update(stale)
        empty = np.flatnonzero((self._slot > 0) & (self._newest < oldest))
        self._values[self._slot[empty]] = np.nan
        self._free += self._slot[empty].tolist()
        self._slot[empty] = 0
        self._newest[empty] = _NEVER
        # The day that takes the place of one gone must not show it to rows without an entry.
        for day in {day for _, day in (*gone, *stale)}:
            self._values[:, :, day % self._ring] = np.nan
        return gone

    def take_dirty(self) -> list[tuple[int, int]]:
        """Return the (bucket, day) stored since the last call."""
        dirty = sorted(self._dirty)
        for bucket, day in dirty:
            self._days.setdefault(day, set()).add(bucket)
        self._dirty.clear()
        return dirty

    def dump(self, bucket: int, day: int) -> tuple[I64, F16]:
        """Return the rows of a bucket with an entry at a day, and float16[r, 24, 2]."""
        rows = np.arange(bucket * BUCKET, min((bucket + 1) * BUCKET, len(self._slot)))
        values = self._values[self._slot[rows], :, day % self._ring]
        keep = ~np.isnan(values[..., 0]).all(axis=1)
        return rows[keep], values[keep]

    def load(self, bucket: int, day: int, rows: I64, values: F16) -> None:
        """Take what `dump` gave."""
        self.put(day, rows, values[..., 0], values[..., 1])
        self._dirty.discard((bucket, day))
        self._days.setdefault(day, set()).add(bucket)

    @property
    def nbytes(self) -> int:
        """Memory of all arrays."""
        return self._slot.nbytes + self._newest.nbytes + self._values.nbytes

    def _take(self, number: int) -> NDArray[np.int32]:
        reused = [self._free.pop() for _ in range(min(number, len(self._free)))]
        missing = number - len(reused)
        first = self._used
        if first + missing > len(self._values):
            room = max(first + missing, len(self._values) + len(self._values) // 4 + 8)
            longer = np.full((room, *self._values.shape[1:]), np.nan, np.float16)
            longer[: len(self._values)] = self._values
            self._values = longer
        self._used = first + missing
        return np.array([*reused, *range(first, first + missing)], np.int32)
