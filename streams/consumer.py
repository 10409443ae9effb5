"""An aiokafka consumer that reads whatever is in a topic in bounded memory; see `streams.records`.

How it gets there: aiokafka's fetcher builds `MemoryRecords` and `PartitionRecords` from every
answer, by their names in its module. One method does so, and here each fetcher gets a copy of it in
which the two names mean the classes below. Nothing of aiokafka is changed for other consumers of
the process, and nothing is copied by hand; `tests/test_consumer.py` holds what this stands on.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from functools import partial
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import aiokafka
from aiokafka.consumer import fetcher as fetching
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from streams.record_stream import HEADER, Scratch
from streams.records import BatchReader, SmallBatches, read_at_once
from streams.rows import Limits, Row, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

UNREADABLE = "unreadable"
"""Header that `getone` and `getmany` give a record that cannot be read: why."""

_LENGTH = struct.Struct(">8xi")
_MAGIC_AT, V2 = 16, 2
_LEAST = {0: 26, 1: 34, 2: HEADER.size}
"""Bytes of an empty batch, by its format."""


class FetchedRecords:
    """The batches of one fetch of one partition, in the place of aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    def size_in_bytes(self) -> int:
        """Return the bytes that are not read yet."""
        return len(self._data) - self._at

    def has_next(self) -> bool:
        """Say whether a whole batch is ahead; the last one of a fetch may be cut."""
        ahead = len(self._data) - self._at
        return ahead > _MAGIC_AT and _LENGTH.unpack_from(self._data, self._at)[0] + 12 <= ahead

    def next_batch(self) -> memoryview | None:
        """Return the next batch as it came over the wire, None behind the last whole one.

        Raises:
            CorruptRecordException: it is shorter than a batch can be.
        """
        at, data = self._at, self._data
        if not self.has_next():
            return None
        length = _LENGTH.unpack_from(data, at)[0] + 12
        if length < (least := _LEAST.get(data[at + _MAGIC_AT], HEADER.size)):
            raise CorruptRecordException(f"A batch claims {length} bytes, each has {least} or more")
        self._at += length
        return self._data[at : self._at]


class PartitionRecords(fetching.PartitionRecords):  # type: ignore[misc]
    """What one fetch brought from one partition, in the place of aiokafka's class of that name.

    Args:
        given: what aiokafka gives.
        scratch: of the consumer.
        limits: what may be held in memory.
    """

    def __init__(self, *given: Any, scratch: Scratch, limits: Limits) -> None:
        super().__init__(*given)
        self._scratch, self._limits = scratch, limits
        self.pieces = self._pieces()

    @property
    def size(self) -> int:
        """Bytes that are not read yet, as fetched."""
        return int(self._records.size_in_bytes())

    def _pieces(self) -> Iterator[tuple[Rows, int]]:
        """Yield records and the offset that follows them; who takes them moves the position.

        What a read-committed consumer does not see is skipped as in aiokafka.
        """
        small = SmallBatches(self._scratch)
        try:
            while (data := self._records.next_batch()) is not None:
                batch = self._opened(data)
                hidden = self._hidden(batch)
                if not hidden and data[_MAGIC_AT] == V2 and small.add(data, batch):
                    if small.full:
                        yield from self._together(small)
                    continue
                yield from self._together(small)
                yield from [(Rows(), _end(batch))] if hidden else self._alone(data, batch)
        except CorruptRecordException:
            yield from self._together(small)
            raise
        yield from self._together(small)

    def _opened(self, data: memoryview) -> Any:
        """Return a batch as aiokafka's reader."""
        if data[_MAGIC_AT] < V2:
            batch = MemoryRecords(bytes(data)).next_batch()
        else:
            batch = DefaultRecordBatch(data)
        if self._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"Invalid CRC - {self._tp}")
        return batch

    def _together(self, small: SmallBatches) -> Iterator[tuple[Rows, int]]:
        if not small.batches:
            return
        rows = small.rows()
        if rows is not None:
            yield self._needed(rows), small.following
        else:
            for data in small.batches:
                yield from self._alone(data, DefaultRecordBatch(data))
        small.clear()

    def _alone(self, data: memoryview, batch: Any) -> Iterator[tuple[Rows, int]]:
        if data[_MAGIC_AT] < V2:
            yield self._needed(_old(batch, self._limits)), _end(batch)
            return
        rows = read_at_once(data, batch, self._scratch, self._limits)
        if rows is not None:
            yield self._needed(rows), _end(batch)
            return
        for some in BatchReader(data, self._scratch, self._limits):
            rows = self._needed(some)
            yield rows, rows.offsets[-1] + 1 if rows else self.next_fetch_offset
        yield Rows(), _end(batch)

    def _needed(self, rows: Rows) -> Rows:
        """Leave out what lies below the position: a fetch may begin inside a batch."""
        if rows.offsets and rows.offsets[0] < self.next_fetch_offset:
            rows.split(bisect_left(rows.offsets, self.next_fetch_offset))
        return rows

    def _hidden(self, batch: Any) -> bool:
        """Say whether nobody should see the records of a batch, and note what it tells."""
        if self._isolation_level == fetching.READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and _aborts(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return bool(batch.is_control_batch)

    def _unpack_records(self) -> Iterator[Any]:
        """Yield the records one by one: `getone` and `getmany` call this."""
        for rows, following in self.pieces:
            for number, offset in enumerate(rows.offsets):
                self.next_fetch_offset = offset + 1
                yield self._consumer_record(self._tp, _Record(rows, number))
            self.next_fetch_offset = max(self.next_fetch_offset, following)

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        made = super()._consumer_record(tp, record)
        if record.oversize is not None:
            size = record.oversize - max(made.serialized_key_size, 0)
            made.serialized_value_size = size
        return made


class _Record:
    """A record as aiokafka's `PartitionRecords` wants it."""

    checksum = None
    timestamp_type = 0

    def __init__(self, rows: Rows, number: int) -> None:
        self.offset = offset = rows.offsets[number]
        self.timestamp = rows.timestamps[number]
        self.key, self.value = rows.keys[number], rows.values[number]
        self.headers = rows.headers[number]
        self.oversize = rows.oversize.get(offset)
        if (why := rows.unreadable.get(offset)) is not None:
            self.headers = [*self.headers, (UNREADABLE, why.encode())]


def _end(batch: Any) -> int:
    """Return the offset that follows a batch; one that ends before it begins is of one record."""
    return int(max(batch.next_offset, getattr(batch, "base_offset", -1) + 1))


def _aborts(batch: Any) -> bool:
    """Say whether a control batch ends a transaction by dropping it.

    Compaction may leave a control batch empty; aiokafka stops the partition there.
    """
    marker = next(iter(batch), None)
    return marker is not None and ControlRecord.parse(marker.key) == ABORT_MARKER


def _old(batch: Any, limits: Limits) -> Rows:
    """Return the records of a batch older than v2."""
    rows = Rows()
    for one in batch:
        size = len(one.key or b"") + len(one.value or b"")
        row = Row(one.offset, -1 if one.timestamp is None else one.timestamp, one.key, one.value)
        rows.add(row.cut(size) if size > limits.value else row)
    return rows


class BoundedConsumer(aiokafka.AIOKafkaConsumer):  # type: ignore[misc]
    """An `AIOKafkaConsumer` whose fetches are read within limits.

    `getone` and `getmany` give a record of more than the limit with its value cut, and its true
    size as `serialized_value_size`; one that cannot be read has the header `UNREADABLE`. With
    `max_poll_records`, `getmany` is bounded in what it returns as well.

    Args:
        topics: as of the base class.
        limits: what may be held in memory.
        options: as of the base class.
    """

    def __init__(self, *topics: str, limits: Limits | None = None, **options: Any) -> None:
        self._limits = limits or Limits()
        super().__init__(*topics, **options)

    @property
    def _fetcher(self) -> Any:
        return self._bounded_fetcher

    @_fetcher.setter
    def _fetcher(self, fetcher: Any) -> None:
        # `start` makes the fetcher; no fetch is sent before it awaits again.
        self._bounded_fetcher = fetcher
        if fetcher is not None:
            _bound(fetcher, self._limits)


def _bound(fetcher: Any, limits: Limits) -> None:
    """Let a fetcher build the classes above from what it fetches."""
    original = fetching.Fetcher._proc_fetch_request  # noqa: SLF001
    records = partial(PartitionRecords, scratch=Scratch(limits.unpacked), limits=limits)
    names = vars(fetching) | {"MemoryRecords": FetchedRecords, "PartitionRecords": records}
    bounded = FunctionType(original.__code__, names, original.__name__, original.__defaults__)
    fetcher._proc_fetch_request = MethodType(bounded, fetcher)  # noqa: SLF001
