"""One arm of a rule: its parameters, how it judges counts, and its state on one row.

An arm fires when its condition held for a while and stops when the clear condition did. A sample
too small to judge is no answer: it holds the timer, which goes on where it stood.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from streams import stats
from streams.durations import HOUR, MINUTE, SECOND, Duration, duration_text

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from streams.baseline import Baseline

    F64 = NDArray[np.float64]
    Bool = NDArray[np.bool_]

SHORT_STEP = 5 * SECOND
LONG_STEP = MINUTE
MINUTE_PANE_SPAN = 3 * HOUR
"""Longest window that is summed from minute panes; a longer one is summed from hour panes."""

Share = Annotated[float, Field(gt=0, lt=1)]

ENOUGH, FIRE, JUDGEABLE, CLEAR, WAKES = 1, 2, 4, 8, 16
"""Bits of a cell; the first four as in `Judgement`, the last: it would wake an idle arm."""


class Part(BaseModel):
    """A piece of the rule file: immutable, and a field that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Tau(Part):
    """How an arm learns the series' own variance between days.

    Attributes:
        prior: standard deviation assumed while few days are known; None stands for the baseline
            rate itself.
        min_n: events a past window needs to count.
        min_entries: days needed to leave the prior.
        min_age: youngest day used, in days before today; 2 leaves the newest closed day out.
        max_age: oldest day used.
    """

    prior: Share | None
    min_n: int = Field(ge=1)
    min_entries: int = Field(ge=1)
    min_age: int = Field(ge=1)
    max_age: int = Field(ge=1)


class WilsonLimit(Part):
    """The point estimate must not only be past the limit but surely past a share of it.

    Attributes:
        z: quantile of the Wilson bound. Raising it asks for more certainty.
        share: share of the limit the lower bound must exceed.
    """

    z: float = Field(gt=0)
    share: Share


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """What an arm makes of counts; all arrays have the shape the arguments broadcast to.

    Attributes:
        enough: the sample suffices to fire; where it does not, a pending arm holds.
        fire: the condition holds (and the sample suffices).
        judgeable: the sample suffices to clear; where it does not, a firing arm holds.
        clear: the clear condition holds.
        rate: hits / n, NaN where n = 0.
        z: distance from the baseline in standard deviations, NaN where the arm has no such test.
        limit: what the rate was compared with, NaN where there is no baseline to derive it from.
    """

    enough: Bool
    fire: Bool
    judgeable: Bool
    clear: Bool
    rate: F64
    z: F64
    limit: F64


class Arm(Part):
    """One window of a rule.

    Attributes:
        name: such as 24h; the `arm` of its findings.
        window_ms: length of the window.
        for_ms: how long the condition must hold before the arm fires; 0 is at once.
        clear_for_ms: how long the clear condition must hold before it stops.
        cool_down_ms: no new firing within this of the rule's last resolve.
        min_n: events needed to judge whether to fire.
        tau: between-day variance of this arm; None for an arm without a z test.
        z: least distance from the baseline in standard deviations; None for no such test.
    """

    name: str = Field(min_length=1)
    window_ms: Duration = Field(alias="window", gt=0)
    for_ms: Duration = Field(alias="for")
    clear_for_ms: Duration = Field(alias="clear_for")
    cool_down_ms: Duration = Field(alias="cool_down", default=0)
    min_n: int = Field(ge=1)
    tau: Tau | None = None
    z: float | None = Field(default=None, gt=0)

    @property
    def step_ms(self) -> int:
        """Distance of its ticks: 5 s for a window under an hour, else a minute."""
        return SHORT_STEP if self.window_ms < HOUR else LONG_STEP

    @property
    def pane_ms(self) -> int:
        """Width of the panes its window is summed from."""
        return MINUTE if self.window_ms <= MINUTE_PANE_SPAN else HOUR

    def window(self, tick: int) -> tuple[int, int]:
        """Return the window at `tick` as [start, end): the panes that start in it count."""
        return -((self.window_ms - tick) // self.pane_ms) * self.pane_ms, tick

    def tau_prior2(self, p0: ArrayLike) -> F64:
        """Return the between-day variance assumed while few days are known, in the shape of p0."""
        usual = np.asarray(p0, np.float64)
        if self.tau is None or self.tau.prior is None:
            return usual * usual
        return np.full(usual.shape, self.tau.prior * self.tau.prior)

    @model_validator(mode="after")
    def _consistent(self) -> Arm:
        if self.window_ms % self.pane_ms:
            raise ValueError(f"window is no whole number of {duration_text(self.pane_ms)} panes")
        for field, value in (("for", self.for_ms), ("clear_for", self.clear_for_ms)):
            if value % self.step_ms:
                raise ValueError(f"{field} is no whole number of {duration_text(self.step_ms)}")
        if (self.z is None) != (self.tau is None):
            raise ValueError("z and tau come together: give both or neither")
        return self


class DropArm(Arm):
    """Fires when a rate falls below its baseline; it needs one.

    Attributes:
        factor: fires below this share of the baseline. Raising it fires earlier.
        clear_factor: clears from this share of the baseline on.
    """

    kind: Literal["drop"] = "drop"
    factor: Share
    clear_factor: Share
    z: float = Field(gt=0)
    tau: Tau

    def judge(
        self, n: ArrayLike, k: ArrayLike, baseline: Baseline, tau2: ArrayLike | None
    ) -> Judgement:
        """Judge counts, element-wise over any broadcastable shapes.

        Args:
            n: events in the window.
            k: those the rule counts.
            baseline: as of the tick.
            tau2: between-day variance; None for none.
        """
        n, k, p0, known = np.asarray(n), np.asarray(k), baseline.p0, baseline.has_baseline
        observed = stats.rate(k, n)
        z = stats.z_score(observed, p0, n, 0.0 if tau2 is None else tau2)
        enough = (n >= self.min_n) & known
        judgeable = (n >= 1) & known
        limit = np.where(known, self.factor * p0, np.nan)
        with np.errstate(invalid="ignore"):
            fire = enough & (observed < limit) & (z < -(self.z * baseline.multiplier))
            clear = judgeable & (observed >= self.clear_factor * p0)
        return _judgement((enough, fire, judgeable, clear), (observed, z, limit))


class RiseArm(Arm):
    """Fires when a rate is above a limit: an absolute one, or a multiple of its baseline.

    Attributes:
        floor: least limit, and the only one while there is no baseline.
        factor: the limit as a multiple of the baseline.
        min_hits: least count of what the rule counts.
        wilson: how sure the excess must be; None for no such test.
        clear_share: clears up to this share of the limit; or
        clear_rate: clears up to this rate.
    """

    kind: Literal["rise"] = "rise"
    floor: Share
    factor: float = Field(gt=1)
    min_hits: int = Field(ge=1)
    wilson: WilsonLimit | None = None
    clear_share: Share | None = None
    clear_rate: Share | None = None

    @model_validator(mode="after")
    def _one_clear(self) -> RiseArm:
        if (self.clear_share is None) == (self.clear_rate is None):
            raise ValueError("give one of clear_share and clear_rate")
        return self

    def judge(
        self, n: ArrayLike, k: ArrayLike, baseline: Baseline, tau2: ArrayLike | None
    ) -> Judgement:
        """Judge counts; see `DropArm.judge`. `tau2` is None where the arm has no z test."""
        n, k, p0, known = np.asarray(n), np.asarray(k), baseline.p0, baseline.has_baseline
        observed = stats.rate(k, n)
        limit = np.where(known, np.fmax(self.floor, self.factor * p0), self.floor)
        enough, judgeable = n >= self.min_n, n >= 1
        z = np.full(np.shape(observed), np.nan)
        with np.errstate(invalid="ignore"):
            fire = enough & (observed > limit) & (k >= self.min_hits)
            if self.wilson is not None:
                surely = stats.wilson_lower(k, n, self.wilson.z)
                fire = fire & (surely > self.wilson.share * limit)
            if self.z is not None and tau2 is not None:
                z = stats.z_score(observed, p0, n, tau2)
                fire = fire & (~known | (z > self.z * baseline.multiplier))
            clear = judgeable & (observed <= self._calm(limit))
        return _judgement((enough, fire, judgeable, clear), (observed, z, limit))

    def _calm(self, limit: F64) -> F64:
        """Return the rate up to which it clears."""
        if self.clear_rate is not None:
            return np.full_like(limit, self.clear_rate)
        return (self.clear_share or 0.0) * limit


def _judgement(flags: tuple[Bool, Bool, Bool, Bool], numbers: tuple[F64, F64, F64]) -> Judgement:
    """Bring all arrays to one shape: counts are [rows, ticks], a baseline is often [rows, 1]."""
    same = np.broadcast_arrays(*flags, *numbers)
    return Judgement(*same)


class Phase(IntEnum):
    """Where an arm stands; the numbers are part of the stored state."""

    IDLE = 0
    PENDING = 1
    FIRING = 2


class Move(Enum):
    """What a tick did to an arm."""

    NONE = auto()
    """Nothing; its state is the same."""
    TIMED = auto()
    """A timer was started, shifted or unset."""
    PENDED = auto()
    CANCELLED = auto()
    FIRED = auto()
    CLEARED = auto()


def pack(judgement: Judgement, touched: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return one byte a cell, [rows, ticks]: quick to look at, one by one.

    Args:
        judgement: arrays [rows, ticks].
        touched: bool[rows, ticks], where an idle arm is evaluated at all.
    """
    cells = np.zeros(touched.shape, np.uint8)
    cells[judgement.enough] |= ENOUGH
    cells[judgement.fire] |= FIRE
    cells[judgement.judgeable] |= JUDGEABLE
    cells[judgement.clear] |= CLEAR
    cells[touched & judgement.enough & judgement.fire] |= WAKES
    return cells


@dataclass(slots=True)
class ArmLife:
    """The state of one arm on one row.

    Attributes:
        phase: where it stands.
        since: while pending, from when the condition held, moved on by ticks that could not tell.
        clear_since: while firing, the same for the clear condition; None while it does not hold.
    """

    phase: Phase = Phase.IDLE
    since: int = 0
    clear_since: int | None = None

    def step(self, arm: Arm, cell: int, tick: int, *, cooled: bool) -> Move:
        """Take the cell at a tick.

        Args:
            arm: its parameters.
            cell: bits as of `pack`.
            tick: event time, ms.
            cooled: whether it may fire now, so long after the last resolve of the rule.
        """
        if self.phase is Phase.FIRING:
            return self._step_firing(arm, cell, tick)
        if self.phase is Phase.PENDING:
            return self._step_pending(arm, cell, tick, cooled=cooled)
        if not (cell & WAKES and cooled):
            return Move.NONE
        self.since = tick
        self.phase = Phase.PENDING if arm.for_ms else Phase.FIRING
        return Move.PENDED if arm.for_ms else Move.FIRED

    def hold(self, shift: int) -> None:
        """Move the running timer on by `shift` ms, in which nothing could be judged."""
        if self.phase is Phase.PENDING:
            self.since += shift
        elif self.clear_since is not None:
            self.clear_since += shift

    def reset(self) -> None:
        """Return to idle."""
        self.phase, self.since, self.clear_since = Phase.IDLE, 0, None

    def _step_pending(self, arm: Arm, cell: int, tick: int, *, cooled: bool) -> Move:
        if not cell & ENOUGH:
            self.hold(arm.step_ms)
            return Move.TIMED
        if not (cell & FIRE and cooled):
            self.reset()
            return Move.CANCELLED
        if tick - self.since < arm.for_ms:
            return Move.NONE
        self.phase, self.since = Phase.FIRING, 0
        return Move.FIRED

    def _step_firing(self, arm: Arm, cell: int, tick: int) -> Move:
        if not cell & JUDGEABLE:
            self.hold(arm.step_ms)
            return Move.NONE if self.clear_since is None else Move.TIMED
        if not cell & CLEAR:
            was, self.clear_since = self.clear_since, None
            return Move.NONE if was is None else Move.TIMED
        started = self.clear_since is None
        if self.clear_since is None:
            self.clear_since = tick
        if tick - self.clear_since < arm.clear_for_ms:
            return Move.TIMED if started else Move.NONE
        self.reset()
        return Move.CLEARED
