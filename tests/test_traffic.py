"""The events of the exactly-once proof."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from load.judge import DAY, HOUR
from load.proof import Expected, LogRecord, RefusedError, decode, expect, partition_of
from load.traffic import BEGIN, LATE_KIND, Chunk, Traffic

PARTITIONS = 2
NOW = BEGIN + 400 * DAY


def traffic(seed: int = 1) -> Traffic:
    return Traffic(seed, partitions=PARTITIONS, agents=10, days=14, tasks=8000)


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
