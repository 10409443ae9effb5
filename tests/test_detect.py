from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from streams.columns import SecurityEvent
from streams.durations import DAY, HOUR, MINUTE, SECOND
from streams.reasons import DeadLetterReason, Transition, TransitionReason
from streams.rules import RuleSet
from tests.event_logs import BEGIN, Event, Player, history, logs, play


def touchy_rules() -> RuleSet:
    """Return rules that a handful of events moves through all of their lives."""
    rules: dict[str, Any] = yaml.safe_load(yaml.safe_dump(_default()))
    drop, (day, hour, burst) = rules["rates"][0]["arms"][0], rules["rates"][1]["arms"]
    drop |= {"window": "4h", "min_n": 3, "z": 0.2, "for": "10m", "clear_for": "20m"}
    day |= {"window": "4h"}
    for arm in (day, hour):
        arm |= {"min_hits": 1, "z": 0.1, "for": "2m", "clear_for": "3m"}
        arm["wilson"] = {"z": 0.1, "share": 0.1}
    burst |= {"min_n": 2, "min_hits": 1, "clear_for": "30s", "cool_down": "1m"}
    for arm in (drop, day, hour):
        arm["tau"] |= {"min_n": 2, "min_entries": 2}
    return RuleSet.load(yaml.safe_dump(rules))


def _default() -> dict[str, Any]:
    from importlib.resources import files  # noqa: PLC0415

    return dict(yaml.safe_load(files("streams").joinpath("rules.yaml").read_text("utf-8")))


TOUCHY = touchy_rules()

# Without shrinking: it would take longer than reading a log of a hundred events.
PHASES = (Phase.explicit, Phase.generate)


@settings(max_examples=60, derandomize=True, deadline=None, phases=PHASES)
@given(logs(groups=10), st.integers(0, 2**32), st.sampled_from([1000, 1000, 5]))
def test_batches_and_restarts_make_no_difference(
    log: list[Event], seed: int, max_series: int
) -> None:
    assert_same_in_batches(log, seed, max_series)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=500, derandomize=True, deadline=None, phases=PHASES)
@given(logs(groups=16), st.integers(0, 2**32), st.sampled_from([1000, 1000, 5]))
def test_batches_and_restarts_make_no_difference_to_long_logs(
    log: list[Event], seed: int, max_series: int
) -> None:
    assert_same_in_batches(log, seed, max_series)


def assert_same_in_batches(log: list[Event], seed: int, max_series: int) -> None:
    events = history(size=12) + log
    whole = play(events, TOUCHY, max_series)

    player, random, start = Player(TOUCHY, max_series), Random(seed), 0
    while start < len(events):
        end = min(len(events), start + random.choice([1, 3, 20, 100]))
        player.tasks(events[start:end])
        start = end
        match random.randrange(4):
            case 0:
                player.drain()
                keys = list(player.played.state)
                random.shuffle(keys)
                player.restart(keys)
            case 1:
                player.drain()
    player.drain()

    assert player.played.findings == whole.findings
    assert player.played.windows == whole.windows
    assert player.played.refused == whole.refused
    assert player.played.clocks == whole.clocks
    assert player.played.state == whole.state


def steady(start: int, end: int, step: int, **more: Any) -> list[Event]:
    """Return one event each `step`."""
    return [Event(at, at, **more) for at in range(start, end, step)]


def burst(at: int, size: int = 30, **more: Any) -> list[Event]:
    return steady(at, at + size * SECOND, SECOND, outcome=2, **more)


def test_a_burst_fires_at_once_and_resolves_when_it_is_over() -> None:
    events = burst(BEGIN) + steady(BEGIN + MINUTE, BEGIN + HOUR, SECOND)

    found = [one for one in play(events).findings if one.arm == "5m"]

    assert [(one.transition, one.reason) for one in found[:1]] == [
        (Transition.FIRING, TransitionReason.AT_ONCE)
    ]
    assert found[0].at == BEGIN + 20 * SECOND  # the first tick that sees 20 events
    assert found[0].sample_count == 20
    assert (found[0].first_offset, found[0].last_offset) == (0, 19)


def test_an_event_ahead_counts_once_its_pane_has_begun() -> None:
    # 4 minutes ahead of their record timestamps: in panes that no window sees yet.
    ahead = [Event(BEGIN + 4 * MINUTE, BEGIN, outcome=2) for _ in range(30)]
    clock = steady(BEGIN, BEGIN + 5 * MINUTE, SECOND, agent="clock")
    touch = [Event(BEGIN + 4 * MINUTE + 7 * SECOND, BEGIN + 4 * MINUTE + 7 * SECOND)]
    events = sorted([*clock, *touch], key=lambda event: event.stamp)

    found = play(ahead + events).findings

    assert [one.at for one in found if one.arm == "5m"] == [BEGIN + 4 * MINUTE + 10 * SECOND]


def test_a_gap_of_years_costs_no_time_and_no_state() -> None:
    player = Player(TOUCHY)
    player.tasks(steady(BEGIN, BEGIN + 2 * HOUR, 30 * SECOND, outcome=2))
    player.drain()
    far = BEGIN + 20 * 365 * DAY

    player.tasks([Event(far, far, agent="b")])
    player.drain()

    resolved = [one.reason for one in player.played.findings if one.transition == "RESOLVED"]
    assert TransitionReason.REBASELINED in resolved
    keys = sorted(key.decode() for key in player.played.state)
    assert [key for key in keys if key.startswith("pane/")] == [
        f"pane/tasks/1h/0/{far // HOUR * HOUR}",
        f"pane/tasks/1m/0/{far // MINUTE * MINUTE}",
    ]


def test_series_past_the_bound_are_refused_and_the_others_go_on() -> None:
    events = [Event(BEGIN + index, BEGIN + index, agent=f"a{index}") for index in range(4)]
    events += [Event(BEGIN + 10, BEGIN + 10, agent="a0"), Event(BEGIN + 10, BEGIN + 10, "a0", "u")]

    played = play(events, max_series=4)

    assert played.refused == [
        (2, DeadLetterReason.SERIES_LIMIT),
        (3, DeadLetterReason.SERIES_LIMIT),
        (5, DeadLetterReason.SERIES_LIMIT),
    ]
    assert [(one.rule, one.transition, one.at) for one in played.findings] == [
        ("series-limit", Transition.FIRING, BEGIN + 2)
    ]


def test_a_refused_record_moves_no_clock() -> None:
    player = Player(max_series=2)
    player.tasks(
        [
            Event(BEGIN, BEGIN),
            Event(BEGIN + HOUR, BEGIN + HOUR, agent="too-many"),
            Event(BEGIN + 6 * MINUTE, BEGIN),
        ]
    )

    assert player.core.clocks == {"tasks": BEGIN}


def test_series_without_a_trace_make_room_at_midnight() -> None:
    player = Player(max_series=2)
    player.tasks([Event(BEGIN, BEGIN)])
    later = BEGIN + 36 * DAY
    for at in (later, later + DAY, later + 2 * DAY):
        player.tasks([Event(at, at, agent="b")])

    # The first would need room before the midnight it brings; it is refused, and moves no clock.
    assert [place for place, _ in player.played.refused] == [1, 2, 3]

    player.core.idle(later + 2 * DAY)
    player.tasks([Event(later + 2 * DAY, later + 2 * DAY, agent="b")])

    assert len(player.played.refused) == 3


def test_the_limit_resolves_six_hours_after_the_last_refusal() -> None:
    events = [Event(BEGIN, BEGIN), Event(BEGIN, BEGIN, agent="b"), Event(BEGIN, BEGIN, agent="c")]
    after = BEGIN + 6 * HOUR

    played = play([*events, *(Event(at, at) for at in (after - 1, after))], max_series=2)

    limit = [one for one in played.findings if one.rule == "series-limit"]
    assert [(one.transition, one.at) for one in limit] == [
        (Transition.FIRING, BEGIN),
        (Transition.RESOLVED, after),
    ]


# -- idle, quiet, security ---------------------------------------------------------------------


def threat(at: int, **more: Any) -> SecurityEvent:
    fields: dict[str, Any] = {
        "kind": "INJECTION_ATTEMPT",
        "severity": "HIGH",
        "blocked": True,
    } | more
    return SecurityEvent("id", at, None, "a", **fields)


def test_idle_lets_the_clock_follow_the_wall_by_its_lag() -> None:
    player = Player()
    player.tasks(burst(BEGIN, size=30))  # produced as they occur …
    player.tasks([Event(BEGIN + MINUTE, BEGIN + 10 * MINUTE)])  # … but the last, 9 minutes late

    player.core.idle(BEGIN + 15 * MINUTE)

    assert player.core.clocks["tasks"] == BEGIN + 6 * MINUTE
    player.core.idle(BEGIN + 14 * MINUTE)
    assert player.core.clocks["tasks"] == BEGIN + 6 * MINUTE


def test_what_idle_causes_says_so() -> None:
    player = Player()
    player.tasks(burst(BEGIN))
    assert not player.core.urgent or player.core.drain()

    player.core.idle(BEGIN + DAY)
    player.core.idle(BEGIN + 9 * DAY)

    found = player.core.drain().findings
    assert found
    assert {one.reason for one in found} == {TransitionReason.IDLE}


def test_security_events_are_handled_at_once_and_end_by_quiet() -> None:
    player = Player()
    refused = player.core.fold_security(
        [threat(BEGIN), threat(BEGIN + 6 * MINUTE), threat(BEGIN + MINUTE)],
        np.array([5, 6, 7]),
        np.array([BEGIN, BEGIN, BEGIN + MINUTE]),
    )

    assert [(one.index, one.reason) for one in refused] == [(1, DeadLetterReason.FUTURE)]
    assert player.core.urgent
    player.restart()
    player.core.quiet(BEGIN + MINUTE + 6 * HOUR)
    player.drain()

    assert [(one.transition, one.at) for one in player.played.findings] == [
        (Transition.FIRING, BEGIN),
        (Transition.UPDATED, BEGIN + MINUTE),
        (Transition.RESOLVED, BEGIN + MINUTE + 6 * HOUR),
    ]
    assert player.core.clocks == {"security": BEGIN + MINUTE}


def test_kinds_of_security_events_are_bounded_like_series() -> None:
    player = Player(max_series=1)

    refused = player.core.fold_security(
        [threat(BEGIN), threat(BEGIN, kind="OTHER"), threat(BEGIN)],
        np.arange(3),
        np.full(3, BEGIN),
    )

    assert [(one.index, one.reason) for one in refused] == [(1, DeadLetterReason.SERIES_LIMIT)]


def test_nothing_is_dirty_after_a_drain_and_idle_within_a_tick_changes_nothing() -> None:
    player = Player()
    assert not player.core.dirty
    player.tasks([Event(BEGIN, BEGIN)])
    assert player.core.dirty

    player.drain()
    assert not player.core.dirty
    player.core.idle(BEGIN + 4 * SECOND)
    assert not player.core.dirty
    player.core.idle(BEGIN + 5 * SECOND)
    assert player.core.dirty
