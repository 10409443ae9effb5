from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.durations import DAY, HOUR, MINUTE
from streams.panes import BUCKET, PaneKey, Panes

EXAMPLES = settings(max_examples=500, derandomize=True, deadline=None)
BEGIN = 20_000 * DAY
ROWS = 300  # two buckets

WIDTHS = {HOUR: (24, 40, 36 * DAY), MINUTE: (60, 8, 3 * HOUR)}

Added = tuple[int, int, int]  # row, event time, outcome


def panes_of(width: int, *, published: bool = False) -> Panes:
    span, blocks, _ = WIDTHS[width]
    panes = Panes(width, span, blocks, sums=2, published=published)
    panes.reserve(ROWS)
    return panes


def add(panes: Panes, events: list[Added]) -> None:
    rows, times, outcomes = (np.array(column, np.int64) for column in zip(*events, strict=True))
    panes.add(rows, times // panes.width, outcomes, [rows + 1, outcomes * 1000])


@st.composite
def events_of(draw: st.DrawFn, width: int) -> list[Added]:
    """Draw events in any order, up to the retention late, at the edges of panes and blocks."""
    retention = WIDTHS[width][2]
    ages = [0, 1, width - 1, width, width + 1, HOUR, DAY, 3 * HOUR, retention, retention - 1]
    age = st.one_of(
        st.sampled_from([age for age in ages if age <= retention]), st.integers(0, retention)
    )
    one = st.tuples(
        st.sampled_from([0, 1, 2, 255, 256, 299]),
        age.map(lambda age: BEGIN + 5 * MINUTE - age),
        st.integers(0, 3),
    )
    return draw(st.lists(one, min_size=1, max_size=40))


@pytest.mark.parametrize("width", [HOUR, MINUTE])
@EXAMPLES
@given(st.data())
def test_windows_are_sums_of_panes_whatever_the_order_and_the_batches(
    width: int, data: st.DataObject
) -> None:
    events = data.draw(events_of(width))
    random = Random(len(events))
    panes = panes_of(width)
    start = 0
    while start < len(events):
        end = start + random.randint(1, 9)
        add(panes, events[start:end])
        start = end

    first = (BEGIN + 5 * MINUTE - WIDTHS[width][2]) // width
    last = (BEGIN + 5 * MINUTE) // width + 1
    begin = data.draw(st.integers(first, last - 1))
    number = data.draw(st.integers(1, last - begin))
    rows = np.array([256, 0, 2, 7])

    expected = Counter((row, time // width, outcome) for row, time, outcome in events)
    counts = panes.counts(rows, begin, number)
    assert counts.shape == (len(rows), number, 4)
    for index, row in enumerate(rows.tolist()):
        for pane in range(number):
            found = [expected[row, begin + pane, outcome] for outcome in range(4)]
            assert counts[index, pane].tolist() == found
    assert (panes.column(rows, begin, number, 2) == counts[..., 2]).all()


@EXAMPLES
@given(events_of(HOUR), st.integers(0, 2**32))
def test_what_is_dumped_and_loaded_in_any_order_is_the_same(events: list[Added], seed: int) -> None:
    panes = panes_of(HOUR, published=True)
    add(panes, events)
    row, time, _ = events[0]
    panes.publish(np.array([row]), np.array([time // HOUR]), np.array([3]))
    keys = panes.take_dirty()
    assert sorted(keys) == sorted({PaneKey(r // BUCKET, t // HOUR * HOUR) for r, t, _ in events})
    Random(seed).shuffle(keys)

    other = panes_of(HOUR, published=True)
    for key in keys:
        other.load(key.start, panes.dump(key))
    other.settle()

    assert other.take_dirty() == []
    for key in keys:
        for mine, theirs in zip(panes.dump(key), other.dump(key), strict=True):
            assert mine.tolist() == theirs.tolist()
    assert other.revisions(np.array([row]), np.array([time // HOUR])).tolist() == [3]
    assert (row not in other.changed_rows(time // HOUR).tolist()) == (
        row not in panes.changed_rows(time // HOUR).tolist()
    )


def test_expired_blocks_are_gone_and_named_if_they_were_stored() -> None:
    panes = panes_of(HOUR)
    add(panes, [(0, BEGIN, 1), (256, BEGIN + DAY - 1, 1), (0, BEGIN + DAY, 1)])
    panes.take_dirty()
    add(panes, [(1, BEGIN + HOUR, 0)])  # never stored

    assert panes.expire(BEGIN + DAY - 1) == []
    gone = panes.expire(BEGIN + DAY)

    assert sorted(gone) == [PaneKey(0, BEGIN), PaneKey(1, BEGIN + 23 * HOUR)]
    assert panes.take_dirty() == []
    assert panes.counts(np.array([0]), BEGIN // HOUR, 48).sum() == 1
    assert np.flatnonzero(panes.alive(ROWS)).tolist() == [0]


def test_a_block_used_again_starts_from_zero() -> None:
    panes = panes_of(HOUR, published=True)
    add(panes, [(0, BEGIN, 1)])
    panes.expire(BEGIN + DAY)
    add(panes, [(5, BEGIN + 2 * DAY + HOUR, 2)])

    counts, sums = panes.values(np.full(24, 5), BEGIN // HOUR + 48 + np.arange(24))

    assert counts.sum(axis=0).tolist() == [0, 0, 1, 0]
    assert sums.sum(axis=0).tolist() == [6, 2000]
    assert panes.changed_rows(BEGIN // HOUR + 48).tolist() == []


def test_a_block_that_would_overwrite_another_is_an_error() -> None:
    panes = panes_of(MINUTE)
    add(panes, [(0, BEGIN, 0)])

    with pytest.raises(ValueError, match="expire before adding"):
        add(panes, [(0, BEGIN + 8 * HOUR, 0)])


def test_a_published_pane_has_not_changed_until_something_is_added() -> None:
    panes = panes_of(HOUR, published=True)
    add(panes, [(3, BEGIN, 0), (9, BEGIN, 0)])
    row, pane = np.array([3]), np.array([BEGIN // HOUR])

    panes.publish(row, pane, np.array([1]))

    assert panes.changed_rows(BEGIN // HOUR).tolist() == [9]
    add(panes, [(3, BEGIN, 0)])
    assert panes.changed_rows(BEGIN // HOUR).tolist() == [3, 9]
    assert panes.revisions(row, pane).tolist() == [1]
    expired = np.array([BEGIN // HOUR - 999])
    panes.publish(row, expired, np.array([1]))  # of a pane long gone: nothing
    assert panes.revisions(row, expired).tolist() == [0]


@pytest.mark.parametrize(("number", "width"), [(1, HOUR), (10, HOUR), (20, DAY)])
def test_panes_of_any_number_of_counts_add_weights_and_come_back(number: int, width: int) -> None:
    random, span = Random(number), 24 if width == HOUR else 1
    panes, other = (Panes(width, span, 40, sums=2, counts=number) for _ in range(2))
    expected: Counter[tuple[int, int, int]] = Counter()
    totals: Counter[tuple[int, int, int]] = Counter()
    for one in (panes, other):
        one.reserve(ROWS)
    for _ in range(5):
        rows = np.array([random.choice([0, 3, 299]) for _ in range(50)])
        starts = BEGIN // width + np.array([random.randrange(20) for _ in range(50)])
        outcomes = np.array([random.randrange(number) for _ in range(50)])
        weights = np.array([random.randint(1, 1000) for _ in range(50)])
        panes.add(rows, starts, outcomes, [weights * 7, outcomes], weights)
        for key, weight in zip(np.c_[rows, starts, outcomes].tolist(), weights, strict=True):
            row, start, outcome = key
            expected[row, start, outcome] += weight
            totals[row, start, 0] += weight * 7
            totals[row, start, 1] += outcome
    for key in panes.take_dirty():
        other.load(key.start, panes.dump(key))

    rows, first = np.array([299, 0, 7, 3]), BEGIN // width - 3
    for one in (panes, other):
        counts, sums = one.counts(rows, first, 26), one.sums(rows, first, 26)
        assert counts.shape == (4, 26, number)
        assert sums.shape == (4, 26, 2)
        for index, row in enumerate(rows.tolist()):
            for pane in range(26):
                at = first + pane
                assert counts[index, pane].tolist() == [expected[row, at, o] for o in range(number)]
                assert sums[index, pane].tolist() == [totals[row, at, which] for which in (0, 1)]


def test_a_series_with_every_hour_of_36_days_takes_about_60_kb() -> None:
    panes = Panes(HOUR, 24, 40, sums=6, published=True)
    rows = 1000
    panes.reserve(rows)
    every = np.arange(rows)
    for hour in range(36 * 24):
        outcome = np.zeros(rows, np.int64)
        panes.add(every, np.full(rows, BEGIN // HOUR + hour), outcome, [outcome] * 6)

    assert panes.nbytes / rows < 72_000  # with the pool's spare room; 58 KB of it is panes


def test_a_series_of_one_event_takes_one_block() -> None:
    panes = Panes(HOUR, 24, 40, sums=6, published=True)
    panes.reserve(20_000)
    rows = np.arange(20_000)
    panes.add(rows, np.full(20_000, BEGIN // HOUR), rows * 0, [rows] * 6)

    assert panes.nbytes / 20_000 < 2_800
