"""The statistics the rules stand on: score bounds, z scores, medians and spreads, element-wise.

All functions take numbers or arrays of any broadcastable shapes and return float64 arrays. Rates
are fractions, not percent. "Not known" is NaN, and no function warns about it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    F64 = NDArray[np.float64]

OVERDISPERSION = 1.25
"""Factor on the binomial variance: tasks of one agent come in batches that share their fate."""

MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""


def rate(hits: ArrayLike, total: ArrayLike) -> F64:
    """Return hits / total, NaN where total is 0.

    >>> rate([1, 0], [4, 0]).tolist()
    [0.25, nan]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.true_divide(hits, total, dtype=np.float64)


def wilson_lower(hits: ArrayLike, total: ArrayLike, z: float) -> F64:
    """Return the lower Wilson score bound of a rate; 0 where total is 0.

    Args:
        hits: how often it happened, 0 … total.
        total: how often it could have.
        z: quantile of the normal distribution; 1.96 gives a 95 % interval. Raising it lowers
            the bound.

    Source: E. B. Wilson (1927), "Probable inference, the law of succession, and statistical
    inference", Journal of the American Statistical Association 22, 209-212.

    >>> wilson_lower([30, 0], [1000, 0], 2.6).round(6).tolist()
    [0.018826, 0.0]
    """
    centre, half = _wilson(hits, total, z)
    return np.nan_to_num(centre - half, nan=0.0)


def wilson_upper(hits: ArrayLike, total: ArrayLike, z: float) -> F64:
    """Return the upper Wilson score bound of a rate; 1 where total is 0. See `wilson_lower`.

    >>> wilson_upper([30, 0], [1000, 0], 2.6).round(6).tolist()
    [0.047486, 1.0]
    """
    centre, half = _wilson(hits, total, z)
    return np.nan_to_num(centre + half, nan=1.0)


def _wilson(hits: ArrayLike, total: ArrayLike, z: float) -> tuple[F64, F64]:
    n = np.asarray(total, np.float64)
    p = rate(hits, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        return (p + z * z / (2 * n)) / scale, spread / scale


def variance(p0: ArrayLike, total: ArrayLike) -> F64:
    """Return the variance of a rate over `total` events that usually is `p0`; NaN where total is 0.

    It is binomial times `OVERDISPERSION`.

    >>> variance([0.2], [1000]).round(6).tolist()
    [0.0002]
    """
    p = np.asarray(p0, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.true_divide(OVERDISPERSION * p * (1 - p), total, dtype=np.float64)


def z_score(observed: ArrayLike, p0: ArrayLike, total: ArrayLike, tau2: ArrayLike) -> F64:
    """Return how many standard deviations a rate is from its baseline; NaN where total is 0.

    Args:
        observed: the rate seen.
        p0: the usual rate.
        total: number of events behind `observed`.
        tau2: variance of the rate between days, beside that of counting; raising it makes the
            score smaller, and it does not shrink with volume.

    >>> z_score([0.25], [0.2], [1000], [0.0]).round(3).tolist()
    [3.536]
    """
    usual = np.asarray(p0, np.float64)
    spread2 = variance(usual, total) + np.asarray(tau2, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (np.asarray(observed, np.float64) - usual) / np.sqrt(spread2)


def median(values: ArrayLike) -> F64:
    """Return the median along the last axis without its NaNs; NaN where nothing is left.

    That of an even count is the mean of the middle two.

    >>> median([[1.0, np.nan, 4.0, 2.0], [np.nan] * 4]).tolist()
    [2.0, nan]
    """
    ordered = np.sort(np.asarray(values, np.float64), axis=-1)  # NaNs go last
    if ordered.shape[-1] == 0:
        return np.full(ordered.shape[:-1], np.nan)
    count = np.count_nonzero(~np.isnan(ordered), axis=-1)
    low = np.maximum(count - 1, 0) // 2
    high = np.minimum(count // 2, ordered.shape[-1] - 1)
    pair = np.stack([low, high], axis=-1)
    middle = np.take_along_axis(ordered, pair, axis=-1)
    return np.where(count > 0, (middle[..., 0] + middle[..., 1]) / 2, np.nan)


def between_day_variance(residual: ArrayLike, spread: ArrayLike) -> F64:
    """Return τ², the variance of a rate from day to day that counting does not explain.

    τ² = max(0, (1.4826·median |residual|)² - median spread²), robust against single bad days.

    Args:
        residual: [..., days] rate minus baseline of past days, NaN for none.
        spread: [..., days] standard deviation by counting of each, NaN for none.

    Returns:
        [...], NaN where no day is known.

    >>> between_day_variance([[0.03, -0.03, 0.03]], [[0.01, 0.01, 0.01]]).round(8).tolist()
    [0.00187829]
    """
    scale = MAD_TO_SD * median(np.abs(np.asarray(residual, np.float64)))
    counting = median(np.square(np.asarray(spread, np.float64)))
    return np.maximum(0.0, scale * scale - counting)
