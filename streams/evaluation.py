"""A rate rule over many agents and ticks at once: counts per window, judged, then lived through.

Between two folds the counts of a window at a tick are those of the panes plus those of the records
that came since; each adds its weight from the tick that sees it until the tick whose window has
left its pane behind. So all ticks of an hour cost a running sum, not a loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.arms import LONG_STEP, SHORT_STEP, RiseArm
from streams.cells import added
from streams.durations import HOUR
from streams.findings import Sample
from streams.history import COUNTED, History
from streams.lives import Grid, Lives
from streams.surge import SurgeArm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from streams.arms import Arm
    from streams.history import Usual
    from streams.lives import Step
    from streams.panes import Panes
    from streams.rules import RateRule

    I64 = NDArray[np.int64]
    Bool = NDArray[np.bool_]

STEPS = (SHORT_STEP, LONG_STEP)

_CELLS = 1 << 20  # most cells of one grid: bounds memory, not results


class Tail(NamedTuple):
    """Records that some tick of a chunk sees and that are not in the panes yet, in log order.

    Attributes:
        agents: int64[n], agent rows.
        outcomes: int64[n].
        events: int64[n], event times, ms.
        clocks: int64[n], the clock after each.
        weights: int64[n], how many events each stands for; None for 1 each.
    """

    agents: I64
    outcomes: I64
    events: I64
    clocks: I64
    weights: I64 | None = None


class Touched(NamedTuple):
    """Which agents had a record since the tick before, as pairs; some may come twice.

    Attributes:
        rows: int64[n], agent rows.
        columns: int64[n], index of the tick.
    """

    rows: I64
    columns: I64


class Chunk(NamedTuple):
    """Ticks of one hour, and what they see.

    Attributes:
        hour: start of the hour, ms.
        ticks: by step, int64[t] ascending.
        touched: by step.
        tail: records beyond the panes.
        born: int64[agent rows], first hour of each agent.
    """

    hour: int
    ticks: Mapping[int, I64]
    touched: Mapping[int, Touched]
    tail: Tail
    born: I64


class Found(NamedTuple):
    """A step of a rule on an agent, and the window behind it."""

    step: Step
    sample: Sample


class _Judged(NamedTuple):
    """One arm over some rows and ticks.

    Attributes:
        grid: for the lives.
        n: int64[r, t].
        k: int64[r, t].
        usual: of the rows.
    """

    grid: Grid
    n: I64
    k: I64
    usual: Usual


class RateEvaluation:
    """Evaluates one rate rule on all agents of a partition.

    Args:
        rule: the rule.
        panes: agent panes by width, ms; counts suffice.
    """

    def __init__(self, rule: RateRule, panes: Mapping[int, Panes]) -> None:
        self.rule = rule
        self.lives = Lives(rule)
        self.history = History(rule, panes[HOUR], self.lives)
        self._panes = panes
        self._column = COUNTED[rule.numerator]

    def busy(self) -> bool:
        """Return whether any agent needs every tick."""
        return any(len(self.lives.busy(arm)) for arm in range(len(self.rule.arms)))

    def relearn_at(self) -> dict[int, int]:
        """Return from when on a firing is the new normal, ms, by row; rows that fire only."""
        if not self.lives.firing():
            return {}
        busy = (self.lives.busy(arm).tolist() for arm in range(len(self.rule.arms)))
        lives = ((row, self.lives.dump(row)) for row in set[int]().union(*busy))
        return {
            row: life["fired_at"] + self.rule.relearn_after_ms
            for row, life in lives
            if life is not None and life["fired_at"] is not None
        }

    def evaluate(self, chunk: Chunk) -> list[Found]:
        """Let the ticks of a chunk pass; return the steps, by tick, then by row."""
        long, short = self._stirring(chunk)
        found = self._live(long, self._due(chunk, {LONG_STEP}), chunk)
        found += self._live(short, self._due(chunk, set(STEPS)), chunk)
        found.sort(key=lambda one: (one.step.at, one.step.row))
        return found

    def _due(self, chunk: Chunk, steps: set[int]) -> list[int]:
        return [
            arm
            for arm, spec in enumerate(self.rule.arms)
            if spec.step_ms in steps and len(chunk.ticks[spec.step_ms])
        ]

    def _stirring(self, chunk: Chunk) -> tuple[I64, I64]:
        """Return the rows to step: those where only arms with long ticks stir, and the others."""
        stirs = {step: np.zeros(len(chunk.born), np.bool_) for step in STEPS}
        for step in STEPS:
            idle = np.zeros(len(chunk.born), np.bool_)
            idle[chunk.touched[step].rows] = True
            for arm in self._due(chunk, {step}):
                busy = self.lives.busy(arm)
                stirs[step][busy] = True
                rows = idle.copy()
                rows[busy] = False
                stirs[step][self._waking(arm, np.flatnonzero(rows), chunk)] = True
        short = stirs[SHORT_STEP]
        ticks = chunk.ticks[SHORT_STEP]
        if len(ticks):  # a firing becomes the new normal at any tick, whichever arm has it
            last = int(ticks[-1])
            short[[row for row, time in self.relearn_at().items() if time <= last]] = True
        return np.flatnonzero(stirs[LONG_STEP] & ~short), np.flatnonzero(short)

    def _waking(self, arm: int, rows: I64, chunk: Chunk) -> I64:
        """Return which of the rows, all with the arm idle, have a tick that wakes it."""
        spec = self.rule.arms[arm]
        if isinstance(spec, RiseArm | SurgeArm):
            rows = self._with_hits(spec, rows, chunk)
        ticks = chunk.ticks[spec.step_ms]
        awake: list[I64] = []
        hours = spec.window_ms // HOUR + 1 if isinstance(spec, SurgeArm) and spec.by_hour else 1
        size = max(1, _CELLS // (len(ticks) * hours))
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            judged = self._judge(arm, some, chunk, ticks)
            wakes = judged.grid.touched & judged.grid.judgement.fire & judged.grid.judgement.enough
            awake.append(some[wakes.any(axis=1)])
        return np.concatenate(awake) if awake else rows[:0]

    def _with_hits(self, arm: RiseArm | SurgeArm, rows: I64, chunk: Chunk) -> I64:
        """Return which rows have the hits to fire in all windows together: most have not."""
        if not len(rows):
            return rows
        first, last = _window(arm, chunk.ticks[arm.step_ms])
        begin, number = int(first[0]), int(last[-1] - first[0])
        hits = self._panes[arm.pane_ms].column(rows, begin, number, self._column).sum(axis=1)
        tail = chunk.tail
        new = tail.outcomes == self._column
        weights = None if tail.weights is None else tail.weights[new]
        hits = hits + added(tail.agents[new], weights, len(chunk.born))[rows]
        found: I64 = rows[hits >= arm.min_hits]
        return found

    # -- judging -----------------------------------------------------------------------------

    def _judge(self, arm: int, rows: I64, chunk: Chunk, ticks: I64) -> _Judged:
        spec = self.rule.arms[arm]
        usual = self.history.usual(rows, chunk.hour, chunk.born)
        tau2 = None if spec.tau is None else usual.tau2[arm][:, None]
        if isinstance(spec, SurgeArm) and spec.by_hour:
            hours, hits = self._count_hours(spec, rows, chunk, ticks)
            judgement = spec.judge_hours(hours, hits, usual.baseline.column(), tau2)
            n, k = hours.sum(axis=1), hits.sum(axis=1)
        else:
            n, k = self._count(spec, rows, chunk, ticks)
            judgement = spec.judge(n, k, usual.baseline.column(), tau2)
        touched = _touched(chunk, spec.step_ms, rows, ticks)
        return _Judged(Grid(ticks, touched, judgement), n, k, usual)

    def _count(self, arm: Arm, rows: I64, chunk: Chunk, ticks: I64) -> tuple[I64, I64]:
        """Return (events, hits) in the arm's window of each row at each tick, int64[r, t]."""
        first, last = _window(arm, ticks)
        begin = int(first[0])
        counts = self._panes[arm.pane_ms].counts(rows, begin, int(last[-1]) - begin)
        everything = counts[..., 0] + counts[..., 1] + counts[..., 2] + counts[..., 3]
        n = _windows(everything, first - begin, last - begin)
        k = _windows(counts[..., self._column], first - begin, last - begin)
        self._count_tail(arm, rows, chunk, ticks, (n, k))
        return n, k

    def _count_tail(
        self, arm: Arm, rows: I64, chunk: Chunk, ticks: I64, into: tuple[I64, I64]
    ) -> None:
        """Add the records beyond the panes to the counts."""
        if not len(chunk.tail.agents):
            return
        row, enter, leave = self._tail_spans(arm, rows, chunk, ticks)
        counts = (row >= 0) & (enter < leave)
        hits = counts & (chunk.tail.outcomes == self._column)
        for mask, sums in ((counts, into[0]), (hits, into[1])):
            weights = None if chunk.tail.weights is None else chunk.tail.weights[mask]
            spans = _spans(row[mask], enter[mask], leave[mask], weights, sums.shape)
            np.add(sums, spans, out=sums)

    def _tail_spans(self, arm: Arm, rows: I64, chunk: Chunk, ticks: I64) -> tuple[I64, I64, I64]:
        """Return of each tail record its place in `rows`, -1 for none, and the ticks that see it.

        Those are [enter, leave), by index.
        """
        first, last = _window(arm, ticks)
        tail = chunk.tail
        panes = tail.events // arm.pane_ms
        place = np.full(len(chunk.born), -1, np.int64)
        place[rows] = np.arange(len(rows))
        seen = np.searchsorted(ticks, tail.clocks, side="right")
        enter = np.maximum(seen, np.searchsorted(last, panes, side="right"))
        return place[tail.agents], enter, np.searchsorted(first, panes, side="right")

    def _count_hours(self, arm: Arm, rows: I64, chunk: Chunk, ticks: I64) -> tuple[I64, I64]:
        """Return the same as `_count` by hour: int64[r, hours, t], 0 outside the window."""
        first, last = _window(arm, ticks)
        begin, number = int(first[0]), int(last[-1] - first[0])
        counts = self._panes[arm.pane_ms].counts(rows, begin, number).astype(np.int64)
        pane = begin + np.arange(number)[:, None]
        inside = (first <= pane) & (pane < last)  # [hours, t]
        n = counts.sum(axis=-1)[:, :, None] * inside
        k = counts[..., self._column][:, :, None] * inside
        row, enter, leave = self._tail_spans(arm, rows, chunk, ticks)
        hour = chunk.tail.events // arm.pane_ms - begin
        held = (row >= 0) & (enter < leave)  # so that its hour is one of the window
        for mask, sums in ((held, n), (held & (chunk.tail.outcomes == self._column), k)):
            weights = None if chunk.tail.weights is None else chunk.tail.weights[mask]
            cells, shape = row[mask] * number + hour[mask], (len(rows) * number, len(ticks))
            spans = _spans(cells, enter[mask], leave[mask], weights, shape)
            np.add(sums, spans.reshape(sums.shape), out=sums)
        return n, k

    # -- living ------------------------------------------------------------------------------

    def _live(self, rows: I64, arms: Sequence[int], chunk: Chunk) -> list[Found]:
        """Step rows through the ticks; a row whose baseline changed on the way is judged anew."""
        found: list[Found] = []
        every = self._due(chunk, set(STEPS))
        work = [(rows, list(arms), chunk.ticks)] if len(rows) else []
        while work:
            some, due, ticks = work.pop()
            judged = [
                self._judge(arm, some, chunk, ticks[spec.step_ms])
                if arm in due and len(ticks[spec.step_ms])
                else None
                for arm, spec in enumerate(self.rule.arms)
            ]
            done = self.lives.advance(some, [one and one.grid for one in judged])
            found += [Found(step, self._sample(step, some, judged, chunk)) for step in done.steps]
            for row, tick in done.halted.items():
                one = np.full(1, row, np.int64)
                self.history.forget(one)
                later = {step: each[each > tick] for step, each in ticks.items()}
                if any(len(each) for each in later.values()):
                    work.append((one, every, later))
        return found

    def _sample(
        self, step: Step, rows: I64, judged: Sequence[_Judged | None], chunk: Chunk
    ) -> Sample:
        """Return the window of the arm that caused a step, at its tick."""
        source, column = judged[step.arm], step.column
        row = int(np.searchsorted(rows, step.row))
        if source is None or column < 0:  # the arm has no tick then: look at it all the same
            one = np.full(1, step.row, np.int64)
            source = self._judge(step.arm, one, chunk, np.full(1, step.at, np.int64))
            row = column = 0
        start, end = self.rule.arms[step.arm].window(step.at)
        known = bool(source.usual.baseline.has_baseline[row])
        limit = float(source.grid.judgement.limit[row, column])
        return Sample(
            n=int(source.n[row, column]),
            k=int(source.k[row, column]),
            limit=0.0 if np.isnan(limit) else limit,  # no baseline left to derive it from
            baseline=float(source.usual.baseline.p0[row]) if known else None,
            weeks=int(source.usual.baseline.weeks[row]),
            window_start=start,
            window_end=end,
        )


def _window(arm: Arm, ticks: I64) -> tuple[I64, I64]:
    """Return the panes [first, last) of the arm's window at each tick, by number."""
    return -((arm.window_ms - ticks) // arm.pane_ms), -(-ticks // arm.pane_ms)


def _windows(values: NDArray[np.int32], first: I64, last: I64) -> I64:
    """Return the sums of values[:, first:last] for each pair: int64[r, pairs]."""
    if first[0] == first[-1] and last[0] == last[-1]:
        total = values[:, first[0] : last[0]].sum(axis=1, dtype=np.int64)
        return np.repeat(total[:, None], len(first), axis=1)
    sums = np.zeros((values.shape[0], values.shape[1] + 1), np.int64)
    np.cumsum(values, axis=1, out=sums[:, 1:])
    found: I64 = sums[:, last] - sums[:, first]
    return found


def _spans(rows: I64, enter: I64, leave: I64, weights: I64 | None, shape: tuple[int, ...]) -> I64:
    """Return, for each row and tick, how many spans [enter, leave) of the row hold the tick."""
    width = shape[1] + 1
    size = shape[0] * width
    change = added(rows * width + enter, weights, size)
    change -= added(rows * width + leave, weights, size)
    found: I64 = change.reshape(-1, width).cumsum(axis=1)[:, :-1]
    return found


def _touched(chunk: Chunk, step: int, rows: I64, ticks: I64) -> Bool:
    """Return bool[rows, ticks] of `ticks`, each of them a tick of the chunk or of no account."""
    found = np.zeros((len(rows), len(ticks)), np.bool_)
    all_ = chunk.ticks[step]
    if not len(all_):
        return found
    place = np.full(len(chunk.born), -1, np.int64)
    place[rows] = np.arange(len(rows))
    row = place[chunk.touched[step].rows]
    column = chunk.touched[step].columns - (int(ticks[0]) - int(all_[0])) // step
    keep = (row >= 0) & (column >= 0) & (column < len(ticks))
    found[row[keep], column[keep]] = True
    return found
