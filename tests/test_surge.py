"""The arm on surges and its usual rate: by the formulas, and quiet for a year."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from streams.arms import RiseArm
from streams.baseline import Baseline, Counts
from streams.durations import DAY, HOUR
from streams.rules import RuleSet
from streams.surge import Cap, SurgeArm, daily_baseline, day_windows

RULE = RuleSet.default().integration_errors
DAY_ARM, SIX_HOURS, HOUR_ARM, FAST = RULE.arms
SPEC = RULE.baseline


def usual(p0: float, known: bool = True) -> Baseline:
    one = np.ones((1, 1))
    return Baseline(p0 * one, np.full((1, 1), known), np.full((1, 1), 4, np.int8), one)


def arm(name: str) -> SurgeArm:
    found = next(one for one in RULE.arms if one.name == name)
    assert isinstance(found, SurgeArm)
    return found


def wilson(k: float, n: float, z: float) -> float:
    p = k / n
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (p + z * z / (2 * n) - half) / (1 + z * z / n)


def fires(hourly: list[int], n: int = 208, p0: float = 0.001, tau2: float = 0.0) -> bool:
    """Return whether the arm 24h fires, written out from docs/semantics.md."""
    counted = [min(k, n * max(8 * p0, 0.004) + 3) for k in hourly]
    k, total = sum(counted), n * len(hourly)
    rate = k / total
    z = (rate - p0) / math.sqrt(1.25 * p0 * (1 - p0) / total + tau2)
    return (
        sum(hourly) >= 5
        and k >= 5
        and sum(one > 0 for one in hourly) >= 4
        and rate > 4 * p0
        and wilson(k, total, 3.3) > max(0.003, 1.5 * p0)
        and z > 5
    )


def judged(hourly: list[int], n: int = 208, p0: float = 0.001) -> bool:
    k = np.array(hourly, np.int64)[None, :, None]
    found = arm("24h").judge_hours(np.full_like(k, n), k, usual(p0), np.zeros((1, 1)))
    return bool(found.fire[0, 0])


def test_the_arms_have_the_numbers_of_the_table() -> None:
    day, hour = arm("24h"), arm("1h")
    assert (day.factor, day.z, day.min_hits, day.min_hours, day.clear_factor) == (4, 5, 5, 4, 2)
    assert (day.wilson.z, day.wilson.floor, day.wilson.factor) == (3.3, 0.003, 1.5)
    assert day.cap == Cap(factor=8, floor=0.004, slack=3)
    assert (day.for_ms, day.clear_for_ms) == (2 * HOUR, 6 * HOUR)
    assert (hour.factor, hour.z, hour.min_hits, hour.clear_factor) == (10, 5, 5, 5)
    assert (hour.wilson.floor, hour.for_ms, hour.clear_for_ms) == (0.005, 3 * HOUR, 6 * HOUR)
    assert isinstance(FAST, RiseArm)
    assert (FAST.floor, FAST.min_hits, FAST.for_ms, FAST.clear_rate) == (0.3, 8, 0, 0.05)


def test_it_judges_as_written_out() -> None:
    random = np.random.default_rng(5)
    outcomes = set()
    for _ in range(400):
        rate = random.choice([0.001, 0.004, 0.006, 0.01])
        hourly = random.binomial(208, rate, 24)
        hourly[random.random(24) < random.choice([0, 0.9])] = 0
        assert judged(hourly.tolist()) == fires(hourly.tolist())
        outcomes.add(fires(hourly.tolist()))
    assert outcomes == {True, False}


def test_one_hour_with_a_thousand_errors_is_no_rise() -> None:
    assert not judged([0] * 20 + [1, 1, 1, 200])
    assert judged([0] * 12 + [3] * 12)


def test_errors_in_three_hours_are_not_spread_enough() -> None:
    assert not judged([0] * 21 + [30] * 3, p0=0.01, n=30)


def test_a_row_without_a_baseline_fires_above_its_absolute_limit_alone() -> None:
    none = usual(0.0003, known=False)
    n, k = np.array([[1_000, 1_000]]), np.array([[40, 90]])
    found = arm("1h").judge(n, k * 2, none, np.zeros((1, 1)))
    assert found.fire.tolist() == [[False, True]]
    assert found.limit.tolist() == [[0.1, 0.1]]


def test_it_clears_at_its_multiple_of_the_baseline() -> None:
    n, k = np.array([[10_000, 10_000]]), np.array([[20, 21]])
    assert arm("24h").judge(n, k, usual(0.001), None).clear.tolist() == [[True, False]]


def test_cap_and_hours_need_a_window_of_hours() -> None:
    with pytest.raises(ValidationError, match="need a window over 3h"):
        SurgeArm.model_validate(arm("1h").model_dump() | {"min_hours": 2})


# -- the usual rate ----------------------------------------------------------------------------


def counts(rates: list[float], total: int = 1_000, tainted: tuple[int, ...] = ()) -> Counts:
    days = len(rates)
    return Counts(
        total=np.full((1, days), total),
        hits=np.array([[round(rate * total) for rate in rates]]),
        usable=np.array([[day not in tainted for day in range(days)]]),
        pooled_total=np.zeros(1, np.int64),
        pooled_hits=np.zeros(1, np.int64),
        relearned=np.zeros(1, np.bool_),
    )


def found(given: Counts) -> Baseline:
    assert SPEC.daily is not None
    return daily_baseline(SPEC, SPEC.daily, given)


def test_the_usual_rate_is_the_median_of_28_days() -> None:
    rates = [0.001, 0.5] + [0.002] * 10 + [0.004] * 16
    assert found(counts(rates)).p0.tolist() == [0.004]


def test_days_of_an_alert_are_left_out() -> None:
    assert found(counts([0.4] * 3 + [0.002] * 2, tainted=(0, 1, 2))).has_baseline.tolist() == [
        False
    ]
    assert found(counts([0.4] * 3 + [0.002] * 3, tainted=(0, 1, 2))).p0.tolist() == [0.002]


def test_it_is_no_less_than_0_03_percent() -> None:
    assert found(counts([0.0] * 28)).p0.tolist() == [0.0003]


def test_small_days_are_pooled_since_their_median_is_nothing() -> None:
    given = counts([0.05] + [0.0] * 9, total=40)
    assert found(given).p0.tolist() == [2 / 400]


def test_weeks_known_are_whole_weeks() -> None:
    assert [int(found(counts([0.001] * n)).weeks[0]) for n in (3, 7, 20, 28)] == [0, 1, 2, 4]


def test_past_days_end_a_day_before_the_hour() -> None:
    starts, ends = day_windows(100 * DAY, 28)
    assert (ends[0], starts[0], starts[-1]) == (99 * DAY, 98 * DAY, 71 * DAY)


# -- a year ------------------------------------------------------------------------------------


def test_a_quiet_year_at_a_tenth_of_a_percent_fires_no_arm() -> None:
    random = np.random.default_rng(2026)
    n = random.poisson(208 / 60, 365 * 24 * 60)
    k = random.binomial(n, 0.001)
    hourly = [each.reshape(-1, 60).sum(axis=1) for each in (n, k)]
    tau2 = np.zeros((1, 1))
    for name, hours in (("24h", 24), ("6h", 6)):
        wide = np.lib.stride_tricks.sliding_window_view
        calls, errors = (wide(each, hours).T[None] for each in hourly)
        assert not arm(name).judge_hours(calls, errors, usual(0.001), tau2).fire.any()
    for one, minutes in ((arm("1h"), 60), (FAST, 5)):
        sums = [np.cumsum(each)[minutes:] - np.cumsum(each)[:-minutes] for each in (n, k)]
        held = one.judge(sums[0][None], sums[1][None], usual(0.001), tau2).fire[0]
        longest = 0 if not held.any() else max(map(len, "".join("01"[x] for x in held).split("0")))
        assert longest * 60_000 <= one.for_ms
