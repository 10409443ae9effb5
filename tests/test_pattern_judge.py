from __future__ import annotations

import numpy as np
import pytest

from streams.pattern_judge import advised, measured, usual_count
from streams.reasons import RetrainingAction
from streams.rules import RuleSet

RULE = RuleSet.default().override_pattern


def window(count: int, sure: int = 0, low: int = 0) -> np.ndarray:
    """Return the counts of a pattern."""
    return np.array([count, sure, low, 0])


def holds(count: int, usual: float, weeks: int = 4) -> bool:
    return bool(measured(RULE, np.array([count]), np.array([usual]), weeks)[0])


def test_it_takes_ten_and_more_than_the_usual_and_no_chance() -> None:
    assert (holds(9, 0), holds(10, 0)) == (False, True)
    assert (holds(160, 100), holds(161, 100)) == (False, True)
    assert (holds(17, 10), holds(31, 10)) == (False, True)  # 17 of 10 is chance at this volume


def test_without_an_earlier_week_nothing_holds() -> None:
    assert not holds(1000, 0, weeks=0)


def test_the_usual_is_the_median_of_the_weeks_after_the_first_review() -> None:
    weeks = {93: 8, 86: 2, 79: 4, 72: 100}

    def between(first: int, last: int) -> np.ndarray:
        assert last == first + 6
        return np.array([[weeks[first], 0, 0, 0]])

    assert usual_count(RULE, 0, 100, between)[1] == 4
    assert usual_count(RULE, 0, 100, between)[0].tolist() == [6]
    usual, number = usual_count(RULE, 78, 100, between)
    assert (usual.tolist(), number) == ([4], 3)


def test_what_a_pattern_may_have_lost_counts_as_usual() -> None:
    usual, _ = usual_count(RULE, 0, 100, lambda *_: np.array([[1, 0, 0, 5]]))

    assert usual.tolist() == [6]


@pytest.mark.parametrize(
    ("counts", "examples", "tried", "action"),
    [
        (window(20), 30, False, RetrainingAction.PROMPT),
        (window(20), 100, False, RetrainingAction.FINE_TUNE),
        (window(20), 30, True, RetrainingAction.FINE_TUNE),
        (window(20, 12, 7), 200, True, RetrainingAction.FINE_TUNE),
        (window(20, 12, 8), 200, True, RetrainingAction.THRESHOLD),
        (window(20, 7, 7), 30, False, RetrainingAction.PROMPT),
    ],
)
def test_the_action_follows_from_the_evidence(
    counts: np.ndarray, examples: int, tried: bool, action: RetrainingAction
) -> None:
    assert advised(RULE, counts, examples, tried=tried).action == action
