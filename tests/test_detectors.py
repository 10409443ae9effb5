"""River's detectors, wrapped: what they find, and that a detector is its inputs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from streams.detectors import (
    AdwinSpec,
    Detector,
    DetectorSpec,
    KswinSpec,
    PageHinkleySpec,
    shifted_at,
)

SPECS: list[DetectorSpec] = [
    PageHinkleySpec(kind="page-hinkley", delta=0.3, threshold=15),
    AdwinSpec(kind="adwin", delta=0.001),
    KswinSpec(kind="kswin", alpha=1e-5, window=60, recent=20, seed=3),
]


def noise(number: int, seed: int = 0) -> list[float]:
    return [float(x) for x in np.random.default_rng(seed).standard_normal(number)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
@pytest.mark.parametrize("shift", [2.0, -2.0])
def test_a_shift_is_found_with_its_direction_size_and_place(
    spec: DetectorSpec, shift: float
) -> None:
    detector = Detector(spec, warm_up=12)
    found = [detector.update(x) for x in noise(100)]
    found += [detector.update(x + shift) for x in noise(60, seed=1)]

    at, drift = next((at, one) for at, one in enumerate(found) if one is not None)
    assert 100 < at < 130
    assert drift.detector == spec.kind
    assert drift.direction == np.sign(shift)
    assert drift.magnitude == pytest.approx(2, abs=0.8)
    assert drift.reference.mean == pytest.approx(0, abs=0.3)
    assert drift.current.mean == pytest.approx(shift, abs=0.8)
    assert drift.reference.number + drift.current.number == at + 1
    assert abs(drift.reference.number - 100) < 10


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_a_detector_built_from_the_inputs_of_another_goes_on_as_it_would(
    spec: DetectorSpec,
) -> None:
    values = noise(150) + [x + 2 for x in noise(60, seed=1)]
    whole = Detector(spec, warm_up=5, kept=60, bound=90)
    parted = Detector(spec, warm_up=5, kept=60, bound=90)
    for at, x in enumerate(values):
        if at % 7 == 0:
            again = Detector(spec, warm_up=5, kept=60, bound=90)
            again.load(parted.inputs)
            parted = again
        if parted.update(x) != whole.update(x):
            pytest.fail(f"they differ at {at}")

    assert parted.inputs == whole.inputs


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_nothing_is_found_while_it_warms_up(spec: DetectorSpec) -> None:
    detector = Detector(spec, warm_up=100)
    values = noise(30) + [x + 9 for x in noise(30)]

    assert not any(detector.update(x) for x in values)


def test_after_a_reset_it_warms_up_again() -> None:
    detector = Detector(SPECS[0], warm_up=50)
    for x in noise(80):
        detector.update(x)
    detector.reset()

    assert len(detector) == 0
    assert not any(detector.update(x) for x in [0.0] * 10 + [9.0] * 40)


def test_no_more_inputs_are_kept_than_the_bound() -> None:
    detector = Detector(SPECS[1], warm_up=5, kept=20, bound=30)
    lengths = []
    for x in noise(100):
        detector.update(x)
        lengths.append(len(detector))

    assert max(lengths) == 30
    assert {after - before for before, after in pairwise(lengths)} == {1, -9}


def test_a_magnitude_can_count_in_a_given_standard_deviation() -> None:
    detector = Detector(SPECS[0], warm_up=5, sd=4.0)
    found = [detector.update(x) for x in [0.0, 1.0, -1.0] * 10 + [8.0] * 10]

    drift = next(one for one in found if one)
    assert drift.magnitude == pytest.approx(2.0)


def test_bounds_that_do_not_ascend_are_refused() -> None:
    with pytest.raises(ValueError, match="must ascend"):
        Detector(SPECS[0], warm_up=50, kept=20, bound=30)


def test_the_place_of_a_shift_is_where_two_means_differ_most() -> None:
    values = np.array(noise(40) + [x + 3 for x in noise(10, seed=2)])

    assert abs(shifted_at(values) - 40) <= 1


def test_a_spec_for_many_inputs_a_day_finds_the_same_shift_of_a_day() -> None:
    spec = PageHinkleySpec(kind="page-hinkley", delta=0.5, threshold=6).per(4)

    assert (spec.delta, spec.threshold) == (0.25, 12)
