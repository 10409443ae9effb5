"""Whether one version of a schema can be read as another, and what is said where not."""

from __future__ import annotations

from io import BytesIO
from random import Random
from typing import Any

import avro.schema
import fastavro
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import schemas
from streams.compatibility import changes_that_lose, obstacles, side_by_side, type_text, weaknesses
from streams.schema_tree import expand
from tests.avro_schemas import encoded, later, numbered, record, text, value

SEEDS = st.integers(0, 2**32)
COLOURS = {"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"]}


def tree(**fields: Any) -> dict[str, Any]:
    """A record; a field is a type, or a type with its default."""
    given_fields = [
        {"name": name, "type": kind[0], "default": kind[1]}
        if isinstance(kind, tuple)
        else {"name": name, "type": kind}
        for name, kind in fields.items()
    ]
    return expand({"type": "record", "name": "Made", "fields": given_fields}).root


def fixed(size: int) -> dict[str, Any]:
    return {"type": "fixed", "name": "F", "size": size}


@given(seed=SEEDS)
@settings(max_examples=400, deadline=None)
def test_what_is_readable_is_what_apache_says(seed: int) -> None:
    random = Random(seed)
    schema = record(random)
    newer = later(random, schema)
    try:
        old, new = expand(schema).root, expand(newer).root
    except ValueError:
        return  # outside our bounds, of which Apache knows none
    checker: Any = ReaderWriterCompatibilityChecker  # its constructor has no types

    theirs = checker().get_compatibility(*map(avro.schema.parse, map(text, (newer, schema))))

    assert (not obstacles(old, new)) == (
        theirs.compatibility is SchemaCompatibilityType.compatible
    ), theirs.messages


@given(seed=SEEDS)
@settings(max_examples=400, deadline=None)
def test_what_is_called_readable_is_read_as_fastavro_resolves_it(seed: int) -> None:
    random = Random(seed)
    schema = record(random)
    newer = later(random, schema)
    wanted = {field["name"] for field in newer["fields"] if random.random() < 0.8}
    try:
        old, new = expand(schema).root, expand(newer).root
    except ValueError:
        return
    if obstacles(old, new, wanted):
        return
    body = encoded(schema, value(random, schema))

    plain, resolved = map(schemas.build, side_by_side(old, new, wanted))
    read = plain.read(body, resolved)

    kept = newer | {"fields": [field for field in newer["fields"] if field["name"] in wanted]}
    expected = fastavro.schemaless_reader(
        BytesIO(body),
        fastavro.parse_schema(schema, named_schemas={}),
        fastavro.parse_schema(numbered(kept), named_schemas={}),
    )
    assert {name: read[name] for name in wanted} == expected


@pytest.mark.parametrize(
    ("writer", "reader"),
    [
        (tree(a="int"), tree()),
        (tree(), tree(a=("int", 0))),
        (tree(a="int"), tree(a="double")),
        (tree(a="bytes"), tree(a="string")),
        (tree(a="int"), tree(a=["null", "long"])),
        (tree(a=COLOURS), tree(a=COLOURS | {"symbols": ["RED"], "default": "RED"})),
        (tree(a=COLOURS), tree(a=COLOURS | {"namespace": "other"})),
        (tree(a=["int", "long"]), tree(a="long")),
    ],
)
def test_an_evolution_that_avro_allows_is_no_obstacle(writer: Any, reader: Any) -> None:
    assert obstacles(writer, reader) == []


@pytest.mark.parametrize(
    ("writer", "reader", "words"),
    [
        (tree(), tree(a="int"), ["a:", "no such field", "no default", "write the field"]),
        (tree(a="double"), tree(a="int"), ["a: double cannot be read as int", "never change"]),
        (tree(a="long"), tree(a="int"), ["a: long cannot be read as int"]),
        (tree(a=["null", "int"]), tree(a="int"), ["a: null cannot be read as int"]),
        (tree(a=["null", "string"]), tree(a=["null", "int"]), ["string cannot be read as int or"]),
        (tree(a=fixed(2)), tree(a=fixed(3)), ["fixed of 2 bytes", "fixed of 3 bytes"]),
        (tree(a=COLOURS), tree(a=COLOURS | {"symbols": ["RED"]}), ["BLUE", "Colour", "default"]),
        (tree(a=COLOURS | {"name": "Hue"}), tree(a=COLOURS), ["called Hue instead of Colour"]),
        (
            tree(a={"type": "array", "items": "string"}),
            tree(a={"type": "array", "items": "double"}),
            ["a: string cannot be read as double"],
        ),
        (tree() | {"name": "x.Other"}, tree(), ["Made: the record is called Other"]),
    ],
)
def test_an_obstacle_names_the_field_what_is_wrong_and_the_cure(
    writer: Any, reader: Any, words: list[str]
) -> None:
    (problem,) = obstacles(writer, reader)

    assert all(word in str(problem) for word in words), str(problem)


def test_fields_nobody_wants_are_no_obstacle() -> None:
    assert obstacles(tree(a="string", b="int"), tree(a="int", b="int"), {"b"}) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (tree(a=("int", 7)), tree(a="int"), ["a: the default is gone", "keep 7"]),
        (
            tree(a={"type": "long", "logicalType": "timestamp-millis"}),
            tree(a={"type": "long", "logicalType": "timestamp-micros"}),
            ["was timestamp-millis and is timestamp-micros"],
        ),
        (tree(a="bytes"), tree(a="string"), ["a: texts became bytes, or bytes texts"]),
        (
            tree(a=COLOURS | {"default": "RED"}),
            tree(a=COLOURS | {"default": "RED", "symbols": ["RED"]}),
            ["without BLUE older values read as RED"],
        ),
        (
            tree(a=["null", COLOURS | {"default": "RED"}]),
            tree(a=["null", COLOURS | {"default": "BLUE"}]),
            ["the default symbol was RED and is BLUE"],
        ),
    ],
)
def test_a_change_that_loses_something_is_named_though_avro_allows_it(
    old: Any, new: Any, words: list[str]
) -> None:
    (problem,) = changes_that_lose(old, new)

    assert obstacles(old, new) == []
    assert all(word in str(problem) for word in words), str(problem)


def test_a_removed_field_loses_nothing_that_a_reader_needs() -> None:
    assert changes_that_lose(tree(a=("int", 1), b="int"), tree(b="int")) == []


def test_an_enum_without_default_and_an_alias_are_weaknesses() -> None:
    fields = [
        {"name": "a", "type": ["null", COLOURS]},
        {"name": "b", "type": "int", "aliases": ["c"]},
    ]

    found = weaknesses({"type": "record", "name": "Made", "fields": fields})

    assert [problem.field for problem in found] == ["a", "b"]
    assert "Colour has no default" in str(found[0])
    assert "aliases" in str(found[1])


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (["null", "double"], "double or null"),
        ({"type": "array", "items": "string"}, "[string]"),
        ({"type": "map", "values": "int"}, "map of int"),
        ({"type": "long", "logicalType": "timestamp-millis"}, "timestamp-millis long"),
        (COLOURS, "enum Colour"),
    ],
)
def test_a_type_is_written_as_a_person_would(kind: Any, shown: str) -> None:
    assert type_text(kind) == shown
