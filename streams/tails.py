"""How likely so many or more would come by chance: tails of two distributions, for small counts."""

from __future__ import annotations

import math

_SMALL = 1e-12
"""A term below this share of the sum ends it."""


def poisson_tail(count: int, mean: float) -> float:
    """Return P(X >= count) for X Poisson with this mean; 1 where `count` is not above the mean.

    >>> f"{poisson_tail(6, 0.2):.2e}"
    '7.49e-08'
    """
    if count <= mean or count <= 0:
        return 1.0
    if mean <= 0:
        return 0.0
    term = math.exp(count * math.log(mean) - mean - math.lgamma(count + 1))
    total, number = term, count
    while term > _SMALL * total:
        number += 1
        term *= mean / number
        total += term
    return min(1.0, total)


def binomial_tail(count: int, trials: int, share: float) -> float:
    """Return P(X >= count) for X binomial; 1 where `count` is not above its mean.

    >>> f"{binomial_tail(5, 8, 0.05):.2e}"
    '1.54e-05'
    """
    if share >= 1 or count <= trials * share or count <= 0:
        return 1.0
    if share <= 0 or count > trials:
        return 0.0
    ways = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
    rest = (trials - count) * math.log1p(-share)
    term = math.exp(ways + count * math.log(share) + rest)
    total, number, odds = term, count, share / (1 - share)
    while number < trials and term > _SMALL * total:
        term *= (trials - number) / (number + 1) * odds
        total += term
        number += 1
    return min(1.0, total)
