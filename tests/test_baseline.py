"""Baselines: which weeks count, how they make a rate, and how far it strays between days."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from streams.arms import Tau
from streams.baseline import (
    NEVER,
    Baseline,
    Counts,
    baseline,
    daily_residuals,
    pooled_window,
    tau_squared,
    usable,
    week_windows,
)
from streams.durations import DAY, HOUR, MINUTE, WEEK
from streams.rules import RuleSet

AUTOMATED, ERRORS = (rule.baseline for rule in RuleSet.default().rates)
TICK = 1_000 * WEEK + 9 * HOUR + 17 * MINUTE


def counts(total: list[int], hits: list[int], **given: Any) -> Counts:
    return Counts(
        total=np.array([total]),
        hits=np.array([hits]),
        usable=np.array([given.get("usable", [True] * 4)]),
        pooled_total=np.array([given.get("pooled_total", 0)]),
        pooled_hits=np.array([given.get("pooled_hits", 0)]),
        relearned=np.array([given.get("relearned", False)]),
    )


def test_past_weeks_are_the_same_day_up_to_the_begun_hour() -> None:
    starts, ends = week_windows(TICK, AUTOMATED)
    hour = TICK - 17 * MINUTE
    assert ends.tolist() == [hour - j * WEEK for j in (1, 2, 3, 4)]
    assert (ends - starts == DAY).all()


def test_the_pooled_span_ends_a_day_before_the_begun_hour() -> None:
    hour = TICK - 17 * MINUTE
    assert pooled_window(TICK, ERRORS) == (hour - 29 * DAY, hour - DAY)


def test_a_rule_without_a_pooled_span_has_an_empty_one() -> None:
    start, end = pooled_window(TICK, AUTOMATED)
    assert start == end


def masks(born: int = 0, relearned: int = NEVER, tainted: tuple[int, ...] = ()) -> list[bool]:
    starts, _ = week_windows(TICK, AUTOMATED)
    taint = np.array([[j in tainted for j in range(4)]])
    found: list[bool] = usable(starts, np.array([born]), np.array([relearned]), taint)[0].tolist()
    return found


def test_every_week_of_an_old_untroubled_agent_is_usable() -> None:
    assert masks() == [True] * 4


def test_a_week_that_began_before_the_agent_did_is_not_usable() -> None:
    starts, _ = week_windows(TICK, AUTOMATED)
    assert masks(born=int(starts[1])) == [True, True, False, False]
    assert masks(born=int(starts[1]) + HOUR) == [True, False, False, False]


def test_a_week_from_before_the_new_normal_is_not_usable() -> None:
    starts, _ = week_windows(TICK, AUTOMATED)
    assert masks(relearned=int(starts[0])) == [True, False, False, False]


def test_taint_leaves_a_week_out() -> None:
    assert masks(tainted=(1, 2)) == [True, False, False, True]


def test_four_large_weeks_give_the_median_of_their_rates() -> None:
    found = baseline(AUTOMATED, counts([200] * 4, [180, 100, 170, 160]))
    assert found.p0[0] == (170 / 200 + 160 / 200) / 2
    assert found.weeks[0] == 4


def test_one_small_week_makes_them_be_pooled() -> None:
    found = baseline(AUTOMATED, counts([200, 200, 200, 199], [180, 100, 170, 160]))
    assert found.p0[0] == (180 + 100 + 170 + 160) / 799


def test_a_week_that_is_not_usable_counts_for_nothing() -> None:
    given = counts([200, 200, 200, 5], [180, 160, 170, 0], usable=[True, True, True, False])
    assert baseline(AUTOMATED, given).p0[0] == 170 / 200


def test_a_week_without_events_is_no_week() -> None:
    found = baseline(AUTOMATED, counts([300, 0, 0, 0], [240, 0, 0, 0]))
    assert (found.weeks[0], found.p0[0]) == (1, 240 / 300)


@pytest.mark.parametrize(
    ("weeks", "multiplier"), [(4, 1.0), (3, 1.25), (2, 1.5), (1, 1.5), (0, 1.5)]
)
def test_a_young_baseline_asks_for_a_larger_z(weeks: int, multiplier: float) -> None:
    given = counts([300] * 4, [240] * 4, usable=[j < weeks for j in range(4)])
    assert baseline(AUTOMATED, given).multiplier[0] == multiplier


def test_no_week_is_no_baseline() -> None:
    found = baseline(AUTOMATED, counts([0] * 4, [0] * 4))
    assert not found.has_baseline[0]
    assert math.isnan(found.p0[0])


@pytest.mark.parametrize(("hits", "expected"), [(0, 0.5 / 1201), (300, 1 - 0.5 / 1201)])
def test_a_rate_is_kept_off_zero_and_one(hits: int, expected: float) -> None:
    assert baseline(AUTOMATED, counts([300] * 4, [hits] * 4)).p0[0] == expected


def test_errors_are_never_fewer_than_over_the_long_span() -> None:
    given = counts([1000] * 4, [2] * 4, pooled_total=28_000, pooled_hits=140)
    assert baseline(ERRORS, given).p0[0] == 140 / 28_000


def test_a_long_span_of_few_events_does_not_count() -> None:
    given = counts([1000] * 4, [2] * 4, pooled_total=199, pooled_hits=190)
    assert baseline(ERRORS, given).p0[0] == 0.002


def test_errors_have_a_floor() -> None:
    given = counts([100_000] * 4, [1] * 4, pooled_total=10**6, pooled_hits=9)
    assert baseline(ERRORS, given).p0[0] == 0.0005


def test_a_long_span_alone_is_no_baseline_of_a_new_agent() -> None:
    found = baseline(ERRORS, counts([0] * 4, [0] * 4, pooled_total=900, pooled_hits=90))
    assert not found.has_baseline[0]
    assert found.p0[0] == 0.0005


def test_a_long_span_alone_is_the_baseline_of_a_new_normal() -> None:
    given = counts([0] * 4, [0] * 4, pooled_total=900, pooled_hits=90, relearned=True)
    found = baseline(ERRORS, given)
    assert found.has_baseline[0]
    assert (found.p0[0], found.multiplier[0], found.weeks[0]) == (0.1, 1.5, 0)


def test_rows_do_not_touch_each_other() -> None:
    rng = np.random.default_rng(7)
    total = rng.integers(0, 500, (40, 4))
    hits = rng.integers(0, total + 1)
    mask = rng.random((40, 4)) < 0.8
    long_total = rng.integers(0, 900, 40)
    long_hits, new = rng.integers(0, long_total + 1), rng.random(40) < 0.3
    together = baseline(ERRORS, Counts(total, hits, mask, long_total, long_hits, new))
    for row in range(40):
        at = slice(row, row + 1)
        part = Counts(total[at], hits[at], mask[at], long_total[at], long_hits[at], new[at])
        alone = baseline(ERRORS, part)
        assert (alone.p0[0], alone.weeks[0]) == (together.p0[row], together.weeks[row])


def test_rows_can_be_taken_and_stood_up_as_a_column() -> None:
    found = baseline(AUTOMATED, counts([300] * 4, [240] * 4))
    assert found.take([0, 0]).p0.tolist() == [0.8, 0.8]
    assert found.column().p0.shape == (1, 1)


TAU = Tau(prior=None, min_n=20, min_entries=5, min_age=2, max_age=182)


def usual(p0: float = 0.1, *, known: bool = True) -> Baseline:
    return Baseline(np.array([p0]), np.array([known]), np.array([4], np.int8), np.array([1.0]))


def test_a_residual_is_how_far_a_window_was_from_its_baseline() -> None:
    residual, spread = daily_residuals(TAU, [1000], [120], usual(), [False])
    assert residual[0] == np.float16(0.12 - 0.1)
    assert spread[0] == np.float16(math.sqrt(1.25 * 0.1 * 0.9 / 1000))


@pytest.mark.parametrize(
    ("total", "known", "tainted"), [(19, True, False), (1000, False, False), (1000, True, True)]
)
def test_a_window_that_teaches_nothing_leaves_no_residual(
    total: int, known: bool, tainted: bool
) -> None:
    residual, spread = daily_residuals(TAU, [total], [2], usual(known=known), [tainted])
    assert np.isnan(residual[0])
    assert np.isnan(spread[0])


def test_twenty_events_are_enough_for_a_residual() -> None:
    assert not np.isnan(daily_residuals(TAU, [20], [2], usual(), [False])[0][0])


def entries(count: int) -> tuple[np.ndarray, np.ndarray]:
    residual = np.full((1, 8), np.nan, np.float16)
    residual[0, :count] = 0.05
    return residual, np.where(np.isnan(residual), residual, np.float16(0.01))


def test_four_days_are_too_few_to_leave_the_prior() -> None:
    assert tau_squared(TAU, *entries(4), np.array([0.0004]))[0] == 0.0004


def test_five_days_give_the_variance_of_the_series_itself() -> None:
    res, sd = float(np.float16(0.05)), float(np.float16(0.01))
    found = tau_squared(TAU, *entries(5), np.array([0.0004]))[0]
    assert found == pytest.approx((1.4826 * res) ** 2 - sd**2, rel=1e-12)
