"""Alert records of pages: what they show, and that they stay bounded."""

from __future__ import annotations

from streams.grouping import MAX_AFFECTED
from tests.incident_rig import Rig, agent, integration, pages


def test_a_page_names_its_runbook() -> None:
    rig = Rig(runbook_base="https://runbooks.example/")
    rig.play(agent("a"))
    assert rig.until(50)[0].runbook_url == "https://runbooks.example/error-rate"


def test_a_page_names_a_bounded_number_of_agents() -> None:
    rig = Rig()
    rig.play(*(agent(f"agent-{number}") for number in range(MAX_AFFECTED + 5)), integration(at=1))
    (page,) = pages(rig.until(50))
    assert len(page.affected) == MAX_AFFECTED


def test_records_between_findings_name_the_newest_finding_of_their_alert() -> None:
    rig = Rig()
    news = agent("a", "UPDATED", since=0, at=3)
    rig.play(agent("a"), news)
    assert [one.members for one in rig.until(50)] == [[news.finding_id]]


def test_only_the_page_of_an_incident_says_who_acknowledged_it() -> None:
    rig = Rig()
    rig.play(integration(), agent("a", at=1))
    rig.until(50)
    assert {one.acknowledged_by for one in rig.alerts} == {None}


def test_each_record_says_which_rules_fired_in_its_incident() -> None:
    rig = Rig()
    rig.play(agent("a"), agent("a", rule="drift", at=1))
    assert rig.until(50)[0].signals == ["error-rate", "drift"]
