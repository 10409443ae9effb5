from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from load import fleet, truth
from load.fleet import AGENTS, DAY_MS
from load.messages import Messages, encode
from streams import schemas

ORIGIN = 1_700_000_000_000
FEW = [replace(agent, daily=40) for agent in AGENTS[:3]]


@pytest.fixture(scope="module")
def tasks() -> fleet.Tasks:
    return fleet.generate(truth.load(), 5, FEW)


@pytest.fixture(scope="module")
def messages(tasks: fleet.Tasks) -> Messages:
    return Messages(tasks, truth.load(), ORIGIN)


def test_values_are_what_the_contract_encodes(tasks: fleet.Tasks) -> None:
    for row, value in enumerate(encode(tasks, slice(0, 200), ORIGIN)):
        name, record = schemas.decode(value)
        assert name == "TaskFinished"
        assert schemas.encode(name, record) == value
        assert record["occurred_at"] == tasks.occurred_at[row] + ORIGIN
        assert record["agent_id"] == FEW[tasks.agent[row]].name
        assert record["task_type"] in FEW[tasks.agent[row]].task_types
        assert record["cost_usd"] == tasks.cost_usd[row]
        assert record["error_type"] == tasks.runs[tasks.run[row]].error_type


def test_pieces_of_time_make_up_the_whole(messages: Messages) -> None:
    cuts = [0, 3 * DAY_MS, 30 * DAY_MS, messages.end_ms + 1]
    pieces = sum(
        len(chunk) for low, high in pairwise(cuts) for chunk in messages.between(low, high)
    )

    assert pieces == len(messages)


def test_every_kind_of_corrupt_record_is_there_as_often_as_the_truth_says(
    messages: Messages,
) -> None:
    found: Counter[str] = Counter()
    for chunk in messages.between(0, messages.end_ms + 1):
        for one in chunk:
            if one.topic == "tasks":
                found[kind_of(one.key, one.value, stray=one.stray)] += 1

    del found["good"]
    assert found == truth.load().dead_letters


def kind_of(key: bytes | None, value: bytes | None, *, stray: bool) -> str:  # noqa: PLR0911
    """Return the first reason to refuse a record, written without the service's code."""
    if value is None:
        return "NULL_VALUE"
    try:
        name, record = schemas.decode(value)
    except schemas.DecodeError as error:
        return str(error.reason)
    if name != "TaskFinished":
        return "WRONG_SCHEMA"
    if record["cost_usd"] < 0:
        return "INVALID_FIELD"
    if key is None:
        return "KEY_MISSING"
    if key.decode() != record["agent_id"]:
        return "KEY_MISMATCH"
    if stray:
        return "STRAY_PARTITION"
    days = (record["occurred_at"] - ORIGIN) / DAY_MS
    return "FUTURE" if days > 36 else "TOO_LATE" if days < 0 else "good"


def test_a_reason_no_record_is_made_for_is_an_error(tasks: fleet.Tasks) -> None:
    facts = replace(truth.load(), dead_letters={"SERIES_LIMIT": 1})

    with pytest.raises(ValueError, match="SERIES_LIMIT: the demo makes no such record"):
        Messages(tasks, facts, ORIGIN)
