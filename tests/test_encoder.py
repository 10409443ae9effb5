from __future__ import annotations

from io import BytesIO
from typing import Any

import fastavro
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from load import encoder

INT64 = st.integers(-(2**63), 2**63 - 1)


def by_fastavro(schema: Any, values: list[Any]) -> list[bytes]:
    encoded = []
    for value in values:
        out = BytesIO()
        fastavro.schemaless_writer(out, schema, value)
        encoded.append(out.getvalue())
    return encoded


@given(st.lists(INT64, min_size=1, max_size=20))
@settings(max_examples=200)
def test_longs_are_encoded_as_avro_does(values: list[int]) -> None:
    ours = encoder.join(b"", [encoder.longs(np.array(values, dtype=np.int64))])

    assert ours == by_fastavro("long", values)


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20))
def test_doubles_are_encoded_as_avro_does(values: list[float]) -> None:
    ours = encoder.join(b"", [encoder.doubles(np.array(values))])

    assert ours == by_fastavro("double", values)


@given(st.lists(st.text(max_size=100), min_size=1, max_size=9))
def test_texts_are_encoded_as_avro_does(words: list[str]) -> None:
    codes = np.arange(len(words))

    assert encoder.join(b"", [encoder.texts(codes, words)]) == by_fastavro("string", words)


@given(st.lists(st.none() | st.text(max_size=9), min_size=1, max_size=9))
def test_optional_texts_are_encoded_as_avro_does(words: list[str | None]) -> None:
    ours = encoder.join(b"", [encoder.optional_texts(np.arange(len(words)), words)])

    assert ours == by_fastavro(["null", "string"], words)


def test_arrays_optional_values_and_hex_texts_are_encoded_as_avro_does() -> None:
    arrays = np.array([[1.0, 2.5], [-3.0, 1e300]])
    numbers = np.array([0, 2**64 - 1], dtype=np.uint64)

    assert encoder.join(b"", [encoder.double_arrays(arrays)]) == by_fastavro(
        {"type": "array", "items": "double"}, arrays.tolist()
    )
    assert encoder.join(b"", [encoder.present(encoder.doubles(arrays[:, 0]))]) == by_fastavro(
        ["null", "double"], arrays[:, 0].tolist()
    )
    assert encoder.join(b"", [encoder.hex_texts(numbers)]) == by_fastavro(
        "string", ["0" * 16, "f" * 16]
    )


def test_fields_of_different_lengths_are_joined_row_by_row() -> None:
    longs = encoder.longs(np.array([1, 10**12]))
    words = encoder.texts(np.array([1, 0]), ["", "abc"])

    assert encoder.join(b"F", [longs, encoder.nulls(2), words]) == [
        b"F\x02\0\x06abc",
        b"F" + by_fastavro("long", [10**12])[0] + b"\0\0",
    ]
