"""Schedules: agents that are to be trained at intervals, and how near the date is.

The date follows from the profile alone. It is looked at every hour, and told where its state
changes: it approaches, is there, is past.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from streams import state
from streams.durations import DAY
from streams.findings import Entity
from streams.life import Turn
from streams.reasons import (
    EntityKind,
    RetrainingAction,
    RetrainingCause,
    Transition,
    TransitionReason,
)
from streams.watch import Happening, Measure, Subject, watch_finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from streams.drift_rules import RetrainingScheduleRule
    from streams.events import AgentProfile
    from streams.findings import Evidence, Finding
    from streams.series import Agent
    from streams.state import Stored
    from streams.watch import Change


class Due(IntEnum):
    """How near the date of the next training is."""

    FAR = 0
    APPROACHING = 1
    DUE = 2
    OVERDUE = 3


@dataclass(slots=True)
class TrainingDue:
    """The schedule of one agent.

    Attributes:
        first_seen: when it was first seen, from which on it counts while nothing else is known.
        started_at: when its finding began; None while the date is far.
        due: what was told.
        due_at: when it is due, as it was told.
    """

    first_seen: int
    started_at: int | None = None
    due: Due = Due.FAR
    due_at: int | None = None


class Profiles(Protocol):
    """Who knows the profiles."""

    def profile(self, agent: Agent) -> AgentProfile | None:
        """Return the profile of an agent, None where there is none."""


class ScheduleWatch:
    """The schedules of one partition; a `streams.watch.Watch`.

    Args:
        rule: the numbers.
        agents: of the rows of the tasks, as they are now.
        context: the profiles.
        evidence: where the records of a span of event time [start, end) lie.
        volume: tasks a day of a row at a tick, and their cost in US dollars.
    """

    def __init__(
        self,
        rule: RetrainingScheduleRule,
        agents: Mapping[int, Agent],
        context: Profiles,
        evidence: Callable[[int, int], Evidence],
        volume: Callable[[int, int], tuple[float, float]],
    ) -> None:
        self._rule, self._agents, self._context = rule, agents, context
        self._evidence, self._volume = evidence, volume
        self._schedules: dict[int, TrainingDue] = {}
        self._dirty: set[int] = set()

    def hour(self, tick: int) -> list[Finding]:
        """Return what an hour tick causes: see `Watch`."""
        found: list[Finding] = []
        for row in sorted(self._agents):
            found += self._look(row, tick)
        return found

    def busy(self) -> bool:
        """Return whether hours without any record matter too: where there is a schedule."""
        return bool(self._schedules)

    def _look(self, row: int, tick: int) -> list[Finding]:
        profile = self._context.profile(self._agents[row])
        interval = None if profile is None else profile.retraining_interval_days
        one = self._schedules.get(row)
        if profile is None or interval is None or profile.lifecycle == "RETIRED":
            found = [] if one is None else self._step(row, one, tick, Due.FAR)
            if one is not None:
                self._drop(row)
            return found
        if one is None:
            one = self._schedules[row] = TrainingDue(tick)
            self._dirty.add(row)
        trained = profile.last_trained_at
        start = trained if trained is not None and trained <= tick else one.first_seen
        length = interval * DAY
        fifth = int(length * self._rule.share)
        due_at = start + length
        due = (
            Due.OVERDUE
            if tick >= due_at + fifth
            else Due.DUE
            if tick >= due_at
            else Due.APPROACHING
            if tick >= due_at - fifth
            else Due.FAR
        )
        return self._step(row, one, tick, due, due_at)

    def _step(
        self, row: int, one: TrainingDue, tick: int, due: Due, due_at: int | None = None
    ) -> list[Finding]:
        """Bring what was told up to what is."""
        moved = one.due_at is not None and due_at != one.due_at
        if due is one.due and not moved:
            return []
        found: list[Finding] = []
        if one.started_at is not None and (due < one.due or moved):
            turn = Turn(Transition.RESOLVED, TransitionReason.CHANGED, 0, one.started_at)
            found.append(self._finding(row, one, tick, turn))
            one.started_at, one.due, one.due_at = None, Due.FAR, None
        if due > one.due:
            fresh = one.started_at is None
            one.started_at = tick if one.started_at is None else one.started_at
            one.due, one.due_at = due, due_at
            transition = Transition.FIRING if fresh else Transition.UPDATED
            turn = Turn(transition, TransitionReason.SCHEDULE, 0, one.started_at)
            found.append(self._finding(row, one, tick, turn))
        self._dirty.add(row)
        return found

    def _finding(self, row: int, one: TrainingDue, tick: int, turn: Turn) -> Finding:
        due_at = one.due_at or tick
        late = (tick - due_at) / DAY
        tasks, cost = self._volume(row, tick)
        measure = Measure(
            value=late,
            threshold=0.0,
            sample_count=1,
            window_start=turn.started_at,
            window_end=max(tick, turn.started_at + 1),
            detail=f"training {'was' if late >= 0 else 'is'} due {_days(late)}",
            numbers={
                "magnitude": max(late, 0.0),
                "due_at": float(due_at),
                "tasks_per_day": tasks,
                "cost_per_day": cost,
            },
        )
        entity = Entity(*self._agents[row])
        return watch_finding(
            self._rule,
            Subject(EntityKind.AGENT, entity),  # one life through all its states: no part of it
            Happening(turn, tick),
            measure,
            self._evidence(turn.started_at, max(tick, turn.started_at + 1)),
            kind=one.due.name,
            retraining_cause=RetrainingCause.SCHEDULE,
            retraining_action=RetrainingAction.FINE_TUNE,
        )

    def _drop(self, row: int) -> None:
        if self._schedules.pop(row, None) is not None:
            self._dirty.add(row)

    # -- state -------------------------------------------------------------------------------

    def forget(self, agents: Sequence[int], tasks: Sequence[int]) -> None:
        """Drop what is known of agent rows that were freed."""
        del tasks
        for row in agents:
            self._drop(row)

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        for row in sorted(self._dirty):
            one = self._schedules.get(row)
            key = state.training_due_key(row)
            if one is None:
                yield key, None
                continue
            fields = {
                "row": row,
                "first_seen": one.first_seen,
                "started_at": one.started_at,
                "part": one.due.name if one.due else None,
                "due_at": one.due_at,
            }
            yield key, state.encode("TrainingDueState", fields)
        self._dirty.clear()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this watch."""
        if stored.kind != "TrainingDueState":
            return False
        fields = stored.fields
        due = Due[fields["part"]] if fields["part"] else Due.FAR
        times = fields["first_seen"], fields["started_at"], due, fields["due_at"]
        self._schedules[fields["row"]] = TrainingDue(*times)
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._dirty.clear()


def _days(late: float) -> str:
    days = f"{abs(late):.0f} days" if round(abs(late)) != 1 else "1 day"
    if abs(late) < 1:
        return "today"
    return f"{days} ago" if late > 0 else f"in {days}"
