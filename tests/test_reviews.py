from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from streams.durations import DAY, HOUR, MINUTE, WEEK
from streams.events import Change
from streams.reasons import DeadLetterReason
from tests.review_rig import AGENT, MONDAY, FakeChanges, Rig, review, settled, spread

if TYPE_CHECKING:
    from typing import Any

    from streams.events import HumanReview

NINE = MONDAY + 9 * HOUR


def told(rig: Rig) -> list[tuple[Any, ...]]:
    """Return the windows: hour and revision, minutes past nine, overridden and confirmed."""
    return [
        (
            (one["window_start"] - NINE) // HOUR,
            one["revision"],
            (one["at"] - NINE) // MINUTE,
            one["overridden"],
            one["confirmed"],
        )
        for one in rig.windows
    ]


def test_an_hour_is_published_a_minute_past_its_end() -> None:
    rig = Rig()
    rig.feed([review(NINE, overridden=True), review(NINE + 1), review(NINE + HOUR + MINUTE - 1)])
    assert rig.windows == []
    rig.feed([review(NINE + HOUR + MINUTE)])

    assert told(rig) == [(0, 1, 61, 1, 1)]
    assert (rig.windows[0]["series"], rig.windows[0]["task_type"]) == ("REVIEWS", "claim")
    assert rig.windows[0]["window_end"] == NINE + HOUR


def test_a_late_review_publishes_its_hour_again_with_a_higher_revision() -> None:
    rig = Rig()
    rig.feed([review(NINE), review(NINE + 2 * HOUR), review(NINE + 1, overridden=True)])
    rig.idle(NINE + 2 * HOUR + MINUTE)

    assert told(rig) == [(0, 1, 61, 0, 1), (0, 2, 121, 1, 1)]


def test_windows_add_up_to_all_reviews_that_count() -> None:
    dice = np.random.default_rng(2)
    rig = Rig()
    clock = NINE
    truth: dict[tuple[int, str, str], int] = {}
    for _ in range(2000):
        clock += int(dice.exponential(5 * MINUTE))
        when = clock - int(dice.exponential(3 * HOUR)) if dice.random() < 0.3 else clock
        kind = f"type-{dice.integers(3)}"
        one = review(when, overridden=bool(dice.random() < 0.3), task_type=kind)
        key = when // HOUR * HOUR, kind, one.verdict.lower()
        truth[key] = truth.get(key, 0) + 1
        rig.feed([one])
    rig.idle(clock + 2 * HOUR)

    newest = {(one["window_start"], one["task_type"]): one for one in rig.windows}
    found = {
        (*key, verdict): one[verdict]
        for key, one in newest.items()
        for verdict in ("overridden", "confirmed")
        if one[verdict]
    }
    assert found == truth


def test_a_producer_that_invents_task_types_is_refused_past_the_bound() -> None:
    rig = Rig(bound=5)
    rig.feed([review(NINE + place, task_type=f"type-{place}") for place in range(8)])
    rig.feed([review(NINE + 9, task_type="type-0")])

    assert [one.reason for one in rig.refused] == [DeadLetterReason.SERIES_LIMIT] * 3
    assert "5 of the 5 series" in rig.refused[0].detail
    assert len(rig.desk.series) == 5


def test_a_series_without_reviews_for_five_weeks_gives_its_place_back() -> None:
    rig = Rig(bound=1)
    rig.feed([review(NINE, overridden=True, task_type="old")])
    rig.feed([review(NINE + 35 * DAY), review(NINE + 38 * DAY)])

    assert len(rig.refused) == 1
    assert len(rig.desk.series) == 1
    assert len(rig.desk._patterns) == 0


def test_every_review_with_a_verdict_is_passed_on() -> None:
    rig = Rig()
    seen: list[HumanReview] = []
    rig.desk._seen = seen.append
    rig.feed([review(NINE), review(NINE + 1, verdict="UNKNOWN"), review(NINE + 2, overridden=True)])

    assert [one.verdict for one in seen] == ["CONFIRMED", "OVERRIDDEN"]


def busy_weeks() -> list[HumanReview]:
    """Return two weeks that make findings of all rules, with late reviews among them."""
    dice = np.random.default_rng(1)
    events = []
    first = MONDAY + 5 * WEEK
    for day in range(14):
        hits = 30 if day < 6 else 10
        sure = {"agent_confidence": 0.96, "task_outcome": "AUTOMATED"}
        events += spread(first + day * DAY, hits, 100 - hits, **sure)
        events += spread(first + day * DAY + MINUTE, 3, 30, task_type="refund")
    shift = [0 if dice.random() < 0.8 else int(dice.exponential(5 * HOUR)) for _ in events]
    order = np.argsort(
        [one.occurred_at + late for one, late in zip(events, shift, strict=True)], kind="stable"
    )
    return [events[place] for place in order.tolist()]


CHANGE = Change(
    event_id="c",
    occurred_at=MONDAY + 5 * WEEK + 4 * DAY,
    agent_id=AGENT.agent_id,
    kind="PROMPT",
    to_version="v2",
)


def run(*, restart_every: int | None = None) -> Rig:
    """Return a rig fed with all that, perhaps written away and read back on the way."""
    rig = settled()
    rig.changes = FakeChanges(CHANGE)
    rig.restart()
    events = busy_weeks()
    for start in range(0, len(events), restart_every or len(events)):
        rig.feed(events[start : start + (restart_every or len(events))])
        if restart_every:
            rig.restart()
    rig.idle(MONDAY + 10 * WEEK)
    return rig


@pytest.mark.parametrize("every", [151])
def test_a_restart_at_any_point_gives_the_same(every: int) -> None:
    plain, restarted = run(), run(restart_every=every)

    assert {one.rule for one in plain.findings} == {"overrides", "override-pattern"}
    assert restarted.findings == plain.findings
    assert restarted.windows == plain.windows
    assert restarted.signals == plain.signals
    assert restarted.refused == plain.refused == []
