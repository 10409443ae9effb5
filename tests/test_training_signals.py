from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams import schemas
from streams.columns import AUTOMATED, FAILED
from streams.durations import DAY, HOUR, MINUTE
from tests.review_rig import AGENT, MONDAY, Rig, review

if TYPE_CHECKING:
    from typing import Any

NINE = MONDAY + 9 * HOUR


def rig() -> Rig:
    """Return a rig with three tasks of the agent at nine o'clock."""
    made = Rig()
    made.tasks.add(AGENT, "claim")
    sums = [np.full(3, 10 * (place + 1)) for place in range(6)]
    outcomes = np.array([AUTOMATED, AUTOMATED, FAILED])
    made.hours.add(np.zeros(3, np.int64), np.full(3, NINE // HOUR), outcomes, sums)
    return made


def signals(made: Rig) -> dict[str, dict[str, Any]]:
    return {one["review_event_id"]: one for one in made.signals}


def test_a_review_is_joined_to_the_hour_of_its_task() -> None:
    made = rig()
    made.feed([review(NINE + 3 * HOUR, event_id="r", task_occurred_at=NINE + MINUTE)])

    found = signals(made)["r"]
    assert found["join_status"] == "JOINED"
    assert found["window_start"] == NINE
    assert (found["window_tasks"], found["window_automated"], found["window_failed"]) == (3, 2, 1)
    assert (found["window_cost_micro_usd"], found["window_output_tokens"]) == (30, 120)
    assert (found["verdict"], found["reason_code"], found["reason"]) == ("CONFIRMED", "OK", None)


def test_a_signal_waits_until_the_hour_of_its_task_is_closed() -> None:
    made = rig()
    made.feed([review(NINE + 5 * MINUTE, event_id="r", task_occurred_at=NINE)])
    made.now = NINE + HOUR + MINUTE - 1
    made.feed([])
    assert (made.signals, len(made.desk.signals)) == ([], 1)
    made.now = NINE + HOUR + MINUTE
    made.desk.signals.flush()
    made.feed([])

    assert signals(made)["r"]["join_status"] == "JOINED"
    assert len(made.desk.signals) == 0


def test_a_review_that_does_not_say_when_the_task_was_has_no_window() -> None:
    made = rig()
    made.feed([review(NINE + 3 * HOUR, event_id="r")])

    found = signals(made)["r"]
    assert (found["join_status"], found["window_tasks"]) == ("NO_TASK_TIME", None)


def test_an_hour_without_tasks_has_no_window() -> None:
    made = rig()
    at = NINE + 5 * HOUR
    made.feed([review(at, event_id="r", task_occurred_at=NINE + HOUR)])
    made.feed([review(at, event_id="future", task_occurred_at=at + 6 * MINUTE)])

    assert {one["join_status"] for one in made.signals} == {"NO_WINDOW"}


def test_a_task_of_more_than_two_weeks_ago_has_expired() -> None:
    made = rig()
    made.feed([review(NINE + 14 * DAY, event_id="last", task_occurred_at=NINE)])
    made.feed([review(NINE + 14 * DAY + HOUR, event_id="late", task_occurred_at=NINE)])

    assert [one["join_status"] for one in made.signals] == ["JOINED", "WINDOW_EXPIRED"]


def test_verdicts_of_all_kinds_make_signals_with_what_the_review_says() -> None:
    made = rig()
    for place, verdict in enumerate(("OVERRIDDEN", "CONFIRMED", "UNKNOWN")):
        made.feed([review(NINE + HOUR * 3 + place, event_id=verdict, verdict=verdict, reason="x")])

    assert [one["verdict"] for one in made.signals] == ["OVERRIDDEN", "CONFIRMED", "UNKNOWN"]
    assert {one["reason"] for one in made.signals} == {"x"}


def test_a_signal_is_a_record_of_the_contract() -> None:
    made = rig()
    made.feed([review(NINE + 3 * HOUR, task_occurred_at=NINE, agent_confidence=0.5)])

    kind, record = schemas.decode(schemas.encode("TrainingSignal", made.signals[0]))
    assert (kind, record) == ("TrainingSignal", made.signals[0])


def test_a_signal_that_waits_survives_a_restart() -> None:
    made = rig()
    made.feed([review(NINE + 5 * MINUTE, event_id="r", task_occurred_at=NINE, reason="kept")])
    made.restart()
    made.now = NINE + 2 * HOUR
    made.desk.signals.flush()
    made.feed([])
    made.restart()

    assert signals(made)["r"]["reason"] == "kept"
    assert len(made.desk.signals) == 0
