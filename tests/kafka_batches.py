"""Kafka record batches made by hand: right ones, wrong ones, and ones that unpack to gigabytes."""

from __future__ import annotations

import asyncio
import sys
import zlib
from typing import TYPE_CHECKING, Any

import cramjam
from aiokafka.client import AIOKafkaClient
from aiokafka.codec import snappy_encode
from aiokafka.errors import NoError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.util import calc_crc32c

from streams.record_stream import HEADER
from streams.unpacking import CODECS

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from aiokafka.structs import TopicPartition

STAMP = 1_700_000_000_000


def varint(number: int) -> bytes:
    """Return a number as Kafka writes it."""
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(0x80 | (number & 0x7F))
        number >>= 7
    return bytes([*out, number])


def sized(data: bytes | None) -> bytes:
    return varint(-1) if data is None else varint(len(data)) + data


def body(
    delta: int,
    key: bytes | None = b"k",
    value: bytes | None = b"v",
    headers: Sequence[tuple[bytes, bytes | None]] = (),
    stamp: int = 0,
) -> bytes:
    """Return a record without its length."""
    found = b"".join(sized(name) + sized(data) for name, data in headers)
    start = b"\0" + varint(stamp) + varint(delta)
    return start + sized(key) + sized(value) + varint(len(headers)) + found


def record(delta: int, *content: object, **named: object) -> bytes:
    """Return a record; see `body`."""
    return sized(body(delta, *content, **named))  # type: ignore[arg-type]


def gzip(data: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, 31)
    return stream.compress(data) + stream.flush()


def lz4(data: bytes) -> bytes:
    stream = cramjam.lz4.Compressor(level=1, content_checksum=True, block_linked=False)
    stream.compress(data)
    return bytes(stream.finish())


PACK: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": gzip,
    "snappy": lambda data: bytes(cramjam.snappy.compress_raw(data)),
    "xerial": lambda data: bytes(snappy_encode(data)),
    "lz4": lz4,
    "zstd": lambda data: zstd.compress(data, level=1),
}


def code(pack: str) -> int:
    """Return Kafka's number of a compression in `PACK`."""
    return CODECS.index("snappy" if pack == "xerial" else pack)


def batch(  # noqa: PLR0913 - each part of a batch may be wrong
    records: bytes | Iterable[bytes],
    count: int | None = None,
    *,
    first: int = 0,
    last_delta: int | None = None,
    pack: str = "none",
    packed: bytes | None = None,
    attributes: int = 0,
    stamp: int = STAMP,
) -> bytes:
    """Return a v2 batch with the right checksum.

    Args:
        records: of which it is made.
        count: number of records it claims.
        first: its first offset.
        last_delta: of its last offset.
        pack: how it is compressed, a name in `PACK`.
        packed: its content as it is, compressed or not.
        attributes: beside the compression.
        stamp: Kafka timestamp of its first record, ms.
    """
    if not isinstance(records, bytes):
        parts = list(records)
        count = len(parts) if count is None else count
        records = b"".join(parts)
    count = 1 if count is None else count
    last_delta = count - 1 if last_delta is None else last_delta
    content = PACK[pack](records) if packed is None else packed
    fields = (attributes | code(pack), last_delta, stamp, stamp + 9, -1, -1, -1, count)
    start = HEADER.pack(first, HEADER.size - 12 + len(content), 0, 2, 0, *fields)
    crc = calc_crc32c(bytearray(start[21:] + content))
    return HEADER.pack(first, HEADER.size - 12 + len(content), 0, 2, crc, *fields) + content


def bomb(pack: str, count: int, size: int) -> bytes:
    """Return a batch of `count` records with values of `size` zeros; never unpacked here."""
    if pack == "gzip":
        stream: Any = zlib.compressobj(6, zlib.DEFLATED, 31)
        add, end = stream.compress, stream.flush
    elif pack == "zstd":
        stream = zstd.ZstdCompressor(level=1)
        add, end = stream.compress, stream.flush
    else:
        stream = cramjam.lz4.Compressor(level=1, content_checksum=False, block_linked=False)
        add, end = lambda data: stream.compress(data) and b"", stream.finish
    zeros, parts = bytes(1 << 20), []
    for number in range(count):
        start = b"\0\0" + varint(number) + sized(b"k") + varint(size)
        parts.append(add(varint(len(start) + size + 1) + start))
        parts += [add(zeros[: size - at]) for at in range(0, size, len(zeros))]
        parts.append(add(b"\0"))
    return batch(b"", count, packed=b"".join([*parts, bytes(end())]), pack=pack)


async def send_batch(bootstrap: str, tp: TopicPartition, data: bytes) -> int:
    """Send a batch as it is; return the offset the broker gave it.

    Raises:
        KafkaError: the broker refused it.
    """
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        async with asyncio.timeout(20):
            while True:
                await client._wait_on_metadata(tp.topic)
                request = ProduceRequest(None, -1, 20_000, [(tp.topic, [(tp.partition, data)])])
                leader = client.cluster.leader_for_partition(tp)
                response = await client.send(leader, request)
                [(_, [(_, code, offset, *_)])] = response.topics
                if (error := for_code(code)) is NoError:
                    return int(offset)
                if not error.retriable:
                    raise error
                await asyncio.sleep(0.05)  # a topic just made has no leader yet
    finally:
        await client.close()
