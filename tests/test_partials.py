from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from streams import schemas
from streams.durations import HOUR, MINUTE
from streams.partials import (
    EntityKey,
    Kind,
    Partial,
    PartialWriter,
    Stream,
    condense,
    first_tick,
    merge,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.partials import Sums

    I64 = NDArray[np.int64]
    Columns = tuple[I64, I64, I64, I64, I64]

START = 1_790_000_000_000 // HOUR * HOUR
FLEET = EntityKey(Kind.FLEET)
INVOICES = EntityKey(Kind.TASK_TYPE, "acme", "match-invoice", "small")


def events(seed: int, number: int) -> Columns:
    rng = np.random.default_rng(seed)
    clocks = START + np.sort(rng.integers(0, 10 * MINUTE, number))
    late = rng.integers(-4 * MINUTE, 30 * MINUTE, number)
    return (
        rng.integers(0, 3, number),
        clocks,
        clocks - late,
        rng.integers(0, 4, number),
        rng.integers(0, 1000, number),
    )


def added_up(columns: Columns, start: int = 0, end: int | None = None) -> Sums:
    """Return some of the events, condensed."""
    group, clocks, times, outcomes, values = (column[start:end] for column in columns)
    return condense(group, clocks, times, outcomes, [values])


def cells(added: Sums) -> Counter[tuple[int, ...]]:
    found: Counter[tuple[int, ...]] = Counter()
    for row in range(len(added.group)):
        place = (int(added.group[row]), int(added.tick[row]), int(added.pane[row]))
        for outcome in range(4):
            found[*place, outcome] += int(added.counts[row, outcome])
        found[*place, 9] += int(added.sums[row, 0])
    return +found


def counted(columns: Columns) -> Counter[tuple[int, ...]]:
    found: Counter[tuple[int, ...]] = Counter()
    for group, clock, event, outcome, value in zip(*(c.tolist() for c in columns), strict=True):
        place = (group, clock // MINUTE * MINUTE + MINUTE, event // MINUTE * MINUTE)
        found[*place, outcome] += 1
        found[*place, 9] += value
    return +found


def record(writer: PartialWriter, clock: int, home: int = 0) -> Partial:
    """Return what one partition gets, after a journey through Avro."""
    value = schemas.encode("Partials", dict(writer.take(clock))[home])
    return Partial.of(schemas.decode(value)[1])


def test_a_tick_is_the_first_minute_after_the_clock() -> None:
    clocks = np.array([START, START + MINUTE - 1, START + MINUTE])

    assert first_tick(clocks).tolist() == [START + MINUTE, START + MINUTE, START + 2 * MINUTE]


@pytest.mark.parametrize("seed", range(5))
def test_condensed_events_are_counted_one_by_one(seed: int) -> None:
    columns = events(seed, 500)

    assert cells(added_up(columns)) == counted(columns)


def test_no_events_condense_to_nothing() -> None:
    none = np.empty(0, np.int64)

    assert len(condense(none, none, none, none, [none]).group) == 0


def test_merging_adds_up_rows_of_one_place() -> None:
    columns = events(1, 300)
    first = added_up(columns, 0, 100)
    second = added_up(columns, 100)
    both = type(first)(*(np.concatenate(pair) for pair in zip(first, second, strict=True)))

    assert cells(merge(both)) == counted(columns)
    places = merge(both)
    assert len(set(zip(places.group, places.tick, places.pane, strict=True))) == len(places.group)


def test_a_record_gives_back_what_was_added() -> None:
    columns = events(2, 200)
    writer = PartialWriter(Stream.TASKS, 5, 1)
    keys = [FLEET, INVOICES, FLEET]
    writer.add(keys, added_up(columns))

    partial = record(writer, START + 10 * MINUTE)

    assert (partial.source, partial.stream) == (5, Stream.TASKS)
    assert partial.entities == [FLEET, INVOICES]
    group = np.array([0, 1, 0])[columns[0]]
    assert cells(partial.sums) == counted((group, *columns[1:]))


def test_bins_error_types_and_marks_come_back() -> None:
    writer = PartialWriter(Stream.CALLS, 0, 1)
    key = EntityKey(Kind.OPERATION, None, "erp", "book")
    writer.add_bin(key, START + MINUTE, START, 371, 2)
    writer.add_bin(key, START + MINUTE, START, 371, 1)
    writer.add_bin(key, START + MINUTE, START, "HTTP_401", 4)
    writer.mark(key, START + MINUTE, START + 7, "contract-test OK")

    partial = record(writer, START + MINUTE)

    assert [(one.bucket, one.error_type, one.number) for one in partial.bins] == [
        (None, "HTTP_401", 4),
        (371, None, 3),
    ]
    assert partial.marks == [(key, START + MINUTE, START + 7, "contract-test OK")]


def test_a_passed_tick_is_told_to_every_partition() -> None:
    writer = PartialWriter(Stream.TASKS, 0, 4)

    told = writer.take(START)

    assert [home for home, _ in told] == [0, 1, 2, 3]
    assert not writer.waits(START + MINUTE - 1)
    assert writer.waits(START + MINUTE)


def test_an_addition_within_a_tick_is_told_only_where_it_belongs() -> None:
    writer = PartialWriter(Stream.TASKS, 0, 4)
    writer.take(START)
    columns = events(3, 10)
    writer.add([FLEET] * 3, added_up(columns))

    assert [home for home, _ in writer.take(START + 1)] == [FLEET.home(4)]


def test_an_empty_topic_is_told_once() -> None:
    writer = PartialWriter(Stream.CALLS, 0, 2)

    assert writer.empty()
    assert [(home, one["clock"]) for home, one in writer.take(None)] == [(0, None), (1, None)]
    assert not writer.empty()
    assert writer.take(None) == []


def test_all_operations_of_an_integration_meet_in_one_partition() -> None:
    homes = {EntityKey(Kind.OPERATION, "acme", "erp", part).home(12) for part in "abcdefgh"}

    assert len(homes) == 1


@pytest.mark.parametrize("until", range(START, START + 12 * MINUTE, MINUTE))
def test_a_partial_splits_by_the_ticks_that_see_it_first(until: int) -> None:
    columns = events(4, 100)
    writer = PartialWriter(Stream.TASKS, 0, 1)
    writer.add([FLEET] * 3, added_up(columns))
    writer.add_bin(FLEET, START + 3 * MINUTE, START, 1, 1)
    whole = record(writer, START)

    now, later = whole.split(until)

    rest = cells(later.sums) if later else Counter()
    assert cells(now.sums) + rest == cells(whole.sums)
    assert int(now.sums.tick.max(initial=0)) <= until
    assert later is None or later.first_tick > until
    assert len(now.bins) + (len(later.bins) if later else 0) == 1


def test_a_record_that_contradicts_itself_is_an_error() -> None:
    writer = PartialWriter(Stream.TASKS, 0, 1)
    columns = events(5, 10)
    writer.add([FLEET] * 3, added_up(columns))
    wrong = dict(writer.take(START))[0] | {"at_tick": []}

    with pytest.raises(ValueError, match="beside"):
        Partial.of(wrong)
