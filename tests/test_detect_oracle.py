"""The core against the oracle, which reads the same semantics and shares no code with it."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from load.oracle import Oracle
from streams.columns import SecurityEvent
from streams.durations import DAY, HOUR, MINUTE, SECOND
from tests.event_logs import (
    BEGIN,
    SHORT_GAPS,
    Event,
    Played,
    Player,
    ask_oracle,
    history,
    logs,
    play,
)

# Without shrinking: each example takes a second of the oracle's time.
PHASES = (Phase.explicit, Phase.generate)
EXAMPLES = settings(max_examples=40, derandomize=True, deadline=None, phases=PHASES)


def assert_same(played: Played, oracle: Oracle) -> None:
    mine = [one.to_record() for one in played.findings]
    assert [_name(one) for one in mine] == [_name(one) for one in oracle.findings]
    for record, theirs in zip(mine, oracle.findings, strict=True):
        wrong = [name for name in theirs if not _equal(record[name], theirs[name])]
        assert wrong == [], (record, theirs)
    assert _sorted(played.windows) == _sorted(oracle.window_log)
    assert played.refused == [(offset, reason) for _, offset, reason in oracle.refusals]
    clocks = {name: clock for name, clock in oracle.clocks.items() if clock is not None}
    assert played.clocks == clocks


def _name(finding: dict[str, Any]) -> tuple[Any, ...]:
    names = ("at", "rule", "entity_id", "transition", "reason", "starts_at", "kind")
    return tuple(str(finding[name]) for name in names)


def _equal(mine: Any, theirs: Any) -> bool:
    if isinstance(theirs, float) and isinstance(mine, float):
        return math.isclose(mine, theirs, rel_tol=1e-12)
    return bool(mine == theirs)


def _sorted(windows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = ("at", "window_start", "agent_id", "task_type", "model")
    return sorted(windows, key=lambda one: [str(one[name]) for name in names])


@EXAMPLES
@given(logs(groups=8, most=30, gaps=SHORT_GAPS))
def test_logs_of_edges_say_what_the_oracle_says(log: list[Event]) -> None:
    events = history() + log

    assert_same(play(events), ask_oracle(events))


@EXAMPLES
@given(logs(groups=12, most=8, gaps=(3 * DAY,)))
def test_logs_past_the_bound_on_series_say_what_the_oracle_says(log: list[Event]) -> None:
    assert_same(play(log, max_series=4), ask_oracle(log, max_series=4))


def fleet(seed: int, weeks: int = 6, agents: int = 2, per_hour: int = 14) -> list[Event]:
    """Return weeks of a small fleet with incidents of all kinds, late and misdated events."""
    random = Random(seed)
    incidents = [
        (
            random.choice("ab"),
            BEGIN + int(random.uniform(4.2, weeks - 0.4) * 7 * DAY),
            random.choice([20 * MINUTE, 5 * HOUR, 30 * HOUR, 3 * DAY]),
            random.choice([(2, 0.7), (2, 0.1), (2, 0.05), (1, 0.35)]),
        )
        for _ in range(7)
    ]
    incidents.append(("b", BEGIN + 32 * DAY, 9 * DAY, (1, 0.5)))  # becomes the new normal
    events: list[Event] = []
    for agent in "abc"[:agents]:
        now = BEGIN
        while now < BEGIN + weeks * 7 * DAY:
            busy = 1.5 if 8 <= now // HOUR % 24 < 18 else 0.4
            burst = 6 if random.random() < 0.01 else 1
            now += int(random.expovariate(per_hour * busy) * HOUR)
            for _ in range(burst):
                roll, outcome = random.random(), random.choices((0, 1, 2, 3), (85, 12, 1, 2))[0]
                for whom, start, length, (kind, share) in incidents:
                    if whom == agent and start <= now < start + length and roll < share:
                        outcome = kind
                late = random.choice(
                    [0] * 40 + [HOUR, 7 * HOUR, 27 * HOUR, 9 * DAY, 37 * DAY, -90_000]
                )
                events.append(
                    Event(
                        now - late, now + random.randrange(900), agent, random.choice("tu"), outcome
                    )
                )
    return sorted(events, key=lambda event: event.stamp)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_six_weeks_of_a_fleet_say_what_the_oracle_says(seed: int) -> None:
    events = fleet(seed)
    random, player, start = Random(seed), Player(), 0
    while start < len(events):
        end = start + random.choice([7, 100, 1000, 5000])
        player.tasks(events[start:end])
        start = end
        if random.random() < 0.3:
            player.restart()
    player.drain()

    assert_same(player.played, ask_oracle(events))
    assert {"FIRING", "RESOLVED", "PENDING"} <= {one.transition for one in player.played.findings}


def test_security_and_idle_say_what_the_oracle_says() -> None:
    random, player, oracle = Random(4), Player(), Oracle(3)
    now, offset = BEGIN, 0
    for _ in range(400):
        now += random.choice([SECOND, MINUTE, 20 * MINUTE, 3 * HOUR, 6 * HOUR, 6 * HOUR - 1])
        late = random.choice([0, 0, 0, MINUTE, HOUR, 7 * HOUR, 37 * DAY, -MINUTE, -6 * MINUTE])
        fields: dict[str, Any] = {
            "occurred_at": now - late,
            "tenant": random.choice([None, "x"]),
            "agent_id": random.choice("ab"),
            "kind": random.choice(["OTHER", "INJECTION_ATTEMPT", "TRUST_TIER_VIOLATION"]),
            "severity": random.choice(["LOW", "LOW", "MEDIUM", "HIGH", "CRITICAL"]),
            "blocked": random.random() < 0.8,
        }
        match random.randrange(8):
            case 0:
                wall = now + random.choice([SECOND, 2 * HOUR, 7 * HOUR])
                player.core.idle(wall)
                oracle.idle(wall)
            case 1:
                player.core.quiet(now + HOUR)
                oracle.quiet(now + HOUR)
            case 2:
                player.restart()
            case 3:
                event = Event(now - late, now, random.choice("ab"), outcome=random.choice([0, 2]))
                oracle.task(player.offset, event.stamp, event.record())
                player.tasks([event])
            case _:
                event_ = SecurityEvent("id", **fields)
                refused = player.core.fold_security([event_], np.array([offset]), np.array([now]))
                oracle.security(offset, now, fields)
                player.played.refused += [(offset, str(one.reason)) for one in refused]
                offset += 1
    player.drain()

    assert_same(player.played, oracle)
    assert len(player.played.findings) > 200
