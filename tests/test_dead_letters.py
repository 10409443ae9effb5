from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.batch import Refusal
from streams.dead_letters import CARRIED_BYTES, CURES, Letter, dead_letter, letter_of, marked
from streams.epoch import RECORD_OVERHEAD, OutRecord
from streams.provision import size_limits
from streams.reasons import DeadLetterReason as Reason
from tests.letter_rig import AT, a_batch, message, read_all, write

if TYPE_CHECKING:
    from streams.batch import Header
    from streams.settings import Settings

OWN = ["reason", "detail", "topic", "partition", "offset", "timestamp"]
ROOM = 1_000_000
AROUND = 100
"""Bytes of a record batch and of a record beside key, value and headers, with some to spare."""


def refused(
    key: bytes | None,
    value: bytes | None,
    headers: list[Header] | None = None,
    oversize: int | None = None,
) -> tuple[bytes | None, bytes | None, list[Header]]:
    batch = a_batch(key, value, headers or [], oversize=oversize)
    return dead_letter(batch, Refusal(0, Reason.BAD_BODY, "why"), ROOM)


def read(made: tuple[bytes | None, bytes | None, list[Header]]) -> Letter:
    found = letter_of(message(*made, partition=3, offset=17))
    assert found is not None
    return found


def test_a_dead_letter_keeps_the_bytes_and_says_where_they_came_from() -> None:
    batch = a_batch(b"k2", b"two", partition=3, offset=101)
    key, value, headers = dead_letter(batch, Refusal(0, Reason.BAD_FRAMING, "détail"), 10_000)
    assert (key, value) == (b"k2", b"two")
    assert headers == [
        ("reason", b"BAD_FRAMING"),
        ("detail", "détail".encode()),
        ("topic", b"agentops.tasks"),
        ("partition", b"3"),
        ("offset", b"101"),
        ("timestamp", str(AT).encode()),
    ]


def test_a_dead_letter_of_nulls_is_a_record_of_nulls() -> None:
    key, value, _ = refused(None, None)
    assert (key, value) == (None, None)


@pytest.mark.parametrize(("key", "value"), [(b"k", b"v" * 5_000), (b"k" * 5_000, b"v" * 5_000)])
def test_an_oversize_dead_letter_is_cut_and_says_so(key: bytes, value: bytes) -> None:
    refusal = Refusal(0, Reason.BAD_BODY, "x" * 5_000)
    kept_key, kept, headers = dead_letter(a_batch(key, value), refusal, 2_000)
    assert value.startswith(kept or b"")
    assert key.startswith(kept_key or b"")
    size = len(kept or b"") + len(kept_key or b"")
    assert size + sum(len(name) + len(text or b"") for name, text in headers) <= 2_000
    assert dict(headers)["cut"] == b"5000"
    assert ("key-cut" in dict(headers)) == (len(key) > 2_000)


def test_of_a_record_that_came_in_cut_the_true_size_is_given() -> None:
    found = read(refused(b"key", b"beginning", oversize=50_000_003))

    assert (found.value, found.value_size, found.key_size) == (b"beginning", 50_000_000, None)
    assert not found.whole


def test_of_an_oversize_key_without_a_value_the_true_size_is_given() -> None:
    found = read(refused(b"beginning", None, oversize=2_000_000))

    assert (found.key, found.key_size, found.value) == (b"beginning", 2_000_000, None)


def test_a_dead_letter_needs_room_for_its_headers() -> None:
    with pytest.raises(ValueError, match="max_bytes=100"):
        dead_letter(a_batch(b"k", b"v"), Refusal(0, Reason.BAD_BODY, ""), 100)


# -- the record's own headers --------------------------------------------------------------------


def test_its_own_headers_follow_in_order_with_any_name_and_null_values() -> None:
    own: list[Header] = [
        ("traceparent", b"00-1"),
        ("reason", b"mine"),
        ("", None),
        ("größe 🙂", b"\xff\x00"),
        ("traceparent", b"00-2"),
    ]

    made = refused(b"k", b"v", own)

    assert [name for name, _ in made[2]] == OWN + [f"header.{name}" for name, _ in own]
    assert list(read(made).headers) == own
    assert read(made).reason == "BAD_BODY"


def test_a_name_that_is_no_text_is_made_one() -> None:
    made = refused(b"k", b"v", [("bad\udcff", b"1")])

    assert read(made).headers == (("bad?", b"1"),)


def test_headers_that_do_not_fit_are_left_out_and_counted_in_bytes() -> None:
    own: list[Header] = [*((f"ü{n}", b"x" * 1_000) for n in range(40)), ("small", b"1")]

    _, _, headers = refused(b"k", b"v", own)

    carried = [one for one in headers if one[0].startswith("header.")]
    size = sum(len(name.encode()) + len(value or b"") for name, value in carried)
    assert CARRIED_BYTES - 1_500 < size <= CARRIED_BYTES
    assert carried[-1] == ("header.small", b"1")
    assert headers[-1] == ("headers-cut", str(len(own) - len(carried)).encode())


def test_a_replay_that_fails_again_is_known_as_one_whatever_its_headers() -> None:
    own: list[Header] = [("replayed-from", b"old"), ("x", b"y" * CARRIED_BYTES)] * 2
    own += [("replayed-from", b"agentops.dead-letters/3@5"), ("z", b"y" * 16_300)]

    found = read(refused(b"k", b"v", own))

    assert found.replayed_from == "agentops.dead-letters/3@5"
    assert found.headers_cut == len(own) - len(found.headers)


def test_a_hundred_thousand_headers_cost_little() -> None:
    _, _, headers = refused(b"k", b"v", [("", b"")] * 100_000)

    assert len(headers) < 1_000
    assert headers[-1][0] == "headers-cut"


def test_key_and_value_come_before_headers_where_room_is_short() -> None:
    batch = a_batch(b"k" * 10, b"v" * 5_000, [("a", b"x" * 900), ("b", b"x" * 100)])

    key, value, headers = dead_letter(batch, Refusal(0, Reason.BAD_BODY, ""), 5_800)

    assert (key, value) == (b"k" * 10, b"v" * 5_000)
    assert dict(headers)["headers-cut"] == b"1"
    assert "header.b" in dict(headers)


HEADERS = st.lists(st.tuples(st.text(max_size=30), st.none() | st.binary(max_size=30)), max_size=30)
CONTENT = st.none() | st.binary(max_size=3_000)


@given(CONTENT, CONTENT, HEADERS, st.integers(1_200, 8_000), st.none() | st.integers(0, 10_000))
def test_a_dead_letter_always_fits_and_reads_back_as_the_record(
    key: bytes | None,
    value: bytes | None,
    headers: list[Header],
    limit: int,
    oversize: int | None,
) -> None:
    batch = a_batch(key, value, headers, oversize=oversize)
    made = dead_letter(batch, Refusal(0, Reason.INVALID_FIELD, "d" * 600), limit)

    assert OutRecord("t", 0, *made).size() - RECORD_OVERHEAD <= limit - AROUND
    found = read(made)
    assert (found.reason, found.origin_offset) == ("INVALID_FIELD", 100)
    assert found.headers_cut == len(headers) - len(found.headers)
    if found.whole:
        assert (found.key, found.value) == (key, value)
    if not found.headers_cut:
        assert list(found.headers) == headers


# -- reading -------------------------------------------------------------------------------------


def test_a_letter_says_where_it_stands_and_where_its_record_stood() -> None:
    found = read(refused(b"k", b"v"))

    assert found.place == "3@17"
    assert (found.topic, found.origin_partition, found.origin_offset) == ("agentops.tasks", 0, 100)
    assert (found.origin_timestamp, found.timestamp) == (AT, AT)
    assert found.whole


@given(
    CONTENT,
    CONTENT,
    st.lists(
        st.tuples(
            st.sampled_from(
                [*OWN, "cut", "key-cut", "headers-cut", "replayed", "header.replayed-from"]
            )
            | st.text(max_size=5),
            st.none() | st.binary(max_size=25) | st.sampled_from([b"7", b"-1", b"9" * 30]),
        ),
        max_size=8,
    ),
)
def test_whatever_stands_on_the_topic_can_be_read(
    key: bytes | None, value: bytes | None, headers: list[Header]
) -> None:
    record = message(key, value, headers)

    assert (letter_of(record) is None) == (marked(record) is not None)


def test_what_is_missing_or_garbled_is_none_or_empty() -> None:
    found = letter_of(message(None, b"v", [("partition", b"two"), ("reason", None), ("cut", b"?")]))

    assert found is not None
    assert (found.reason, found.topic, found.origin_partition) == ("", "", None)
    assert not found.whole


def test_a_marker_names_the_letter_that_was_replayed() -> None:
    assert marked(message(b"k", None, [("replayed", b"17")])) == 17
    assert letter_of(message(b"k", None, [("replayed", b"17")])) is None


@pytest.mark.parametrize(
    "record",
    [
        message(b"k", b"v", [("replayed", b"17")]),
        message(b"k", None, [("reason", b"NULL_VALUE"), ("replayed", b"17")]),
        message(b"k", None, [("replayed", b"seventeen")]),
        message(b"k", None, []),
    ],
)
def test_what_only_looks_like_a_marker_is_a_letter(record: object) -> None:
    assert marked(record) is None
    assert letter_of(record) is not None


def test_every_reason_has_a_cure() -> None:
    assert set(CURES) == set(Reason)


# -- on a broker ---------------------------------------------------------------------------------


@pytest.mark.broker
async def test_the_largest_letter_of_noise_with_headers_fits_its_topic(topics: Settings) -> None:
    noise = os.urandom(topics.max_record_bytes + 1)
    own: list[Header] = [(f"n{n}", os.urandom(500)) for n in range(60)]
    batch = a_batch(noise[:300_000], noise, own, topic=topics.topic("tasks"))
    made = dead_letter(batch, Refusal(0, Reason.BAD_BODY, "x" * 600), topics.max_record_bytes)
    record = OutRecord(topics.topic("dead-letters"), 0, *made)

    assert record.size() <= (await size_limits(topics))[record.topic]
    await write(topics, [record], settled=False)
    (found,) = await read_all(topics, "dead-letters")

    letter = letter_of(found)
    assert letter is not None
    assert (letter.value_size, letter.key) == (len(noise), noise[:300_000])
    assert 0 < letter.headers_cut < 60


@pytest.mark.broker
async def test_letters_without_key_and_value_can_be_written_among_others(topics: Settings) -> None:
    topic = topics.topic("dead-letters")
    nothing = OutRecord(topic, 0, None, None, [("reason", b"NULL_VALUE")])
    records = [nothing, OutRecord(topic, 0, b"k", b"v"), *[nothing] * 3_000]

    await write(topics, records)

    found = [(one.key, one.value) for one in await read_all(topics, "dead-letters")]
    assert found == [(None, None), (b"k", b"v"), *[(None, None)] * 3_000]
