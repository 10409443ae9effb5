"""Roll-up against the machinery it shares: what one agent alone shows, a fleet of it shows too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streams import schemas
from streams.durations import DAY, HOUR, MINUTE
from streams.feed import Feed
from streams.findings import Entity, Evidence, rate_finding
from streams.layout import TASKS, task_sums
from streams.ledger import Ledger
from streams.partials import Kind, PartialWriter, Stream
from streams.reasons import EntityKind
from streams.rollup import RollUp, Section
from streams.rules import RuleSet
from streams.security import SeriesLimitLife
from streams.tasks import TaskTap
from streams.watch import Subject
from tests.event_logs import BEGIN, Event, columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.findings import Finding
    from streams.sweep import Happened

RULES = RuleSet.default()


def found(one: Happened) -> Finding:
    entity = Entity(one.agent.tenant, one.agent.agent_id)
    return rate_finding(
        one.rate.rule, one.found.step, entity, one.found.sample, Evidence("tasks", 0, 0, 0)
    )


class Source:
    """One partition of tasks, as far as roll-up hears of it."""

    def __init__(self, number: int, homes: int = 1) -> None:
        limit = SeriesLimitLife(RULES.series_limit, "tasks", number, 1000)
        self.feed = Feed(Ledger(RULES.rates, 1000, TASKS), limit, sums=task_sums, find=found)
        self.writer = PartialWriter(Stream.TASKS, number, homes)
        self.feed.taps.append(TaskTap(self.feed.ledger.series, self.writer))
        self._offset = 0

    def take(self, events: Sequence[Event]) -> None:
        offsets = np.arange(self._offset, self._offset + len(events))
        self._offset += len(events)
        stamps = np.array([event.stamp for event in events], np.int64)
        assert not self.feed.fold(columns(events), offsets, stamps)

    def told(self) -> list[dict[str, Any]]:
        values = [
            schemas.encode("Partials", record)
            for _, record in self.writer.take(self.feed.clock.now)
        ]
        return [schemas.decode(value)[1] for value in values]


def fleet(sources: int) -> RollUp:
    section = Section(
        ledger=Ledger(RULES.rates, 1000, TASKS),
        stream=Stream.TASKS,
        kinds=frozenset({Kind.FLEET}),
        subject=lambda agent: Subject(EntityKind.FLEET, Entity(agent.tenant, agent.agent_id)),
    )
    return RollUp([section], sources=sources, source=("partials", 0))


class Played:
    """What a roll-up said, over any number of restarts."""

    def __init__(self, sources: int) -> None:
        self.core = fleet(sources)
        self.findings: list[Finding] = []
        self.windows: list[dict[str, Any]] = []
        self._sources = sources
        self._state: dict[bytes, bytes] = {}
        self._offset = 0

    def take(self, records: list[dict[str, Any]]) -> None:
        offsets = np.arange(self._offset, self._offset + len(records))
        self._offset += len(records)
        assert self.core.fold(records, offsets) == []

    def drain(self) -> None:
        drained = self.core.drain()
        self.findings += drained.findings
        self.windows += drained.windows
        for key, value in drained.state:
            self._state.pop(key, None)
            if value is not None:
                self._state[key] = value

    def restart(self) -> None:
        self.drain()
        self.core = fleet(self._sources)
        self.core.restore(self._state.items())


def days(seed: int, number: int, dropped: frozenset[int] = frozenset()) -> list[Event]:
    """Return tasks of one agent, one in eight not automated, every other one on some days."""
    rng = np.random.default_rng(seed)
    events = []
    for day in range(number):
        share = 0.5 if day in dropped else 0.875
        for at in np.sort(rng.integers(0, DAY, 300)).tolist():
            late = int(rng.integers(0, 3 * HOUR)) if rng.random() < 0.02 else 0
            outcome = 0 if rng.random() < share else 1
            time = BEGIN + day * DAY + at
            events.append(Event(time - late, time, f"agent-{seed}", "t", outcome))
    return events


def steps(findings: Sequence[Finding], step: int = MINUTE) -> list[tuple[Any, ...]]:
    return [
        (one.rule, one.arm, one.transition, one.at, one.sample_count, one.value, one.baseline)
        for one in findings
        if one.at % step == 0
    ]


def test_a_fleet_of_one_agent_says_what_the_agent_says() -> None:
    source, played = Source(0), Played(1)
    for start in range(0, 300 * 11, 500):
        source.take(days(1, 11, frozenset({9}))[start : start + 500])
        played.take(source.told())
    played.drain()

    agent = [one for one in source.feed.findings if one.arm == "24h"]
    assert agent
    last = max(played.core.clocks.values())
    assert steps(played.findings) == steps([one for one in agent if one.at <= last])
    assert {one.entity_kind for one in played.findings} == {EntityKind.FLEET}


@pytest.mark.parametrize("seed", range(2))
def test_interleaving_cuts_and_restarts_change_nothing(seed: int) -> None:
    logs = [days(1, 10, frozenset({8})), days(2, 10, frozenset({8}))]
    results = []
    for chaos in (False, True):
        rng = np.random.default_rng(seed)
        sources, played, places = [Source(0), Source(1)], Played(2), [0, 0]
        while any(place < len(log) for place, log in zip(places, logs, strict=True)):
            which = int(rng.integers(2)) if chaos else places.index(min(places))
            number = int(rng.integers(1, 900)) if chaos else 300
            sources[which].take(logs[which][places[which] : places[which] + number] or [])
            places[which] += number
            if not chaos or rng.random() < 0.6:
                played.take(sources[which].told())
            if chaos and rng.random() < 0.1:
                played.restart()
        for source in sources:
            played.take(source.told())
        played.drain()
        results.append((steps(played.findings, 1), played.windows))

    assert results[0] == results[1]
    assert results[0][0]


def test_windows_equal_a_count_of_the_log() -> None:
    logs = [days(3, 2), days(4, 2)]
    sources, played = [Source(0), Source(1)], Played(2)
    for start in range(0, 600, 100):
        for source, log in zip(sources, logs, strict=True):
            source.take(log[start : start + 100])
            played.take(source.told())
    played.drain()

    newest: dict[int, dict[str, Any]] = {}
    for window in played.windows:
        newest[window["window_start"]] = window
    until = max(played.core.clocks.values())
    assert len(newest) >= 40
    for hour, window in newest.items():
        seen = [e for log in logs for e in log if hour <= e.at < hour + HOUR and e.stamp < until]
        assert window["automated"] == sum(e.outcome == 0 for e in seen)
        assert window["escalated"] == sum(e.outcome == 1 for e in seen)
        assert window["cost_micro_usd"] == sum(e.weight for e in seen)


def test_a_silent_partition_holds_the_fleet_back_until_it_says_that_it_is_empty() -> None:
    source, played = Source(0), Played(2)
    source.take(days(5, 2))
    played.take(source.told())
    assert played.core.clocks == {}

    played.take([record for _, record in Source(1).writer.take(None)])

    assert list(played.core.clocks) == ["TASKS"]
