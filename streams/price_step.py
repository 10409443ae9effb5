"""The rule on the price of a model's tokens: a dearer price list is told apart from dearer work.

The price is what an entity paid for an effective token of a model. When it moves with the same
tokens, that is a step of the price: it explains a bill, and is no drift of the agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from streams import stats
from streams.arms import CLEAR, ENOUGH, FIRE, JUDGEABLE, WAKES
from streams.cost_lives import CostLives, of
from streams.cost_rules import LONGEST, PAST_WEEKS
from streams.cost_sums import COST, TASKS
from streams.decomposition import WORDS
from streams.durations import WEEK
from streams.prices import Priced, effective_sums, explained
from streams.reasons import EntityKind
from streams.watch import Happening, Measure, Subject, watch_finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from streams.cost_rules import PriceStepRule, TokenWeights
    from streams.cost_sums import CostSums, Layout
    from streams.findings import Evidence, Finding
    from streams.life import Turn
    from streams.series import Agent
    from streams.state import Stored
    from streams.watch import Change

    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]
    Bool = NDArray[np.bool_]


class Changed(Protocol):
    """What the rule reads of a Change."""

    @property
    def kind(self) -> str:
        """Kind of the change."""


class Changes(Protocol):
    """Where changes of agents can be looked up."""

    def changes(
        self, agent: Agent, since: int, until: int, as_of: int | None = None
    ) -> Sequence[Changed]:
        """Return the changes of an agent with an event time in (since, until], as of a tick."""


class _Look(NamedTuple):
    """All prices as of a tick; arrays [prices].

    Attributes:
        tick: ms.
        found: sums of rows.
        tasks: int64, tasks in the window.
        price: float64, micro-dollars of an effective token in the window; NaN for none.
        usual: float64, the same in the past weeks; NaN for none.
        change: float64, logarithm of their quotient.
        limit: float64, what its size is compared with.
        usable: bool[prices, 4], past weeks.
        cells: uint8, bits of `streams.arms`.
    """

    tick: int
    found: Priced
    tasks: I64
    price: F64
    usual: F64
    change: F64
    limit: F64
    usable: Bool
    cells: NDArray[np.uint8]


class PriceStepWatch:
    """Watches the price of each model that an entity uses.

    Args:
        rule: the rule.
        sums: window sums; may be shared with other watches.
        weights: what makes an effective token.
        kind: of the entities.
        evidence: where the records of a window that begins at a time lie.
        context: where changes of agents are looked up; None where there are none.
    """

    def __init__(
        self,
        rule: PriceStepRule,
        sums: CostSums,
        weights: TokenWeights,
        kind: EntityKind,
        evidence: Callable[[int], Evidence],
        context: Changes | None = None,
    ) -> None:
        self.rule = rule
        self.lives = CostLives(rule)
        self._sums, self._weights, self._kind = sums, weights, kind
        self._evidence, self._context = evidence, context
        self._window = rule.arms[0].window_ms
        self._place = sums.windows.index(self._window)
        self._week = sums.windows.index(LONGEST)
        self._layout: Layout | None = None
        self._keys: list[bytes] = []
        self._index: dict[bytes, int] = {}

    def hour(self, tick: int) -> list[Finding]:
        """Return what an hour tick causes."""
        if self._kind not in self.rule.entities:
            return []
        self.lives.prune(tick)
        sums = self._sums.at(tick)
        self._arrange()
        if not len(sums):
            return []
        look = self._look(sums, tick)
        stirs: Bool = np.asarray(look.cells >= WAKES)
        for key in self.lives.awake():
            stirs[self._index[key]] = True
        findings: list[Finding] = []
        for place in np.flatnonzero(stirs).tolist():
            key = self._keys[place]
            for turn in self.lives.step(key, tick, [int(look.cells[place])]):
                page = self.lives.pages(key, turn, wanted=self.rule.page)
                findings.append(self._finding(look, place, turn, page=page))
        return findings

    def busy(self) -> bool:
        """Return whether hours without any record matter too."""
        return self.lives.busy()

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        return self.lives.changes()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this watch."""
        return self.lives.restore(stored)

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self.lives.settle()

    def forget(self, agents: Sequence[int], tasks: Sequence[int]) -> None:
        """Drop what is known of series rows that were freed and may be given again."""
        del agents  # an agent is freed with all of its task rows
        self._sums.forget(tasks)

    # -- looking -----------------------------------------------------------------------------

    def _arrange(self) -> None:
        layout = self._sums.layout
        if layout is self._layout:
            return
        self._layout = layout
        self._keys = [
            of(self._kind, layout.entities[owner], _name(model)).key
            for owner, model in layout.prices
        ]
        self._index = {key: place for place, key in enumerate(self._keys)}
        for key in {*self.lives.marked(), *self.lives.awake()} - self._index.keys():
            self.lives.drop(key)

    def _look(self, sums: I64, tick: int) -> _Look:
        arm, layout = self.rule.arms[0], self._sums.layout
        found = effective_sums(sums, self._weights)
        order, starts = layout.price_order, layout.price_starts
        tasks = np.add.reduceat(sums[:, self._place, 0, TASKS][order], starts)
        daily, weekly = (_log_price(found, place, layout) for place in (self._place, self._week))
        usable = self._usable(tick) & ~np.isnan(daily[:, 1:])
        past = np.where(usable, daily[:, 1:], np.nan)
        usual = stats.median(past)
        scatter = np.fmax(_largest(past - usual[:, None]), _largest(past - weekly[:, 1:]))
        change = daily[:, 0] - usual
        weeks = np.count_nonzero(usable, axis=1)
        enough = (tasks >= arm.min_n) & (weeks >= 1) & ~np.isnan(change)
        least = np.log1p(arm.step)
        limit = np.where(weeks >= self.rule.min_weeks, np.fmax(least, arm.z * scatter), np.inf)
        touched = np.logical_or.reduceat(self._sums.touched()[order], starts)
        self._announce(tick, limit, np.flatnonzero(enough & (np.abs(change) <= limit)), change)
        fire = enough & (np.abs(change) > limit)
        cells = np.zeros(len(tasks), np.uint8)
        for bits, where in (
            (ENOUGH | JUDGEABLE, enough),
            (FIRE, fire),
            (CLEAR, enough & (np.abs(change) < arm.clear_share * np.fmin(least, limit))),
            (WAKES, fire & touched),
        ):
            cells[where] |= bits
        price, before = np.exp(daily[:, 0]), np.exp(usual)
        return _Look(tick, found, tasks, price, before, change, limit, usable, cells)

    def _usable(self, tick: int) -> Bool:
        """Return bool[prices, 4]: past windows of the owner's life without a step of the price."""
        layout = self._sums.layout
        owners = np.array([owner for owner, _ in layout.prices], np.int64)
        starts = tick - self._window - WEEK * np.arange(1, 1 + PAST_WEEKS)
        usable: Bool = np.asarray(starts >= self._sums.born()[owners][:, None])
        for key in self.lives.marked():
            place, life = self._index[key], self.lives.life(key)
            if life is not None and life.relearned_from is not None:
                usable[place] &= starts >= life.relearned_from
            spans = [(start, start + self._window) for start in starts.tolist()]
            usable[place] &= np.array([not self.lives.tainted(key, *span) for span in spans])
        return usable

    def _announce(self, tick: int, limit: F64, places: I64, change: F64) -> None:
        """Lower the limit where a change of the price came in the window."""
        if self._context is None or self._kind is not EntityKind.AGENT:
            return
        least = np.log1p(self.rule.arms[0].announced_step)
        layout, agents = self._sums.layout, self._sums.agents()
        for place in places[np.abs(change[places]) > least].tolist():
            agent = agents[layout.prices[place][0]]
            if self._announced(agent, tick):
                limit[place] = least

    def _announced(self, agent: Agent, tick: int) -> bool:
        if self._context is None:
            return False
        since = tick - self._window
        return any(one.kind == "PRICE" for one in self._context.changes(agent, since, tick, tick))

    # -- finding -----------------------------------------------------------------------------

    def _finding(self, look: _Look, place: int, turn: Turn, *, page: bool) -> Finding:
        owner, model = self._sums.layout.prices[place]
        subject = Subject(self._kind, self._sums.layout.entities[owner], part=_name(model))
        measure = self._measure(look, place)
        evidence = self._evidence(measure.window_start)
        happening = Happening(turn, look.tick, self.rule.arms[0].name)
        return watch_finding(self.rule, subject, happening, measure, evidence, page=page)

    def _measure(self, look: _Look, place: int) -> Measure:
        """Return prices in dollars for a million effective tokens, which is micro-dollars each."""
        usual, price = float(look.usual[place]), float(look.price[place])
        known, limit = not np.isnan(usual), float(look.limit[place])
        sign = -1.0 if look.change[place] < 0 else 1.0
        owner, model = self._sums.layout.prices[place]
        rows = self._sums.layout.price_rows(place)
        why = explained(look.found, rows, self._place, look.usable[place], WORDS["mix"])
        text = None
        if known and not np.isnan(price):
            text = (
                f"price of {_name(model)} {100 * (price / usual - 1):+.1f} %: {usual:.4g} to "
                f"{price:.4g} USD per million effective tokens"
            )
            if self._kind is EntityKind.AGENT and self._announced(
                self._sums.agents()[owner], look.tick
            ):
                text += ", announced by a PRICE change"
        return Measure(
            value=0.0 if np.isnan(price) else price,
            threshold=usual * float(np.exp(sign * limit)) if known and np.isfinite(limit) else 0.0,
            sample_count=int(look.tasks[place]),
            window_start=look.tick - self._window,
            window_end=look.tick,
            baseline=usual if known else None,
            weeks=int(np.count_nonzero(look.usable[place])),
            detail=text,
            numbers=why.numbers,
        )


def _name(model: str | None) -> str:
    return "no model" if model is None else model


def _log_price(found: Priced, window: int, layout: Layout) -> F64:
    """Return float64[prices, 1 + weeks], the logarithm of the price; NaN where there is none."""
    tokens = found.tokens[:, window]
    # Cost of tasks without tokens has no price.
    cost = np.where(tokens > 0, found.sums[:, window, :, COST], 0)
    both = [np.add.reduceat(one[layout.price_order], layout.price_starts) for one in (cost, tokens)]
    good = (both[0] > 0) & (both[1] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(good, np.log(both[0] / both[1]), np.nan)


def _largest(values: F64) -> F64:
    """Return the largest size along the last axis, without NaNs; 0 where nothing is left."""
    return np.asarray(np.where(np.isnan(values), 0.0, np.abs(values)).max(axis=-1))
