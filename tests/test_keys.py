"""Keys name the agent of their value and stand where the partitioner puts them."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.cursor import Spans, Text
from streams.keys import Keys, key_of
from streams.reasons import DeadLetterReason

if TYPE_CHECKING:
    from collections.abc import Sequence

# From Kafka's own UtilsTest.testMurmur2.
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def spans(texts: Sequence[str | None]) -> Spans:
    raw = [(text or "").encode() for text in texts]
    size = np.array([len(text) for text in raw], np.int64)
    present = np.array([text is not None for text in texts], np.bool_)
    return Spans(Text(raw), np.cumsum(size) - size, size, present)


@pytest.mark.parametrize(("key", "hashed"), JAVA.items())
def test_murmur2_places_keys_as_java_does(key: bytes, hashed: int) -> None:
    assert Keys(12).place(key) == (hashed & 0x7FFFFFFF) % 12


def test_crc32_places_keys_as_librdkafka_does() -> None:
    assert zlib.crc32(b"123456789") == 0xCBF43926
    assert Keys(12, "crc32").place(b"123456789") == 0xCBF43926 % 12


def test_unchecked_takes_any_partition() -> None:
    keys = Keys(12, "unchecked")
    assert all(keys.problem(b"a", None, "a", partition) is None for partition in range(12))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [((12, "murmur3"), "use murmur2, crc32 or unchecked"), ((0, "crc32"), "at least 1")],
)
def test_settings_that_make_no_sense_are_refused(options: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Keys(*options)


def test_the_place_of_a_key_is_remembered_but_not_for_ever() -> None:
    keys = Keys(3)
    for number in range(70_000):
        keys.place(b"%d" % number)
    assert len(keys._places) <= 65_536
    assert keys.place(b"21") == (JAVA[b"21"] & 0x7FFFFFFF) % 3


def test_a_stray_key_is_told_the_cure() -> None:
    keys = Keys(12)
    problem = keys.problem(b"foobar", None, "foobar", keys.place(b"foobar") + 1)
    assert problem is not None
    assert problem[0] is DeadLetterReason.STRAY_PARTITION
    assert "partitioner=murmur2_random" in problem[1]


NAMES = st.sampled_from(["a", "b", "a/b", "b/a", "ä", "", "x" * 256, "x" * 257])
KEYS = st.sampled_from([None, b"", b"\xff", b"a/", b"/a", b"x/a", b"a", b"a/b/a"])


@given(st.lists(st.tuples(st.none() | NAMES, NAMES, st.none() | KEYS), max_size=8))
def test_many_keys_are_judged_as_each_alone(rows: list[tuple[str | None, str, Any]]) -> None:
    keys = Keys(2)
    given_keys = [key_of(tenant, agent) if key is None else key for tenant, agent, key in rows]
    tenants = [tenant for tenant, _, _ in rows]
    agents = [agent for _, agent, _ in rows]
    tenant, agent, good = keys.columns(given_keys, spans(tenants), spans(agents), 1)
    lengths = [[len(name) for name in row[:2] if name is not None] for row in rows]
    assert good.tolist() == [
        keys.problem(key, tenants[i], agents[i], 1) is None
        and all(1 <= n <= 256 for n in lengths[i])
        for i, key in enumerate(given_keys)
    ]
    kept = np.flatnonzero(good)
    assert tenant.take(kept).to_list() == [tenants[row] for row in kept.tolist()]
    assert agent.take(kept).to_list() == [agents[row] for row in kept.tolist()]


def test_ids_longer_than_all_keys_are_not_good() -> None:
    long = "x" * 1_024
    _, _, good = Keys(1).columns([b"a", b"/"], spans([long, None]), spans(["a", long]), 0)
    assert good.tolist() == [False, False]


def test_a_null_key_is_not_good() -> None:
    _, _, good = Keys(1).columns([None, b"a"], spans([None, None]), spans(["a", "a"]), 0)
    assert good.tolist() == [False, True]
