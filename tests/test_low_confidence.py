from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest

from streams import state
from streams.columns import BINS, CONFIDENCE_EDGES
from streams.durations import DAY, HOUR, WEEK
from streams.layout import TASKS
from streams.ledger import Batch, Ledger
from streams.low_confidence import LowConfidence, usual_edges
from streams.reasons import Severity, TransitionReason
from streams.rules import RuleSet
from streams.series import Agent
from tests.review_rig import MONDAY

if TYPE_CHECKING:
    from streams.findings import Finding

(RULE,) = (rule for rule in RuleSet.default().shares if rule.low is not None)
LATER = MONDAY + 5 * WEEK
USUAL = (0, 0, 2, 3, 5, 15, 25, 30, 15, 5)
"""Tasks of an hour by bin of confidence: 10 in 100 are under 0.8."""


class World:
    """One agent's tasks, hour by hour, and the watch."""

    def __init__(self) -> None:
        self.ledger = Ledger([], 100, TASKS)
        self.ledger.series.add(Agent(None, "claims-agent"), "claim")
        self.ledger.reserve()
        self.watch = LowConfidence(RULE, self.ledger, ("agentops.tasks", 2))
        self.findings: list[Finding] = []
        self.stored: dict[bytes, bytes] = {}
        self._offset = 0

    def hour(self, start: int, bins: tuple[int, ...], *, look: bool = True) -> None:
        """Let tasks come in an hour, so many of each bin; then look at its end."""
        places = np.repeat(np.arange(BINS), bins)
        number = len(places)
        events = start + np.arange(number) * (HOUR // max(1, number))
        offsets = np.arange(self._offset, self._offset + number)
        self._offset += number
        zeros = np.zeros(number, np.int64)
        sums = [zeros] * len(TASKS.sums)
        batch = Batch(zeros, zeros, zeros, events, events, offsets, sums, bins=places)
        self.ledger.reached.note(events, offsets)
        self.ledger.fold(batch, start, start + HOUR - 1)
        if look:
            self.findings += self.watch.hour(start + HOUR)

    def days(self, first: int, number: int, bins: tuple[int, ...], *, look: bool = True) -> None:
        """Let the same come in all hours of some days."""
        for start in range(first, first + number * DAY, HOUR):
            self.hour(start, bins, look=look)

    def restart(self) -> None:
        """Go on with a watch that knows only what is stored."""
        for key, value in self.watch.changes():
            if value is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = value
        self.watch = LowConfidence(RULE, self.ledger, ("agentops.tasks", 2))
        for record in state.decode(self.stored.items()):
            assert self.watch.restore(record)
        self.watch.settle()

    def told(self) -> list[Finding]:
        """Return the findings but the calm ones."""
        return [one for one in self.findings if one.transition not in {"PENDING", "CANCELLED"}]


@cache
def _settled() -> World:
    world = World()
    world.days(MONDAY, 35, USUAL, look=False)
    return world


def settled() -> World:
    """Return a world after five usual weeks."""
    return deepcopy(_settled())


def lower(percent: float) -> tuple[int, ...]:
    """Return 1,000 tasks of which so many per cent are under 0.8."""
    few = round(percent * 10)
    return (0, 0, 0, 0, few, 0, 1000 - few, 0, 0, 0)


def test_a_rise_past_the_limit_fires() -> None:
    world = settled()
    world.days(LATER, 2, (0, 0, 4, 6, 10, 10, 20, 30, 15, 5))

    (found,) = world.told()
    assert (str(found.transition), found.arm, found.severity) == ("FIRING", "24h", Severity.WARNING)
    assert not found.page
    assert found.baseline == pytest.approx(0.1)
    assert found.threshold == pytest.approx(0.135)
    assert found.value > found.threshold
    assert found.baseline_weeks == 4
    numbers = dict(zip(found.measure_names, found.measure_values, strict=True))
    assert numbers["under"] == CONFIDENCE_EDGES[5] == 0.8
    assert (found.evidence_topic, found.evidence_partition) == ("agentops.tasks", 2)
    assert 0 < found.first_offset < found.last_offset


def test_within_five_per_cent_below_the_limit_nothing_fires() -> None:
    world = settled()
    world.days(LATER, 2, lower(13.2))

    assert world.told() == []


def test_just_above_the_limit_it_fires() -> None:
    world = settled()
    world.days(LATER, 2, lower(13.8))

    assert [str(one.transition) for one in world.told()] == ["FIRING"]


def test_it_must_hold_for_two_hours() -> None:
    world = settled()
    world.days(LATER, 1, USUAL)
    world.hour(LATER + DAY, (0, 0, 0, 0, 400, 0, 0, 0, 0, 0))
    world.hour(LATER + DAY + HOUR, USUAL)

    assert world.told() == []
    world.hour(LATER + DAY + 2 * HOUR, USUAL)
    assert [one.at for one in world.told()] == [LATER + DAY + 3 * HOUR]


def test_it_resolves_after_half_a_day_back_to_normal() -> None:
    world = settled()
    world.days(LATER, 2, lower(30))
    world.days(LATER + 2 * DAY, 3, USUAL)

    fired, resolved = world.told()
    assert resolved.reason == TransitionReason.CLEAR_ELAPSED
    assert resolved.starts_at == fired.starts_at


def test_an_incident_does_not_hide_the_next_one() -> None:
    """The days of the first are no part of the usual of the second."""
    world = settled()
    world.days(LATER, 2, lower(30))
    world.days(LATER + 2 * DAY, 5, USUAL)
    world.days(LATER + 7 * DAY, 2, lower(30))

    assert [str(one.transition) for one in world.told()] == ["FIRING", "RESOLVED", "FIRING"]
    assert world.told()[2].baseline == pytest.approx(0.1)
    assert world.told()[2].baseline_weeks == 3


def test_an_agent_that_is_always_sure_is_watched_too() -> None:
    world = World()
    world.days(MONDAY, 35, (0, 0, 0, 0, 0, 0, 0, 0, 0, 20), look=False)
    world.days(LATER, 2, (0, 0, 0, 0, 0, 0, 0, 0, 5, 15))

    assert [str(one.transition) for one in world.told()] == ["FIRING"]


def test_an_agent_with_few_tasks_has_no_usual_percentile() -> None:
    world = World()
    for day in range(35):
        world.hour(MONDAY + day * DAY, (1, 0, 0, 0, 0, 0, 0, 0, 0, 5), look=False)
    world.days(LATER, 2, (20, 0, 0, 0, 0, 0, 0, 0, 0, 0))

    assert world.told() == []


def test_a_life_of_a_row_given_anew_is_forgotten() -> None:
    world = settled()
    world.days(LATER, 2, lower(30))
    assert world.watch.busy()
    world.watch.forget([0], [0])

    assert not world.watch.busy()


def test_a_restart_at_any_hour_gives_the_same_findings() -> None:
    plain, restarted = settled(), settled()
    for day, bins in enumerate((USUAL, lower(30), lower(30), USUAL, USUAL)):
        for hour in range(24):
            start = LATER + day * DAY + hour * HOUR
            plain.hour(start, bins)
            restarted.restart()
            restarted.hour(start, bins)

    assert restarted.findings == plain.findings
    assert len(plain.told()) == 2


def test_the_nearest_edge_is_the_percentile() -> None:
    assert RULE.low is not None
    rows = np.array([[0, 0, 0, 0, 30, 70, 0, 0, 0, 0], [50, 0, 0, 0, 0, 50, 0, 0, 0, 0]])
    many = np.array([[1, 1, 2, 4, 8, 16, 20, 30, 10, 8]])

    assert usual_edges(RULE.low, rows).tolist() == [5, 1]
    assert usual_edges(RULE.low, many).tolist() == [4]


def test_a_quiet_season_has_no_finding() -> None:
    dice = np.random.default_rng(5)
    world = World()
    usual = np.array(USUAL) / 100
    for day in range(60):
        swing = np.exp(dice.normal(0, 0.08))  # days differ by 8 %
        weights = usual * np.where(np.arange(BINS) < 5, swing, 1)
        volume = 12 if day % 7 > 4 else 40
        for hour in range(24):
            bins = dice.multinomial(int(dice.poisson(volume)), weights / weights.sum())
            world.hour(MONDAY + day * DAY + hour * HOUR, tuple(bins.tolist()))

    assert world.told() == []
