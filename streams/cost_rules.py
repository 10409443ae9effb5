"""The parameters of the rules on cost; rules.yaml has the numbers, with the reason for each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from streams.arms import Part, Share
from streams.durations import DAY, HOUR, Duration, duration_text
from streams.reasons import EntityKind, Severity

PAST_WEEKS = 4
"""Weeks before the window that make the usual; hour panes of 36 days hold no more."""

LONGEST = 7 * DAY
"""Longest window whose four past weeks the hour panes hold."""

SHORTEST = 6 * HOUR

WholeHours = Annotated[Duration, Field(multiple_of=HOUR)]
Window = Annotated[Duration, Field(ge=SHORTEST, le=LONGEST, multiple_of=HOUR)]
Multiplier = Annotated[float, Field(ge=1)]


class HourArm(Part):
    """What all arms have that are looked at once an hour.

    Attributes:
        name: the `arm` of its findings.
        for_ms: how long the condition must hold before it fires.
        clear_for_ms: how long the clear condition must hold before it stops.
        cool_down_ms: no new firing within this of the rule's last resolve.
    """

    name: str = Field(min_length=1)
    for_ms: WholeHours = Field(alias="for")
    clear_for_ms: WholeHours = Field(alias="clear_for")
    cool_down_ms: Duration = Field(alias="cool_down", default=0)

    @property
    def step_ms(self) -> int:
        """Distance of its ticks."""
        return HOUR


class TokenWeights(Part):
    """What a token of each kind costs, in input tokens: the unit of an effective token.

    Attributes:
        cached: of an input token that came from a cache. Raising it makes a lost cache look less
            like more tokens.
        output: of an output token. Raising it makes longer answers weigh more.
    """

    cached: float = Field(ge=0, le=1)
    output: float = Field(gt=0)


class CostArm(HourArm):
    """One window of the rule on cost per task.

    Attributes:
        window_ms: length of the window.
        min_n: tasks it needs.
        factor: fires above this multiple of the usual cost per task. Raising it fires later.
        z: least distance from the usual in standard errors.
        between: standard deviation of the logarithm of the cost per task from one such window to
            the next that the spread of single tasks does not explain.
        clear_share: clears below this share of the factor's logarithm.
    """

    window_ms: Window = Field(alias="window")
    min_n: int = Field(ge=1)
    factor: float = Field(gt=1)
    z: float = Field(gt=0)
    between: Share
    clear_share: Share


class CostRule(Part):
    """The rule on the cost per task at constant price.

    Attributes:
        name: as in findings.
        version: rises when the meaning of its numbers changes.
        severity: of its findings.
        page: whether its alerts call a person.
        relearn_after_ms: an alert open so long is the new usual.
        interval_z: quantile of the interval shown with the value.
        weights: what makes an effective token.
        spread: how the spread of single tasks is measured, from cv2 = variance / mean² of their
            costs: `relative` takes cv2, which is the variance of a mean's logarithm; `log` takes
            ln(1 + cv2), which is smaller and pages more where few tasks cost most.
        overdispersion: factor on spread / tasks: 1 for the window, the rest for its baseline.
        pool_below: with fewer tasks in any usable week the weeks are pooled, not ranked.
        multiplier: factor on z by the number of usable weeks, 0 … 4.
        arms: its windows; it fires when any does.
    """

    name: Literal["cost"] = "cost"
    version: int = Field(ge=1)
    severity: Severity
    page: bool
    relearn_after_ms: Duration = Field(alias="relearn_after", gt=0)
    interval_z: float = Field(gt=0)
    weights: TokenWeights
    spread: Literal["relative", "log"]
    overdispersion: float = Field(ge=1)
    pool_below: int = Field(ge=1)
    multiplier: tuple[Multiplier, Multiplier, Multiplier, Multiplier, Multiplier]
    arms: tuple[CostArm, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _distinct(self) -> CostRule:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms with the same name: {', '.join(sorted(names))}")
        return self


class PriceArm(HourArm):
    """The window of the rule on prices; it is one of those of the cost rule's arms.

    Attributes:
        window_ms: length of the window.
        min_n: tasks with tokens it needs.
        step: fires when the price rose or fell by more than this share.
        z: and by more than so many times its own widest swing in the past weeks.
        announced_step: limit, without a test of scatter, when a PRICE change came in the window.
        clear_share: clears below this share of the limit's logarithm.
    """

    window_ms: Window = Field(alias="window")
    min_n: int = Field(ge=1)
    step: Share
    z: float = Field(gt=0)
    announced_step: Share
    clear_share: Share

    @model_validator(mode="after")
    def _ordered(self) -> PriceArm:
        if self.announced_step > self.step:
            raise ValueError(f"announced_step is above step, {self.step:g}: it is to be found too")
        return self


class PriceStepRule(Part):
    """The rule on the price of a model's tokens: it explains, and calls nobody.

    Attributes:
        name: as in findings.
        version: rises when the meaning of its numbers changes.
        severity: of its findings.
        page: whether its alerts call a person.
        relearn_after_ms: a step so old is the usual price.
        entities: kinds of entities it is looked at for: AGENT, TASK_TYPE or both.
        min_weeks: past weeks needed to know a price's scatter.
        arms: its one window.
    """

    name: Literal["price-step"] = "price-step"
    version: int = Field(ge=1)
    severity: Severity
    page: bool
    relearn_after_ms: Duration = Field(alias="relearn_after", gt=0)
    entities: frozenset[EntityKind]
    min_weeks: int = Field(ge=1, le=PAST_WEEKS)
    arms: tuple[PriceArm]

    @model_validator(mode="after")
    def _known(self) -> PriceStepRule:
        other = sorted(self.entities - {EntityKind.AGENT, EntityKind.TASK_TYPE})
        if other:
            raise ValueError(f"entities {', '.join(other)}: only AGENT and TASK_TYPE have prices")
        return self


class PlanArm(HourArm):
    """How a day is compared with its plan.

    Attributes:
        factor: fires above this multiple of the plan.
        z: quantile of the interval of the projected end of day; its lower end must be past it.
        min_errors: past days needed to know how far projections err.
        prior_error: standard deviation of a projection's logarithm while fewer are known.
    """

    factor: float = Field(ge=1)
    z: float = Field(gt=0)
    min_errors: int = Field(ge=1)
    prior_error: float = Field(gt=0)


class CostPlanRule(Part):
    """The rule on the cost of a day against the plan of the agent's profile.

    Attributes:
        name: as in findings.
        version: rises when the meaning of its numbers changes.
        severity: of its findings.
        page: whether its alerts call a person.
        relearn_after_ms: an alert ends so long after it began at the latest.
        arms: its one way to look at a day.
    """

    name: Literal["cost-plan"] = "cost-plan"
    version: int = Field(ge=1)
    severity: Severity
    page: bool
    relearn_after_ms: Duration = Field(alias="relearn_after", ge=2 * DAY)
    arms: tuple[PlanArm]


def windows(cost: CostRule, price: PriceStepRule) -> tuple[int, ...]:
    """Return the windows of two rules and the week from which prices are learned, ms, ascending."""
    found = {arm.window_ms for arm in cost.arms} | {arm.window_ms for arm in price.arms}
    return tuple(sorted(found | {LONGEST}))


def window_text(window: int) -> str:
    """Return a window as people say it: 24h, 7d.

    >>> window_text(DAY), window_text(7 * DAY)
    ('24h', '7d')
    """
    return f"{window // DAY}d" if window > 3 * DAY and window % DAY == 0 else duration_text(window)
