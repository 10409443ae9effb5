"""Queue depths by minute and by hour: what a tick sees, what is published, what is forgotten."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import schemas, state
from streams.depths import Depths
from streams.durations import DAY, HOUR, MINUTE
from streams.events import QueueDepth
from streams.series import Agent

START = 490_000 * HOUR
A, B = Agent(None, "a"), Agent("t", "b")


def depth(at: int, waiting: int, agent: Agent = A) -> QueueDepth:
    return QueueDepth(event_id="q", occurred_at=at, depth=waiting, **agent._asdict())


def filled(*given_: tuple[int, int], agent: Agent = A) -> Depths:
    """Return depths of (event time, depth), the clock being the latest event time."""
    depths, clock = Depths(), 0
    for at, waiting in given_:
        clock = max(clock, at)
        depths.add(depth(at, waiting, agent), clock)
    return depths


def test_what_is_read_ahead_makes_no_difference_to_a_tick() -> None:
    behind = filled((START, 1), (START + 50_000, 2))
    ahead = filled((START, 1), (START + 50_000, 2), (START + MINUTE, 9), (START + 55_000, 8))
    assert behind.depth(A, START + MINUTE) == ahead.depth(A, START + MINUTE) == 2


def test_a_depth_out_of_order_says_nothing_about_now() -> None:
    assert filled((START + 30_000, 5), (START + 10_000, 1)).depth(A, START + MINUTE) == 5


def test_a_depth_that_came_a_quarter_of_an_hour_late_says_nothing_about_now() -> None:
    depths = filled((START + HOUR, 5))
    depths.add(depth(START + HOUR - 15 * MINUTE, 7, B), START + HOUR)
    depths.add(depth(START + HOUR - 15 * MINUTE + 1, 8, A), START + HOUR)
    assert depths.depth(B, START + HOUR + MINUTE) is None


def test_the_next_tick_is_the_next_minute_while_a_depth_is_fresh_and_one_more() -> None:
    depths = filled((START, 1), (START + 3 * HOUR, 1))
    assert depths.next_tick(START - DAY) == START + MINUTE
    assert depths.next_tick(START + MINUTE) == START + 2 * MINUTE
    assert depths.next_tick(START + 15 * MINUTE) == START + 16 * MINUTE
    assert depths.next_tick(START + 16 * MINUTE) == START + 3 * HOUR + MINUTE
    assert depths.next_tick(START + 3 * HOUR + 16 * MINUTE) is None


def test_reporting_are_the_agents_with_a_fresh_depth() -> None:
    depths = filled((START, 1))
    depths.add(depth(START + 5 * MINUTE, 1, B), START + 5 * MINUTE)
    assert depths.reporting(START) == []
    assert depths.reporting(START + MINUTE) == [A]
    assert depths.reporting(START + 15 * MINUTE) == [A, B]
    assert depths.reporting(START + 16 * MINUTE) == [B]


def test_an_hour_is_published_a_minute_after_its_end_with_its_last_and_largest_depth() -> None:
    depths = filled((START, 1), (START + 50 * MINUTE, 3), (START + 9 * MINUTE, 8))
    assert depths.publish(START + HOUR) == []
    (record,) = depths.publish(START + HOUR + MINUTE)
    assert (record["depth_last"], record["depth_max"], record["revision"]) == (3, 8, 1)
    assert (record["window_start"], record["at"]) == (START, START + HOUR + MINUTE)
    assert not depths.waiting()


def test_a_late_depth_makes_a_further_revision() -> None:
    depths = filled((START, 1), (START + HOUR, 5))
    depths.publish(START + HOUR + MINUTE)
    depths.add(depth(START + 1, 4), START + HOUR + 2 * MINUTE)
    (record,) = depths.publish(START + HOUR + 3 * MINUTE)
    assert (record["depth_last"], record["depth_max"], record["revision"]) == (4, 4, 2)


def test_a_published_hour_is_a_window_record() -> None:
    (record,) = filled((START, 1)).publish(START + 2 * HOUR)
    _, read = schemas.decode(schemas.encode("Window", record))
    assert (read["series"], read["depth_last"], read["depth_max"]) == ("QUEUE", 1, 1)
    assert (read["agent_id"], read["task_type"]) == ("a", "")


def test_agents_and_their_records_are_gone_after_a_day() -> None:
    depths, later = filled((START, 1)), START + DAY + HOUR
    stored = dict(depths.changes())
    assert len(stored) == 1
    depths.add(depth(later, 1, B), later)
    stored |= dict(depths.changes())
    assert A not in depths
    assert [key for key, value in stored.items() if value] == [state.queue_key("t", "b", later)]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3 * HOUR), st.integers(0, 9), st.sampled_from([A, B])), max_size=30
    ),
    st.integers(0, 200),
)
def test_the_depth_of_a_tick_is_that_of_a_plain_search(
    events: list[tuple[int, int, Agent]], minute: int
) -> None:
    events.sort(key=lambda one: one[0] // (20 * MINUTE))  # somewhat out of order
    depths, clock, tick = Depths(), 0, START + minute * MINUTE
    expected: dict[Agent, float] = {A: np.nan, B: np.nan}
    latest = {A: 0, B: 0}
    for gone, waiting, agent in events:
        at = START + gone
        clock = max(clock, at)
        depths.add(depth(at, waiting, agent), clock)
        fresh = at >= latest[agent] and at > clock - 15 * MINUTE
        latest[agent] = max(latest[agent], at)
        if fresh and tick - 15 * MINUTE <= clock < tick:
            expected[agent] = waiting
    found = depths.depths([A, B], np.array([tick]))[:, 0]
    np.testing.assert_array_equal(found, [expected[A], expected[B]])
