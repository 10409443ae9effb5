from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.residuals import HOURS, Residuals

NAN = np.float16("nan")


def day_of(value: float, hour: int = 3) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    found = np.full((1, HOURS), NAN, np.float16)
    found[0, hour] = value
    return found


@settings(max_examples=200, derandomize=True, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from([1, 1, 1, 2, 9, 40]), st.booleans()),
        min_size=1,
        max_size=40,
    )
)
def test_only_the_days_kept_are_seen_also_after_a_restart(
    puts: list[tuple[int, int, bool]],
) -> None:
    kept, today = 10, 20_000
    residuals = Residuals(kept)
    residuals.reserve(4)
    expected: dict[tuple[int, int], float] = {}
    stored: dict[tuple[int, int], tuple[object, object]] = {}
    for index, (row, step, restart) in enumerate(puts):
        today += step
        for key in residuals.expire(today):
            del stored[key]
        residuals.put(today - 1, np.array([row]), day_of(index), day_of(1))
        expected[row, today - 1] = index
        for key in residuals.take_dirty():
            stored[key] = residuals.dump(*key)
        if restart:
            residuals = Residuals(kept)
            residuals.reserve(4)
            for (bucket, day), (rows, values) in stored.items():
                residuals.load(bucket, day, rows, values)  # type: ignore[arg-type]
            assert residuals.take_dirty() == []

        days = today - np.arange(1, kept + 1)
        found, spread = residuals.column(np.arange(4), 3, days)
        for place in range(4):
            for column, day in enumerate(days.tolist()):
                value = expected.get((place, day), NAN)
                np.testing.assert_equal(found[place, column], np.float16(value))
        assert (np.isnan(found) == np.isnan(spread)).all()
        alive = {r for r, day in expected if day >= today - kept}
        assert set(np.flatnonzero(residuals.alive(4)).tolist()) == alive


def test_a_row_without_an_entry_takes_no_room() -> None:
    residuals = Residuals(182)
    residuals.reserve(10_000)
    residuals.put(20_000, np.arange(10_000), np.full((10_000, 24), NAN), np.full((10_000, 24), NAN))

    assert residuals.nbytes < 500_000
    assert not residuals.alive(10_000).any()
