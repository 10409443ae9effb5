"""The recommendation of confidence thresholds over all agents of a partition, day by day."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from streams import state
from streams.closing import GRACE
from streams.columns import BINS, CONFIDENCE_EDGES
from streams.durations import DAY
from streams.findings import Entity
from streams.life import Turn
from streams.reasons import EntityKind, Transition, TransitionReason
from streams.review_series import ReviewKey
from streams.series import Agent
from streams.standing import Standing
from streams.thresholds import Advice, Bins, advise
from streams.watch import Happening, Measure, Subject, watch_finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streams.findings import Evidence, Finding
    from streams.late_tasks import ClosedTasks
    from streams.review_rules import ThresholdRule
    from streams.review_series import ReviewSeries
    from streams.state import Stored
    from streams.watch import Change

_REASONS = (TransitionReason.AT_ONCE, TransitionReason.CLEAR_ELAPSED)


@dataclass(slots=True)
class _Open:
    """A recommendation that stands: its life, and the bin whose lower edge it is."""

    life: Standing = field(default_factory=Standing)
    edge: int = 0


class ThresholdAdvice:
    """The rule on thresholds over the series of reviews of a partition.

    Args:
        rule: the rule.
        series: the reviews.
        tasks: closed days of tasks.
        clock: gives the clock of the tasks, ms; None before the first.
    """

    def __init__(
        self,
        rule: ThresholdRule,
        series: ReviewSeries,
        tasks: ClosedTasks,
        clock: Callable[[], int | None],
    ) -> None:
        self._rule, self._series = rule, series
        self._tasks, self._clock = tasks, clock
        self._open: dict[ReviewKey, _Open] = {}
        self._dirty: set[ReviewKey] = set()

    def busy(self) -> bool:
        """Return whether a recommendation stands, which may have to end."""
        return bool(self._open)

    def day(self, tick: int, evidence: Callable[[int], Evidence]) -> list[Finding]:
        """Look at the closed days before the day of a tick; call it once a day.

        Args:
            tick: a whole hour, ms, past the grace of midnight.
            evidence: gives the evidence of a window that starts then, ms.
        """
        today, now = tick // DAY, self._clock()
        rows = sorted(self._series.keys)
        if not rows or now is None or now < today * DAY + GRACE:  # the tasks' days are not closed
            return []
        first = today - self._rule.span_days
        counts = self._series.days.counts(np.array(rows, np.int64), first, self._rule.span_days)
        by_bin = counts.sum(axis=1, dtype=np.int64).reshape(-1, 2, 2, BINS)
        seen = evidence(first * DAY)
        found: list[Finding] = []
        for row, verdicts in zip(rows, by_bin, strict=True):
            key = self._series.keys[row]
            advice = None
            if int(verdicts.sum()) >= self._rule.min_reviews:
                tasks = self._tasks.days(key.agent, key.task_type, first, self._rule.span_days)
                advice = advise(self._rule, Bins(tasks, verdicts[:, 0], verdicts[:, 1]))
            found += self._step(key, advice, tick, seen)
        return found

    def forget(self, keys: Iterable[ReviewKey]) -> None:
        """Drop series that are no more."""
        for key in keys:
            if self._open.pop(key, None) is not None:
                self._dirty.add(key)

    # -- living ------------------------------------------------------------------------------

    def _step(
        self, key: ReviewKey, advice: Advice | None, tick: int, seen: Evidence
    ) -> list[Finding]:
        best = None if advice is None else advice.best
        one = self._open.get(key)
        if one is None:
            if best is None:
                return []
            one = self._open[key] = _Open(edge=best.edge)
        self._dirty.add(key)
        turn = one.life.step(tick, self._rule.quiet_ms, holds=best is not None, reasons=_REASONS)
        if turn is None and best is not None and best.edge != one.edge:
            started = tick if one.life.started_at is None else one.life.started_at
            turn = Turn(Transition.UPDATED, TransitionReason.CONDITION_TRUE, 0, started)
        if best is not None:
            one.edge = best.edge
        if not one.life.open:
            del self._open[key]
        if turn is None:
            return []
        return [self._finding((key, advice, one.edge), turn, tick, seen)]

    def _finding(
        self, about: tuple[ReviewKey, Advice | None, int], turn: Turn, tick: int, seen: Evidence
    ) -> Finding:
        key, advice, edge = about
        entity = Entity(key.agent.tenant, key.agent.agent_id)
        subject = Subject(EntityKind.AGENT, entity, task_type=key.task_type)
        end = tick // DAY * DAY
        told = advice is not None and advice.best is not None
        current = edge if advice is None else advice.current.edge
        measure = Measure(
            value=CONFIDENCE_EDGES[edge],
            threshold=CONFIDENCE_EDGES[current],
            sample_count=0 if advice is None else advice.tasks,
            window_start=end - self._rule.span_days * DAY,
            window_end=end,
            detail=advice.sentence if told and advice is not None else None,
            numbers={} if advice is None else advice.numbers,
        )
        return watch_finding(self._rule, subject, Happening(turn, tick), measure, seen)

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        for key in sorted(self._dirty, key=_name):
            one = self._open.get(key)
            value = None
            if one is not None:
                fields = {
                    "tenant": key.agent.tenant,
                    "agent_id": key.agent.agent_id,
                    "task_type": key.task_type,
                    "started_at": one.life.started_at,
                    "quiet_since": one.life.quiet_since,
                    "edge": one.edge,
                }
                value = state.encode("AdviceState", fields)
            yield state.advice_key(_name(key)), value
        self._dirty.clear()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this."""
        if stored.kind != "AdviceState":
            return False
        fields = stored.fields
        key = ReviewKey(Agent(fields["tenant"], fields["agent_id"]), fields["task_type"])
        life = Standing(fields["started_at"], fields["quiet_since"])
        self._open[key] = _Open(life, fields["edge"])
        return True


def _name(key: ReviewKey) -> bytes:
    parts = [*key.agent, key.task_type]
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()
