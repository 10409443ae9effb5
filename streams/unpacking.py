"""Unpacking of compressed record batches in bounded memory, in one go or piece by piece.

One go is for nearly all batches: native code writes into a buffer that is there already, and stops
where that is full. What does not fit, or does not unpack, is gone through in pieces; so a batch
that unpacks to gigabytes is read like any other, and of a damaged one what stands before the
damage. Both take what Java's, librdkafka's and aiokafka's producers write.
"""

from __future__ import annotations

import struct
import sys
import zlib
from typing import TYPE_CHECKING

import cramjam

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")

PIECE = 1 << 20
"""Bytes of a piece; one of lz4 has up to 4 MiB and one of snappy up to `SNAPPY_BLOCK`."""
MAX_FRAMES = 4096
"""Frames of one batch. Every producer writes one; each costs time, and it may be empty."""
ZSTD_WINDOW_LOG = 23
"""8 MiB, what every encoder is asked to keep to (RFC 8878, 3.1.1.1.2). More would be memory that
each partition holds while one of its batches is read in pieces."""
SNAPPY_BLOCK = 64 << 20
"""A block of snappy can only be unpacked whole."""
SNAPPY_RATIO = 22
"""More than snappy can ever save: 64 bytes from 3. A block that claims more lies."""

_INPUT = 64 * 1024
_XERIAL = b"\x82SNAPPY\x00"
_XERIAL_HEADER = 16
_LZ4_MAGIC = b"\x04\x22\x4d\x18"
_ZSTD_MAGIC, _ZSTD_SKIPPED = b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"
_LZ4_BLOCK = {4: 64 << 10, 5: 256 << 10, 6: 1 << 20, 7: 4 << 20}


class DamagedError(ValueError):
    """What was fetched cannot be read on from here; the message says why."""


def unpack(codec: int, data: memoryview, into: memoryview) -> int | None:
    """Unpack all of `data` at once.

    Returns:
        How many bytes were written, None where they did not fit or `data` is damaged; then `into`
        holds anything.
    """
    try:
        return _INTO[codec](data, into) if codec in _INTO else None
    except (cramjam.DecompressionError, DamagedError):
        return None


def pieces(codec: int, data: memoryview) -> Iterator[bytes]:
    """Unpack `data` from its begin, in pieces of bounded size.

    What follows the last frame and is none itself is left alone, as Java's consumer does.

    Raises:
        DamagedError: at the piece that cannot be unpacked.
    """
    unpacked = _PIECES.get(codec)
    if unpacked is None:
        raise DamagedError(f"compression type {codec} does not exist; known are {CODECS}")
    try:
        yield from unpacked(data)
    except (cramjam.DecompressionError, zlib.error, zstd.ZstdError, struct.error) as error:
        raise DamagedError(f"{CODECS[codec]} does not unpack: {error}") from error


def _gzip(data: memoryview) -> Iterator[bytes]:
    at = 0
    for _ in range(MAX_FRAMES):
        stream = zlib.decompressobj(wbits=31)
        while not stream.eof:
            fed = stream.unconsumed_tail
            if not fed:
                fed = bytes(data[at : at + _INPUT])
                at += len(fed)
                if not fed:
                    raise DamagedError("gzip ends before its end mark")
            if piece := stream.decompress(fed, PIECE):
                yield piece
        at -= len(stream.unused_data)
        if bytes(data[at : at + 2]) != b"\x1f\x8b":
            return
    raise DamagedError(f"gzip has more than {MAX_FRAMES} members")


def _zstd(data: memoryview) -> Iterator[bytes]:
    at = 0
    limit = {int(zstd.DecompressionParameter.window_log_max): ZSTD_WINDOW_LOG}
    for _ in range(MAX_FRAMES):
        stream = zstd.ZstdDecompressor(options=limit)
        while not stream.eof:
            fed = b""
            if stream.needs_input:
                fed = bytes(data[at : at + _INPUT])
                at += len(fed)
                if not fed:
                    raise DamagedError("zstd ends inside a frame")
            if piece := stream.decompress(fed, PIECE):
                yield piece
        at -= len(stream.unused_data)
        if not _begins_zstd(bytes(data[at : at + 4])):
            return
    raise DamagedError(f"zstd has more than {MAX_FRAMES} frames")


def _begins_zstd(magic: bytes) -> bool:
    """Say whether a frame begins so, or one that is to be skipped."""
    return magic == _ZSTD_MAGIC or (
        magic[1:] == _ZSTD_SKIPPED[1:] and magic[0] & 0xF0 == _ZSTD_SKIPPED[0]
    )


def _lz4(data: memoryview) -> Iterator[bytes]:
    """Read LZ4 frames; cramjam has no reader in pieces, but unpacks their blocks."""
    at = 0
    for _ in range(MAX_FRAMES):
        if bytes(data[at : at + 4]) != _LZ4_MAGIC:
            if at == 0:
                raise DamagedError("lz4 does not begin with a frame")
            return
        flags, kind = struct.unpack_from("BB", data, at + 4)
        limit = _LZ4_BLOCK.get(kind >> 4)
        if flags >> 6 != 1 or limit is None:
            raise DamagedError(f"lz4 frame has the unknown flags {flags:02x} {kind:02x}")
        if not flags & 0x20:
            raise DamagedError("lz4 blocks depend on each other, which Kafka does not allow")
        # Magic, flags, block kind; then size of the content, dictionary, and a checksum.
        at += 6 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0) + 1
        while True:
            (size,) = struct.unpack_from("<I", data, at)
            at += 4
            if size == 0:
                break
            block, plain = data[at : at + (size & 0x7FFFFFFF)], size >> 31
            if len(block) < size & 0x7FFFFFFF:
                raise DamagedError("lz4 ends inside a block")
            at += len(block) + (4 if flags & 0x10 else 0)
            if plain:
                yield bytes(block)
            else:
                into = bytearray(limit)
                yield bytes(memoryview(into)[: cramjam.lz4.decompress_block_into(block, into)])
        at += 4 if flags & 0x04 else 0
    raise DamagedError(f"lz4 has more than {MAX_FRAMES} frames")


def _snappy(data: memoryview) -> Iterator[bytes]:
    for block in _snappy_blocks(data):
        _snappy_size(block)
        yield bytes(cramjam.snappy.decompress_raw(block))


def _unpack_snappy(data: memoryview, into: memoryview) -> int | None:
    at = 0
    for block in _snappy_blocks(data):
        if _snappy_size(block) > len(into) - at:
            return None
        at += cramjam.snappy.decompress_raw_into(block, into[at:])
    return at


def _snappy_blocks(data: memoryview) -> Iterator[memoryview]:
    """Yield the one block that librdkafka writes, or those inside the frame of Java's library."""
    if bytes(data[: len(_XERIAL)]) != _XERIAL:
        yield data
        return
    at = _XERIAL_HEADER
    while at < len(data):
        (size,) = struct.unpack_from(">i", data, at)
        at += 4
        if not 0 < size <= len(data) - at:
            raise DamagedError(f"a snappy block claims {size} bytes, {len(data) - at} are there")
        yield data[at : at + size]
        at += size


def _snappy_size(block: memoryview) -> int:
    size = int(cramjam.snappy.decompress_raw_len(block))
    most = min(SNAPPY_BLOCK, SNAPPY_RATIO * len(block))
    if size > most:
        raise DamagedError(
            f"a snappy block of {len(block)} bytes claims {size} unpacked, at most {most} are read"
        )
    return size


_INTO: dict[int, Callable[[memoryview, memoryview], int | None]] = {
    GZIP: cramjam.gzip.decompress_into,
    SNAPPY: _unpack_snappy,
    LZ4: cramjam.lz4.decompress_into,
    ZSTD: cramjam.zstd.decompress_into,
}
_PIECES: dict[int, Callable[[memoryview], Iterator[bytes]]] = {
    GZIP: _gzip,
    SNAPPY: _snappy,
    LZ4: _lz4,
    ZSTD: _zstd,
}
