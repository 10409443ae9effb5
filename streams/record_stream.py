"""The records of a Kafka batch as a stream of bytes, of which a bounded part is in memory."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from aiokafka.record.util import decode_varint

from streams.rows import SMALL
from streams.unpacking import DamagedError, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

CHUNK = 4 << 20
"""Bytes that aiokafka is given at once: as objects they can become forty times that, if all are
headers of two bytes."""
WORK = 32 << 20
"""Bytes unpacked after which a reader lets others go on, though it has found nothing yet."""

HEADER = struct.Struct(">qiibIhiqqqhii")
"""Of a v2 batch: from the base offset to the number of records."""
CODEC = 0x07
"""The bits of its attributes that say how it is compressed."""

_CODEC_AT = 22
_SLACK = bytes(16)
_INT32, _INT64 = 1 << 31, 1 << 63


class Scratch:
    """The buffer that batches are unpacked into, one at a time; each consumer has one."""

    def __init__(self, size: int) -> None:
        """Take memory for `size` bytes only when it is needed, and only as far as it is."""
        self._size = size
        self._buffer = bytearray()
        self._used = 0
        self._room = memoryview(self._buffer)
        self._holds: memoryview | None = None

    def view(self, batch: memoryview) -> memoryview | None:
        """Return a compressed batch as one that is not; None if that does not fit or unpack.

        It is good until another batch is asked for; then asking again unpacks again.
        """
        if self._holds is not batch:
            self._holds = None
            if not self._buffer:
                # Zeroed by the system, page by page as it is written to.
                self._buffer = bytearray(HEADER.size + self._size + len(_SLACK))
                self._room = memoryview(self._buffer)
            codec, end = batch[_CODEC_AT] & CODEC, HEADER.size + self._size
            size = unpack(codec, batch[HEADER.size :], self._room[HEADER.size : end])
            if size is None:
                return None
            self._used = end = HEADER.size + size
            self._room[: HEADER.size] = batch[: HEADER.size]
            self._room[_CODEC_AT] &= ~CODEC
            # aiokafka may look for the end of a number behind the end: it finds one there.
            self._room[end : end + len(_SLACK)] = _SLACK
            self._holds = batch
        return self._room[: self._used]


class RecordStream:
    """The records of a batch as bytes, as far as they are unpacked.

    Attributes:
        at: where the next record begins in what is in memory.
        work: bytes unpacked so far; who reads sets it back.

    Args:
        unpacked: the records in pieces.
    """

    def __init__(self, unpacked: Iterator[bytes]) -> None:
        self.at = 0
        self.work = 0
        self._unpacked = unpacked
        self._buffer: bytes | memoryview = b""
        self._damage: str | None = None

    def fill(self, size: int) -> int:
        """Unpack until `size` bytes are ahead; return how many are, fewer only at the end."""
        ahead = len(self._buffer) - self.at
        if ahead >= size:
            return ahead
        parts = [bytes(self._buffer[self.at :])]
        try:
            while ahead < size and (piece := next(self._unpacked, None)) is not None:
                parts.append(piece)
                ahead += len(piece)
                self.work += len(piece)
        except DamagedError as error:
            self._damage = str(error)
        self._buffer, self.at = b"".join(parts), 0
        return ahead

    def _why(self, where: str) -> str:
        return self._damage or f"the batch ends {where}"

    def walk(self, most: int) -> tuple[int, int]:
        """Return how many whole small records are ahead, and their bytes: a chunk at most."""
        ahead = min(self.fill(CHUNK), CHUNK)
        buffer, at, count = self._buffer, self.at, 0
        end = at + ahead
        while count < most and at < end:
            try:
                length, body = decode_varint(buffer, at)
            except (ValueError, IndexError):
                break
            if not 0 <= length <= SMALL or body + length > end:
                break
            at = body + length
            count += 1
        return count, at - self.at

    def peek(self, size: int) -> bytes:
        """Return the next bytes, which are there, and stay before them."""
        return bytes(self._buffer[self.at : self.at + size])

    def varint(self) -> tuple[int, int]:
        """Read a number; return it and the bytes it has."""
        value = 0
        for index, byte in enumerate(self.peek(min(10, self.fill(10)))):
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:  # noqa: PLR2004
                self.at += index + 1
                value &= 2 * _INT64 - 1
                return (value >> 1) ^ -(value & 1), index + 1
        raise DamagedError(self._why("where a number should stand"))

    def take(self, size: int, keep: int) -> Generator[None, None, bytes]:
        """Read `size` bytes and return the first `keep`; yields when that takes long."""
        kept = min(size, keep)
        if (ahead := self.fill(kept)) < kept:
            raise DamagedError(self._why(f"{size - ahead} bytes before a record does"))
        found = self.peek(kept)
        self.at += kept
        size -= kept
        while size:
            ahead = min(self.fill(1), size)
            if not ahead:
                raise DamagedError(self._why(f"{size} bytes before a record does"))
            self.at += ahead
            size -= ahead
            if self.work >= WORK:
                yield
        return found


class PlainStream(RecordStream):
    """The records of a batch that is not compressed.

    Args:
        batch: all of it.
        start: where its records begin.
    """

    def __init__(self, batch: memoryview, start: int) -> None:
        super().__init__(iter(()))
        self._buffer = batch
        self.at = start

    def fill(self, size: int) -> int:
        """Return how many bytes are ahead."""
        del size
        return len(self._buffer) - self.at


class UnpackedStream(PlainStream):
    """The records of a compressed batch in the scratch buffer, which others use in turn.

    Args:
        batch: what `again` gave.
        start: where its records begin.
        again: gives the same once more.
    """

    def __init__(
        self, batch: memoryview, start: int, again: Callable[[], memoryview | None]
    ) -> None:
        super().__init__(batch, start)
        self._again = again

    def fill(self, size: int) -> int:
        """Unpack again if another batch was read meanwhile."""
        self._buffer = self._again() or self._buffer
        return super().fill(size)


class RecordError(ValueError):
    """A record is wrong inside its length: it alone is lost."""


class Frame:
    """One record on the stream: nothing of it reaches past the length it claims."""

    def __init__(self, stream: RecordStream) -> None:
        self._stream = stream
        self.left, _ = stream.varint()
        if not 0 <= self.left < _INT32:
            raise DamagedError(f"a record claims to have {self.left} bytes")

    def number(self) -> int:
        """Read a varint."""
        value, size = self._stream.varint()
        if size > self.left:
            self._stream.at -= size - self.left
            self.left = 0
            raise RecordError("it ends inside a number")
        self.left -= size
        return value

    def take(self, size: int, keep: int) -> Generator[None, None, bytes]:
        """Read `size` bytes and return the first `keep`."""
        if size > self.left:
            raise RecordError(f"a field claims {size} bytes, {self.left} are left of it")
        self.left -= size
        return (yield from self._stream.take(size, keep))

    def rest(self) -> Generator[None, None, None]:
        """Skip what was not read."""
        yield from self.take(self.left, 0)
