"""Dead letters as workers write them, and topics read back."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from aiokafka.structs import TopicPartition

from streams.batch import FetchedBatch, Refusal
from streams.dead_letters import dead_letter
from streams.epoch import EpochProducer, OutRecord, committed_reader

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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


async def write(settings: Settings, records: Sequence[OutRecord]) -> None:
    """Write records in one transaction."""
    producer = EpochProducer(settings, f"{settings.app_id}-rig")
    try:
        await producer.start()
        await producer.commit(records)
    finally:
        await producer.discard()


async def read_all(settings: Settings, suffix: str) -> list[Any]:
    """Return the committed records of a topic, in the order of each partition."""
    places = [TopicPartition(settings.topic(suffix), n) for n in range(settings.partitions)]
    found: list[Any] = []
    async with committed_reader(settings) as reader:
        ends: Mapping[TopicPartition, int] = await reader.end_offsets(places)
        for place in places:
            reader.assign([place])
            reader.seek(place, 0)
            while await reader.position(place) < ends[place]:
                found += (await reader.getmany(place, timeout_ms=200)).get(place, [])
    return found
