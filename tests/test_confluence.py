from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from streams import state
from streams.confluence import Confluence
from streams.durations import HOUR, MINUTE
from streams.partials import EntityKey, Kind, PartialWriter, Stream, condense

START = 1_790_000_000_000 // HOUR * HOUR
FLEET = EntityKey(Kind.FLEET)
NOTHING = np.empty(0, np.int64)


def told(source: int, clock: int | None, *times: int, idle: bool = False) -> dict[str, Any]:
    """Return a record of one event at each time, each seen by its own minute tick."""
    writer = PartialWriter(Stream.TASKS, source, 1)
    if times:
        at = np.array(times, np.int64)
        zero = np.zeros(len(at), np.int64)
        writer.add([FLEET], condense(zero, at, at, zero, [at * 0 + 1]))
    return dict(writer.take(clock, idle=idle))[0]


def meeting(*records: dict[str, Any], sources: int = 2) -> Confluence:
    found = Confluence(Stream.TASKS, sources)
    for offset, record in enumerate(records):
        found.put(offset, record)
    return found


def reborn(old: Confluence, kept: dict[bytes, bytes], sources: int = 2) -> Confluence:
    """Return what a restart makes of the state."""
    for key, value in old.changes():
        kept.pop(key, None)
        if value is not None:
            kept[key] = value
    found = Confluence(Stream.TASKS, sources)
    assert all(found.restore(one) for one in state.decode(kept.items()))
    found.settle()
    return found


def counts(flow: Any) -> Counter[int]:
    """Return how many events each tick sees first."""
    found: Counter[int] = Counter()
    for tick, number in zip(flow.sums.tick.tolist(), flow.sums.counts.sum(axis=1), strict=True):
        found[tick] += int(number)
    return found


def test_nothing_is_ready_before_every_partition_was_heard() -> None:
    assert meeting(told(0, START + HOUR, START)).ready() is None


def test_the_slowest_partition_decides() -> None:
    both = meeting(told(0, START + HOUR), told(1, START + 3 * MINUTE + 5))

    assert both.ready() == START + 3 * MINUTE


def test_an_empty_partition_holds_nobody_back() -> None:
    assert meeting(told(0, START + HOUR), told(1, None)).ready() == START + HOUR


def test_an_empty_partition_that_gets_a_record_counts() -> None:
    late = meeting(told(0, START + HOUR), told(1, None), told(1, START + MINUTE))

    assert late.ready() == START + MINUTE


def test_all_partitions_empty_is_no_tick() -> None:
    assert meeting(told(0, None), told(1, None)).ready() is None


def test_a_clock_never_goes_back() -> None:
    assert meeting(told(0, START + HOUR), told(0, START), sources=1).ready() == START + HOUR


def test_what_later_ticks_see_waits() -> None:
    both = meeting(told(0, START + HOUR, START, START + 10 * MINUTE), told(1, START + 2 * MINUTE))

    assert counts(both.take(START + 2 * MINUTE)) == {START + MINUTE: 1}
    assert counts(both.take(START + HOUR)) == {START + 11 * MINUTE: 1}
    assert counts(both.take(START + 2 * HOUR)) == {}


def test_an_idle_clock_is_known_as_such() -> None:
    assert meeting(told(0, START, idle=True), sources=1).idle
    assert not meeting(told(0, START, idle=True), told(0, START + HOUR), sources=1).idle


def test_a_contradiction_leaves_everything_as_it_was() -> None:
    both = meeting(told(0, START), told(1, START))

    with pytest.raises(ValueError, match="beside"):
        both.put(9, told(0, START + HOUR, START) | {"at_pane": []})

    assert both.ready() == START


@pytest.mark.parametrize("seed", range(8))
def test_cuts_and_restarts_lose_nothing_and_count_nothing_twice(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kept: dict[bytes, bytes] = {}
    found = Confluence(Stream.TASKS, 2)
    expected: Counter[int] = Counter()
    seen: Counter[int] = Counter()
    clocks = [START, START]
    for offset in range(60):
        source = int(rng.integers(2))
        ahead = np.sort(rng.integers(0, 20 * MINUTE, rng.integers(1, 5))) + clocks[source]
        clocks[source] = int(ahead[-1])
        expected.update((ahead // MINUTE * MINUTE + MINUTE).tolist())
        found.put(offset, told(source, clocks[source], *ahead.tolist()))
        until = found.ready()
        if until is not None and rng.random() < 0.7:
            seen += counts(found.take(until))
        if rng.random() < 0.3:
            found = reborn(found, kept)
    seen += counts(found.take(START + 1000 * HOUR))

    assert seen == expected
    assert not [key for key in dict(reborn(found, kept).changes()) if key.startswith(b"waiting")]


def test_the_order_does_not_depend_on_how_records_were_cut() -> None:
    other = EntityKey(Kind.TENANT, "acme")
    whole, first, second = (PartialWriter(Stream.TASKS, 0, 1) for _ in range(3))
    at = np.array([START, START + 5, START + MINUTE], np.int64)
    zero = np.zeros(1, np.int64)
    for place, time in enumerate(at.tolist()):
        one = condense(zero, np.array([time]), np.array([time]), zero, [zero])
        for writer in (whole, first if place != 1 else second):
            writer.add([other if place else FLEET], one)
    whole_record = dict(whole.take(START + HOUR))[0]
    parts = [dict(writer.take(START + HOUR))[0] for writer in (second, first)]

    flows = [meeting(*each, sources=1).take(START + HOUR) for each in ([whole_record], parts)]

    assert flows[0].keys == flows[1].keys
    assert all(np.array_equal(a, b) for a, b in zip(flows[0].sums, flows[1].sums, strict=True))
