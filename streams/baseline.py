"""The usual rate of an agent, and how far it strays from day to day; vectorised over rows.

A row is one agent. The counts come from hour panes, the masks from the lives of the rule: hours
of an open alert, and all before a new normal was learned, must not become the usual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streams import stats
from streams.durations import HOUR, WEEK

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from streams.arms import Tau
    from streams.baseline_spec import BaselineSpec

    F16 = NDArray[np.float16]
    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]
    Bool = NDArray[np.bool_]

NEVER = int(np.iinfo(np.int64).min)
"""A time before all others: for `relearned_from` of a row that learned no new normal."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """What the baseline of each row is made of.

    Attributes:
        total: int64[rows, weeks], all outcomes in the window of each past week.
        hits: int64[rows, weeks], the outcomes the rule counts.
        usable: bool[rows, weeks], as of `usable`.
        pooled_total: int64[rows], all outcomes in the pooled span, without hours to leave out;
            zeros for a rule without one.
        pooled_hits: int64[rows], the same for what the rule counts.
        relearned: bool[rows], whether the row learned a new normal.
    """

    total: I64
    hits: I64
    usable: Bool
    pooled_total: I64
    pooled_hits: I64
    relearned: Bool


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """The usual rate; all arrays have one shape, mostly [rows].

    Attributes:
        p0: float64, the usual rate; without a baseline the floor of the rule, NaN if it has none.
        has_baseline: whether p0 may be compared with.
        weeks: int8, number of past weeks behind it.
        multiplier: float64, factor on the z limit.
    """

    p0: F64
    has_baseline: Bool
    weeks: NDArray[np.int8]
    multiplier: F64

    def take(self, rows: ArrayLike) -> Baseline:
        """Return the baselines of `rows` (indices, or a mask)."""
        at = np.asarray(rows)
        return Baseline(self.p0[at], self.has_baseline[at], self.weeks[at], self.multiplier[at])

    def column(self) -> Baseline:
        """Return it as [rows, 1], to be compared with counts [rows, ticks]."""
        return Baseline(
            p0=self.p0[:, None],
            has_baseline=self.has_baseline[:, None],
            weeks=self.weeks[:, None],
            multiplier=self.multiplier[:, None],
        )


def week_windows(tick: int, spec: BaselineSpec) -> tuple[I64, I64]:
    """Return the windows [start, end) of the past weeks, newest first, as int64[weeks] each."""
    hour = tick // HOUR * HOUR
    ends = hour - WEEK * np.arange(1, spec.weeks + 1, dtype=np.int64)
    return ends - spec.window_ms, ends


def pooled_window(tick: int, spec: BaselineSpec) -> tuple[int, int]:
    """Return the pooled span [start, end); an empty one for a rule without."""
    hour = tick // HOUR * HOUR
    if spec.pooled is None:
        return hour, hour
    end = hour - spec.pooled.gap_ms
    return end - spec.pooled.span_ms, end


def usable(starts: I64, born: I64, relearned_from: I64, tainted: Bool) -> Bool:
    """Return bool[rows, weeks]: which windows may make a baseline, if they hold any event.

    Args:
        starts: int64[weeks], starts of the windows.
        born: int64[rows], first hour of the row: before it, nothing was not "no events".
        relearned_from: int64[rows], hour from which a new normal counts; NEVER for none.
        tainted: bool[rows, weeks], windows that hold an hour of an alert.
    """
    first = np.maximum(born, relearned_from)
    return (starts[None, :] >= first[:, None]) & ~tainted


def baseline(spec: BaselineSpec, counts: Counts) -> Baseline:
    """Return the baseline of each row.

    It is the median rate of the usable past weeks, or their pooled rate where one of them is
    small, clamped away from 0 and 1; for a rule with a pooled span, no less than the rate of that
    span and than the floor.
    """
    ok = counts.usable & (counts.total >= 1)
    weeks = np.count_nonzero(ok, axis=1).astype(np.int8)
    p0, known = _seasonal(spec, counts, ok), weeks >= 1
    if spec.pooled is not None and spec.floor is not None:
        enough = counts.pooled_total >= spec.pooled.min_n
        pooled = stats.rate(counts.pooled_hits, counts.pooled_total)
        pooled[~(enough & (known | counts.relearned))] = np.nan
        p0 = np.fmax(np.fmax(p0, pooled), spec.floor)  # fmax passes NaN by
        known = known | (enough & counts.relearned)
    multiplier = np.asarray(spec.multiplier, np.float64)[weeks]
    return Baseline(p0, known, weeks, multiplier)


def _seasonal(spec: BaselineSpec, counts: Counts, ok: Bool) -> F64:
    """Return the rate of the usable weeks, NaN where there is none."""
    total = np.where(ok, counts.total, 0)
    everything = total.sum(axis=1)
    rates = np.where(ok, stats.rate(counts.hits, total), np.nan)
    pooled = stats.rate(np.where(ok, counts.hits, 0).sum(axis=1), everything)
    small = (ok & (counts.total < spec.pool_below)).any(axis=1)
    p = np.where(small, pooled, stats.median(rates))
    # A rate of exactly 0 or 1 would have no variance.
    edge = 0.5 / (everything + 1)
    return np.clip(p, edge, 1 - edge)


def daily_residuals(
    tau: Tau, total: ArrayLike, hits: ArrayLike, usual: Baseline, tainted: ArrayLike
) -> tuple[F16, F16]:
    """Return how far closed windows were from their baselines, and how far chance would go.

    Element-wise over any shape. Half precision suffices (3 digits of a median of many), and half a
    year of 24 hours a day stays small; both are NaN for a window that teaches nothing.

    Args:
        tau: the arm's setting.
        total: events of the window.
        hits: those the rule counts.
        usual: baseline as of the end of the window.
        tainted: whether the window holds an hour of an alert.

    Returns:
        (rate - p0, standard deviation by counting), float16.
    """
    n = np.asarray(total)
    good = usual.has_baseline & (n >= tau.min_n) & ~np.asarray(tainted)
    residual = np.where(good, stats.rate(hits, n) - usual.p0, np.nan)
    spread = np.where(good, np.sqrt(stats.variance(usual.p0, n)), np.nan)
    return residual.astype(np.float16), spread.astype(np.float16)


def tau_squared(tau: Tau, residual: F16, spread: F16, prior2: F64) -> F64:
    """Return the between-day variance of each row: float64[rows].

    Args:
        tau: the arm's setting.
        residual: float16[rows, days] of one hour of the day, NaN for none; only the days of the
            ages `tau` asks for.
        spread: float16[rows, days], likewise.
        prior2: float64[rows], variance assumed for a row with few entries.
    """
    entries = np.count_nonzero(~np.isnan(residual), axis=-1)
    learned = stats.between_day_variance(residual, spread)
    return np.where(entries >= tau.min_entries, learned, prior2)
