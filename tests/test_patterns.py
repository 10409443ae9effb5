from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams.durations import DAY, HOUR, WEEK
from streams.events import Change
from streams.reasons import RetrainingAction, RetrainingCause, TransitionReason
from tests.review_rig import AGENT, MONDAY, FakeChanges, Rig, review

if TYPE_CHECKING:
    from typing import Any

    from streams.events import HumanReview
    from streams.findings import Finding

LATER = MONDAY + 5 * WEEK


def overrides(day: int, number: int, **fields: Any) -> list[HumanReview]:
    """Return overrides of one day, one a minute."""
    about = {"reason_code": "WRONG_CENTRE"} | fields
    return [
        review(day + 9 * HOUR + 60_000 * place, overridden=True, **about) for place in range(number)
    ]


def weekly(number: int, first: int = MONDAY, weeks: int = 5, **fields: Any) -> list[HumanReview]:
    """Return so many overrides on the Wednesday of each week, after one confirmed review."""
    found = [review(first - 2 * DAY)]
    for week in range(weeks):
        found += overrides(first + week * WEEK + 2 * DAY, number, **fields)
    return found


def patterns(rig: Rig) -> list[Finding]:
    return rig.of("override-pattern")


def test_a_pattern_well_over_its_usual_count_fires() -> None:
    rig = Rig()
    rig.feed(weekly(3))
    rig.feed(overrides(LATER + 2 * DAY, 20))
    rig.feed([review(LATER + 3 * DAY)])

    (found,) = patterns(rig)
    assert (str(found.transition), found.reason) == ("FIRING", TransitionReason.PATTERN)
    assert (found.value, found.baseline, found.threshold) == (20, 3, 10)
    assert found.kind == "approve > reject: WRONG_CENTRE"
    assert found.task_type == "claim"
    assert found.retraining_cause == RetrainingCause.OVERRIDE_PATTERN
    assert not found.page
    assert (found.detail or "").startswith("20 times in 7 days, usually 3;")


def test_within_five_per_cent_below_the_limit_nothing_fires() -> None:
    rig = Rig()
    rig.feed(weekly(100))
    rig.feed(overrides(LATER + 2 * DAY, 160))  # 1.6 times the usual, and not more
    rig.idle(LATER + 3 * DAY)

    assert patterns(rig) == []


def test_one_more_than_the_limit_fires() -> None:
    rig = Rig()
    rig.feed(weekly(100))
    rig.feed(overrides(LATER + 2 * DAY, 161))
    rig.idle(LATER + 3 * DAY)

    assert [one.value for one in patterns(rig)] == [161]


def test_nine_times_is_no_pattern() -> None:
    rig = Rig()
    rig.feed([review(MONDAY + day * DAY) for day in range(35)])
    rig.feed(overrides(LATER + 2 * DAY, 9))
    rig.idle(LATER + 3 * DAY)

    assert patterns(rig) == []


def test_without_an_earlier_week_nothing_is_more_than_usual() -> None:
    rig = Rig()
    rig.feed(overrides(MONDAY, 50))
    rig.idle(MONDAY + DAY)

    assert patterns(rig) == []


def test_it_resolves_a_week_after_it_is_below() -> None:
    rig = Rig()
    rig.feed(weekly(3))
    rig.feed(overrides(LATER + 2 * DAY, 20))
    rig.idle(LATER + 17 * DAY)

    fired, resolved = patterns(rig)
    assert (str(resolved.transition), resolved.reason) == ("RESOLVED", "IDLE")
    assert resolved.starts_at == fired.starts_at
    assert resolved.at == LATER + 16 * DAY + HOUR


def test_a_changed_prompt_resolves_it_and_the_count_begins_anew() -> None:
    changed = LATER + 2 * DAY + 20 * HOUR
    change = Change(
        event_id="c", occurred_at=changed, agent_id=AGENT.agent_id, kind="PROMPT", to_version="v2"
    )
    rig = Rig(FakeChanges(change))
    rig.feed(weekly(3))
    rig.feed(overrides(LATER + 2 * DAY, 20))
    rig.idle(LATER + 4 * DAY)

    fired, resolved = patterns(rig)
    assert resolved.at == changed
    assert fired.at < changed


def test_a_change_of_configuration_does_not_resolve_it() -> None:
    change = Change(
        event_id="c",
        occurred_at=LATER + 2 * DAY + 20 * HOUR,
        agent_id=AGENT.agent_id,
        kind="CONFIG",
        to_version="v2",
    )
    rig = Rig(FakeChanges(change))
    rig.feed(weekly(3))
    rig.feed(overrides(LATER + 2 * DAY, 20))
    rig.idle(LATER + 4 * DAY)

    assert [str(one.transition) for one in patterns(rig)] == ["FIRING"]


def advice(rig: Rig) -> RetrainingAction:
    return patterns(rig)[0].retraining_action


def test_few_examples_ask_for_another_prompt() -> None:
    rig = Rig()
    rig.feed(weekly(3))
    rig.feed(overrides(LATER + 2 * DAY, 20))
    rig.idle(LATER + 3 * DAY)

    assert advice(rig) == RetrainingAction.PROMPT


def test_many_examples_ask_for_fine_tuning() -> None:
    rig = Rig()
    rig.feed(weekly(20))
    rig.feed(overrides(LATER + 2 * DAY, 60))
    rig.idle(LATER + 3 * DAY)

    assert advice(rig) == RetrainingAction.FINE_TUNE


def test_a_pattern_that_outlived_a_changed_prompt_asks_for_fine_tuning() -> None:
    change = Change(
        event_id="c",
        occurred_at=LATER - 8 * DAY,
        agent_id=AGENT.agent_id,
        kind="PROMPT",
        to_version="v2",
    )
    rig = Rig(FakeChanges(change))
    rig.feed(weekly(3))
    rig.feed(overrides(LATER + 2 * DAY, 20))
    rig.idle(LATER + 3 * DAY)

    assert advice(rig) == RetrainingAction.FINE_TUNE


def test_overrides_of_low_confidence_ask_for_a_threshold() -> None:
    rig = Rig()
    rig.feed([review(MONDAY + day * DAY, agent_confidence=0.97) for day in range(35)])
    rig.feed(overrides(LATER + 2 * DAY, 20, agent_confidence=0.55))
    rig.idle(LATER + 3 * DAY)

    assert advice(rig) == RetrainingAction.THRESHOLD
    (found,) = patterns(rig)
    assert dict(zip(found.measure_names, found.measure_values, strict=True)) == {
        "examples": 20,
        "low_confidence": 20,
        "known_confidence": 20,
    }


def test_a_producer_that_invents_codes_gets_no_more_places() -> None:
    rig = Rig()
    rig.feed(
        [review(MONDAY + place, overridden=True, reason_code=f"X{place}") for place in range(500)]
    )

    assert len(rig.desk._patterns) == 64


def test_a_frequent_pattern_is_not_driven_out_by_invented_codes() -> None:
    rig = Rig()
    rig.feed([review(MONDAY + day * DAY) for day in range(35)])
    invented = [
        review(
            LATER + place, overridden=True, reason_code="REAL" if place % 20 == 0 else f"X{place}"
        )
        for place in range(1000)
    ]
    rig.feed(invented)
    rig.idle(LATER + DAY)

    (found,) = patterns(rig)
    assert found.kind == "approve > reject: REAL"
    assert 40 <= found.value <= 50


def test_long_codes_are_cut_and_still_told_apart() -> None:
    rig = Rig()
    rig.feed([review(MONDAY + day * DAY) for day in range(35)])
    for ending in "AB":
        rig.feed(overrides(LATER + 2 * DAY + ord(ending), 12, reason_code="R" * 200 + ending))
    rig.idle(LATER + 3 * DAY)

    kinds = {one.kind or "" for one in patterns(rig)}
    assert len(kinds) == 2
    assert max(map(len, kinds)) < 80


def test_a_quiet_year_of_thirty_patterns_has_no_finding() -> None:
    dice = np.random.default_rng(11)
    rig = Rig()
    rates = dice.gamma(1.0, 0.6, 30)  # overrides a day and pattern, some common, most rare
    for day in range(MONDAY, MONDAY + 365 * DAY, DAY):
        events = []
        for number, count in enumerate(dice.poisson(rates * (0.3 if day // DAY % 7 > 4 else 1))):
            events += overrides(day, int(count), reason_code=f"R{number}")
        rig.feed(sorted(events, key=lambda one: one.occurred_at))

    assert patterns(rig) == []
