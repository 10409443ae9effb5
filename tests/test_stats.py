"""The statistics: known values, and what happens at their edges."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import stats

counts = st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(stats).failed == 0


@settings(derandomize=True, max_examples=200, deadline=None)
@given(counts, st.floats(0.5, 6))
def test_wilson_bounds_solve_the_equation_they_are_defined_by(
    count: tuple[int, int], z: float
) -> None:
    hits, total = count
    rate = hits / total
    for bound in (stats.wilson_lower(hits, total, z), stats.wilson_upper(hits, total, z)):
        p = float(bound)
        assert math.isclose((rate - p) ** 2, z * z * p * (1 - p) / total, abs_tol=1e-9)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(counts, st.floats(0.5, 6))
def test_the_wilson_interval_holds_the_rate(count: tuple[int, int], z: float) -> None:
    hits, total = count
    low, high = stats.wilson_lower(hits, total, z), stats.wilson_upper(hits, total, z)
    assert -1e-12 <= low <= hits / total + 1e-12
    assert hits / total - 1e-12 <= high <= 1 + 1e-12


def test_no_events_leave_the_whole_interval() -> None:
    assert stats.wilson_lower(0, 0, 1.96) == 0
    assert stats.wilson_upper(0, 0, 1.96) == 1


def test_a_rate_of_no_events_is_not_known() -> None:
    assert np.isnan(stats.rate(0, 0))


def test_a_z_score_shrinks_with_the_variance_between_days() -> None:
    assert stats.z_score(0.3, 0.2, 1000, 0.01) < stats.z_score(0.3, 0.2, 1000, 0.0)


def test_variance_is_a_quarter_above_binomial() -> None:
    assert stats.variance(0.5, 100) == pytest.approx(1.25 * 0.25 / 100)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0, 1.0, 2.0], 2.0), ([4.0, 1.0, 2.0, 3.0], 2.5), ([math.nan, 5.0], 5.0), ([7.0], 7.0)],
)
def test_a_median_is_the_middle_one_or_the_mean_of_the_middle_two(
    values: list[float], expected: float
) -> None:
    assert stats.median(values) == expected


@pytest.mark.parametrize("values", [[], [math.nan, math.nan]])
def test_a_median_of_nothing_is_not_known(values: list[float]) -> None:
    assert np.isnan(stats.median(values))


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=12))
def test_a_median_leaves_out_what_is_not_known(values: list[float | None]) -> None:
    known = [value for value in values if value is not None]
    found = float(stats.median([math.nan if value is None else value for value in values]))
    assert math.isnan(found) if not known else found == np.median(known)


def test_variance_between_days_is_never_negative() -> None:
    assert stats.between_day_variance([0.001] * 6, [0.1] * 6) == 0


def test_one_wild_day_does_not_make_the_variance_between_days() -> None:
    calm = stats.between_day_variance([0.01] * 9, [0.001] * 9)
    assert stats.between_day_variance([0.01] * 9 + [0.9], [0.001] * 10) == calm
