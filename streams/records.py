"""Kafka record batches read in bounded memory, whatever is in them.

aiokafka unpacks a batch whole, however large it gets; it gives up a batch for one header name that
is not UTF-8, and with it the partition, for ever. Here a batch comes in `Rows`, bounded each, and
what cannot be read is a row too, marked with the reason: so every offset is accounted for and the
partition goes on.

Nearly all records are small, and aiokafka's own reader in C reads them, a chunk at a time. Records
of more than `SMALL` bytes, and chunks it refuses, are read field by field in Python. What becomes
of a record is the same either way. Batches older than v2 are left to aiokafka.
"""

from __future__ import annotations

import struct
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.record.default_records import DefaultRecordBatch

from streams.record_stream import (
    CHUNK,
    CODEC,
    HEADER,
    WORK,
    Frame,
    PlainStream,
    RecordError,
    RecordStream,
    Scratch,
    UnpackedStream,
)
from streams.rows import HEADER_COST, KEPT, ROWS_COST, SMALL, Limits, Row, Rows
from streams.unpacking import NONE, DamagedError, pieces

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from streams.batch import Header

CHUNK_RECORDS = 8192
"""Records that aiokafka is given at once, where it is not given a whole batch."""
WHOLE_RECORDS = 32_768
"""Records of a batch given to aiokafka without looking for their borders first."""
MAX_HEADERS = 128
MAX_HEADER_BYTES = 64 * 1024
"""The first headers of a record, up to that many and that large; the rest are left out."""
LEAST_RECORD = 7
"""Bytes of a record with nothing in it."""
FEW = 16
"""Records that are read in Python rather than looking for the odd one."""

_APPEND_TIME = 0x08
_COUNT, _COUNT_AT = struct.Struct(">i"), HEADER.size - 4
_INT64 = 1 << 63


class BatchHeader(NamedTuple):
    """The header of a v2 batch, as it stands on the wire."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    first_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int

    @property
    def last_offset(self) -> int:
        """Offset of the last record, also where compaction took it."""
        return self.base_offset + max(self.last_offset_delta, 0)

    def plain(self, records: int) -> bytes:
        """Return the header of a batch of that many of these records, not compressed."""
        return HEADER.pack(*self._replace(attributes=self.attributes & ~CODEC, records=records))


def read_at_once(data: memoryview, batch: Any, scratch: Scratch, limits: Limits) -> Rows | None:
    """Return all records of a v2 batch if they are few and small, as nearly always.

    What this does not give, `BatchReader` reads.

    Args:
        data: the batch as it came over the wire, whole and with the right checksum.
        batch: the same in aiokafka's reader.
        scratch: of the consumer.
        limits: what may be held in memory.
    """
    plain = data
    if batch.attributes & CODEC:
        view = scratch.view(data)
        if view is None:
            return None
        plain, batch = view, DefaultRecordBatch(view)
    size = len(plain) - HEADER.size
    if size > CHUNK or (size > SMALL and _COUNT.unpack_from(data, _COUNT_AT)[0] > WHOLE_RECORDS):
        return None
    rows = _within(_read(batch), batch.base_offset, batch.next_offset, size)
    if rows is None or size <= SMALL:
        return rows
    # Larger records are well here, if only their content keeps the limit, and they have no headers.
    if any(rows.headers):
        count, _ = PlainStream(plain, HEADER.size).walk(len(rows))
        return rows if count == len(rows) else None
    if size - LEAST_RECORD * len(rows) > limits.value:
        keys, values = (
            max(map(len, filter(None, of)), default=0) for of in (rows.keys, rows.values)
        )
        return rows if keys + values <= limits.value else None
    return rows


class SmallBatches:
    """Whole small batches in a row, made rows together: that is quicker than each for itself.

    Args:
        scratch: of the consumer.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self.clear()

    def clear(self) -> None:
        """Begin with none."""
        self.batches: list[memoryview] = []
        self.following = 0
        self._found: list[Any] = []
        self._expected: list[int] = []
        self._size = 0

    @property
    def full(self) -> bool:
        """Whether it is time to take what is there."""
        return self._size > CHUNK // 4 or len(self._found) >= CHUNK_RECORDS

    def add(self, data: memoryview, batch: Any) -> bool:
        """Add a batch, unless it is not small or may be odd; return whether it was added."""
        if batch.attributes & CODEC:
            view = self._scratch.view(data)
            if view is None or len(view) > SMALL:
                return False
            found = _read(DefaultRecordBatch(view))
        elif len(data) > SMALL:
            return False
        else:
            view, found = data, _read(batch)
        expected = range(batch.base_offset, batch.next_offset)
        if not found or len(found) != len(expected):
            return False
        self.batches.append(data)
        self._found += found
        self._expected += expected
        self._size += len(view)
        self.following = expected.stop
        return True

    def rows(self) -> Rows | None:
        """Return the records of all; None where they must be looked at batch by batch."""
        offsets: list[int] | range = [one.offset for one in self._found]
        if offsets != self._expected:
            return None
        if offsets[-1] - offsets[0] == len(offsets) - 1:
            offsets = range(offsets[0], offsets[-1] + 1)
        return _rows(self._found, offsets, self._size)


def _read(batch: Any) -> list[Any] | None:
    """Return the records of a batch as aiokafka's reader gives them, None where it fails."""
    try:
        return list(batch)
    except Exception:  # noqa: BLE001 - whatever it is, the other way tells what is wrong
        return None


def _within(found: list[Any] | None, first: int, following: int, size: int) -> Rows | None:
    """Return records as rows; None where they have impossible offsets.

    Args:
        found: records of aiokafka's reader.
        first: the least offset they may have.
        following: the least that is too large.
        size: of the records, bytes.
    """
    if found is None:
        return None
    offsets = [one.offset for one in found]
    expected = range(first, first + len(found))
    if expected.stop <= following and offsets == list(expected):
        return _rows(found, expected, size)
    return _rows(found, offsets, size) if _possible(offsets, first, following) else None


def _rows(found: list[Any], offsets: list[int] | range, size: int) -> Rows:
    headers: list[list[Header]] = [one.headers for one in found]
    if any(headers):
        if max(map(len, headers)) > MAX_HEADERS:
            headers = [some[:MAX_HEADERS] for some in headers]
        size += HEADER_COST * sum(map(len, headers))
    return Rows(
        offsets,
        [one.timestamp for one in found],
        [one.key for one in found],
        [one.value for one in found],
        headers,
        cost=size,
    )


def _possible(offsets: list[int], first: int, following: int) -> bool:
    """Say whether offsets ascend, from `first` on and below `following`."""
    ascending = all(one < other for one, other in pairwise(offsets))
    return ascending and (not offsets or (first <= offsets[0] and offsets[-1] < following))


class BatchReader:
    """Reads one v2 batch.

    Iterate over it for its `Rows`, some of which may be empty; unpacking goes on where it was.

    Args:
        data: the batch as it came over the wire, whole and with the right checksum.
        scratch: of the consumer.
        limits: what may be held in memory.
    """

    def __init__(self, data: memoryview, scratch: Scratch, limits: Limits) -> None:
        self.header = BatchHeader(*HEADER.unpack_from(data))
        self._data, self._scratch, self._limits = data, scratch, limits
        self._next = self.header.base_offset
        self._left = self.header.records

    def __iter__(self) -> Iterator[Rows]:
        """Yield the records in bounded steps."""
        stream, most, last = self._open(), CHUNK_RECORDS, self.header.last_offset
        # More records than offsets cannot be told apart by anyone: those are left.
        while self._left > 0 and self._next <= last:
            count, size = stream.walk(min(self._left, most))
            if count and (rows := self._fast(stream.peek(size), count)) is not None:
                stream.at += size
                # Many headers make much of few bytes: then less at a time.
                fitting = 2 * count * ROWS_COST // max(rows.cost, ROWS_COST)
                most = min(2 * most, max(fitting, FEW), CHUNK_RECORDS)
                yield rows
            elif count > FEW:
                most = count // 8  # one of them is odd: come closer to it
            else:
                yield from self._one_by_one(stream, max(count, 1))
            stream.work = 0
        if self._next <= last and stream.fill(1):
            rows = Rows()
            self._give_up(rows, f"it claims to have {self.header.records} records, and has more")
            yield rows

    def _open(self) -> RecordStream:
        codec = self.header.attributes & CODEC
        if codec == NONE:
            return PlainStream(self._data, HEADER.size)
        again = partial(self._scratch.view, self._data)
        if (view := again()) is None:
            return RecordStream(pieces(codec, self._data[HEADER.size :]))
        return UnpackedStream(view, HEADER.size, again)

    def _fast(self, records: bytes, count: int) -> Rows | None:
        """Read whole records with aiokafka; None where one must be looked at."""
        batch = DefaultRecordBatch(self.header.plain(count) + records)
        following = min(self._latest() + count, self.header.last_offset + 1)
        rows = _within(_read(batch), self._next, following, len(records))
        if rows is not None:
            self._next = rows.offsets[-1] + 1
            self._left -= count
        return rows

    def _one_by_one(self, stream: RecordStream, count: int) -> Iterator[Rows]:
        """Read `count` records in Python."""
        rows = Rows()
        try:
            while count and self._next <= self.header.last_offset:
                reading = self._record(stream)
                row = None
                while row is None:
                    row = next(reading)
                    if row is None:
                        yield Rows(cost=WORK)
                        stream.work = 0
                rows.add(row)
                self._next = row.offset + 1
                self._left -= 1
                count -= 1
                if rows.cost > CHUNK:
                    yield rows
                    rows = Rows()
        except DamagedError as error:
            self._give_up(rows, str(error))
        yield rows

    def _give_up(self, rows: Rows, reason: str) -> None:
        """Add a row that stands for all the offsets that are left."""
        last = self.header.last_offset
        reason = f"offsets {self._next} to {last}: {reason}"
        rows.add(Row(self._next, self.header.max_timestamp, unreadable=reason))
        self._next, self._left = last + 1, 0

    def _record(self, stream: RecordStream) -> Iterator[Row | None]:
        """Read one record; yields None whenever that takes long, and the record at last."""
        header = self.header
        frame = Frame(stream)
        row = Row(self._next, header.max_timestamp)
        try:
            yield from frame.take(1, 1)  # attributes, of which none is in use
            delta = frame.number()
            if not header.attributes & _APPEND_TIME:
                row.timestamp = _wrapped(header.first_timestamp + delta)
            row.offset = header.base_offset + frame.number()
            row = yield from self._content(frame, row)
            yield from _headers(frame, row)
        except RecordError as error:
            row.unreadable = str(error)
            yield from frame.rest()
        latest = self._latest()
        if not self._next <= row.offset <= latest:
            wrong = f"it claims offset {row.offset}, possible are {self._next} to {latest}"
            row.unreadable = row.unreadable or wrong
            row.offset = self._next
        yield row

    def _latest(self) -> int:
        """Return the last offset the next record can have: each one that is left needs its own."""
        return max(self._next, self.header.last_offset - self._left + 1)

    def _content(self, frame: Frame, row: Row) -> Generator[None, None, Row]:
        """Read key and value."""
        limit = self._limits.value
        key_size = frame.number()
        if key_size >= 0:
            row.key = yield from frame.take(key_size, key_size if key_size <= limit else KEPT)
        value_size = frame.number()
        total = max(key_size, 0) + max(value_size, 0)
        if value_size >= 0:
            row.value = yield from frame.take(value_size, KEPT if total > limit else value_size)
        if total > limit:
            return row.cut(total)
        return row


def _headers(frame: Frame, row: Row) -> Generator[None, None, None]:
    """Read the first headers of a record, and skip the rest without looking at them."""
    room = MAX_HEADER_BYTES
    count = frame.number()
    if count < 0:
        raise RecordError(f"it claims {count} headers")
    for _ in range(min(count, MAX_HEADERS)):
        size = frame.number()
        if size < 0:
            raise RecordError("a header has no name")
        room -= size
        if room < 0:
            break
        name = yield from frame.take(size, size)
        size = frame.number()
        room -= max(size, 0)
        if room < 0:
            break
        value = (yield from frame.take(size, size)) if size >= 0 else None
        row.headers.append((name.decode("utf-8", "backslashreplace"), value))
    if frame.left and len(row.headers) == count:
        raise RecordError(f"{frame.left} bytes are left over behind its headers")
    yield from frame.rest()


def _wrapped(number: int) -> int:
    """Return what is left of a number in 64 bits, as in C and Java."""
    return (number + _INT64) % (2 * _INT64) - _INT64
