"""Agents from which nothing comes: when that is noticed, what it is called, when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from streams.agent_silence import FAR, AgentSilence
from streams.context import Context
from streams.detect import Detect
from streams.durations import DAY, HOUR, MINUTE, WEEK
from streams.events import QueueDepth
from streams.queues import Queues
from streams.series import Agent
from tests.event_logs import Event, columns
from tests.task_world import RULES, START, A, B, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.findings import Finding

RULE = RULES.silence
C = Agent("acme", "third-agent")
LIMIT = 13.8 / 0.5
"""Tasks that must be missing at the usual pace."""


def silence(world: World) -> AgentSilence:
    return AgentSilence(RULE, world.ledger, world.context, "agentops.tasks", 3)


def history(
    world: World, agent: Agent, hourly: int, weeks: int = 4, open_at: Callable[[int], bool] = bool
) -> None:
    """Finish so many tasks in each hour of the weeks before `START`, and one just before it."""
    hours = range(START - weeks * WEEK, START, HOUR)
    times = [hour + n * HOUR // hourly for hour in hours if open_at(hour) for n in range(hourly)]
    world.tasks(agent, [*times, START - 1])


def lone(hourly: int = 60, weeks: int = 4) -> World:
    """Return a partition in which `B` goes on with few tasks and `A` has said its last."""
    world = World()
    history(world, A, hourly, weeks)
    history(world, B, 4, weeks)
    world.rules = [silence(world)]
    return world


def go_on(world: World, minutes: int, agent: Agent = B) -> None:
    """Let time pass with a task of `agent` every five minutes."""
    for _ in range(minutes // 5):
        world.tasks(agent, [world.now + 5 * MINUTE])


def of(world: World, agent: Agent) -> list[tuple[str, str, int]]:
    steps = zip(world.findings, world.steps(), strict=True)
    return [step for finding, step in steps if finding.entity_id == agent.agent_id]


def test_an_agent_is_silent_when_more_than_13_8_tasks_are_overdue_at_half_its_pace() -> None:
    world = lone(hourly=60)
    go_on(world, 60)
    # One task a minute is usual: 27.6 minutes at the usual pace.
    assert of(world, A) == [("FIRING", "AGENT_IDLE", 28)]
    (finding,) = world.findings
    assert (finding.kind, str(finding.severity), finding.page) == ("AGENT_IDLE", "WARNING", True)
    assert finding.value == pytest.approx(14)
    assert finding.threshold == 13.8
    assert (finding.window_start, finding.window_end) == (START, START + 28 * MINUTE)
    assert finding.detail == "no task finished in 28 min, and no work is known to wait"


def test_within_five_percent_below_that_it_is_not() -> None:
    world = lone(hourly=60)
    go_on(world, 25)
    world.go(START + 27 * MINUTE + 30_000)  # 13.5 of 13.8
    world.tasks(A, [world.now])
    assert world.findings == []


def test_it_resolves_at_the_minute_after_the_first_task() -> None:
    world = lone()
    go_on(world, 40)
    world.tasks(A, [START + 42 * MINUTE + 10])
    go_on(world, 10)
    assert of(world, A)[1:] == [("RESOLVED", "CLEAR_ELAPSED", 43)]
    assert world.findings[-1].kind == "AGENT_IDLE"


def test_work_that_waits_makes_it_dead_not_idle() -> None:
    world = lone()
    go_on(world, 25)
    world.depth(A, 4)
    go_on(world, 10)
    assert of(world, A) == [("FIRING", "AGENT_DEAD", 28)]
    assert (str(world.findings[0].severity), world.findings[0].kind) == ("HIGH", "AGENT_DEAD")
    assert world.findings[0].measure_names == ("minutes", "depth")
    assert world.findings[0].measure_values == (28, 4)


def test_a_busy_agent_is_not_silent_for_a_pause() -> None:
    world = lone(hourly=1200)
    go_on(world, 20)
    assert of(world, A) == [("FIRING", "AGENT_IDLE", 15)]


def weekday(at: int) -> bool:
    return (at // DAY + 3) % 7 < 5


def test_an_agent_that_works_on_weekdays_only_is_not_silent_at_the_weekend() -> None:
    world = World()
    history(world, A, 30, open_at=weekday)
    history(world, B, 4)
    world.rules = [silence(world)]
    while world.now < START + WEEK:
        go_on(world, 5)
        if weekday(world.now):
            world.tasks(A, [world.now])
    assert world.findings == []


def test_a_young_agent_is_not_silent() -> None:
    world = lone(weeks=1)
    go_on(world, 300)
    assert world.findings == []


@pytest.mark.parametrize("lifecycle", ["RETIRED", "DEPRECATED"])
def test_nobody_misses_an_agent_that_is_given_up(lifecycle: str) -> None:
    world = lone()
    world.profile(A, lifecycle)
    go_on(world, 60)
    assert world.findings == []
    world.profile(A, "ACTIVE")
    go_on(world, 10)
    assert of(world, A) == [("FIRING", "AGENT_IDLE", 61)]


def test_an_agent_that_is_retired_while_silent_is_so_no_more_at_the_next_hour() -> None:
    world = lone()
    go_on(world, 40)
    world.profile(A, "RETIRED")
    go_on(world, 60)
    assert of(world, A)[1:] == [("RESOLVED", "ENTITY_GONE", 60)]


def test_an_agent_from_which_nothing_came_for_weeks_is_gone() -> None:
    world = lone()
    for day in range(1, 30):
        world.tasks(B, [START + day * DAY])
    steps = of(world, A)
    assert [step[:2] for step in steps] == [("FIRING", "AGENT_IDLE"), ("RESOLVED", "ENTITY_GONE")]


# -- the source --------------------------------------------------------------------------------


def several() -> World:
    world = World()
    for agent in (A, B, C):
        history(world, agent, 20)
    world.rules = [silence(world)]
    return world


def test_when_nothing_comes_from_any_agent_it_is_one_finding_on_the_partition() -> None:
    world = several()
    world.go(START + 5 * HOUR)
    # 40 tasks an hour without the busiest agent: 27.6 of them take 41.4 minutes.
    assert world.steps() == [("FIRING", "SOURCE_LATE", 42)]
    (finding,) = world.findings
    assert (str(finding.entity_kind), finding.entity_id) == ("PARTITION", "3")


def test_the_source_is_back_with_the_first_task_and_each_agent_has_its_time_anew() -> None:
    world = several()
    world.go(START + 5 * HOUR)
    world.tasks(A, [START + 5 * HOUR + 10])
    go_on(world, 180, A)
    resolved, *others = world.steps()[1:]
    assert resolved == ("RESOLVED", "CLEAR_ELAPSED", 301)
    # 20 tasks an hour: 82.8 minutes from when the source was back.
    assert others == [("FIRING", "AGENT_IDLE", 384)] * 2


def test_a_depth_tells_that_the_source_is_there() -> None:
    world = several()
    for _ in range(12):
        world.go(world.now + 10 * MINUTE)
        world.depth(A, 5)
    assert world.steps() == [
        ("FIRING", "AGENT_DEAD", 83),
        ("FIRING", "AGENT_IDLE", 83),
        ("FIRING", "AGENT_IDLE", 83),
    ]


def test_a_depth_resolves_a_source_that_was_late() -> None:
    world = several()
    world.go(START + 2 * HOUR)
    world.depth(A, 0)
    world.go(START + 2 * HOUR + 5 * MINUTE)
    assert world.steps()[1:] == [("RESOLVED", "CLEAR_ELAPSED", 121)]


def test_one_agent_alone_is_named_itself() -> None:
    world = World()
    history(world, A, 60)
    world.rules = [silence(world)]
    world.go(START + HOUR)
    assert world.steps() == [("FIRING", "AGENT_IDLE", 28)]


def test_an_agent_that_makes_nearly_all_tasks_is_named_itself() -> None:
    world = World()
    history(world, A, 60)
    history(world, B, 2)
    world.rules = [silence(world)]
    world.go(START + HOUR)
    assert of(world, A) == [("FIRING", "AGENT_IDLE", 28)]
    assert len(world.findings) == 1


# -- cost and state ----------------------------------------------------------------------------


def test_few_ticks_are_asked_for() -> None:
    world = several()
    go_on(world, 120, A)
    assert world.ticks < 30
    world.ticks = 0
    world.go(world.now + 9 * DAY)
    assert world.ticks < 9 * 24 + 50  # hours while anything is silent


@pytest.mark.parametrize("seed", range(3))
def test_a_restart_at_any_point_changes_no_finding(seed: int) -> None:
    chance = np.random.default_rng(seed)
    steady, moved = several(), several()
    stored: dict[bytes, bytes] = {}
    agents = [A, B, C]
    far = [HOUR, 11 * DAY][seed % 2]  # long enough to be gone, or not
    for _ in range(50 - 35 * (seed % 2)):
        gap = int(chance.choice([10_000, 4 * MINUTE, 17 * MINUTE, 2 * HOUR, far]))
        late = int(chance.choice([0, 0, 0, 3 * MINUTE, 2 * HOUR, WEEK - 2 * HOUR, 3 * WEEK]))
        agent, what = agents[int(chance.integers(3))], chance.random()
        for world in (steady, moved):
            world.go(world.now + gap)
            if what < 0.6:
                world.tasks(agent, [world.now - late] * int(1 + gap // HOUR * 30))
            elif what < 0.8:
                world.depth(agent, int(gap % 3))
            elif what < 0.85:
                world.profile(agent, "RETIRED")
            else:
                world.profile(agent, "ACTIVE")
        moved.restart(moved.rules[0], silence(moved), stored)
    assert moved.findings == steady.findings
    assert len(steady.findings) >= 2


@pytest.mark.parametrize("seed", range(1))
def test_asking_at_every_minute_finds_the_same(seed: int) -> None:
    """The times before which nothing can be overdue are what makes it cheap, and no more."""
    chance = np.random.default_rng(100 + seed)
    lazy, eager = several(), several()
    rule = eager.rules[0]
    agents = [A, B, C]
    for _ in range(40):
        gap = int(chance.choice([10_000, 17 * MINUTE, HOUR]))
        late = int(chance.choice([0, 0, 0, 3 * MINUTE, 2 * HOUR, WEEK - HOUR]))
        agent = agents[int(chance.integers(3))]
        for world in (lazy, eager):
            until = world.now + gap
            if world is eager:
                while world.now // MINUTE < until // MINUTE:
                    rule._due[:] = rule._source_due = 0
                    world.go(world.now // MINUTE * MINUTE + MINUTE)
            world.go(until)
            world.tasks(agent, [world.now - late])
    assert lazy.findings == eager.findings
    assert len(lazy.findings) >= 2


# -- in the core -------------------------------------------------------------------------------


def log(seed: int) -> list[Event]:
    """Return two weeks and a day of three agents, who fall silent now and then."""
    chance = np.random.default_rng(seed)
    events: list[Event] = []
    for hour in range(14 * 24):
        at = START + hour * HOUR + int(chance.integers(HOUR))
        events += [Event(at, at, agent) for agent in ("a", "b", "c") for _ in range(6)]
    begin = START + 14 * DAY
    for minute in range(0, 20 * 60, 10):
        at = begin + minute * MINUTE + int(chance.integers(MINUTE))
        pause = (minute // 380) % 2
        for agent in ("a", "b", "c"):
            if not pause or (agent == "a" and minute % 900 > 620):
                late = int(chance.choice([0, 0, 0, 0, HOUR + MINUTE]))
                events.append(Event(at - late, at, agent))
    return events


def played(events: list[Event], cuts: list[int], depths: list[tuple[int, int]]) -> list[Finding]:
    """Play a log in batches, with the depths of `a` read just far enough or all at first."""
    context = Context(100)
    core = Detect(RULES, partition=3, max_series=1000)
    ledger = core.ledger
    rule = AgentSilence(RULE, ledger, context, "agentops.tasks", 3)
    ledger.watches.append(rule)
    ledger.minutely += [Queues(RULES.queue, ledger, context.queues, "agentops.queues", 3), rule]
    read, places = 0, np.arange(len(events))
    for start, end in zip([0, *cuts], [*cuts, len(events)], strict=True):
        batch = events[start:end]
        until = max(event.at for event in batch) if len(cuts) else FAR
        while read < len(depths) and (read == 0 or depths[read - 1][0] <= until):
            at, waiting = depths[read]
            event = QueueDepth(event_id="q", occurred_at=at, agent_id="a", depth=waiting)
            context.queues_desk.fold([event], places[:1], np.array([at]))
            read += 1
        stamps = np.array([event.stamp for event in batch])
        assert not core.fold_tasks(columns(batch), places[start:end], stamps)
    return [found for found in core.drain().findings if found.rule in {"silence", "queue"}]


@pytest.mark.parametrize("seed", range(1))
def test_neither_batches_nor_how_far_queues_are_read_make_a_difference(seed: int) -> None:
    chance = np.random.default_rng(seed)
    events = log(seed)
    begin = START + 14 * DAY
    depths = [(begin + n * 3 * MINUTE, int(chance.integers(1, 9))) for n in range(260)]
    whole = played(events, [], depths)
    late = len(events) * 18 // 20
    cuts = sorted(chance.choice(np.arange(late, len(events)), 40, replace=False).tolist())
    assert played(events, cuts, depths) == whole
    assert {found.rule for found in whole} == {"silence", "queue"}
