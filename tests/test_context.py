"""What is known around tasks: the newest profile, changes nearby, queue depths, their bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streams import state
from streams.context import CHANGES_MOST, Context, change_text
from streams.durations import DAY, HOUR, MINUTE
from streams.events import AgentProfile, Change, Deleted, QueueDepth
from streams.series import Agent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.batch import Refusal
    from streams.desk import Desk

START = 490_000 * HOUR
A = Agent(None, "claims-agent")


def profile(agent: Agent = A, at: int = START, **given: Any) -> AgentProfile:
    values: dict[str, Any] = {"event_id": "p", "occurred_at": at, "owner": "claims"}
    values |= agent._asdict()
    return AgentProfile(**values | given)


def change(at: int, agent: Agent = A, **given: Any) -> Change:
    values: dict[str, Any] = {"event_id": "c", "kind": "PROMPT", "from_version": "v17"}
    values |= {"occurred_at": at, "to_version": "v18", **agent._asdict()}
    return Change(**values | given)


def depth(at: int, waiting: int, agent: Agent = A) -> QueueDepth:
    return QueueDepth(event_id="q", occurred_at=at, depth=waiting, **agent._asdict())


def fold(desk: Desk[Any], *events: Any) -> list[Refusal]:
    stamps = np.array([event.occurred_at for event in events], np.int64)
    return desk.fold(events, np.arange(len(events)), stamps)


def restarted(context: Context, stored: dict[bytes, bytes], bound: int = 100) -> Context:
    """Write what changed to `stored`, and return a new context made of it, in any order."""
    for desk in desks(context):
        for key, value in desk.changes():
            if value is None:
                stored.pop(key, None)
            else:
                stored[key] = value
    fresh = Context(bound)
    for new, old in zip(desks(fresh), desks(context), strict=True):
        new.clock = old.clock  # clocks are the snapshot's business
        for record in state.decode(sorted(stored.items(), reverse=True)):
            new.restore(record)
        new.settle()
        assert list(new.changes()) == []
    return fresh


def desks(context: Context) -> Sequence[Desk[Any]]:
    return context.profiles_desk, context.changes_desk, context.queues_desk


# -- profiles ----------------------------------------------------------------------------------


def test_the_last_profile_in_the_log_counts_however_old_it_is() -> None:
    context = Context(10)
    late = profile(at=START - 400 * DAY, owner="older")
    assert fold(context.profiles_desk, profile(), late) == []
    assert context.profile(A) == late
    assert context.profiles() == [late]


def test_a_deleted_key_has_no_profile() -> None:
    context = Context(10)
    fold(context.profiles_desk, profile(), Deleted(key="claims-agent", occurred_at=START + 1))
    assert context.profile(A) is None
    assert context.profiles() == []


def test_agents_that_share_a_key_share_the_profile_of_the_newest() -> None:
    context = Context(10)
    first, second = Agent("x", "y/z"), Agent("x/y", "z")
    fold(context.profiles_desk, profile(first), profile(second))
    assert context.profile(first) is None
    assert context.profile(second) is not None


def test_a_profile_past_the_bound_is_refused_and_a_known_agent_may_still_change() -> None:
    context = Context(1)
    (refusal,) = fold(context.profiles_desk, profile(), profile(Agent(None, "b")), profile())
    assert (refusal.index, refusal.reason) == (1, "SERIES_LIMIT")
    assert "max_series is 1" in refusal.detail


# -- changes -----------------------------------------------------------------------------------


def test_changes_are_those_after_since_up_to_until_ascending_by_event_time() -> None:
    context = Context(10)
    times = [START + 30, START + 10, START + 20, START + 40]
    fold(context.changes_desk, *(change(at, event_id=str(at)) for at in times))
    found = context.changes(A, START + 10, START + 30)
    assert [one.occurred_at for one in found] == [START + 20, START + 30]


def test_a_tick_does_not_see_a_change_that_came_when_the_clock_had_reached_it() -> None:
    context = Context(10)
    fold(context.changes_desk, change(START + 10), change(START + MINUTE), change(START + 20))
    seen = context.changes(A, START, START + MINUTE, as_of=START + MINUTE)
    assert [one.occurred_at for one in seen] == [START + 10]


def test_only_the_newest_changes_of_an_agent_are_remembered() -> None:
    context = Context(10)
    fold(context.changes_desk, *(change(START + n) for n in range(CHANGES_MOST + 5)))
    found = context.changes(A, 0, START + DAY)
    assert [one.occurred_at for one in found] == [START + 5 + n for n in range(CHANGES_MOST)]


def test_an_agent_is_forgotten_with_its_last_change_after_36_days() -> None:
    context, other = Context(1), Agent(None, "b")
    first = change(START)
    refused = fold(context.changes_desk, first, change(START + 36 * DAY, other))
    assert [one.reason for one in refused] == ["SERIES_LIMIT"]
    fold(context.changes_desk, change(START + 37 * DAY))
    assert len(context.changes(A, 0, START + 99 * DAY)) == 1


def test_the_newest_change_of_the_six_hours_before_is_named_with_how_long_before() -> None:
    context = Context(10)
    fold(context.changes_desk, change(START), change(START + HOUR, kind="MODEL", to_version="m"))
    assert context.change_ref(A, START + HOUR + 9 * MINUTE) == ("MODEL v17 to m", 9 * MINUTE)
    assert context.change_ref(A, START) == ("PROMPT v17 to v18", 0)
    assert context.change_ref(A, START - 1) is None
    assert context.change_ref(A, START + 7 * HOUR) is None
    assert context.change_ref(A, START + 7 * HOUR - 1) == ("MODEL v17 to m", 6 * HOUR - 1)


def test_with_an_integration_only_its_changes_are_named() -> None:
    context = Context(10)
    schema = change(START, kind="TOOL_SCHEMA", integration="crm", from_version=None)
    fold(context.changes_desk, schema, change(START + 1))
    found = context.change_ref(A, START + 2, integration="crm")
    assert found == ("TOOL_SCHEMA of crm to v18", 2)
    assert context.change_ref(A, START + 2, integration="mail") is None


def test_a_change_without_a_version_before_is_named_by_the_one_after() -> None:
    assert change_text(change(START, from_version=None)) == "PROMPT to v18"


# -- queues ------------------------------------------------------------------------------------


def test_a_depth_is_known_from_the_next_minute_on_for_a_quarter_of_an_hour() -> None:
    context = Context(10)
    fold(context.queues_desk, depth(START + 1, 4), depth(START + 2, 7))
    found = {at: context.depth(A, START + at * MINUTE) for at in (0, 1, 15, 16)}
    assert found == {0: None, 1: 7, 15: 7, 16: None}
    ticks = START + MINUTE * np.array([0, 1, 15, 16])
    many = context.depths([A, Agent(None, "b")], ticks)
    np.testing.assert_array_equal(many, [[np.nan, 7, 7, np.nan], [np.nan] * 4])


def test_a_depth_a_day_late_is_refused() -> None:
    context = Context(10)
    events = depth(START + DAY, 1), depth(START, 1), depth(START - 1, 1)
    refused = fold(context.queues_desk, *events)
    assert [(one.index, str(one.reason)) for one in refused] == [(2, "TOO_LATE")]


def test_a_queue_past_the_bound_is_refused_until_an_agent_was_quiet_for_a_day() -> None:
    context, other = Context(1), Agent(None, "b")
    refused = fold(context.queues_desk, depth(START, 1), depth(START + HOUR, 1, other))
    assert [str(one.reason) for one in refused] == ["SERIES_LIMIT"]
    much_later = START + DAY + HOUR
    fold(context.queues_desk, depth(much_later, 3))
    assert context.depth(A, much_later + MINUTE) == 3


# -- state -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_restart_at_any_point_changes_nothing(seed: int) -> None:
    chance = np.random.default_rng(seed)
    agents = [A, Agent("t", "claims-agent"), Agent("t", "b")]
    steady, moved = Context(100), Context(100)
    stored: dict[bytes, bytes] = {}
    now = START
    for step in range(120):
        now += int(chance.choice([1_000, 50_000, 20 * MINUTE, 3 * HOUR]))
        agent = agents[int(chance.integers(3))]
        at = now - int(chance.choice([0, 0, 40_000, 2 * HOUR]))
        waiting = int(chance.integers(9))
        for context in (steady, moved):
            fold(context.queues_desk, depth(now, waiting, agent), depth(at, waiting + 1, agent))
            fold(context.changes_desk, change(at, agent, to_version=str(step)))
            if step % 5 == 0:
                fold(context.profiles_desk, profile(agent, at, owner=str(step), depends_on=("x",)))
        assert moved.queues_desk.take_windows() == steady.queues_desk.take_windows()
        moved = restarted(moved, stored)
        ticks = now // MINUTE * MINUTE + MINUTE * np.arange(-2, 3)
        for one in agents:
            assert moved.changes(one, 0, now) == steady.changes(one, 0, now)
        np.testing.assert_array_equal(moved.depths(agents, ticks), steady.depths(agents, ticks))
        assert moved.profiles() == steady.profiles()
