"""Which confidence threshold would automate more without more overrides, and the evidence.

A bin of confidence has tasks, automated or not, and reviews of these. What another threshold would
have done follows from the bins above it. Below the threshold of today little is known: there the
reviews are of escalated tasks, whose verdict says whether the person agreed with what the agent
proposed. That such a proposal, automated, would have been overridden as often is an extrapolation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams import stats
from streams.columns import BINS, CONFIDENCE_EDGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.review_rules import ThresholdRule

    I64 = NDArray[np.int64]
    F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Bins:
    """What happened to tasks of an agent and task type, by bin of confidence.

    Attributes:
        tasks: int64[2, bins], automated and other tasks.
        overridden: int64[2, bins], overridden reviews of automated and of other tasks; of a task
            whose outcome the review does not tell, the first.
        confirmed: int64[2, bins], the same for confirmed ones.
    """

    tasks: I64
    overridden: I64
    confirmed: I64


class Rate(NamedTuple):
    """A rate with its interval; all NaN where it is not known."""

    value: float
    low: float
    high: float


_UNKNOWN = Rate(float("nan"), float("nan"), float("nan"))


class Candidate(NamedTuple):
    """What a threshold would have given.

    Attributes:
        edge: bin whose lower edge is the threshold.
        automated: share of tasks automated.
        overrides: share of automated tasks overridden.
    """

    edge: int
    automated: Rate
    overrides: Rate


@dataclass(frozen=True, slots=True)
class Advice:
    """What is recommended, and why.

    Attributes:
        current: the threshold in use, as far as it shows, with what was seen.
        candidates: all thresholds, ascending.
        best: the one recommended; None to stay.
        target: the override rate to stay under.
        tasks: tasks behind it.
        reviews: reviews behind it.
    """

    current: Candidate
    candidates: tuple[Candidate, ...]
    best: Candidate | None
    target: float
    tasks: int
    reviews: int

    @property
    def numbers(self) -> dict[str, float]:
        """All numbers by name; those that are not known are left out."""
        named = {"current": self.current} | {
            f"at_{CONFIDENCE_EDGES[one.edge]:g}": one for one in self.candidates
        }
        found = {"target": self.target, "reviews": float(self.reviews)}
        for name, one in named.items():
            for what, rate in (("automated", one.automated), ("overrides", one.overrides)):
                if rate.value == rate.value:
                    found[f"{what}_{name}"] = rate.value
                    found[f"{what}_{name}_low"] = rate.low
                    found[f"{what}_{name}_high"] = rate.high
        return found

    @property
    def sentence(self) -> str:
        """One sentence for a person."""
        now, best = self.current, self.best or self.current
        text = (
            f"a threshold of {CONFIDENCE_EDGES[best.edge]:g} instead of "
            f"{CONFIDENCE_EDGES[now.edge]:g} would have automated {best.automated.value:.1%} of "
            f"tasks (now {now.automated.value:.1%}) with {best.overrides.value:.1%} overridden, "
            f"at most {best.overrides.high:.1%} (now {now.overrides.value:.1%})"
        )
        if best.edge >= now.edge:
            return text
        return (
            f"{text}; below the threshold of today this is an extrapolation from reviews of tasks "
            "that were not automated"
        )


def edge_in_use(tasks: I64) -> int:
    """Return the bin from which tasks are automated: the edge that parts the two best.

    Args:
        tasks: int64[2, bins], automated and other tasks.

    >>> tasks = np.zeros((2, 10), np.int64)
    >>> tasks[1, :6], tasks[0, 6:] = 5, 50
    >>> edge_in_use(tasks)
    6
    """
    automated, other = tasks
    below = np.concatenate([[0], np.cumsum(automated)])[:BINS]
    above = np.cumsum(other[::-1])[::-1]
    return int(np.argmin(below + above))


def advise(rule: ThresholdRule, bins: Bins) -> Advice | None:
    """Return what is recommended; None where too little is known to look at it.

    Args:
        rule: the rule.
        bins: what happened.
    """
    tasks = int(bins.tasks.sum())
    if tasks < rule.min_tasks:
        return None
    edge = edge_in_use(bins.tasks)
    overridden, reviews = _reviews(bins, edge)
    total = bins.tasks.sum(axis=0)
    now = bins.tasks[0].astype(np.float64)
    as_now = _rates(rule, now, total, (overridden, reviews))
    if as_now[1] is _UNKNOWN:
        return None
    share = np.where(np.arange(BINS) >= edge, stats.rate(now, total), _usual_share(bins, edge))
    would = np.nan_to_num(share) * total
    candidates = []
    for one in range(BINS):
        kept = np.where(np.arange(BINS) >= one, would, 0.0)
        candidates.append(Candidate(one, *_rates(rule, kept, total, (overridden, reviews))))
    current = Candidate(edge, *as_now)
    target = current.overrides.value if rule.target is None else rule.target
    best = _best(rule, current, candidates, target)
    return Advice(current, tuple(candidates), best, target, tasks, int(reviews.sum()))


def _reviews(bins: Bins, edge: int) -> tuple[I64, I64]:
    """Return (overridden, reviews) by bin: of automated tasks, below the edge of all tasks."""
    above = np.arange(BINS) >= edge
    both = bins.overridden + bins.confirmed
    overridden = np.where(above, bins.overridden[0], bins.overridden.sum(axis=0))
    return overridden, np.where(above, both[0], both.sum(axis=0))


def _usual_share(bins: Bins, edge: int) -> float:
    """Return the share of tasks above the edge that are automated: the others fail."""
    above = bins.tasks[:, edge:].sum(axis=1)
    return float(above[0] / above.sum()) if above.sum() else 1.0


def _rates(
    rule: ThresholdRule, automated: F64, total: I64, seen: tuple[I64, I64]
) -> tuple[Rate, Rate]:
    """Return the automated rate and the override rate of tasks automated by bin.

    The override rate is that of each bin weighted by its automated tasks, whichever were reviewed;
    its interval is Wilson's for as many reviews of all tasks alike as would be as sure.
    """
    everything = int(total.sum())
    done = _interval(float(automated.sum()), everything, rule.z)
    overridden, reviews = seen
    matters = automated > rule.minor * everything
    if not automated.any() or (matters & (reviews < rule.min_reviews)).any():
        return done, _UNKNOWN
    known = (automated > 0) & (reviews > 0)
    if not known.any():
        return done, _UNKNOWN
    weight = automated[known] / automated[known].sum()
    n = reviews[known].astype(np.float64)
    rate = float((weight * overridden[known] / n).sum())
    smooth = (overridden[known] + 0.5) / (n + 1)  # a bin without overrides is not without variance
    middle = float((weight * smooth).sum())
    variance = float((weight * weight * smooth * (1 - smooth) / n).sum())
    as_many = middle * (1 - middle) / variance
    return done, _interval(rate * as_many, as_many, rule.z)


def _interval(hits: float, total: float, z: float) -> Rate:
    low, high = stats.wilson_lower(hits, total, z), stats.wilson_upper(hits, total, z)
    return Rate(hits / total, float(low), float(high))


def _best(
    rule: ThresholdRule, current: Candidate, candidates: list[Candidate], target: float
) -> Candidate | None:
    """Return the highest automated rate that surely stays under the target, None to stay.

    It must be worth it and automate more, unless the rate of today surely exceeds the target. Of
    thresholds that automate the same it is the one nearest to that of today.
    """
    sure = [one for one in candidates if one.overrides.high <= target and one.edge != current.edge]
    if current.overrides.low <= target:
        gain = current.automated.value + rule.min_gain
        sure = [one for one in sure if one.automated.value >= gain]

    def worth(one: Candidate) -> tuple[float, int]:
        return one.automated.value, -abs(one.edge - current.edge)

    return max(sure, key=worth, default=None)
