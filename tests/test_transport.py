"""The private parts of aiokafka that the transport stands on, and the batches it makes of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from aiokafka.consumer.fetcher import (
    READ_COMMITTED,
    READ_UNCOMMITTED,
    FetchResult,
    PartitionRecords,
)
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from streams import transport
from streams.transport import Cursor

TP = TopicPartition("tasks", 3)


def kafka_batch(
    first: int, values: list[bytes], *, producer: int = -1, transactional: bool = False
) -> bytes:
    """Return a Kafka v2 record batch that begins at offset `first`."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=transactional,
        producer_id=producer,
        producer_epoch=0 if producer >= 0 else -1,
        base_sequence=0,
        batch_size=1_000_000,
    )
    for number, value in enumerate(values):
        builder.append(number, timestamp=1000 + number, key=b"k", value=value, headers=[])
    data = bytearray(builder.build())
    data[0:8] = first.to_bytes(8, "big")
    return bytes(data)


class Taker:
    """Just enough of the consumer thread to turn one fetch into batches."""

    def __init__(self, cursor: Cursor, position: int) -> None:
        self._cursors = {TP: cursor}
        self.state = SimpleNamespace(paused=False, position=position, consumed_to=self._move)
        self.assignment = SimpleNamespace(active=True, state_value=lambda _: self.state)

    def _move(self, position: int) -> None:
        self.state.position = position

    def take(self, data: bytes, isolation: int = READ_COMMITTED, aborted: Any = None) -> list[Any]:
        records = PartitionRecords(
            TP, MemoryRecords(data), aborted, self.state.position, None, None, True, isolation
        )
        result = FetchResult(TP, assignment=self.assignment, partition_records=records, backoff=0)
        take = transport.BatchConsumerThread._take
        return take(self, TP, result)  # type: ignore[arg-type]


def test_a_fetch_becomes_one_batch_with_its_range() -> None:
    taker = Taker(Cursor(7, 100), 100)
    [batch] = taker.take(kafka_batch(100, [b"a", b"b"]) + kafka_batch(102, [b"c"]))
    assert (batch.fetch_from, batch.next_offset, batch.incarnation) == (100, 103, 7)
    assert batch.values == [b"a", b"b", b"c"]
    np.testing.assert_array_equal(batch.offsets, [100, 101, 102])


def test_the_position_moves_past_the_fetch() -> None:
    taker = Taker(Cursor(1, 100), 100)
    taker.take(kafka_batch(100, [b"a", b"b"]))
    assert taker.state.position == 102
    assert taker._cursors[TP] == Cursor(1, 102)


def test_records_below_the_position_are_left_out() -> None:
    [batch] = Taker(Cursor(1, 101), 101).take(kafka_batch(100, [b"a", b"b"]))
    assert batch.values == [b"b"]


def test_aborted_transactions_are_left_out_and_their_offsets_covered() -> None:
    data = kafka_batch(100, [b"x", b"y"], producer=5, transactional=True) + kafka_batch(102, [b"c"])
    [batch] = Taker(Cursor(1, 100), 100).take(data, aborted=[(5, 100)])
    assert batch.values == [b"c"]
    assert (batch.fetch_from, batch.next_offset) == (100, 103)


def test_a_read_of_uncommitted_records_would_see_them() -> None:
    data = kafka_batch(100, [b"x"], producer=5, transactional=True)
    [batch] = Taker(Cursor(1, 100), 100).take(data, READ_UNCOMMITTED, [(5, 100)])
    assert batch.values == [b"x"]


def test_a_large_fetch_is_cut_into_batches_that_join_up() -> None:
    size = transport.MAX_BATCH_RECORDS // 2
    data = b"".join(kafka_batch(n * size, [b"v"] * size) for n in range(5))
    batches = Taker(Cursor(1, 0), 0).take(data)
    assert len(batches) == 3
    edges = [(batch.fetch_from, batch.next_offset) for batch in batches]
    assert edges == [(0, 2 * size), (2 * size, 4 * size), (4 * size, 5 * size)]


def test_the_gaps_of_a_compacted_batch_lie_inside_its_range() -> None:
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=False,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=0,
        batch_size=1_000_000,
    )
    for offset in (0, 3, 9):
        builder.append(offset, timestamp=1000, key=b"k", value=b"v", headers=[])
    [batch] = Taker(Cursor(1, 0), 0).take(bytes(builder.build()))
    assert (batch.fetch_from, batch.next_offset) == (0, 10)
    np.testing.assert_array_equal(batch.offsets, [0, 3, 9])


def test_a_partition_without_a_cursor_gives_nothing() -> None:
    taker = Taker(Cursor(1, 100), 100)
    taker._cursors.clear()
    assert taker.take(kafka_batch(100, [b"a"])) == []


def test_small_fetches_are_taken_first() -> None:
    def fetched(values: list[bytes]) -> FetchResult:
        records = PartitionRecords(
            TP, MemoryRecords(kafka_batch(0, values)), None, 0, None, None, True, READ_COMMITTED
        )
        return FetchResult(TP, assignment=None, partition_records=records, backoff=0)

    sizes = [transport._size(fetched([b"v"] * count)) for count in (1000, 1)]
    assert sizes[0] > sizes[1] > transport._size(object()) == 0


def test_a_fetch_that_no_longer_fits_the_position_gives_nothing() -> None:
    taker = Taker(Cursor(1, 100), 100)
    taker.state.position = 50
    records = PartitionRecords(
        TP, MemoryRecords(kafka_batch(100, [b"a"])), None, 100, None, None, True, READ_COMMITTED
    )
    result = FetchResult(TP, assignment=taker.assignment, partition_records=records, backoff=0)
    assert transport.BatchConsumerThread._take(taker, TP, result) == []  # type: ignore[arg-type]
