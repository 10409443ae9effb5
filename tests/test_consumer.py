"""A consumer that reads anything in bounded memory, on a real broker; and what it stands on."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.consumer import fetcher as fetching
from aiokafka.errors import CorruptRecordException, KafkaError
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.structs import TopicPartition

from streams import schemas
from streams.consumer import UNREADABLE, BoundedConsumer, FetchedRecords, PartitionRecords
from streams.record_stream import Scratch
from streams.rows import KEPT, Limits, Rows
from streams.settings import LOCAL_PARTITIONS, Settings
from tests.kafka_batches import PACK, batch, body, bomb, record, send_batch, sized, varint
from tests.worker_rig import DEADLINE, REAL, Workers, reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from streams.local import LocalBroker

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
TP = TopicPartition("tasks", 0)
HEADERS: list[tuple[str, bytes | None]] = [("h", b"1"), ("none", None), ("é", b"")]


# -- what it stands on -------------------------------------------------------------------------


def test_the_fetcher_builds_both_classes_by_name_and_in_one_method() -> None:
    code = fetching.Fetcher._proc_fetch_request.__code__
    assert {"MemoryRecords", "PartitionRecords"} <= set(code.co_names)
    assert code.co_freevars == ()
    source = inspect.getsource(fetching)
    assert source.count("MemoryRecords(") == 1
    assert source.count("PartitionRecords(") == 1


def test_the_consumer_sets_its_fetcher_once_before_any_fetch() -> None:
    source = inspect.getsource(AIOKafkaConsumer)
    assert source.count("self._fetcher = ") == 2
    assert "self._fetcher = Fetcher(" in source
    assert "async" not in inspect.getsource(fetching.Fetcher.__init__)


def test_the_class_it_stands_for_has_what_is_used_of_it() -> None:
    assert list(inspect.signature(fetching.PartitionRecords).parameters) == [
        "tp",
        "records",
        "aborted_transactions",
        "fetch_offset",
        "key_deserializer",
        "value_deserializer",
        "check_crcs",
        "isolation_level",
    ]
    used = {"_unpack_records", "_consume_aborted_up_to", "_consumer_record", "__next__"}
    assert used <= set(vars(fetching.PartitionRecords))
    used = {"_partition_records", "check_assignment", "has_more", "_update_position"}
    found = inspect.getsource(fetching.FetchResult)
    assert all(name in found for name in used)


@pytest.mark.broker
async def test_other_consumers_of_the_process_stay_as_they_are(broker: LocalBroker) -> None:
    bounded = BoundedConsumer(bootstrap_servers=broker.bootstrap)
    plain = AIOKafkaConsumer(bootstrap_servers=broker.bootstrap)
    await bounded.start()
    await plain.start()
    try:
        original = fetching.Fetcher._proc_fetch_request
        assert plain._fetcher._proc_fetch_request.__func__ is original
        assert bounded._fetcher._proc_fetch_request.__func__ is not original
        assert fetching.PartitionRecords is not PartitionRecords
    finally:
        await bounded.stop()
        await plain.stop()


# -- batches of a fetch ------------------------------------------------------------------------


def fetched(data: bytes, start: int = 0, **aborted: Any) -> PartitionRecords:
    given = (aborted.get("aborted"), start, None, None, True, fetching.READ_COMMITTED)
    return PartitionRecords(
        TP, FetchedRecords(data), *given, scratch=Scratch(1 << 20), limits=Limits()
    )


def pieces(records: PartitionRecords) -> tuple[Rows, int]:
    """Take everything as the transport does; return it and the position after it."""
    rows = Rows()
    for some, following in records.pieces:
        rows.extend(some)
        records.next_fetch_offset = max(following, records.next_fetch_offset)
    return rows, records.next_fetch_offset


def old_batch(first: int, values: Sequence[bytes], magic: int) -> bytes:
    builder = LegacyRecordBatchBuilder(magic=magic, compression_type=1, batch_size=10**7)
    for number, value in enumerate(values):
        builder.append(first + number, timestamp=7, key=b"k", value=value)
    data = bytearray(builder.build())
    data[:8] = (first + len(values) - 1).to_bytes(8, "big")
    return bytes(data)


def test_a_fetch_that_begins_inside_a_batch_gives_what_follows() -> None:
    data = batch([record(number) for number in range(10)], first=100, pack="zstd")
    rows, position = pieces(fetched(data, 104))
    assert ([*rows.offsets], position) == ([104, 105, 106, 107, 108, 109], 110)


def test_the_last_batch_of_a_fetch_may_be_cut() -> None:
    data = batch([record(0)]) + batch([record(0)], first=1)
    for cut in (1, 20, 50, len(data) // 2 - 1):
        rows, position = pieces(fetched(data[:-cut]))
        assert ([*rows.offsets], position) == ([0], 1)


def test_batches_older_than_v2_are_read_by_aiokafka() -> None:
    data = old_batch(0, [b"a", b"b"], 0) + old_batch(2, [b"c"], 1) + batch([record(0)], first=3)
    rows, position = pieces(fetched(data))
    assert ([*rows.offsets], rows.values, position) == ([0, 1, 2, 3], [b"a", b"b", b"c", b"v"], 4)
    assert rows.timestamps[:3] == [-1, -1, 7]


def test_a_large_value_of_an_older_batch_is_cut() -> None:
    rows, _ = pieces(fetched(old_batch(0, [b"v" * 2_000_000], 1)))
    assert (rows.oversize, rows.values) == ({0: 2_000_001}, [b"v" * KEPT])


@pytest.mark.parametrize("length", [-1, 0, 10, 40])
def test_a_batch_shorter_than_its_header_is_a_fetch_error(length: int) -> None:
    wrong = bytearray(batch([record(0)], first=1))
    wrong[8:12] = length.to_bytes(4, "big", signed=True)
    records = fetched(batch([record(0)]) + bytes(wrong))
    taken = records.pieces
    assert next(taken)[1] == 1
    with pytest.raises(CorruptRecordException, match="A batch claims"):
        next(taken)


def test_a_wrong_checksum_is_a_fetch_error_after_what_stands_before_it() -> None:
    wrong = bytearray(batch([record(0)], first=1))
    wrong[-1] ^= 1
    records = fetched(batch([record(0)]) + bytes(wrong))
    taken = records.pieces
    rows, following = next(taken)
    assert ([*rows.offsets], following) == ([0], 1)
    with pytest.raises(CorruptRecordException, match="CRC"):
        next(taken)


def test_a_batch_that_claims_to_end_before_it_begins_is_passed() -> None:
    _, position = pieces(fetched(batch([record(0)], last_delta=-5, first=100), 100))
    assert position == 101
    _, position = pieces(fetched(batch([], 0, last_delta=-5, first=100), 100))
    assert position == 101


def test_an_empty_control_batch_ends_nothing_and_stops_nothing() -> None:
    empty = batch([], 0, last_delta=0, first=1, attributes=0x30)
    rows, position = pieces(fetched(batch([record(0)]) + empty + batch([record(0)], first=2)))
    assert ([*rows.offsets], position) == ([0, 2], 3)


def test_records_one_by_one_are_those_of_the_pieces() -> None:
    wrong = sized(body(1) + b"rest")
    data = batch([record(0), wrong, record(2, b"key", bytes(2 << 20)), record(3)], pack="lz4")
    records = fetched(data, 0)
    found, positions = [], []
    for one in records:
        found.append(one)
        positions.append(records.next_fetch_offset)
    assert [one.offset for one in found] == [0, 1, 2, 3]
    assert positions == [1, 2, 3, 4]
    assert dict(found[1].headers)[UNREADABLE] == b"4 bytes are left over behind its headers"
    assert (len(found[2].value), found[2].serialized_value_size) == (KEPT, 2 << 20)
    assert found[3].headers == ()


# -- on a real broker --------------------------------------------------------------------------


@pytest.fixture
async def topic(broker: LocalBroker) -> str:
    """Return a new topic with a partition for each compression."""
    name = f"bounded-{uuid.uuid4().hex[:10]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, len(CODECS), 1)])
    finally:
        await admin.close()
    return name


@pytest.fixture
async def consume(
    broker: LocalBroker, topic: str
) -> AsyncIterator[Callable[[int], Awaitable[dict[int, list[Any]]]]]:
    """Give a function that reads all partitions until that many records came."""
    consumer = BoundedConsumer(
        bootstrap_servers=broker.bootstrap,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=50,
        max_poll_records=100,
    )
    await consumer.start()
    consumer.assign([TopicPartition(topic, number) for number in range(len(CODECS))])

    async def read(count: int) -> dict[int, list[Any]]:
        found: dict[int, list[Any]] = {number: [] for number in range(len(CODECS))}
        async with asyncio.timeout(30):
            while sum(map(len, found.values())) < count:
                for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                    found[tp.partition] += records
        return found

    yield read
    await consumer.stop()


def values_of(codec: str) -> list[bytes]:
    return [b"%s %d " % (codec.encode(), number) * 20 for number in range(300)]


async def by_aiokafka(bootstrap: str, topic: str, codec: str) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        compression_type=None if codec == "none" else codec,
        linger_ms=5,
    )
    async with producer:
        sent = [
            await producer.send(topic, value, b"k", CODECS.index(codec), headers=HEADERS)
            for value in values_of(codec)
        ]
        await asyncio.gather(*sent)
        await producer.send_and_wait(topic, b"alone", None, CODECS.index(codec))


async def by_librdkafka(bootstrap: str, topic: str, codec: str) -> None:
    kafka = pytest.importorskip("confluent_kafka")
    producer = kafka.Producer(
        {"bootstrap.servers": bootstrap, "compression.type": codec, "linger.ms": 5}
    )
    for value in values_of(codec):
        producer.produce(topic, value, b"k", CODECS.index(codec), headers=HEADERS)
    await asyncio.to_thread(producer.flush, 20)
    producer.produce(topic, b"alone", partition=CODECS.index(codec))
    assert await asyncio.to_thread(producer.flush, 20) == 0


@pytest.mark.broker
@pytest.mark.parametrize("produce", [by_aiokafka, by_librdkafka])
async def test_every_compression_of_real_producers_is_read(
    broker: LocalBroker, topic: str, consume: Any, produce: Any
) -> None:
    await asyncio.gather(*(produce(broker.bootstrap, topic, codec) for codec in CODECS))
    found = await consume(301 * len(CODECS))
    for number, codec in enumerate(CODECS):
        records = found[number]
        assert [one.value for one in records] == [*values_of(codec), b"alone"]
        assert [list(one.headers) for one in records] == [HEADERS] * 300 + [[]]
        assert [one.key for one in records] == [b"k"] * 300 + [None]
        assert [one.offset for one in records] == list(range(301))


@pytest.mark.broker
async def test_aborted_transactions_are_not_seen(
    broker: LocalBroker, topic: str, consume: Any
) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=broker.bootstrap, transactional_id=topic, compression_type="zstd"
    )
    async with producer:
        for value in (b"one", None, b"two", None, b"three"):
            await producer.begin_transaction()
            await producer.send(topic, value or b"aborted", partition=0, headers=HEADERS)
            await producer.send(topic, value or b"aborted", partition=1)
            await (producer.commit_transaction() if value else producer.abort_transaction())
    found = await consume(6)
    assert [one.value for one in found[0]] == [b"one", b"two", b"three"]
    assert [one.offset for one in found[1]] == [0, 4, 8]


MANY_HEADERS = sized(b"\0\0\0" + sized(b"k") + sized(b"v") + varint(10**6) + b"\x02a\x01" * 10**6)


def odd_batches() -> dict[str, tuple[bytes, int, int]]:
    """Return batches that a broker accepts, with their records and how many are unreadable."""
    return {
        "a header name that is not UTF-8": (batch([record(0, headers=[(b"\xff", b"x")])]), 1, 0),
        "the same compressed": (batch([record(0, headers=[(b"\xff", b"")])], pack="zstd"), 1, 0),
        "a million headers": (batch([MANY_HEADERS], pack="zstd"), 1, 0),
        "the same offset thrice": (batch([record(0), record(0), record(0)]), 3, 2),
        "an offset far away": (batch([record(0), record(10**6), record(2)]), 3, 1),
        "attributes of a record": (batch([sized(b"\xff" + body(0)[1:])]), 1, 0),
        "bytes behind the compressed": (
            batch(b"", packed=PACK["gzip"](record(0)) + b"rest", pack="gzip"),
            1,
            0,
        ),
        "1 GiB in zstd": (bomb("zstd", 1, 1 << 30), 1, 0),
        "many in gzip": (bomb("gzip", 300, 700_000), 300, 0),
        "many in lz4": (bomb("lz4", 300, 700_000), 300, 0),
    }


@pytest.mark.broker
async def test_what_a_broker_accepts_never_stops_a_partition(
    broker: LocalBroker, topic: str, consume: Any
) -> None:
    tp, expected = TopicPartition(topic, 0), [(b"before", False)]
    await send_batch(broker.bootstrap, tp, batch([record(0, b"before")]))
    for odd, count, unreadable in odd_batches().values():
        first = await send_batch(broker.bootstrap, tp, odd)
        await send_batch(broker.bootstrap, tp, batch([record(0, b"after")]))
        assert first == len(expected)
        expected += [(b"k", number >= count - unreadable) for number in range(count)]
        expected.append((b"after", False))
    found = (await consume(len(expected)))[0]
    assert [one.offset for one in found] == list(range(len(expected)))
    assert [one.key for one in found] == [key for key, _ in expected]
    wrong = [UNREADABLE in dict(one.headers) for one in found]
    assert sum(wrong) == sum(odd for _, odd in expected)


@pytest.mark.broker
async def test_a_broker_refuses_other_damage(broker: LocalBroker, topic: str) -> None:
    for odd in (
        batch([record(0), record(1)], 1, last_delta=0),
        batch([record(0)], 3, last_delta=2),
        batch([record(0), sized(body(1) + b"rest")]),
        batch(b"\xff" * 50, 3, pack="zstd"),
        batch([record(0)], attributes=5),
    ):
        with pytest.raises(KafkaError):
            await send_batch(broker.bootstrap, TopicPartition(topic, 0), odd)


# -- in a real worker --------------------------------------------------------------------------

BOMBS = (("zstd", 5, 200 << 20), ("gzip", 1, 500 << 20), ("lz4", 56, 4 << 20))
"""Compression, records and their size: 1 GiB, 500 MiB and 224 MiB from at most 1 MiB each."""

WORKER_BOUND_MIB = 256
"""Most memory of a worker that reads bombs; without any it takes about 150."""


def peak_mib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise AssertionError("no peak memory in /proc")


def agents_of(partition: int, count: int) -> list[bytes]:
    """Return agents whose events belong in a partition of the topics."""
    numbers, place = list(range(LOCAL_PARTITIONS)), DefaultPartitioner()
    names = (b"agent-%d" % number for number in itertools.count())
    return list(
        itertools.islice((n for n in names if place(n, numbers, numbers) == partition), count)
    )


@pytest.mark.broker
@pytest.mark.timeout(120)
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
async def test_a_worker_reads_bombs_in_bounded_memory_and_what_stands_beside_them(
    topics: Settings, tmp_path: Path
) -> None:
    workers = Workers(topics, REAL)
    tp = TopicPartition(topics.topic("security"), 0)
    first, second = agents_of(0, 2)

    async def event(agent: bytes) -> None:
        fields = {"event_id": "e", "occurred_at": int(time.time() * 1000), "kind": "OTHER"}
        fields |= {"agent_id": agent.decode(), "severity": "HIGH", "blocked": False}
        value = schemas.encode("SecurityEvent", fields)
        data = batch([record(0, agent, value)], stamp=int(time.time() * 1000))
        await send_batch(topics.bootstrap_servers, tp, data)

    try:
        worker = workers.start(tmp_path)
        await event(first)
        for pack, count, size in BOMBS:
            await send_batch(topics.bootstrap_servers, tp, bomb(pack, count, size))
        await event(second)
        async with reader(topics, "alerts", 1) as read, reader(topics, "dead-letters", 1) as dead:
            alerts: list[bytes] = []
            letters: list[bytes] = []
            async with asyncio.timeout(DEADLINE):
                while len(alerts) < 2 or len(letters) < sum(count for _, count, _ in BOMBS):
                    alerts, letters = (await read())[0], (await dead())[0]
                    assert worker.poll() is None, workers.log()
        found = {schemas.decode(value)[1]["entity_id"] for value in alerts}
        assert found == {first.decode(), second.decode()}
        assert {len(value) for value in letters} == {KEPT}
        assert peak_mib(worker.pid) < WORKER_BOUND_MIB
    finally:
        workers.close()
