"""Anchors, causes and timers."""

from __future__ import annotations

from streams.grouping import Anchor, Timers, What, anchor_of, causes, is_cause, urgent
from streams.incident_rules import IncidentRules
from streams.reasons import EntityKind, Severity
from tests.incident_rig import agent, finding, integration

RULES = IncidentRules()


def test_behind_an_agents_alert_can_be_the_integrations_it_calls_of_its_tenant() -> None:
    given = agent("a", tenant="acme", integrations=("ledger", "mail"))
    expected = [Anchor(EntityKind.INTEGRATION, "acme", name) for name in ("ledger", "mail")]
    assert causes(given, RULES) == expected


def test_behind_a_silence_can_be_the_source_of_its_partition() -> None:
    given = finding("a", "silence", evidence_partition=7)
    assert causes(given, RULES) == [Anchor(EntityKind.PARTITION, None, "7")]


def test_behind_security_critical_alerts_and_other_rules_there_is_nothing() -> None:
    assert causes(agent("a", rule="security"), RULES) == []
    assert causes(agent("a", severity=Severity.CRITICAL), RULES) == []
    assert causes(agent("a", rule="drift"), RULES) == []
    assert causes(integration(), RULES) == []


def test_integrations_and_late_sources_are_causes() -> None:
    assert is_cause(integration())
    assert is_cause(finding("0", "silence", kind="SOURCE_LATE", entity_kind="PARTITION"))
    assert not is_cause(finding("0", "series-limit", entity_kind="PARTITION"))
    assert not is_cause(agent("a"))


def test_security_and_critical_are_urgent() -> None:
    assert urgent(agent("a", rule="security", severity=Severity.INFO))
    assert urgent(integration(severity=Severity.CRITICAL))
    assert not urgent(agent("a"))


def test_an_anchor_is_the_entity_of_a_finding() -> None:
    assert anchor_of(agent("a", tenant="t")) == Anchor(EntityKind.AGENT, "t", "a")


def test_timers_come_by_time_then_by_kind_then_by_number_and_each_once() -> None:
    timers = Timers()
    timers.set(None, What.ALERT, 0, "none")
    for due, what, number, name in (
        (2, What.ALERT, 0, "late"),
        (1, What.FORGET, 0, "incident"),
        (1, What.ALERT, 9, "a"),
        (1, What.ALERT, 3, "b"),
        (1, What.ALERT, 3, "b"),
    ):
        timers.set(due, what, number, name)
    assert timers.first() == 1
    assert [timers.take().name for _ in range(4)] == ["b", "a", "incident", "late"]
    assert timers.first() is None
