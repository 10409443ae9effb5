"""What is taken of a partition at a time: bounded batches that join up.

A fetch that unpacks to much is taken in several portions, and other partitions come in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.batch import FetchedBatch
from streams.rows import ROWS_COST, Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka.structs import TopicPartition
    from numpy.typing import NDArray

    from streams.consumer import PartitionRecords

#: A fetch of well compressed records is cut into batches of at most this many, so that no fold
#: holds the event loop for long.
MAX_BATCH_RECORDS = 8192

#: A portion is at an end after that many.
PORTION_RECORDS = 8 * MAX_BATCH_RECORDS


class Cursor(NamedTuple):
    """Where the next batch of a partition starts, and the seek that it follows."""

    incarnation: int
    offset: int


class Portion(NamedTuple):
    """What was taken of a fetch at once.

    Attributes:
        batches: of it, in order.
        size: about the bytes they take.
        last: whether nothing is left of the fetch.
    """

    batches: Sequence[FetchedBatch] = ()
    size: int = 0
    last: bool = True


class PortionBuilder:
    """A portion in the making, from a fetch of one partition.

    Attributes:
        cursor: behind what is made so far.
    """

    def __init__(self, tp: TopicPartition, cursor: Cursor, fetched_at: float) -> None:
        self.cursor = cursor
        self._tp, self._fetched_at = tp, fetched_at
        self._rows, self._following = Rows(), cursor.offset
        self._size = self._records = 0
        self._last = True
        self._made: list[FetchedBatch] = []

    def take(self, records: PartitionRecords) -> None:
        """Take records until the portion is large enough, and move their position."""
        self._last = False
        for rows, following in records.pieces:
            # Never back: a fetch may begin behind the end of what it brings.
            self._following = max(following, records.next_fetch_offset)
            records.next_fetch_offset = self._following
            self._size += rows.cost
            if rows.offsets:
                self._records += len(rows.offsets)
                self._add(rows)
            if self._size >= ROWS_COST or self._records >= PORTION_RECORDS:
                return
        self._last = True

    def _add(self, rows: Rows) -> None:
        if self._rows.offsets:
            self._rows.extend(rows)
        else:
            self._rows = rows
        count = len(self._rows)
        # Some of these wait in queues, so each has a part of what all cost.
        most = min(MAX_BATCH_RECORDS, max(1, count * ROWS_COST // max(self._rows.cost, 1)))
        while len(self._rows) > most:
            first = self._rows.split(most)
            self._close(first, first.offsets[-1] + 1)

    def done(self, *, broken: bool) -> Portion:
        """Return the portion; its batches together cover all offsets that were read.

        Args:
            broken: whether nothing more can be read of the fetch.
        """
        if self._rows or self._following > self.cursor.offset:
            self._close(self._rows, self._following)
        return Portion(self._made, self._size, last=self._last or broken)

    def _close(self, rows: Rows, following: int) -> None:
        batch = FetchedBatch(
            topic=self._tp.topic,
            partition=self._tp.partition,
            incarnation=self.cursor.incarnation,
            fetch_from=self.cursor.offset,
            next_offset=following,
            offsets=_array(rows.offsets),
            timestamps=_array(rows.timestamps),
            keys=rows.keys,
            values=rows.values,
            headers=rows.headers,
            fetched_at=self._fetched_at,
            oversize=rows.oversize,
            unreadable=rows.unreadable,
        )
        self._made.append(batch)
        self.cursor = self.cursor._replace(offset=following)


def _array(numbers: list[int] | range) -> NDArray[np.int64]:
    if isinstance(numbers, range):
        return np.arange(numbers.start, numbers.stop, dtype=np.int64)
    return np.array(numbers, np.int64)
