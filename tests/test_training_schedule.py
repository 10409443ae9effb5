"""Schedules of training: when the date comes near, is there, is past, and is met."""

from __future__ import annotations

from typing import Any

import pytest

from streams import state
from streams.durations import DAY, HOUR
from streams.events import AgentProfile
from streams.findings import Evidence, Finding
from streams.reasons import RetrainingCause
from streams.rules import RuleSet
from streams.series import Agent
from streams.training_schedule import ScheduleWatch

RULE = RuleSet.default().retraining_schedule
START = 20_000 * DAY
AGENT = Agent(None, "claims-agent")


class Profiles:
    def __init__(self, **fields: int | str | None) -> None:
        self.fields: dict[str, int | str | None] | None = fields

    def profile(self, agent: Agent) -> AgentProfile | None:
        if self.fields is None or agent != AGENT:
            return None
        return AgentProfile(
            event_id="p",
            occurred_at=START,
            agent_id=agent.agent_id,
            owner="claims",
            **self.fields,  # type: ignore[arg-type]
        )


def volume(row: int, tick: int) -> tuple[float, float]:
    assert (row, tick > START) == (4, True)
    return 100.0, 5.0


def watch(profiles: Profiles) -> ScheduleWatch:
    return ScheduleWatch(
        RULE,
        {4: AGENT},
        profiles,
        lambda start, end: Evidence("agentops.tasks", 0, start, end),
        volume,
    )


def days(one: ScheduleWatch, first: int, last: int) -> list[Finding]:
    return [
        found
        for hour in range(first * 24, last * 24)
        for found in one.hour(START + hour * HOUR + HOUR)
    ]


def said(found: list[Finding]) -> list[tuple[Any, ...]]:
    return [
        (str(one.transition), str(one.reason), one.kind, (one.at - START) / DAY) for one in found
    ]


def test_the_last_fifth_the_date_and_a_fifth_later_are_told_in_one_life() -> None:
    one = watch(Profiles(retraining_interval_days=30, last_trained_at=START - 10 * DAY))

    found = days(one, 0, 40)

    assert said(found) == [
        ("FIRING", "SCHEDULE", "APPROACHING", 14),
        ("UPDATED", "SCHEDULE", "DUE", 20),
        ("UPDATED", "SCHEDULE", "OVERDUE", 26),
    ]
    assert len({(each.fingerprint, each.starts_at) for each in found}) == 1
    assert {each.retraining_cause for each in found} == {RetrainingCause.SCHEDULE}
    numbers = dict(zip(found[2].measure_names, found[2].measure_values, strict=True))
    assert numbers["due_at"] == START + 20 * DAY
    assert numbers["magnitude"] == found[2].value == 6


def test_an_hour_before_the_last_fifth_nothing_is_told() -> None:
    one = watch(Profiles(retraining_interval_days=30, last_trained_at=START - 24 * DAY + HOUR))

    assert one.hour(START) == []


def test_training_ends_it_and_sets_the_next_date() -> None:
    profiles = Profiles(retraining_interval_days=10, last_trained_at=START)
    one = watch(profiles)
    found = days(one, 0, 11)
    profiles.fields = {"retraining_interval_days": 10, "last_trained_at": START + 11 * DAY}

    assert said(days(one, 11, 20)) == [
        ("RESOLVED", "CHANGED", "DUE", pytest.approx(11 + 1 / 24)),
        ("FIRING", "SCHEDULE", "APPROACHING", 19),
    ]
    assert len(found) == 2


def test_without_a_date_of_training_it_counts_from_when_it_was_first_seen() -> None:
    one = watch(Profiles(retraining_interval_days=10))

    assert said(days(one, 0, 9)) == [
        ("FIRING", "SCHEDULE", "APPROACHING", pytest.approx(8 + 1 / 24))
    ]


@pytest.mark.parametrize(
    "fields", [None, {}, {"retraining_interval_days": 10, "lifecycle": "RETIRED"}]
)
def test_an_agent_without_a_schedule_any_more_is_resolved(
    fields: dict[str, int | str | None] | None,
) -> None:
    profiles = Profiles(retraining_interval_days=10, last_trained_at=START)
    one = watch(profiles)
    days(one, 0, 9)
    profiles.fields = fields

    assert [(each[0], each[1]) for each in said(days(one, 9, 12))] == [("RESOLVED", "CHANGED")]
    assert not one.busy()


def test_it_needs_every_hour_while_there_is_a_schedule() -> None:
    one = watch(Profiles(retraining_interval_days=10))
    assert not one.busy()

    one.hour(START)

    assert one.busy()


def test_restarted_at_any_day_it_finds_the_same() -> None:
    profiles = Profiles(retraining_interval_days=10, last_trained_at=START)
    whole, parted = watch(profiles), watch(profiles)
    stored: dict[bytes, bytes] = {}
    for day in range(15):
        if day == 11:
            profiles.fields = {"retraining_interval_days": 12, "last_trained_at": START + DAY}
        assert days(whole, day, day + 1) == days(parted, day, day + 1)
        for key, value in parted.changes():
            assert value is not None
            stored[key] = value
        parted = watch(profiles)
        for one in state.decode(stored.items()):
            assert parted.restore(one)
        parted.settle()
        assert list(parted.changes()) == []


def test_a_freed_row_is_forgotten() -> None:
    one = watch(Profiles(retraining_interval_days=10))
    one.hour(START)
    one.forget([4], [])

    assert [value for _, value in one.changes()] == [None]
