"""What a signal usually is at an hour of the day and a day of the week, and how far it strays.

The past of a signal is whole days of equal bins. Its season is learned by medians, its level by a
mean without outliers, and its spread from the means of whole days as well as from single bins: the
values of one day share their fate, and a sum of them strays more than its parts would.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams import stats
from streams.durations import DAY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    I64 = NDArray[np.int64]
    F64 = NDArray[np.float64]

WEEKS = 4
"""Weeks of reference from which on each day of the week has a level of its own."""

SATURDAY = 5
"""First day of the weekend, as `weekdays` counts."""

_WEEK = 7
_THURSDAY = 3  # the first of January 1970
_OUTLIER = 3.0  # standard deviations at which a residual is cut before it counts in a mean
_TINY = 1e-9


class Season(NamedTuple):
    """What is usual of some series.

    Attributes:
        base: float64[n, 2, bins], the usual value by bin of the day, on weekdays and weekends.
        weekly: float64[n, 7], what each day of the week is above that, Monday first.
        spread: float64[n], standard deviation of the mean of a day, NaN where nothing is known.
        level: float64[n], mean of the reference.
        number: int64[n], values of the reference.
    """

    base: F64
    weekly: F64
    spread: F64
    level: F64
    number: I64

    def usual(self, days: I64, bins: I64) -> F64:
        """Return float64[n, k], the usual values at bins of days, int64[k] each."""
        week = weekdays(days)
        found: F64 = self.base[:, (week >= SATURDAY).astype(np.int64), bins] + self.weekly[:, week]
        return found


def weekdays(days: I64) -> I64:
    """Return the day of the week of days since 1970, UTC: 0 is Monday.

    >>> weekdays(np.array([0, 3, 4]))
    array([3, 6, 0])
    """
    return (days + _THURSDAY) % _WEEK


def day_of(time: int) -> int:
    """Return the day since 1970, UTC, of a time in ms."""
    return time // DAY


def learn(values: F64, days: I64, min_days: int) -> Season:
    """Return what is usual of series.

    Args:
        values: float64[n, days, bins], NaN for none.
        days: int64[days], days since 1970, consecutive.
        min_days: days with any value that a series needs; the spread of others is NaN.
    """
    week = weekdays(days)
    weekend = week >= SATURDAY
    base = np.stack([_medians(values[:, ~weekend]), _medians(values[:, weekend])], axis=1)
    _fill(base)
    rest = values - base[:, weekend.astype(np.int64)]
    weekly = _weekly(rest, week)
    rest -= weekly[:, week][:, :, None]
    level, spread = _spread(rest)
    known = np.count_nonzero(~np.isnan(values).all(axis=2), axis=1)
    spread = np.where(known >= min_days, np.maximum(spread, _TINY), np.nan)
    count = np.count_nonzero(~np.isnan(values), axis=(1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(values, axis=(1, 2)) / count
    return Season(base + level[:, None, None], weekly, spread, mean, count)


def _medians(values: F64) -> F64:
    """Return float64[n, bins]: the median over days of [n, days, bins]."""
    return stats.median(np.swapaxes(values, 1, 2))


def _fill(base: F64) -> None:
    """Give bins that were never seen what the other part of the week has, or the day as a whole."""
    other = base[:, ::-1].copy()
    np.copyto(base, other, where=np.isnan(base))
    whole = np.broadcast_to(stats.median(base)[:, :, None], base.shape)
    np.copyto(base, whole, where=np.isnan(base))


def _weekly(rest: F64, week: I64) -> F64:
    """Return float64[n, 7]: the median of each day of the week, 0 while there are too few weeks."""
    found = np.zeros((len(rest), _WEEK))
    if rest.shape[1] < WEEKS * _WEEK:
        return found
    for day in range(_WEEK):
        some = rest[:, week == day]
        full = np.count_nonzero(~np.isnan(some).all(axis=2), axis=1) >= WEEKS
        flat = some.reshape(len(rest), -1)
        found[:, day] = np.where(full, np.nan_to_num(stats.median(flat)), 0.0)
    return found


def _spread(rest: F64) -> tuple[F64, F64]:
    """Return the level that residuals have and the standard deviation of a day's mean of them."""
    bins = rest.shape[2]
    flat = rest.reshape(len(rest), -1)
    single = stats.MAD_TO_SD * stats.median(np.abs(flat))
    cut = np.clip(flat, -_OUTLIER * single[:, None], _OUTLIER * single[:, None])
    there = ~np.isnan(cut)
    number = np.maximum(np.count_nonzero(there, axis=1), 1)
    level = np.where(there, cut, 0.0).sum(axis=1) / number
    filled = ~np.isnan(rest)
    per_day = np.count_nonzero(filled, axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(filled, rest - level[:, None, None], 0.0).sum(axis=2) / per_day
    robust = stats.MAD_TO_SD * stats.median(np.abs(means))
    number = np.maximum(np.count_nonzero(per_day, axis=1), 1)
    plain = np.sqrt(np.nansum(np.square(means), axis=1) / number)
    # Neither alone is safe: one misses rare bad days, the others that days are not independent.
    return level, np.fmax(np.fmax(robust, plain), single / np.sqrt(bins))


def blank(rows: int, width: int, bins: int) -> Season:
    """Return the season of signals of which nothing is known."""
    return Season(
        np.full((rows, width, 2, bins), np.nan),
        np.zeros((rows, width, 7)),
        np.full((rows, width), np.nan),
        np.full((rows, width), np.nan),
        np.zeros((rows, width), np.int64),
    )
