"""What is usual for each agent by now: baselines and between-day variance of one rule, as arrays.

Both change once an hour. The baseline as of a tick is a function of the hour panes, of the lives'
taint, and of the residuals of past days; what is cached here is thrown away when one of them
changes, so that it always equals what would be computed anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.baseline import (
    NEVER,
    Baseline,
    Counts,
    baseline,
    daily_residuals,
    pooled_window,
    tau_squared,
    usable,
    week_windows,
)
from streams.columns import AUTOMATED, FAILED
from streams.durations import DAY, HOUR, WEEK
from streams.residuals import HOURS, Residuals
from streams.surge import daily_baseline, day_windows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.lives import Lives
    from streams.panes import Panes
    from streams.rules import RateRule

    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]

COUNTED = {"automated": AUTOMATED, "failed": FAILED}
"""Outcome code of a rule's numerator."""

_NO_HOUR = -1
_AT_ONCE = 1024  # rows computed together: bounds memory, not results


class Usual(NamedTuple):
    """What is usual for some rows.

    Attributes:
        baseline: arrays [r].
        tau2: float64[arms, r]; 0 for an arm without between-day variance.
    """

    baseline: Baseline
    tau2: F64


class _Sums(NamedTuple):
    """Running sums over hours, from `first` on; column h is the sum before hour first + h."""

    first: int
    total: I64
    hits: I64

    def between(self, starts: I64, ends: I64) -> tuple[I64, I64]:
        """Return (total, hits) of windows [start, end): int64[r, …shape of starts]."""
        a, b = starts // HOUR - self.first, ends // HOUR - self.first
        return self.total[:, b] - self.total[:, a], self.hits[:, b] - self.hits[:, a]


class History:
    """Baselines and residuals of one rate rule.

    Args:
        rule: the rule.
        hours: hour panes of agents.
        lives: lives of the rule, for what must not become usual.
    """

    def __init__(self, rule: RateRule, hours: Panes, lives: Lives) -> None:
        self.rule = rule
        self.residuals = {
            arm: Residuals(spec.tau.max_age) for arm, spec in enumerate(rule.arms) if spec.tau
        }
        self._hours, self._lives = hours, lives
        self._column = COUNTED[rule.numerator]
        self._as_of = np.empty(0, np.int64)
        self._p0 = np.empty(0)
        self._known = np.empty(0, np.bool_)
        self._weeks = np.empty(0, np.int8)
        self._multiplier = np.empty(0)
        self._tau2 = np.empty((len(rule.arms), 0))

    @property
    def depth(self) -> int:
        """How long before the current hour the newest event lies that a baseline can see, ms."""
        pooled = self.rule.baseline.pooled
        if self.rule.baseline.daily is not None:
            return DAY
        return WEEK if pooled is None else min(WEEK, pooled.gap_ms)

    def reserve(self, rows: int) -> None:
        """Make room for rows 0 … rows - 1."""
        for residuals in self.residuals.values():
            residuals.reserve(rows)
        missing = rows - len(self._as_of)
        if missing <= 0:
            return
        missing += rows
        self._as_of = np.concatenate([self._as_of, np.full(missing, _NO_HOUR)])
        self._p0 = np.concatenate([self._p0, np.zeros(missing)])
        self._known = np.concatenate([self._known, np.zeros(missing, np.bool_)])
        self._weeks = np.concatenate([self._weeks, np.zeros(missing, np.int8)])
        self._multiplier = np.concatenate([self._multiplier, np.zeros(missing)])
        self._tau2 = np.concatenate([self._tau2, np.zeros((len(self._tau2), missing))], axis=1)

    def forget(self, rows: I64) -> None:
        """Throw away what is cached of rows: panes a baseline sees, taint or births changed."""
        self._as_of[rows] = _NO_HOUR

    def usual(self, rows: I64, hour: int, born: I64) -> Usual:
        """Return what is usual as of an hour.

        Args:
            rows: int64[r].
            hour: start of the hour, ms.
            born: int64[all rows], first hour of each agent.
        """
        stale = rows[self._as_of[rows] != hour]
        for start in range(0, len(stale), _AT_ONCE):
            self._refresh(stale[start : start + _AT_ONCE], hour, born)
        known = Baseline(
            self._p0[rows], self._known[rows], self._weeks[rows], self._multiplier[rows]
        )
        return Usual(known, self._tau2[:, rows])

    def close_day(self, day: int, born: I64, rows: I64) -> None:
        """Store the residuals of a day that ended, by the panes and the taint as they are now.

        Args:
            day: start of the day, ms.
            born: int64[all rows].
            rows: int64[r], agents that may have had events in it or the day before.
        """
        hours = day + HOUR * np.arange(HOURS, dtype=np.int64)
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            sums = self._sums(some, hours)
            usual = self._baselines(some, hours, born, sums)
            for arm, residuals in self.residuals.items():
                spec = self.rule.arms[arm]
                if spec.tau is None:
                    continue
                total, hits = sums.between(hours - spec.window_ms, hours)
                tainted = self._lives.tainted(hours - spec.window_ms, hours, len(born))[some]
                found = daily_residuals(spec.tau, total, hits, usual, tainted)
                residuals.put(day // DAY, some, *found)

    def _refresh(self, rows: I64, hour: int, born: I64) -> None:
        hours = np.full(1, hour, np.int64)
        found = self._baselines(rows, hours, born, self._sums(rows, hours))
        p0 = found.p0[:, 0]
        self._p0[rows], self._known[rows] = p0, found.has_baseline[:, 0]
        self._weeks[rows], self._multiplier[rows] = found.weeks[:, 0], found.multiplier[:, 0]
        for arm, residuals in self.residuals.items():
            spec = self.rule.arms[arm]
            if spec.tau is None:
                continue
            ages = np.arange(spec.tau.min_age, spec.tau.max_age + 1)
            past = residuals.column(rows, hour // HOUR % HOURS, hour // DAY - ages)
            self._tau2[arm, rows] = tau_squared(spec.tau, *past, spec.tau_prior2(p0))
        self._as_of[rows] = hour

    def _sums(self, rows: I64, hours: I64) -> _Sums:
        """Return running sums from the oldest hour any baseline as of `hours` sees."""
        spec = self.rule.baseline
        reach = [WEEK * spec.weeks + spec.window_ms]
        reach += [self.rule.arms[arm].window_ms for arm in self.residuals]
        if spec.pooled is not None:
            reach.append(spec.pooled.gap_ms + spec.pooled.span_ms)
        if spec.daily is not None:
            reach.append((spec.daily.days + 1) * DAY)
        first = (int(hours[0]) - max(reach)) // HOUR
        counts = self._hours.counts(rows, first, int(hours[-1]) // HOUR - first)
        total = np.zeros((len(rows), counts.shape[1] + 1), np.int64)
        hits = np.zeros_like(total)
        everything = counts[..., 0] + counts[..., 1] + counts[..., 2] + counts[..., 3]
        np.cumsum(everything, axis=1, out=total[:, 1:])
        np.cumsum(counts[..., self._column], axis=1, out=hits[:, 1:])
        return _Sums(first, total, hits)

    def _baselines(self, rows: I64, hours: I64, born: I64, sums: _Sums) -> Baseline:
        """Return the baselines of rows as of some hours: arrays [rows, hours]."""
        spec = self.rule.baseline
        if spec.daily is None:
            windows = [week_windows(hour, spec) for hour in hours.tolist()]
        else:
            windows = [day_windows(hour, spec.daily.days) for hour in hours.tolist()]
        starts = np.concatenate([window[0] for window in windows])
        ends = np.concatenate([window[1] for window in windows])
        total, hits = sums.between(starts, ends)
        relearned = self._lives.relearned_from(len(born))[rows]
        tainted = self._lives.tainted(starts, ends, len(born))[rows]
        ok = usable(starts, born[rows], relearned, tainted)
        pooled_total, pooled_hits = self._pooled(rows, hours, sums)
        each = (len(rows) * len(hours), -1)
        counts = Counts(
            total=total.reshape(each),
            hits=hits.reshape(each),
            usable=ok.reshape(each),
            pooled_total=pooled_total.reshape(-1),
            pooled_hits=pooled_hits.reshape(-1),
            relearned=np.repeat(relearned > NEVER, len(hours)),
        )
        if spec.daily is None:
            found = baseline(spec, counts)
        else:
            found = daily_baseline(spec, spec.daily, counts)
        shape = (len(rows), len(hours))
        return Baseline(
            p0=found.p0.reshape(shape),
            has_baseline=found.has_baseline.reshape(shape),
            weeks=found.weeks.reshape(shape),
            multiplier=found.multiplier.reshape(shape),
        )

    def _pooled(self, rows: I64, hours: I64, sums: _Sums) -> tuple[I64, I64]:
        """Return (total, hits) of the pooled span, [rows, hours], without what must not count."""
        spec = self.rule.baseline
        spans = np.array([pooled_window(hour, spec) for hour in hours.tolist()], np.int64)
        if spec.pooled is None:
            none = np.zeros((len(rows), len(hours)), np.int64)
            return none, none
        total, hits = sums.between(spans[:, 0], spans[:, 1])
        place = {row: index for index, row in enumerate(rows.tolist())}
        for row in self._lives.marked():
            index = place.get(row)
            if index is None:
                continue
            for column, (start, end) in enumerate(spans.tolist()):
                out = self._lives.excluded(row, start, end)
                if not out:
                    continue
                cut = np.array(out, np.int64) // HOUR - sums.first
                for series, sum_ in ((total, sums.total), (hits, sums.hits)):
                    gone = sum_[index, cut[:, 1]] - sum_[index, cut[:, 0]]
                    series[index, column] -= gone.sum()
        return total, hits
