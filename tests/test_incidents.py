"""Incidents: which findings become alerts and pages, over time, and that open ones are known."""

from __future__ import annotations

from typing import Any

import pytest

from streams import state
from streams.findings import Finding
from streams.incidents import Incidents, Outcome
from streams.reasons import Severity
from tests.incident_rig import AT, Rig, agent, control, finding, integration, pages, told

DAY = 86_400
LIFE = (
    finding("a", step="PENDING"),
    finding("a", since=0, at=2),
    finding("a", step="UPDATED", since=0, at=3),
    finding("a", step="RESOLVED", since=0, at=400),
)


def test_each_step_that_concerns_anyone_is_an_alert_record_in_order() -> None:
    assert told(Rig().play(*LIFE)) == [
        "a FIRING AT_ONCE",
        "a UPDATED ARM_JOINED",
        "a UPDATED GROUP_WAIT page",
        "a RESOLVED CLEAR_ELAPSED page",
    ]


def test_pending_and_cancelled_concern_nobody() -> None:
    assert Rig().play(LIFE[0], finding("a", step="CANCELLED", since=0, at=5)) == []


def test_a_resolve_of_what_is_not_open_is_dropped_and_counted() -> None:
    rig = Rig()
    assert rig.play(LIFE[3]) == []
    assert rig.incidents.outcomes[Outcome.NOT_OPEN] == 1


def test_an_update_of_what_is_not_open_still_reaches_a_person() -> None:
    assert told(Rig().play(*LIFE[2:])) == [
        "a UPDATED ARM_JOINED",
        "a UPDATED GROUP_WAIT page",
        "a RESOLVED CLEAR_ELAPSED page",
    ]


def test_every_outcome_is_counted_from_the_start() -> None:
    incidents = Incidents()
    assert incidents.outcomes == dict.fromkeys(Outcome, 0)
    incidents.fold(LIFE)
    assert [incidents.outcomes[one] for one in Outcome] == [1, 1, 1, 1, 0]


def test_a_page_waits_for_its_group_and_not_longer() -> None:
    rig = Rig()
    rig.play(agent("a", at=10))
    assert rig.until(54.9) == []
    (paged,) = rig.until(55)
    assert (paged.page, paged.reason, paged.updated_at) == (True, "GROUP_WAIT", AT + 55_000)


def test_a_page_that_is_over_before_its_wait_is_explained() -> None:
    rig = Rig()
    found = rig.play(agent("a", at=0), agent("a", "RESOLVED", since=0, at=20))
    assert told(found)[1:] == ["a WITHHELD GROUP_WAIT", "a RESOLVED CLEAR_ELAPSED"]


@pytest.mark.parametrize("given", [{"rule": "security"}, {"severity": Severity.CRITICAL}])
def test_security_and_critical_alerts_page_at_once(given: dict[str, Any]) -> None:
    rig = Rig()
    rig.play(integration(at=0))
    assert told(rig.play(agent("a", at=1, **given))) == ["a FIRING AT_ONCE page"]


def test_each_further_security_event_that_pages_is_told_to_a_person() -> None:
    rig = Rig()
    rig.play(finding("a", "security", page=False))
    news = finding("a", "security", "UPDATED", since=0, at=1)
    assert told(rig.play(news)) == ["a UPDATED ARM_JOINED page"]


def test_what_becomes_critical_pages_at_once_even_if_it_was_withheld() -> None:
    rig = Rig()
    rig.play(integration(at=0), agent("a", at=50))
    worse = agent("a", "UPDATED", since=50, at=60, severity=Severity.CRITICAL)
    assert told(rig.play(worse)) == ["a UPDATED ARM_JOINED page"]


def test_what_pages_nobody_never_pages() -> None:
    rig = Rig()
    rig.play(agent("a", page=False))
    rig.until(3 * DAY)
    assert pages(rig.alerts) == []


def test_an_incident_that_nobody_saw_pages_again_every_day() -> None:
    rig = Rig()
    rig.play(agent("a"))
    rig.until(45 + 2 * DAY)
    assert [one.reason for one in pages(rig.alerts)] == ["GROUP_WAIT", "REPEATED", "REPEATED"]


def test_what_was_drained_does_not_come_again() -> None:
    incidents = Incidents()
    incidents.fold(LIFE)
    incidents.drain()
    assert not incidents.dirty
    assert incidents.drain() == ([], [])


def test_a_restored_incidents_goes_on_as_if_nothing_had_happened() -> None:
    first, second = Rig(), Rig()
    for rig in (first, second):
        rig.play(*LIFE[:2])
    second.restart()
    for rig in (first, second):
        rig.play(*LIFE[2:])
    assert first.alerts == second.alerts
    assert first.state == second.state


def test_a_state_record_of_another_kind_is_refused() -> None:
    value = state.encode("LimitState", dict.fromkeys(("started_at", "last_seen"), 0) | REST)
    with pytest.raises(ValueError, match="holds LimitState"):
        Incidents().restore([(b"alert/x", value)])


REST = {"events": 0, "last_offset": 0}


def test_a_closed_incident_is_forgotten_after_a_day() -> None:
    rig = Rig()
    rig.play(*LIFE)
    assert any(key.startswith(b"incident/") for key in rig.state)
    rig.until(400 + DAY)
    assert list(rig.state) == [state.INCIDENTS_CLOCK_KEY]


def test_the_clock_does_not_run_ahead_of_the_time_of_production() -> None:
    incidents = Incidents()
    incidents.fold([agent("a", at=100)], [AT + 40_000])
    assert incidents.clock == AT + 40_000


def test_the_clock_follows_the_wall_by_its_lag_when_nothing_comes() -> None:
    rig = Rig()
    rig.incidents.fold([agent("a", at=0)], [AT + 7_000])
    rig.incidents.idle(AT + 7_000 + 44_999)
    assert pages(rig.collect()) == []
    rig.incidents.idle(AT + 7_000 + 45_000)
    assert len(pages(rig.collect())) == 1


def test_the_clock_never_goes_back() -> None:
    rig = Rig()
    rig.play(agent("a", at=100), agent("b", at=0))
    rig.incidents.idle(AT)
    assert rig.incidents.clock == AT + 100_000


def test_an_idle_clock_lets_a_waiting_control_take_effect() -> None:
    rig = Rig()
    rig.incidents.fold([agent("a", at=0)], [AT + DAY * 1000])
    rig.incidents.idle(AT + DAY * 1000 + 60_000)
    rig.collect()
    said = control("ACKNOWLEDGE", at=DAY + 1, match_rule="error-rate")
    assert rig.play(said) == []
    rig.incidents.idle(AT + DAY * 1000 + 61_000)
    assert told(rig.collect()) == ["a ACKNOWLEDGED ACKNOWLEDGED"]


def test_a_partition_that_stops_pages_at_once_and_moves_no_clock() -> None:
    rig = Rig()
    rig.play(agent("a", at=0))
    found = rig.play(Finding.partition_stopped(3, "STATE_MISSING", AT + DAY * 1000))
    assert told(found) == ["3 FIRING AT_ONCE page"]
    assert rig.incidents.clock == AT
