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

from streams.reasons import DeadLetterReason

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MARKER = b"\xc3\x01"
"""The two bytes every single-object value starts with."""
FRAME = len(MARKER) + 8
"""Bytes before the body: the marker and the fingerprint."""
_NESTED = {"type", "items", "values"}
"""Keys of a schema under which there is another."""

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
            detail = f"no {self.name}: {type(error).__name__}: {error}"[:200]
            raise DecodeError(DeadLetterReason.BAD_BODY, detail) from error
        if stream.tell() != len(body):
            detail = f"{len(body) - stream.tell()} bytes left over after {self.name}"
            raise DecodeError(DeadLetterReason.BAD_BODY, detail)
        return cast("dict[str, Any]", record)

    def write(self, record: Mapping[str, Any]) -> bytes:
        """Encode a record with its framing; the opposite of `read` but for the framing.

        Raises:
            ValueError, TypeError: a field is missing, unknown or of a wrong type.
        """
        stream = BytesIO()
        stream.write(self.frame)
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


def by_fingerprint(mark: bytes) -> Schema | None:
    """Return the schema with this fingerprint, None where none is known."""
    return _fingerprints().get(mark)


def encode(name: str, record: Mapping[str, Any]) -> bytes:
    """Encode a record in single-object encoding: C3 01, the fingerprint, the body.

    Raises:
        ValueError, TypeError: a field is missing, unknown or of a wrong type.
    """
    return get(name).write(record)


def decode(data: bytes) -> tuple[str, dict[str, Any]]:
    """Decode a single-object value under the schema its fingerprint names.

    Raises:
        DecodeError: BAD_FRAMING, UNKNOWN_SCHEMA or BAD_BODY.
    """
    found = by_fingerprint(fingerprint_of(data))
    if found is None:
        detail = f"fingerprint {data[2:FRAME].hex()} is not known here"
        raise DecodeError(DeadLetterReason.UNKNOWN_SCHEMA, detail)
    return found.name, found.read(data[FRAME:])


def fingerprint_of(data: bytes) -> bytes:
    """Return the fingerprint in the framing of a value.

    Raises:
        DecodeError: BAD_FRAMING.
    """
    if len(data) < FRAME or data[: len(MARKER)] != MARKER:
        if data[:1] == b"\x00":
            detail = (
                "the value starts with 00 (a schema registry's id) and no registry is configured"
            )
        else:
            detail = f"the value starts with {data[:2].hex() or 'nothing'}, not with c301"
        raise DecodeError(DeadLetterReason.BAD_FRAMING, detail)
    return data[len(MARKER) : FRAME]


def directory() -> Path:
    """Return where the schema files lie: in the wheel, else in the checkout."""
    packaged = _HERE / "_schemas"
    return packaged if packaged.is_dir() else _HERE.parent / "schemas"


class Reader:
    """Reads single values of one record, whichever of some schemas each was written with.

    Args:
        name: name of the record.
        known: schemas other versions write it with, by fingerprint.
        wanted: the fields to return; the texts of others are not judged. None = all fields.

    Attributes:
        writers: the schemas by fingerprint, the current one first.

    Raises:
        ValueError: a known schema is of another record, or lacks a field that has no default.
    """

    def __init__(
        self,
        name: str,
        known: Mapping[bytes, Schema] | None = None,
        wanted: Collection[str] | None = None,
    ) -> None:
        current = get(name)
        fields = [
            field for field in current.raw["fields"] if wanted is None or field["name"] in wanted
        ]
        self._name = name
        self._wanted = [field["name"] for field in fields]
        self.writers = {current.fingerprint: current, **(known or {})}
        self._pairs: dict[bytes, tuple[Schema, Schema | None]] = {}
        needed = {field["name"] for field in fields if "default" not in field}
        for mark, writer in self.writers.items():
            missing = needed - {field["name"] for field in writer.raw["fields"]}
            if writer.name != name or missing:
                lacks = f" without {', '.join(sorted(missing))}" if missing else ""
                raise ValueError(
                    f"schema {writer.fingerprint.hex()} ({writer.name}{lacks}) cannot be read "
                    f"as {name}: leave it out of `known`"
                )
            plain, resolved = _pair(writer, fields)
            # The current schema needs no resolving, which costs as much as the reading.
            self._pairs[mark] = plain, None if writer is current else resolved

    def read(self, value: bytes | None) -> dict[str, Any]:
        """Decode one value.

        Raises:
            DecodeError: NULL_VALUE, BAD_FRAMING, UNKNOWN_SCHEMA, WRONG_SCHEMA or BAD_BODY.
        """
        if value is None:
            raise DecodeError(DeadLetterReason.NULL_VALUE, "the value is null")
        mark = fingerprint_of(value)
        pair = self._pairs.get(mark)
        if pair is None:
            other = by_fingerprint(mark)
            if other is None:
                raise DecodeError(
                    DeadLetterReason.UNKNOWN_SCHEMA, f"fingerprint {mark.hex()} is not known here"
                )
            raise DecodeError(
                DeadLetterReason.WRONG_SCHEMA,
                f"the value is a {other.name}; this topic carries {self._name}",
            )
        record = pair[0].read(value[FRAME:], pair[1])
        return {name: record[name] for name in self._wanted}


@cache
def _all() -> dict[str, Schema]:
    found: dict[str, Schema] = {}
    for path in sorted(directory().rglob("*.avsc"), key=lambda path: path.stem):
        one = build(json.loads(path.read_text(encoding="utf-8")))
        if one.name in found:
            raise ValueError(f"{path}: a schema named {one.name!r} exists already")
        found[one.name] = one
    return dict(sorted(found.items()))


@cache
def _fingerprints() -> dict[bytes, Schema]:
    found: dict[bytes, Schema] = {}
    for one in _all().values():
        other = found.setdefault(one.fingerprint, one)
        if other is not one:
            raise ValueError(f"{one.name} and {other.name} have the same fingerprint")
    return found


def _without_logical_types(node: Any) -> Any:
    """Copy a schema without logical types: fastavro would turn times into datetimes."""
    if isinstance(node, dict):
        return {k: _without_logical_types(v) for k, v in node.items() if k != "logicalType"}
    if isinstance(node, list):
        return [_without_logical_types(item) for item in node]
    return node


def _pair(writer: Schema, wanted: list[Mapping[str, Any]]) -> tuple[Schema, Schema]:
    """Return what to read a writer's values with: its schema, and the one to resolve to.

    The fields that are not wanted are read too, their texts as bytes: fastavro skips what a
    reader leaves out without looking for the end, and an array that claims 2^62 items would
    keep it busy for ever.
    """
    names = {field["name"] for field in wanted}
    fields = [
        field if field["name"] in names else {"name": field["name"], "type": _raw(field["type"])}
        for field in writer.raw["fields"]
    ]
    others = [field for field in fields if field["name"] not in names]
    return (
        build({**writer.raw, "fields": fields}),
        build({**writer.raw, "fields": [*wanted, *others]}),
    )


def _raw(kind: Any) -> Any:
    """Return a type of the same encoding that takes any text."""
    if isinstance(kind, list):
        return [_raw(branch) for branch in kind]
    if isinstance(kind, dict):
        if kind.get("items") == "null":
            raise ValueError("an array of nulls can claim any length: no schema may have one")
        return {key: _raw(value) if key in _NESTED else value for key, value in kind.items()}
    return "bytes" if kind == "string" else kind
