"""What the cursor calls regular, it reads exactly as fastavro does."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from streams import schemas
from streams.cursor import Column, Plan, Spans, Text

FLOATS = {"float", "double"}
PLAIN: list[Any] = [
    "int",
    "long",
    "float",
    "double",
    "boolean",
    "string",
    "bytes",
    {"type": "array", "items": "double"},
    {"type": "array", "items": "float"},
]
TYPES = [*PLAIN, *(["null", kind] for kind in PLAIN), *([kind, "null"] for kind in PLAIN)]


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    if isinstance(kind, list):
        return st.none() | values_of(next(k for k in kind if k != "null"))
    if isinstance(kind, dict):
        return st.lists(values_of(kind["items"]), max_size=3)
    return {
        "int": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-(2**54), 2**54),
        "float": st.floats(width=32, allow_nan=False),
        "double": st.floats(allow_nan=False),
        "boolean": st.booleans(),
        "string": st.text(max_size=20),
        "bytes": st.binary(max_size=80),
    }[kind]


def record_schema(kinds: list[Any]) -> schemas.Schema:
    fields = [{"name": f"f{i}", "type": kind} for i, kind in enumerate(kinds)]
    return schemas.build({"type": "record", "name": "X", "fields": fields})


def read(schema: schemas.Schema, bodies: list[bytes]) -> tuple[dict[str, Column], list[bool]]:
    names = [field["name"] for field in schema.raw["fields"]]
    text = Text(bodies)
    size = np.array([len(body) for body in bodies], np.int64)
    end = np.cumsum(size)
    columns, regular = Plan(schema.raw, names, {}).read(text, end - size, end)
    return columns, regular.tolist()


def cell(column: Column, kind: Any, row: int) -> Any:
    plain = next(k for k in kind if k != "null") if isinstance(kind, list) else kind
    if isinstance(column, Spans):
        if not column.present[row]:
            return None
        data = column.bytes_at(row)
        return data.decode() if plain == "string" else data
    assert isinstance(column, tuple)
    numbers, present = column
    if present is not None and not present[row]:
        return None
    return bool(numbers[row]) if plain == "boolean" else numbers[row].item()


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Any], list[dict[str, Any]]]:
    kinds = draw(st.lists(st.sampled_from(TYPES), max_size=6))
    record = st.fixed_dictionaries({f"f{i}": values_of(kind) for i, kind in enumerate(kinds)})
    return kinds, draw(st.lists(record, max_size=8))


@seed(1)
@settings(max_examples=300, deadline=None, database=None)
@given(tables())
def test_columns_hold_what_was_written(table: tuple[list[Any], list[dict[str, Any]]]) -> None:
    kinds, records = table
    schema = record_schema(kinds)
    columns, regular = read(schema, [schema.write(record)[10:] for record in records])
    assert regular == [True] * len(records)
    for i, kind in enumerate(kinds):
        if not isinstance(kind, dict) and not (
            isinstance(kind, list) and any(isinstance(k, dict) for k in kind)
        ):
            got = [cell(columns[f"f{i}"], kind, row) for row in range(len(records))]
            assert got == [record[f"f{i}"] for record in records]


@seed(2)
@settings(max_examples=500, deadline=None, database=None)
@given(st.lists(st.sampled_from(TYPES), min_size=1, max_size=4), st.binary(max_size=24))
def test_of_any_bytes_the_regular_ones_are_read_as_fastavro_reads_them(
    kinds: list[Any], noise: bytes
) -> None:
    schema = record_schema([("bytes" if kind == "string" else kind) for kind in kinds])
    columns, regular = read(schema, [b"", noise, noise[1:]])
    for row, body in enumerate([b"", noise, noise[1:]]):
        if regular[row]:
            record = schema.read(body)
            for name, column in columns.items():
                if isinstance(column, Spans):
                    got = column.bytes_at(row) if column.present[row] else None
                    exp = record[name]
                    assert got == (exp.encode() if isinstance(exp, str) else exp)
                elif isinstance(column, tuple):
                    numbers, present = column
                    got = numbers[row].item() if present is None or present[row] else None
                    assert struct.pack("<d", got or 0) == struct.pack("<d", record[name] or 0)


@pytest.mark.parametrize(
    ("kind", "body", "regular"),
    [
        ("long", b"\x02", True),
        ("long", b"\x80\x80\x80\x80\x80\x80\x80\x01", True),
        ("long", b"\x80\x80\x80\x80\x80\x80\x80\x80\x01", False),  # nine bytes: left to others
        ("long", b"\x80", False),
        ("long", b"\x02\x02", False),
        ("boolean", b"\x02", False),
        (["null", "long"], b"\x00", True),
        (["null", "long"], b"\x02\x02", True),
        (["null", "long"], b"\x04\x02", False),
        (["null", "long"], b"\x01\x02", False),
        ("string", b"\x01", False),  # a length of -1
        ("string", b"\x04a", False),
        ("string", b"\x82\x00a", True),  # a length of one, written longer than need be
        ({"type": "array", "items": "double"}, b"\x02" + bytes(8) + b"\x00", True),
        ({"type": "array", "items": "double"}, b"\x01\x10" + bytes(8) + b"\x00", False),
        ({"type": "array", "items": "double"}, (b"\x02" + bytes(8)) * 2 + b"\x00", False),
    ],
)
def test_what_is_regular(kind: Any, body: bytes, regular: bool) -> None:
    assert read(record_schema([kind]), [body])[1] == [regular]
    # The answer is the same with others before and behind.
    assert read(record_schema([kind]), [body] * 3)[1] == [regular] * 3


def test_a_value_that_runs_away_is_never_mistaken_for_the_last() -> None:
    kinds = ["string"] * 40
    bodies = [bytes(40), b"\xfe\x7f" * 3, b"\xfe\x7f"]
    assert read(record_schema(kinds), bodies)[1] == [True, False, False]


@pytest.mark.parametrize("kind", [["null", "int", "string"], {"type": "map", "values": "int"}])
def test_types_without_columns_are_named(kind: Any) -> None:
    with pytest.raises(NotImplementedError, match="no columns"):
        Plan(record_schema([kind]).raw, [], {})


def test_too_many_fields_have_no_columns() -> None:
    with pytest.raises(NotImplementedError, match="64 fields"):
        Plan(record_schema(["int"] * 65).raw, [], {})


def spans_of(texts: list[bytes]) -> Spans:
    size = np.array([len(text) for text in texts], np.int64)
    end = np.cumsum(size)
    return Spans(Text(texts), end - size, size, np.ones(len(texts), np.bool_))


ALIKE = st.sampled_from([b"", b"a", b"b\0", b"agent-1", b"agent-12", b"agent-123", b"x" * 99])


@given(st.lists(ALIKE | st.binary(max_size=20)))
def test_distinct_texts_are_exact(texts: list[bytes]) -> None:
    codes, names = spans_of(texts).distinct()
    assert [names[code] for code in codes.tolist()] == texts
    assert len(names) == len(set(texts))
    assert codes.dtype == np.int32


def test_distinct_texts_are_exact_where_their_hashes_meet() -> None:
    # The hash of one word is that of length XOR word: 1 ^ "a" = 2 ^ "b\0".
    codes, names = spans_of([b"a", b"b\0", b"a"]).distinct()
    assert [names[code] for code in codes.tolist()] == [b"a", b"b\0", b"a"]


@given(st.lists(st.text(max_size=12)))
def test_ascii_is_found_by_text(texts: list[str]) -> None:
    assert spans_of([t.encode() for t in texts]).ascii().tolist() == [t.isascii() for t in texts]


@given(st.lists(ALIKE, min_size=1), st.binary(max_size=30), st.integers(0, 30))
def test_same_compares_with_another_place(texts: list[bytes], other: bytes, at: int) -> None:
    at = min(at, len(other))
    found = spans_of(texts).same(Text([other, b"!" * 100]), np.full(len(texts), at, np.int64))
    whole = other + b"!" * 100
    assert found.tolist() == [whole[at : at + len(text)] == text for text in texts]
