"""Silences, maintenance and acknowledgements: what they withhold, and for how long."""

from __future__ import annotations

from typing import Any

import pytest

from streams.controls import MAX_WAITING, ControlOutcome, Controls, matches
from streams.reasons import Severity
from tests.incident_rig import Rig, agent, control, finding, integration, pages, told

DAY = 86_400


@pytest.mark.parametrize(
    ("matchers", "expected"),
    [
        ({}, True),
        ({"match_rule": "error-rate"}, True),
        ({"match_rule": "drift"}, False),
        ({"match_entity_kind": "AGENT", "match_tenant": "acme", "match_entity_id": "a"}, True),
        ({"match_entity_kind": "AGENT", "match_tenant": "other"}, False),
        ({"match_alert_id": agent("a", tenant="acme").alert_id}, True),
        ({"match_alert_id": "x"}, False),
    ],
)
def test_all_that_a_control_names_must_be_equal(matchers: dict[str, Any], expected: bool) -> None:
    given = control("SILENCE", until_at=60, **matchers)
    assert matches(given, agent("a", tenant="acme")) is expected


@pytest.mark.parametrize("given", [{"rule": "security"}, {"severity": Severity.CRITICAL}])
def test_what_is_urgent_must_be_named_by_its_rule_or_alert(given: dict[str, Any]) -> None:
    one = agent("a", **given)
    assert not matches(control("SILENCE", match_entity_id="a"), one)
    assert matches(control("SILENCE", match_rule=one.rule), one)
    assert matches(control("SILENCE", match_alert_id=one.alert_id), one)


@pytest.mark.parametrize(("kind", "reason"), [("SILENCE", "SILENCED"), ("MAINTENANCE",) * 2])
def test_a_silence_withholds_until_its_end_and_then_the_alert_pages(kind: str, reason: str) -> None:
    rig = Rig()
    rig.play(control(kind, match_entity_id="a", until_at=600), agent("a", at=10), agent("b", at=10))
    (withheld, _) = rig.alerts
    assert (withheld.status, withheld.reason, withheld.suppressed_by) == ("WITHHELD", reason, "c1")
    assert told(rig.until(100)) == ["b UPDATED GROUP_WAIT page"]
    assert told(rig.until(600)) == ["a FIRING RELEASED page"]


def test_a_silence_for_later_begins_at_its_time() -> None:
    rig = Rig()
    rig.play(agent("b", at=0), control("SILENCE", from_at=100, until_at=600, at=5))
    rig.play(agent("a", at=20), agent("c", at=110))
    rig.until(300)
    assert [one.entity_id for one in pages(rig.alerts)] == ["b", "a"]


def test_a_silence_that_ends_by_hand_lets_go_what_it_withheld() -> None:
    rig = Rig()
    rig.play(control("SILENCE", until_at=6000), agent("a", at=10), control("EXPIRE", at=20))
    assert told(rig.until(30)) == ["a FIRING RELEASED page"]


def test_a_silence_with_the_same_id_replaces_the_first() -> None:
    rig = Rig()
    rig.play(control("SILENCE", until_at=6000), agent("a", at=10))
    rig.play(control("SILENCE", at=20, match_entity_id="b", until_at=6000))
    assert told(rig.until(20)) == ["a FIRING RELEASED page"]


def test_what_another_control_or_cause_withholds_goes_on_to_be_withheld() -> None:
    rig = Rig()
    rig.play(control("SILENCE", until_at=600), control("SILENCE", "c2", until_at=900))
    rig.play(agent("a", at=10))
    assert [one.suppressed_by for one in rig.until(700)] == ["c2"]
    rig.play(integration(at=800))
    assert told(rig.until(900))[:1] == ["a WITHHELD INHIBITED"]


def test_a_silenced_integration_still_withholds_its_agents() -> None:
    rig = Rig()
    rig.play(control("MAINTENANCE", match_entity_id="ledger", until_at=6000))
    rig.play(integration(at=10), agent("a", at=20))
    rig.until(5000)
    assert pages(rig.alerts) == []
    assert told(rig.until(6000)) == ["ledger FIRING RELEASED page"]


def test_a_security_event_is_silenced_by_its_rule_only() -> None:
    rig = Rig()
    rig.play(control("SILENCE", until_at=600), finding("a", "security"))
    rig.play(control("SILENCE", "c2", at=1, until_at=600, match_rule="security"))
    told_later = rig.play(
        finding("b", "security", at=2), finding("a", "security", "UPDATED", since=0, at=3)
    )
    assert told(rig.alerts[:1]) == ["a FIRING AT_ONCE page"]
    assert told(told_later) == ["b WITHHELD SILENCED", "a WITHHELD SILENCED"]


def test_an_acknowledged_incident_does_not_page_again() -> None:
    rig = Rig()
    rig.play(agent("a"), control("ACKNOWLEDGE", at=60, match_rule="error-rate"))
    (_, said) = rig.until(100)
    assert (said.status, said.acknowledged_by, said.page) == ("ACKNOWLEDGED", "on-call", False)
    assert rig.until(3 * DAY) == []


@pytest.mark.parametrize(
    "news",
    [
        agent("a", rule="automated-rate", at=200),
        agent("a", "UPDATED", since=0, at=200, severity=Severity.CRITICAL),
    ],
)
def test_news_on_an_acknowledged_incident_brings_its_pages_back(news: Any) -> None:
    rig = Rig()
    rig.play(
        agent("a", severity=Severity.WARNING),
        control("ACKNOWLEDGE", at=60, match_rule="error-rate"),
        news,
    )
    found = rig.until(250 + DAY)
    assert [one.reason for one in pages(found)] == ["REPEATED"]
    assert found[-1].acknowledged_by is None


def test_an_acknowledgement_that_ends_brings_the_pages_back() -> None:
    rig = Rig()
    rig.play(agent("a"), control("ACKNOWLEDGE", at=60), control("EXPIRE", at=100))
    assert [one.reason for one in pages(rig.until(200 + DAY))] == ["GROUP_WAIT", "REPEATED"]


def test_what_was_acknowledged_before_it_paged_does_not_page() -> None:
    rig = Rig()
    rig.play(agent("a"), control("ACKNOWLEDGE", at=10), agent("b", at=10))
    rig.until(100)
    assert told(rig.alerts)[1] == "a WITHHELD ACKNOWLEDGED"
    assert [one.entity_id for one in pages(rig.alerts)] == ["b"]


def test_a_repeat_in_a_silence_is_withheld() -> None:
    rig = Rig()
    rig.play(agent("a"), control("SILENCE", at=60, until_at=2 * DAY))
    found = rig.until(DAY + 60)
    assert told(found) == ["a UPDATED GROUP_WAIT page", "a WITHHELD SILENCED"]
    assert found[-1].suppressed_by == "c1"


def test_a_control_waits_until_the_clock_gets_to_it() -> None:
    rig = Rig()
    rig.play(control("SILENCE", at=100, until_at=6000), agent("a", at=10), agent("b", at=101))
    assert [one.status for one in rig.alerts if one.entity_id == "b"] == ["WITHHELD"]
    assert [one.entity_id for one in pages(rig.alerts)] == ["a"]


def test_every_control_has_an_outcome() -> None:
    rig = Rig()
    rig.play(agent("a"))
    for one in (
        control("SILENCE", until_at=60),
        control("EXPIRE"),
        control("EXPIRE"),
        control("ACKNOWLEDGE", "c2", match_rule="none"),
        control("ACKNOWLEDGE", "c2"),
        control("ACCEPT_NORMAL", "c3"),
        control("SILENCE", until_at=-10),
    ):
        rig.play(one)
    assert [rig.incidents.control_outcomes[one] for one in ControlOutcome] == [1, 1, 1, 3, 1, 0]


def test_only_so_many_controls_wait() -> None:
    controls = Controls()
    waits = [controls.wait(control("EXPIRE", at=number)) for number in range(MAX_WAITING + 1)]
    assert waits.count(False) == 1
