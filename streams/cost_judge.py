"""The judgement of cost per task: how far from the usual it is, and whether that can be chance.

Element-wise over subjects. The cost per task is compared by its logarithm, as dear tasks make it
skewed; what chance can do follows from the spread of single tasks and from that between windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams import stats
from streams.arms import CLEAR, ENOUGH, FIRE, JUDGEABLE, WAKES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.cost_rules import CostArm, CostRule

    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]
    Bool = NDArray[np.bool_]


class Totals(NamedTuple):
    """Sums by subject, over one window: arrays [subjects, 1 + weeks], week 0 is now.

    Attributes:
        tasks: int64.
        constant: float64, micro-dollars at constant price.
        cost: float64, micro-dollars.
        square: float64, squares of the cost of each task.
        usable: bool[subjects, weeks], past windows that may make the usual.
    """

    tasks: I64
    constant: F64
    cost: F64
    square: F64
    usable: Bool


class Judged(NamedTuple):
    """What an arm makes of totals; arrays [subjects].

    Attributes:
        cells: uint8, bits of `streams.arms`.
        change: float64, logarithm of the cost per task over the usual one.
        usual: float64, logarithm of the usual cost per task, micro-dollars; NaN for none.
        error: float64, standard error of `change`.
        limit: float64, what `change` was compared with.
        weeks: int64, past weeks behind the usual.
    """

    cells: NDArray[np.uint8]
    change: F64
    usual: F64
    error: F64
    limit: F64
    weeks: I64


def judge(rule: CostRule, arm: CostArm, totals: Totals, touched: Bool) -> Judged:
    """Judge the cost per task of subjects, element-wise.

    Args:
        rule: the rule.
        arm: its arm.
        totals: over the arm's window.
        touched: bool[subjects], those with a task in the newest hour: only they wake.
    """
    n, ok = totals.tasks[:, 0], totals.usable
    weeks = np.count_nonzero(ok, axis=1)
    past = np.where(ok, totals.tasks[:, 1:], 0).sum(axis=1)
    usual = _usual(rule, totals)
    spread = np.fmax(_relative_variance(totals), _relative_variance(totals, past=True))
    spread = np.where(np.isnan(spread), np.inf, spread)  # nothing cost anything: nothing is sure
    if rule.spread == "log":
        spread = np.log1p(spread)
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.log(totals.constant[:, 0] / n) - usual
        counting = spread * (1 / n + (rule.overdispersion - 1) * weeks / past)
    error = np.sqrt(counting + arm.between * arm.between)
    least = np.log(arm.factor)
    limit = np.fmax(least, arm.z * np.asarray(rule.multiplier)[weeks] * error)
    enough = (n >= arm.min_n) & (weeks >= 1)
    with np.errstate(invalid="ignore"):
        fire = enough & (change > limit)
        clear = enough & (change < arm.clear_share * least)
    cells = np.zeros(len(n), np.uint8)
    for bits, where in (
        (ENOUGH | JUDGEABLE, enough),
        (FIRE, fire),
        (CLEAR, clear),
        (WAKES, fire & touched),
    ):
        cells[where] |= bits
    return Judged(cells, change, usual, error, limit, weeks)


def _usual(rule: CostRule, totals: Totals) -> F64:
    """Return the logarithm of the usual cost per task: the median week, or all where few."""
    ok, tasks = totals.usable, totals.tasks[:, 1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(ok, np.log(totals.constant[:, 1:] / tasks), np.nan)
        total = np.where(ok, totals.constant[:, 1:], 0).sum(axis=1)
        pooled = np.log(total / np.where(ok, tasks, 0).sum(axis=1))
    few = (ok & (tasks < rule.pool_below)).any(axis=1)
    return np.where(few, pooled, stats.median(each))


def _relative_variance(totals: Totals, *, past: bool = False) -> F64:
    """Return variance / mean² of the cost of a task, now or in the usable past; NaN for none."""
    parts = (totals.tasks, totals.cost, totals.square)
    if past:
        n, cost, square = (np.where(totals.usable, part[:, 1:], 0).sum(axis=1) for part in parts)
    else:
        n, cost, square = (part[:, 0] for part in parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.maximum(square * n / (cost * cost) - 1, 0.0))
