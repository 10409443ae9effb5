"""The private parts of aiokafka that the transport stands on, and the batches it makes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED, FetchError, FetchResult
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition

from streams import transport
from streams.consumer import FetchedRecords, PartitionRecords
from streams.portions import MAX_BATCH_RECORDS, PORTION_RECORDS, Cursor, Portion
from streams.record_stream import Scratch
from streams.rows import KEPT, Limits
from streams.transport import BatchConsumerThread
from tests.kafka_batches import batch, record

if TYPE_CHECKING:
    from collections.abc import Sequence

TP, OTHER, THIRD = (TopicPartition("tasks", number) for number in (3, 4, 5))
TRANSACTIONAL = 0x10


def kafka_batch(first: int, values: Sequence[bytes], *, producer: int = -1) -> bytes:
    """Return a Kafka v2 record batch that begins at offset `first`; transactional by a producer."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=producer >= 0,
        producer_id=producer,
        producer_epoch=0 if producer >= 0 else -1,
        base_sequence=0,
        batch_size=10_000_000,
    )
    for number, value in enumerate(values):
        builder.append(number, timestamp=1000 + number, key=b"k", value=value, headers=[])
    data = bytearray(builder.build())
    data[0:8] = first.to_bytes(8, "big")
    return bytes(data)


class Taker:
    """Just enough of the consumer thread to turn fetches into batches."""

    def __init__(self, cursor: Cursor, *others: TopicPartition) -> None:
        self._cursors = dict.fromkeys((TP, *others), cursor)
        self._missed: set[TopicPartition] = set()
        self._unfinished = False
        self.errors: list[Exception] = []
        self.states = {tp: State(cursor.offset) for tp in self._cursors}
        self.assignment = SimpleNamespace(active=True, state_value=self.states.__getitem__)
        self.fetcher = SimpleNamespace(
            _records={}, _notify=lambda _: None, _wait_consume_future=None
        )

    @property
    def position(self) -> int:
        return self.states[TP].position

    def _report(self, tp: TopicPartition, error: Exception) -> None:
        assert tp in self._cursors
        self.errors.append(error)

    def _take(self, tp: TopicPartition, result: Any) -> Portion:
        return BatchConsumerThread._take(self, tp, result)  # type: ignore[arg-type]

    def fetched(
        self, data: bytes, at: TopicPartition = TP, level: int = READ_COMMITTED, aborted: Any = None
    ) -> Any:
        given = (FetchedRecords(data), aborted, self.states[at].position, None, None, True, level)
        records = PartitionRecords(at, *given, scratch=Scratch(1 << 20), limits=Limits())
        return FetchResult(at, assignment=self.assignment, partition_records=records, backoff=0)

    def take(self, data: bytes, level: int = READ_COMMITTED, aborted: Any = None) -> list[Any]:
        return list(self._take(TP, self.fetched(data, TP, level, aborted)).batches)

    def drain(self) -> list[Any]:
        return BatchConsumerThread._drain(self, self.fetcher)  # type: ignore[arg-type]


class State:
    """The position of a partition as aiokafka keeps it."""

    paused = False

    def __init__(self, position: int) -> None:
        self.position = position

    def consumed_to(self, position: int) -> None:
        self.position = position


def edges(batches: Sequence[Any]) -> list[tuple[int, int]]:
    return [(one.fetch_from, one.next_offset) for one in batches]


def test_a_fetch_becomes_one_batch_with_its_range() -> None:
    taker = Taker(Cursor(7, 100))
    [one] = taker.take(kafka_batch(100, [b"a", b"b"]) + kafka_batch(102, [b"c"]))
    assert (one.fetch_from, one.next_offset, one.incarnation) == (100, 103, 7)
    assert one.values == [b"a", b"b", b"c"]
    np.testing.assert_array_equal(one.offsets, [100, 101, 102])


def test_the_position_moves_past_the_fetch() -> None:
    taker = Taker(Cursor(1, 100))
    taker.take(kafka_batch(100, [b"a", b"b"]))
    assert taker.position == 102
    assert taker._cursors[TP] == Cursor(1, 102)


def test_records_below_the_position_are_left_out() -> None:
    [one] = Taker(Cursor(1, 101)).take(kafka_batch(100, [b"a", b"b"]))
    assert one.values == [b"b"]
    assert edges([one]) == [(101, 102)]


def test_aborted_transactions_are_left_out_and_their_offsets_covered() -> None:
    data = kafka_batch(100, [b"x", b"y"], producer=5) + kafka_batch(102, [b"c"])
    [one] = Taker(Cursor(1, 100)).take(data, aborted=[(5, 100)])
    assert one.values == [b"c"]
    assert edges([one]) == [(100, 103)]


def test_a_read_of_uncommitted_records_would_see_them() -> None:
    data = kafka_batch(100, [b"x"], producer=5)
    [one] = Taker(Cursor(1, 100)).take(data, READ_UNCOMMITTED, [(5, 100)])
    assert one.values == [b"x"]


def test_a_large_fetch_is_cut_into_batches_that_join_up() -> None:
    size = MAX_BATCH_RECORDS // 2 + 1
    data = b"".join(kafka_batch(n * size, [b"v"] * size) for n in range(5))
    batches = Taker(Cursor(1, 0)).take(data)
    assert [len(one) for one in batches] == [MAX_BATCH_RECORDS] * 2 + [MAX_BATCH_RECORDS // 2 + 5]
    assert edges(batches) == [(0, 8192), (8192, 16384), (16384, 5 * size)]
    np.testing.assert_array_equal(
        np.concatenate([one.offsets for one in batches]), np.arange(5 * size)
    )


def test_the_gaps_of_a_compacted_batch_lie_inside_its_range() -> None:
    data = batch([record(delta) for delta in (0, 3, 9)], last_delta=11)
    [one] = Taker(Cursor(1, 0)).take(data)
    assert edges([one]) == [(0, 12)]
    np.testing.assert_array_equal(one.offsets, [0, 3, 9])


def test_a_batch_of_which_compaction_left_nothing_is_passed() -> None:
    taker = Taker(Cursor(1, 0))
    [one] = taker.take(batch([], last_delta=6))
    assert (len(one), *edges([one])) == (0, (0, 7))
    assert taker.position == 7


def test_a_partition_without_a_cursor_gives_nothing() -> None:
    taker = Taker(Cursor(1, 100))
    taker._cursors.clear()
    assert taker.take(kafka_batch(100, [b"a"])) == []


def test_small_fetches_are_taken_first() -> None:
    taker = Taker(Cursor(1, 0), OTHER)
    taker.fetcher._records |= {
        TP: taker.fetched(kafka_batch(0, [b"v"] * 1000)),
        OTHER: taker.fetched(kafka_batch(0, [b"v"]), OTHER),
    }
    assert [one.partition for one in taker.drain()] == [4, 3]
    assert transport._size(object()) == 0


def test_a_fetch_that_no_longer_fits_the_position_gives_nothing() -> None:
    taker = Taker(Cursor(1, 100))
    result = taker.fetched(kafka_batch(100, [b"a"]))
    taker.states[TP].position = 50
    assert taker._take(TP, result) == Portion()


def test_what_unpacks_to_much_comes_in_portions_and_others_in_between() -> None:
    taker, count = Taker(Cursor(1, 0), OTHER), PORTION_RECORDS + 20_000
    large = batch([record(number, None, None) for number in range(count)], pack="zstd")
    taker.fetcher._records[TP] = taker.fetched(large)
    first = taker.drain()
    assert (taker._unfinished, sum(map(len, first))) == (True, PORTION_RECORDS)
    assert taker.position == PORTION_RECORDS == first[-1].next_offset

    between = batch([record(number) for number in range(500)], pack="zstd")
    taker.fetcher._records[OTHER] = taker.fetched(between, OTHER)
    rest = taker.drain()
    assert rest[0].partition == TP.partition
    assert sum(len(one) for one in rest if one.partition == OTHER.partition) == 500
    whole = [*first, *(one for one in rest if one.partition == TP.partition)]
    np.testing.assert_array_equal(np.concatenate([one.offsets for one in whole]), np.arange(count))
    assert max(map(len, whole)) <= MAX_BATCH_RECORDS
    assert not taker.fetcher._records
    assert not taker._unfinished


def test_who_was_left_out_comes_first_the_next_time() -> None:
    taker = Taker(Cursor(1, 0), OTHER, THIRD)
    large = [record(number, value=bytes(60_000)) for number in range(301)]
    for tp in (TP, OTHER, THIRD):
        data = batch(large[: 300 if tp != THIRD else 301])
        taker.fetcher._records[tp] = taker.fetched(data, tp)
    assert {one.partition for one in taker.drain()} == {3, 4}
    taker.fetcher._records[TP] = taker.fetched(batch([record(0)], first=300))
    assert taker.drain()[0].partition == THIRD.partition


def test_what_stands_before_damage_is_given_and_the_damage_reported() -> None:
    taker = Taker(Cursor(1, 100))
    damaged = bytearray(kafka_batch(102, [b"c"]))
    damaged[-3] ^= 1
    [one] = taker.take(kafka_batch(100, [b"a", b"b"]) + damaged)
    assert one.values == [b"a", b"b"]
    assert taker.position == 102
    assert isinstance(taker.errors[0], CorruptRecordException)


def test_a_fetch_that_failed_is_reported() -> None:
    taker = Taker(Cursor(1, 100))
    error = RuntimeError("away")
    taker.fetcher._records[TP] = FetchError(error=error, backoff=0)
    assert taker.drain() == []
    assert taker.errors == [error]
    assert not taker.fetcher._records


def test_marks_stay_with_their_records_when_a_batch_is_cut() -> None:
    odd = [record(number) for number in range(9000)]
    odd[8100] = record(8100, headers=[(b"\xff", None)])
    odd[8500] = record(8500, value=bytes(2 << 20))
    first, second = Taker(Cursor(1, 0)).take(batch(odd, pack="lz4"))
    assert (first.oversize, second.oversize) == ({}, {8500: (2 << 20) + 1})
    assert first.headers[8100] == [("\\xff", None)]
    assert second.values[8500 - 8192 :][:2] == [bytes(KEPT), b"v"]
