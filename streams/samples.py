"""What a producer's author has in hand, one record at a time: bytes, hex text, JSON, a container.

Nothing is judged here but whether there is something to judge; what cannot be read says why and
does not stop the rest. Memory holds one record, or one block of a container.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, cast

import fastavro

from streams import schemas

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from io import BufferedReader

LIMIT = 16 * 1024 * 1024
"""Bytes of one record; of a larger one only the size is looked at."""

_BESIDE = frozenset({"topic", "partition", "offset", "timestamp", "key", "headers"})
"""Names that `tail --json` puts beside the fields of a record."""
_CONTAINER = b"Obj\x01"


class SampleError(ValueError):
    """The input cannot be read at all; the message says what to do."""


class Format(StrEnum):
    """How records are given."""

    RAW = "raw"
    HEX = "hex"
    JSON = "json"
    AVRO = "avro"


@dataclass(frozen=True, slots=True)
class Sample:
    """One record as it was given.

    Attributes:
        where: place in the input, for people.
        value: the bytes of the value; None where it is null, or `record` is given.
        record: its fields by name, where they were given so.
        topic: topic without prefix; None where that was not said.
        key: the record key; None where it is null or not given.
        has_key: whether a key was given; a given one may be null.
        partition: partition it stood in, if it was said.
        timestamp: Kafka timestamp in ms, if it was said.
        schema: schema that the container says it was written with.
        size: bytes of the value, where `value` is only its beginning.
        unreadable: why there is no record here; the other fields mean nothing then.
    """

    where: str
    value: bytes | None = None
    record: Mapping[str, Any] | None = None
    topic: str | None = None
    key: bytes | None = None
    has_key: bool = False
    partition: int | None = None
    timestamp: int | None = None
    schema: schemas.Schema | None = None
    size: int | None = None
    unreadable: str | None = None


def detect(source: BufferedReader) -> Format:
    """Return the format by the first bytes, without taking them.

    Raises:
        SampleError: they are those of none.
    """
    head = source.peek(64)
    if head.startswith(_CONTAINER):
        return Format.AVRO
    if head.startswith((schemas.MARKER, schemas.REGISTRY_MARKER)):
        return Format.RAW
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{") or not text:
        return Format.JSON
    if text.startswith(b"["):
        raise SampleError("A JSON array: write one object a line (jq -c '.[]' does).")
    first = text.split(None, 1)[0].removeprefix(b"0x")
    if first and all(byte in b"0123456789abcdefABCDEF" for byte in first):
        return Format.HEX
    raise SampleError(
        f"The input starts with {head[:4].hex(' ')}: no value (c3 01 or 00), no hex text, no JSON "
        "and no Avro container. If it is one nevertheless, say which with --format."
    )


def samples(source: BufferedReader, form: Format) -> Iterator[Sample]:
    """Yield the records of an input.

    Raises:
        SampleError: a container is damaged; what stood before the damage was yielded.
    """
    readers = {
        Format.RAW: _raw,
        Format.HEX: _hex,
        Format.JSON: _json,
        Format.AVRO: _container,
    }
    return readers[form](source)


def _raw(source: BufferedReader) -> Iterator[Sample]:
    value = source.read(LIMIT)
    size = len(value)
    while more := source.read(LIMIT):
        size += len(more)
    yield Sample("the value", value, size=size)


def _hex(source: BufferedReader) -> Iterator[Sample]:
    """A line that begins like the first one begins a value, others continue it."""
    begin: tuple[str, ...] = ()
    where, digits = "", ""
    for number, line in _lines(source):
        text = "".join(line.split()).lower().removeprefix("0x")
        if not begin and text:
            begin = tuple(each for each in ("c301", "00") if text.startswith(each))
        starts = not begin or text.startswith(begin)
        if digits and (starts or not text):
            yield _of_hex(where, digits)
            digits = ""
        if not digits:
            where = f"line {number}"
        digits += text
        if len(digits) > 2 * LIMIT:
            yield Sample(where, unreadable=f"more than {LIMIT} bytes: not read to its end")
            return
    if digits:
        yield _of_hex(where, digits)


def _of_hex(where: str, digits: str) -> Sample:
    try:
        return Sample(where, bytes.fromhex(digits))
    except ValueError:
        strange = [at for at, digit in enumerate(digits) if digit not in "0123456789abcdef"]
        why = f"character {strange[0] + 1} is no hex digit" if strange else "an odd number of them"
        return Sample(where, unreadable=f"{len(digits)} hex digits: {why}")


def _json(source: BufferedReader) -> Iterator[Sample]:
    """One object a line, or indented ones that each begin at the start of a line."""
    where, text = "", ""
    for number, line in _lines(source):
        if text and line.startswith("{"):
            yield _of_json(where, text)
            text = ""
        if not text:
            where = f"line {number}"
        text += line
        if not text.strip():
            text = ""
        elif len(text) > LIMIT:
            yield Sample(where, unreadable=f"more than {LIMIT} characters: not read to its end")
            return
        elif line.rstrip().endswith("}") and (found := _object(text)) is not None:
            yield _of_fields(where, found)
            text = ""
    if text:
        yield _of_json(where, text)


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _of_json(where: str, text: str) -> Sample:
    """Return the sample of a text that may be no JSON object."""
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        why = f"no JSON: {error.msg} at line {error.lineno}, column {error.colno} of it"
        return Sample(where, unreadable=why)
    except (ValueError, RecursionError) as error:
        return Sample(where, unreadable=f"no JSON: {type(error).__name__}")
    if not isinstance(found, dict):
        return Sample(where, unreadable="JSON, but no object with the fields of a record")
    return _of_fields(where, found)


def _of_fields(where: str, found: dict[str, Any]) -> Sample:
    if "undecoded" in found:
        why = "a record that `tail` could not decode; it printed no value to look at"
        return Sample(where, unreadable=why)
    topic, inner = found.get("topic"), found.get("record")
    named = isinstance(topic, str)
    record = inner if isinstance(inner, dict) else found
    if record is found:  # what stands beside the fields; "key" alone may stand beside bare ones
        beside = _BESIDE if named else {"key"}
        record = {name: value for name, value in found.items() if name not in beside}
    key = found.get("key")
    return Sample(
        where,
        record=record,
        topic=topic if named else None,
        key=key.encode("utf-8", "surrogatepass") if isinstance(key, str) else None,
        has_key="key" in found,
        partition=_whole(found.get("partition")) if named else None,
        timestamp=_whole(found.get("timestamp")) if named else None,
    )


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _container(source: BufferedReader) -> Iterator[Sample]:
    """Cut the blocks into the bodies that were written, and frame them with their fingerprint."""
    number = 0
    try:
        schema: schemas.Schema | None = None
        for block in fastavro.block_reader(cast("IO[bytes]", _Counted(source))):
            schema = schema or schemas.build(_record_schema(block.writer_schema))
            for body in _bodies(block, schema):
                number += 1
                yield Sample(f"record {number}", schema.frame + body, schema=schema)
    except SampleError:
        raise
    # What fastavro raises on bytes that are no container depends on where they break.
    except Exception as error:
        raise SampleError(
            f"No Avro container after record {number}: {type(error).__name__}. Is the file whole, "
            "and its compression one of null, deflate, bzip2, xz?"
        ) from error


class _Counted:
    """A pipe that can say how much was read of it: the reader of blocks asks."""

    def __init__(self, source: BufferedReader) -> None:
        self._source, self._at = source, 0

    def read(self, size: int) -> bytes:
        found = self._source.read(size)
        self._at += len(found)
        return found

    def tell(self) -> int:
        return self._at


def _record_schema(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict) or raw.get("type") != "record":
        raise SampleError("The container holds no records.")
    return raw


def _bodies(block: Any, schema: schemas.Schema) -> Iterator[bytes]:
    data: IO[bytes] = BytesIO(block.bytes_.read())
    for _ in range(block.num_records):
        start = data.tell()
        fastavro.schemaless_reader(data, schema.parsed, None)
        end = data.tell()
        data.seek(start)
        yield data.read(end - start)


def _lines(source: BufferedReader) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers; a longer one than LIMIT comes in pieces."""
    number = 0
    while line := source.readline(2 * LIMIT + 2):
        number += 1
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", "replace")
        yield number, text
