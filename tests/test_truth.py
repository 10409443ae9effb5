from __future__ import annotations

from typing import Any

import pytest

from load import companions, truth
from load.fleet import AGENTS

ORIGIN = 1_700_000_000_000
FACTS = truth.load()
ENDING = [n for n, one in enumerate(FACTS.expected) if one.resolved_by_ms is not None]


def lives() -> list[list[dict[str, Any]]]:
    """Return the alert records of a run that is as the truth says."""
    found = []
    for one in FACTS.expected:
        start = ORIGIN + one.start_ms
        record = {
            "alert_id": f"{one.fingerprint}-{start}",
            "status": "FIRING",
            "rule": one.mark.rule,
            "entity_kind": one.mark.entity_kind,
            "entity_id": one.mark.entity,
            "page": bool(one.page),
            "change_ref": one.change_ref,
            "starts_at": start,
            "updated_at": start + 1,
        }
        found.append([record, record | {"status": "RESOLVED", "updated_at": start + 60_000}])
    return found


def requests() -> list[dict[str, Any]]:
    """Return the retraining requests of a run that is as the truth says."""
    return [
        {
            "request_id": f"request-{number}",
            "agent_id": one.agent,
            "cause": one.cause,
            "signal": one.signal or "any",
            "signals": [one.signal or "any"],
            "updated_at": ORIGIN + one.start_ms,
        }
        for number, one in enumerate(FACTS.requests)
    ]


def judged(
    changed: list[list[dict[str, Any]]], asked: list[dict[str, Any]] | None = None
) -> truth.Verdict:
    records = [record for life in changed for record in life]
    return truth.compare(FACTS, records, ORIGIN, requests() if asked is None else asked)


def test_a_run_as_the_truth_says_has_nothing_wrong() -> None:
    verdict = judged(lives())

    assert verdict.wrong == []
    assert verdict.waiting == 0
    assert len(verdict.found) == len(FACTS.expected) + len(FACTS.requests)


@pytest.mark.parametrize("which", range(len(FACTS.expected)))
def test_a_missing_alert_is_wrong(which: int) -> None:
    some = lives()
    del some[which]

    verdict = judged(some)

    assert verdict.waiting == 1
    assert [words.split(":")[0] for words in verdict.wrong] == ["missing"]


@pytest.mark.parametrize("which", ENDING)
def test_an_unresolved_alert_is_wrong(which: int) -> None:
    some = lives()
    some[which].pop()

    verdict = judged(some)

    assert verdict.waiting == 1
    assert [words.split(":")[0] for words in verdict.wrong] == ["unresolved"]


def test_an_alert_of_a_trouble_that_goes_on_may_be_open_at_the_end() -> None:
    some = lives()
    lasting = set(range(len(some))) - set(ENDING)
    for which in lasting:
        some[which].pop()

    assert lasting
    assert judged(some).wrong == []
    assert judged(some).waiting == 0


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


def further(**changed: Any) -> list[dict[str, Any]]:
    """Return the records of an alert that the truth allows beside the expected ones."""
    one = FACTS.allowed[0]
    record = lives()[0][0] | {
        "alert_id": "cafe-1",
        "rule": one.rule,
        "entity_kind": one.entity_kind,
        "entity_id": one.entity,
        "page": False,
        "starts_at": ORIGIN + one.start_ms,
    }
    return [record | changed]


def test_a_further_sign_of_a_trouble_is_allowed_as_long_as_it_calls_nobody() -> None:
    quiet = judged([*lives(), further(status="WITHHELD")])
    loud = judged([*lives(), further(page=True)])

    assert (quiet.wrong, quiet.also, quiet.withheld) == ([], 1, 1)
    assert [words.split(":")[0] for words in loud.wrong] == ["extra"]
    assert loud.wrong[0].endswith("it paged")


@pytest.mark.parametrize("change", [{"entity_id": "other"}, {"starts_at": ORIGIN}])
def test_what_is_allowed_is_so_for_its_entity_and_time(change: dict[str, Any]) -> None:
    wrong = judged([*lives(), further(**change)]).wrong

    assert [words.split(":")[0] for words in wrong] == ["extra"]


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
    some[ENDING[0]][record] |= change

    assert words in "; ".join(judged(some).wrong)


def test_a_page_is_known_by_any_record_of_its_alert() -> None:
    some = lives()
    paging = next(n for n, one in enumerate(FACTS.expected) if one.page)
    first, last = some[paging]
    some[paging] = [first | {"page": False}, first | {"status": "UPDATED"}, last]

    assert judged(some).wrong == []


def test_a_page_that_was_withheld_is_explained_and_one_that_is_missing_is_not() -> None:
    some = lives()
    paging = next(n for n, one in enumerate(FACTS.expected) if one.page)
    first, last = (record | {"page": False} for record in some[paging])
    some[paging] = [first, last]
    assert "page is not True" in "; ".join(judged(some).wrong)

    some[paging] = [first, first | {"status": "WITHHELD", "reason": "GROUP_WAIT"}, last]

    assert judged(some).wrong == []


@pytest.mark.parametrize("page", [True, False])
def test_of_alerts_on_one_page_any_may_have_it(page: bool) -> None:
    some = lives()
    which = next(n for n, one in enumerate(FACTS.expected) if one.page is None)
    some[which] = [record | {"page": page} for record in some[which]]

    assert judged(some).wrong == []


def test_an_alert_must_name_the_change_before_it() -> None:
    some = lives()
    which = next(n for n, one in enumerate(FACTS.expected) if one.change_ref)
    some[which][0]["change_ref"] = f"9 min after {FACTS.expected[which].change_ref}"
    assert judged(some).wrong == []

    some[which][0]["change_ref"] = None

    assert "names as change None" in "; ".join(judged(some).wrong)


@pytest.mark.parametrize("which", range(len(FACTS.requests)))
def test_a_missing_request_is_wrong(which: int) -> None:
    some = requests()
    del some[which]

    verdict = judged(lives(), some)

    assert verdict.waiting == 1
    assert [words.split(":")[0] for words in verdict.wrong] == ["missing"]


@pytest.mark.parametrize(
    "change", [{"agent_id": "other"}, {"cause": "MODEL_UPDATE"}, {"updated_at": ORIGIN - 1}]
)
def test_a_request_for_another_reason_is_extra(change: dict[str, Any]) -> None:
    some = requests()
    some[0] |= change

    kinds = [words.split(":")[0] for words in judged(lives(), some).wrong]

    assert kinds == ["missing", "extra"]


def test_the_truth_is_about_agents_of_the_fleet_and_days_31_to_35() -> None:
    names = {agent.name for agent in AGENTS}
    called = {one.integration for calls in companions.CALLS.values() for one in calls}
    for one in FACTS.expected:
        known = {"AGENT": names, "INTEGRATION": called}.get(one.mark.entity_kind)
        assert known is None or one.mark.entity in known
    for case in FACTS.troubles:
        assert case["agent"] in names if "agent" in case else case["integration"] in called
        assert 31 <= case["day"] <= 35
        assert truth.start_ms(case) == ((case["day"] - 1) * 24 + case["hour"]) * truth.HOUR_MS
    end = FACTS.days * 24 * truth.HOUR_MS
    assert all(FACTS.expected[which].resolved_by_ms < end for which in ENDING)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("mark", "digest"),
    [
        # First 16 hex digits of sha256("error-rate|AGENT||document-intake|").
        (truth.Mark("error-rate", "document-intake"), "2434f507e5350ff5"),
        # The same of "contract-test|INTEGRATION||tariff-db|lookup\x1fFAILED".
        (
            truth.Mark("contract-test", "tariff-db", "INTEGRATION", ("lookup", "FAILED")),
            "ee2842c760279a72",
        ),
    ],
)
def test_a_fingerprint_names_rule_and_entity(mark: truth.Mark, digest: str) -> None:
    assert mark.fingerprint == digest
