"""One epoch of one unit: its state, positions and outputs in a single Kafka transaction.

The transactional id of a unit is fixed, so starting a producer fences whoever owned the unit
before and aborts what they left open. A producer that has failed once is never used again:
aiokafka does not rewind sequence numbers after an abort, so every later transaction would fail.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import (
    InvalidProducerEpoch,
    InvalidProducerIdMapping,
    ProducerFenced,
)
from aiokafka.structs import TopicPartition

from streams.connection import connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from streams.batch import Header
    from streams.settings import Settings

log = structlog.get_logger(__name__)

#: Errors that mean that another producer took the transactional id, or that the broker gave up on
#: this one (a transaction timed out, an id expired). Both are cured by starting a new producer.
FENCED = (ProducerFenced, InvalidProducerEpoch, InvalidProducerIdMapping)

#: No limit of the client's own: `check_sizes` knows the topics' limits.
LARGEST_REQUEST = 100 * 1024 * 1024

#: What a record adds to its value on the wire, at most (offsets, lengths, batch header).
RECORD_OVERHEAD = 512


class OversizeRecordError(Exception):
    """A record of an epoch is larger than its topic accepts; nothing was sent."""


@dataclass(frozen=True, slots=True)
class OutRecord:
    """A record that an epoch writes.

    Attributes:
        topic: topic name as on the broker.
        partition: always explicit, so that a unit's outputs stay together.
        key: record key.
        value: record value, None for a tombstone.
        headers: record headers.
    """

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header] = field(default=())

    def size(self) -> int:
        """Return an upper bound of the bytes this record takes on the wire."""
        headers = sum(len(name.encode()) + len(value or b"") + 10 for name, value in self.headers)
        return len(self.key or b"") + len(self.value or b"") + headers + RECORD_OVERHEAD


class EpochProducer:
    """The transactional producer of one incarnation of a unit."""

    def __init__(self, settings: Settings, transactional_id: str) -> None:
        """Make the producer; `start` connects it."""
        self._settings = settings
        self._producer = AIOKafkaProducer(
            **connection(settings),
            client_id=transactional_id,
            transactional_id=transactional_id,
            transaction_timeout_ms=int(settings.transaction_timeout * 1000),
            request_timeout_ms=int(settings.request_timeout * 1000),
            compression_type="lz4",
            max_batch_size=256 * 1024,
            max_request_size=LARGEST_REQUEST,
        )

    async def start(self) -> None:
        """Fence the older owner of the id and abort what it left open.

        Raises:
            TimeoutError: the broker did not answer in time.
            KafkaError: the broker refused.
        """
        try:
            async with asyncio.timeout(self._settings.request_timeout):
                await self._producer.start()
        except BaseException:
            await self.discard()
            raise

    async def commit(
        self, records: Sequence[OutRecord], before_commit: Any = None
    ) -> dict[TopicPartition, int]:
        """Write `records` in one transaction.

        Args:
            records: what the epoch writes; every value fits its topic (see `check_sizes`).
            before_commit: awaited between producing and committing (fault tests).

        Returns:
            (topic, partition) → the offset of the last record written there.

        Raises:
            KafkaError, TimeoutError: the epoch may or may not be written; this producer and the
                state that led to the epoch must be discarded and the unit opened anew.
        """
        sent: list[asyncio.Future[Any]] = []
        try:
            async with asyncio.timeout(self._settings.transaction_timeout):
                await self._producer.begin_transaction()
                for record in records:
                    sent.append(await self._send(record))  # noqa: PERF401 - each send awaits
                # aiokafka commits even when the broker refused a record of the transaction, so
                # every answer is looked at first.
                answers = await asyncio.gather(*sent)
                if before_commit is not None:
                    await before_commit()
                await self._producer.commit_transaction()
        except BaseException:
            _retrieve(sent)
            raise
        return {answer.topic_partition: answer.offset for answer in answers}

    async def _send(self, record: OutRecord) -> asyncio.Future[Any]:
        headers = list(record.headers)
        if record.key is None and record.value is None:
            # `send` asserts that one is there. The dead letter of a record that has neither must
            # not keep its partition for ever.
            place = TopicPartition(record.topic, record.partition)
            await self._producer.partitions_for(record.topic)
            accumulator = self._producer._message_accumulator  # noqa: SLF001
            patience = self._settings.request_timeout
            return cast(
                "asyncio.Future[Any]",
                await accumulator.add_message(place, None, None, patience, headers=headers),
            )
        return cast(
            "asyncio.Future[Any]",
            await self._producer.send(
                record.topic,
                value=record.value,
                key=record.key,
                partition=record.partition,
                headers=headers,
            ),
        )

    async def discard(self) -> None:
        """Close the producer without finishing anything; never raises, never hangs."""
        with suppress(Exception):
            async with asyncio.timeout(self._settings.close_timeout):
                await self._producer.stop()


def _retrieve(futures: Sequence[asyncio.Future[Any]]) -> None:
    """Look at the errors of abandoned sends, so that asyncio does not report them."""
    for future in futures:
        if not future.done():
            future.cancel()
        elif not future.cancelled():
            future.exception()


def check_sizes(records: Sequence[OutRecord], limits: Mapping[str, int]) -> None:
    """Refuse an epoch that the broker would refuse.

    Raises:
        OversizeRecordError: a record is larger than the limit of its topic in `limits`.
    """
    for record in records:
        limit = limits.get(record.topic)
        if limit is not None and record.size() > limit:
            raise OversizeRecordError(
                f"{record.topic}: a record of {record.size()} bytes (key {record.key!r:.80}) is "
                f"over the topic's max.message.bytes of {limit}; raise that setting of the topic"
            )


@asynccontextmanager
async def committed_reader(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    """Give a read-committed consumer outside of any group."""
    reader = AIOKafkaConsumer(
        **connection(settings),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        request_timeout_ms=int(settings.request_timeout * 1000),
        max_partition_fetch_bytes=settings.max_record_bytes,
        fetch_max_wait_ms=100,
    )
    try:
        await reader.start()
        yield reader
    finally:
        with suppress(Exception):
            async with asyncio.timeout(settings.close_timeout):
                await reader.stop()


async def read_state(
    reader: AIOKafkaConsumer, partition: TopicPartition
) -> tuple[dict[bytes, bytes], int]:
    """Read a state partition to its end.

    Returns:
        The newest value of each key that is not deleted, and the end offset.
    """
    reader.assign([partition])
    first = (await reader.beginning_offsets([partition]))[partition]
    end: int = (await reader.end_offsets([partition]))[partition]
    reader.seek(partition, first)
    latest: dict[bytes, bytes] = {}
    while await reader.position(partition) < end:
        for records in (await reader.getmany(partition, timeout_ms=200)).values():
            for record in records:
                if record.value is None:
                    latest.pop(record.key, None)
                else:
                    latest[record.key] = record.value
        await asyncio.sleep(0)
    return latest, end


async def end_of(reader: AIOKafkaConsumer, partition: TopicPartition) -> int:
    """Return the end offset of a partition as a read-committed consumer sees it."""
    return int((await reader.end_offsets([partition]))[partition])
