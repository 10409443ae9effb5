from __future__ import annotations

import numpy as np
import pytest

from streams.columns import BINS, confidence_bins
from streams.durations import DAY, HOUR
from streams.review_series import (
    CONFIRMED,
    MISSING,
    OVERRIDDEN,
    ReviewSeries,
    bin_of,
    key_of,
)
from tests.review_rig import MONDAY, review

NINE = MONDAY + 9 * HOUR
FIRST = np.zeros(1, np.int64)


def test_rows_are_given_in_the_order_of_the_log() -> None:
    series = ReviewSeries(10)
    rows = [series.add(review(NINE, task_type=kind)) for kind in ("a", "b", "a", "c")]

    assert rows == [0, 1, 0, 2]
    assert series.find(key_of(review(NINE, task_type="d"))) == MISSING


def test_an_hour_counts_overridden_and_confirmed_reviews() -> None:
    series = ReviewSeries(10)
    for hit in (True, False, False):
        series.add(review(NINE, overridden=hit))

    (counts,) = series.hours.counts(FIRST, NINE // HOUR, 1)[0]
    assert (counts[OVERRIDDEN], counts[CONFIRMED]) == (1, 2)


@pytest.mark.parametrize(
    ("outcome", "half"), [("AUTOMATED", 0), (None, 0), ("ESCALATED", 1), ("FAILED", 1)]
)
def test_a_day_tells_reviews_of_automated_tasks_from_others(outcome: str | None, half: int) -> None:
    series = ReviewSeries(10)
    series.add(review(NINE, overridden=True, task_outcome=outcome, agent_confidence=0.65))

    counts = series.days.counts(FIRST, NINE // DAY, 1).reshape(2, 2, BINS)
    assert counts.sum() == 1
    assert counts[half, OVERRIDDEN, 3] == 1


def test_a_review_without_confidence_is_in_no_bin() -> None:
    series = ReviewSeries(10)
    series.add(review(NINE))

    assert bin_of(review(NINE)) == MISSING
    assert not series.days.alive(1).any()


def test_the_birth_of_a_series_is_the_hour_of_its_earliest_review() -> None:
    series = ReviewSeries(10)
    for at in (NINE + HOUR, NINE + 5, NINE + 2 * HOUR):
        series.add(review(at))

    assert series.born([0]).tolist() == [NINE]


def test_a_freed_row_is_given_again() -> None:
    series = ReviewSeries(10)
    for kind in ("a", "b"):
        series.add(review(NINE, task_type=kind))
    dead = series.enter(MONDAY + 40 * DAY)
    series.release(dead)

    assert dead == [0, 1]
    assert series.add(review(MONDAY + 40 * DAY, task_type="c")) == 0
    assert len(series) == 1


def test_bins_are_those_of_the_tasks() -> None:
    edges = np.array([0, 0.1, 0.3, 0.5999, 0.6, 0.95, 0.98, 0.99, 1.0])
    found = [bin_of(review(NINE, agent_confidence=float(one))) for one in edges]

    assert found == confidence_bins(edges).tolist()
