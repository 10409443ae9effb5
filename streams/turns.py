"""What a partition gives each time it has its turn: bounded batches that join up.

A fetch that unpacks to much is taken in several turns, and other partitions have theirs in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.batch import FetchedBatch
from streams.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka.structs import TopicPartition
    from numpy.typing import NDArray

    from streams.consumer import PartitionRecords

#: A fetch of well compressed records is cut into batches of at most this many, so that no fold
#: holds the event loop for long.
MAX_BATCH_RECORDS = 8192

#: About the unpacked bytes after which a partition's turn ends, and with it its newest batch.
MAX_BATCH_BYTES = 16 * 1024 * 1024

#: Records after which a partition's turn ends.
TURN_RECORDS = 8 * MAX_BATCH_RECORDS

#: Bytes after which all partitions together have had their turn.
TURN_BYTES = 32 * 1024 * 1024


class Cursor(NamedTuple):
    """Where the next batch of a partition starts, and the seek that it follows."""

    incarnation: int
    offset: int


class Turn(NamedTuple):
    """What was taken of a fetch at once.

    Attributes:
        batches: of it, in order.
        size: about the bytes they take.
        finished: whether nothing is left of the fetch.
    """

    batches: Sequence[FetchedBatch] = ()
    size: int = 0
    finished: bool = True


class Making:
    """Batches in the making from a fetch of one partition."""

    def __init__(self, tp: TopicPartition, cursor: Cursor, fetched_at: float) -> None:
        self.cursor = cursor
        self.size = 0
        self._tp, self._fetched_at = tp, fetched_at
        self._rows, self._following = Rows(), cursor.offset
        self._records = 0
        self._made: list[FetchedBatch] = []

    def take(self, records: PartitionRecords) -> bool:
        """Take a turn's worth of records; return whether these were the last."""
        for rows, following in records.pieces:
            records.next_fetch_offset = following
            self._following = following
            self.size += rows.cost
            if rows.offsets:
                self._records += len(rows.offsets)
                self._add(rows)
            if self.size >= MAX_BATCH_BYTES or self._records >= TURN_RECORDS:
                return False
        return True

    def _add(self, rows: Rows) -> None:
        if self._rows.offsets:
            self._rows.extend(rows)
        else:
            self._rows = rows
        while len(self._rows) > MAX_BATCH_RECORDS:
            first = self._rows.split(MAX_BATCH_RECORDS)
            self._close(first, first.offsets[-1] + 1)

    def done(self) -> list[FetchedBatch]:
        """Return the batches; together they cover all offsets that were read."""
        if self._rows or self._following > self.cursor.offset:
            self._close(self._rows, self._following)
        return self._made

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
