"""When a pattern of overrides is more than usual, and what would help against it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams import stats
from streams.reasons import RetrainingAction
from streams.tails import poisson_tail
from streams.watch import Measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from streams.review_rules import OverridePatternRule

    I64 = NDArray[np.int64]
    F64 = NDArray[np.float64]

_COUNT, _SURE, _LOW, _GHOST = range(4)
_WEEK = 7


class Advice(NamedTuple):
    """What would help, and the counts that say so.

    Attributes:
        action: what would help.
        overrides: in the window.
        sure: those whose confidence can be compared.
        low: those of low confidence.
        examples: overrides in all days kept.
    """

    action: RetrainingAction
    overrides: int
    sure: int
    low: int
    examples: int

    def measure(
        self, rule: OverridePatternRule, usual: float, weeks: int, window: tuple[int, int]
    ) -> Measure:
        """Return what was measured in a window, ms."""
        start, end = window
        return Measure(
            value=float(self.overrides),
            threshold=max(float(rule.min_count), rule.factor * usual),
            baseline=usual if weeks else None,
            sample_count=self.overrides,
            weeks=weeks,
            window_start=start,
            window_end=end,
            detail=(
                f"{self.overrides} times in {rule.days} days, usually {usual:g}; "
                f"{self.low} of {self.sure} with a known confidence were under the usual one"
            ),
            numbers={
                "examples": float(self.examples),
                "low_confidence": float(self.low),
                "known_confidence": float(self.sure),
            },
        )


def usual_count(
    rule: OverridePatternRule, born: int, first: int, between: Callable[[int, int], I64]
) -> tuple[F64, int]:
    """Return the usual count of each pattern, float64[places], and the weeks behind it.

    It is the median of the same days of the earlier weeks that began after the agent's first day
    with a review. What a pattern may have lost to others counts too: the usual is no less.

    Args:
        rule: the rule.
        born: day of the agent's first review.
        first: first day of the window.
        between: gives the sums of days [first, last], int64[places, what].
    """
    starts = [first - _WEEK * week for week in range(1, rule.weeks + 1)]
    known = [start for start in starts if start > born]
    sums = [between(start, start + rule.days - 1) for start in known]
    counts = [one[:, _COUNT] + one[:, _GHOST] for one in sums]
    if not counts:
        return np.zeros(len(between(first, first))), 0
    return stats.median(np.stack(counts, axis=-1)), len(known)


def measured(rule: OverridePatternRule, counts: I64, usual: F64, weeks: int) -> NDArray[np.bool_]:
    """Return bool[places]: which patterns are more than usual, beyond chance."""
    if weeks < rule.min_weeks:
        return np.zeros(len(usual), np.bool_)
    holds: NDArray[np.bool_] = (counts >= rule.min_count) & (counts > rule.factor * usual)
    for place in np.flatnonzero(holds).tolist():
        mean = float(usual[place]) + rule.slack + rule.spread * float(usual[place]) ** 0.5
        holds[place] = poisson_tail(int(counts[place]), mean) < rule.tail
    return holds


def advised(rule: OverridePatternRule, window: I64, examples: int, *, tried: bool) -> Advice:
    """Return what would help against a pattern.

    THRESHOLD where most of the overridden decisions were of low confidence: a person would have
    decided them in the first place. Else FINE_TUNE where there are examples enough to learn from,
    or the prompt was changed since the pattern is known and it is back. Else PROMPT.

    Args:
        rule: the rule.
        window: int64[what], the counts of the window.
        examples: overrides in all days kept.
        tried: whether the prompt was changed since the pattern is known.
    """
    sure, low = int(window[_SURE]), int(window[_LOW])
    if sure >= rule.low_min and low >= rule.low_share * sure:
        action = RetrainingAction.THRESHOLD
    elif tried or examples >= rule.examples:
        action = RetrainingAction.FINE_TUNE
    else:
        action = RetrainingAction.PROMPT
    return Advice(action, int(window[_COUNT]), sure, low, examples)
