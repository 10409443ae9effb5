"""Window sums kept from hour to hour are what adding up the panes gives, whatever comes late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams.cost_rules import TokenWeights
from streams.cost_sums import effective
from streams.durations import DAY, HOUR, WEEK
from streams.series import Agent
from tests.cost_rig import CLAIMS, START, Fleet

if TYPE_CHECKING:
    from numpy.typing import NDArray

OTHER = Agent("north", "claims")
NOW = START + 36 * DAY


def scatter(fleet: Fleet, random: np.random.Generator, span: tuple[int, int], number: int) -> None:
    """Let random series do random tasks in random hours of [start, end)."""
    rows = random.choice(sorted(fleet.series.tasks), number)
    hours = random.integers(span[0] // HOUR, span[1] // HOUR, number) * HOUR
    sums = random.integers(0, 1000, (6, number))
    fleet.add(rows, hours, random.integers(1, 5, number), sums)


def brute(fleet: Fleet, row: int, start: int, end: int) -> list[int]:
    """Add up the panes of a row, one by one."""
    found = np.zeros(6, np.int64)
    for hour in range(start, end, HOUR):
        counts, sums = fleet.hours.values(np.array([row]), np.array([hour // HOUR]))
        found += [counts.sum(), *sums[0, [0, 5, 2, 3, 4]]]
    return [int(one) for one in found]


def test_each_window_of_each_week_is_the_sum_of_its_panes() -> None:
    fleet = Fleet([(CLAIMS, "invoice", "m"), (OTHER, "invoice", None), (CLAIMS, "booking", "m")])
    scatter(fleet, np.random.default_rng(1), (START, NOW), 3000)
    sums = fleet.sums()

    found = sums.at(NOW)

    assert sums.layout.rows.tolist() == [2, 0, 1]  # by agent, then by task type
    for place, row in enumerate(sums.layout.rows.tolist()):
        for at, window in enumerate(sums.windows):
            for week in range(5):
                end = NOW - week * WEEK
                expected = brute(fleet, row, end - window, end)
                assert found[place, at, week].tolist() == expected


def test_sums_moved_on_by_the_hour_are_those_of_a_fresh_start() -> None:
    """With late events of all ages, gaps of hours and days, new series, and rows given again."""
    random = np.random.default_rng(2)
    fleet = Fleet([(CLAIMS, "invoice", "m"), (OTHER, "invoice", None)])
    scatter(fleet, random, (START, NOW), 2000)
    sums = fleet.sums()
    sums.at(NOW)
    tick = NOW
    for step in range(60):
        gap = int(random.choice([1, 1, 1, 2, 5, 30])) * HOUR
        if step % 9 == 4:
            scatter(fleet, random, (tick - 30 * DAY, tick + HOUR), 3)
        if step == 20:
            fleet.join(CLAIMS, "booking", "n")
        if step == 40:
            fleet.series.release([], [2])
            sums.forget([2])
        scatter(fleet, random, (tick - 3 * HOUR, tick + gap), 20)
        fleet.hours.expire((tick - 36 * DAY) // DAY * DAY)
        tick += gap

        kept, fresh = sums.at(tick), fleet.sums()

        assert same(kept, fresh.at(tick)), step
        assert same(sums.touched(), fresh.touched())
        fleet.hours.late.pop()


def same(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    return one.shape == other.shape and bool((one == other).all())


def test_a_series_that_comes_anew_has_its_sums_at_once() -> None:
    fleet = Fleet([(CLAIMS, "invoice", "m")])
    fleet.work(0, (START, NOW))
    sums = fleet.sums()
    sums.at(NOW)

    row = fleet.join(OTHER, "invoice", "m")
    fleet.work(row, (NOW - 2 * HOUR, NOW), 7)

    assert sums.at(NOW)[1, 0, 0, 0] == 14
    assert sums.born().tolist() == [START, NOW - 2 * HOUR]


def test_an_effective_token_is_an_uncached_input_token() -> None:
    weights = TokenWeights(cached=0.1, output=4.0)

    #                         tasks, cost, square, input, output, cached
    found = effective(np.array([[1, 5, 9, 1000, 100, 400], [1, 5, 9, 10, 0, 30]]), weights)

    assert found.tolist() == [600 + 40 + 400, 3.0]
