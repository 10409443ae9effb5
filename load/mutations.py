"""What is done to good values to make hostile ones, and how often.

Avro is written by hand here, field by field, so that each can be replaced by bytes that no encoder
would write. Nothing is imported from `streams`.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

HOUR = 3_600_000
DAY = 24 * HOUR
_LATEST = 36 * DAY
_AHEAD = 300_000


class Mutation(StrEnum):
    """What is wrong, or merely odd, about a fuzzed record."""

    BIT_FLIPS = "BIT_FLIPS"
    """One to three bits of the body are flipped."""
    BYTE_CHANGED = "BYTE_CHANGED"
    """One byte of the body is another one."""
    TRUNCATED = "TRUNCATED"
    """The body ends early."""
    INSERTED = "INSERTED"
    """Up to twelve bytes stand in the body that were not there."""
    DELETED = "DELETED"
    """Up to twelve bytes of the body are missing."""
    APPENDED = "APPENDED"
    """Bytes follow the body, or a whole second value."""
    WRONG_LENGTH = "WRONG_LENGTH"
    """A length, count or branch is another number: near, negative, huge, or written too long."""
    IMITATION = "IMITATION"
    """The body ends early and goes on as the next value does."""
    RECORD_IMITATION = "RECORD_IMITATION"
    """The body ends early and goes on as Kafka would go on: record header, key, value."""
    ODD_FIELD = "ODD_FIELD"
    """A field at, near or past its limits, or in an encoding that is rarely seen."""
    ODD_TIME = "ODD_TIME"
    """An event time at, near or past the limits of admission."""
    NOISE_BODY = "NOISE_BODY"
    """Random bytes behind the right frame."""
    NOISE = "NOISE"
    """Random bytes."""
    EMPTY = "EMPTY"
    """No bytes."""
    NULL = "NULL"
    """No value."""
    WRONG_MARKER = "WRONG_MARKER"
    """The first two bytes are others."""
    WRONG_FINGERPRINT = "WRONG_FINGERPRINT"
    """The fingerprint, or the registry's id, has a wrong bit or is random."""
    OTHER_RECORD = "OTHER_RECORD"
    """A value of a record that belongs elsewhere."""
    REGISTRY_ID = "REGISTRY_ID"
    """The framing of schema registries, with an id nobody gave out."""
    SHORT_FRAME = "SHORT_FRAME"
    """The value ends within its frame."""
    OTHER_FORMAT = "OTHER_FORMAT"
    """JSON, text, or an Avro file."""
    OVERSIZE = "OVERSIZE"
    """A text that makes the value larger than the largest allowed; small once compressed."""
    NULL_KEY = "NULL_KEY"
    """No key."""
    NOISE_KEY = "NOISE_KEY"
    """Random bytes as key, or a good key with one changed."""
    OTHER_KEY = "OTHER_KEY"
    """The key of another agent of the partition."""
    STRAY = "STRAY"
    """A good record in a partition that is not that of its key."""
    ODD_TIMESTAMP = "ODD_TIMESTAMP"
    """A good record whose Kafka timestamp is long past."""


M = Mutation
SHARES: dict[Mutation, int] = {
    M.BIT_FLIPS: 120,
    M.BYTE_CHANGED: 60,
    M.TRUNCATED: 80,
    M.INSERTED: 60,
    M.DELETED: 40,
    M.APPENDED: 30,
    M.WRONG_LENGTH: 80,
    M.IMITATION: 50,
    M.RECORD_IMITATION: 30,
    M.ODD_FIELD: 80,
    M.ODD_TIME: 40,
    M.NOISE_BODY: 30,
    M.NOISE: 40,
    M.EMPTY: 10,
    M.NULL: 20,
    M.WRONG_MARKER: 30,
    M.WRONG_FINGERPRINT: 50,
    M.OTHER_RECORD: 29,
    M.REGISTRY_ID: 30,
    M.SHORT_FRAME: 20,
    M.OTHER_FORMAT: 10,
    M.OVERSIZE: 1,
    M.NULL_KEY: 10,
    M.NOISE_KEY: 10,
    M.OTHER_KEY: 20,
    M.STRAY: 10,
    M.ODD_TIMESTAMP: 10,
}
"""How many of a thousand fuzzed records."""
BODIES = frozenset(list(SHARES)[:12])
"""Mutations of the body behind a valid frame."""
KEYS = frozenset({M.NULL_KEY, M.NOISE_KEY, M.OTHER_KEY, M.STRAY, M.ODD_TIMESTAMP})
"""Mutations that leave the value as it was."""


def zigzag(number: int) -> bytes:
    """Encode an Avro int or long."""
    return varint((number << 1) ^ (number >> 63))


def varint(number: int) -> bytes:
    """Encode an unsigned number in groups of seven bits."""
    out = bytearray()
    number &= (1 << 64) - 1
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*out, number))


def text(raw: str | bytes) -> bytes:
    """Encode an Avro string, which need not be UTF-8."""
    data = raw.encode() if isinstance(raw, str) else raw
    return zigzag(len(data)) + data


def double(number: float) -> bytes:
    """Encode an Avro double."""
    return struct.pack("<d", number)


def optional(piece: bytes | None) -> bytes:
    """Encode a union of null and something."""
    return b"\0" if piece is None else b"\2" + piece


_HUGE = [zigzag(number) for number in (-1, -7, 1 << 13, 1 << 31, 1 << 62, (1 << 63) - 1, -1 << 63)]
_LONG_ZERO = [b"\x80\x00", b"\x80" * 8 + b"\x00", b"\x80" * 9 + b"\x00", b"\x80" * 12 + b"\x00"]
_NAN = struct.pack("<Q", 0x7FF0000000000001)
_GRIN = "\N{GRINNING FACE}"
_TEXTS = [
    *map(text, ("", "x", "x" * 256, "x" * 257, "ä" * 256, "ä" * 257, _GRIN * 256, _GRIN * 257)),
    *map(
        text, (b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"a\0b", b"\xf4\x90\x80\x80", b"x" * 9000)
    ),
    *_HUGE,
    b"\x84\x80\x00ab",
]
_LONGS = [zigzag(n) for n in (0, 1, -1, 63, 64, 1 << 40, (1 << 40) + 1)] + _HUGE + _LONG_ZERO
_LONGS += [b"\xff" * 9 + b"\x01", b"\xff" * 10 + b"\x01", b"\xff" * 9 + b"\x7f"]
_FLOATS = (0.0, -0.0, 1.0, -1e-300, 5e-324, 5e-7, 4.9e-7, 1e9, 1.0000001e9, 1e12, 1.0000001e12)
_DOUBLES = [*map(double, (*_FLOATS, 1e308, float("inf"), float("-inf"), float("nan"))), _NAN]
_ITEMS = double(0.5) + double(float("nan"))
_ARRAYS = [
    b"\0",
    zigzag(2) + _ITEMS + b"\0",
    zigzag(-2) + zigzag(16) + _ITEMS + b"\0",
    zigzag(-2) + zigzag(3) + _ITEMS + b"\0",
    zigzag(1) + double(1.0) + zigzag(-1) + zigzag(8) + double(2.0) + b"\0",
    zigzag(300) + double(0.25) * 300 + b"\0",
    zigzag(1) + double(1.0),
    zigzag(2) + double(1.0) + b"\0",
    *_HUGE,
    *_LONG_ZERO,
]
ODD: dict[str, list[bytes]] = {
    "string": _TEXTS,
    "long": _LONGS,
    "double": _DOUBLES,
    "enum": [*map(zigzag, (0, 1, 2, 3, 4, 5, 63, 64, -1, -2, -4, -5)), *_HUGE, *_LONG_ZERO],
    "boolean": [b"\0", b"\1", b"\2", b"\x80", b"\xff", b""],
    "array": _ARRAYS,
}
"""Encodings to replace a field by, by its type."""
_BRANCHES = [b"\0", b"\1", b"\3", b"\4", b"\x80\x00", b"\x82\x00", zigzag(1 << 62)]
_FOREIGN = [
    json.dumps({"event_id": "e", "agent_id": "a"}).encode(),
    b"Obj\x01\x04\x14avro.codec\x08null\x00",
    b"agent-1,invoice,AUTOMATED",
    b"<?xml version='1.0'?>",
    b"\xff\xfe\x00\x00",
]


@dataclass(frozen=True, slots=True)
class Sample:
    """A good record, and what a mutation may need beside it.

    Attributes:
        frame: the bytes before the body.
        pieces: the encoded fields, event id and event time first.
        kinds: their types; a `?` at the end is a union with null.
        key: its key.
        timestamp: its Kafka timestamp, ms.
        follower: the value of another good record of the topic.
        other: the value of a good record of another topic.
    """

    frame: bytes
    pieces: Sequence[bytes]
    kinds: Sequence[str]
    key: bytes
    timestamp: int
    follower: bytes
    other: bytes

    @property
    def body(self) -> bytes:
        """The fields joined."""
        return b"".join(self.pieces)


def mutated(random: Random, mutation: Mutation, sample: Sample) -> bytes | None:
    """Return the value of a sample after a mutation of its value."""
    if mutation in BODIES:
        return sample.frame + _OF_BODIES[mutation](random, sample)
    return _OF_VALUES[mutation](random, sample)


def _bit_flips(random: Random, sample: Sample) -> bytes:
    body = bytearray(sample.body)
    for _ in range(random.randint(1, 3)):
        body[random.randrange(len(body))] ^= 1 << random.randrange(8)
    return bytes(body)


def _byte_changed(random: Random, sample: Sample) -> bytes:
    body = bytearray(sample.body)
    body[random.randrange(len(body))] = random.randrange(256)
    return bytes(body)


def _truncated(random: Random, sample: Sample) -> bytes:
    body = sample.body
    return body[: random.randrange(len(body))]


def _inserted(random: Random, sample: Sample) -> bytes:
    body, at = sample.body, random.randrange(len(sample.body) + 1)
    return body[:at] + random.randbytes(random.randint(1, 12)) + body[at:]


def _deleted(random: Random, sample: Sample) -> bytes:
    body, at = sample.body, random.randrange(len(sample.body))
    return body[:at] + body[at + random.randint(1, 12) :]


def _appended(random: Random, sample: Sample) -> bytes:
    tails = (random.randbytes(random.randint(1, 20)), b"\0", sample.follower, sample.follower[10:])
    return sample.body + random.choice(tails)


def _wrong_length(random: Random, sample: Sample) -> bytes:
    """Replace the first number of a field that begins with a length, a count or a branch."""
    pieces = list(sample.pieces)
    at = random.choice([i for i, kind in enumerate(sample.kinds) if kind not in _FIXED])
    piece, kind = pieces[at], sample.kinds[at]
    lead = b""
    if kind.endswith("?"):
        if piece == b"\0" or random.random() < 0.4:
            pieces[at] = random.choice(_BRANCHES) + piece[1:]
            return b"".join(pieces)
        lead, piece = piece[:1], piece[1:]
    size = 1 + next(i for i, octet in enumerate(piece) if octet < 0x80)
    near = (int.from_bytes(piece[:1], "little") >> 1) + random.randint(-3, 3)
    number = random.choice([zigzag(near), *_HUGE, *_LONG_ZERO])
    pieces[at] = lead + number + piece[size:]
    return b"".join(pieces)


def _imitation(random: Random, sample: Sample) -> bytes:
    follower = sample.follower[: random.randint(1, len(sample.follower))]
    return _truncated(random, sample) + follower[10 if random.random() < 0.3 else 0 :]


def _record_imitation(random: Random, sample: Sample) -> bytes:
    key, value = sample.key, sample.follower
    record = b"\0" + zigzag(random.randrange(100)) + zigzag(random.randrange(1000))
    record += zigzag(len(key)) + key + zigzag(len(value)) + value + b"\0"
    headers = b"\0" if random.random() < 0.5 else b""
    return _truncated(random, sample) + headers + zigzag(len(record)) + record


def _odd_field(random: Random, sample: Sample) -> bytes:
    pieces = list(sample.pieces)
    at = random.randrange(len(pieces))
    kind = sample.kinds[at]
    piece = random.choice(ODD[kind.rstrip("?")])
    pieces[at] = b"\2" + piece if kind.endswith("?") else piece
    return b"".join(pieces)


def _odd_time(random: Random, sample: Sample) -> bytes:
    pieces, stamp = list(sample.pieces), sample.timestamp
    oldest = stamp // HOUR * HOUR - _LATEST
    edges = (stamp + _AHEAD, stamp + _AHEAD + 1, oldest, oldest - 1, oldest + HOUR, stamp + DAY)
    limits = (0, -1, 4_102_444_799_999, 4_102_444_800_000, 1 << 62, stamp * 1000, stamp // 1000)
    pieces[1] = zigzag(random.choice((*edges, *limits, stamp - random.randrange(40 * DAY))))
    return b"".join(pieces)


def _noise_body(random: Random, sample: Sample) -> bytes:
    del sample
    return random.randbytes(random.randrange(300))


def _noise(random: Random, sample: Sample) -> bytes:
    return _noise_body(random, sample)


def _wrong_marker(random: Random, sample: Sample) -> bytes:
    marker = bytearray(sample.frame[:2])
    marker[random.randrange(2)] ^= 1 << random.randrange(8)
    return bytes(marker) + sample.frame[2:] + sample.body


def _wrong_fingerprint(random: Random, sample: Sample) -> bytes:
    lead = 1 if sample.frame.startswith(b"\0") else 2
    mark = bytearray(sample.frame[lead:])
    if random.random() < 0.7:
        mark[random.randrange(len(mark))] ^= 1 << random.randrange(8)
    else:
        mark[:] = random.randbytes(len(mark))
    return sample.frame[:lead] + bytes(mark) + sample.body


def _registry_id(random: Random, sample: Sample) -> bytes:
    number = random.choice((0, 1, 7, 1 << 31, (1 << 32) - 1, random.randrange(1 << 32)))
    return b"\0" + number.to_bytes(4, "big") + sample.body


def _short_frame(random: Random, sample: Sample) -> bytes:
    frame = random.choice((sample.frame, b"\0\0\0\0\1"))
    return frame[: random.randrange(1, len(frame))]


def _oversize(random: Random, sample: Sample) -> bytes:
    pieces = list(sample.pieces)
    at = random.choice([i for i, kind in enumerate(sample.kinds) if kind == "string?"])
    pieces[at] = optional(text(b"x" * random.choice((1 << 20, (1 << 20) + 7, 3 << 20))))
    return sample.frame + b"".join(pieces)


_FIXED = {"long", "double", "boolean", "enum"}
_OF_BODIES: dict[Mutation, Callable[[Random, Sample], bytes]] = {
    M.BIT_FLIPS: _bit_flips,
    M.BYTE_CHANGED: _byte_changed,
    M.TRUNCATED: _truncated,
    M.INSERTED: _inserted,
    M.DELETED: _deleted,
    M.APPENDED: _appended,
    M.WRONG_LENGTH: _wrong_length,
    M.IMITATION: _imitation,
    M.RECORD_IMITATION: _record_imitation,
    M.ODD_FIELD: _odd_field,
    M.ODD_TIME: _odd_time,
    M.NOISE_BODY: _noise_body,
}
_OF_VALUES: dict[Mutation, Callable[[Random, Sample], bytes | None]] = {
    M.NOISE: _noise,
    M.EMPTY: lambda _random, _sample: b"",
    M.NULL: lambda _random, _sample: None,
    M.WRONG_MARKER: _wrong_marker,
    M.WRONG_FINGERPRINT: _wrong_fingerprint,
    M.OTHER_RECORD: lambda _random, sample: sample.other,
    M.REGISTRY_ID: _registry_id,
    M.SHORT_FRAME: _short_frame,
    M.OTHER_FORMAT: lambda random, _sample: random.choice(_FOREIGN),
    M.OVERSIZE: _oversize,
}
