"""What comes together: an integration and the agents that call it, and nothing further."""

from __future__ import annotations

from random import Random

import pytest

from streams.reasons import Severity
from tests.incident_rig import Rig, agent, finding, integration, pages, told

DAY = 86_400


def storm(seed: int, agents: int = 100, seconds: float = 90) -> Rig:
    """Play agents that fail in any order and the integration behind them, until all is over."""
    random, rig = Random(seed), Rig()
    starts = {f"agent-{number}": random.uniform(0, seconds) for number in range(agents)}
    begun = [agent(who, at=at, evidence_partition=len(who) % 4) for who, at in starts.items()]
    begun.append(integration(at=seconds + 5))
    # Partitions run at their own pace: findings stand up to half a minute away from their place.
    begun.sort(key=lambda one: one.at + random.uniform(0, 30_000))
    over = [
        agent(who, "RESOLVED", since=at, at=3000 + random.uniform(0, 400))
        for who, at in starts.items()
    ]
    over.append(integration("RESOLVED", since=seconds + 5, at=3000 + random.uniform(0, 400)))
    rig.play(*begun)
    rig.until(2000)
    rig.play(*sorted(over, key=lambda one: one.at))
    rig.until(10_000)
    return rig


@pytest.mark.parametrize("seed", range(6))
def test_a_storm_is_one_page_with_all_agents_on_it_and_one_resolve(seed: int) -> None:
    rig = storm(seed)
    (page,) = pages(rig.alerts)
    ours = [one for one in rig.alerts if one.alert_id == page.alert_id]
    assert len(ours[-1].affected) == 100
    assert told(ours[-1:])[0].endswith("page")
    assert [str(one.status) for one in ours].count("RESOLVED") == 1
    withheld = {one.entity_id for one in rig.alerts if one.status == "WITHHELD" and one.caused_by}
    assert withheld | {page.entity_id} >= {f"agent-{number}" for number in range(100)}


@pytest.mark.parametrize("lonely", [46, 80])
def test_the_page_of_the_first_agent_becomes_that_of_the_integration(lonely: float) -> None:
    rig = Rig()
    rig.play(agent("first", at=0))
    rig.play(*(agent(f"agent-{number}", at=lonely) for number in range(5)))
    found = rig.play(integration(at=lonely + 30))
    (page,) = pages(rig.alerts)
    assert page.entity_id == "first"
    news = next(one for one in found if one.reason == "ROOT_FOUND" and one.entity_id == "first")
    assert (news.status, news.page, len(news.affected)) == ("UPDATED", False, 6)
    root = next(one for one in found if one.entity_id == "ledger")
    assert (root.status, root.reason, root.caused_by) == ("WITHHELD", "ROOT_FOUND", page.alert_id)
    assert news.caused_by == root.alert_id
    rig.play(agent("late", at=300))
    rig.until(DAY / 2)
    assert len(pages(rig.alerts)) == 1


def test_a_page_of_long_ago_is_not_that_of_the_integration() -> None:
    rig = Rig()
    rig.play(agent("first", at=0), integration(at=3700))
    rig.until(4000)
    assert [one.entity_id for one in pages(rig.alerts)] == ["first", "ledger"]


def test_three_agents_of_one_integration_are_held_until_the_storm_window_is_over() -> None:
    rig = Rig()
    rig.play(*(agent(f"agent-{number}", at=number) for number in range(3)))
    rig.until(200)
    assert pages(rig.alerts) == []
    assert told(rig.alerts[3:]) == [f"agent-{number} WITHHELD GROUPED" for number in range(3)]
    rig.until(400)
    assert [(one.updated_at - one.starts_at, one.reason) for one in pages(rig.alerts)] == [
        (300_000, "RELEASED")
    ] * 3


def test_agents_of_different_integrations_or_tenants_are_not_held() -> None:
    rig = Rig()
    rig.play(agent("a"), agent("b", integrations=("mail",)), agent("c", tenant="acme"))
    rig.until(60)
    assert len(pages(rig.alerts)) == 3


def test_a_pending_integration_holds_its_agents_no_longer_than_the_window() -> None:
    rig = Rig()
    rig.play(integration("PENDING", at=0), agent("a", at=10))
    rig.until(100)
    assert pages(rig.alerts) == []
    rig.until(310)
    assert [one.reason for one in pages(rig.alerts)] == ["RELEASED"]


def test_a_cancelled_integration_holds_nobody() -> None:
    rig = Rig()
    rig.play(
        integration("PENDING", at=0), integration("CANCELLED", since=0, at=5), agent("a", at=6)
    )
    rig.until(60)
    assert [one.reason for one in pages(rig.alerts)] == ["GROUP_WAIT"]


def test_while_an_integration_is_open_its_agents_do_not_page() -> None:
    rig = Rig()
    (root,) = rig.play(integration(at=0))
    rig.until(100)
    withheld, news = rig.play(agent("a", at=7200))
    assert (withheld.status, withheld.reason) == ("WITHHELD", "INHIBITED")
    assert (withheld.caused_by, withheld.incident_id) == (root.alert_id, root.incident_id)
    assert told([news]) == ["ledger UPDATED SIGNAL_JOINED"]
    assert (news.affected, news.signals) == (["a"], ["integration-errors", "error-rate"])
    rig.play(agent("b", at=7300))
    assert [one.affected for one in rig.until(7345)] == [["a", "b"]]


def test_what_outlasts_its_cause_by_a_quarter_of_an_hour_pages_by_itself() -> None:
    rig = Rig()
    rig.play(integration(at=0), agent("a", at=100), agent("b", at=100))
    over = rig.play(integration("RESOLVED", since=0, at=1000))
    assert told(over[-1:]) == ["ledger UPDATED CLEAR_ELAPSED"]
    assert told(rig.play(agent("b", "RESOLVED", since=100, at=1100))) == [
        "b RESOLVED CLEAR_ELAPSED"
    ]
    assert rig.until(1899) == []
    released = rig.until(1900)
    assert told(released) == ["a FIRING RELEASED page", "ledger RESOLVED INCIDENT_CLOSED page"]
    assert released[0].incident_id != released[1].incident_id


def test_what_follows_a_cause_within_a_day_pages_only_if_it_stays() -> None:
    rig = Rig()
    rig.play(integration(at=0), integration("RESOLVED", since=0, at=600))
    short = rig.play(agent("a", at=7200), agent("a", "RESOLVED", since=7200, at=7500))
    assert told(short) == ["a WITHHELD GROUPED", "a RESOLVED CLEAR_ELAPSED"]
    rig.play(agent("b", at=8000))
    assert told(rig.until(8900)) == ["b FIRING RELEASED page"]


def test_after_a_day_nothing_of_a_cause_is_left() -> None:
    rig = Rig()
    rig.play(integration(at=0), integration("RESOLVED", since=0, at=600), agent("a", at=700 + DAY))
    assert told(rig.until(745 + DAY)) == ["a UPDATED GROUP_WAIT page"]


def test_two_integrations_never_meet() -> None:
    rig = Rig()
    rig.play(integration(at=0), agent("a", at=1, integrations=("ledger", "mail")))
    rig.play(integration(who="mail", at=2), agent("b", at=3, integrations=("mail",)))
    rig.until(100)
    ledger, mail = pages(rig.alerts)
    assert (ledger.affected, mail.affected) == (["a"], ["b"])
    assert ledger.incident_id != mail.incident_id


def test_the_findings_of_an_agent_are_one_incident() -> None:
    rig = Rig()
    rig.play(agent("a", at=0))
    (first,) = rig.until(50)
    news = rig.play(agent("a", rule="drift", at=60))
    assert told(news) == ["a WITHHELD GROUPED", "a UPDATED SIGNAL_JOINED"]
    assert news[0].caused_by == first.alert_id
    assert news[1].signals == ["error-rate", "drift"]
    rig.play(agent("a", "RESOLVED", since=0, at=100))
    over = rig.play(agent("a", "RESOLVED", rule="drift", since=60, at=200))
    assert told(over) == ["a RESOLVED CLEAR_ELAPSED", "a RESOLVED INCIDENT_CLOSED page"]


def test_rules_that_no_integration_is_behind_page_by_themselves() -> None:
    rig = Rig()
    rig.play(integration(at=0), agent("a", rule="drift", at=1))
    assert "a UPDATED GROUP_WAIT page" in told(rig.until(60))


def test_a_critical_integration_pages_at_once_even_if_an_agent_has_paged() -> None:
    rig = Rig()
    rig.play(agent("a", at=0))
    rig.until(50)
    found = rig.play(integration(at=60, severity=Severity.CRITICAL))
    assert told(found) == ["ledger FIRING AT_ONCE page", "a UPDATED ROOT_FOUND"]


def test_an_integration_that_pages_nobody_withholds_nothing() -> None:
    rig = Rig()
    rig.play(integration(at=0, page=False), agent("a", at=1))
    assert "a UPDATED GROUP_WAIT page" in told(rig.until(60))


def test_silent_agents_show_on_the_page_of_their_late_source() -> None:
    rig = Rig()
    late = finding("3", "silence", kind="SOURCE_LATE", entity_kind="PARTITION", at=5)
    for number in range(4):
        rig.play(finding(f"a{number}", "silence", kind="AGENT_IDLE", evidence_partition=3))
    rig.play(finding("other", "silence", kind="AGENT_IDLE", evidence_partition=2), late)
    rig.until(100)
    assert [(one.entity_id, len(one.affected)) for one in pages(rig.alerts)] == [
        ("other", 1),
        ("3", 4),
    ]


def test_many_agents_on_an_open_page_are_told_at_once_in_a_while() -> None:
    rig = Rig()
    rig.play(integration(at=0))
    rig.until(100)
    rig.play(agent("first", at=100))
    made = rig.play(*(agent(f"agent-{number}", at=110) for number in range(50)))
    assert {one.status for one in made} == {"WITHHELD"}
    (news,) = [one for one in rig.until(200) if one.entity_id == "ledger"]
    assert len(news.affected) == 51
