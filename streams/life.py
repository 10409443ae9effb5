"""The life of a rate rule on one row: inactive, pending, firing, and back, each step with a reason.

It follows from the arms: the rule fires while any arm does, and is pending while none fires and
any is pending. Its past marks the baseline: hours of an alert are tainted, and an alert that
stayed is accepted as the new normal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.arms import ArmLife, Move, Phase
from streams.durations import HOUR
from streams.reasons import Transition, TransitionReason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streams.rules import RateRule

FOREVER = 2**63 - 1
"""End of the taint of an open alert."""


class Turn(NamedTuple):
    """One transition, the arm that caused it, and when the life it belongs to began, ms."""

    transition: Transition
    reason: TransitionReason
    arm: int
    started_at: int


@dataclass(slots=True)
class Life:
    """The state of a rule on one row.

    Attributes:
        arms: one for each arm of the rule.
        started_at: when the rule left inactive; None while it is inactive.
        fired_at: when it began to fire; None while it does not.
        last_resolved: when it last stopped firing.
        relearned_from: hour from which the newest accepted normal counts.
        taint: hours of closed alerts, as [from, to).
    """

    arms: list[ArmLife]
    started_at: int | None = None
    fired_at: int | None = None
    last_resolved: int | None = None
    relearned_from: int | None = None
    taint: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def new(cls, rule: RateRule) -> Life:
        """Return the life of a rule that never left inactive."""
        return cls([ArmLife() for _ in rule.arms])

    def step(
        self, rule: RateRule, tick: int, due: Mapping[int, int], cells: Sequence[NDArray[np.uint8]]
    ) -> tuple[list[Turn], bool]:
        """Step the arms that have this tick, then the rule.

        Args:
            rule: its parameters.
            tick: event time, ms.
            due: the arms that have the tick, in order, with the column of their cell.
            cells: for each arm its cells, as of `arms.pack`.

        Returns:
            Transitions in order, and whether anything of the state changed.
        """
        fired = self.stands(Phase.FIRING)
        moves: dict[Move, int] = {}  # the first arm of each kind
        for arm, column in due.items():
            spec = rule.arms[arm]
            calm = self.last_resolved is None or tick - self.last_resolved >= spec.cool_down_ms
            move = self.arms[arm].step(spec, int(cells[arm][column]), tick, cooled=calm)
            moves.setdefault(move, arm)
        if fired is not None and self._is_usual(rule, tick):
            turns = [self._relearn(tick, fired)]
        else:
            turns = self._turn(rule, tick, moves)
        return turns, bool(turns) or not moves.keys() <= {Move.NONE}

    def stands(self, phase: Phase) -> int | None:
        """Return the first arm in a phase, None for none."""
        return next((at for at, arm in enumerate(self.arms) if arm.phase is phase), None)

    def tainted(self) -> list[tuple[int, int]]:
        """Return the spans [from, to) that are no part of the usual, ms."""
        if self.fired_at is None or self.started_at is None:
            return self.taint
        return [*self.taint, (_hour(self.started_at), FOREVER)]

    def excluded(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of [start, end) that are no part of the usual, disjoint, ascending."""
        spans = self.tainted()
        if self.relearned_from is not None:
            spans = [(start, self.relearned_from), *spans]
        found: list[tuple[int, int]] = []
        for first, last in sorted((max(a, start), min(b, end)) for a, b in spans):
            if found and first <= found[-1][1]:
                found[-1] = found[-1][0], max(found[-1][1], last)
            elif first < last:
                found.append((first, last))
        return found

    def prune(self, oldest: int) -> bool:
        """Forget taint and a resolve from before `oldest`, ms; return whether there was any."""
        taint = [span for span in self.taint if span[1] > oldest]
        stale = self.last_resolved is not None and self.last_resolved < oldest
        pruned = stale or len(taint) < len(self.taint)
        self.taint = taint
        if stale:
            self.last_resolved = None
        return pruned

    def blank(self) -> bool:
        """Return whether nothing would be lost by forgetting it."""
        marks = (self.started_at, self.last_resolved, self.relearned_from)
        return not self.taint and all(mark is None for mark in marks)

    def dump(self) -> dict[str, Any]:
        """Return it in plain values: times in ms or None, lists by arm, taint as flat pairs."""
        return {
            "started_at": self.started_at,
            "fired_at": self.fired_at,
            "last_resolved": self.last_resolved,
            "relearned_from": self.relearned_from,
            "phases": [int(arm.phase) for arm in self.arms],
            "since": [arm.since for arm in self.arms],
            "clear_since": [arm.clear_since for arm in self.arms],
            "taint": [time for span in self.taint for time in span],
        }

    @classmethod
    def of(cls, rule: RateRule, record: Mapping[str, Any]) -> Life:
        """Return the life that `dump` gave.

        Raises:
            ValueError: it has another number of arms than the rule.
        """
        columns = (record["phases"], record["since"], record["clear_since"])
        if any(len(column) != len(rule.arms) for column in columns):
            raise ValueError(
                f"the stored life of {rule.name} has {len(columns[0])} arms, the rule has "
                f"{len(rule.arms)}: rules with other arms need a new state"
            )
        times = list(record["taint"])
        return cls(
            arms=[ArmLife(Phase(phase), *since) for phase, *since in zip(*columns, strict=True)],
            started_at=record["started_at"],
            fired_at=record["fired_at"],
            last_resolved=record["last_resolved"],
            relearned_from=record["relearned_from"],
            taint=list(zip(times[::2], times[1::2], strict=True)),
        )

    def _is_usual(self, rule: RateRule, tick: int) -> bool:
        """Return whether the rule fires for so long that it is the new normal."""
        return self.fired_at is not None and tick - self.fired_at >= rule.relearn_after_ms

    def _relearn(self, tick: int, arm: int) -> Turn:
        """Take what fired for the new normal; `arm` is the first that fired before this tick."""
        started, _ = self._open()
        for one in self.arms:
            one.reset()
        self.started_at = self.fired_at = None
        self.last_resolved, self.relearned_from = tick, _hour(started)
        self.taint = []
        return Turn(Transition.RESOLVED, TransitionReason.REBASELINED, arm, started)

    def _turn(self, rule: RateRule, tick: int, moves: Mapping[Move, int]) -> list[Turn]:
        """Bring the rule up to its arms after they moved."""
        firing = self.stands(Phase.FIRING) is not None
        if self.fired_at is not None:
            return self._stay(moves) if firing else self._resolve(tick, moves)
        if firing:
            return [self._fire(rule, tick, moves[Move.FIRED])]
        if self.started_at is None:
            return [self._pend(tick, moves[Move.PENDED])] if Move.PENDED in moves else []
        if self.stands(Phase.PENDING) is not None:
            return []
        started, self.started_at = self.started_at, None
        arm = moves[Move.CANCELLED]
        return [Turn(Transition.CANCELLED, TransitionReason.CONDITION_FALSE, arm, started)]

    def _pend(self, tick: int, arm: int) -> Turn:
        self.started_at = tick
        return Turn(Transition.PENDING, TransitionReason.CONDITION_TRUE, arm, tick)

    def _fire(self, rule: RateRule, tick: int, arm: int) -> Turn:
        waited = rule.arms[arm].for_ms > 0
        reason = TransitionReason.FOR_ELAPSED if waited else TransitionReason.AT_ONCE
        self.started_at = tick if self.started_at is None else self.started_at
        self.fired_at = tick
        return Turn(Transition.FIRING, reason, arm, self.started_at)

    def _stay(self, moves: Mapping[Move, int]) -> list[Turn]:
        """Go on firing, perhaps with one more arm."""
        if Move.FIRED not in moves:
            return []
        started, _ = self._open()
        return [Turn(Transition.UPDATED, TransitionReason.ARM_JOINED, moves[Move.FIRED], started)]

    def _resolve(self, tick: int, moves: Mapping[Move, int]) -> list[Turn]:
        """Stop firing; an arm still pending begins the next life at once."""
        started, _ = self._open()
        self.taint = [*self.taint, (_hour(started), _hour(tick) + HOUR)]
        self.started_at = self.fired_at = None
        self.last_resolved = tick
        arm = moves[Move.CLEARED]
        found = [Turn(Transition.RESOLVED, TransitionReason.CLEAR_ELAPSED, arm, started)]
        pending = self.stands(Phase.PENDING)
        if pending is not None:
            found.append(self._pend(tick, moves.get(Move.PENDED, pending)))
        return found

    def _open(self) -> tuple[int, int]:
        if self.started_at is None or self.fired_at is None:
            raise RuntimeError("the rule does not fire on this row")
        return self.started_at, self.fired_at


def _hour(time: int) -> int:
    return time // HOUR * HOUR
