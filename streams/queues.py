"""The rule on queues: more work waits than the agent can do soon, and it grows.

Depths come by the minute, finished tasks by the minute of the tasks; both are looked at at the
minute ticks of the tasks. An agent without depths costs nothing.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from pydantic import Field

from streams import stats
from streams.arms import CLEAR, ENOUGH, FIRE, JUDGEABLE, WAKES, Part
from streams.durations import MINUTE, Duration
from streams.findings import Entity, Evidence
from streams.life import Turn
from streams.reasons import EntityKind, Severity, Transition, TransitionReason
from streams.series import MISSING, Agent
from streams.stored_lives import StoredLives
from streams.watch import Happening, KeyedLives, Measure, Subject, watch_finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.depths import Depths
    from streams.findings import Finding
    from streams.ledger import Ledger
    from streams.state import Stored
    from streams.watch import Change

    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]

LONGEST = 10_080.0
"""Backlog shown where none is finished, in minutes: a week stands for no end."""


class QueueRule(Part):
    """The rule on queues; it has one arm, which is itself.

    Attributes:
        window_ms: depths and finished tasks of so long are looked at.
        backlog_ms: fires when more than so much work waits, at the pace of the window. Raising it
            fires later.
        clear_backlog_ms: clears when no more than so much waits.
        min_points: minutes with a depth in the window that it takes to see a trend.
        for_ms: how long it must hold.
        clear_for_ms: how long it must be clear.
        quiet_ms: without any depth for so long, nothing is known: an open alert ends.
        relearn_after_ms: an alert open so long is the new usual.
        severity: of its findings.
        page: whether its alerts call a person.
    """

    name: Literal["queue"] = "queue"
    version: int = Field(ge=1)
    severity: Severity
    page: bool
    relearn_after_ms: Duration = Field(alias="relearn_after", gt=0)
    window_ms: Duration = Field(alias="window", gt=0, le=15 * MINUTE, multiple_of=MINUTE)
    backlog_ms: Duration = Field(alias="backlog", gt=0)
    clear_backlog_ms: Duration = Field(alias="clear_backlog", gt=0)
    min_points: int = Field(ge=2)
    for_ms: Duration = Field(alias="for", multiple_of=MINUTE)
    clear_for_ms: Duration = Field(alias="clear_for", multiple_of=MINUTE)
    quiet_ms: Duration = Field(alias="quiet", gt=0, le=360 * MINUTE, multiple_of=MINUTE)

    cool_down_ms: Literal[0] = 0

    @property
    def step_ms(self) -> int:
        """Distance of its ticks."""
        return MINUTE

    @property
    def arms(self) -> tuple[QueueRule]:
        """Its one arm."""
        return (self,)


class Backlog(NamedTuple):
    """The queues of some agents at a tick; each array has one value an agent.

    Attributes:
        depth: int64, tasks that wait; 0 where that is not known.
        known: int64, minutes of the window with a depth.
        finished: int64, tasks finished in the window.
        slope: float64, by how much the depth grows a minute; NaN where there are not two minutes,
            or so little waits that it does not matter.
    """

    depth: I64
    known: I64
    finished: I64
    slope: F64

    def one(self, place: int) -> Backlog:
        """Return the queue of the agent at a place."""
        here = slice(place, place + 1)
        return Backlog(self.depth[here], self.known[here], self.finished[here], self.slope[here])

    def minutes(self, window_ms: int) -> F64:
        """Return how long the work that waits takes at this pace, at most `LONGEST` minutes."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found = self.depth * (window_ms / MINUTE) / self.finished
        return np.where(self.depth == 0, 0.0, np.minimum(found, LONGEST))


class Queues:
    """The queue rule in one partition.

    Args:
        rule: its parameters.
        ledger: of the tasks.
        depths: of the queues, read at least up to each tick.
        topic: topic of the depths, for the evidence.
        partition: partition of both.
    """

    def __init__(
        self, rule: QueueRule, ledger: Ledger, depths: Depths, topic: str, partition: int
    ) -> None:
        self.rule = rule
        self._ledger, self._depths = ledger, depths
        self._evidence = Evidence(topic, partition, -1, -1)
        self._lives = KeyedLives(rule)
        self._stored = StoredLives(rule.name, self._lives)

    # -- ticks -------------------------------------------------------------------------------

    def busy(self) -> bool:
        """Return whether every minute tick matters, with or without records."""
        return self._lives.busy()

    def note(self, agents: I64, events: I64, clocks: I64) -> None:
        """Take tasks that are folded: they make no tick matter."""

    def expect(self, agents: I64, events: I64, clocks: I64) -> None:
        """Do nothing: tasks to come make no tick needless."""

    def stirred(self, agents: I64, events: I64, clocks: I64) -> int | None:
        """Return None: tasks to come make no tick matter."""
        del agents, events, clocks
        return None

    def next_tick(self, after: int) -> int | None:
        """Return the first minute tick past `after` that matters if no more records come."""
        if self.busy():
            return after // MINUTE * MINUTE + MINUTE
        return self._depths.next_tick(after)

    def minute(self, tick: int) -> list[Finding]:
        """Return what a minute tick causes, by agent; all that it sees is folded.

        Args:
            tick: a whole minute, ms; later than that of the call before.
        """
        fresh = self._depths.reporting(tick, self.rule.window_ms)
        awake = dict.fromkeys(_agent_of(key) for key in self._lives.awake())
        agents = list(dict.fromkeys(fresh) | awake)
        if not agents:
            return []
        backlog = self.backlog(agents, tick)
        stirs = self._cells(backlog)
        found: list[Finding] = []
        for place, agent in enumerate(agents):
            cell, key = int(stirs[place]), _key(agent)
            if cell & WAKES or agent in awake:
                turns = self._ended(agent, tick) or self._lives.step(key, tick, [cell])
                one = backlog.one(place)
                found += [self._finding(agent, Happening(turn, tick), one) for turn in turns]
        return found

    def backlog(self, agents: Sequence[Agent], tick: int) -> Backlog:
        """Return the queues of agents as of a tick."""
        span = self.rule.window_ms // MINUTE
        depths = np.full((len(agents), span), np.nan)
        there = [place for place, agent in enumerate(agents) if agent in self._depths]
        rows = self._depths.rows([agents[place] for place in there])
        depths[there] = self._depths.window(rows, tick, span)
        known = ~np.isnan(depths)
        last = span - 1 - np.argmax(known[:, ::-1], axis=1)
        depth = np.nan_to_num(depths[np.arange(len(agents)), last]).astype(np.int64)
        finished = self._finished(agents, tick, span)
        slope = np.full(len(agents), np.nan)
        many = np.flatnonzero(depth * self.rule.window_ms > self.rule.backlog_ms * finished)
        slope[many] = theil_sen(depths[many])
        return Backlog(depth, np.count_nonzero(known, axis=1), finished, slope)

    def depth_deltas(self, tick: int) -> list[tuple[Agent, int]]:
        """Return by how much the depth that each agent is known to have differs from a tick before.

        What waits where nothing is known any more counts as gone, so that sums over agents add up.
        """
        agents = self._depths.reporting(tick, self.rule.window_ms + MINUTE)
        if not agents:
            return []
        both = np.nan_to_num(self._depths.depths(agents, np.array([tick - MINUTE, tick])))
        change = (both[:, 1] - both[:, 0]).astype(np.int64).tolist()
        return [(agent, by) for agent, by in zip(agents, change, strict=True) if by]

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the lives that changed since the last call."""
        return self._stored.changes()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored life; return whether it is one of this rule."""
        return self._stored.restore(stored)

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._stored.settle()

    # -- inside ------------------------------------------------------------------------------

    def _finished(self, agents: Sequence[Agent], tick: int, span: int) -> I64:
        rows = np.array([self._ledger.series.row(agent) for agent in agents], np.int64)
        found = np.zeros(len(agents), np.int64)
        there = np.flatnonzero(rows != MISSING)
        if len(there):
            counts = self._ledger.agent_minutes.counts(rows[there], tick // MINUTE - span, span)
            found[there] = counts.sum(axis=(1, 2), dtype=np.int64)
        return found

    def _cells(self, backlog: Backlog) -> I64:
        rule = self.rule
        enough = backlog.known >= rule.min_points
        # Whole numbers: depth / (finished / window) > limit, and nothing finished is no division.
        work = backlog.depth * rule.window_ms
        fire = enough & (work > rule.backlog_ms * backlog.finished) & (backlog.slope > 0)
        judgeable = backlog.known > 0
        clear = judgeable & (work <= rule.clear_backlog_ms * backlog.finished)
        bits = zip((ENOUGH, FIRE, JUDGEABLE, CLEAR), (enough, fire, judgeable, clear), strict=True)
        found: I64 = np.sum([bit * mark for bit, mark in bits], axis=0)
        return found + WAKES * fire

    def _ended(self, agent: Agent, tick: int) -> list[Turn]:
        """End a life for want of any depth."""
        key, quiet = _key(agent), self.rule.quiet_ms // MINUTE
        life = self._lives.life(key)
        if life is None or life.started_at is None:
            return []
        if agent in self._depths:
            recent = self._depths.window(self._depths.rows([agent]), tick, quiet)
            if not np.isnan(recent).all():
                return []
        self._lives.drop(key)
        if life.fired_at is None:
            end = Transition.CANCELLED, TransitionReason.QUIET
        else:
            end = Transition.RESOLVED, TransitionReason.QUIET
        return [Turn(*end, 0, life.started_at)]

    def _finding(self, agent: Agent, happening: Happening, backlog: Backlog) -> Finding:
        rule, tick = self.rule, happening.at
        depth, finished = int(backlog.depth[0]), int(backlog.finished[0])
        span = rule.window_ms // MINUTE
        numbers = {"depth": float(depth), "finished": float(finished)}
        if not np.isnan(backlog.slope[0]):
            numbers["growth_per_minute"] = float(backlog.slope[0])
        measure = Measure(
            value=float(backlog.minutes(rule.window_ms)[0]),
            threshold=rule.backlog_ms / MINUTE,
            sample_count=finished,
            window_start=tick - rule.window_ms,
            window_end=tick,
            detail=f"{depth} tasks wait, {finished} were finished in {span} min",
            numbers=numbers,
        )
        subject = Subject(EntityKind.AGENT, Entity(*agent))
        return watch_finding(rule, subject, happening, measure, self._evidence)


def theil_sen(values: F64) -> F64:
    """Return the median of the slopes between all pairs of points, by row.

    One wild depth does not turn it, as it would a line of least squares.

    Args:
        values: [rows, points], a step apart; NaN for none.

    Returns:
        float64[rows], change a step; NaN with fewer than two points.

    Source: P. K. Sen (1968), "Estimates of the regression coefficient based on Kendall's tau",
    Journal of the American Statistical Association 63, 1379-1389.

    >>> theil_sen(np.array([[1.0, 2.0, 90.0, 4.0], [5.0, np.nan, np.nan, np.nan]])).tolist()
    [1.0, nan]
    """
    first, second = np.triu_indices(values.shape[1], 1)
    return stats.median((values[:, second] - values[:, first]) / (second - first))


def _key(agent: Agent) -> bytes:
    return json.dumps(agent, ensure_ascii=False, separators=(",", ":")).encode()


def _agent_of(key: bytes) -> Agent:
    return Agent(*json.loads(key))
