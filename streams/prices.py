"""Constant price: what the tokens of a window would have cost at the usual prices.

The price of a model is what an owner (an agent, or a task type over all agents) paid for an
effective token of it, over the four weeks before the newest. The same prices hold for the window
and for its past, so a dearer price list moves no window, while more tokens and dearer models do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.cost_rules import LONGEST
from streams.cost_sums import COST, TASKS, effective
from streams.decomposition import Cells, Effects, decompose, sentence

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.cost_rules import TokenWeights
    from streams.cost_sums import Layout

    I64 = NDArray[np.int64]
    F64 = NDArray[np.float64]
    Bool = NDArray[np.bool_]

MICRO = 1_000_000
"""Micro-dollars of a dollar."""

AGENT_MIX = "model and task type mix"
"""What the mix is of where an entity has several task types."""


class Priced(NamedTuple):
    """Sums of rows, and what they cost at constant price.

    Attributes:
        sums: int64[rows, windows, weeks, columns].
        tokens: float64[rows, windows, weeks], effective tokens.
        cost: float64[rows, windows, weeks], micro-dollars at the usual prices; a window of a row
            without tokens, or of a model without a past, counts at what it did cost.
    """

    sums: I64
    tokens: F64
    cost: F64


def effective_sums(sums: I64, weights: TokenWeights) -> Priced:
    """Return sums with their tokens, at the cost there was."""
    return Priced(sums, effective(sums, weights), sums[..., COST].astype(np.float64))


def priced(sums: I64, windows: tuple[int, ...], layout: Layout, weights: TokenWeights) -> Priced:
    """Return sums at constant price.

    Args:
        sums: int64[rows, windows, weeks, columns], as of `CostSums.at`.
        windows: lengths, ms; one of them is a week.
        layout: of the rows.
        weights: what makes an effective token.
    """
    tokens = effective(sums, weights)
    week = windows.index(LONGEST)
    cost = _grouped(sums[:, week, 1:, COST].sum(axis=1), layout).astype(np.float64)
    used = _grouped(tokens[:, week, 1:].sum(axis=1), layout)
    known = (cost > 0) & (used > 0)
    price = np.divide(cost, used, out=np.zeros(len(cost)), where=known)
    each = price[layout.price_of][:, None, None]
    constant = np.where((each > 0) & (tokens > 0), each * tokens, sums[..., COST])
    return Priced(sums, tokens, constant)


class Explained(NamedTuple):
    """Where a change of cost comes from.

    Attributes:
        numbers: effects in dollars, by name.
        text: the sentence; None without a usual cost.
    """

    numbers: dict[str, float]
    text: str | None


def explained(found: Priced, rows: slice | I64, window: int, weeks: Bool, mix: str) -> Explained:
    """Return where the change of the total cost of rows comes from.

    Args:
        found: the sums.
        rows: places of the rows, each a cell of its own.
        window: index of the window.
        weeks: bool[4], past weeks whose mean is the usual; nothing is said without any.
        mix: what the mix is of.
    """
    if not weeks.any():
        return Explained({}, None)
    sums, tokens = found.sums[rows, window], found.tokens[rows, window]
    past = np.flatnonzero(weeks) + 1
    usual = Cells(
        sums[:, past, TASKS].mean(axis=1),
        tokens[:, past].mean(axis=1),
        sums[:, past, COST].mean(axis=1),
    )
    now = Cells(sums[:, 0, TASKS].astype(float), tokens[:, 0], sums[:, 0, COST].astype(float))
    return explain(usual, now, mix)


def explain(usual: Cells, now: Cells, mix: str) -> Explained:
    """Return where a change of cost, in micro-dollars, comes from."""
    effects = decompose(usual, now)
    dollars = Effects(*(effect / MICRO for effect in effects))
    numbers = {f"{name}_usd": value for name, value in dollars._asdict().items()}
    return Explained(numbers, sentence(effects, float(usual.cost.sum()), mix))


def _grouped(values: NDArray[np.float64] | I64, layout: Layout) -> NDArray[np.float64]:
    """Return the sums of rows by price."""
    if not len(layout.price_starts):
        return np.empty(0)
    found = np.add.reduceat(values[layout.price_order], layout.price_starts)
    return np.asarray(found, np.float64)
