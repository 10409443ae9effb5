"""The rule on a day's cost against its plan, with its shipped numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from streams import state
from streams.cost_plan import PAST_DAYS, CostPlanWatch, project
from streams.durations import DAY, HOUR
from streams.zones import day_of
from tests.cost_rig import CLAIMS, RULES, START, Fleet, Work, evidence, look, told

if TYPE_CHECKING:
    from streams.findings import Finding
    from streams.series import Agent

NOW = START + 36 * DAY
ARM = RULES.cost_plan.arms[0]
USUAL = 24 * 50 * 0.01
"""Dollars of a usual day of the rig."""


class Plan(NamedTuple):
    """A profile as the rule reads it."""

    daily_cost_plan_usd: float | None
    time_zone: str = "UTC"


class Plans:
    """The profile of the agent `CLAIMS`, which a test may change."""

    def __init__(self, plan: Plan | None) -> None:
        self.plan = plan

    def profile(self, agent: Agent) -> Plan | None:
        return self.plan if agent == CLAIMS else None


def busy_day(factor: float, days: int = 1, past: int = 36) -> Fleet:
    """Return usual days, then some with another volume, then usual ones."""
    fleet = Fleet([(CLAIMS, "invoice", "m")])
    fleet.work(0, (NOW - past * DAY, NOW))
    fleet.work(0, (NOW, NOW + days * DAY), round(50 * factor))
    fleet.work(0, (NOW + days * DAY, NOW + (days + 2) * DAY))
    return fleet


def watch(fleet: Fleet, plans: Plans | Plan) -> CostPlanWatch:
    context = Plans(plans) if isinstance(plans, Plan) else plans
    weights = RULES.cost.weights
    return CostPlanWatch(RULES.cost_plan, fleet.series, fleet.hours, weights, context, evidence)


def during(fleet: Fleet, plan: Plan, days: int = 2) -> list[Finding]:
    return look(watch(fleet, plan), NOW, NOW + days * DAY)


def test_a_day_that_will_cost_more_than_120_percent_of_plan_fires_before_it_does() -> None:
    found = during(busy_day(1.4), Plan(USUAL))

    assert told(found) == ["PENDING day", "FIRING day", "RESOLVED day"]
    finding = found[1]
    assert finding.at == found[0].at + HOUR < NOW + DAY
    assert finding.page
    assert finding.threshold == pytest.approx(1.2 * USUAL)
    assert (finding.window_start, finding.window_end) == (NOW, finding.at)
    assert finding.baseline == pytest.approx(USUAL)
    low, high = finding.interval_low or 0, finding.interval_high or 0
    assert finding.threshold < low <= finding.value <= high
    parts = dict(zip(finding.measure_names, finding.measure_values, strict=True))
    assert parts["spent_usd"] < finding.threshold
    assert parts["volume_usd"] == pytest.approx(parts["total_usd"])
    assert "expected at the end of the day; so far against the usual: +40 %" in str(finding.detail)


def test_a_day_within_5_percent_below_120_percent_of_plan_does_not() -> None:
    assert during(busy_day(1.14), Plan(USUAL)) == []


def test_it_resolves_when_the_next_day_begins() -> None:
    found = during(busy_day(1.4), Plan(USUAL))

    assert found[-1].at == NOW + DAY + HOUR


def test_each_day_past_its_plan_is_an_alert_of_its_own() -> None:
    found = during(busy_day(1.5, 2), Plan(USUAL), 3)

    assert told(found).count("FIRING day") == told(found).count("RESOLVED day") == 2


def test_without_a_past_only_what_was_spent_counts() -> None:
    found = during(busy_day(1.5, past=0), Plan(USUAL))

    assert told(found)[:2] == ["PENDING day", "FIRING day"]
    assert found[0].at == NOW + 20 * HOUR  # 75 of 60 tasks planned an hour: past 120 % after 19.2 h
    assert found[1].baseline is None


def test_an_agent_without_a_plan_is_not_looked_at() -> None:
    assert during(busy_day(3), Plan(None)) == []
    assert look(watch(busy_day(3), Plans(None)), NOW, NOW + DAY) == []


def test_an_alert_ends_when_the_plan_is_taken_back() -> None:
    plans = Plans(Plan(USUAL))
    one = watch(busy_day(2), plans)
    look(one, NOW, NOW + 20 * HOUR)

    plans.plan = None
    found = one.hour(NOW + 21 * HOUR)

    assert told(found) == ["RESOLVED day"]
    assert found[0].detail == "the profile names no plan any more"
    assert not one.busy()


def test_days_are_those_of_the_time_zone() -> None:
    zone = "America/New_York"
    found = during(busy_day(2, 3), Plan(USUAL, zone), 3)

    fired = [finding for finding in found if finding.transition == "FIRING"]
    assert fired
    for finding in fired:
        assert finding.window_start == day_of(zone, finding.at - 1).start
        assert finding.window_start % DAY == 5 * HOUR


def test_a_season_within_the_day_is_no_rise() -> None:
    """All of a day's cost falls into its morning, as on every day."""
    fleet = Fleet([(CLAIMS, "invoice", "m")])
    hours = np.arange(START, NOW + 2 * DAY, HOUR) // HOUR % 24
    fleet.work(0, (START, NOW + 2 * DAY), np.where(hours < 6, 200, 0))

    assert during(fleet, Plan(USUAL), 2) == []


def test_a_noisy_past_makes_the_interval_wider() -> None:
    random = np.random.default_rng(6)
    widths = []
    for spread in (0.05, 0.5):
        days = random.lognormal(0, spread, (200, 1 + PAST_DAYS))
        before, after = 10 * days, 10 * days * random.lognormal(0, spread, days.shape)
        found = project(ARM, before, after, np.ones((200, PAST_DAYS), np.bool_))
        widths.append(float(np.median((found.high - found.low) / found.end)))

    assert widths[0] < widths[1] / 3


def test_the_end_of_the_day_lies_in_its_interval_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    days = random.lognormal(0, 0.2, (4000, 1 + PAST_DAYS))
    before = 8 * days * random.lognormal(0, 0.1, days.shape)
    after = 16 * days * random.lognormal(0, 0.1, days.shape)

    found = project(ARM, before, after, np.ones((4000, PAST_DAYS), np.bool_))

    end = before[:, 0] + after[:, 0]
    inside = (found.low <= end) & (end <= found.high)
    assert inside.mean() > 0.97  # 99 % for a normal error


def test_a_projection_is_the_formula_of_the_page() -> None:
    random = np.random.default_rng(8)
    before, after = random.uniform(5, 15, (2, 1, 1 + PAST_DAYS))
    usable = random.random((1, PAST_DAYS)) < 0.8

    found = project(ARM, before, after, usable)

    def rest(spent: float, ages: list[int]) -> float:
        mean, part = (float(np.mean([one[0, age] for age in ages])) for one in (after, before))
        return mean * (spent + mean) / (part + mean)

    ok = [age for age in range(1, 29) if usable[0, age - 1]]
    errors = []
    for age in ok:
        others = [other for other in ok if other != age and (other - age) % 7 == 0]
        if others:
            errors.append(np.log(after[0, age] / rest(before[0, age], others)))
    spread = float(np.sqrt(np.mean(np.square(errors))))
    ahead = rest(before[0, 0], [age for age in ok if age % 7 == 0])
    assert found.end[0] == pytest.approx(before[0, 0] + ahead)
    assert found.low[0] == pytest.approx(before[0, 0] + ahead / np.exp(ARM.z * spread))
    assert found.weeks[0] == len([age for age in ok if age % 7 == 0])


def test_a_restart_at_any_hour_changes_nothing() -> None:
    fleet, plan = busy_day(1.5, 2), Plan(USUAL, "Asia/Kolkata")
    whole = during(fleet, plan, 4)
    records: dict[bytes, bytes] = {}
    found = []
    for tick in range(NOW, NOW + 4 * DAY + HOUR, HOUR):
        one = watch(fleet, plan)
        assert all(one.restore(stored) for stored in state.decode(records.items()))
        one.settle()
        found += one.hour(tick)
        records |= {key: value for key, value in one.changes() if value is not None}
        fleet.hours.late.clear()

    assert found == whole
    assert len(found) >= 6


def test_what_is_known_of_a_freed_row_is_dropped() -> None:
    fleet = busy_day(2)
    one = watch(fleet, Plan(USUAL))
    look(one, NOW, NOW + 20 * HOUR)

    fleet.series.release([0], [0])
    one.forget([0], [0])

    assert one.hour(NOW + 21 * HOUR) == []
    assert Work().cost == 10_000
