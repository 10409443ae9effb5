"""Whether a dead letter would be taken now: its record, given to a worker's own decoder again."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import structlog

from streams import schemas
from streams.admission import future_detail
from streams.batch import FetchedBatch
from streams.catalog import SchemaCatalog
from streams.clock import AHEAD
from streams.codec import RecordDecoder, decoders
from streams.reasons import DeadLetterReason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.dead_letters import Letter
    from streams.settings import Settings


class Target(NamedTuple):
    """Where the record would go: topic without the prefix, partition, partitions there are."""

    topic: str
    partition: int
    partitions: int


class Trial(NamedTuple):
    """What a worker would make of a letter's record.

    Attributes:
        refusal: reason and detail; None where it would be taken, as far as its bytes can tell.
        schema: name of the schema it is written with, None where it does not decode.
        record: its fields, all of them.
        asked: whether topic and registry have answered, where its schema was not built in.
    """

    refusal: tuple[DeadLetterReason, str] | None
    schema: str | None
    record: dict[str, Any] | None
    asked: bool


async def try_letter(
    letter: Letter, target: Target, settings: Settings, now_ms: int
) -> Trial | None:
    """Decode a letter's record as a worker would if it were replayed now.

    Whether it is too late, or one series too many, only the state of its partition can say.

    Returns:
        None where workers of this version do not read the topic.
    """
    catalog = SchemaCatalog(settings)
    decoder = _decoder(target, settings, catalog)
    if decoder is None:
        return None
    try:
        asked = await _look_up(catalog, letter.value, settings)
    finally:
        await catalog.close()
    refused = decoder.decode(_batch_of(letter, target.partition, settings, now_ms)).refused
    refusal = (refused[0].reason, refused[0].detail) if refused else None
    name = record = None
    with suppress(schemas.DecodeError):
        name, record = schemas.decode(letter.value or b"", catalog.find)
    at = (record or {}).get("occurred_at")
    if refusal is None and isinstance(at, int) and at > now_ms + AHEAD:
        refusal = DeadLetterReason.FUTURE, future_detail(at, now_ms)
    return Trial(refusal, name, record, asked)


async def _look_up(catalog: SchemaCatalog, value: bytes | None, settings: Settings) -> bool:
    """Ask for the schema of a value; return whether there was an answer."""
    try:
        frame = schemas.frame_of(value or b"")
    except schemas.DecodeError:
        return True
    if schemas.find_by(frame) is not None:
        return True
    try:
        # A worker waits for ever; here somebody waits for the answer.
        async with asyncio.timeout(2 * settings.registry_timeout):
            with _quiet():
                await catalog.look_up([frame])
    except TimeoutError:
        return False
    return True


def _decoder(target: Target, settings: Settings, catalog: SchemaCatalog) -> Any:
    """Return what decodes a topic in a worker, None where they do not read it."""
    if target.topic == "findings":
        return RecordDecoder("Finding", catalog.find)
    return decoders(settings, catalog.find, target.partitions).get(target.topic)


def _batch_of(letter: Letter, partition: int, settings: Settings, now_ms: int) -> FetchedBatch:
    size = len(letter.key or b"") + len(letter.value or b"")
    return FetchedBatch(
        topic=letter.topic,
        partition=partition,
        incarnation=0,
        fetch_from=0,
        next_offset=1,
        offsets=np.zeros(1, np.int64),
        timestamps=np.full(1, now_ms, np.int64),
        keys=[letter.key],
        values=[letter.value],
        headers=[letter.headers],
        oversize={0: size} if size > settings.max_value_bytes else {},
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep a worker's log lines out of a command's output."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(wrapper_class=before)
