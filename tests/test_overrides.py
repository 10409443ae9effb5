from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams.durations import DAY, HOUR, MINUTE, WEEK
from streams.reasons import Severity, TransitionReason
from tests.review_rig import MONDAY, Rig, five_weeks, review, settled, spread

if TYPE_CHECKING:
    from streams.events import HumanReview

LATER = MONDAY + 5 * WEEK


def days(first: int, number: int, overridden: int) -> list[HumanReview]:
    return [
        one
        for day in range(first, first + number * DAY, DAY)
        for one in spread(day, overridden, 100 - overridden)
    ]


def test_a_rise_past_the_limit_fires() -> None:
    rig = settled()
    rig.feed(days(LATER, 4, 20))

    found = rig.of("overrides")
    assert [str(one.transition) for one in found] == ["FIRING"]
    assert found[0].baseline == 0.1
    assert found[0].threshold == 0.1 * 1.6
    assert found[0].value > 0.16
    assert (found[0].severity, found[0].page) == (Severity.WARNING, True)
    assert found[0].interval_low is not None


def test_the_finding_tells_its_window_sample_and_evidence() -> None:
    rig = settled()
    rig.feed(days(LATER, 4, 20))

    (found,) = rig.of("overrides")
    assert found.window_end - found.window_start == 72 * HOUR
    assert found.window_end == found.at
    assert (found.entity_id, found.tenant) == ("claims-agent", "acme")
    assert found.evidence_topic == "agentops.reviews"
    assert 0 < found.first_offset < found.last_offset
    assert dict(zip(found.measure_names, found.measure_values, strict=True))["z"] > 5


def test_within_five_per_cent_below_the_limit_nothing_fires() -> None:
    rig = settled()
    for day in range(LATER, LATER + 4 * DAY, DAY):
        rig.feed(spread(day, 46, 254))  # 15.3 %, and the limit is 16 %

    assert rig.of("overrides") == []


def test_so_many_reviews_just_above_the_limit_fire() -> None:
    rig = settled()
    for day in range(LATER, LATER + 4 * DAY, DAY):
        rig.feed(spread(day, 50, 250))  # 16.7 %

    assert [str(one.transition) for one in rig.of("overrides")] == ["FIRING"]


def test_it_resolves_after_half_a_day_back_to_normal() -> None:
    rig = settled()
    rig.feed(days(LATER, 4, 20))
    rig.feed(days(LATER + 4 * DAY, 4, 10))

    found = rig.of("overrides")
    assert [str(one.transition) for one in found] == ["FIRING", "RESOLVED"]
    assert found[1].reason == TransitionReason.CLEAR_ELAPSED
    assert found[1].value <= 0.16


def test_a_rise_that_stays_becomes_the_usual_after_a_week() -> None:
    rig = settled()
    rig.feed(days(LATER, 12, 20))

    found = rig.of("overrides")
    assert [str(one.transition) for one in found] == ["FIRING", "RESOLVED"]
    assert found[1].reason == TransitionReason.REBASELINED


def test_a_task_type_is_told_where_the_agent_has_others() -> None:
    rig = Rig()
    for day in range(MONDAY, LATER, DAY):
        rig.feed(
            sorted(
                spread(day, 10, 90) + spread(day + MINUTE, 12, 108, task_type="refund"),
                key=lambda one: one.occurred_at,
            )
        )
    for day in range(LATER, LATER + 3 * DAY, DAY):
        rig.feed(
            sorted(
                spread(day, 30, 70) + spread(day + MINUTE, 12, 108, task_type="refund"),
                key=lambda one: one.occurred_at,
            )
        )

    assert [str(one.transition) for one in rig.of("overrides", "claim")] == ["FIRING"]
    assert rig.of("overrides", "refund") == []


def test_without_an_earlier_week_nothing_is_more_than_usual() -> None:
    rig = Rig()
    rig.feed(days(MONDAY, 6, 90))

    assert rig.of("overrides") == []


def test_fewer_than_fifteen_overrides_are_an_anecdote() -> None:
    rig = Rig()
    rig.feed(five_weeks(1, 99))
    rig.feed([review(LATER + 8 * HOUR + place, overridden=True) for place in range(11)])
    rig.idle(LATER + DAY)

    assert rig.of("overrides") == []


def test_verdicts_of_a_newer_writer_do_not_count() -> None:
    rig = settled()
    rig.feed([review(LATER + 8 * HOUR + place, verdict="PARTLY") for place in range(200)])
    rig.idle(LATER + 2 * DAY)

    assert rig.of("overrides") == []
    assert sum(one["overridden"] + one["confirmed"] for one in rig.windows) == 3500


def test_a_quiet_year_of_two_agents_has_no_finding() -> None:
    dice = np.random.default_rng(7)
    rig = Rig()
    shares = (0.05, 0.3)
    for day in range(MONDAY, MONDAY + 365 * DAY, DAY):
        events = []
        volume = 3 if day // DAY % 7 in {2, 3} else 12  # weekends
        for number, share in enumerate(shares):
            daily = share * float(np.exp(dice.normal(0, 0.1)))  # days differ by 10 %
            for _ in range(int(dice.poisson(volume))):
                when = day + 8 * HOUR + int(dice.integers(10 * HOUR))
                hit = bool(dice.random() < daily)
                events.append(
                    review(
                        when,
                        overridden=hit,
                        agent_id=f"agent-{number}",
                        reason_code=f"R{dice.integers(30)}",
                    )
                )
        rig.feed(sorted(events, key=lambda one: one.occurred_at))

    assert [one for one in rig.findings if one.transition == "FIRING"] == []
