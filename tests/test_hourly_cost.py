"""The cost of agents by hour is what the panes say, whatever comes late."""

from __future__ import annotations

import numpy as np

from streams.durations import DAY, HOUR
from streams.hourly_cost import REACH, HourlyCost
from streams.series import Agent
from tests.cost_rig import CLAIMS, START, Fleet, Work

OTHER = Agent("north", "claims")
NOW = START + 31 * DAY


def test_an_agent_spent_what_its_task_series_did() -> None:
    fleet = Fleet([(CLAIMS, "invoice", "m"), (OTHER, "invoice", "m"), (CLAIMS, "booking", "m")])
    fleet.work(0, (NOW - 2 * HOUR, NOW), 1, Work(100))
    fleet.work(2, (NOW - HOUR, NOW), 1, Work(7))
    cost = HourlyCost(fleet.series, fleet.hours)

    found = cost.at(NOW, [0, 1])

    assert found.shape == (2, REACH)
    assert found[0, -3:].tolist() == [0, 100, 107]
    assert not found[1].any()
    assert cost.rows(0) == [0, 2]


def test_cost_moved_on_by_the_hour_is_that_of_a_fresh_start() -> None:
    random = np.random.default_rng(3)
    fleet = Fleet([(CLAIMS, "invoice", "m"), (OTHER, "invoice", "m")])
    fleet.work(0, (START, NOW), 2)
    cost, tick = HourlyCost(fleet.series, fleet.hours), NOW
    for step in range(40):
        tick += int(random.choice([1, 1, 1, 2, 40])) * HOUR
        fleet.work(step % 2, (tick - 4 * HOUR, tick), 1, Work(int(random.integers(1, 9))))
        if step % 7 == 3:
            fleet.work(1, (tick - 20 * DAY, tick - 19 * DAY), 1)
        if step == 20:
            fleet.work(fleet.join(OTHER, "booking", "m"), (tick - 9 * HOUR, tick), 1)
        agents = [0, 1] if step % 5 else [1]

        found = cost.at(tick, agents)

        fresh = HourlyCost(fleet.series, fleet.hours)
        assert found.tolist() == fresh.at(tick, agents).tolist(), step
        fleet.hours.late.pop()
        fleet.hours.expire((tick - 36 * DAY) // DAY * DAY)
    cost.forget([1], [1])
    assert cost.at(tick, []).shape == (0, REACH)
