"""The lives of one rate rule in one partition, stepped through ticks and asked about the past.

Rows are agents, by number. Most rows at most ticks have nothing to do, and cost nothing: a row is
looked at one by one only where an arm of it is not idle or wakes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from streams.arms import WAKES, Phase, pack
from streams.baseline import NEVER
from streams.durations import DAY, HOUR
from streams.life import Life
from streams.reasons import Transition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from streams.arms import Judgement
    from streams.reasons import TransitionReason
    from streams.rules import RateRule

    I64 = NDArray[np.int64]
    U8 = NDArray[np.uint8]
    Bool = NDArray[np.bool_]

KEPT = 36 * DAY
"""How long taint is remembered: as long as hour panes, which no window outlives."""

_MARKING = frozenset({Transition.FIRING, Transition.RESOLVED})
"""Transitions after which the baseline may be another."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """What one arm judged, for some rows at some ticks.

    Attributes:
        ticks: int64[t], ascending ticks of the arm, ms.
        touched: bool[r, t], rows that had a record since the tick before; an idle arm of a row
            that had none is not evaluated.
        judgement: arrays [r, t].
    """

    ticks: I64
    touched: Bool
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Step:
    """One transition of the rule on one row.

    Attributes:
        row: the agent.
        arm: index of the arm that caused it.
        column: index of `at` in the ticks of that arm's grid; -1 where it has no tick then.
        at: the tick, ms.
        transition: what happened.
        reason: why.
        started_at: when this life of the rule left inactive, ms.
    """

    row: int
    arm: int
    column: int
    at: int
    transition: Transition
    reason: TransitionReason
    started_at: int


@dataclass(frozen=True, slots=True)
class Advanced:
    """What an `advance` did.

    Attributes:
        steps: all transitions, by (at, position of the row in the call).
        halted: rows whose baseline may have changed, with the tick at which it did. Later ticks
            of such a row were not stepped: judge them again and advance again.
    """

    steps: list[Step] = field(default_factory=list)
    halted: dict[int, int] = field(default_factory=dict)


class Lives:
    """All lives of one rate rule in one partition.

    Args:
        rule: its parameters.
    """

    def __init__(self, rule: RateRule) -> None:
        self._rule = rule
        self._lives: dict[int, Life] = {}
        self._busy: list[set[int]] = [set() for _ in rule.arms]
        self._firing: set[int] = set()
        self._dirty: set[int] = set()
        self._spans: I64 | None = None  # [spans, (row, from, to)] of all taint: a cache

    def busy(self, arm: int) -> I64:
        """Return the rows whose `arm` is not idle, ascending: each needs every tick of it."""
        return np.array(sorted(self._busy[arm]), np.int64)

    def firing(self) -> bool:
        """Return whether the rule fires on any row."""
        return bool(self._firing)

    def advance(self, rows: I64, grids: Sequence[Grid | None]) -> Advanced:
        """Step rows through the ticks of all arms, in tick order.

        Args:
            rows: int64[r], distinct.
            grids: one for each arm of the rule, in its order; None for no tick. An arm of a row
                that is not idle is stepped at each tick of its grid, an idle one where the row was
                touched and the condition holds.
        """
        done = Advanced()
        cells = [_cells(grid, len(rows)) for grid in grids]
        chosen = self._chosen(rows, cells)
        if chosen:
            timeline = _Timeline.of(grids)
            for position in chosen:
                own = [one[position] for one in cells]
                self._walk(int(rows[position]), own, timeline, done)
            done.steps.sort(key=lambda step: step.at)
        return done

    def hold(self, arm: int, ticks: int) -> None:
        """Let `ticks` ticks of an arm pass on every row, none of which can be judged.

        The same as an `advance` with such cells, as long as the rule fires nowhere.
        """
        for row in self._busy[arm]:
            self._lives[row].arms[arm].hold(ticks * self._rule.arms[arm].step_ms)
            self._dirty.add(row)

    def tainted(self, starts: I64, ends: I64, rows: int) -> Bool:
        """Return bool[rows, windows]: which windows [start, end) hold an hour of an alert.

        Args:
            starts: int64[windows], whole hours.
            ends: int64[windows], whole hours.
            rows: how many rows, from 0.
        """
        found = np.zeros((rows, len(starts)), np.bool_)
        spans = self._taint()
        spans = spans[spans[:, 0] < rows]
        hit = (spans[:, 1, None] < ends) & (spans[:, 2, None] > starts)
        np.logical_or.at(found, spans[:, 0], hit)
        return found

    def relearned_from(self, rows: int) -> I64:
        """Return int64[rows]: hour from which the new normal counts, NEVER where there is none."""
        found = np.full(rows, NEVER, np.int64)
        for row, life in self._lives.items():
            if life.relearned_from is not None and row < rows:
                found[row] = life.relearned_from
        return found

    def marked(self) -> list[int]:
        """Return the rows for which `excluded` may leave out anything, ascending."""
        return sorted(
            row
            for row, life in self._lives.items()
            if life.relearned_from is not None or life.tainted()
        )

    def excluded(self, row: int, start: int, end: int) -> list[tuple[int, int]]:
        """Return the parts of [start, end) that must not count for a row, disjoint, ascending."""
        life = self._lives.get(row)
        return [] if life is None else life.excluded(start, end)

    def prune(self, clock: int) -> None:
        """Forget what no window of a tick from `clock` on can reach, whenever it is called."""
        oldest = clock // HOUR * HOUR - KEPT
        for row, life in list(self._lives.items()):
            if life.prune(oldest):
                self._keep(row, life)

    def take_dirty(self) -> list[int]:
        """Return the rows whose life changed since the last call, ascending."""
        dirty = sorted(self._dirty)
        self._dirty.clear()
        return dirty

    def dump(self, row: int) -> dict[str, Any] | None:
        """Return the life of a row in plain values (see `Life.dump`), None for none."""
        life = self._lives.get(row)
        return None if life is None else life.dump()

    def load(self, row: int, record: Mapping[str, Any]) -> None:
        """Take the life of a row as `dump` gave it.

        Raises:
            ValueError: it has another number of arms than the rule.
        """
        self._keep(row, Life.of(self._rule, record))
        self._dirty.discard(row)

    def forget(self, row: int) -> None:
        """Drop all of a row."""
        self._keep(row, Life.new(self._rule))

    def _chosen(self, rows: I64, cells: Sequence[U8]) -> list[int]:
        """Return the positions in `rows` at which anything can happen."""
        stir = np.zeros(len(rows), np.bool_)
        for one in cells:
            stir |= (one >= WAKES).any(axis=1)
        busy = set[int]().union(*self._busy)
        if busy:
            stir |= np.fromiter((row in busy for row in rows.tolist()), np.bool_, len(rows))
        return [int(position) for position in np.flatnonzero(stir)]

    def _walk(self, row: int, cells: Sequence[U8], timeline: _Timeline, done: Advanced) -> None:
        """Step one row until its baseline may change or the ticks end."""
        life = self._lives.get(row) or Life.new(self._rule)
        wakes = timeline.wakes(cells)
        position = -1
        while True:
            position += 1
            if life.started_at is None:  # all arms are idle: on to where one may wake
                position = wakes.find(1, position)
            if not 0 <= position < len(wakes):
                return
            tick, due = timeline.ticks[position], timeline.due[position]
            turns, changed = life.step(self._rule, tick, due, cells)
            if changed:
                self._keep(row, life)
            done.steps.extend(
                Step(row, arm, due.get(arm, -1), tick, transition, reason, started_at)
                for transition, reason, arm, started_at in turns
            )
            if any(turn.transition in _MARKING for turn in turns):
                done.halted[row] = tick
                return

    def _keep(self, row: int, life: Life) -> None:
        """File a life that changed under what it now is."""
        if life.blank():
            self._lives.pop(row, None)
        else:
            self._lives[row] = life
        for arm, busy in zip(life.arms, self._busy, strict=True):
            (busy.discard if arm.phase is Phase.IDLE else busy.add)(row)
        (self._firing.discard if life.fired_at is None else self._firing.add)(row)
        self._dirty.add(row)
        self._spans = None

    def _taint(self) -> I64:
        if self._spans is None:
            flat = [(row, *span) for row, life in self._lives.items() for span in life.tainted()]
            self._spans = np.array(flat, np.int64).reshape(-1, 3)
        return self._spans


@dataclass(frozen=True, slots=True)
class _Timeline:
    """The ticks of all grids of a call, merged.

    Attributes:
        ticks: ascending, distinct.
        due: for each tick the arms that have it, in order, with the column in their grid.
        places: for each arm the index of its ticks in `ticks`.
    """

    ticks: list[int]
    due: list[dict[int, int]]
    places: list[I64]

    @classmethod
    def of(cls, grids: Sequence[Grid | None]) -> _Timeline:
        each = [np.empty(0, np.int64) if grid is None else grid.ticks for grid in grids]
        merged = np.unique(np.concatenate(each))
        due: list[dict[int, int]] = [{} for _ in range(len(merged))]
        places = [np.searchsorted(merged, ticks) for ticks in each]
        for arm, place in enumerate(places):
            for column, index in enumerate(place.tolist()):
                due[index][arm] = column
        return cls(merged.tolist(), due, places)

    def wakes(self, cells: Sequence[U8]) -> bytes:
        """Return for each tick 1 where a cell wakes an idle arm, else 0."""
        marks = np.zeros(len(self.ticks), np.uint8)
        for place, one in zip(self.places, cells, strict=True):
            marks[place[one >= WAKES]] = 1
        return marks.tobytes()


def _cells(grid: Grid | None, rows: int) -> U8:
    """Return the cells of a grid, [rows, ticks]; no columns where there is no grid."""
    return np.zeros((rows, 0), np.uint8) if grid is None else pack(grid.judgement, grid.touched)
