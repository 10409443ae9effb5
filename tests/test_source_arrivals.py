"""What is expected of a source: of all its agents but the one with the most."""

from __future__ import annotations

import numpy as np

from streams.arrivals import NEVER
from streams.durations import DAY, HOUR, MINUTE, WEEK
from streams.source_arrivals import AgentArrivals, Hints, SourceArrivals
from tests.task_world import RULES, START, A, B, World

ONE = np.zeros(1, np.int64)


def arrivals(world: World) -> AgentArrivals:
    return AgentArrivals(RULES.silence, world.ledger.agent_hours, world.ledger.agent_minutes)


def played() -> World:
    """Return a partition in which `A` has 24 tasks an hour and `B` 12, for four weeks."""
    world = World()
    for agent, hourly in ((A, 24), (B, 12)):
        hours = range(START - 4 * WEEK, START, HOUR)
        world.tasks(agent, [hour + n * HOUR // hourly for hour in hours for n in range(hourly)])
    return world


def test_an_agent_is_not_late_for_as_long_as_the_whole_source_was() -> None:
    agents, now = arrivals(played()), START + 5 * HOUR
    rows = np.arange(2)
    assert agents.last_seen(rows, now).tolist() == [START, START]
    agents.resumed = START + 4 * HOUR
    assert agents.last_seen(rows, now).tolist() == [START + 4 * HOUR] * 2
    assert agents.last_seen(rows, START + HOUR).tolist() == [START + HOUR] * 2


def test_the_busiest_agent_is_left_out_of_what_the_source_owes() -> None:
    world = played()
    source = SourceArrivals(arrivals(world), world.ledger, world.context)
    source.active = np.arange(2)
    seen = source.last_seen(ONE, START + HOUR)
    assert seen.tolist() == [world.ledger.newest]
    assert source.overdue(ONE, np.array([START]), START + HOUR, ONE).tolist() == [12 * 0.5]


def test_a_source_has_a_record_when_any_topic_read_before_the_tasks_has() -> None:
    world = played()
    source = SourceArrivals(arrivals(world), world.ledger, world.context)
    assert not source.came(0, START, START + HOUR)
    world.depth(A, 1, START + HOUR)
    assert not source.came(0, START, START + HOUR)  # the tick does not see it yet
    assert source.came(0, START, START + 2 * HOUR)


def test_after_four_weeks_nothing_is_known_of_a_source() -> None:
    world = played()
    source = SourceArrivals(arrivals(world), world.ledger, world.context)
    assert source.newest(START + 28 * DAY) == NEVER


def hints() -> Hints:
    """Return hints on two rows, both last heard of at `START`: gaps under 20 min are short."""
    found = Hints()
    found.reserve(4)
    found.learn(np.arange(2), np.array([START, START]), np.full(2, 20 * MINUTE), START + 6 * HOUR)
    return found


def times(*minutes: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return START + np.array(minutes, np.int64) * MINUTE


def test_a_row_with_tasks_close_to_each_other_is_put_off_past_the_last() -> None:
    rows, at = np.array([0, 1, 0, 1, 0]), times(10, 15, 25, 40, 40)
    found, until = hints().put_off(rows, at, at)
    assert (found.tolist(), until.tolist()) == ([0], times(60).tolist())


def test_a_row_is_put_off_no_further_than_its_usual_numbers_are_known() -> None:
    known = hints()
    known.note(np.array([1]), times(350))
    at = times(355)
    assert known.put_off(np.array([1]), at, at)[1].tolist() == [START + 6 * HOUR]


def test_a_task_that_comes_late_fills_no_gap() -> None:
    rows = np.array([0, 0])
    assert len(hints().put_off(rows, times(10, 12), times(10, 35))[0]) == 0


def test_what_is_not_known_is_not_put_off() -> None:
    known, at = hints(), times(1, 1)
    known.forget([0])
    assert known.put_off(np.array([0, 3]), at, at)[0].tolist() == []
