"""Tails of small counts, against sums written out."""

from __future__ import annotations

import math

import pytest

from streams.tails import binomial_tail, poisson_tail


@pytest.mark.parametrize(("count", "mean"), [(6, 0.2), (30, 8.2), (5, 4.9), (200, 120.0)])
def test_a_poisson_tail_is_one_less_all_smaller_counts(count: int, mean: float) -> None:
    below = math.fsum(
        math.exp(-mean + k * math.log(mean) - math.lgamma(k + 1)) for k in range(count)
    )
    assert poisson_tail(count, mean) == pytest.approx(1 - below, abs=1e-12)


@pytest.mark.parametrize(("count", "trials", "share"), [(5, 8, 0.05), (40, 100, 0.2), (3, 3, 0.5)])
def test_a_binomial_tail_is_the_sum_of_all_greater_counts(
    count: int, trials: int, share: float
) -> None:
    terms = (
        math.comb(trials, k) * share**k * (1 - share) ** (trials - k)
        for k in range(count, trials + 1)
    )
    assert binomial_tail(count, trials, share) == pytest.approx(math.fsum(terms), rel=1e-9)


def test_a_count_not_above_its_mean_is_no_news() -> None:
    assert poisson_tail(8, 8.0) == 1.0
    assert binomial_tail(2, 10, 0.2) == 1.0


def test_what_cannot_happen_has_no_chance() -> None:
    assert poisson_tail(1, 0.0) == 0.0
    assert binomial_tail(1, 10, 0.0) == 0.0
