"""What is usual of a signal: its hours, its days of the week, its spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from streams import seasons

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAYS = np.arange(20_000, 20_042)
BINS = 6


def series(seed: int = 0, number: int = 40) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    week = seasons.weekdays(DAYS)
    values = 0.6 * rng.standard_normal((number, len(DAYS), BINS))
    values += 0.3 * rng.standard_normal((number, len(DAYS), 1))
    values += 2 * np.sin(np.arange(BINS)) + 3.0 * (week >= 5)[:, None] + 10
    whole: NDArray[np.float64] = values + 1.0 * (week == 2)[:, None]
    return whole


def test_the_season_is_that_of_the_bins_and_the_days() -> None:
    season = seasons.learn(series(), DAYS, 14)

    usual = season.usual(DAYS[-7:].repeat(BINS), np.tile(np.arange(BINS), 7))
    week = seasons.weekdays(DAYS[-7:]).repeat(BINS)
    true = 10 + 2 * np.sin(np.tile(np.arange(BINS), 7)) + 3.0 * (week >= 5) + 1.0 * (week == 2)
    assert np.abs(usual.mean(axis=0) - true).max() < 0.2


def test_the_spread_is_that_of_the_means_of_days() -> None:
    season = seasons.learn(series(number=200), DAYS, 14)

    assert season.spread.mean() == pytest.approx(np.sqrt(0.6**2 / BINS + 0.3**2), rel=0.15)


def test_hours_that_depend_on_each_other_make_the_spread_of_a_day_larger() -> None:
    rng = np.random.default_rng(1)
    one = rng.standard_normal((30, len(DAYS), BINS))
    same = np.repeat(rng.standard_normal((30, len(DAYS), 1)), BINS, axis=2)

    apart, together = (seasons.learn(x, DAYS, 14).spread.mean() for x in (one, same))

    assert together > 2 * apart


def test_a_few_wild_values_change_little() -> None:
    values = series(number=1)
    wild = values.copy()
    wild[0, 3, 2] = 1e9

    usual = [seasons.learn(x, DAYS, 14).base for x in (values, wild)]

    assert np.abs(usual[0] - usual[1]).max() < 0.5


def test_with_too_few_days_nothing_is_known_of_the_spread() -> None:
    values = series(number=2)
    values[0, :30] = np.nan

    spread = seasons.learn(values, DAYS, 14).spread

    assert np.isnan(spread).tolist() == [True, False]


def test_weekends_never_seen_are_taken_for_weekdays() -> None:
    values = series(number=1)
    values[:, seasons.weekdays(DAYS) >= 5] = np.nan

    base = seasons.learn(values, DAYS, 14).base

    assert base[0, 0].tolist() == base[0, 1].tolist()


def test_constant_signals_have_a_spread_above_zero() -> None:
    assert seasons.learn(np.ones((1, 42, BINS)), DAYS, 14).spread[0] > 0


def test_monday_is_the_first_day_of_the_week() -> None:
    assert seasons.weekdays(np.array([seasons.day_of(1_735_516_800_000)])).tolist() == [0]
