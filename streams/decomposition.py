"""Where a change of total cost comes from: an index decomposition that adds up exactly.

The cost of a cell (a model and a task type) is volume x share of the volume x tokens per task x
price per token. The additive logarithmic mean Divisia index (LMDI-I) gives each factor the part
of the change that is its own; no remainder is left, and none of the effects is one.

Source: B. W. Ang (2005), "The LMDI approach to decomposition analysis: a practical guide", Energy
Policy 33, 867-871, and (2015), "LMDI decomposition approach: a guide for implementation", Energy
Policy 86, 233-238; zeros by their analytic limits, as B. W. Ang, N. Liu (2007), "Handling zero
values in the logarithmic mean Divisia index decomposition approach", Energy Policy 35, 238-246.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    F64 = NDArray[np.float64]
    Bool = NDArray[np.bool_]

WORDS = {
    "tokens": "tokens per task",
    "mix": "model mix",
    "price": "price",
    "volume": "volume",
}
"""How the sentence calls each effect."""

_NEAR = 1e-3  # relative difference below which a logarithm of the ratio loses digits


class Cells(NamedTuple):
    """What each cell did in a span of time; all arrays float64[cells], none negative.

    Attributes:
        tasks: number of tasks; may be a mean of several spans.
        tokens: effective tokens.
        cost: in any unit of money.
    """

    tasks: F64
    tokens: F64
    cost: F64


class Effects(NamedTuple):
    """The parts of a change of total cost, in its unit; they add up to `total`.

    Attributes:
        volume: more or fewer tasks.
        tokens: more or fewer tokens in a task of the same cell.
        price: dearer or cheaper tokens of the same cell.
        mix: tasks moved between cells: other models, other task types.
        total: the change.
    """

    volume: float
    tokens: float
    price: float
    mix: float
    total: float


def log_mean(a: ArrayLike, b: ArrayLike) -> F64:
    """Return the logarithmic mean (a - b) / (ln a - ln b) of positive numbers; 0 where one is 0.

    >>> log_mean([1.0, 2.0, 0.0], [np.e, 2.0, 5.0]).round(6).tolist()
    [1.718282, 2.0, 0.0]
    """
    x, y = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(b, np.float64))
    some = (x > 0) & (y > 0)
    x, y = np.where(some, x, 1.0), np.where(some, y, 1.0)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        excess = x / y - 1
        near = np.abs(excess) < _NEAR
        # ln(1 + e) / e, exact near 0, where the difference of two logarithms has no digits left.
        close = np.where(excess == 0, y, y * excess / np.log1p(np.where(near, excess, 1.0)))
        far = (x - y) / np.where(near, 1.0, np.log(x) - np.log(y))
    return np.where(some, np.where(near, close, far), 0.0)


def decompose(usual: Cells, now: Cells) -> Effects:
    """Return where the change of total cost from `usual` to `now` comes from.

    A cell that is new or vanished changed the mix; one whose side without cost had tokens changed
    its price. Where a cell has cost but no tokens on either side, its cost per task counts as
    tokens per task. All cells new or vanished: the whole change is volume.

    Raises:
        ValueError: a cell has cost but no tasks.
    """
    for side in (usual, now):
        if np.any((side.cost > 0) & (side.tasks <= 0)):
            raise ValueError("a cell has cost but no tasks: give the tasks behind the cost")
    change = now.cost - usual.cost
    weight = log_mean(now.cost, usual.cost)
    both = weight > 0
    volume = _log_ratio(now.tasks.sum(), usual.tasks.sum())
    measured = both & (usual.tokens > 0) & (now.tokens > 0)
    tasks = np.where(both, _log_ratio(now.tasks, usual.tasks), 0.0)
    cost = np.where(both, _log_ratio(now.cost, usual.cost), 0.0)
    used = np.where(measured, _log_ratio(now.tokens, usual.tokens), cost)
    moved = np.where(both, 0.0, change)
    new = (usual.tasks <= 0) | (now.tasks <= 0)
    nothing = np.isinf(volume) | np.isnan(volume)
    free = np.where(usual.cost <= 0, usual.tokens, now.tokens) > 0
    places = {
        "volume": np.full(new.shape, bool(nothing)),
        "mix": new & ~nothing,
        "price": ~new & free,
        "tokens": ~new & ~free,
    }
    share = 0.0 if nothing else float(volume)
    parts = {
        "volume": np.where(both, share, 0.0),
        "mix": np.where(both, tasks - share, 0.0),
        "price": cost - used,
        "tokens": used - tasks,
    }
    found = {
        name: float((weight * parts[name]).sum() + moved[places[name]].sum()) for name in parts
    }
    return Effects(**found, total=float(change.sum()))


def sentence(effects: Effects, usual: float, mix: str = WORDS["mix"]) -> str | None:
    """Return the effects as shares of the usual cost, the largest first, in whole percents.

    The shares are rounded so that they add up as the effects do.

    Args:
        effects: the parts of the change.
        usual: total cost before it, in the same unit; None is returned where it is 0.
        mix: what the mix is of.

    >>> sentence(Effects(volume=0.0, tokens=2.8, price=0.0, mix=0.31, total=3.11), 10.0)
    '+31 %: tokens per task +28 %, model mix +3 %, price 0 %, volume 0 %'
    """
    if usual <= 0:
        return None
    words = WORDS | {"mix": mix}
    names = sorted(words, key=lambda name: -abs(float(getattr(effects, name))))
    exact = np.array([100 * getattr(effects, name) / usual for name in names])
    total = round(100 * effects.total / usual)
    rounded = np.floor(exact)
    missing = total - int(rounded.sum())
    for place in np.argsort(rounded - exact, kind="stable")[: max(0, missing)]:
        rounded[place] += 1
    parts = [f"{words[name]} {_percent(share)}" for name, share in zip(names, rounded, strict=True)]
    return f"{_percent(total)}: {', '.join(parts)}"


def _percent(share: float) -> str:
    return f"{int(share):+d} %" if share else "0 %"


def _log_ratio(a: ArrayLike, b: ArrayLike) -> F64:
    """Return ln(a / b) without forming the quotient, which could leave the range of floats."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(np.asarray(a, np.float64)) - np.log(np.asarray(b, np.float64)))
