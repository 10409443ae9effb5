"""`scripts/drift`: how often drift is found where there is none, and how soon where there is.

Signals are simulated by the hour and go the way that real ones go: bins, season, detector. They
have a season of the day and of the week, noise whose hours depend on each other, days of their
own, and heavy tails. Nothing here is random but the seeds, which are counted from 0.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.durations import DAY, HOUR
from streams.rules import RuleSet
from streams.series import Agent
from streams.signals import SignalHistory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from streams.drift_rules import DriftRule
    from streams.shifts import Shift

    F64 = NDArray[np.float64]

SEEDS = 30
DAYS = 180
"""Length of an undisturbed series; its first weeks, while it is young, count as well."""

AT, AFTER = 70, 30
"""Day of a shift, and how many days it has to be found."""

EXAMPLE_SEEDS = 10
MONTH = 30.44
CORRELATIONS = (0.3, 0.5, 0.7)
TAILS = ("normal", "t3", "lognormal")
SHIFTS = (0.5, 1.0, 2.0, 4.0)
"""Shifts in standard deviations of a day's mean."""

_QUIET_BINS = 42
_BURN_IN = 100
_SUNDAY = 7


class Family(NamedTuple):
    """A kind of series: how hours depend on each other, and the tail of their noise."""

    correlation: float
    tail: str


FAMILIES = [Family(correlation, tail) for correlation in CORRELATIONS for tail in TAILS]


def noise(rng: np.random.Generator, family: Family, shape: tuple[int, int]) -> F64:
    """Return float64[n, hours] of unit variance: an autoregressive process of heavy tails."""
    number, hours = shape
    size = number, hours + _BURN_IN
    if family.tail == "normal":
        shocks = rng.standard_normal(size)
    elif family.tail == "t3":
        shocks = rng.standard_t(3, size) / np.sqrt(3)
    else:
        shocks = (rng.lognormal(0, 1, size) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e)
    found = np.empty(size)
    found[:, 0] = shocks[:, 0]
    for hour in range(1, size[1]):
        step = np.sqrt(1 - family.correlation**2) * shocks[:, hour]
        found[:, hour] = family.correlation * found[:, hour - 1] + step
    return found[:, _BURN_IN:]


def series(rng: np.random.Generator, family: Family, number: int, days: int) -> tuple[F64, F64]:
    """Return hours, float64[n, 24·days], and the standard deviation of a day's mean, float64[n]."""
    found = noise(rng, family, (number, 24 * days))
    found += np.repeat(0.3 * rng.standard_normal((number, days)), 24, axis=1)  # days of their own
    spread = found.reshape(number, days, 24).mean(axis=2).std(axis=1)
    hours = np.arange(24 * days)
    found += 2 * np.sin(2 * np.pi * hours / 24 + rng.uniform(0, 2 * np.pi, (number, 1)))
    weekend = (hours // 24 + 3) % _SUNDAY >= 5
    return found + weekend * rng.normal(0, 2, (number, 1)), spread


def run(rule: DriftRule, hours: F64) -> Iterator[Shift]:
    """Yield what is found in series, each as the signal of an agent of its own, bin by bin.

    A series that was found to drift begins again after the quiet time, as in the service.
    """
    number = len(hours)
    history = SignalHistory("tasks", rule, rule.step_ms, 1)
    history.reserve(number, 1)
    for row in range(number):
        history.name(row, Agent(None, f"agent-{row}"))
    phases = np.array([history.start(0, row) // HOUR for row in range(number)])
    per = history.hours
    open_until: dict[int, tuple[int, int]] = {}
    for phase in np.unique(phases).tolist():
        rows = np.flatnonzero(phases == phase)
        bins = hours[rows].reshape(len(rows), -1, per).mean(axis=2)
        for at in range(bins.shape[1]):
            for row in [row for row, (until, _) in open_until.items() if until == at]:
                history.thaw((row, 0), (open_until.pop(row)[1], at))
            for shift in history.close(at, rows, bins[:, at, None]):
                open_until[shift.row] = at + _QUIET_BINS, shift.onset
                yield shift._replace(onset=at)  # here: when it was found
            history.changes()
        open_until.clear()


class Alarms(NamedTuple):
    """Findings in series that nothing happened to, per series and month.

    Attributes:
        rates: float64[seeds, families].
    """

    rates: F64


def false_alarms(rule: DriftRule, seeds: Sequence[int], each: int, days: int = DAYS) -> Alarms:
    """Return how often undisturbed series are found to drift, `each` of a family and seed."""
    parts = [
        series(np.random.default_rng([seed, place, 0]), family, each, days)[0]
        for seed in seeds
        for place, family in enumerate(FAMILIES)
    ]
    rows = [one.row for one in run(rule, np.concatenate(parts))]
    found = np.bincount(np.array(rows, np.int64) // each, minlength=len(parts))
    return Alarms(found.reshape(len(seeds), len(FAMILIES)) / (each * days / MONTH))


def delays(rule: DriftRule, seeds: Sequence[int], shift: float, each: int) -> F64:
    """Return after how many days a shift was found in series of all families, NaN for not at all.

    Args:
        rule: the numbers.
        seeds: of the series.
        shift: in standard deviations of a day's mean.
        each: series of a family and seed.
    """
    parts, starts = [], []
    for seed in seeds:
        for place, family in enumerate(FAMILIES):
            rng = np.random.default_rng([seed, place, 1])
            hours, spread = series(rng, family, each, AT + AFTER)
            start = AT * 24 + int(rng.integers(24))
            hours[:, start:] += shift * spread[:, None] * rng.choice([-1.0, 1.0], (each, 1))
            parts.append(hours)
            starts += [start / 24] * each
    found = np.full(len(starts), np.nan)
    for one in run(rule, np.concatenate(parts)):
        days = (one.onset + 1) * rule.step_ms / DAY - starts[one.row]
        if days > 0 and np.isnan(found[one.row]):
            found[one.row] = days
    return found


def mix_delays(rule: DriftRule, seeds: Sequence[int], moved: float, tasks: int) -> F64:
    """Return after how many days another mix of task types was found, NaN for not at all.

    Args:
        rule: the numbers.
        seeds: of the series, nine each.
        moved: share of the tasks that go from the most to the least frequent type.
        tasks: a day.
    """
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    bins = DAY // rule.step_ms
    each, days = len(FAMILIES), AT + AFTER
    parts = []
    for seed in seeds:
        rng = np.random.default_rng([seed, 99])
        usual = rng.dirichlet(400 * shares, (each, days)).repeat(bins, axis=1)
        usual[:, AT * bins :] += moved * np.array([-1.0, 0.0, 0.0, 1.0])
        usual = np.clip(usual, 0, None)
        usual /= usual.sum(axis=-1, keepdims=True)
        seen = rng.multinomial(tasks // bins, usual) / (tasks // bins)
        parts.append(np.abs(seen - shares).sum(axis=-1) / 2)
    hours = np.concatenate(parts).repeat(rule.step_ms // HOUR, axis=1)
    found = np.full(len(hours), np.nan)
    for one in run(rule, hours):
        late = (one.onset + 1) / bins - AT
        if late > 0 and np.isnan(found[one.row]):
            found[one.row] = late
    return found


def feature_shift(share: float, scatter: float, tasks: int, between_days: float = 0.02) -> float:
    """Return a shift of a feature's mean in standard deviations of its day's mean.

    Args:
        share: by which the mean rises: 0.1 for 10 %.
        scatter: standard deviation of single values over their mean.
        tasks: sampled tasks of a day.
        between_days: standard deviation of the days' own means over the mean.
    """
    return share / float(np.hypot(scatter / np.sqrt(tasks), between_days))


def report(rule: DriftRule, seeds: Sequence[int], each: int) -> str:
    """Return both tables in Markdown."""
    rates = false_alarms(rule, seeds, each).rates
    lines = [
        f"Undisturbed series: {len(seeds)} seeds, {each} series of each kind, {DAYS} days.",
        "",
        "| correlation of hours | noise | findings per series and month | worst seed |",
        "| --- | --- | --- | --- |",
    ]
    for place, family in enumerate(FAMILIES):
        mine = rates[:, place]
        cells = f"{mine.mean():.4f} | {mine.max():.4f}"
        lines.append(f"| {family.correlation} | {family.tail} | {cells} |")
    lines += [f"| all | all | {rates.mean():.4f} | {rates.mean(axis=1).max():.4f} |", ""]
    lines += [
        "| shift, standard deviations of a day's mean | found in 30 days | median days | 90 % |",
        "| --- | --- | --- | --- |",
    ]
    for shift in SHIFTS:
        found = delays(rule, seeds, shift, max(1, each // 4))
        lines.append(f"| {shift:g} | {_shown(found)} |")
    return "\n".join([*lines, "", *_examples(rule, seeds[:EXAMPLE_SEEDS])])


def _examples(rule: DriftRule, seeds: Sequence[int]) -> list[str]:
    """Return the table of shifts that people can picture."""
    lines = [
        "| change | tasks a day | standard deviations | found in 30 days | median days | 90 % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for share in (0.1, 0.2, 0.5):
        for tasks in (100, 700):
            size = feature_shift(share, 1.0, tasks)
            shown = _shown(delays(rule, seeds, size, 1))
            lines.append(f"| mean of a feature + {share:.0%} | {tasks} | {size:.1f} | {shown} |")
    for moved in (0.05, 0.1, 0.2):
        for tasks in (300, 3000):
            shown = _shown(mix_delays(rule, seeds, moved, tasks))
            lines.append(f"| {moved:.0%} of tasks of another type | {tasks} | | {shown} |")
    return lines


def _shown(found: F64) -> str:
    late = np.where(np.isnan(found), np.inf, found)
    median, most = (float(np.quantile(late, q, method="higher")) for q in (0.5, 0.9))
    days = " | ".join(f"{x:.1f}" if np.isfinite(x) else "not" for x in (median, most))
    return f"{np.mean(np.isfinite(late)):.0%} | {days}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="drift", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--each", type=int, default=4, help="series of a kind and seed")
    given = parser.parse_args(arguments)
    began = time.monotonic()
    print(report(RuleSet.default().drift, range(given.seeds), given.each))
    print(f"\n{time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
