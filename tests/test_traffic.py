"""The events of the exactly-once proof."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from load.dialects import Dialects
from load.judge import DAY, HOUR
from load.proof import (
    MARKER,
    Expected,
    LogRecord,
    RefusedError,
    decode,
    expect,
    partition_of,
    read_event,
)
from load.traffic import BEGIN, LATE_KIND, Chunk, Message, Traffic
from load.writers import collect

PARTITIONS = 2
NOW = BEGIN + 400 * DAY


def traffic(seed: int = 1) -> Traffic:
    return Traffic(seed, partitions=PARTITIONS, agents=10, days=14, tasks=8000)


def with_dialects() -> Traffic:
    ids: dict[str, int] = {}
    dialects = Dialects(7, lambda subject, *_: ids.setdefault(subject, len(ids) + 1))
    return Traffic(1, partitions=PARTITIONS, agents=10, days=7, tasks=9000, dialects=dialects)


@pytest.fixture(scope="module")
def chunks() -> list[Chunk]:
    return list(traffic().chunks())


@pytest.fixture(scope="module")
def expected(chunks: list[Chunk]) -> Expected:
    offsets: Counter[tuple[str, int]] = Counter()
    logs = []
    for chunk in chunks:
        for one in chunk.security + chunk.tasks:
            logs.append(
                LogRecord(
                    one.topic,
                    one.partition,
                    offsets[one.topic, one.partition],
                    NOW,
                    one.key,
                    one.value,
                )
            )
            offsets[one.topic, one.partition] += 1
    return expect(logs, partitions=PARTITIONS, max_series=traffic().max_series)


def test_a_seed_fixes_all_events(chunks: list[Chunk]) -> None:
    assert list(traffic().chunks()) == chunks
    assert list(traffic(2).chunks()) != chunks


def test_every_partition_has_the_same_number_of_agents_and_each_its_own() -> None:
    sources = traffic().sources
    assert Counter(source.partition for source in sources) == {0: 5, 1: 5}
    assert all(partition_of(source.key, PARTITIONS) == source.partition for source in sources)


def test_every_rule_fires_and_every_reason_to_refuse_occurs(expected: Expected) -> None:
    fired = {
        finding["rule"]
        for outputs in expected.outputs.values()
        for finding in outputs.findings
        if finding["transition"] == "FIRING"
    }
    assert fired == {"automated-rate", "error-rate", "security", "series-limit"}
    assert {"FUTURE", "TOO_LATE", "SERIES_LIMIT", "BAD_BODY"} <= expected.refused.keys()
    assert expected.admitted["tasks"] > 7500


def test_events_of_a_chunk_lie_in_its_hour_but_for_the_odd_ones(chunks: list[Chunk]) -> None:
    good = odd = 0
    for chunk in chunks:
        for one in chunk.tasks:
            try:
                at = decode(one.value, "TaskFinished")["occurred_at"]
            except RefusedError:
                continue
            inside = chunk.start <= at < chunk.start + HOUR
            good, odd = good + inside, odd + (not inside)
    assert 0 < odd < 0.03 * good


def test_the_kind_that_comes_late_comes_at_most_every_four_days(chunks: list[Chunk]) -> None:
    # Closer together, the clock that quiets it would decide what the next one is.
    times: dict[bytes | None, list[int]] = {}
    for chunk in chunks:
        for one in chunk.security:
            record = decode(one.value, "SecurityEvent")
            if record["kind"] == LATE_KIND:
                assert record["occurred_at"] <= chunk.start - 7 * HOUR
                times.setdefault(one.key, []).append(record["occurred_at"])
    assert times
    gaps = [b - a for each in times.values() for a, b in pairwise(each)]
    assert all(gap >= 4 * DAY - 6 * HOUR for gap in gaps)


def test_with_dialects_one_record_of_a_hundred_is_broken_in_every_way() -> None:
    chunks = list(with_dialects().chunks())
    published = [_log(one) for chunk in chunks for one in chunk.schemas]
    single = {"BAD_BODY", "BAD_FRAMING", "INVALID_FIELD", "KEY_MISMATCH", "KEY_MISSING"}
    single |= {"NULL_VALUE", "STRAY_PARTITION", "UNKNOWN_SCHEMA", "WRONG_SCHEMA"}
    single |= {"INCOMPATIBLE_SCHEMA"}
    writers = collect(published, [], None)
    refused: Counter[str] = Counter()
    records = [_log(one) for chunk in chunks for one in chunk.tasks]
    ours = [one for one in records if not (one.value or b"").startswith(b"\0")]

    for one in ours:
        try:
            read_event(one, "TaskFinished", PARTITIONS, writers)
        except RefusedError as error:
            refused[str(error)] += 1

    assert set(refused) == single
    assert 0.005 < refused.total() / len(ours) < 0.02


def test_frames_are_mixed_and_every_schema_is_published_before_its_first_record() -> None:
    published: set[bytes] = set()
    for chunk in with_dialects().chunks():
        published |= {
            MARKER + bytes.fromhex((one.key or b"").decode()) for one in chunk.schemas[:-1]
        }
        frames = {one.value[:10] for one in chunk.tasks if one.value and one.value[:2] == MARKER}
        assert {frame for frame in frames if len(frame) == 10} - {ODD} <= published
        firsts = Counter(one.value[0] for one in chunk.tasks if one.value)
        assert min(firsts[0], firsts[0xC3]) > 0
    assert len(published) > 7


ODD = MARKER + b"\xff" * 8


def _log(one: Message) -> LogRecord:
    return LogRecord(one.topic, one.partition, 0, NOW, one.key, one.value)
