"""The rule on cost per task, with its shipped numbers, on fleets in hour panes."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import pytest

from streams import state
from streams.cost import CostWatch
from streams.durations import DAY, HOUR, WEEK
from streams.prices import AGENT_MIX
from streams.reasons import EntityKind, TransitionReason
from streams.series import Agent
from tests.cost_rig import CLAIMS, RULES, START, Fleet, Work, evidence, look, told

if TYPE_CHECKING:
    from streams.findings import Finding

NOW = START + 36 * DAY
PARTS = ("volume_usd", "tokens_usd", "price_usd", "mix_usd")


def numbers(finding: Finding) -> dict[str, float]:
    return dict(zip(finding.measure_names, finding.measure_values, strict=True))


def one_type(now: Work, days: int = 1, tasks: int = 50) -> Fleet:
    """Return 36 usual days of one agent with one task type, and some other days after them."""
    fleet = Fleet([(CLAIMS, "invoice", "m")])
    fleet.work(0, (START, NOW), tasks)
    fleet.work(0, (NOW, NOW + days * DAY), tasks, now)
    return fleet


def watched(fleet: Fleet, days: int = 1) -> list[Finding]:
    """Return what the agent's own findings of some days are, from a fresh watch."""
    findings = look(fleet.cost_watch(), NOW - HOUR, NOW + days * DAY + HOUR)
    return [finding for finding in findings if finding.task_type is None]


# -- the shipped numbers -----------------------------------------------------------------------


def test_a_day_that_is_dearer_by_28_percent_fires_after_three_hours() -> None:
    fleet = one_type(Work(12_800))
    fleet.work(0, (NOW + DAY, NOW + DAY + HOUR), work=Work(12_800))

    fired = watched(fleet)

    assert told(fired) == ["PENDING 24h", "FIRING 24h"]
    finding = fired[1]
    assert finding.at - fired[0].at == 3 * HOUR
    assert finding.page
    assert finding.reason is TransitionReason.FOR_ELAPSED
    assert finding.value == pytest.approx(0.0128)
    assert (finding.baseline, finding.threshold) == pytest.approx((0.01, 0.0125))
    assert (finding.sample_count, finding.baseline_weeks) == (1200, 4)
    assert finding.detail is not None
    assert finding.detail.startswith("24h against the usual: +28 %: tokens per task +28 %, ")
    assert finding.detail.endswith("price 0 %, volume 0 %; in invoice")


def test_a_day_within_5_percent_below_the_threshold_does_not_fire() -> None:
    fleet = one_type(Work(11_880))  # 1.25 * 0.95 = 1.1875
    fleet.work(0, (NOW + DAY, NOW + 2 * DAY))

    assert watched(fleet, 2) == []


def test_three_days_that_are_dearer_by_16_percent_fire_and_a_week_by_21_joins() -> None:
    assert told(watched(one_type(Work(11_600), 3), 3)) == ["PENDING 72h", "FIRING 72h"]
    assert told(watched(one_type(Work(12_100), 7), 7))[-1] == "UPDATED 7d"


def test_nine_days_within_5_percent_below_the_thresholds_do_not_fire() -> None:
    assert watched(one_type(Work(11_400), 9), 9) == []  # 1.2 * 0.95 = 1.14, below 1.15 too


def test_it_resolves_when_the_cost_was_back_for_two_days() -> None:
    fleet = one_type(Work(12_800))
    fleet.work(0, (NOW + DAY, NOW + 4 * DAY))

    found = watched(fleet, 4)

    assert told(found) == ["PENDING 24h", "FIRING 24h", "RESOLVED 24h"]
    assert found[2].reason is TransitionReason.CLEAR_ELAPSED
    assert found[2].page
    half = next(
        hour for hour in range(24) if 1 + 0.28 * (24 - hour) / 24 < np.exp(np.log(1.25) / 2)
    )
    assert found[2].at == NOW + DAY + half * HOUR + 48 * HOUR


def test_a_rise_that_stays_a_week_is_the_new_usual() -> None:
    fleet = one_type(Work(13_000), 12)

    found = watched(fleet, 12)

    assert told(found)[:2] == ["PENDING 72h", "FIRING 72h"] or told(found)[1] == "FIRING 24h"
    assert found[-1].reason is TransitionReason.REBASELINED
    assert found[-1].at == next(f for f in found if f.transition == "FIRING").at + WEEK


def test_with_fewer_than_300_tasks_nothing_is_judged() -> None:
    assert watched(one_type(Work(30_000), tasks=1)) == []
    assert watched(one_type(Work(30_000), tasks=13)) != []


def test_a_young_baseline_asks_for_more() -> None:
    for weeks, factor in ((4, 1.0), (3, 1.25), (2, 1.5), (1, 1.5)):
        fleet = Fleet([(CLAIMS, "invoice", "m")])
        fleet.work(0, (NOW - DAY - weeks * WEEK, NOW - DAY))
        fleet.work(0, (NOW - DAY, NOW), work=Work(20_000))
        finding = fleet.cost_watch().hour(NOW)[0]

        assert (finding.arm, finding.baseline_weeks) == ("24h", weeks)
        limit = max(np.log(1.25), 5 * factor * 0.035) if weeks < 4 else np.log(1.25)
        assert finding.threshold / (finding.baseline or 0) == pytest.approx(np.exp(limit))


# -- what is and what is not a rise of the cost per task ----------------------------------------


def test_a_month_end_with_three_times_the_volume_is_no_finding() -> None:
    fleet = Fleet([(CLAIMS, "invoice", "m"), (CLAIMS, "booking", "m")])
    fleet.work(0, (START, NOW))
    fleet.work(1, (START, NOW), 30, Work(15_000))
    fleet.work(0, (NOW, NOW + 3 * DAY), 150)
    fleet.work(1, (NOW, NOW + 3 * DAY), 90, Work(15_000))

    assert look(fleet.cost_watch(), NOW, NOW + 3 * DAY) == []


def test_days_and_weeks_have_seasons() -> None:
    """Dear tasks at night and at weekends, as in every week before."""
    fleet = Fleet([(CLAIMS, "invoice", "m"), (CLAIMS, "claim", "m")])
    hours = np.arange(START, NOW + 8 * DAY, HOUR)
    night, free = hours // HOUR % 24 < 6, (hours - START) // DAY % 7 >= 5
    fleet.work(0, (START, NOW + 8 * DAY), np.where(free, 20, np.where(night, 10, 80)))
    dear = np.where(free, 40, np.where(night, 30, 5))
    fleet.work(1, (START, NOW + 8 * DAY), dear, Work(90_000))

    assert look(fleet.cost_watch(), NOW, NOW + 8 * DAY) == []


def test_a_dearer_price_list_is_no_rise() -> None:
    assert watched(one_type(Work(10_000, 2.0), 3), 3) == []


def test_tasks_moved_to_a_dearer_model_are_a_rise_that_says_so() -> None:
    fleet = Fleet([(CLAIMS, "invoice", "small"), (CLAIMS, "invoice", "large")])
    fleet.work(0, (START, NOW))
    fleet.work(0, (NOW, NOW + DAY), 30)
    fleet.work(1, (NOW, NOW + DAY), 20, Work(10_000, 3.0))

    finding = watched(fleet)[1]

    assert finding.transition == "FIRING"
    assert finding.detail is not None
    assert f": {AGENT_MIX} +" in finding.detail
    assert numbers(finding)["mix_usd"] == pytest.approx(numbers(finding)["total_usd"])


def test_the_parts_of_a_finding_add_up() -> None:
    fleet = Fleet([(CLAIMS, "invoice", "a"), (CLAIMS, "invoice", "b"), (CLAIMS, "booking", None)])
    random = np.random.default_rng(4)
    for row in range(3):
        for day in range(37):
            work = Work(int(random.integers(5000, 9000)) * (2 if day == 36 else 1), 1 + row)
            span = (START + day * DAY, START + (day + 1) * DAY)
            fleet.work(row, span, random.integers(0, 60, 24), work)

    findings = look(fleet.cost_watch(), NOW, NOW + DAY)

    assert findings
    for finding in findings:
        parts = numbers(finding)
        assert sum(parts[name] for name in PARTS) == pytest.approx(parts["total_usd"], rel=1e-9)


# -- agents, their task types, and task types over all agents -----------------------------------


def two_types(rise: tuple[int, int], shares: tuple[int, int] = (90, 30)) -> Fleet:
    """Return an agent with two task types, whose tokens on the last day are as given."""
    fleet = Fleet([(CLAIMS, "booking", "m"), (CLAIMS, "invoice", "m")])
    for row in range(2):
        fleet.work(row, (START, NOW), shares[row])
        fleet.work(row, (NOW, NOW + 2 * DAY), shares[row], Work(rise[row]))
    return fleet


def fires(findings: list[Finding]) -> list[tuple[str | None, bool]]:
    return [(f.task_type, f.page) for f in findings if f.transition == "FIRING"]


def test_a_task_type_pages_when_its_agent_does_not_fire() -> None:
    found = look(two_types((10_000, 14_000)).cost_watch(), NOW, NOW + DAY)

    assert fires(found) == [("invoice", True)]


def test_one_page_where_both_fire_and_the_agents_names_the_type() -> None:
    found = look(two_types((10_000, 40_000)).cost_watch(), NOW, NOW + 2 * DAY)

    assert [page for _, page in fires(found)].count(True) == 1
    named = [f.detail for f in found if f.task_type is None and f.transition == "FIRING"]
    assert [str(detail).rpartition("; ")[2] for detail in named] == ["in invoice"]


def test_an_agent_that_fires_after_its_task_type_does_not_page_again() -> None:
    found = look(two_types((10_000, 26_000)).cost_watch(), NOW, NOW + 2 * DAY)

    assert fires(found) == [("invoice", True), (None, False)]


def test_a_task_type_over_all_agents_is_judged_alone() -> None:
    invoices = Agent("north", "invoice")
    fleet = Fleet([(invoices, "", "m")])
    fleet.work(0, (START, NOW))
    fleet.work(0, (NOW, NOW + DAY), work=Work(12_800))

    found = look(fleet.cost_watch(EntityKind.TASK_TYPE), NOW, NOW + DAY + HOUR)

    assert told(found) == ["PENDING 24h", "FIRING 24h"]
    assert (found[1].entity_kind, found[1].tenant, found[1].entity_id) == (
        EntityKind.TASK_TYPE,
        *invoices,
    )
    assert "model mix" in str(found[1].detail)


# -- baselines, late events, restarts ----------------------------------------------------------


def test_a_week_with_an_alert_is_no_part_of_the_usual() -> None:
    fleet = one_type(Work(14_000))
    for day in range(1, 9):
        dear = Work(13_000 if day == 7 else 10_000)
        fleet.work(0, (NOW + day * DAY, NOW + (day + 1) * DAY), work=dear)

    found = watched(fleet, 8)

    assert [f.baseline_weeks for f in found if f.transition == "FIRING"] == [4, 3]


def test_what_was_found_is_what_the_panes_say() -> None:
    """The value and the usual of a finding, added up by hand."""
    fleet = one_type(Work(15_000), tasks=40)
    fleet.work(0, (NOW - 8 * DAY, NOW - 6 * DAY), 3, Work(1_000))

    finding = watched(fleet)[0]

    end, week = finding.at, np.array([0])
    means = []
    for back in range(5):
        hours = np.arange(end - DAY - back * WEEK, end - back * WEEK, HOUR) // HOUR
        counts, sums = fleet.hours.values(np.repeat(week, 24), hours)
        means.append(sums[:, 0].sum() / counts.sum() / 1e6)
    assert finding.value == pytest.approx(means[0])
    assert finding.baseline == pytest.approx(median(means[1:]))


def test_a_late_event_counts_from_the_next_hour_on() -> None:
    fleet = one_type(Work(12_400))
    watch = fleet.cost_watch()
    look(watch, NOW, NOW + DAY - HOUR)

    fleet.work(0, (NOW, NOW + 2 * HOUR), 500, Work(13_000))

    assert told(look(watch, NOW + DAY, NOW + DAY))[0] == "PENDING 24h"


def test_a_restart_at_any_hour_changes_nothing() -> None:
    fleet = two_types((10_000, 26_000))
    for row in range(2):
        fleet.work(row, (NOW + 2 * DAY, NOW + 5 * DAY), (90, 30)[row])
    whole = look(fleet.cost_watch(), NOW, NOW + 5 * DAY)
    records: dict[bytes, bytes] = {}
    found: list[Finding] = []
    for tick in range(NOW, NOW + 5 * DAY + HOUR, HOUR):
        watch = fleet.cost_watch()
        for stored in state.decode(records.items()):
            assert watch.restore(stored)
        watch.settle()
        found += watch.hour(tick)
        for key, value in watch.changes():
            records.pop(key, None)
            records |= {} if value is None else {key: value}
        fleet.hours.late.clear()

    assert found == whole
    assert len({f.finding_id for f in found}) == len(found) > 6


def test_it_is_busy_only_while_something_is_open() -> None:
    fleet = one_type(Work(12_800))
    watch = fleet.cost_watch()

    watch.hour(NOW)
    calm = watch.busy()
    look(watch, NOW + HOUR, NOW + DAY)

    assert (calm, watch.busy()) == (False, True)


def test_the_row_of_a_series_that_is_gone_can_be_given_to_another() -> None:
    fleet = two_types((10_000, 40_000))
    watch = fleet.cost_watch()
    look(watch, NOW, NOW + DAY)
    assert watch.busy()

    fleet.series.release([0], [0, 1])
    watch.forget([0], [0, 1])
    fleet.hours.expire(NOW + 60 * DAY)
    fleet.series.add(Agent("east", "other"), "invoice", "m")
    far = NOW + 61 * DAY

    assert look(watch, far, far + 2 * HOUR) == []
    assert not watch.busy()
    assert all(value is None for _, value in watch.changes())


def test_no_series_no_finding() -> None:
    fleet = Fleet([])

    watch = CostWatch(RULES.cost, fleet.sums(), EntityKind.AGENT, evidence)

    assert watch.hour(NOW) == []
