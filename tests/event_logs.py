"""Logs of task events for the tests of the core: how to make them and how to play them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from load.oracle import Oracle
from streams.columns import DictColumn, TaskColumns
from streams.detect import Detect
from streams.durations import DAY, HOUR, MINUTE, SECOND
from streams.rules import RuleSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streams.findings import Finding

BEGIN = 20_000 * DAY + 9 * HOUR
OUTCOMES = ("AUTOMATED", "ESCALATED", "FAILED", "UNKNOWN")


class Event(NamedTuple):
    """One task event, with its record timestamp."""

    at: int
    stamp: int
    agent: str = "a"
    task_type: str = "t"
    outcome: int = 0
    tenant: str | None = None
    weight: int = 7  # cost, duration and tokens are made of it
    model: str | None = None
    confidence: float | None = None

    def record(self) -> dict[str, Any]:
        """Return it as the oracle takes it."""
        return {
            "occurred_at": self.at,
            "tenant": self.tenant,
            "agent_id": self.agent,
            "task_type": self.task_type,
            "outcome": OUTCOMES[self.outcome],
            "cost_usd": self.weight / 1e6,
            "duration_ms": self.weight * 2 / 1e3,
            "input_tokens": self.weight * 3,
            "output_tokens": self.weight * 5,
            "cached_tokens": self.weight,
            "model": self.model,
            "confidence": self.confidence,
        }


def columns(events: Sequence[Event]) -> TaskColumns:
    """Return events as the core takes them."""
    weight = np.array([event.weight for event in events], np.int64)
    confidence = [np.nan if one.confidence is None else one.confidence for one in events]
    return TaskColumns(
        occurred_at=np.array([event.at for event in events], np.int64),
        outcome=np.array([event.outcome for event in events], np.int8),
        cost_micro=weight,
        duration_us=weight * 2,
        input_tokens=weight * 3,
        output_tokens=weight * 5,
        cached_tokens=weight,
        tenant=DictColumn.of([event.tenant for event in events]),
        agent=DictColumn.of([event.agent for event in events]),
        task_type=DictColumn.of([event.task_type for event in events]),
        model=DictColumn.of([event.model for event in events]),
        confidence=np.array(confidence, np.float64),
    )


@dataclass
class Played:
    """What came of a log."""

    findings: list[Finding] = field(default_factory=list)
    windows: list[dict[str, Any]] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)
    state: dict[bytes, bytes] = field(default_factory=dict)
    clocks: dict[str, int] = field(default_factory=dict)


class Player:
    """Plays events to a core, and keeps what comes of them as a broker would."""

    def __init__(self, rules: RuleSet | None = None, max_series: int = 1000) -> None:
        self.rules = rules or RuleSet.default()
        self.max_series = max_series
        self.core = self._new()
        self.played = Played()
        self.offset = 0

    def tasks(self, events: Sequence[Event]) -> None:
        """Give the core one batch."""
        offsets = np.arange(self.offset, self.offset + len(events))
        stamps = np.array([event.stamp for event in events], np.int64)
        refused = self.core.fold_tasks(columns(events), offsets, stamps)
        self.played.refused += [(self.offset + one.index, str(one.reason)) for one in refused]
        self.offset += len(events)

    def drain(self) -> None:
        """Take over what the core has to say."""
        drained = self.core.drain()
        self.played.findings += drained.findings
        self.played.windows += drained.windows
        for key, value in drained.state:
            if value is None:
                self.played.state.pop(key, None)
            else:
                self.played.state[key] = value
        self.played.clocks = self.core.clocks

    def restart(self, order: Iterable[bytes] | None = None) -> None:
        """Drain, and go on with a new core made of the state alone."""
        self.drain()
        self.core = self._new()
        keys = list(self.played.state) if order is None else list(order)
        self.core.restore((key, self.played.state[key]) for key in keys)

    def _new(self) -> Detect:
        return Detect(self.rules, partition=3, max_series=self.max_series)


def play(events: Sequence[Event], rules: RuleSet | None = None, max_series: int = 1000) -> Played:
    """Play a log in one batch."""
    player = Player(rules, max_series)
    player.tasks(events)
    player.drain()
    return player.played


def ask_oracle(events: Sequence[Event], max_series: int = 1000) -> Oracle:
    """Play a log to the oracle."""
    oracle = Oracle(3, max_series=max_series)
    for offset, event in enumerate(events):
        oracle.task(offset, event.stamp, event.record())
    return oracle


# -- strategies --------------------------------------------------------------------------------

STEPS = (
    *(0, 0, 1, 500, 4_999, 5 * SECOND, 5 * SECOND + 1, 20 * SECOND, MINUTE - 1, MINUTE, MINUTE + 1),
    *(5 * MINUTE, 16 * MINUTE, HOUR - 1, HOUR, HOUR + 1, 3 * HOUR, 11 * HOUR, DAY - 1, DAY),
)
"""How far the log goes on between two groups of events."""

SHORT_GAPS = (3 * DAY, 7 * DAY, 8 * DAY + 1)
GAPS = (*SHORT_GAPS, 30 * DAY, 37 * DAY, 400 * DAY)

AGES = (
    *(0, 0, 0, 0, 1, MINUTE, HOUR, 3 * HOUR, 3 * HOUR + MINUTE, 25 * HOUR, 7 * DAY, 8 * DAY),
    *(36 * DAY, 36 * DAY + HOUR, 36 * DAY + HOUR + 1, 37 * DAY),
    *(-1, -2 * MINUTE, -5 * MINUTE, -5 * MINUTE - 1),
)
"""How late, or with a minus how far ahead, the events of a group are."""


@st.composite
def logs(
    draw: st.DrawFn, groups: int = 15, most: int = 25, gaps: Sequence[int] = GAPS
) -> list[Event]:
    """Draw a log of groups of events: edges of panes, ticks and limits, bursts, and gaps."""
    now = BEGIN + draw(st.sampled_from([0, 15 * HOUR - 2, 15 * HOUR, HOUR - 5 * SECOND]))
    events: list[Event] = []
    step = st.one_of(
        st.sampled_from(STEPS), st.sampled_from(STEPS), st.integers(0, DAY), st.sampled_from(gaps)
    )
    for _ in range(draw(st.integers(1, groups))):
        now += draw(step)
        at = now - draw(st.sampled_from(AGES))
        size = draw(st.sampled_from([1, 1, 2, 8, most]))
        agent, task_type = draw(st.sampled_from("abc")), draw(st.sampled_from("tu"))
        outcomes = draw(st.sampled_from([(0,), (0,), (2,), (0, 0, 2), (0, 1), (1,), (0, 3, 0, 1)]))
        spread = draw(st.sampled_from([0, 0, 300, 4 * SECOND, 40 * SECOND]))
        for index in range(size):
            move = index * spread
            outcome = outcomes[index % len(outcomes)]
            # Some series have two models; some events, and some of those at edges, a confidence.
            model = None if task_type == "t" else "mn"[index % 7 == 0]
            sure = None if index % 5 == 0 else index % 21 / 20
            one = Event(at + move, now + move, agent, task_type, outcome, None, index, model, sure)
            events.append(one)
        now += spread * (size - 1)
    return events


def history(agent: str = "a", weeks: int = 4, size: int = 60) -> list[Event]:
    """Return quiet past weeks of an agent: a baseline for what `logs` draws after it."""
    found = []
    for week in range(weeks, 0, -1):
        for index in range(size):
            at = BEGIN - week * 7 * DAY - (size - index) * 20 * MINUTE
            found.append(Event(at, at, agent, "t", 1 if index % 10 == 0 else 0))
    return found
