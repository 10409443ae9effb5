"""The records of `agentops.schemas`: writer schemas by fingerprint, where there is no registry.

The key is the fingerprint as it stands in the frame of a value, as 16 hex digits; the value is the
schema as JSON. A null value deletes.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from aiokafka.structs import TopicPartition

from streams import schemas
from streams.connection import connection
from streams.consumer import BoundedConsumer
from streams.rows import Limits
from streams.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.settings import Settings

_ENDLESS = 30.0
"""Seconds after which reading the topic to its end is tried anew."""
_LEFT_OUT = ("doc", "aliases")
"""Attributes that say nothing about how values are written."""


class SchemaTopicError(ValueError):
    """A record of the topic is no usable schema; the message says which and why."""


class PublishError(RuntimeError):
    """The schemas topic cannot be read or written; the message says what to do."""


class Entry(NamedTuple):
    """A record of the topic: the fingerprint, and the schema as JSON text."""

    key: bytes
    value: bytes


def parse(key: bytes | None, value: bytes) -> schemas.Schema:
    """Return the schema of a record.

    Raises:
        SchemaTopicError: it is none, or not the one its key names.
    """
    name = (key or b"").decode("ascii", "replace")[:40]
    try:
        found = schemas.parse(value)
    except ValueError as error:
        raise SchemaTopicError(f"schema {name}: {error}"[:300]) from error
    if found.fingerprint.hex() != name:
        raise SchemaTopicError(f"schema {name}: its fingerprint is {found.fingerprint.hex()}")
    return found


def entry(text: str | bytes) -> Entry:
    """Return the record that makes a schema known.

    Args:
        text: the schema as JSON; it must be readable as the current record of its name.

    Raises:
        ValueError: it cannot be read here, so publishing it would help nobody; says why.
    """
    schema = schemas.parse(text)
    names = {spec.record for spec in TOPICS if spec.record}
    if schema.name not in names:
        there = ", ".join(sorted(names))
        raise ValueError(f"{schema.name} is no record of any topic; there are {there}")
    schemas.readable(schema, schema.name)
    plain = json.dumps(_without_words(json.loads(text)), separators=(",", ":"))
    return Entry(schema.fingerprint.hex().encode(), plain.encode())


async def published(settings: Settings) -> dict[bytes, bytes]:
    """Return what the topic holds, by key.

    Raises:
        PublishError: it cannot be read.
    """
    topic = SchemaTopic(settings)
    try:
        records = await topic.news()
    except (KafkaError, OSError, TimeoutError) as error:
        raise PublishError(_away(settings, error)) from error
    finally:
        await topic.close()
    held: dict[bytes, bytes] = {}
    for key, value in records:
        held.pop(key or b"", None)
        if value is not None:
            held[key or b""] = value
    return held


async def publish(settings: Settings, entries: Mapping[bytes, bytes]) -> list[bytes]:
    """Put schemas on the topic that are not there yet, and wait until the broker has them for sure.

    Returns:
        The keys of those that were not there, or were no usable schema.

    Raises:
        PublishError: the broker or the topic is not there, or refused.
    """
    held = await published(settings)
    new = [key for key in entries if not _usable(key, held.get(key))]
    producer = AIOKafkaProducer(
        **connection(settings),
        client_id=f"{settings.app_id}-schemas",
        acks="all",
        enable_idempotence=True,
    )
    try:
        await producer.start()
        for key in new:
            await producer.send_and_wait(settings.topic("schemas"), entries[key], key)
    except (KafkaError, OSError) as error:
        raise PublishError(_away(settings, error)) from error
    finally:
        await producer.stop()
    return new


def _usable(key: bytes, value: bytes | None) -> bool:
    """Return whether what stands under a key is its schema; the texts of equal ones may differ."""
    if value is None:
        return False
    try:
        parse(key, value)
    except SchemaTopicError:
        return False
    return True


def _away(settings: Settings, error: BaseException) -> str:
    topic = settings.topic("schemas")
    return (
        f"{topic} at {settings.bootstrap_servers} cannot be used: {error!r}. Is the broker there, "
        "and were the topics made with `agentops-streams topics create`?"
    )


def _without_words(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_words(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {key: _without_words(value) for key, value in node.items() if key not in _LEFT_OUT}


class SchemaTopic:
    """A reader of `agentops.schemas` that remembers how far it came."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._partition = TopicPartition(settings.topic("schemas"), 0)
        self._consumer: Any = None
        self._position = 0

    async def news(self) -> list[tuple[bytes | None, bytes | None]]:
        """Return (key, value) of all committed records since the last call, up to the end."""
        try:
            async with asyncio.timeout(_ENDLESS):
                return await self._read()
        except BaseException:
            # A consumer that failed once is not trusted again.
            await self.close()
            raise

    async def _read(self) -> list[tuple[bytes | None, bytes | None]]:
        consumer, tp = await self._started(), self._partition
        end = (await consumer.end_offsets([tp]))[tp]
        found = []
        position = self._position
        if position < end:
            consumer.resume(tp)
        while position < end:
            for records in (await consumer.getmany(tp, timeout_ms=200)).values():
                found += [(record.key, record.value) for record in records]
            position = await consumer.position(tp)
        # A fetch that waits for more would hold up the next question on the same connection.
        consumer.pause(tp)
        self._position = position
        return found

    async def _started(self) -> Any:
        if self._consumer is None:
            self._consumer = BoundedConsumer(
                limits=Limits.of(self._settings),
                **connection(self._settings),
                client_id=f"{self._settings.app_id}-schemas",
                isolation_level="read_committed",
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=self._settings.max_record_bytes,
            )
            await self._consumer.start()
            if self._partition.topic not in await self._consumer.topics():
                # Asked for its end, a client would wait for the topic to come.
                raise UnknownTopicOrPartitionError(self._partition.topic)
            self._consumer.assign([self._partition])
            if self._position:
                self._consumer.seek(self._partition, self._position)
            else:
                await self._consumer.seek_to_beginning(self._partition)
        return self._consumer

    async def close(self) -> None:
        """Let go of the consumer; the next call makes another."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await consumer.stop()
