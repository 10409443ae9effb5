"""The arm that finds a rise from almost nothing, such as 0.1 % of errors that become 2 %.

A rate so small is a few errors a day: what counts is that they are many times the usual, that the
rise is sure, and that it lasts for hours; one bad minute with a hundred errors is none of that. So
the errors of an hour count up to a bound only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, model_validator

from streams import stats
from streams.arms import Arm, Judgement, Part, Share, Tau
from streams.baseline import Baseline
from streams.durations import DAY, HOUR

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from streams.baseline import Counts
    from streams.baseline_spec import BaselineSpec, Daily

    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]


class Certainty(Part):
    """How sure the rise must be.

    Attributes:
        z: quantile of the Wilson bound. Raising it asks for more certainty.
        floor: the lower bound must exceed this rate …
        factor: … and this multiple of the baseline.
    """

    z: float = Field(gt=0)
    floor: Share
    factor: float = Field(ge=1)


class Cap(Part):
    """The most errors of an hour that count: n · max(`factor` · p0, `floor`) + `slack`.

    Attributes:
        factor: multiple of the baseline.
        floor: least rate.
        slack: errors that count in any hour.
    """

    factor: float = Field(gt=1)
    floor: Share
    slack: float = Field(ge=0)

    def most(self, n: ArrayLike, p0: ArrayLike) -> F64:
        """Return the errors that count at most, of n calls in an hour."""
        rate = np.fmax(self.factor * np.asarray(p0, np.float64), self.floor)
        return np.asarray(n) * rate + self.slack


class SurgeArm(Arm):
    """Fires when a rate is many times its baseline, and surely so.

    Attributes:
        factor: fires above this multiple of the baseline.
        young: the limit while there is no baseline; half of it must surely be exceeded.
        wilson: how sure the rise must be.
        min_hits: least count of what the rule counts.
        min_hours: … in at least so many hours.
        cap: bound on what counts of an hour; None for none.
        clear_factor: clears up to this multiple of the baseline; without one, up to half of
            `young`.
    """

    kind: Literal["surge"] = "surge"
    factor: float = Field(gt=1)
    young: Share
    wilson: Certainty
    min_hits: int = Field(ge=1)
    min_hours: int = Field(default=1, ge=1)
    cap: Cap | None = None
    clear_factor: float = Field(ge=1)
    z: float = Field(gt=0)
    tau: Tau

    @property
    def by_hour(self) -> bool:
        """Whether it must be told the counts of each hour."""
        return self.cap is not None or self.min_hours > 1

    @model_validator(mode="after")
    def _whole_hours(self) -> SurgeArm:
        if self.by_hour and self.pane_ms != HOUR:
            raise ValueError("cap and min_hours need a window over 3h, which is made of hours")
        return self

    def judge(
        self, n: ArrayLike, k: ArrayLike, baseline: Baseline, tau2: ArrayLike | None
    ) -> Judgement:
        """Judge counts of whole windows; see `streams.arms.DropArm.judge`."""
        n, k, p0, known = np.asarray(n), np.asarray(k), baseline.p0, baseline.has_baseline
        observed = stats.rate(k, n)
        limit = np.where(known, self.factor * p0, self.young)
        bound = np.where(known, np.fmax(self.wilson.floor, self.wilson.factor * p0), self.young / 2)
        calm = np.where(known, self.clear_factor * p0, self.young / 2)
        z = stats.z_score(observed, p0, n, 0.0 if tau2 is None else tau2)
        enough, judgeable = n >= self.min_n, n >= 1
        with np.errstate(invalid="ignore"):
            fire = enough & (k >= self.min_hits) & (observed > limit)
            fire = fire & (stats.wilson_lower(k, n, self.wilson.z) > bound)
            fire = fire & (~known | (z > self.z * baseline.multiplier))
            clear = judgeable & (observed <= calm)
        return Judgement(*np.broadcast_arrays(enough, fire, judgeable, clear, observed, z, limit))

    def judge_hours(self, n: I64, k: I64, baseline: Baseline, tau2: ArrayLike | None) -> Judgement:
        """Judge counts by hour.

        Args:
            n: int64[rows, hours, ticks], events in the hours of each window, 0 outside it.
            k: likewise, those the rule counts.
            baseline: as of the ticks, [rows, 1].
            tau2: between-day variance.
        """
        counted = k if self.cap is None else np.minimum(k, self.cap.most(n, baseline.p0[:, None]))
        found = self.judge(n.sum(axis=1), counted.sum(axis=1), baseline, tau2)
        spread = (k.sum(axis=1) >= self.min_hits) & ((k > 0).sum(axis=1) >= self.min_hours)
        return Judgement(
            enough=found.enough,
            fire=found.fire & spread,
            judgeable=found.judgeable,
            clear=found.clear,
            rate=found.rate,
            z=found.z,
            limit=found.limit,
        )


def day_windows(hour: int, days: int) -> tuple[I64, I64]:
    """Return the windows [start, end) of the past days, newest first, as int64[days] each, ms."""
    ends = hour - DAY * np.arange(1, days + 1, dtype=np.int64)
    return ends - DAY, ends


def daily_baseline(spec: BaselineSpec, daily: Daily, counts: Counts) -> Baseline:
    """Return the baseline of each row from past days: arrays [rows].

    It is the median rate of the usable days, or their pooled rate where half of them are small;
    no less than the floor, which it is where too few days are known.

    Args:
        spec: the rule's setting.
        daily: its days.
        counts: arrays [rows, days] in place of weeks.
    """
    ok = counts.usable & (counts.total >= daily.min_n)
    days = np.count_nonzero(ok, axis=1)
    total, hits = np.where(ok, counts.total, 0), np.where(ok, counts.hits, 0)
    ranked = stats.median(np.where(ok, stats.rate(counts.hits, counts.total), np.nan))
    pooled = stats.rate(hits.sum(axis=1), total.sum(axis=1))
    size = stats.median(np.where(ok, counts.total, np.nan))
    p0 = np.where(size < spec.pool_below, pooled, ranked)
    known = days >= daily.min_days
    weeks = np.minimum(days // 7, spec.weeks).astype(np.int8)
    return Baseline(
        p0=np.fmax(np.where(known, p0, np.nan), spec.floor or 0.0),
        has_baseline=known,
        weeks=weeks,
        multiplier=np.asarray(spec.multiplier, np.float64)[weeks],
    )
