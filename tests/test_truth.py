from __future__ import annotations

from typing import Any

import pytest

from load import truth
from load.fleet import AGENTS

ORIGIN = 1_700_000_000_000
FACTS = truth.load()


def lives() -> list[list[dict[str, Any]]]:
    """Return the alert records of a run that is as the truth says."""
    found = []
    for one in FACTS.expected:
        start = ORIGIN + one.start_ms
        record = {
            "alert_id": f"{one.fingerprint}-{start}",
            "status": "FIRING",
            "rule": one.rule,
            "entity_id": one.agent,
            "page": one.page,
            "starts_at": start,
            "updated_at": start + 1,
        }
        found.append([record, record | {"status": "RESOLVED", "updated_at": start + 60_000}])
    return found


def judged(changed: list[list[dict[str, Any]]]) -> truth.Verdict:
    return truth.compare(FACTS, [record for life in changed for record in life], ORIGIN)


def test_a_run_as_the_truth_says_has_nothing_wrong() -> None:
    verdict = judged(lives())

    assert verdict.wrong == []
    assert verdict.waiting == 0
    assert len(verdict.found) == len(FACTS.expected)


@pytest.mark.parametrize("which", range(len(FACTS.expected)))
def test_a_missing_alert_is_wrong(which: int) -> None:
    some = lives()
    del some[which]

    verdict = judged(some)

    assert verdict.waiting == 1
    assert [words.split(":")[0] for words in verdict.wrong] == ["missing"]


@pytest.mark.parametrize("which", range(len(FACTS.expected)))
def test_an_unresolved_alert_is_wrong(which: int) -> None:
    some = lives()
    some[which].pop()

    verdict = judged(some)

    assert verdict.waiting == 1
    assert [words.split(":")[0] for words in verdict.wrong] == ["unresolved"]


def test_an_extra_alert_is_wrong_even_without_a_page() -> None:
    extra = [record | {"alert_id": "f00d-1", "page": False} for record in lives()[0]]

    assert judged([*lives(), extra]).wrong == [
        f"extra: {extra[0]['rule']} of {extra[0]['entity_id']}, no page, f00d-1"
    ]


def test_a_second_alert_of_the_same_rule_and_agent_is_extra() -> None:
    some = lives()
    again = [
        record | {"alert_id": record["alert_id"] + "9", "starts_at": record["starts_at"] + 1}
        for record in some[0]
    ]

    assert [words.split(":")[0] for words in judged([*some, again]).wrong] == ["extra"]


@pytest.mark.parametrize(
    ("record", "change", "words"),
    [
        (1, {"updated_at": ORIGIN + 99 * truth.HOUR_MS * 24}, "resolved late"),
        (0, {"updated_at": ORIGIN + 99 * truth.HOUR_MS * 24}, "fired late"),
        (0, {"page": "neither"}, "page is not"),
        (1, {"status": "FIRING"}, "odd order"),
    ],
)
def test_late_paging_or_repeated_alerts_are_wrong(
    record: int, change: dict[str, Any], words: str
) -> None:
    some = lives()
    some[0][record] |= change

    assert words in "; ".join(judged(some).wrong)


def test_the_truth_is_about_agents_of_the_fleet_and_days_31_to_35() -> None:
    names = {agent.name for agent in AGENTS}
    assert {one.agent for one in FACTS.expected} <= names
    for case in FACTS.troubles:
        assert case["agent"] in names
        assert 31 <= case["day"] <= 35
        assert truth.start_ms(case) == ((case["day"] - 1) * 24 + case["hour"]) * truth.HOUR_MS
    assert all(one.resolved_by_ms < FACTS.days * 24 * truth.HOUR_MS for one in FACTS.expected)


def test_a_fingerprint_names_rule_and_entity() -> None:
    # First 16 hex digits of sha256("error-rate|AGENT||document-intake|").
    error_rate = next(one for one in FACTS.expected if one.agent == "document-intake")

    assert error_rate.fingerprint == "2434f507e5350ff5"
