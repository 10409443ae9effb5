"""Work that waits and grows: when it fires, when it does not, when it is over."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.durations import HOUR, MINUTE
from streams.queues import LONGEST, Queues, theil_sen
from tests.task_world import RULES, START, A, B, World

RULE = RULES.queue


def queues(world: World) -> Queues:
    return Queues(RULE, world.ledger, world.context.queues, "agentops.queues", 3)


def watched() -> World:
    world = World()
    world.rules = [queues(world)]
    return world


def run(world: World, minutes: int, depth: float, growth: float, finished: int = 1) -> None:
    """Let tasks be finished and depths be reported for so many minutes."""
    for minute in range(minutes):
        begin = START + (world.now - START + MINUTE - 1) // MINUTE * MINUTE
        if finished:
            world.tasks(A, [begin + 1_000] * finished)
        else:
            world.go(begin + 1_000)
        world.depth(A, int(depth + growth * minute))
        world.go(begin + MINUTE - 1)


def test_a_backlog_over_half_an_hour_that_grows_for_a_quarter_fires() -> None:
    world = watched()
    run(world, 40, depth=31, growth=0.2)
    assert world.steps()[1:] == [("FIRING", "FOR_ELAPSED", world.steps()[0][2] + 15)]
    finding = world.findings[-1]
    assert (finding.page, str(finding.severity)) == (True, "HIGH")
    assert 30 < finding.value < 40
    assert (finding.threshold, finding.sample_count) == (30, 15)
    assert finding.measure_names == ("depth", "finished", "growth_per_minute")
    assert finding.measure_values[1] == 15
    assert finding.measure_values[2] == pytest.approx(0.2, abs=0.1)


def test_a_backlog_within_five_percent_below_the_limit_does_not() -> None:
    world = watched()
    run(world, 40, depth=1, growth=0)
    for minute in range(40):  # from 28.5 to 29.9 minutes of work
        run(world, 1, depth=28.5 + minute * 0.035, growth=0)
    assert world.findings == []


def test_a_backlog_that_does_not_grow_does_not_fire() -> None:
    world = watched()
    run(world, 40, depth=90, growth=-0.1)
    world = watched()
    run(world, 40, depth=90, growth=0)
    assert world.findings == []


def test_it_resolves_after_a_quarter_at_half_the_limit() -> None:
    world = watched()
    run(world, 35, depth=31, growth=0.2)
    run(world, 20, depth=16, growth=0)
    assert [step[0] for step in world.steps()] == ["PENDING", "FIRING"]
    begun = (world.now - START) // MINUTE
    run(world, 20, depth=15, growth=0)
    assert world.steps()[2] == ("RESOLVED", "CLEAR_ELAPSED", begun + 17)


def test_where_nothing_is_finished_any_work_is_too_much() -> None:
    world = watched()
    run(world, 20, depth=1, growth=0.5, finished=0)
    assert [step[0] for step in world.steps()] == ["PENDING", "FIRING"]
    assert world.findings[-1].value == LONGEST
    run(world, 20, depth=0, growth=0, finished=0)
    assert world.steps()[-1][0] == "RESOLVED"
    assert world.findings[-1].value == 0


def test_a_growth_that_ends_within_the_quarter_is_cancelled() -> None:
    world = watched()
    run(world, 8, depth=31, growth=1)
    run(world, 20, depth=38, growth=-2)
    assert [step[0] for step in world.steps()] == ["PENDING", "CANCELLED"]


def test_without_a_depth_for_six_hours_nothing_is_known_and_it_ends() -> None:
    world = watched()
    run(world, 35, depth=31, growth=0.2)
    last = (world.now - START) // MINUTE
    world.go(world.now + 7 * HOUR)
    assert world.steps()[2:] == [("RESOLVED", "QUIET", last + 1 + 360)]
    assert not world.rules[0].busy()


def test_a_queue_that_reports_every_five_minutes_can_fire() -> None:
    world = watched()
    for report in range(12):
        world.tasks(A, [START + report * 5 * MINUTE] * 5)
        world.depth(A, 40 + report)
    assert [step[0] for step in world.steps()] == ["PENDING", "FIRING"]


def test_without_queues_no_tick_is_asked_for() -> None:
    world = watched()
    world.tasks(A, [START + HOUR])
    world.go(START + 9 * HOUR)
    assert world.ticks == 0


def test_the_deltas_of_a_depth_add_up_to_it_and_to_nothing_in_the_end() -> None:
    world = watched()
    rule = world.rules[0]
    total: dict[object, int] = {}
    for minute in range(40):
        if minute in {3, 5, 11}:
            world.depth(A, minute, START + minute * MINUTE + 1)
        if minute == 7:
            world.depth(B, 100, START + minute * MINUTE + 1)
        tick = START + minute * MINUTE + MINUTE
        for agent, by in rule.depth_deltas(tick):
            total[agent] = total.get(agent, 0) + by
        for agent in (A, B):
            assert total.get(agent, 0) == (world.context.depth(agent, tick) or 0)
        if minute == 12:
            assert total == {A: 11, B: 100}
    assert total == {A: 0, B: 0}


@pytest.mark.parametrize("seed", range(4))
def test_a_restart_at_any_minute_changes_no_finding(seed: int) -> None:
    chance = np.random.default_rng(seed)
    steady, moved = watched(), watched()
    stored: dict[bytes, bytes] = {}
    depth = 20.0
    for _ in range(12):
        growth, finished = chance.choice([-3, 0.3, 2]), int(chance.integers(3))
        for _ in range(int(chance.integers(5, 30))):
            depth = max(0.0, depth + growth)
            for world in (steady, moved):
                run(world, 1, depth, 0, finished)
            moved.restart(moved.rules[0], queues(moved), stored)
    assert moved.findings == steady.findings
    assert len(steady.findings) >= 2


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.just(np.nan), st.integers(0, 9)), min_size=2, max_size=15))
def test_theil_sen_is_the_median_of_all_slopes(values: list[float]) -> None:
    slopes = [
        (values[j] - values[i]) / (j - i)
        for i in range(len(values))
        for j in range(i + 1, len(values))
        if not np.isnan(values[i] + values[j])
    ]
    expected = np.median(slopes) if slopes else np.nan
    np.testing.assert_allclose(theil_sen(np.array([values]))[0], expected, equal_nan=True)
