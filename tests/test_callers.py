"""Which integrations an agent called in the last day, and in which order they are named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from streams import state
from streams.callers import BOUND, MOST, Callers
from streams.columns import CallColumns, DictColumn
from streams.durations import DAY, HOUR
from streams.series import Agent

if TYPE_CHECKING:
    from collections.abc import Sequence

START = 490_000 * HOUR
A, B = Agent(None, "a"), Agent("t", "a")

Call = tuple[int, Agent, str]


def columns(calls: Sequence[Call], tests: Sequence[bool] = ()) -> CallColumns:
    n = len(calls)
    none = np.zeros(n, np.int64)
    return CallColumns(
        occurred_at=np.array([at for at, _, _ in calls], np.int64),
        outcome=np.zeros(n, np.int8),
        timeout=np.zeros(n, np.bool_),
        duration_us=none,
        attempts=none,
        contract_test=np.array(tests or [False] * n, np.bool_),
        tenant=DictColumn.of([agent.tenant for _, agent, _ in calls]),
        agent=DictColumn.of([agent.agent_id for _, agent, _ in calls]),
        integration=DictColumn.of([name for _, _, name in calls]),
        operation=DictColumn.of(["get"] * n),
        error_type=DictColumn.of([None] * n),
    )


def called(*calls: Call) -> Callers:
    callers = Callers(100)
    callers.add(columns(calls), max(at for at, _, _ in calls))
    return callers


def test_the_most_used_come_first_then_by_name() -> None:
    names = ["crm", "mail", "mail", "bank", "erp", "erp"]
    callers = called(*((START, A, name) for name in names), (START, B, "other"))
    assert callers.integrations_of(A, START + HOUR) == ("erp", "mail", "bank", "crm")
    assert callers.integrations_of(B, START + HOUR) == ("other",)


def test_what_the_profile_names_comes_before_all_once() -> None:
    callers = called((START, A, "crm"), (START, A, "mail"))
    found = callers.integrations_of(A, START + HOUR, ["ledger", "mail"])
    assert found == ("ledger", "mail", "crm")
    assert callers.integrations_of(Agent(None, "new"), START, ["x"]) == ("x",)


def test_calls_of_the_24_whole_hours_before_count() -> None:
    times = {"old": START - HOUR, "first": START, "last": START + 23 * HOUR, "new": START + DAY}
    callers = called(*((at, A, name) for name, at in times.items()))
    assert callers.integrations_of(A, START + DAY + 59) == ("first", "last")


def test_contract_tests_do_not_count() -> None:
    callers = Callers(100)
    callers.add(columns([(START, A, "crm"), (START, A, "mail")], [True, False]), START)
    assert callers.integrations_of(A, START + HOUR) == ("mail",)


def test_no_more_than_32_are_named_and_64_counted() -> None:
    callers = called(*((START, A, f"i{n:03}") for n in range(BOUND + 5)))
    callers.add(columns([(START, A, f"i{BOUND:03}")] * 9), START)
    found = callers.integrations_of(A, START + HOUR)
    assert found == tuple(f"i{n:03}" for n in range(MOST))


def test_agents_past_the_bound_are_not_counted() -> None:
    callers = Callers(1)
    callers.add(columns([(START, A, "crm"), (START, B, "crm")]), START)
    assert callers.integrations_of(B, START) == ()


@pytest.mark.parametrize("seed", range(3))
def test_neither_batches_nor_restarts_make_a_difference(seed: int) -> None:
    chance = np.random.default_rng(seed)
    whole, cut = Callers(3), Callers(3)
    agents = [Agent(None, f"a{n}") for n in range(5)]
    stored: dict[bytes, bytes] = {}
    now = START
    for _ in range(25):
        now += int(chance.choice([1_000, HOUR, 9 * HOUR]))
        calls = [
            (now - int(chance.choice([0, HOUR])), agents[int(chance.integers(5))], str(name))
            for name in chance.integers(0, 90, 40)
        ]
        whole.add(columns(calls), now)
        for start in range(0, 40, 7):
            cut.add(columns(calls[start : start + 7]), now)
        for key, value in cut.changes():
            if value is None:
                del stored[key]
            else:
                stored[key] = value
        cut = Callers(3)
        assert all(cut.restore(one) for one in state.decode(stored.items()))
        cut.settle()
        assert list(cut.changes()) == []
        for agent in agents:
            assert cut.integrations_of(agent, now) == whole.integrations_of(agent, now)
    assert len(stored) < 150
