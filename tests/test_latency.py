"""Slow calls: the share slower than the usual P99, by the formulas."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from streams.durations import DAY, HOUR
from streams.integrations import Buckets
from streams.reasons import Transition, TransitionReason
from streams.sketch import index_of, value_of
from tests.integration_rig import START, Rig, steady

if TYPE_CHECKING:
    from streams.findings import Finding

CALLS = 100


def of_rule(rig: Rig) -> list[Finding]:
    return [one for one in rig.findings if one.rule == "integration-latency"]


def run(rig: Rig, hours: int, slow: int = 0, calls: int = CALLS) -> None:
    for _ in range(hours):
        rig.hour(steady(rig, calls, None, slow))


def rig(calls: int = CALLS) -> Rig:
    """Return one operation whose P99 was 100 ms in five weeks, of 100 calls an hour."""
    one = Rig()
    one.past(36, calls, {})
    return one


def least(n: int, p0: float = 0.01, multiplier: float = 1.5) -> int:
    """Return the fewest slow calls of n that fire, written out from docs/semantics.md."""
    for k in range(n + 1):
        p, z = k / n, 2.6
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        surely = (p + z * z / (2 * n) - half) / (1 + z * z / n)
        far = (p - p0) / math.sqrt(1.25 * p0 * (1 - p0) / n + p0 * p0)
        if p > max(0.045, 3 * p0) and surely > 0.025 and far > 5 * multiplier:
            return k
    raise AssertionError


def test_the_usual_p99_is_that_of_the_28_days_before_today() -> None:
    one = rig()
    bucket = one.integrations._latency.usual_bucket(0, one.clock)
    assert bucket is not None
    assert value_of(bucket) == pytest.approx(100_000, rel=0.01)


def test_slow_calls_fire_after_three_hours() -> None:
    one = rig()
    run(one, 6)
    run(one, 7, slow=30)
    fired = [each for each in of_rule(one) if each.transition is Transition.FIRING]
    (found,) = fired
    assert found.at - found.starts_at == 3 * HOUR
    assert (found.arm, found.operation) == ("6h", "post")
    assert found.baseline == pytest.approx(0.01)
    assert found.value > 0.045
    assert found.detail is not None
    assert "longer than 100 ms, usually 1.0%" in found.detail
    numbers = dict(zip(found.measure_names, found.measure_values, strict=True))
    assert numbers["p99_ms"] == pytest.approx(10_000, rel=0.01)
    assert numbers["usual_p99_ms"] == pytest.approx(100, rel=0.01)


@pytest.mark.parametrize(("less", "fires"), [(0, True), (1, False)])
def test_the_limit_is_the_formula_and_5_percent_less_does_not_fire(less: int, fires: bool) -> None:
    one = rig(calls=100)
    run(one, 6)
    limit = least(600) - less * max(1, round(0.05 * least(600)))
    slow = np.diff(np.arange(7) * limit // 6).tolist()
    for number in slow:
        run(one, 1, slow=number)
    found = of_rule(one)
    assert bool(found) is fires


def test_it_resolves_when_the_share_was_usual_for_12_hours() -> None:
    one = rig()
    run(one, 6)
    run(one, 7, slow=30)
    run(one, 24)
    last = of_rule(one)[-1]
    assert (last.transition, last.reason) == (Transition.RESOLVED, TransitionReason.CLEAR_ELAPSED)


def test_fewer_than_150_calls_are_not_judged() -> None:
    one = rig()
    for _ in range(9):
        one.hour(steady(one, 24, None, 12))
    assert of_rule(one)[1:] == []


def test_without_a_thousand_calls_nothing_is_known_to_be_usual() -> None:
    one = Rig()
    one.past(36, 1, {})
    run(one, 9, slow=90)
    assert of_rule(one) == []


def test_days_of_an_alert_do_not_make_slow_calls_usual() -> None:
    one = rig()
    run(one, 6)
    run(one, 48, slow=60)
    bucket = one.integrations._latency.usual_bucket(0, one.clock)
    assert bucket is not None
    assert value_of(bucket) == pytest.approx(100_000, rel=0.01)


def test_the_usual_share_is_that_of_the_same_hours_of_past_weeks() -> None:
    one = rig()
    watch = one.integrations._latency
    watch._slow.reserve(1)
    hours = np.repeat(START // HOUR - np.arange(1, 24 * 29), 2)
    same = np.zeros(len(hours), np.int64)
    kinds, counts = np.tile([0, 1], len(hours) // 2), np.tile([90, 10], len(hours) // 2)
    watch._slow.add(same, hours, kinds, (), counts)
    run(one, 8, slow=50)
    found = of_rule(one)[0]
    assert found.baseline == pytest.approx(0.1)
    assert found.baseline_weeks == 4


def test_a_late_call_changes_what_is_usual() -> None:
    one = rig()
    before = one.integrations._latency.usual_bucket(0, one.clock)
    single = np.zeros(1, np.int64)
    code, count = index_of(np.array([5_000_000])), np.array([10_000])
    late = np.array([one.clock - 3 * DAY])
    one.integrations.fold_bins(Buckets(single, single, late, code, count))
    after = one.integrations._latency.usual_bucket(0, one.clock)
    assert (before, after) == (int(index_of(np.array([100_000]))[0]), int(code[0]))
