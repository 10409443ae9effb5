"""All rules on integrations together, hour by hour, with the shipped defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from streams.durations import DAY, HOUR, MINUTE
from streams.integrations import Buckets, Errors
from streams.partials import Bin, EntityKey, Kind, Mark
from streams.reasons import EntityKind, Transition, TransitionReason
from tests.integration_rig import START, Hour, Rig, steady

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streams.findings import Finding

USUAL = {"TIMEOUT": 0.0006, "HTTP_500": 0.0004}


def drawn(rig: Rig, random: np.random.Generator, rates: Mapping[str, float]) -> Hour:
    """Return an hour of 208 calls to each operation, 5,000 a day."""
    n = random.poisson(208 / 60, (len(rig.rows), 60))
    types = {name: random.binomial(n, rate) for name, rate in rates.items()}
    failed = sum(types.values(), np.zeros_like(n))
    n = np.maximum(n, failed)
    return Hour(n - failed, failed, types, random.binomial(n.sum(axis=1), 0.005))


def usual(rows: int, seed: int) -> tuple[Rig, np.random.Generator]:
    """Return operations with five weeks of 0.1 % of errors behind them, and a day of rules."""
    random = np.random.default_rng(seed)
    rig = Rig(rows)
    shape = (rows, 36 * 24)
    rig.past(36, 208, {name: random.binomial(208, rate, shape) for name, rate in USUAL.items()})
    for _ in range(24):
        rig.hour(drawn(rig, random, USUAL))
    return rig, random


def first_firing(findings: Iterable[Finding]) -> dict[str, int]:
    times: dict[str, int] = {}
    for one in findings:
        if one.transition is Transition.FIRING:
            times.setdefault(one.entity_id, one.at)
    return times


@pytest.mark.parametrize("new", [True, False])
def test_a_tenth_of_a_percent_that_becomes_2_percent_is_found_in_6_hours(new: bool) -> None:
    rig, random = usual(8, 20 + new)
    assert rig.findings == []
    start = rig.clock
    rates = USUAL | {"SCHEMA": 0.019} if new else {"TIMEOUT": 0.012, "HTTP_500": 0.008}
    for _ in range(6):
        rig.hour(drawn(rig, random, rates))
    times = first_firing(rig.findings)
    assert len(times) == 8
    assert max(times.values()) < start + 6 * HOUR


def of_rule(rig: Rig, rule: str = "integration-errors") -> list[Finding]:
    return [one for one in rig.findings if one.rule == rule]


def down(rig: Rig, failed: int, calls: int = 20) -> Hour:
    """Return an hour in whose last minute so many of so many calls fail."""
    one = steady(rig, 0)
    ok, bad = one.ok.copy(), one.failed.copy()
    ok[:, -1], bad[:, -1] = calls - failed, failed
    return Hour(ok, bad, {"HTTP_503": bad}, one.slow)


@pytest.mark.parametrize(("failed", "fires"), [(8, True), (7, False)])
def test_an_outage_fires_at_once_by_the_fast_path(failed: int, fires: bool) -> None:
    rig = Rig()
    rig.past(36, 208, {})
    rig.hour(down(rig, failed))
    rig.hour(steady(rig, 60))
    found = [one for one in of_rule(rig) if one.arm == "5m"]
    assert bool(found) is fires
    if fires:
        assert (found[0].transition, found[0].reason) == (
            Transition.FIRING,
            TransitionReason.AT_ONCE,
        )


def test_its_finding_is_about_the_operation_and_says_which_errors_there_were() -> None:
    rig = Rig()
    rig.past(36, 208, {})
    rig.integrations.fold_mark(0, rig.clock, rig.clock - HOUR, "change TOOL_SCHEMA v1 v2")
    rig.hour(steady(rig, 208))
    rig.hour(down(rig, 15))
    found = of_rule(rig)[0]
    assert (found.entity_kind, found.entity_id) == (EntityKind.INTEGRATION, "sap-0")
    assert (found.operation, found.tenant) == ("post", "acme")
    assert found.detail is not None
    assert found.detail.startswith("errors in 24 h: HTTP_503 15; P99 100 ms")
    assert found.measure_names == ("p50_ms", "p95_ms", "p99_ms")
    assert found.change_ref is not None
    assert found.change_ref.startswith("TOOL_SCHEMA v1 to v2, ")


def test_a_rise_over_a_day_fires_within_5_percent_below_it_does_not_and_it_resolves() -> None:
    fired = {}
    for errors in (3, 2):  # 1.4 % and 1 %, both many times the usual 0.03 %
        rig = Rig()
        rig.past(36, 208, {"TIMEOUT": 0})
        for _ in range(20):
            rig.hour(steady(rig, 208, {"TIMEOUT": errors}))
        fired[errors] = first_firing(of_rule(rig))
    assert fired[3]
    assert fired[3]["sap-0"] < fired[2].get("sap-0", START + 99 * DAY)
    for _ in range(40):
        rig.hour(steady(rig, 208))
    last = of_rule(rig)[-1]
    assert (last.transition, last.reason) == (Transition.RESOLVED, TransitionReason.CLEAR_ELAPSED)


def needed(calls: int) -> int:
    """Return the errors of 24 h of which the Wilson bound passes 0.3 %: what p0 = 0.03 % asks."""
    n, z = calls * 24, 3.3
    for k in range(5, n):
        p = k / n
        half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        if (p + z * z / (2 * n) - half) / (1 + z * z / n) > 0.003:
            return k
    raise AssertionError


@pytest.mark.parametrize(("share", "fires"), [(1.0, True), (0.96, False)])
def test_the_arm_24h_fires_at_its_limit_and_not_5_percent_below(share: float, fires: bool) -> None:
    rig, calls = Rig(), 1_000
    rig.past(36, calls, {"TIMEOUT": 0})
    total = int(needed(calls) * share)
    hours = np.diff(np.arange(25) * total // 24)
    for number in [*hours.tolist(), *hours[:4].tolist()]:
        rig.hour(steady(rig, calls, {"TIMEOUT": number}))
    assert bool([one for one in of_rule(rig) if one.arm == "24h"]) is fires


# -- silence -----------------------------------------------------------------------------------


def test_an_operation_nobody_calls_any_more_is_silent_until_the_first_call() -> None:
    rig = Rig()
    rig.past(36, 2, {})
    rig.hour(steady(rig, 2))
    for _ in range(16):
        rig.hour(steady(rig, 0))
    (fired,) = of_rule(rig, "silence")
    assert (fired.transition, fired.entity_kind) == (Transition.FIRING, EntityKind.INTEGRATION)
    assert fired.value > fired.threshold == 13.8
    assert fired.detail is not None
    assert "14 were to be expected" in fired.detail
    rig.hour(steady(rig, 60))
    (_, resolved) = of_rule(rig, "silence")
    assert resolved.alert_id == fired.alert_id
    assert resolved.transition is Transition.RESOLVED


# -- what the roll-up asks for -----------------------------------------------------------------

KEY = EntityKey(Kind.OPERATION, "acme", "sap-0", "post")


def test_bins_and_marks_of_the_roll_up_are_taken_as_they_come() -> None:
    rig = Rig()
    tick, hour = START + MINUTE, START
    bins = [
        Bin(KEY, tick, hour, 700, None, 4),
        Bin(KEY, tick, hour, None, "TIMEOUT", 2),
        Bin(KEY, tick, hour, 710, None, 1),
    ]
    rig.integrations.take_bins([(0, one) for one in bins])
    rig.integrations.take_bins([])
    rig.integrations.take_mark(0, Mark(KEY, tick, START, "contract-test ERROR SCHEMA"))
    assert rig.integrations.window(0, hour, tick) == {
        "latency_index": [700, 710],
        "latency_count": [4, 1],
        "error_types": ["TIMEOUT"],
        "error_counts": [2],
    }
    assert [one.rule for one in rig.integrations.take_findings()] == ["contract-test"]
    assert rig.integrations.take_findings() == []
    assert rig.integrations.holds(0)


def test_the_window_of_an_hour_past_48_h_has_no_latencies_any_more() -> None:
    rig = Rig()
    single = np.zeros(1, np.int64)
    at, ones = np.array([START]), np.ones(1, np.int64)
    rig.integrations.fold_bins(Buckets(single, at, at, ones, ones))
    assert rig.integrations.window(0, START, START + 48 * HOUR)["latency_index"] == [1]
    assert rig.integrations.window(0, START, START + 49 * HOUR)["latency_index"] == []


def test_a_finding_does_not_know_what_came_after_its_tick() -> None:
    rig = Rig()
    rig.past(36, 208, {})
    early, late = (START + minutes * MINUTE for minutes in (30, 50))
    rows, ticks, hours = np.zeros(2, np.int64), np.array([early, late]), np.full(2, START)
    counts = np.array([3, 9])
    rig.integrations.fold_types(Errors(rows, ticks, hours, ["A", "B"], counts))
    rig.integrations.fold_bins(Buckets(rows, ticks, hours, np.array([500, 900]), counts * 10_000))
    text = rig.integrations._detail(0, early, rig.integrations._numbers(0, early))
    assert text is not None
    assert text.startswith("errors in 24 h: A 3; P99")
    assert "B 9, A 3" in str(rig.integrations._detail(0, late, {}))


def test_a_row_that_was_freed_leaves_nothing_behind() -> None:
    rig, _ = usual(1, 1)
    rig.integrations.forget([0], [0])
    assert rig.integrations.window(0, rig.clock - HOUR, rig.clock)["error_types"] == []
    assert rig.integrations.sketches.rows() == []


def test_a_restart_at_any_hour_changes_no_finding() -> None:
    both = [Rig(2), Rig(2)]
    for rig in both:
        rig.past(16, 60, {"TIMEOUT": 0})
        rig.save()
    for hour in range(54):
        failing = {"SCHEMA": 12} if 5 <= hour < 20 else {"TIMEOUT": hour % 2}
        calls = 0 if 40 <= hour < 50 else 60
        for rig in both:
            if hour in {3, 30}:
                text = "contract-test " + ("ERROR X" if hour == 3 else "OK")
                rig.integrations.fold_mark(1, rig.clock + MINUTE, rig.clock, text)
            slow = 20 if 10 <= hour < 30 else 0
            rig.hour(steady(rig, calls, failing if calls else {}, slow if calls else 0))
        if hour in {1, 7, 13, 31, 43, 49}:
            both[1].reopen()
    assert both[0].findings == both[1].findings
    rules = {one.rule for one in both[0].findings}
    assert rules == {
        "integration-errors",
        "integration-error-type",
        "integration-latency",
        "contract-test",
        "silence",
    }


def test_it_makes_no_difference_into_how_many_batches_an_hour_is_cut() -> None:
    random = np.random.default_rng(9)
    rates = {"TIMEOUT": 0.01, "SCHEMA": 0.03}
    both = [Rig(3), Rig(3)]
    for rig in both:
        rig.past(36, 208, {"TIMEOUT": 0})
    for hour in range(9):
        came = drawn(both[0], random, rates if hour < 6 else {"HTTP_500": 0.9})
        for rig, cuts in zip(both, (1, 7 if hour % 2 else 20), strict=True):
            rig.hour(came, cuts)
    assert both[0].findings == both[1].findings
    arms = {one.arm for one in of_rule(both[0]) if one.transition is not Transition.PENDING}
    assert arms >= {"5m", "6h"}
