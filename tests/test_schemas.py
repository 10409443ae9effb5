"""The schema files keep the rules of the contract, and the framing is Avro's own."""

from __future__ import annotations

import json
import struct
import time
from contextlib import suppress
from dataclasses import replace
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import reasons, schemas
from streams.reasons import DeadLetterReason

if TYPE_CHECKING:
    from collections.abc import Callable

SCALARS = {"null", "boolean", "int", "long", "float", "double", "string", "bytes", "enum", "fixed"}
EVENTS = ("TaskFinished", "SecurityEvent")
TOPICS = (*EVENTS, "Finding", "Alert", "Window")


def plain(kind: Any) -> Any:
    return kind["type"] if isinstance(kind, dict) else kind


def enums(name: str) -> list[dict[str, Any]]:
    found = []
    for field in schemas.schema(name)["fields"]:
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        found += [kind for kind in kinds if plain(kind) == "enum"]
    return found


def symbols(name: str, enum: str) -> list[str]:
    return next(kind["symbols"] for kind in enums(name) if kind["name"] == enum)


def a_value(kind: Any, text: str, number: int) -> Any:  # noqa: PLR0911 - a return a type
    """A value of a type, made of one text and one number."""
    if isinstance(kind, list):
        return None if number % 2 else a_value(next(k for k in kind if k != "null"), text, number)
    match plain(kind):
        case "string":
            return text
        case "bytes":
            return text.encode()
        case "boolean":
            return number % 2 == 0
        case "enum":
            return kind["symbols"][number % len(kind["symbols"])]
        case "array":
            return [a_value(kind["items"], text, number + i) for i in range(number % 4)]
        case "double":
            return number / 7
        case "float":
            return struct.unpack("<f", struct.pack("<f", number / 7))[0]
        case "fixed":
            return bytes(kind["size"])
        case _:
            return number


def a_record(name: str, text: str, number: int) -> dict[str, Any]:
    return {
        field["name"]: a_value(field["type"], text, number + i)
        for i, field in enumerate(schemas.schema(name)["fields"])
    }


def test_all_topic_records_are_there() -> None:
    assert set(TOPICS) <= set(schemas.names())


@pytest.mark.parametrize("name", schemas.names())
def test_a_file_is_named_as_its_record(name: str) -> None:
    paths = list(schemas.directory().rglob(f"{name}.avsc"))
    assert len(paths) == 1
    assert json.loads(paths[0].read_text(encoding="utf-8")) == schemas.schema(name)


@pytest.mark.parametrize("name", schemas.names())
def test_every_record_and_field_has_a_doc(name: str) -> None:
    schema = schemas.schema(name)
    assert schema["doc"]
    assert [field["name"] for field in schema["fields"] if not field.get("doc")] == []


@pytest.mark.parametrize("name", schemas.names())
def test_enums_have_a_default_symbol(name: str) -> None:
    for enum in enums(name):
        assert enum["default"] in enum["symbols"], enum["name"]


@pytest.mark.parametrize("name", TOPICS)
def test_topic_records_are_flat_and_in_our_namespace(name: str) -> None:
    schema = schemas.schema(name)
    assert schema["namespace"] == "agentops"
    for field in schema["fields"]:
        kind = field["type"]
        if isinstance(kind, list):
            assert kind[0] == "null"
            assert field["default"] is None
            assert len(kind) == 2
            assert plain(kind[1]) in SCALARS
        elif plain(kind) == "array":
            assert kind["items"] in SCALARS
        else:
            assert plain(kind) in SCALARS


@pytest.mark.parametrize("name", EVENTS)
def test_events_have_the_common_fields(name: str) -> None:
    fields = {field["name"]: field["type"] for field in schemas.schema(name)["fields"]}
    assert fields["event_id"] == fields["agent_id"] == "string"
    assert fields["occurred_at"] == {"type": "long", "logicalType": "timestamp-millis"}
    assert fields["tenant"] == fields["trace_id"] == ["null", "string"]


def test_a_newer_outcome_falls_to_unknown() -> None:
    assert symbols("TaskFinished", "TaskOutcome") == ["UNKNOWN", "AUTOMATED", "ESCALATED", "FAILED"]
    assert enums("TaskFinished")[0]["default"] == "UNKNOWN"


@pytest.mark.parametrize(
    ("name", "enum", "members"),
    [
        ("Finding", "Transition", reasons.Transition),
        ("Finding", "TransitionReason", reasons.TransitionReason),
        ("Finding", "Severity", reasons.Severity),
        ("Finding", "EntityKind", reasons.EntityKind),
        ("Alert", "AlertStatus", reasons.AlertStatus),
        ("Alert", "AlertReason", reasons.AlertReason),
        ("Alert", "AlertSeverity", reasons.Severity),
        ("Alert", "AlertEntityKind", reasons.EntityKind),
    ],
)
def test_every_decision_has_its_symbol(name: str, enum: str, members: Any) -> None:
    assert set(symbols(name, enum)) - {"UNKNOWN"} == {str(member) for member in members} - {
        "UNKNOWN"
    }


def test_the_fingerprint_is_crc_64_avro_little_endian() -> None:
    # A record of no fields is the smallest schema whose sum can be followed by hand:
    # the table-driven sum of the specification over its canonical form.
    canonical = b'{"name":"X","type":"record","fields":[]}'
    empty = 0xC15D213AA4D7A795
    total = empty
    for byte in canonical:
        total ^= byte
        for _ in range(8):
            total = (total >> 1) ^ (empty & -(total & 1))
    made = schemas.build({"type": "record", "name": "X", "doc": "left out", "fields": []})
    assert made.fingerprint == total.to_bytes(8, "little")


def test_the_fingerprints_of_the_events_are_these() -> None:
    # A change here is a change of the wire format: keep the old schema as a known one.
    assert schemas.fingerprint("TaskFinished").hex() == "590106aa8cdac5b3"
    assert schemas.fingerprint("SecurityEvent").hex() == "c3e953a05cf81ec9"


@pytest.mark.parametrize("name", schemas.names())
@given(text=st.text(max_size=20), number=st.integers(0, 2**31 - 40))
def test_a_record_survives_its_encoding(name: str, text: str, number: int) -> None:
    record = a_record(name, text, number)
    data = schemas.encode(name, record)
    assert data[:10] == b"\xc3\x01" + schemas.fingerprint(name)
    assert schemas.decode(data) == (name, record)


def test_another_reader_sees_the_times_as_times() -> None:
    record = a_record("TaskFinished", "x", 2) | {"occurred_at": 1_760_000_000_123}
    data = schemas.encode("TaskFinished", record)
    schema = fastavro.parse_schema(schemas.schema("TaskFinished"))
    read: Any = fastavro.schemaless_reader(BytesIO(data[10:]), schema, None)
    assert read["occurred_at"].timestamp() == pytest.approx(1_760_000_000.123)


def test_nullable_fields_can_be_left_out() -> None:
    record = a_record("Window", "x", 3)
    del record["tenant"]
    assert schemas.decode(schemas.encode("Window", record))[1]["tenant"] is None


@pytest.mark.parametrize("change", [{"typo": 1}, {"revision": None}, {"revision": "one"}])
def test_a_wrong_record_is_refused_on_writing(change: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        schemas.encode("Window", a_record("Window", "x", 3) | change)


def test_a_missing_field_is_refused_on_writing() -> None:
    record = a_record("Window", "x", 3)
    del record["revision"]
    with pytest.raises(ValueError, match="revision"):
        schemas.encode("Window", record)


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"", DeadLetterReason.BAD_FRAMING, "nothing"),
        (b"\xc3\x01short", DeadLetterReason.BAD_FRAMING, "c301"),
        (b"\x00\x00\x00\x00\x07body", DeadLetterReason.UNKNOWN_SCHEMA, "schema id 7"),
        (b"{}", DeadLetterReason.BAD_FRAMING, "7b7d"),
        (b"\xc3\x01" + bytes(8), DeadLetterReason.UNKNOWN_SCHEMA, "0000000000000000"),
        (b"\xc3\x01" + schemas.fingerprint("Window"), DeadLetterReason.BAD_BODY, "Window"),
    ],
)
def test_bad_bytes_are_refused_with_a_reason(
    data: bytes, reason: DeadLetterReason, detail: str
) -> None:
    with pytest.raises(schemas.DecodeError, match=detail) as caught:
        schemas.decode(data)
    assert caught.value.reason is reason


def test_bytes_left_over_are_refused() -> None:
    data = schemas.encode("Window", a_record("Window", "x", 3))
    with pytest.raises(schemas.DecodeError, match="1 bytes left over") as caught:
        schemas.decode(data + b"\0")
    assert caught.value.reason is DeadLetterReason.BAD_BODY


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="TaskFinished"):
        schemas.get("TaskFinnished")


# -- versions ----------------------------------------------------------------------------------


def changed_by(name: str, change: Callable[[list[dict[str, Any]]], Any]) -> schemas.Schema:
    """A schema of a stranger: a current one with its fields changed."""
    raw = json.loads(json.dumps(schemas.schema(name)))
    change(raw["fields"])
    return schemas.parse(json.dumps(raw))


def of(fields: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(field for field in fields if field["name"] == name)


def window(fields: list[dict[str, Any]]) -> None:
    """Make a newer Window: a field more, one less, one of a smaller type."""
    fields.insert(0, {"name": "region", "type": {"type": "map", "values": "string"}})
    fields.remove(of(fields, "tenant"))
    of(fields, "automated")["type"] = "int"


@pytest.mark.parametrize("name", schemas.names())
def test_the_history_ends_with_the_current_schema(name: str) -> None:
    versions = schemas.versions(name)

    assert {version.name for version in versions} == {name}
    assert versions[-1].fingerprint == schemas.fingerprint(name)


def test_a_value_of_a_released_version_is_read_as_the_current_one() -> None:
    old = schemas.versions("Alert")[0]
    record = a_record("Alert", "x", 3)
    known = {field["name"] for field in old.raw["fields"]}
    fields = schemas.schema("Alert")["fields"]
    added = {field["name"]: field["default"] for field in fields if field["name"] not in known}
    kinds = {field["name"]: field["type"] for field in old.raw["fields"]}
    record |= {name: kind["symbols"][-1] for name, kind in kinds.items() if "symbols" in kind}
    value = old.write({key: record[key] for key in known})

    assert "trace_id" in added
    assert schemas.decode(value) == ("Alert", record | added)
    assert schemas.Reader("Alert").read(value) == record | added


def test_a_value_of_a_newer_version_is_read_as_the_current_one() -> None:
    newer = changed_by("Window", window)
    record = a_record("Window", "x", 4)
    value = newer.write({key: record[key] for key in record if key != "tenant"} | {"region": {}})

    assert schemas.decode(value, {newer.frame: newer}.get) == ("Window", record | {"tenant": None})


def test_a_symbol_of_a_newer_version_is_read_as_the_default() -> None:
    newer = changed_by(
        "TaskFinished", lambda fields: of(fields, "outcome")["type"]["symbols"].append("DEFERRED")
    )
    value = newer.write(a_record("TaskFinished", "x", 4) | {"outcome": "DEFERRED"})

    assert schemas.decode(value, {newer.frame: newer}.get)[1]["outcome"] == "UNKNOWN"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda fields: fields.remove(of(fields, "cost_usd")), "cost_usd: the writer has no such"),
        (lambda fields: of(fields, "cost_usd").update(type="string"), "string cannot be read as"),
        (lambda fields: of(fields, "input_tokens").update(type="double"), "double cannot be read"),
        (lambda fields: of(fields, "outcome")["type"].update(name="Other"), "called Other instead"),
    ],
)
def test_a_schema_that_cannot_be_read_as_the_record_is_incompatible(change: Any, why: str) -> None:
    writer = changed_by("TaskFinished", change)
    reader = schemas.Reader("TaskFinished", {writer.frame: writer}.get)

    with pytest.raises(schemas.DecodeError, match=why) as caught:
        reader.read(writer.frame + bytes(200))

    assert caught.value.reason is DeadLetterReason.INCOMPATIBLE_SCHEMA


def test_a_schema_of_another_record_is_wrong_whatever_its_fields() -> None:
    other = schemas.parse('{"type": "record", "name": "Mine", "fields": []}')
    reader = schemas.Reader("TaskFinished", {other.frame: other}.get)

    with pytest.raises(schemas.DecodeError, match="a Mine") as caught:
        reader.read(other.frame)

    assert caught.value.reason is DeadLetterReason.WRONG_SCHEMA


def test_a_schema_made_up_to_have_the_fingerprint_of_another_does_no_harm() -> None:
    def swapped(fields: list[dict[str, Any]]) -> None:
        fields[0], fields[3] = fields[3], fields[0]

    current = schemas.get("SecurityEvent")
    # A CRC is no secret: whoever chooses a name or two can give a schema any fingerprint.
    forged = replace(changed_by("SecurityEvent", swapped), fingerprint=current.fingerprint)
    reader = schemas.Reader("SecurityEvent", lambda _: forged)
    record = a_record("SecurityEvent", "x", 4) | {"event_id": "event", "agent_id": "agent"}
    registered = schemas.registry_frame(7)

    assert reader.read(forged.write(record, registered)) == record
    assert reader.read(current.write(record)) == record
    assert schemas.decode(forged.write(record, registered), lambda _: forged)[1] == record


HOSTILE: list[Any] = [
    {"type": "array", "items": "boolean"},
    {"type": "map", "values": ["null", "string"]},
    ["null", {"type": "array", "items": {"type": "array", "items": "int"}}],
    {"type": "array", "items": {"type": "enum", "name": "TaskOutcome", "symbols": ["X"]}},
    {"type": "fixed", "name": "F", "size": 2**20},
    ["string", "bytes", "null"],
]


@cache
def _reader_of_more(kind: str, place: int) -> tuple[schemas.Reader, bytes]:
    extra = {"name": "extra", "type": json.loads(kind)}
    writer = changed_by("SecurityEvent", lambda fields: fields.insert(place, extra))
    return schemas.Reader("SecurityEvent", {writer.frame: writer}.get), writer.frame


def reader_of_more(kind: Any, place: int) -> tuple[schemas.Reader, bytes]:
    """A reader of security events that have one more field, and the frame of these."""
    return _reader_of_more(json.dumps(kind), place)


@given(
    which=st.integers(0, len(HOSTILE) - 1),
    body=st.binary(max_size=40) | st.just(b"\xfe" + b"\xff" * 8 + b"\x01"),
    first=st.booleans(),
)
@settings(max_examples=200, deadline=None)
@pytest.mark.timeout(60)
def test_a_field_nobody_wants_cannot_keep_a_reader_busy(
    which: int, body: bytes, first: bool
) -> None:
    reader, frame = reader_of_more(HOSTILE[which], 0 if first else 5)
    began = time.process_time()

    with suppress(schemas.DecodeError):
        reader.read(frame + body)

    assert time.process_time() - began < 1
