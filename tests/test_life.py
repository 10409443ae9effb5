"""The life of a rule on one row: every transition with its reason, and what it marks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streams.arms import CLEAR, ENOUGH, FIRE, JUDGEABLE, WAKES
from streams.durations import DAY, HOUR, MINUTE, SECOND
from streams.life import FOREVER, Life, Turn
from streams.reasons import Transition, TransitionReason
from streams.rules import RuleSet

RULE = RuleSet.default().rates[1]
DAY_ARM, HOUR_ARM, BURST = range(3)
HOT = ENOUGH | FIRE | JUDGEABLE | WAKES
COLD = ENOUGH | JUDGEABLE
CALM = COLD | CLEAR
START = 480_000 * HOUR + 20 * MINUTE

Story = list[tuple[int, str, str, int]]  # minutes since START, transition, reason, arm


def step(life: Life, tick: int, **cells: int) -> list[Turn]:
    """Step the arms named d, h and b at a tick, each with its cell."""
    names = {"d": DAY_ARM, "h": HOUR_ARM, "b": BURST}
    given = {names[name]: cell for name, cell in cells.items()}
    arrays = [np.array([given.get(arm, 0)], np.uint8) for arm in range(3)]
    return life.step(RULE, tick, {arm: 0 for arm in range(3) if arm in given}, arrays)[0]


def tell(life: Life, minutes: range, story: Story | None = None, **cells: int) -> Story:
    """Step minute by minute and collect what happened."""
    found: Story = [] if story is None else story
    for minute in minutes:
        for turn in step(life, START + minute * MINUTE, **cells):
            found.append((minute, str(turn.transition), str(turn.reason), turn.arm))
    return found


def burning() -> Life:
    """Return a life in which the burst arm fires since START."""
    life = Life.new(RULE)
    step(life, START, b=HOT)
    return life


def test_a_condition_that_holds_is_pending_then_firing() -> None:
    assert tell(Life.new(RULE), range(121), d=HOT) == [
        (0, "PENDING", "CONDITION_TRUE", DAY_ARM),
        (120, "FIRING", "FOR_ELAPSED", DAY_ARM),
    ]


def test_firing_keeps_the_start_of_pending() -> None:
    life = Life.new(RULE)
    tell(life, range(121), d=HOT)
    assert (life.started_at, life.fired_at) == (START, START + 120 * MINUTE)


def test_a_condition_that_stops_before_its_time_is_cancelled() -> None:
    life = Life.new(RULE)
    story = tell(life, range(119), d=HOT)
    assert tell(life, range(119, 130), story, d=COLD)[1:] == [
        (119, "CANCELLED", "CONDITION_FALSE", DAY_ARM)
    ]
    assert life.blank()


def test_too_few_samples_hold_what_is_pending() -> None:
    life = Life.new(RULE)
    story = tell(life, range(100), d=HOT)
    tell(life, range(100, 160), story, d=0)
    tell(life, range(160, 300), story, d=HOT)
    assert story[1:] == [(120 + 60, "FIRING", "FOR_ELAPSED", DAY_ARM)]


def test_a_burst_fires_at_once() -> None:
    assert tell(Life.new(RULE), range(1), b=HOT) == [(0, "FIRING", "AT_ONCE", BURST)]


def test_the_first_arm_in_order_is_the_one_named() -> None:
    assert tell(Life.new(RULE), range(1), d=HOT, h=HOT)[0][3] == DAY_ARM


def test_a_further_arm_that_fires_joins() -> None:
    assert tell(burning(), range(1, 122), d=HOT) == [(121, "UPDATED", "ARM_JOINED", DAY_ARM)]


def test_a_further_arm_that_is_pending_says_nothing() -> None:
    assert tell(burning(), range(1, 100), d=HOT) == []


def test_a_firing_rule_resolves_when_all_its_arms_cleared() -> None:
    life = burning()
    tell(life, range(1, 122), d=HOT)
    assert tell(life, range(122, 600), d=CALM, b=CALM) == [
        (122 + 360, "RESOLVED", "CLEAR_ELAPSED", DAY_ARM)
    ]


def test_clearing_starts_again_after_a_tick_that_is_not_clear() -> None:
    life = burning()
    story = tell(life, range(1, 10), b=CALM)
    tell(life, range(10, 11), story, b=COLD)
    assert tell(life, range(11, 60), story, b=CALM) == [
        (11 + 15, "RESOLVED", "CLEAR_ELAPSED", BURST)
    ]


def test_no_new_burst_within_a_quarter_of_an_hour_of_the_last_resolve() -> None:
    life = burning()
    tell(life, range(1, 17), b=CALM)
    resolved = START + 16 * MINUTE
    assert life.last_resolved == resolved
    assert step(life, resolved + 15 * MINUTE - 5 * SECOND, b=HOT) == []
    (turn,) = step(life, resolved + 15 * MINUTE, b=HOT)
    assert (turn.transition, turn.reason) == (Transition.FIRING, TransitionReason.AT_ONCE)


def test_the_other_arms_need_not_cool_down() -> None:
    life = burning()
    tell(life, range(1, 17), b=CALM)
    assert tell(life, range(17, 18), d=HOT)[0][1] == "PENDING"


def test_an_arm_still_pending_at_the_resolve_begins_the_next_life() -> None:
    life = burning()
    story = tell(life, range(1, 11))
    tell(life, range(11, 27), story, b=CALM, d=HOT)
    assert story == [
        (26, "RESOLVED", "CLEAR_ELAPSED", BURST),
        (26, "PENDING", "CONDITION_TRUE", DAY_ARM),
    ]
    assert life.started_at == START + 26 * MINUTE


def test_of_arms_pending_at_the_resolve_the_newest_is_the_one_named() -> None:
    life = burning()
    story = tell(life, range(1, 11))
    tell(life, range(11, 26), story, b=CALM, d=HOT)
    tell(life, range(26, 27), story, b=CALM, d=HOT, h=HOT)
    assert story[1] == (26, "PENDING", "CONDITION_TRUE", HOUR_ARM)


def test_one_arm_that_takes_over_from_another_keeps_the_rule_firing() -> None:
    life = burning()
    story = tell(life, range(1, 121), d=HOT)
    tell(life, range(121, 122), story, d=HOT, b=CALM)
    assert story == [(121, "UPDATED", "ARM_JOINED", DAY_ARM)]


def test_an_alert_of_a_week_is_the_new_normal() -> None:
    life = burning()
    assert step(life, START + 7 * DAY - 5 * SECOND, b=HOT) == []
    (turn,) = step(life, START + 7 * DAY, b=HOT)
    expected = (Transition.RESOLVED, TransitionReason.REBASELINED, BURST, START)
    assert turn == expected


def test_the_new_normal_begins_with_the_alert_and_has_no_taint() -> None:
    life = burning()
    step(life, START + 7 * DAY, b=HOT, d=HOT)
    assert life.relearned_from == START - 20 * MINUTE
    assert life.last_resolved == START + 7 * DAY
    assert life.tainted() == []
    assert life.stands(life.arms[0].phase) == 0
    assert {int(arm.phase) for arm in life.arms} == {0}


def test_an_alert_that_would_clear_on_its_seventh_day_is_the_new_normal() -> None:
    life = burning()
    step(life, START + 7 * DAY - 15 * MINUTE, b=CALM)
    (turn,) = step(life, START + 7 * DAY, b=CALM)
    assert turn.reason is TransitionReason.REBASELINED


def test_a_pending_rule_taints_nothing() -> None:
    life = Life.new(RULE)
    tell(life, range(60), d=HOT)
    assert life.tainted() == []


def test_an_open_alert_taints_from_its_first_hour_on() -> None:
    assert burning().tainted() == [(START - 20 * MINUTE, FOREVER)]


def test_a_resolved_alert_taints_up_to_its_last_hour() -> None:
    life = burning()
    tell(life, range(1, 17), b=CALM)
    hour = START - 20 * MINUTE
    assert life.tainted() == [(hour, hour + HOUR)]


def test_what_is_left_out_is_merged_and_cut_to_the_span_asked_for() -> None:
    life = Life(burning().arms, relearned_from=30, taint=[(20, 40), (60, 70), (65, 80)])
    assert life.excluded(10, 75) == [(10, 40), (60, 75)]


def test_what_lies_outside_the_span_leaves_nothing_out() -> None:
    life = Life([], taint=[(0, 10), (90, 99)])
    assert life.excluded(10, 90) == []


def test_old_taint_and_an_old_resolve_are_forgotten() -> None:
    life = Life([], last_resolved=99, taint=[(0, 100), (100, 200)])
    assert life.prune(100)
    assert life == Life([], taint=[(100, 200)])
    assert not life.prune(100)


def records() -> list[dict[str, Any]]:
    life, found = Life.new(RULE), []
    for minute in range(200):
        step(life, START + minute * MINUTE, d=HOT, b=CALM if 20 < minute < 100 else HOT)
        found.append(life.dump())
    return found


def test_a_stored_life_is_the_same_life() -> None:
    assert all(Life.of(RULE, record).dump() == record for record in records())


def test_a_life_of_a_rule_with_other_arms_is_refused() -> None:
    with pytest.raises(ValueError, match="has 3 arms, the rule has 1"):
        Life.of(RuleSet.default().rates[0], Life.new(RULE).dump())
