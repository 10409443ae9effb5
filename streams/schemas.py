"""The Avro schemas of every topic and state record, and their single-object encoding.

A schema is named by its record's short name, which is also the name of its file. Times are plain
integers (ms) on both sides: the logical types in the files are for other readers.

Source of the framing and the fingerprint: Apache Avro 1.12 specification, "Single-object encoding"
and "Parsing Canonical Form for Schemas".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import fastavro
from fastavro.schema import fingerprint as avro_fingerprint
from fastavro.schema import to_parsing_canonical_form

from streams.compatibility import obstacles, side_by_side
from streams.reasons import DeadLetterReason
from streams.schema_tree import expand, from_text, short

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    Find = Callable[[bytes], "Schema | None"]
    """What gives the schema of a frame, None where it knows none."""

MARKER = b"\xc3\x01"
"""The two bytes every single-object value starts with."""
FRAME = len(MARKER) + 8
"""Bytes before the body: the marker and the fingerprint."""
REGISTRY_MARKER = b"\x00"
"""The byte every value in the wire format of schema registries starts with."""
REGISTRY_FRAME = len(REGISTRY_MARKER) + 4
"""Bytes before the body: the marker and the id, big-endian."""
HISTORY = "history"
"""The folder of the released versions: NAME/1.avsc and so on."""

_HERE = Path(__file__).resolve().parent


class DecodeError(ValueError):
    """A value that cannot be decoded, with the reason a dead letter would carry."""

    def __init__(self, reason: DeadLetterReason, detail: str) -> None:
        """Keep the `reason` beside the sentence."""
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """One schema, parsed once.

    Attributes:
        name: short name of the record.
        raw: the schema as in its file.
        parsed: the same for fastavro, without logical types.
        fingerprint: CRC-64-AVRO of the parsing canonical form, little-endian, 8 bytes.
    """

    name: str
    raw: dict[str, Any]
    parsed: Any
    fingerprint: bytes

    @property
    def tree(self) -> dict[str, Any]:
        """The schema without references to its own types.

        Raises:
            ValueError: it is outside the bounds of `streams.schema_tree`.
        """
        return expand(self.raw).root

    @property
    def frame(self) -> bytes:
        """The 10 bytes a value of this schema starts with."""
        return MARKER + self.fingerprint

    def read(self, body: bytes, reader: Schema | None = None) -> dict[str, Any]:
        """Decode a body without framing; the whole of it must be consumed.

        Args:
            body: what this schema wrote.
            reader: schema to resolve to, where it is not this one.

        Raises:
            DecodeError: BAD_BODY.
        """
        stream = BytesIO(body)
        try:
            resolved = None if reader is None else reader.parsed
            record = fastavro.schemaless_reader(stream, self.parsed, resolved)
        # fastavro documents no set of errors: what bad bytes raise depends on where they lie.
        except Exception as error:
            why = str(error).partition(" from <_io")[0]  # no address of an object of ours
            detail = f"no {self.name}: {type(error).__name__}: {why}"[:200]
            raise DecodeError(DeadLetterReason.BAD_BODY, detail) from error
        if stream.tell() != len(body):
            detail = f"{len(body) - stream.tell()} bytes left over after {self.name}"
            raise DecodeError(DeadLetterReason.BAD_BODY, detail)
        return cast("dict[str, Any]", record)

    def write(self, record: Mapping[str, Any], frame: bytes | None = None) -> bytes:
        """Encode a record with its framing; the opposite of `read` but for the framing.

        Args:
            record: the fields; those with a default may be left out.
            frame: what to put before the body; that of single objects when None.

        Raises:
            ValueError, TypeError: a field is missing, unknown or of a wrong type.
        """
        stream = BytesIO()
        stream.write(self.frame if frame is None else frame)
        fastavro.schemaless_writer(stream, self.parsed, record, strict_allow_default=True)
        return stream.getvalue()


def build(raw: Mapping[str, Any]) -> Schema:
    """Parse a schema given as the JSON of an .avsc file.

    Raises:
        fastavro.schema.SchemaParseException: it is no schema.
    """
    plain = _without_logical_types(raw)
    canonical = to_parsing_canonical_form(plain)
    return Schema(
        name=str(raw["name"]).rpartition(".")[2],
        raw=dict(raw),
        parsed=fastavro.parse_schema(plain, named_schemas={}),
        fingerprint=bytes.fromhex(avro_fingerprint(canonical, "CRC-64-AVRO")),
    )


def parse(text: str | bytes) -> Schema:
    """Parse a schema of unknown origin, given as JSON text.

    Values of what this returns can be decoded without harm; whether they can be read as a record
    of ours is the question of `readable`. Its `raw` has no references, docs or aliases.

    Raises:
        ValueError: it is no record schema, or outside the bounds of `streams.schema_tree`.
    """
    root, canonical = from_text(text)
    try:
        parsed = fastavro.parse_schema(_without_logical_types(root), named_schemas={})
    except fastavro.schema.SchemaParseException as error:
        raise ValueError(str(error)) from error
    mark = bytes.fromhex(avro_fingerprint(canonical, "CRC-64-AVRO"))
    return Schema(short(root["name"]), root, parsed, mark)


def readable(writer: Schema, name: str, wanted: Collection[str] | None = None) -> None:
    """Check that what a schema wrote can be read as the current record of a name.

    Args:
        writer: the schema.
        name: the record.
        wanted: the fields that matter; None = all.

    Raises:
        ValueError: it cannot; the message names each field, what is wrong with it, what to do.
    """
    found = obstacles(writer.tree, get(name).tree, wanted)
    if found:
        raise ValueError("; ".join(map(str, found)))


def get(name: str) -> Schema:
    """Return the schema named so.

    Raises:
        KeyError: there is none; the message lists those there are.
    """
    try:
        return _all()[name]
    except KeyError:
        known = ", ".join(_all())
        raise KeyError(f"no schema {name!r} in {directory()}; known: {known}") from None


def schema(name: str) -> dict[str, Any]:
    """Return the schema as in its file, with docs and logical types."""
    return get(name).raw


def fingerprint(name: str) -> bytes:
    """Return the 8 bytes that name the schema on the wire."""
    return get(name).fingerprint


def names() -> tuple[str, ...]:
    """Return the names of all schemas, sorted, those of state records included."""
    return tuple(_all())


@cache
def versions(name: str) -> tuple[Schema, ...]:
    """Return the released versions of a schema, the oldest (version 1) first.

    Raises:
        ValueError: a version is missing between two others.
    """
    folder = directory() / HISTORY / name
    paths = sorted(folder.glob("*.avsc"), key=lambda path: int(path.stem))
    if [path.stem for path in paths] != [str(n + 1) for n in range(len(paths))]:
        raise ValueError(f"{folder}: versions are numbered from 1 on, without gaps")
    return tuple(build(json.loads(path.read_text(encoding="utf-8"))) for path in paths)


def by_fingerprint(mark: bytes) -> Schema | None:
    """Return the current or released schema with this fingerprint, None where none is known."""
    return _fingerprints().get(mark)


def encode(name: str, record: Mapping[str, Any], frame: bytes | None = None) -> bytes:
    """Encode a record in single-object encoding: C3 01, the fingerprint, the body.

    Args:
        name: the schema.
        record: the fields.
        frame: what to put before the body instead, such as `registry_frame(7)`.

    Raises:
        ValueError, TypeError: a field is missing, unknown or of a wrong type.
    """
    return get(name).write(record, frame)


def decode(data: bytes, find: Find | None = None) -> tuple[str, dict[str, Any]]:
    """Decode a value under the schema its frame names, as the current version of its record.

    Args:
        data: the value.
        find: gives the schemas that are not built in; None where there are no others.

    Raises:
        DecodeError: BAD_FRAMING, UNKNOWN_SCHEMA, INCOMPATIBLE_SCHEMA or BAD_BODY.
    """
    frame = frame_of(data)
    found = find_by(frame, find)
    if found is None:
        raise DecodeError(DeadLetterReason.UNKNOWN_SCHEMA, unknown(frame))
    body = data[len(frame) :]
    current = _all().get(found.name)
    if current is None or found is current:
        return found.name, found.read(body)
    return found.name, _whole(found.name).resolve(found, body)


def frame_of(data: bytes) -> bytes:
    """Return what a value starts with and what names its schema.

    Returns:
        C3 01 and the fingerprint (10 bytes), or 00 and the registry's id (5 bytes).

    Raises:
        DecodeError: BAD_FRAMING.
    """
    if len(data) >= FRAME and data.startswith(MARKER):
        return data[:FRAME]
    if len(data) >= REGISTRY_FRAME and data.startswith(REGISTRY_MARKER):
        return data[:REGISTRY_FRAME]
    start = data[:2].hex() or "nothing"
    short = " and is cut short" if data.startswith((MARKER, REGISTRY_MARKER)) else ""
    detail = f"the value starts with {start}{short}, not with c301 and 8 bytes or 00 and 4 bytes"
    raise DecodeError(DeadLetterReason.BAD_FRAMING, detail)


def registry_frame(schema_id: int) -> bytes:
    """Return the frame of a schema registry's id."""
    return REGISTRY_MARKER + schema_id.to_bytes(4, "big")


def registry_id(frame: bytes) -> int | None:
    """Return the id in a frame of a schema registry; None for a fingerprint."""
    return int.from_bytes(frame[1:], "big") if frame.startswith(REGISTRY_MARKER) else None


def find_by(frame: bytes, find: Find | None = None) -> Schema | None:
    """Return the schema that a frame names: a built-in one, else what `find` gives.

    Raises:
        DecodeError: INCOMPATIBLE_SCHEMA, from `find`.
    """
    if frame.startswith(MARKER) and (built_in := by_fingerprint(frame[len(MARKER) :])):
        return built_in
    return None if find is None else find(frame)


def label(frame: bytes) -> str:
    """Return how people call a frame: the fingerprint in hex, or the id."""
    number = registry_id(frame)
    return f"fingerprint {frame[len(MARKER) :].hex()}" if number is None else f"schema id {number}"


def unknown(frame: bytes) -> str:
    """Return the sentence of an UNKNOWN_SCHEMA."""
    hint = "" if registry_id(frame) is None else " (see the setting registry_url)"
    return f"{label(frame)} is not known here{hint}"


def directory() -> Path:
    """Return where the schema files lie: in the wheel, else in the checkout."""
    packaged = _HERE / "_schemas"
    return packaged if packaged.is_dir() else _HERE.parent / "schemas"


class Reader:
    """Reads single values of one record, whichever schema each was written with.

    Args:
        name: name of the record.
        find: gives the schemas that are not built in, by frame; None where there are no others.
        wanted: the fields to return; the texts of others are not judged. None = all fields.
    """

    def __init__(
        self,
        name: str,
        find: Find | None = None,
        wanted: Collection[str] | None = None,
    ) -> None:
        self.current = get(name)
        self._name = name
        self._find = find
        self._wanted = [
            field["name"]
            for field in self.current.raw["fields"]
            if wanted is None or field["name"] in wanted
        ]
        # Not by fingerprint: a schema can be made up to have that of another.
        self._pairs: dict[Schema, tuple[Schema, Schema | None]] = {}
        # Why others cannot be read: finding out takes far longer than reading a value.
        self._unreadable: dict[Schema, str] = {}

    def writer(self, frame: bytes) -> Schema:
        """Return the schema that a frame names, if values of it can be read as this record.

        Raises:
            DecodeError: UNKNOWN_SCHEMA, WRONG_SCHEMA or INCOMPATIBLE_SCHEMA.
        """
        found = find_by(frame, self._find)
        if found is None:
            raise DecodeError(DeadLetterReason.UNKNOWN_SCHEMA, unknown(frame))
        self._pair(found)
        return found

    def read(self, value: bytes | None) -> dict[str, Any]:
        """Decode one value.

        Raises:
            DecodeError: NULL_VALUE, BAD_FRAMING, UNKNOWN_SCHEMA, WRONG_SCHEMA,
                INCOMPATIBLE_SCHEMA or BAD_BODY.
        """
        if value is None:
            raise DecodeError(DeadLetterReason.NULL_VALUE, "the value is null")
        frame = frame_of(value)
        return self.resolve(self.writer(frame), value[len(frame) :])

    def resolve(self, writer: Schema, body: bytes) -> dict[str, Any]:
        """Decode what a schema wrote, without framing.

        Raises:
            DecodeError: WRONG_SCHEMA, INCOMPATIBLE_SCHEMA or BAD_BODY.
        """
        plain, resolved = self._pair(writer)
        record = plain.read(body, resolved)
        return {name: record[name] for name in self._wanted}

    def _pair(self, writer: Schema) -> tuple[Schema, Schema | None]:
        """Return what to read a writer's values with."""
        pair = self._pairs.get(writer)
        if pair is not None:
            return pair
        if writer.name != self._name:
            detail = f"the value is a {writer.name}; this topic carries {self._name}"
            raise DecodeError(DeadLetterReason.WRONG_SCHEMA, detail)
        if known := self._unreadable.get(writer):
            raise DecodeError(DeadLetterReason.INCOMPATIBLE_SCHEMA, known)
        try:
            readable(writer, self._name, self._wanted)
            trees = side_by_side(writer.tree, self.current.tree, self._wanted)
            plain, resolved = build(trees[0]), build(trees[1])
        # What fastavro makes of a schema it does not like is not documented.
        except Exception as error:
            detail = f"schema {writer.fingerprint.hex()} cannot be read as {self._name}: {error}"
            self._unreadable[writer] = detail[:300]
            raise DecodeError(DeadLetterReason.INCOMPATIBLE_SCHEMA, detail[:300]) from error
        # The current schema needs no resolving, which costs as much as the reading.
        current = expand(writer.raw).canonical == expand(self.current.raw).canonical
        pair = self._pairs[writer] = plain, None if current else resolved
        return pair


@cache
def _all() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for path in sorted(directory().rglob("*.avsc"), key=lambda path: path.stem):
        if HISTORY in path.relative_to(directory()).parts:
            continue
        one = build(json.loads(path.read_text(encoding="utf-8")))
        if one.name in found:
            raise ValueError(f"{path}: a schema named {one.name!r} exists already")
        found[one.name] = one
    return dict(sorted(found.items()))


@cache
def _fingerprints() -> dict[bytes, Schema]:
    found: dict[bytes, Schema] = {}
    released = (one for name in _all() for one in versions(name))
    for one in (*_all().values(), *released):
        other = found.setdefault(one.fingerprint, one)
        if other.name != one.name:
            raise ValueError(f"{one.name} and {other.name} have the same fingerprint")
    return found


@cache
def _whole(name: str) -> Reader:
    """Return a reader of all fields of the current schema."""
    return Reader(name)


def _without_logical_types(node: Any) -> Any:
    """Copy a schema without logical types: fastavro would turn times into datetimes."""
    if isinstance(node, dict):
        return {k: _without_logical_types(v) for k, v in node.items() if k != "logicalType"}
    if isinstance(node, list):
        return [_without_logical_types(item) for item in node]
    return node
