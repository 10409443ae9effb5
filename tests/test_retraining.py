"""The retraining queue: one request for each agent and cause, told when it matters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import schemas, state
from streams.durations import DAY, HOUR
from streams.findings import Finding, alert_id, finding_id
from streams.reasons import (
    EntityKind,
    RetrainingAction,
    RetrainingCause,
    Severity,
    Transition,
    TransitionReason,
)
from streams.retraining import RetrainingDesk

T0 = 20_000 * DAY
FIRING, UPDATED, RESOLVED = Transition.FIRING, Transition.UPDATED, Transition.RESOLVED


def finding(
    transition: Transition,
    kind: str = "amount",
    at: int = T0,
    cause: RetrainingCause = RetrainingCause.INPUT_DRIFT,
    **numbers: float,
) -> Finding:
    known = {"magnitude": 3.0, "tasks_per_day": 1000.0, "cost_per_day": 20.0, "direction": 1.0}
    named = known | numbers
    named = {name.replace("signal_", "signal:"): x for name, x in named.items()}
    alert = alert_id(f"mark-{kind}-{cause}", T0)
    return Finding(
        finding_id=finding_id(alert, transition, at),
        fingerprint=f"mark-{kind}-{cause}",
        rule="drift",
        rule_version=1,
        transition=transition,
        reason=TransitionReason.AT_ONCE,
        severity=Severity.WARNING,
        page=False,
        entity_kind=EntityKind.AGENT,
        tenant="acme",
        entity_id="claims-agent",
        kind=kind,
        at=at,
        starts_at=T0,
        value=3.0,
        threshold=0.5,
        sample_count=10,
        window_start=T0 - DAY,
        window_end=T0,
        evidence_topic="agentops.tasks",
        evidence_partition=2,
        first_offset=5,
        last_offset=9,
        detail="amount up",
        retraining_cause=cause,
        retraining_action=RetrainingAction.FINE_TUNE,
        measure_names=(*named, "detector:adwin"),
        measure_values=(*named.values(), 1.0),
    )


def test_a_finding_opens_a_request_with_all_that_is_known() -> None:
    (record,) = RetrainingDesk().fold(
        finding(FIRING, reference_mean=100.0, current_mean=140.0, reference_count=200.0)
    )

    assert record["status"] == "REQUESTED"
    assert record["request_id"].endswith(f"-{T0}")
    assert (record["tenant"], record["agent_id"], record["cause"], record["action"]) == (
        "acme",
        "claims-agent",
        "INPUT_DRIFT",
        "FINE_TUNE",
    )
    assert (record["signal"], record["direction"], record["detector"]) == ("amount", "UP", "adwin")
    assert (record["reference_mean"], record["current_mean"]) == (100.0, 140.0)
    assert (record["reference_count"], record["magnitude"]) == (200, 3.0)
    assert record["summary"] == "acme/claims-agent: input drift: amount up"
    assert schemas.decode(schemas.encode("RetrainingRequest", record))[1] == record


@pytest.mark.parametrize(
    ("numbers", "priority"),
    [
        ({}, 3 * 20.0),
        ({"outcomes_suffer": 1.0}, 3 * 20.0 * 2),
        ({"cost_per_day": 0.0}, 3 * 1000 * 0.001),
    ],
)
def test_the_priority_is_magnitude_times_volume_times_cost(
    numbers: dict[str, Any], priority: float
) -> None:
    (record,) = RetrainingDesk().fold(finding(FIRING, **numbers))

    assert record["priority"] == pytest.approx(priority)


@pytest.mark.parametrize(("late", "urgency"), [(-3, 0.5), (0, 1.0), (14, 3.0)])
def test_a_schedule_grows_more_urgent_with_every_week_past_its_date(
    late: int, urgency: float
) -> None:
    due = T0 - late * DAY
    one = finding(FIRING, "DUE", cause=RetrainingCause.SCHEDULE, due_at=float(due))
    (record,) = RetrainingDesk().fold(one)

    assert record["due_at"] == due
    assert record["priority"] == pytest.approx(urgency * 20)


def test_another_signal_updates_the_request() -> None:
    desk = RetrainingDesk()
    (first,) = desk.fold(finding(FIRING))
    (second,) = desk.fold(finding(FIRING, "task_mix", T0 + HOUR))

    assert (second["status"], second["request_id"]) == ("UPDATED", first["request_id"])
    assert second["signals"] == ["amount", "task_mix"]
    assert len(second["members"]) == 2


def test_a_change_below_a_tenth_is_not_told_and_one_of_a_tenth_is() -> None:
    desk = RetrainingDesk()
    desk.fold(finding(FIRING))

    assert desk.fold(finding(UPDATED, at=T0 + HOUR, magnitude=3.29)) == []
    (record,) = desk.fold(finding(UPDATED, at=T0 + 2 * HOUR, magnitude=3.31))
    assert (record["status"], record["magnitude"]) == ("UPDATED", 3.31)


def test_it_closes_when_the_last_of_its_findings_has_resolved() -> None:
    desk = RetrainingDesk()
    desk.fold(finding(FIRING))
    desk.fold(finding(FIRING, "task_mix"))

    assert [one["status"] for one in desk.fold(finding(RESOLVED, at=T0 + HOUR))] in (
        [],
        ["UPDATED"],
    )
    (record,) = desk.fold(finding(RESOLVED, "task_mix", T0 + 2 * HOUR))
    assert (record["status"], record["closed_at"], record["priority"]) == (
        "CLOSED",
        T0 + 2 * HOUR,
        0.0,
    )
    assert len(desk) == 0


def test_every_cause_has_a_request_of_its_own() -> None:
    desk = RetrainingDesk()
    desk.fold(finding(FIRING))
    (other,) = desk.fold(finding(FIRING, cause=RetrainingCause.PERFORMANCE_DRIFT))

    assert other["status"] == "REQUESTED"
    assert len(desk) == 2


def test_other_findings_say_nothing_here() -> None:
    desk = RetrainingDesk()

    assert desk.fold(finding(FIRING, cause=RetrainingCause.NONE)) == []
    assert desk.fold(finding(Transition.PENDING)) == []
    assert desk.fold(finding(RESOLVED)) == []
    assert len(desk) == 0


def test_a_finding_read_twice_counts_once() -> None:
    desk = RetrainingDesk()
    desk.fold(finding(FIRING))

    assert desk.fold(finding(FIRING)) == []


def test_a_closed_request_leaves_no_state() -> None:
    desk = RetrainingDesk()
    desk.fold(finding(FIRING))
    ((key, value),) = desk.changes()
    desk.fold(finding(RESOLVED, at=T0 + HOUR))

    assert value is not None
    assert list(desk.changes()) == [(key, None)]


def test_the_queue_is_shown_by_priority() -> None:
    desk = RetrainingDesk()
    desk.fold(finding(FIRING, magnitude=1.0))
    desk.fold(finding(FIRING, cause=RetrainingCause.PERFORMANCE_DRIFT, magnitude=9.0))

    assert [one["cause"] for one in desk.open()] == ["PERFORMANCE_DRIFT", "INPUT_DRIFT"]


moves = st.tuples(
    st.sampled_from([FIRING, UPDATED, UPDATED, RESOLVED]),
    st.sampled_from(["amount", "task_mix", "confidence"]),
    st.sampled_from([RetrainingCause.INPUT_DRIFT, RetrainingCause.PERFORMANCE_DRIFT]),
    st.sampled_from([0.5, 3.0, 3.1, 9.0]),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(moves, max_size=20))
def test_restarted_after_every_finding_it_tells_the_same(given_moves: list[Any]) -> None:
    whole, parted = RetrainingDesk(), RetrainingDesk()
    stored: dict[bytes, bytes] = {}
    for at, (transition, kind, cause, magnitude) in enumerate(given_moves):
        one = finding(transition, kind, T0 + at * HOUR, cause, magnitude=magnitude)
        assert parted.fold(one) == whole.fold(one)
        for key, value in parted.changes():
            if value is None:
                stored.pop(key, None)
            else:
                stored[key] = value
        parted = RetrainingDesk()
        for record in state.decode(stored.items()):
            assert parted.restore(record)
        parted.settle()
        assert list(parted.changes()) == []
    assert sorted(map(str, parted.open())) == sorted(map(str, whole.open()))
