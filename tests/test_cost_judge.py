"""The judgement of cost per task is its formula, is quiet on quiet years, and sees rises."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import pytest

from streams.arms import CLEAR, ENOUGH, FIRE, JUDGEABLE, WAKES
from streams.cost_judge import Judged, Totals, judge
from streams.durations import HOUR
from tests.cost_rig import RULES

RULE = RULES.cost
WEEK_HOURS = 168


def plain(totals: Totals, one: int, arm: int) -> tuple[float, float, float, int]:
    """Return (change, error, limit, cells but WAKES) of a subject, as docs/semantics.md has it."""
    spec, n = RULE.arms[arm], int(totals.tasks[one, 0])
    weeks = [w for w in range(1, 5) if totals.usable[one, w - 1]]
    counts = [int(totals.tasks[one, w]) for w in weeks]
    if not weeks or n == 0:
        return math.nan, math.nan, math.nan, 0
    costs = [float(totals.constant[one, w]) for w in weeks]
    usual = median(math.log(c / m) for c, m in zip(costs, counts, strict=True))
    if min(counts) < RULE.pool_below:
        usual = math.log(sum(costs) / sum(counts))
    spread = 0.0
    for span in ([0], weeks):
        number = sum(int(totals.tasks[one, w]) for w in span)
        mean = sum(float(totals.cost[one, w]) for w in span) / number
        square = sum(float(totals.square[one, w]) for w in span) / number
        spread = max(spread, square / mean**2 - 1)
    error = math.sqrt(spread * (1 / n + 0.4 * len(weeks) / sum(counts)) + spec.between**2)
    change = math.log(float(totals.constant[one, 0]) / n) - usual
    limit = max(math.log(spec.factor), spec.z * RULE.multiplier[len(weeks)] * error)
    cells = 0
    if n >= spec.min_n:
        cells = ENOUGH | JUDGEABLE
        cells |= FIRE if change > limit else 0
        cells |= CLEAR if change < math.log(spec.factor) / 2 else 0
    return change, error, limit, cells


def random_totals(random: np.random.Generator, number: int) -> Totals:
    tasks = random.integers(0, 1500, (number, 5))
    tasks[random.random((number, 5)) < 0.1] = 0
    mean = random.uniform(800, 1200, (number, 5))
    spread = random.uniform(0, 3, (number, 1))
    usable = (random.random((number, 4)) < 0.8) & (tasks[:, 1:] > 0)
    cost = tasks * mean
    return Totals(tasks, cost * random.uniform(0.8, 1.2), cost, cost * mean * (1 + spread), usable)


@pytest.mark.parametrize("arm", range(3))
def test_a_judgement_is_the_formula_of_the_page(arm: int) -> None:
    totals = random_totals(np.random.default_rng(arm), 400)
    touched = np.arange(400) % 3 > 0

    found = judge(RULE, RULE.arms[arm], totals, touched)

    assert any(cell & FIRE for cell in found.cells.tolist())
    for one in range(400):
        change, error, limit, cells = plain(totals, one, arm)
        fires = bool(cells & FIRE and touched[one])
        assert found.cells[one] == cells | (WAKES if fires else 0)
        if not math.isnan(change):
            numbers = [found.change[one], found.error[one], found.limit[one]]
            assert numbers == pytest.approx([change, error, limit])


def test_the_logarithm_of_the_spread_makes_a_smaller_error() -> None:
    totals = random_totals(np.random.default_rng(9), 50)
    rule = RULE.model_copy(update={"spread": "log"})

    relative, log = (
        judge(each, RULE.arms[0], totals, np.ones(50, np.bool_)) for each in (RULE, rule)
    )

    known = ~np.isnan(relative.error)
    assert (log.error[known] <= relative.error[known]).all()


# -- simulated years ---------------------------------------------------------------------------


class Year:
    """Hourly sums of an agent whose costs are log-normal, with daily and weekly seasons.

    Args:
        seed: of everything.
        a_day: tasks of a mean day.
        sigma: of the logarithm of a task's cost.
        days: length; the first 35 are past.
    """

    def __init__(self, seed: int, a_day: int, sigma: float, days: int = 400) -> None:
        random = np.random.default_rng(seed)
        hours = np.arange(24 * days)
        season = 1 + 0.6 * np.sin(2 * np.pi * hours / 24)
        season *= np.where(hours // 24 % 7 >= 5, 0.4, 1.24)
        self.tasks = random.poisson(a_day / 24 * season)
        level = np.exp(np.repeat(random.normal(0, 0.02, days), 24))
        where = np.repeat(hours, self.tasks)
        each = random.lognormal(0, sigma, len(where)) * 10_000 * level[where]
        each = np.floor(each)
        self.cost = np.bincount(where, each, len(hours)).astype(np.float64)
        kept = np.floor(np.minimum(each, 2**24 - 1) / 8)
        self.square = np.bincount(where, 64 * kept * kept, len(hours)).astype(np.float64)

    def rise(self, days: int, factor: float) -> None:
        """Make the last days dearer."""
        self.cost[-24 * days :] *= factor
        self.square[-24 * days :] *= factor**2

    def judged(self, arm: int) -> Judged:
        """Judge every hour from the 35th day on, each as a subject of its own."""
        window = RULE.arms[arm].window_ms // HOUR
        ends = np.arange(35 * 24, len(self.tasks) + 1)[:, None] - WEEK_HOURS * np.arange(5)
        tasks, cost, square = (self._sums(one, ends, window) for one in self._columns())
        usable = np.ones((len(ends), 4), np.bool_)
        totals = Totals(tasks.astype(np.int64), cost, cost, square, usable)
        return judge(RULE, RULE.arms[arm], totals, np.ones(len(ends), np.bool_))

    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.tasks, self.cost, self.square

    def _sums(self, values: np.ndarray, ends: np.ndarray, window: int) -> np.ndarray:
        running = np.concatenate([[0.0], np.cumsum(values)])
        found: np.ndarray = running[ends] - running[ends - window]
        return found


@pytest.mark.parametrize("a_day", [100, 400, 1500, 4000])
def test_quiet_years_of_heavy_tails_and_seasons_never_fire(a_day: int) -> None:
    """A year of hours for each of some agents; not one hour at which any arm would begin."""
    for seed in range(max(1, 4000 // a_day // 4)):
        year = Year(seed, a_day, sigma=1.7)

        for arm in range(3):
            assert not (year.judged(arm).cells & FIRE).any(), (seed, arm)


@pytest.mark.parametrize(
    ("a_day", "sigma", "within", "share"),
    [(3500, 1.17, 48, 0.9), (500, 1.17, 8 * 24, 0.75), (10_000, 1.7, 72, 0.9)],
)
def test_a_rise_by_a_quarter_is_seen_in_time(
    a_day: int, sigma: float, within: int, share: float
) -> None:
    """The volumes of rules.md: 3,500 tasks a day for the day, some hundreds for the week."""
    hours = [first_hour(seed, a_day, sigma, 9) for seed in range(16)]

    assert sum(hour <= within for hour in hours) >= share * len(hours), hours


def first_hour(seed: int, a_day: int, sigma: float, days: int) -> float:
    """Return the hour after the rise at which any arm would begin."""
    year = Year(seed, a_day, sigma, 35 + days)
    year.rise(days, 1.25)
    fires = [np.flatnonzero(year.judged(arm).cells & FIRE) for arm in range(3)]
    return min((float(hours[0]) for hours in fires if len(hours)), default=math.inf)
