"""Errors by type: bounded, aged, and the same after a restart."""

from __future__ import annotations

import numpy as np

from streams import state
from streams.durations import DAY, HOUR
from streams.type_counts import OTHER, TYPES_MOST, TypeCounts

NOW = 20_000 * DAY
FIRST = NOW // HOUR


def fold(counts: TypeCounts, name: str, hour: int = NOW, number: int = 1, row: int = 0) -> None:
    one = np.array([row]), np.array([hour])
    counts.fold(*one, [name], np.array([number]))


def test_errors_are_counted_by_type_and_hour() -> None:
    counts = TypeCounts()
    fold(counts, "B", NOW + HOUR, 2)
    fold(counts, "A", NOW, 3)
    fold(counts, "A", NOW, 1, row=1)
    assert counts.names(0) == ["A", "B"]
    assert counts.read(0, FIRST, 2).tolist() == [[3, 0], [0, 2]]


def test_the_types_past_the_bound_are_one() -> None:
    counts = TypeCounts()
    for number in range(TYPES_MOST + 3):
        fold(counts, f"TYPE_{number:03}", number=number + 1)
    assert len(counts.names(0)) == TYPES_MOST + 1
    assert counts.top(0, FIRST, 1)[0] == (OTHER, 33 + 34 + 35)


def test_the_most_frequent_types_come_first_and_equal_ones_by_name() -> None:
    counts = TypeCounts()
    for name, number in (("C", 2), ("B", 5), ("A", 2)):
        fold(counts, name, number=number)
    assert counts.top(0, FIRST, 1) == [("B", 5), ("A", 2), ("C", 2)]
    assert counts.top(0, FIRST + 1, 5) == []


def test_a_type_of_which_nothing_is_left_makes_room() -> None:
    counts = TypeCounts()
    fold(counts, "OLD")
    counts.enter(NOW // DAY + 37)
    assert counts.names(0) == []
    assert counts.nbytes == 0


def test_an_hour_of_36_days_ago_is_not_taken_for_one_of_today() -> None:
    counts = TypeCounts()
    for day in range(80):
        counts.enter(NOW // DAY + day)
        fold(counts, "A", NOW + day * DAY + (day % 24) * HOUR)
        read = counts.read(0, FIRST + 24 * day, 24)[0]
        assert read.tolist() == [int(hour == day % 24) for hour in range(24)]


def test_what_was_stored_comes_back_and_what_is_gone_does_not() -> None:
    counts, stored = TypeCounts(), dict[bytes, bytes]()
    for day in range(50):
        counts.enter(NOW // DAY + day)
        fold(counts, f"T{day // 10}", NOW + day * DAY, day + 1)
        for key, value in counts.changes():
            if value is None:
                stored.pop(key)
            else:
                stored[key] = value
    again = TypeCounts()
    assert all(again.restore(one) for one in state.decode(stored.items()))
    again.settle()
    assert not list(again.changes())
    assert again.names(0) == counts.names(0)
    hours = FIRST + 24 * 14, 24 * 36
    assert (again.read(0, *hours) == counts.read(0, *hours)).all()


def test_a_row_forgotten_is_gone_from_the_state() -> None:
    counts = TypeCounts()
    fold(counts, "A")
    list(counts.changes())
    counts.forget(0)
    assert [value for _, value in counts.changes()] == [None]
