"""The newest records of partitions, without joining a group and without committing anything."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streams import schemas
from streams.connection import connection
from streams.consumer import UNREADABLE, BoundedConsumer
from streams.rows import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from aiokafka.structs import TopicPartition

    from streams.catalog import SchemaCatalog
    from streams.settings import Settings

NEWEST = 200
"""Records looked at per partition."""
READ_SECONDS = 6.0
"""After this the sample is what has been read."""
LEARN_SECONDS = 2.0
"""As long may look-ups of schemas take together."""
_POLL_MS = 200


@dataclass(frozen=True, slots=True)
class Sampled:
    """What is looked at of one record.

    Attributes:
        topic: name on the broker.
        partition: where it stands.
        key: None where null.
        timestamp: the producer's clock when it was sent, ms.
        occurred_at: event time, ms; None where the value does not decode here.
    """

    topic: str
    partition: int
    key: bytes | None
    timestamp: int
    occurred_at: int | None


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets that a partition holds: from `first` up to, not including, `end`."""

    first: int
    end: int


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[BoundedConsumer]:
    """Give a read-committed consumer outside of any group, which hostile records cannot fill."""
    reader = BoundedConsumer(
        limits=Limits.of(settings),
        **connection(settings),
        client_id=f"{settings.app_id}-doctor",
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        request_timeout_ms=int(settings.request_timeout * 1000),
        max_partition_fetch_bytes=settings.fetch_partition_bytes,
        fetch_max_bytes=settings.fetch_max_bytes,
        fetch_max_wait_ms=100,
    )
    try:
        await reader.start()
        # aiokafka does not survive being stopped before its own tasks have begun.
        await asyncio.sleep(0)
        yield reader
    finally:
        with suppress(Exception):
            async with asyncio.timeout(settings.close_timeout):
                await reader.stop()


async def spans(
    reader: BoundedConsumer, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, Span]:
    """Return which offsets each partition holds."""
    if not partitions:
        return {}
    # aiokafka then asks for the leaders of all topics at once instead of one after the other.
    reader.assign(list(partitions))
    first = await reader.beginning_offsets(list(partitions))
    end = await reader.end_offsets(list(partitions))
    return {one: Span(first[one], end[one]) for one in partitions}


async def newest(
    settings: Settings, partitions: Sequence[TopicPartition], catalog: SchemaCatalog
) -> list[Sampled]:
    """Return the newest records of each partition, committed ones, in their order.

    Raises:
        TimeoutError: not one was read in time.
    """
    found: list[Sampled] = []
    patience = time.monotonic() + LEARN_SECONDS
    async with reading(settings) as reader:
        ranges = {
            one: Span(max(span.first, span.end - NEWEST), span.end)
            for one, span in (await spans(reader, partitions)).items()
        }
        async for records in chunks(reader, ranges, partly=True):
            # Only what is looked at is kept: values may be large.
            await _learn(catalog, records, patience)
            found += [
                _sampled(record, catalog)
                for record in records
                if UNREADABLE not in dict(record.headers)
            ]
    return found


async def read(reader: BoundedConsumer, ranges: Mapping[TopicPartition, Span]) -> list[Any]:
    """Return the records of ranges of offsets.

    Raises:
        TimeoutError: they were not all read in time.
    """
    return [record async for records in chunks(reader, ranges) for record in records]


async def chunks(
    reader: BoundedConsumer, ranges: Mapping[TopicPartition, Span], *, partly: bool = False
) -> AsyncIterator[list[Any]]:
    """Yield the records of ranges of offsets as they come, in the order of each partition.

    Raises:
        TimeoutError: they were not all read in time; with `partly`, not one was.
    """
    left = {one for one, span in ranges.items() if span.first < span.end}
    deadline = time.monotonic() + READ_SECONDS
    some = False
    if left:
        reader.assign(list(left))
    for one in left:
        reader.seek(one, ranges[one].first)
    while left and time.monotonic() < deadline:
        for one, records in (await reader.getmany(*left, timeout_ms=_POLL_MS)).items():
            some = True
            yield [record for record in records if record.offset < ranges[one].end]
        left = {one for one in left if await reader.position(one) < ranges[one].end}
    if left and not (partly and some):
        raise TimeoutError


async def _learn(catalog: SchemaCatalog, records: Sequence[Any], until: float) -> None:
    """Look up the schemas of records that are not built in, as long as that does not take long."""
    frames = {record.value[: schemas.FRAME] for record in records if record.value}
    unknown = {frame for frame in map(_frame, frames) if frame and _is_unknown(catalog, frame)}
    if not unknown:
        return
    with suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            await catalog.look_up(unknown)


def _frame(start: bytes) -> bytes | None:
    try:
        return schemas.frame_of(start)
    except schemas.DecodeError:
        return None


def _is_unknown(catalog: SchemaCatalog, frame: bytes) -> bool:
    try:
        return schemas.find_by(frame, catalog.find) is None
    except schemas.DecodeError:
        return False  # known, and known to be unusable


def _sampled(record: Any, catalog: SchemaCatalog) -> Sampled:
    place = (record.topic, record.partition, record.key, record.timestamp)
    return Sampled(*place, _occurred_at(record.value, catalog))


def _occurred_at(value: bytes | None, catalog: SchemaCatalog) -> int | None:
    try:
        _, fields = schemas.decode(value or b"", catalog.find)
    except schemas.DecodeError:
        return None
    at = fields.get("occurred_at")
    return at if isinstance(at, int) else None
