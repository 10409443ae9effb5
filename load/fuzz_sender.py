"""Fuzzed batches as Kafka batches on a broker, each exactly as its lane says.

Plain `aiokafka` below its producer's own batching: who sends a batch decides what stands in it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from load.lanes import FuzzedBatch, Lane

LARGEST = 32 * 1024 * 1024
"""Bytes of a batch before it is packed."""
SEND_SECONDS = 60.0


class _RawName(str):
    """A header name whose bytes on the wire need not be UTF-8."""

    __slots__ = ("raw",)
    raw: bytes

    def __new__(cls, raw: bytes) -> Self:
        made = super().__new__(cls, raw.decode("latin-1"))
        made.raw = raw
        return made

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        del encoding, errors
        return self.raw


class SentError(RuntimeError):
    """The broker has something else than what was sent, so nothing can be judged."""


async def send(bootstrap: str, prefix: str, lanes: Sequence[Lane]) -> dict[tuple[str, int], int]:
    """Send all batches of all lanes, side by side and each lane in order.

    Returns:
        Records by (topic without prefix, partition).

    Raises:
        SentError: a batch stands at another offset than it must.
        TimeoutError: the broker does not answer.
    """
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=0)
    ends = {(lane.stream, lane.partition): 0 for lane in lanes}
    await producer.start()
    try:
        rest: list[tuple[Lane, Iterator[FuzzedBatch]]] = [
            (lane, iter(lane.batches())) for lane in lanes
        ]
        while rest:
            rest = await _round(producer, prefix, rest, ends)
    finally:
        await producer.stop()
    return ends


async def _round(
    producer: Any,
    prefix: str,
    lanes: list[tuple[Lane, Iterator[FuzzedBatch]]],
    ends: dict[tuple[str, int], int],
) -> list[tuple[Lane, Iterator[FuzzedBatch]]]:
    """Send one batch of each lane; return the lanes that have more."""
    sent, more = [], []
    for lane, batches in lanes:
        batch = next(batches, None)
        if batch is None:
            continue
        more.append((lane, batches))
        at = lane.stream, lane.partition
        future = await producer.send_batch(pack(batch), prefix + lane.stream, partition=at[1])
        sent.append((at, ends[at], future))
        ends[at] += len(batch.records)
    async with asyncio.timeout(SEND_SECONDS):
        for at, first, future in sent:
            answer = await future
            if answer.offset != first:
                raise SentError(f"a batch of {at} stands at {answer.offset}, not at {first}")
    return more


def pack(batch: FuzzedBatch) -> BatchBuilder:
    """Return the Kafka batch that holds these records."""
    builder = BatchBuilder(LARGEST, batch.codec)
    # Only the builder in Python takes header names that are no text; it is slow.
    if any(headers and not _plain(headers) for _, _, _, headers, _, _ in batch.records):
        builder._builder = _DefaultRecordBatchBuilderPy(  # noqa: SLF001
            2, batch.codec, 0, -1, -1, 0, LARGEST
        )
        name: Any = _RawName
    else:
        name = bytes.decode
    for record in batch.records:
        builder.append(
            timestamp=record.timestamp,
            key=record.key,
            value=record.value,
            headers=[(name(each), value) for each, value in record.headers],
        )
    builder.close()
    if builder.record_count() != len(batch.records):
        raise SentError(f"only {builder.record_count()} of {len(batch.records)} records fit")
    return builder


def _plain(headers: Sequence[tuple[bytes, bytes | None]]) -> bool:
    try:
        for name, _ in headers:
            name.decode()
    except UnicodeDecodeError:
        return False
    return True
