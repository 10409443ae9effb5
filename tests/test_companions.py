from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from load import companions, fleet, truth
from load.fleet import AGENTS, DAY_MS
from load.truth import HOUR_MS
from streams import schemas

ORIGIN = 1_700_000_000_000
FACTS = truth.load()
MINUTES = 24 * 60
FEW = [
    replace(agent, daily=min(agent.daily, 1_500))
    for agent in AGENTS
    if agent.name in {"document-intake", "customs-classification", "claims-triage"}
]
"""The agents that the troubles of companions are about, with few tasks."""


@cache
def tasks() -> fleet.Tasks:
    return fleet.generate(FACTS, 36, FEW)


@cache
def made() -> list[tuple[int, Any]]:
    return companions.records(tasks(), FACTS, ORIGIN)


@cache
def of(topic: str) -> list[tuple[int, dict[str, Any]]]:
    """Return (time, record) of a topic; of calls those of the integrations in trouble alone."""
    chosen = [(at, one) for at, one in made() if one.topic == topic]
    if topic == "calls":
        chosen = [(at, one) for at, one in chosen if b"tariff-db" in one.value]
    return [(at, schemas.decode(one.value)[1]) for at, one in chosen]


def case(what: str) -> dict[str, Any]:
    return next(one for one in FACTS.troubles if what in one)


def during(one: dict[str, Any], at: int) -> bool:
    return truth.start_ms(one) <= at < truth.end_ms(one)


def test_there_are_few_enough_of_each_for_a_short_demo() -> None:
    daily = {agent.name: agent.daily for agent in AGENTS}
    calls = sum(daily[name] * one.share for name, all_ in companions.CALLS.items() for one in all_)
    reviews = sum(daily[name] * share for name, share in companions.REVIEWED.items())

    assert 200_000 < calls * FACTS.days < 290_000
    assert 100 < reviews < 350


def test_each_agent_has_what_belongs_to_it() -> None:
    counts = companions.kinds(made())

    assert counts["queues"] == companions.QUEUE_DAYS * MINUTES
    assert counts["profiles"] == len(FEW)
    assert counts["changes"] == len(FACTS.changes)
    expected = sum(agent.daily * companions.CALLS[agent.name][0].share for agent in FEW)
    assert counts["calls"] / FACTS.days == pytest.approx(expected * 0.9, rel=0.1)


def test_they_are_in_the_order_of_time_and_end_with_the_data() -> None:
    times = [at for at, _ in made()]

    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < FACTS.days * DAY_MS


def test_the_same_seed_makes_the_same_records_and_another_others() -> None:
    few = fleet.generate(FACTS, 5, [replace(AGENTS[4], daily=40)])
    first, again, other = (companions.records(few, FACTS, ORIGIN, seed) for seed in (1, 1, 2))

    assert first == again
    assert first != other


def test_values_are_what_the_contract_encodes_and_keys_are_agents() -> None:
    few = fleet.generate(FACTS, 5, [replace(agent, daily=30) for agent in AGENTS[:5]])
    for at, one in companions.records(few, FACTS, ORIGIN):
        name, record = schemas.decode(one.value or b"")
        assert schemas.encode(name, record) == one.value
        assert one.key == record["agent_id"].encode()
        assert record["occurred_at"] == at + ORIGIN


def test_event_ids_are_unique_within_a_topic() -> None:
    for topic in ("reviews", "queues", "changes", "calls"):
        ids = Counter(record["event_id"] for _, record in of(topic))
        assert max(ids.values()) == 1


def test_calls_of_a_changed_api_fail_as_often_as_the_truth_says() -> None:
    trouble = case("errors")
    inside = [one for at, one in of("calls") if during(trouble, at)]
    usual = [one for at, one in of("calls") if not during(trouble, at)]

    def failed(records: list[dict[str, Any]]) -> float:
        return [one["outcome"] != "OK" for one in records].count(True) / len(records)

    assert failed(inside) == pytest.approx(trouble["errors"], abs=0.03)
    assert failed(usual) < 0.003
    assert {one["error_type"] for one in inside if one["outcome"] == "ERROR"} == {
        trouble["error_type"]
    }


def test_contract_tests_fail_during_the_trouble_alone() -> None:
    tests = [(at, one) for at, one in of("calls") if one["purpose"] == "CONTRACT_TEST"]
    wrong = [at for at, one in tests if one["outcome"] != "OK"]

    assert len(tests) == 4 * FACTS.days
    assert wrong
    assert all(during(case("errors"), at) for at in wrong)


def test_people_override_more_during_the_trouble_and_for_one_reason() -> None:
    trouble = case("overridden")
    mine = [(at, one) for at, one in of("reviews") if one["agent_id"] == trouble["agent"]]

    def overridden(chosen: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [one for one in chosen if one["verdict"] == "OVERRIDDEN"]

    inside = [one for at, one in mine if during(trouble, at)]
    before = [one for at, one in mine if at < truth.start_ms(trouble)]
    assert len(overridden(inside)) / len(inside) == pytest.approx(trouble["overridden"], abs=0.07)
    assert len(overridden(before)) / len(before) == pytest.approx(companions.OVERRIDDEN, abs=0.01)
    patterns = Counter((one["human_decision"], one["reason_code"]) for one in overridden(inside))
    assert patterns.most_common(1)[0][1] > len(overridden(inside)) / 2


def test_reviews_come_after_their_tasks_and_name_them() -> None:
    for _, one in of("reviews"):
        assert one["task_occurred_at"] < one["occurred_at"]
        assert one["task_event_id"]
        assert (one["verdict"] == "OVERRIDDEN") is (one["human_decision"] != one["agent_decision"])


def test_a_backlog_grows_and_is_worked_off() -> None:
    trouble = case("backlog")
    depth = {at: one["depth"] for at, one in of("queues")}
    start, end = truth.start_ms(trouble), truth.end_ms(trouble)

    assert depth[end - 60_000] == pytest.approx(119 * trouble["backlog"], rel=0.1)
    assert max(depth[at] for at in depth if at < start) < 200
    assert max(depth[at] for at in depth if at > end + HOUR_MS) < 200


def test_profiles_say_what_an_agent_depends_on_and_when_it_is_to_be_trained() -> None:
    schedule = FACTS.schedules[0]
    names = [schedule["agent"], "dispute-replies"]
    agents = [replace(agent, daily=20) for agent in AGENTS if agent.name in names]
    few = companions.records(fleet.generate(FACTS, 1, agents), FACTS, ORIGIN)
    told = [schemas.decode(one.value or b"")[1] for _, one in few if one.topic == "profiles"]
    profiles = {one["agent_id"]: one for one in told}
    mine = profiles[schedule["agent"]]

    assert mine["retraining_interval_days"] == schedule["interval_days"]
    due = mine["last_trained_at"] + schedule["interval_days"] * DAY_MS - ORIGIN
    assert due // DAY_MS == FACTS.days - 2
    assert profiles["dispute-replies"]["depends_on"] == ["crm", "mail"]


def test_changes_are_those_of_the_truth() -> None:
    said = [(at, one["agent_id"], one["from_version"]) for at, one in of("changes")]

    assert said == [(truth.start_ms(one), one["agent"], one["from"]) for one in FACTS.changes]
