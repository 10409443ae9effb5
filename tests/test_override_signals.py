"""Reviews as a signal: counted by agent and hour of the clock."""

from __future__ import annotations

import numpy as np

from streams import state
from streams.durations import DAY, HOUR
from streams.override_signals import OverrideSignals
from streams.rules import RuleSet
from streams.series import Agent

RULE = RuleSet.default().drift
START = 20_000 * DAY
A, B = Agent(None, "a"), Agent("acme", "b")


def reviewed() -> OverrideSignals:
    one = OverrideSignals(RULE)
    for hour in range(10):
        one.note(A, START + hour * HOUR, overridden=hour < 3)
    one.note(B, START, overridden=True)
    return one


def test_the_rate_is_that_of_the_reviews_of_a_bin() -> None:
    found = reviewed().values(np.array([0, 1]), START + DAY, [])

    assert found[0].tolist() == [0.3]
    assert np.isnan(found[1]).all()  # too few


def test_the_volume_is_reviews_a_day_over_a_week() -> None:
    assert reviewed().volume(0, START + DAY) == (10 / 7, 0.0)


def test_hours_out_of_reach_are_forgotten_with_their_state() -> None:
    one = reviewed()
    list(one.changes())
    one.hour(START + 30 * DAY)

    assert [value for _, value in one.changes()] == [None] * 10


def test_agents_past_the_bound_are_not_counted() -> None:
    one = OverrideSignals(RULE, bound=1)
    one.note(A, START, overridden=True)
    one.note(B, START, overridden=True)

    assert (list(one.agents.values()), one.refused) == ([A], 1)


def test_it_is_the_same_after_a_restart() -> None:
    whole = reviewed()
    parted = OverrideSignals(RULE)
    for stored in state.decode([(key, value) for key, value in whole.changes() if value]):
        assert parted.restore(stored)
    parted.settle()

    assert list(parted.changes()) == []
    assert parted.agents == whole.agents
    rows = np.array([0, 1])
    for tick in (START + DAY, START + 2 * DAY):
        first, second = (one.values(rows, tick, []) for one in (whole, parted))
        np.testing.assert_array_equal(first, second)
        assert whole.pending(tick) == parted.pending(tick)
