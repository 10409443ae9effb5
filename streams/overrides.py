"""The override rate: of an agent, and of each of its task types."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.durations import HOUR
from streams.findings import Entity
from streams.reasons import EntityKind
from streams.review_series import OVERRIDDEN, ReviewKey
from streams.shares import HOURS_KEPT, Past, ShareLives, Windows, share_finding, window_ends
from streams.watch import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from streams.findings import Evidence, Finding
    from streams.review_rules import ShareRule
    from streams.review_series import ReviewSeries
    from streams.series import Agent
    from streams.state import Stored
    from streams.watch import Change

    I64 = NDArray[np.int64]


class _Scope(NamedTuple):
    """Whose reviews are looked at together: an agent's, or those of one of its task types."""

    key: bytes
    subject: Subject
    rows: tuple[int, ...]


class OverrideRate:
    """The rule on the override rate over all agents of a partition.

    A task type is looked at by itself only where the agent has reviews of another one too: else
    both would say the same.

    Args:
        rule: the rule.
        series: the reviews.
    """

    def __init__(self, rule: ShareRule, series: ReviewSeries) -> None:
        self._rule, self._series = rule, series
        self._lives = ShareLives(rule)

    def busy(self) -> bool:
        """Return whether every hour matters."""
        return self._lives.busy()

    def holds(self, key: ReviewKey) -> bool:
        """Return whether anything is open on a series."""
        awake = set(self._lives.awake())
        return not awake.isdisjoint((_name(key.agent), _name(key.agent, key.task_type)))

    def hour(self, tick: int, evidence: Callable[[int], Evidence]) -> list[Finding]:
        """Look at an hour tick.

        Args:
            tick: a whole hour, ms.
            evidence: gives the evidence of a window that starts then, ms.
        """
        scopes = self._scopes(tick)
        if not scopes:
            return []
        windows = self._windows(tick, scopes)

        def past(places: I64) -> Past:
            chosen = [scopes[place] for place in places.tolist()]
            first = tick // HOUR - HOURS_KEPT
            return Past(*self._sums(chosen, first, HOURS_KEPT), windows.born[places])

        found = self._lives.hour(tick, [scope.key for scope in scopes], windows, past)
        seen = evidence(tick - self._rule.arm.window_ms)
        return [
            share_finding(self._rule, scopes[one.place].subject, one, tick, seen) for one in found
        ]

    # -- counting ----------------------------------------------------------------------------

    def _scopes(self, tick: int) -> list[_Scope]:
        """Return what may fire or is open: first by the overrides in the window, in row order."""
        if not self._series.keys:
            return []
        rows = np.arange(self._series.rows)
        width = self._rule.arm.window_ms // HOUR
        recent = self._series.hours.column(rows, tick // HOUR - width, width, OVERRIDDEN)
        hits, awake = recent.sum(axis=1), set(self._lives.awake())
        by_agent: dict[Agent, list[int]] = {}
        for row in sorted(self._series.keys):
            by_agent.setdefault(self._series.keys[row].agent, []).append(row)
        scopes: list[_Scope] = []
        for agent, own in by_agent.items():
            scopes.append(_scope(agent, None, own))
            if len(own) > 1 or awake:
                types = [(self._series.keys[row].task_type, row) for row in own]
                each = [_scope(agent, task_type, [row]) for task_type, row in types]
                scopes += [one for one in each if len(own) > 1 or one.key in awake]
        least = self._rule.arm.min_hits
        return [
            scope
            for scope in scopes
            if scope.key in awake or int(hits[list(scope.rows)].sum()) >= least
        ]

    def _windows(self, tick: int, scopes: Sequence[_Scope]) -> Windows:
        width = self._rule.arm.window_ms // HOUR
        parts = [
            self._sums(scopes, int(end) // HOUR - width, width)
            for end in window_ends(self._rule, tick)
        ]
        born = np.array([self._series.born(scope.rows).min() for scope in scopes], np.int64)
        total, hits = (
            np.stack([part[which].sum(axis=1) for part in parts], axis=1) for which in (0, 1)
        )
        return Windows(total, hits, born)

    def _sums(self, scopes: Sequence[_Scope], first: int, number: int) -> tuple[I64, I64]:
        """Return (reviews, overrides) of scopes by hour, int64[scopes, number] each."""
        rows = np.array([row for scope in scopes for row in scope.rows], np.int64)
        owner = np.repeat(np.arange(len(scopes)), [len(scope.rows) for scope in scopes])
        counts = self._series.hours.counts(rows, first, number).astype(np.int64)
        total, hits = (np.zeros((len(scopes), number), np.int64) for _ in range(2))
        np.add.at(total, owner, counts.sum(axis=2))
        np.add.at(hits, owner, counts[..., OVERRIDDEN])
        return total, hits

    # -- state -------------------------------------------------------------------------------

    def forget(self, keys: Iterable[ReviewKey]) -> None:
        """Drop the lives of series that are no more, and of agents without any."""
        agents = {key.agent for key in self._series.keys.values()}
        for key in keys:
            self._lives.drop(_name(key.agent, key.task_type))
            if key.agent not in agents:
                self._lives.drop(_name(key.agent))

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        return self._lives.changes()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this."""
        return self._lives.restore(stored)

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._lives.settle()


def _scope(agent: Agent, task_type: str | None, rows: Sequence[int]) -> _Scope:
    entity = Entity(agent.tenant, agent.agent_id)
    subject = Subject(EntityKind.AGENT, entity, task_type=task_type)
    return _Scope(_name(agent, task_type), subject, tuple(rows))


def _name(agent: Agent, task_type: str | None = None) -> bytes:
    """Return the short name of a scope: a JSON list."""
    return json.dumps([*agent, task_type], ensure_ascii=False, separators=(",", ":")).encode()
