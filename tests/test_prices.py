"""At constant price only tokens and models move the cost of a window, not a price list."""

from __future__ import annotations

import numpy as np
import pytest

from streams.decomposition import Cells
from streams.durations import DAY
from streams.prices import AGENT_MIX, explain, explained, priced
from tests.cost_rig import CLAIMS, RULES, START, Fleet, Work

NOW = START + 36 * DAY
DAY_PLACE = 0  # of the windows: 24 h


def constant(fleet: Fleet) -> list[float]:
    """Return the cost of the last day of each row at constant price."""
    sums = fleet.sums()
    found = priced(sums.at(NOW), sums.windows, sums.layout, RULES.cost.weights)
    return [float(one) for one in found.cost[:, DAY_PLACE, 0]]


def test_a_dearer_price_list_does_not_count() -> None:
    fleet = Fleet([(CLAIMS, "invoice", "m")])
    fleet.work(0, (START, NOW - DAY), 10, Work(1000, 2.0))
    fleet.work(0, (NOW - DAY, NOW), 10, Work(1500, 3.0))

    assert constant(fleet) == [240 * 1500 * 2.0]


def test_the_price_of_a_model_is_one_for_all_task_types_of_an_agent() -> None:
    fleet = Fleet([(CLAIMS, "booking", "m"), (CLAIMS, "invoice", "m")])
    fleet.work(0, (START, NOW), 10, Work(1000, 1.0))
    fleet.work(1, (START, NOW), 10, Work(1000, 3.0))

    assert constant(fleet) == [480_000.0, 480_000.0]


def test_a_model_without_a_past_counts_at_its_own_price() -> None:
    fleet = Fleet([(CLAIMS, "invoice", "m"), (CLAIMS, "invoice", "new")])
    fleet.work(0, (START, NOW - DAY), 10)
    fleet.work(1, (NOW - DAY, NOW), 10, Work(1000, 7.0))

    assert constant(fleet) == [0.0, 240 * 7000.0]


def test_tasks_without_tokens_count_at_their_cost() -> None:
    sums = np.array([[240 * 9], [0], [0], [0], [0], [240]])
    silent = Fleet([(CLAIMS, "invoice", None)])
    silent.work(0, (START, NOW - DAY), 10)
    silent.add([0], [NOW - DAY], [240], sums)

    assert constant(silent) == [240 * 9.0]


def test_a_change_is_explained_in_dollars_against_the_mean_of_the_weeks() -> None:
    fleet = Fleet([(CLAIMS, "invoice", "m")])
    fleet.work(0, (START, NOW - DAY), 100, Work(10_000, 1.0))
    fleet.work(0, (NOW - DAY, NOW), 200, Work(10_000, 1.0))
    sums = fleet.sums()
    found = priced(sums.at(NOW), sums.windows, sums.layout, RULES.cost.weights)

    why = explained(found, slice(0, 1), DAY_PLACE, np.array([True, True, False, True]), AGENT_MIX)

    assert why.numbers["volume_usd"] == pytest.approx(24.0)
    assert why.numbers["total_usd"] == pytest.approx(24.0)
    assert why.text == (f"+100 %: volume +100 %, tokens per task 0 %, {AGENT_MIX} 0 %, price 0 %")


def test_without_a_past_nothing_is_explained() -> None:
    fleet = Fleet([(CLAIMS, "invoice", "m")])
    fleet.work(0, (NOW - DAY, NOW))
    sums = fleet.sums()
    found = priced(sums.at(NOW), sums.windows, sums.layout, RULES.cost.weights)

    assert explained(found, slice(0, 1), 0, np.zeros(4, np.bool_), "mix") == ({}, None)
    nothing = Cells(*np.zeros((3, 1)))
    assert explain(nothing, nothing, "mix").text is None
