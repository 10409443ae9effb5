"""One arm: what it makes of counts, and how its state follows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.arms import CLEAR, ENOUGH, FIRE, JUDGEABLE, WAKES, ArmLife, Move, Phase
from streams.baseline import Baseline
from streams.durations import HOUR, MINUTE, SECOND
from streams.rules import RuleSet

(DROP,) = RuleSet.default().rates[0].arms
DAY_ARM, HOUR_ARM, BURST = RuleSet.default().rates[1].arms


def usual(p0: float | None, multiplier: float = 1.0, weeks: int = 4) -> Baseline:
    known = p0 is not None
    return Baseline(
        np.array([p0 if known else math.nan]),
        np.array([known]),
        np.array([weeks], np.int8),
        np.array([multiplier]),
    )


def fires(arm: Any, n: int, k: int, baseline: Baseline, tau2: float = 0.0) -> bool:
    return bool(arm.judge([n], [k], baseline, np.array([tau2])).fire[0])


def clears(arm: Any, n: int, k: int, baseline: Baseline) -> bool:
    return bool(arm.judge([n], [k], baseline, np.array([0.0])).clear[0])


# Each pair: what fires, and the same with one condition missed by at most 5 %.


def test_a_drop_of_more_than_five_percent_fires() -> None:
    assert fires(DROP, 10_000, 7_590, usual(0.8))


def test_a_drop_of_just_under_five_percent_does_not() -> None:
    assert not fires(DROP, 10_000, 7_610, usual(0.8))


def test_a_drop_of_exactly_five_percent_does_not() -> None:
    assert fires(DROP, 10_000, 4_749, usual(0.5))
    assert not fires(DROP, 10_000, 4_750, usual(0.5))


def test_a_drop_is_judged_from_fifty_tasks_on() -> None:
    assert fires(DROP, 50, 10, usual(0.8))
    judged = DROP.judge([49], [10], usual(0.8), [0.0])
    assert not judged.enough[0]
    assert not judged.fire[0]


def z_of(n: int, k: int, p0: float, tau2: float) -> float:
    return (k / n - p0) / math.sqrt(1.25 * p0 * (1 - p0) / n + tau2)


def test_a_drop_that_chance_explains_does_not_fire() -> None:
    assert z_of(1000, 728, 0.8, 0.0) < -4.4 * 1.05
    assert fires(DROP, 1000, 728, usual(0.8))
    assert -4.4 < z_of(1000, 739, 0.8, 0.0) < -4.4 * 0.95
    assert not fires(DROP, 1000, 739, usual(0.8))


@pytest.mark.parametrize(("multiplier", "expected"), [(1.0, True), (1.25, True), (1.5, False)])
def test_a_young_baseline_needs_a_larger_distance(multiplier: float, expected: bool) -> None:
    assert -4.4 * 1.5 < z_of(1000, 716, 0.8, 0.0) < -4.4 * 1.25
    assert fires(DROP, 1000, 716, usual(0.8, multiplier)) is expected


def test_an_agent_that_strays_from_day_to_day_may_stray() -> None:
    assert fires(DROP, 10_000, 7_000, usual(0.8), 0.0)
    assert not fires(DROP, 10_000, 7_000, usual(0.8), 0.03**2)


def test_without_a_baseline_a_drop_is_neither_seen_nor_cleared() -> None:
    judged = DROP.judge([10_000], [100], usual(None), [0.0])
    flags = (judged.enough, judged.fire, judged.judgeable, judged.clear)
    assert [bool(flag[0]) for flag in flags] == [False] * 4


def test_a_drop_clears_half_way_back() -> None:
    assert clears(DROP, 1000, 780, usual(0.8))
    assert not clears(DROP, 1000, 779, usual(0.8))


@pytest.mark.parametrize(("arm", "factor"), [(DAY_ARM, 2.0), (HOUR_ARM, 2.2)])
def test_errors_past_a_multiple_of_the_usual_fire(arm: Any, factor: float) -> None:
    limit = round(100_000 * 0.02 * factor)
    assert fires(arm, 100_000, limit + 1, usual(0.02))
    assert not fires(arm, 100_000, limit, usual(0.02))


@pytest.mark.parametrize("arm", [DAY_ARM, HOUR_ARM])
def test_errors_past_the_absolute_limit_fire(arm: Any) -> None:
    assert fires(arm, 100_000, 1_501, usual(0.003))
    assert not fires(arm, 100_000, 1_500, usual(0.003))


@pytest.mark.parametrize("arm", [DAY_ARM, HOUR_ARM])
def test_without_a_baseline_the_absolute_limit_alone_counts(arm: Any) -> None:
    assert fires(arm, 100_000, 1_501, usual(None))
    assert not fires(arm, 100_000, 1_500, usual(None))


@pytest.mark.parametrize("arm", [DAY_ARM, HOUR_ARM])
def test_seven_failures_are_an_anecdote(arm: Any) -> None:
    assert fires(arm, 40, 8, usual(0.003))
    assert not fires(arm, 35, 7, usual(0.003))


@pytest.mark.parametrize("arm", [DAY_ARM, HOUR_ARM])
def test_errors_must_surely_be_past_three_quarters_of_the_limit(arm: Any) -> None:
    assert wilson(20, 1000, 2.6) > 0.75 * 0.015 > wilson(19, 1000, 2.6)
    assert fires(arm, 1000, 20, usual(None))
    assert not fires(arm, 1000, 19, usual(None))


@pytest.mark.parametrize(("arm", "z"), [(DAY_ARM, 4.5), (HOUR_ARM, 4.0)])
def test_errors_must_differ_from_the_usual(arm: Any, z: float) -> None:
    n, k, p0 = 100_000, 3_000, 0.01
    at = ((k / n - p0) / (z * 1.02)) ** 2 - 1.25 * p0 * (1 - p0) / n
    assert fires(arm, n, k, usual(p0), at)
    below = ((k / n - p0) / (z * 0.98)) ** 2 - 1.25 * p0 * (1 - p0) / n
    assert not fires(arm, n, k, usual(p0), below)
    assert not fires(arm, n, k, usual(p0, 1.25), at)
    assert not fires(arm, n, k, usual(p0, 1.5), at)


@pytest.mark.parametrize("arm", [DAY_ARM, HOUR_ARM])
def test_errors_clear_at_seven_tenths_of_the_limit(arm: Any) -> None:
    assert clears(arm, 100_000, 1_049, usual(0.003))
    assert not clears(arm, 100_000, 1_051, usual(0.003))


def test_a_burst_is_more_than_three_in_ten() -> None:
    assert fires(BURST, 100, 31, usual(0.01))
    assert not fires(BURST, 100, 30, usual(0.01))


def test_a_burst_of_an_agent_that_often_fails_is_five_times_the_usual() -> None:
    assert fires(BURST, 100, 51, usual(0.1))
    assert not fires(BURST, 100, 50, usual(0.1))


def test_a_burst_needs_twenty_tasks_and_eight_failures() -> None:
    assert fires(BURST, 20, 8, usual(None))
    assert not fires(BURST, 19, 8, usual(None))
    assert not fires(BURST, 20, 7, usual(None))


def test_a_burst_clears_at_one_in_twenty() -> None:
    assert clears(BURST, 100, 5, usual(0.01))
    assert not clears(BURST, 100, 6, usual(0.01))


@pytest.mark.parametrize("arm", [DAY_ARM, HOUR_ARM, BURST])
def test_no_task_clears_nothing(arm: Any) -> None:
    judged = arm.judge([0], [0], usual(0.01), [0.0])
    assert not judged.judgeable[0]
    assert not judged.clear[0]


def test_the_limit_is_what_the_rate_was_compared_with() -> None:
    assert DROP.judge([9], [9], usual(0.8), [0.0]).limit[0] == 0.95 * 0.8
    assert DAY_ARM.judge([9], [9], usual(0.02), [0.0]).limit[0] == 0.04
    assert HOUR_ARM.judge([9], [9], usual(0.001), [0.0]).limit[0] == 0.015
    assert BURST.judge([9], [9], usual(0.1), None).limit[0] == 0.5


def test_the_variance_between_days_starts_at_its_prior() -> None:
    assert DROP.tau_prior2([0.8]).tolist() == [0.02 * 0.02]
    assert DAY_ARM.tau_prior2([0.01]).tolist() == [0.01 * 0.01]


def test_a_window_is_aligned_to_its_panes() -> None:
    tick = 480_000 * HOUR + 17 * MINUTE
    assert DROP.window(tick) == (tick - 17 * MINUTE - 23 * HOUR, tick)
    assert HOUR_ARM.window(tick) == (tick - HOUR, tick)
    assert BURST.window(tick + 5 * SECOND) == (tick - 4 * MINUTE, tick + 5 * SECOND)


def wilson(k: int, n: int, z: float) -> float:
    p = k / n
    root = math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (p + z * z / (2 * n) - z * root) / (1 + z * z / n)


def naive(arm: Any, n: int, k: int, p0: float | None, m: float, tau2: float) -> tuple[bool, ...]:
    """Judge one cell as the specification says it, without arrays."""
    r = k / n if n else math.nan
    z = math.nan
    if p0 is not None and n:
        z = (r - p0) / math.sqrt(1.25 * p0 * (1 - p0) / n + tau2)
    if arm is DROP:
        if p0 is None:
            return False, False, False, False
        fire = n >= 50 and r < 0.95 * p0 and z < -4.4 * m
        return n >= 50, fire, n >= 1, n >= 1 and r >= 0.975 * p0
    if arm is BURST:
        high = n >= 20 and r > 0.30 and (p0 is None or r > 5 * p0)
        return n >= 20, high and k >= 8, n >= 1, n >= 1 and r <= 0.05
    factor, bound = (2.0, 4.5) if arm is DAY_ARM else (2.2, 4.0)
    limit = 0.015 if p0 is None else max(0.015, factor * p0)
    fire = n >= 1 and r > limit and k >= 8 and wilson(k, n, 2.6) > 0.75 * limit
    fire = fire and (p0 is None or z > bound * m)
    return n >= 1, fire, n >= 1, n >= 1 and r <= 0.7 * limit


cell = st.tuples(
    st.integers(0, 400),
    st.floats(0, 1),
    st.one_of(st.none(), st.floats(0.0005, 0.9995)),
    st.sampled_from([1.0, 1.25, 1.5]),
    st.floats(0, 0.01),
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(cell, min_size=1, max_size=40))
def test_arrays_are_judged_as_each_cell_alone(cells: list[Any]) -> None:
    n = np.array([one[0] for one in cells])
    k = np.array([round(one[0] * one[1]) for one in cells])
    p0 = [one[2] for one in cells]
    m, tau2 = np.array([one[3] for one in cells]), np.array([one[4] for one in cells])
    for arm in (DROP, DAY_ARM, HOUR_ARM, BURST):
        baseline = Baseline(
            np.array([math.nan if p is None else p for p in p0]),
            np.array([p is not None for p in p0]),
            np.full(len(cells), 4, np.int8),
            m,
        )
        judged = arm.judge(n, k, baseline, tau2)
        flags = np.stack([judged.enough, judged.fire, judged.judgeable, judged.clear], axis=1)
        expected = [
            naive(arm, int(n[i]), int(k[i]), p0[i], float(m[i]), float(tau2[i]))
            for i in range(len(cells))
        ]
        assert flags.tolist() == [list(one) for one in expected]


def test_baselines_of_rows_meet_counts_of_rows_and_ticks() -> None:
    judged = DROP.judge(
        np.full((2, 3), 1000), np.full((2, 3), 500), _two().column(), np.zeros((2, 1))
    )
    assert judged.fire.tolist() == [[True] * 3, [False] * 3]
    assert judged.limit.shape == (2, 3)


def _two() -> Baseline:
    weeks = np.array([4, 4], np.int8)
    return Baseline(np.array([0.8, 0.4]), np.array([True, True]), weeks, np.array([1.0, 1.0]))


HOT = ENOUGH | FIRE | JUDGEABLE | WAKES
COLD = ENOUGH | JUDGEABLE
CALM = COLD | CLEAR


def walk(life: ArmLife, arm: Any, cells: list[int]) -> list[Move]:
    return [
        life.step(arm, one, arm.step_ms * index, cooled=True) for index, one in enumerate(cells)
    ]


def test_an_arm_fires_when_the_condition_held_for_its_time() -> None:
    moves = walk(ArmLife(), DROP, [HOT] * 121)
    assert moves[0] is Move.PENDED
    assert moves[120] is Move.FIRED
    assert set(moves[1:120]) == {Move.NONE}


def test_an_arm_without_a_time_fires_at_once() -> None:
    assert walk(ArmLife(), BURST, [HOT]) == [Move.FIRED]


def test_a_false_tick_cancels() -> None:
    life = ArmLife()
    assert walk(life, DROP, [HOT, HOT, COLD])[-1] is Move.CANCELLED
    assert life == ArmLife()


def test_a_small_sample_holds_a_pending_arm() -> None:
    moves = walk(ArmLife(), DROP, [HOT] * 60 + [0] * 45 + [HOT] * 61)
    assert moves.index(Move.FIRED) == 120 + 45


def test_an_idle_arm_that_was_not_touched_sleeps() -> None:
    assert walk(ArmLife(), DROP, [HOT & ~WAKES]) == [Move.NONE]


def test_an_arm_that_has_not_cooled_does_not_fire() -> None:
    assert ArmLife().step(BURST, HOT, 0, cooled=False) is Move.NONE


def firing(arm: Any) -> ArmLife:
    del arm
    return ArmLife(Phase.FIRING)


def test_an_arm_clears_when_the_clear_condition_held_for_its_time() -> None:
    moves = walk(firing(BURST), BURST, [CALM] * 181)
    assert moves[0] is Move.TIMED
    assert moves[180] is Move.CLEARED
    assert set(moves[1:180]) == {Move.NONE}


def test_a_tick_that_is_not_clear_restarts_the_clearing() -> None:
    moves = walk(firing(BURST), BURST, [CALM] * 100 + [COLD] + [CALM] * 181)
    assert moves.index(Move.CLEARED) == 101 + 180


def test_no_sample_holds_the_clearing() -> None:
    moves = walk(firing(BURST), BURST, [CALM] * 100 + [0] * 50 + [CALM] * 81)
    assert moves.index(Move.CLEARED) == 180 + 50


def test_no_sample_at_all_keeps_firing() -> None:
    assert set(walk(firing(BURST), BURST, [0] * 500)) == {Move.NONE}


@pytest.mark.parametrize(
    ("life", "moved"),
    [
        (ArmLife(Phase.PENDING, 1000), ArmLife(Phase.PENDING, 1070)),
        (ArmLife(Phase.FIRING, 0, 1000), ArmLife(Phase.FIRING, 0, 1070)),
        (ArmLife(Phase.FIRING), ArmLife(Phase.FIRING)),
    ],
)
def test_a_hold_moves_the_running_timer(life: ArmLife, moved: ArmLife) -> None:
    life.hold(70)
    assert life == moved
