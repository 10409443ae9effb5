"""Sums per row and pane of time, in blocks that exist only where something happened.

A pane is a span of event time of one width. A row's panes lie in blocks of consecutive panes; a
small table says which block holds them, and block 0, always zero, stands for all that never
happened. All values are integers, so any order of adding gives the same sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streams.late import Late

    I64 = NDArray[np.int64]
    I32 = NDArray[np.int32]

T = TypeVar("T", bound=np.generic)

OUTCOMES = 4
"""Counts of a pane of outcomes, in the order of the codes of `streams.columns`."""

BUCKET = 256
"""Rows that share a state record of a pane."""

_NOBODY = int(np.iinfo(np.int64).min)
"""Owner of a ring slot that holds no block."""


class PaneKey(NamedTuple):
    """What one state record of panes covers.

    Attributes:
        bucket: rows [256·bucket, 256·bucket + 256).
        start: start of the pane, ms.
    """

    bucket: int
    start: int


class PaneRows(NamedTuple):
    """The rows of one bucket with anything in one pane.

    Attributes:
        rows: int64[r], ascending.
        counts: int64[r, counts].
        sums: int64[r, sums].
        revision: int64[r], how often the pane was published.
        changed: bool[r], whether it changed since.
    """

    rows: I64
    counts: I64
    sums: I64
    revision: I64
    changed: NDArray[np.bool_]


class Panes:
    """Panes of one width for many rows.

    Args:
        width: of a pane, ms.
        span: panes in a block.
        blocks: blocks of a row that can exist at a time: retention, and one for each end.
        sums: int64 columns beside the counts.
        counts: how many counts a pane has.
        published: whether revisions and changes are kept too.
    """

    def __init__(
        self,
        width: int,
        span: int,
        blocks: int,
        sums: int = 0,
        *,
        counts: int = OUTCOMES,
        published: bool = False,
    ) -> None:
        self.width = width
        self._outcomes = counts
        self._span = span
        self._ring = blocks
        self._published = published
        self._index = np.zeros((0, blocks), np.int32)
        self._owner = np.full(blocks, _NOBODY, np.int64)  # which block of time a ring slot holds
        self._counts = np.zeros(span * counts, np.int32)
        self._sums = np.zeros((span, sums), np.int64)
        self._revision = np.zeros(span if published else 0, np.uint16)
        self._changed = np.zeros(span if published else 0, np.bool_)
        self._free: list[int] = []
        self._used = 1
        self._dirty = np.zeros((blocks * span, 0), np.bool_)
        self._stored = np.zeros((blocks * span, 0), np.bool_)
        self._is_dirty = False
        self.late: list[Late] = []  # caches of sums, told of every addition

    # -- adding ------------------------------------------------------------------------------

    def add(
        self,
        rows: I64,
        panes: I64,
        outcomes: I64,
        sums: Sequence[I64] = (),
        weights: I64 | None = None,
    ) -> None:
        """Add events.

        Args:
            rows: int64[n], rows below the reserved number.
            panes: int64[n], number of the pane: event time // width.
            outcomes: int64[n], which count rises.
            sums: int64[n] for each sum.
            weights: int64[n], at least 1, by how much the count rises; None for 1 each.
        """
        cells = self._cells(rows, panes)
        rise = np.ones(len(rows), np.int32) if weights is None else weights.astype(np.int32)
        np.add.at(self._counts, cells * self._outcomes + outcomes, rise)
        for column, values in enumerate(sums):
            np.add.at(self._sums[:, column], cells, values)
        if self._published:
            self._changed[cells] = True
        for late in self.late:
            late.see(rows, panes)

    def reserve(self, rows: int) -> None:
        """Make room for rows 0 … rows - 1."""
        if rows <= len(self._index):
            return
        room = max(BUCKET, -(-2 * rows // BUCKET) * BUCKET)
        self._index = _grown(self._index, room)
        for name in ("_dirty", "_stored"):
            old = getattr(self, name)
            new = np.zeros((len(old), room // BUCKET), np.bool_)
            new[:, : old.shape[1]] = old
            setattr(self, name, new)

    def _cells(self, rows: I64, panes: I64) -> I64:
        """Return the cell of each event, making blocks where there are none, and mark it dirty."""
        if not len(rows):
            return np.empty(0, np.int64)
        self._is_dirty = True
        low, high = int(panes.min()), int(panes.max())
        self._claim(low // self._span, high // self._span)
        if low == high:  # the usual case
            return self._cells_of_one(rows, low)
        blocks = panes // self._span
        slots = blocks % self._ring
        found = self._index[rows, slots]
        if not found.all():
            missing = found == 0
            self._make(rows[missing], slots[missing])
            found = self._index[rows, slots]
        offsets = panes - blocks * self._span
        self._dirty[slots * self._span + offsets, rows // BUCKET] = True
        return found.astype(np.int64) * self._span + offsets

    def _cells_of_one(self, rows: I64, pane: int) -> I64:
        block, offset = divmod(pane, self._span)
        slot = block % self._ring
        found = self._index[:, slot][rows]
        if not found.all():
            self._make(rows[found == 0], np.full(1, slot))
            found = self._index[:, slot][rows]
        buckets = np.bincount(rows // BUCKET, minlength=self._dirty.shape[1])
        self._dirty[slot * self._span + offset] |= buckets > 0
        return found.astype(np.int64) * self._span + offset

    def _claim(self, first: int, last: int) -> None:
        """Make ring slots stand for the blocks of time from `first` to `last`."""
        for block in range(first, last + 1):
            owner = int(self._owner[block % self._ring])
            if owner not in (block, _NOBODY):
                start = block * self._span * self.width
                raise ValueError(
                    f"panes from {start} ms on would overwrite older ones: expire before adding"
                )
            self._owner[block % self._ring] = block

    def _make(self, rows: I64, slots: I64) -> None:
        """Give each (row, ring slot) a block of the pool."""
        fresh = np.unique(rows * self._ring + slots)
        self._index.reshape(-1)[fresh] = self._take(len(fresh))

    def _take(self, number: int) -> I32:
        """Return that many zeroed blocks of the pool."""
        reused = [self._free.pop() for _ in range(min(number, len(self._free)))]
        fresh = range(self._used, self._used + number - len(reused))
        self._used += len(fresh)
        self._grow_pool(self._used)
        taken = np.array([*reused, *fresh], np.int32)
        for block in reused:
            cells = slice(block * self._span, (block + 1) * self._span)
            self._counts.reshape(-1, self._outcomes)[cells] = 0
            self._sums[cells] = 0
            self._revision[cells] = 0
            self._changed[cells] = False
        return taken

    def _grow_pool(self, blocks: int) -> None:
        have = len(self._sums) // self._span
        if blocks <= have:
            return
        # Doubling a large pool would waste half of it: a quarter more is enough to be linear.
        cells = max(blocks, 64, have + have // 4) * self._span
        self._counts = _grown(self._counts, cells * self._outcomes)
        self._sums = _grown(self._sums, cells)
        if self._published:
            self._revision = _grown(self._revision, cells)
            self._changed = _grown(self._changed, cells)

    # -- reading -----------------------------------------------------------------------------

    def counts(self, rows: I64, first: int, number: int) -> I32:
        """Return int32[rows, number, counts], the counts of consecutive panes; 0 where nothing was.

        Args:
            rows: int64[r].
            first: number of the first pane.
            number: how many panes.
        """
        blocks, ids = self._blocks(rows, first, number)
        if number * 4 <= len(blocks) * self._span:
            panes = np.arange(first, first + number)
            cells = ids[:, panes // self._span - blocks[0]].astype(np.int64) * self._span
            few: I32 = self._counts.reshape(-1, self._outcomes)[cells + panes % self._span]
            return few
        whole: I32 = self._counts.reshape(-1, self._span, self._outcomes)[ids]
        skip = first - int(blocks[0]) * self._span
        return whole.reshape(len(rows), -1, self._outcomes)[:, skip : skip + number]

    def column(self, rows: I64, first: int, number: int, outcome: int) -> I32:
        """Return int32[rows, number]: one of the counts; see `counts`."""
        cells = self._consecutive(rows, first, number)
        found: I32 = self._counts[cells * self._outcomes + outcome]
        return found

    def sums(self, rows: I64, first: int, number: int) -> I64:
        """Return int64[rows, number, sums]: the sums of consecutive panes; see `counts`."""
        found: I64 = self._sums[self._consecutive(rows, first, number)]
        return found

    def _consecutive(self, rows: I64, first: int, number: int) -> I64:
        blocks, ids = self._blocks(rows, first, number)
        panes = np.arange(first, first + number)
        starts = ids[:, panes // self._span - blocks[0]].astype(np.int64) * self._span
        return starts + panes % self._span

    def _blocks(self, rows: I64, first: int, number: int) -> tuple[I64, I32]:
        blocks = np.arange(first // self._span, (first + number - 1) // self._span + 1)
        slots = blocks % self._ring
        ids = self._index[rows[:, None], slots]
        ids[:, self._owner[slots] != blocks] = 0
        return blocks, ids

    def values(self, rows: I64, panes: I64) -> tuple[I64, I64]:
        """Return counts int64[r, counts] and sums int64[r, sums] of single panes."""
        cells = self._existing(rows, panes)
        return self._counts.reshape(-1, self._outcomes)[cells].astype(np.int64), self._sums[cells]

    def alive(self, rows: int) -> NDArray[np.bool_]:
        """Return bool[rows]: whether a row has any pane."""
        found: NDArray[np.bool_] = np.any(self._index[:rows], axis=1)
        return found

    def _existing(self, rows: I64, panes: I64) -> I64:
        blocks = panes // self._span
        slots = blocks % self._ring
        found = np.where(self._owner[slots] == blocks, self._index[rows, slots], 0)
        return found.astype(np.int64) * self._span + panes % self._span

    # -- publishing --------------------------------------------------------------------------

    def changed_rows(self, pane: int) -> I64:
        """Return the rows whose pane changed since it was last published, ascending."""
        slot = pane // self._span % self._ring
        if self._owner[slot] != pane // self._span:
            return np.empty(0, np.int64)
        cells = self._index[:, slot].astype(np.int64) * self._span + pane % self._span
        return np.flatnonzero(self._changed[cells])

    def revisions(self, rows: I64, panes: I64) -> I64:
        """Return int64[r], how often single panes were published."""
        return self._revision[self._existing(rows, panes)].astype(np.int64)

    def publish(self, rows: I64, panes: I64, times: I64) -> None:
        """Count publications of panes, which then are not changed; those expired are left out.

        Args:
            rows: int64[r]; each (row, pane) once.
            panes: int64[r].
            times: int64[r], how often each is published now.
        """
        kept = self._existing(rows, panes) >= self._span
        cells = self._cells(rows[kept], panes[kept])
        self._revision[cells] += times[kept].astype(np.uint16)
        self._changed[cells] = False

    def change(self, rows: I64, panes: I64) -> None:
        """Say that panes, which exist, changed since they were published."""
        self._changed[self._existing(rows, panes)] = True

    # -- ageing ------------------------------------------------------------------------------

    def expire(self, before: int) -> list[PaneKey]:
        """Forget blocks that end at or before `before`, ms; return the stored keys among them."""
        old = (self._owner != _NOBODY) & (self._owner < before // (self._span * self.width))
        gone: list[PaneKey] = []
        for slot in np.flatnonzero(old).tolist():
            ids = self._index[:, slot]
            self._free += ids[ids > 0].tolist()
            self._index[:, slot] = 0
            places = slice(slot * self._span, (slot + 1) * self._span)
            gone += self._keys(self._stored, places)
            self._stored[places] = False
            self._dirty[places] = False
            self._owner[slot] = _NOBODY
        return gone

    # -- state -------------------------------------------------------------------------------

    def take_dirty(self) -> list[PaneKey]:
        """Return what changed since the last call; it counts as stored from then on."""
        if not self._is_dirty:
            return []
        keys = self._keys(self._dirty, slice(None))
        self._stored |= self._dirty
        self._dirty[:] = False
        self._is_dirty = False
        return keys

    def dump(self, key: PaneKey) -> PaneRows:
        """Return the rows with anything in a pane."""
        pane = key.start // self.width
        rows = np.arange(key.bucket * BUCKET, min((key.bucket + 1) * BUCKET, len(self._index)))
        cells = self._existing(rows, np.full(len(rows), pane))
        keep = self._counts.reshape(-1, self._outcomes)[cells].any(axis=1)
        rows, cells = rows[keep], cells[keep]
        none = np.zeros(len(rows), np.int64)
        return PaneRows(
            rows=rows,
            counts=self._counts.reshape(-1, self._outcomes)[cells].astype(np.int64),
            sums=self._sums[cells],
            revision=self._revision[cells].astype(np.int64) if self._published else none,
            changed=self._changed[cells] if self._published else none.astype(np.bool_),
        )

    def load(self, start: int, stored: PaneRows) -> None:
        """Add what `dump` gave, to panes that may have something already."""
        if not len(stored.rows):
            return
        cells = self._cells(stored.rows, np.full(len(stored.rows), start // self.width))
        np.add.at(self._counts.reshape(-1, self._outcomes), cells, stored.counts.astype(np.int32))
        if self._sums.shape[1]:
            self._sums[cells] += stored.sums
        if self._published:
            self._revision[cells] = stored.revision.astype(np.uint16)
            self._changed[cells] = stored.changed

    def settle(self) -> None:
        """Count all that was loaded as stored."""
        self.take_dirty()

    @property
    def nbytes(self) -> int:
        """Memory of all arrays."""
        arrays = (self._index, self._counts, self._sums, self._revision, self._changed)
        return sum(array.nbytes for array in (*arrays, self._dirty, self._stored))

    def _keys(self, marks: NDArray[np.bool_], places: slice) -> list[PaneKey]:
        found = np.argwhere(marks[places])
        found[:, 0] += places.start or 0
        keys: list[PaneKey] = []
        for place, bucket in found.tolist():
            slot, offset = divmod(place, self._span)
            pane = int(self._owner[slot]) * self._span + offset
            keys.append(PaneKey(bucket, pane * self.width))
        return keys


def _grown(array: NDArray[T], rows: int) -> NDArray[T]:
    """Return a longer copy, zero beyond the old end."""
    longer = np.zeros((rows, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer
