"""Schemas of strangers: what is refused, and that nothing that passes can do harm."""

from __future__ import annotations

import json
import time
import tracemalloc
from contextlib import suppress
from random import Random
from typing import Any

import avro.schema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import schemas
from streams.compatibility import side_by_side
from streams.schema_tree import MEMORY_PER_BYTE, expand, from_text
from tests.avro_schemas import record, text

SEEDS = st.integers(0, 2**32)
EMPTY = {"type": "record", "name": "Nothing", "fields": []}
EVIL_FIXED = {"type": "fixed", "name": "F", "size": 0}


def made(*fields: Any, **others: Any) -> dict[str, Any]:
    """A record with fields of these types."""
    named = [{"name": f"f{number}", "type": kind} for number, kind in enumerate(fields)]
    return {"type": "record", "name": "Made", "fields": named} | others


def items(kind: Any) -> dict[str, Any]:
    return {"type": "array", "items": kind}


def nested(depth: int) -> Any:
    kind: Any = "int"
    for _ in range(depth):
        kind = items(kind)
    return kind


def doubling(levels: int) -> dict[str, Any]:
    """A schema of a few lines that stands for 2^levels fields."""
    kind: dict[str, Any] = {"type": "record", "name": "L0", "fields": []}
    for level in range(1, levels):
        fields = [{"name": "a", "type": kind}, {"name": "b", "type": f"L{level - 1}"}]
        kind = {"type": "record", "name": f"L{level}", "fields": fields}
    return kind


REFUSED: list[tuple[Any, str]] = [
    ("string", "is no record"),
    ([made()], "is no record"),
    ({"type": "error", "name": "X", "fields": []}, "is no record"),
    (made(items("null")), "f0: array items may take as little as 0 bytes"),
    (made(items(EMPTY)), "as little as 0 bytes"),
    (made(items(EVIL_FIXED)), "as little as 0 bytes"),
    (made(items(made("null", EMPTY, EVIL_FIXED, name="In"))), "as little as 0 bytes"),
    (made(items(made(*["null"] * 200, "boolean", name="In"))), "as little as 1 bytes"),
    (made({"type": "map", "values": made(*["null"] * 200, name="In")}), "as little as 0 bytes"),
    (made(["null", items(items("null"))]), "as little as 0 bytes"),
    (made(["null", "Made"]), "Made. contains itself"),
    (made(nested(40)), "nested deeper than 32"),
    (made(*["int"] * 257), "257 fields, allowed are 256"),
    (made(["null"] * 300), "300 branches"),
    (made([]), "0 branches"),
    (doubling(30), "more than 4096 types"),
    (made({"type": "fixed", "name": "F", "size": 2**20 + 1}), "allowed is 0 to 1048576"),
    (made({"type": "fixed", "name": "F", "size": -1}), "allowed is 0 to 1048576"),
    (made({"type": "fixed", "name": "F", "size": True}), "allowed is 0 to 1048576"),
    (made({"type": "enum", "name": "E", "symbols": []}), "no list of different symbols"),
    (made({"type": "enum", "name": "E", "symbols": ["A", "A"]}), "no list of different symbols"),
    (made({"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}), "no symbol of E"),
    (made("Missing"), "f0: .Missing. is no type"),
    (made(None), "null is no type"),
    (made(7), "7 is no type"),
    (made({"type": {"type": "string"}}), "a JSON object is no type"),
    (made(["null", ["int"]]), "a union lies directly in another"),
    (made(EMPTY, EMPTY), "Nothing is defined twice"),
    (made(name="string"), "no name of a record"),
    (made(name="a-b"), "no name of a record"),
    (made(name=None), "no name of a record"),
    (made(namespace="a b"), "no namespace"),
    (made(namespace=["a"]), "no namespace"),
    (made(fields=None), "no list of fields"),
    (made(fields=["int"]), "no list of fields"),
    (made(fields=[{"name": "a b", "type": "int"}]), "two fields of a name, or one without"),
    (made(fields=[{"name": "a", "type": "int"}] * 2), "two fields of a name, or one without"),
]


@pytest.mark.parametrize(("schema", "why"), REFUSED)
@pytest.mark.timeout(10)
def test_a_schema_that_is_none_or_can_do_harm_is_refused(schema: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        expand(schema)


@pytest.mark.parametrize(
    ("given_text", "why"),
    [
        (json.dumps(made(doc="x" * 300_000)), "allowed are 262144"),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff", "no JSON"),
        ("{", "no JSON"),
        ("NaN", "no record"),
    ],
)
def test_a_text_that_is_no_schema_is_refused(given_text: str | bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        from_text(given_text)


@pytest.mark.parametrize(
    "schema",
    [
        made({"type": "map", "values": "null"}),
        made(items(["null", "string"])),
        made(items(items("boolean"))),
        made(items(made("int", name="In"))),
        made({"type": "fixed", "name": "F", "size": 0}, EMPTY, "null"),
        made(nested(20)),
        made(*["int"] * 256),
        {"__fastavro_parsed": True, "__named_schemas": {}} | made("int"),
    ],
)
def test_a_schema_within_the_bounds_is_taken(schema: Any) -> None:
    assert schemas.parse(text(schema)).name == "Made"


def test_a_reference_becomes_what_it_stands_for() -> None:
    enum = {"type": "enum", "name": "E", "symbols": ["A"], "doc": "left out", "aliases": ["X"]}
    schema = made(enum, ["null", "a.E"], namespace="a")

    first, second = expand(schema).root["fields"]

    assert first["type"] == {"type": "enum", "name": "a.E", "symbols": ["A"]}
    assert second["type"] == ["null", first["type"] | {"name": "copy1.a.E"}]


@given(seed=SEEDS)
@settings(deadline=None)
def test_a_tree_is_a_schema_of_its_own(seed: int) -> None:
    with suppress(ValueError):
        tree = expand(record(Random(seed))).root
        assert expand(tree).root == tree


@given(seed=SEEDS)
@settings(max_examples=200, deadline=None)
def test_the_fingerprint_is_the_one_that_apache_computes(seed: int) -> None:
    schema = record(Random(seed))
    with suppress(ValueError):
        found = schemas.parse(text(schema)).fingerprint
        assert found == avro.schema.parse(text(schema)).fingerprint("CRC-64-AVRO")


@pytest.mark.parametrize("name", schemas.names())
def test_our_own_schemas_are_within_the_bounds(name: str) -> None:
    parsed = schemas.parse(text(schemas.schema(name)))

    assert parsed.fingerprint == schemas.fingerprint(name)
    assert parsed.name == name


# -- values --------------------------------------------------------------------------------------

CLAIMS = [b"\xfe" + b"\xff" * 8 + b"\x01", b"\xff" * 9 + b"\x01", b"\x80" * 12, b"\xfe\xff\x03"]
"""Counts of 2^63 - 1, -2^63, one that is too long, and 32,767."""


@given(seed=SEEDS, body=st.lists(st.sampled_from(CLAIMS) | st.binary(max_size=4)))
@settings(max_examples=400, deadline=None)
@pytest.mark.timeout(60)
def test_no_value_of_a_schema_that_passed_takes_long(seed: int, body: list[bytes]) -> None:
    schema = record(Random(seed))
    with suppress(ValueError):
        tree = schemas.parse(text(schema)).tree
        wanted = [field["name"] for field in tree["fields"]][::2]
        plain, resolved = map(schemas.build, side_by_side(tree, tree, wanted))
        began = time.process_time()
        with suppress(schemas.DecodeError):
            plain.read(b"".join(body), resolved)
        assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("kind", "item"),
    [
        (items(made("boolean", name="In")), b"\0"),
        (items(items("int")), b"\0"),
        (items(["null", "string"]), b"\0"),
        (items(made(*["double"] * 4, name="In")), bytes(32)),
        ({"type": "map", "values": items("int")}, b"\x04%d\0"),
    ],
    ids=["records", "arrays", "nulls", "doubles", "maps"],
)
def test_a_value_takes_no_more_memory_than_was_allowed_for(kind: Any, item: bytes) -> None:
    schema = schemas.parse(text(made(kind)))
    count = 32_768
    many = b"".join(item % (10 + i % 90) if b"%" in item else item for i in range(count))
    body = b"\x80\x80\x04" + many + b"\0"

    tracemalloc.start()
    try:
        read = schema.read(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert read["f0"]
    assert peak < MEMORY_PER_BYTE * len(body)
