"""Sketches of latencies: within 1 % after any merging, bounded, and the same after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from streams import state
from streams.durations import DAY, HOUR
from streams.sketch import (
    BUCKETS,
    Sketch,
    SketchPanes,
    index_of,
    percentiles,
    value_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    I64 = NDArray[np.int64]

NOW = 20_000 * DAY


def sketch(durations: I64) -> Sketch:
    return Sketch.of(index_of(durations), np.ones(len(durations), np.int64))


def heavy_tailed(kind: str, seed: int) -> I64:
    random = np.random.default_rng(seed)
    if kind == "pareto":
        return (random.pareto(1.1, 50_000) * 20_000).astype(np.int64)
    return np.exp(random.normal(11, 2.5, 50_000)).astype(np.int64)


@pytest.mark.parametrize("kind", ["pareto", "lognormal"])
@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_quantiles_of_20_merged_parts_are_within_1_percent(kind: str, share: float) -> None:
    durations = heavy_tailed(kind, 7)

    merged = Sketch.merge(sketch(part) for part in np.array_split(durations, 20))

    exact = float(np.quantile(durations, share, method="lower"))
    assert merged.quantile(share) == pytest.approx(exact, rel=0.01)


def test_merging_gives_what_one_sketch_of_all_gives() -> None:
    durations = heavy_tailed("pareto", 8)
    merged = Sketch.merge(sketch(part) for part in np.array_split(durations, 20))
    whole = sketch(durations)
    assert (merged.codes == whole.codes).all()
    assert (merged.counts == whole.counts).all()


def test_every_duration_is_within_1_percent_of_its_bucket() -> None:
    durations = np.unique(np.logspace(0, 15, 5_000).astype(np.int64))
    values = np.array([value_of(code) for code in index_of(durations).tolist()])
    assert (np.abs(values - durations) <= 0.01 * durations * (1 + 1e-9)).all()


def test_a_duration_of_zero_has_a_bucket_of_its_own() -> None:
    found = sketch(np.array([0, 0, 0, 1]))
    assert found.codes.tolist() == [0, 1]
    assert found.quantile(0.5) == 0.0


def test_no_duration_needs_more_buckets_than_there_are() -> None:
    assert index_of(np.array([10**15, 2**63 - 1])).max() < BUCKETS


def test_calls_over_a_bucket_are_those_in_higher_ones() -> None:
    found = sketch(np.array([100, 200, 300, 300]))
    assert found.over(int(index_of(np.array([200]))[0])) == 2


def test_an_empty_sketch_has_no_quantiles() -> None:
    empty = Sketch.merge(())
    assert empty.quantile(0.99) is None
    assert percentiles(empty) == {}


def test_percentiles_are_in_milliseconds() -> None:
    found = percentiles(sketch(np.full(100, 250_000)))
    assert found["p99_ms"] == pytest.approx(250, rel=0.01)


# -- panes -------------------------------------------------------------------------------------


def filled(hours: int, start: int = NOW) -> SketchPanes:
    """Return panes of two rows with a call in each hour, folded hour by hour."""
    panes = SketchPanes()
    for hour in start + HOUR * np.arange(hours):
        rows, at = np.array([3, 5]), np.full(2, hour)
        panes.fold(rows, at, np.array([700, 800]), np.array([1, 2]))
        panes.enter(int(hour))
    return panes


def test_hours_add_up_to_what_was_folded_in_any_order() -> None:
    panes = SketchPanes()
    rows, hours = np.array([1, 0, 1, 1]), NOW + np.array([HOUR, 0, 0, HOUR])
    panes.fold(rows, hours, np.array([10, 11, 12, 10]), np.array([1, 2, 3, 4]))
    found = panes.hours(1, NOW, NOW + 2 * HOUR)
    assert found.codes.tolist() == [10, 12]
    assert found.counts.tolist() == [5, 3]


def test_a_row_has_at_most_50_hours_and_32_days() -> None:
    panes = filled(24 * 60)
    stored = {key: value for key, value in panes.changes() if value is not None}
    each = [key for key in stored if key.split(b"/")[2] == b"3"]
    assert len(each) <= 50 + 32


def test_days_add_up_whether_their_hours_are_kept_or_not() -> None:
    panes = filled(24 * 10)
    assert panes.days(5, NOW, NOW + 10 * DAY).total == 2 * 240


def test_days_left_out_are_not_counted() -> None:
    panes = filled(24 * 10)
    assert panes.days(3, NOW, NOW + 10 * DAY, out=[NOW + DAY, NOW + 9 * DAY]).total == 8 * 24


def test_a_late_call_of_an_hour_no_longer_kept_counts_for_its_day() -> None:
    panes = filled(24 * 5)
    panes.fold(np.array([3]), np.array([NOW]), np.array([900]), np.array([7]))
    assert panes.days(3, NOW, NOW + DAY).over(800) == 7


def test_days_past_28_are_forgotten() -> None:
    panes = filled(24 * 40)
    assert panes.days(3, NOW, NOW + 10 * DAY).total == 0


def test_what_was_stored_comes_back() -> None:
    panes, stored = SketchPanes(), dict[bytes, bytes]()
    for hour in NOW + HOUR * np.arange(24 * 4):
        panes.fold(np.array([300]), np.array([hour]), np.array([1_700]), np.array([10**10]))
        panes.enter(int(hour))
        for key, value in panes.changes():
            if value is None:
                stored.pop(key)
            else:
                stored[key] = value
    again = SketchPanes()
    assert all(again.restore(one) for one in state.decode(stored.items()))
    again.settle()
    assert not list(again.changes())
    for start, end in ((NOW, NOW + 4 * DAY), (NOW + 3 * DAY, NOW + 4 * DAY)):
        assert again.days(300, start, end).total == panes.days(300, start, end).total
    last = NOW + 4 * DAY - HOUR
    assert again.hours(300, last, last + HOUR).counts.tolist() == [10**10]


def test_a_row_forgotten_leaves_no_record() -> None:
    panes = filled(72)
    kept = dict(panes.changes())
    panes.forget(3)
    kept.update(panes.changes())
    left = [key for key, value in kept.items() if value is not None]
    assert left
    assert all(key.split(b"/")[2] == b"5" for key in left)
