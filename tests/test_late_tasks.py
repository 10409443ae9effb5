from __future__ import annotations

import numpy as np

from streams.columns import AUTOMATED, BINS, ESCALATED, FAILED
from streams.durations import DAY, HOUR, MINUTE
from streams.late_tasks import ClosedTasks, LateTasks
from streams.layout import TASKS
from streams.ledger import Batch, Ledger
from streams.series import Agent
from tests.review_rig import MONDAY

AGENT = Agent(None, "claims-agent")
HOUR_NUMBER, DAY_NUMBER = MONDAY // HOUR, MONDAY // DAY


class World:
    """A ledger of two models of an agent, and what came late."""

    def __init__(self) -> None:
        self.ledger, self.late = Ledger([], 100, TASKS), LateTasks()
        for model in ("small", "large"):
            self.ledger.series.add(AGENT, "claim", model)
        self.ledger.series.add(AGENT, "refund", "small")
        self.ledger.reserve()
        self.late.reserve(3)
        ledger = self.ledger
        self.closed = ClosedTasks(ledger.series, ledger.task_hours, ledger.task_days, self.late)

    def fold(self, *tasks: tuple[int, int, int, int]) -> None:
        """Fold tasks given as (row, outcome, event time, clock)."""
        rows, outcomes, events, clocks = np.array(tasks, np.int64).T
        sums = [np.full(len(rows), number + 1) for number in range(len(TASKS.sums))]
        bins = np.full(len(rows), 3)
        agents = np.zeros(len(rows), np.int64)
        batch = Batch(agents, rows, outcomes, events, clocks, events, sums, bins=bins)
        self.late.note(batch)
        self.ledger.fold(batch, int(clocks[0]), int(clocks[-1]))


def test_an_hour_is_the_sum_of_its_models() -> None:
    world = World()
    at = MONDAY + 5 * MINUTE
    world.fold((0, AUTOMATED, at, at), (1, FAILED, at, at), (2, ESCALATED, at, at))

    found = world.closed.hour(AGENT, "claim", HOUR_NUMBER)
    assert (found.tasks, found.automated, found.escalated, found.failed) == (2, 1, 0, 1)
    assert (found.cost_micro_usd, found.output_tokens) == (2, 8)


def test_what_comes_before_the_hour_is_closed_is_in_time() -> None:
    world = World()
    at = MONDAY + 5 * MINUTE
    world.fold((0, AUTOMATED, at, MONDAY + HOUR + MINUTE - 1))

    assert world.closed.hour(AGENT, "claim", HOUR_NUMBER).tasks == 1
    assert (
        world.late.hours.nbytes == LateTasks().hours.nbytes or not world.late.hours.alive(3).any()
    )


def test_what_comes_when_the_hour_is_closed_does_not_count() -> None:
    world = World()
    at = MONDAY + 5 * MINUTE
    world.fold((0, AUTOMATED, at, at))
    world.fold((0, FAILED, at, MONDAY + HOUR + MINUTE), (1, AUTOMATED, at, MONDAY + 3 * DAY))

    found = world.closed.hour(AGENT, "claim", HOUR_NUMBER)
    assert (found.tasks, found.automated, found.cost_micro_usd) == (1, 1, 1)


def test_a_day_closes_a_minute_past_midnight() -> None:
    world = World()
    at, midnight = MONDAY + 5 * MINUTE, MONDAY + DAY
    world.fold((0, AUTOMATED, at, midnight + MINUTE - 1), (1, FAILED, at, midnight + MINUTE))

    found = world.closed.days(AGENT, "claim", DAY_NUMBER, 1)
    assert found.tolist() == [[int(place == 3) for place in range(BINS)], [0] * BINS]


def test_an_agent_or_type_that_is_not_known_has_nothing() -> None:
    world = World()

    assert world.closed.hour(Agent("acme", "claims-agent"), "claim", HOUR_NUMBER).tasks == 0
    assert not world.closed.days(AGENT, "other", DAY_NUMBER, 7).any()


def test_a_series_that_comes_later_is_found() -> None:
    world = World()
    at = MONDAY + 5 * MINUTE
    assert world.closed.hour(AGENT, "new", HOUR_NUMBER).tasks == 0
    world.ledger.series.add(AGENT, "new", None)
    world.ledger.reserve()
    world.late.reserve(4)
    world.fold((3, AUTOMATED, at, at))

    assert world.closed.hour(AGENT, "new", HOUR_NUMBER).tasks == 1


def test_what_is_told_does_not_depend_on_how_far_the_tasks_were_read() -> None:
    dice = np.random.default_rng(3)
    tasks = []
    clock = MONDAY
    for _ in range(3000):
        clock += int(dice.exponential(20_000))
        lag = int(dice.exponential(30 * MINUTE)) if dice.random() < 0.2 else 0
        tasks.append(
            (int(dice.integers(2)), int(dice.integers(3)), max(MONDAY, clock - lag), clock)
        )
    seen = None
    for end in (1000, 2000, 3000):
        world = World()
        for start in range(0, end, 250):
            world.fold(*tasks[start : start + 250])
        hours = [world.closed.hour(AGENT, "claim", HOUR_NUMBER + hour) for hour in range(4)]
        assert seen in (None, hours)
        seen = hours
    brute = [
        sum(
            event // HOUR == HOUR_NUMBER + hour and now < (event // HOUR + 1) * HOUR + MINUTE
            for _, _, event, now in tasks
        )
        for hour in range(4)
    ]
    assert [one.tasks for one in seen or ()] == brute
