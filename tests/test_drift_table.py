"""The simulation that drift detection is calibrated with, on few seeds."""

from __future__ import annotations

import numpy as np
import pytest

from load import drift_table
from load.drift_table import FAMILIES, Family
from streams.rules import RuleSet

RULE = RuleSet.default().drift


def test_undisturbed_series_stay_within_the_budget() -> None:
    alarms = drift_table.false_alarms(RULE, range(2), each=2, days=120)

    assert alarms.rates.shape == (2, len(FAMILIES))
    assert alarms.rates.mean() <= 0.02


def test_a_shift_of_four_standard_deviations_is_found_within_days() -> None:
    found = drift_table.delays(RULE, range(2), 4.0, each=1)

    assert np.isfinite(found).mean() > 0.9
    assert np.nanmedian(found) < 3.5


@pytest.mark.parametrize("tail", ["normal", "t3", "lognormal"])
def test_the_noise_is_of_unit_variance_and_correlated_as_asked(tail: str) -> None:
    found = drift_table.noise(np.random.default_rng(3), Family(0.5, tail), (40, 2_000))

    flat = found - found.mean()
    assert flat.var() == pytest.approx(1, rel=0.25)
    assert (flat[:, 1:] * flat[:, :-1]).mean() / flat.var() == pytest.approx(0.5, abs=0.06)


def test_more_tasks_make_the_same_shift_of_a_feature_larger() -> None:
    assert drift_table.feature_shift(0.1, 1.0, 10_000) > drift_table.feature_shift(0.1, 1.0, 100)
