from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams.columns import BINS
from streams.durations import DAY, HOUR
from streams.reasons import RetrainingAction, RetrainingCause, Severity, TransitionReason
from tests.review_rig import AGENT, MONDAY, Rig, review

if TYPE_CHECKING:
    from streams.events import HumanReview

TODAY = MONDAY + 30 * DAY
SURE, UNSURE = 0.96, 0.55


def taught(days: int = 30, overridden: int = 1) -> Rig:
    """Return a rig with an agent that escalates what people would have confirmed."""
    rig = Rig()
    rig.tasks.add(AGENT, "claim")
    row = np.zeros(60, np.int64)
    for day in range(days):
        bins = np.array([8] * 40 + [BINS + 2] * 20)
        rig.days.add(row, np.full(60, MONDAY // DAY + day), bins)
        events = [
            review(
                MONDAY + day * DAY + 9 * HOUR + 60_000 * place,
                overridden=place < (overridden if sure else 0),
                agent_confidence=SURE if sure else UNSURE,
                task_outcome="AUTOMATED" if sure else "ESCALATED",
            )
            for place, sure in enumerate([True] * 20 + [False] * 10)
        ]
        rig.feed(events)
    return rig


def wrong(day: int) -> list[HumanReview]:
    """Return reviews in which people disagree with what was escalated."""
    return [
        review(
            day + 9 * HOUR + place,
            overridden=True,
            agent_confidence=UNSURE,
            task_outcome="ESCALATED",
            reason_code=f"R{place % 8}",
        )
        for place in range(40)
    ]


def test_a_lower_threshold_is_found_and_told_once() -> None:
    rig = taught()

    (found,) = rig.of("threshold-recommendation")
    assert (str(found.transition), found.reason) == ("FIRING", TransitionReason.AT_ONCE)
    assert (found.value, found.threshold) == (0.5, 0.6)
    assert (found.severity, found.page) == (Severity.INFO, False)
    assert found.retraining_cause == RetrainingCause.NONE
    assert found.retraining_action == RetrainingAction.NONE
    assert found.task_type == "claim"
    numbers = dict(zip(found.measure_names, found.measure_values, strict=True))
    assert numbers["automated_current"] == 2 / 3
    assert numbers["automated_at_0.5"] == 1.0
    assert numbers["overrides_at_0.5_high"] <= numbers["target"] == numbers["overrides_current"]
    assert "extrapolation" in (found.detail or "")


def test_nothing_is_recommended_where_people_disagree_with_what_is_escalated() -> None:
    rig = taught(days=1)
    rig.feed([one for day in range(2, 30) for one in wrong(MONDAY + day * DAY)])

    assert rig.of("threshold-recommendation") == []


def test_it_resolves_three_days_after_the_evidence_turned() -> None:
    rig = taught()
    for day in range(6):
        rig.feed(wrong(TODAY + day * DAY))

    fired, resolved = rig.of("threshold-recommendation")
    assert (str(resolved.transition), resolved.reason) == ("RESOLVED", "CLEAR_ELAPSED")
    assert resolved.starts_at == fired.starts_at
    assert resolved.at - TODAY <= 5 * DAY


def test_without_tasks_there_is_no_advice() -> None:
    rig = taught()
    bare = Rig()
    bare.feed([review(MONDAY + hour * HOUR, agent_confidence=SURE) for hour in range(24 * 30)])

    assert rig.of("threshold-recommendation")
    assert bare.of("threshold-recommendation") == []
