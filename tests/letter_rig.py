"""Dead letters as workers write them, and topics read back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streams.batch import FetchedBatch, Refusal
from streams.dead_letters import dead_letter
from streams.epoch import EpochProducer, OutRecord, committed_reader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.batch import Header
    from streams.reasons import DeadLetterReason as Reason
    from streams.settings import Settings

AT = 1_767_225_600_000


def a_batch(
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[Header] = (),
    oversize: int | None = None,
    **place: Any,
) -> FetchedBatch:
    """Return a batch of one record; `place` is its topic, partition and offset."""
    offset = place.get("offset", 100)
    return FetchedBatch(
        topic=place.get("topic", "agentops.tasks"),
        partition=place.get("partition", 0),
        incarnation=0,
        fetch_from=offset,
        next_offset=offset + 1,
        offsets=np.array([offset], np.int64),
        timestamps=np.array([AT], np.int64),
        keys=[key],
        values=[value],
        headers=[headers],
        oversize={} if oversize is None else {offset: oversize},
    )


def a_letter(
    settings: Settings,
    reason: Reason,
    record: tuple[bytes | None, bytes | None],
    headers: Sequence[Header] = (),
    **place: Any,
) -> OutRecord:
    """Return the letter of a record on `tasks`, as a worker's epoch writes it."""
    batch = a_batch(*record, headers, **{"topic": settings.topic("tasks")} | place)
    made = dead_letter(batch, Refusal(0, reason, "why"), settings.max_record_bytes)
    return OutRecord(settings.topic("dead-letters"), batch.partition, *made)


def message(
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes | None]],
    partition: int = 0,
    offset: int = 0,
) -> Any:
    """Return a record as a consumer gives it."""
    return SimpleNamespace(
        topic="agentops.dead-letters",
        partition=partition,
        offset=offset,
        timestamp=AT,
        key=key,
        value=value,
        headers=headers,
    )


async def write(settings: Settings, records: Sequence[OutRecord], *, settled: bool = True) -> None:
    """Write records in one transaction.

    Args:
        settings: where to.
        records: what.
        settled: return only when they can be read; a commit is acknowledged before that.
    """
    producer = EpochProducer(settings, f"{settings.app_id}-rig")
    try:
        await producer.start()
        await producer.commit(records)
    finally:
        await producer.discard()
    if settled:
        for topic in {record.topic.removeprefix(settings.topic_prefix) for record in records}:
            await read_all(settings, topic)


async def read_all(settings: Settings, suffix: str, *, settled: bool = True) -> list[Any]:
    """Return the committed records of a topic, in the order of each partition.

    Args:
        settings: where from.
        suffix: the topic.
        settled: wait for transactions that are not ended.
    """
    places = [TopicPartition(settings.topic(suffix), n) for n in range(settings.partitions)]
    found: list[Any] = []
    async with committed_reader(settings) as reader:
        ends = await (_ends(settings, places) if settled else reader.end_offsets(places))
        for place in places:
            reader.assign([place])
            reader.seek(place, 0)
            while await reader.position(place) < ends[place]:
                found += (await reader.getmany(place, timeout_ms=200)).get(place, [])
    return found


async def _ends(settings: Settings, places: Sequence[TopicPartition]) -> Any:
    """Return where partitions end, committed or not."""
    reader = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers)
    try:
        await reader.start()
        return await reader.end_offsets(places)
    finally:
        await reader.stop()
