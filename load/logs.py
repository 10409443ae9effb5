"""Topics of a real broker for the proof: written with retries, watched, and read to their end.

Plain `aiokafka`, nothing of the service's own transport, so that it cannot share its mistakes.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from load.proof import SCHEMAS, LogRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from load.traffic import Message

SEND_SECONDS = 120.0
READ_SECONDS = 180.0


class Writer:
    """A producer that survives the broker: what was not acknowledged is sent again.

    A record may stand on the topic twice then. That is no matter: the proof asks what the log
    demands, not what was meant.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer: Any = None
        self.sent = 0
        self.retries = 0

    async def send(self, messages: Sequence[Message]) -> None:
        """Send messages and return when all are acknowledged.

        Raises:
            TimeoutError: that took longer than SEND_SECONDS.
        """
        async with asyncio.timeout(SEND_SECONDS):
            while True:
                try:
                    await self._try(messages)
                except (KafkaError, OSError):
                    self.retries += 1
                    await self.close()
                    await asyncio.sleep(0.5)
                else:
                    self.sent += len(messages)
                    return

    async def _try(self, messages: Sequence[Message]) -> None:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                enable_idempotence=True,
                linger_ms=2,
                compression_type="lz4",
                request_timeout_ms=15_000,
            )
            await producer.start()
            self._producer = producer
        sent = [
            await self._producer.send(
                each.topic, value=each.value, key=each.key, partition=each.partition
            )
            for each in messages
        ]
        answers = await asyncio.gather(*sent, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    async def close(self) -> None:
        """Close the producer, whatever state it is in."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(Exception):
                async with asyncio.timeout(5):
                    await producer.stop()


def reader(bootstrap: str, *, committed: bool = True) -> Any:
    """Return a consumer outside of any group, not yet started."""
    return AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        isolation_level="read_committed" if committed else "read_uncommitted",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 * 1024 * 1024,
        fetch_max_wait_ms=100,
        request_timeout_ms=15_000,
    )


async def ends(bootstrap: str, partitions: Sequence[TopicPartition], *, committed: bool) -> Any:
    """Return the end offsets as such a reader sees them."""
    consumer = reader(bootstrap, committed=committed)
    try:
        await consumer.start()
        return await consumer.end_offsets(list(partitions))
    finally:
        await consumer.stop()


async def read(bootstrap: str, partitions: Sequence[TopicPartition]) -> AsyncIterator[LogRecord]:
    """Yield what is committed on `partitions` from begin to end, in order for each of them.

    Raises:
        TimeoutError: that took longer than READ_SECONDS.
    """
    consumer = reader(bootstrap)
    try:
        await consumer.start()
        consumer.assign(list(partitions))
        last = await consumer.end_offsets(list(partitions))
        await consumer.seek_to_beginning(*partitions)
        open_ends = {tp for tp in partitions if last[tp] > 0}
        deadline = time.monotonic() + READ_SECONDS
        while open_ends:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no end of {sorted(open_ends)} within {READ_SECONDS:.0f} s")
            fetched = await consumer.getmany(*open_ends, timeout_ms=500)
            for tp, records in fetched.items():
                for one in records:
                    place = one.topic, one.partition, one.offset, one.timestamp
                    yield LogRecord(*place, one.key, one.value, tuple(one.headers))
                if await consumer.position(tp) >= last[tp]:
                    open_ends.discard(tp)
            for tp in list(open_ends):
                if await consumer.position(tp) >= last[tp]:
                    open_ends.discard(tp)
    finally:
        await consumer.stop()


class Positions:
    """Follows the committed positions of all units on the state topics.

    Args:
        bootstrap: the broker.
        states: partitions of the state topics.

    Attributes:
        at: position by input (topic, partition).
        moved_at: monotonic seconds of the newest epoch of each state partition.
        epochs: epochs seen.
    """

    def __init__(self, bootstrap: str, states: Sequence[TopicPartition]) -> None:
        self._bootstrap, self._states = bootstrap, list(states)
        path = SCHEMAS / "state" / "UnitState.avsc"
        self._schema = fastavro.parse_schema(json.loads(path.read_text(encoding="utf-8")))
        self.at: dict[TopicPartition, int] = {}
        self.moved_at: dict[TopicPartition, float] = {}
        self.epochs = 0

    async def follow(self) -> None:
        """Follow until cancelled; a broker that is away is waited for."""
        consumer = reader(self._bootstrap)
        await consumer.start()
        try:
            consumer.assign(self._states)
            await consumer.seek_to_beginning(*self._states)
            while True:
                with suppress(KafkaError, OSError):
                    fetched = await consumer.getmany(timeout_ms=200)
                    for tp, records in fetched.items():
                        for one in records:
                            self._note(tp, one)
                await asyncio.sleep(0.05)
        finally:
            with suppress(Exception):
                await consumer.stop()

    def _note(self, tp: TopicPartition, record: Any) -> None:
        if record.key != b"unit" or record.value is None:
            return
        body = BytesIO(record.value[10:])
        unit: Any = fastavro.schemaless_reader(body, self._schema, None)
        for topic, position in zip(unit["topics"], unit["positions"], strict=True):
            self.at[TopicPartition(topic, tp.partition)] = position
        self.moved_at[tp] = time.monotonic()
        self.epochs += 1
