"""The rule on a share against a plain reading of docs/semantics.md."""

from __future__ import annotations

import math
from statistics import median

import numpy as np
import pytest

from streams.durations import HOUR, WEEK
from streams.rules import RuleSet
from streams.shares import HOURS_KEPT, Found, Past, ShareLives, Windows, window_ends
from tests.review_rig import MONDAY

(RULE,) = (rule for rule in RuleSet.default().shares if rule.numerator == "overridden")
TICK = MONDAY + 6 * WEEK
WIDTH = RULE.arm.window_ms // HOUR


def plain_p0(total: list[int], hits: list[int], end: int, born: int) -> tuple[float, int]:
    """Return (usual share, weeks) as of a whole hour; lists by hour, `end` past the last."""
    weeks = []
    for week in range(1, 5):
        last = end - 168 * week
        first = last - WIDTH
        if first >= born and (n := sum(total[first:last])):
            weeks.append((n, sum(hits[first:last])))
    if not weeks:
        return math.nan, 0
    n = sum(one for one, _ in weeks)
    share = median(k / n for n, k in weeks)
    if min(one for one, _ in weeks) < 200:
        share = sum(k for _, k in weeks) / n
    edge = 0.5 / (n + 1)
    return min(max(share, edge), 1 - edge), len(weeks)


def plain_tau2(total: list[int], hits: list[int], p0: float, born: int) -> float:
    """Return the variance between days as of the end of the lists."""
    residuals, spreads = [], []
    for age in range(3, 27):
        end = HOURS_KEPT - 24 * age
        first = end - WIDTH
        if first < max(0, born) or (n := sum(total[first:end])) < 20:
            continue
        own, weeks = plain_p0(total, hits, end, max(0, born))
        if weeks:
            residuals.append(abs(sum(hits[first:end]) / n - own))
            spreads.append(1.25 * own * (1 - own) / n)
    if len(residuals) < 5:
        return (0.25 * p0) ** 2
    return max(0.0, (1.4826 * median(residuals)) ** 2 - median(spreads))


def judged(total: np.ndarray, hits: np.ndarray, born: int) -> list[Found]:
    """Return what three looks at the same counts make of one key: the third fires."""
    lives = ShareLives(RULE)
    ends = window_ends(RULE, TICK) // HOUR - TICK // HOUR + HOURS_KEPT
    births = np.full(1, TICK - (HOURS_KEPT - born) * HOUR)
    both = [np.array([[one[end - WIDTH : end].sum() for end in ends]]) for one in (total, hits)]
    windows = Windows(both[0], both[1], births)
    found: list[Found] = []
    for hour in range(3):
        found += lives.hour(
            TICK + hour * HOUR,
            [b"key"],
            windows,
            lambda _: Past(total[None, :], hits[None, :], births),
        )
    return found


@pytest.mark.parametrize("seed", range(8))
def test_it_is_what_the_formulas_say(seed: int) -> None:
    dice = np.random.default_rng(seed)
    born = int(dice.choice([-100, 0, 100, 300, 500]))
    shares = np.repeat(0.1 * np.exp(dice.normal(0, 0.2, HOURS_KEPT // 24)), 24)
    shares[-72:] *= 3
    total = dice.poisson(dice.choice([1, 10, 40]), HOURS_KEPT)
    total[: max(0, born)] = 0
    hits = dice.binomial(total, shares)

    found = judged(total, hits, born)
    p0, weeks = plain_p0(total.tolist(), hits.tolist(), HOURS_KEPT, born)
    n, k = int(total[-72:].sum()), int(hits[-72:].sum())
    tau2 = plain_tau2(total.tolist(), hits.tolist(), p0, born)
    z = (k / n - p0) / math.sqrt(1.25 * p0 * (1 - p0) / n + tau2) if weeks else math.nan
    limit = 5 * (1.5, 1.5, 1.5, 1.25, 1)[weeks]
    fires = bool(weeks) and k / n > 1.6 * p0 and z > limit and k >= 15

    assert [str(one.turn.transition) for one in found] == (["PENDING", "FIRING"] if fires else [])
    for one in found:
        assert (one.verdict.n, one.verdict.k, one.verdict.weeks) == (n, k, weeks)
        assert one.verdict.p0 == pytest.approx(p0)
        assert one.verdict.z == pytest.approx(z)
        assert one.verdict.tau == pytest.approx(math.sqrt(tau2))


def test_the_cases_of_the_oracle_are_of_both_kinds() -> None:
    dice = np.random.default_rng(0)
    total = np.full(HOURS_KEPT, 10)
    usual = dice.binomial(total, 0.1)
    high = usual.copy()
    high[-72:] = 3

    assert judged(total, usual, 0) == []
    assert len(judged(total, high, 0)) == 2


def test_a_young_baseline_asks_for_more() -> None:
    """The same rise fires after four weeks and not after two."""
    total = np.full(HOURS_KEPT, 4)
    hits = np.where(np.arange(HOURS_KEPT) % 5 == 0, 2, 0)
    hits[-72:] = np.where(np.arange(72) % 5 < 2, 2, 0)

    assert len(judged(total, hits, 0)) == 2
    assert len(judged(total, hits, HOURS_KEPT - 24 * 7 * 2 - 72)) == 0
