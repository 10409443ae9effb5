"""The rules on reviews and on confidence: their parameters.

The numbers stand in `rules.yaml`, with the reason for each.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from streams.arms import Part, Share
from streams.baseline_spec import BaselineSpec  # noqa: TC001 - pydantic reads it at run time
from streams.durations import DAY, HOUR, Duration, duration_text
from streams.reasons import Severity  # noqa: TC001 - pydantic reads it at run time

KEPT_DAYS = 36
"""Days that panes and patterns are remembered, today not counted."""


class Between(Part):
    """How an arm learns the share's own variance between days, from the hour panes alone.

    Attributes:
        prior: standard deviation assumed while few days are known, as a share of the baseline.
        min_n: events a past window needs to count.
        min_entries: days needed to leave the prior.
        min_age: youngest day used, in days before the tick.
        max_age: oldest day used; its own baseline must still be kept.
    """

    prior: float = Field(gt=0)
    min_n: int = Field(ge=1)
    min_entries: int = Field(ge=1)
    min_age: int = Field(ge=1)
    max_age: int = Field(ge=1, le=28)


class ShareArm(Part):
    """One window of a rule on a share; its ticks are whole hours.

    Attributes:
        name: such as 72h; the `arm` of its findings.
        window_ms: length of the window.
        for_ms: how long the condition must hold before the arm fires.
        clear_for_ms: how long the clear condition must hold before it stops.
        cool_down_ms: no new firing within this of the rule's last resolve.
        factor: fires above this multiple of the baseline.
        clear_factor: clears up to this multiple.
        z: least distance from the baseline in standard deviations.
        min_hits: least count of what the rule counts.
        between: the variance between days.
    """

    name: str = Field(min_length=1)
    window_ms: Duration = Field(alias="window", gt=0)
    for_ms: Duration = Field(alias="for")
    clear_for_ms: Duration = Field(alias="clear_for")
    cool_down_ms: Duration = Field(alias="cool_down", default=0)
    factor: float = Field(gt=1)
    clear_factor: float = Field(gt=0)
    z: float = Field(gt=0)
    min_hits: int = Field(ge=1)
    between: Between

    @property
    def step_ms(self) -> int:
        """Distance of its ticks."""
        return HOUR

    @model_validator(mode="after")
    def _consistent(self) -> ShareArm:
        spans = {"window": self.window_ms, "for": self.for_ms, "clear_for": self.clear_for_ms}
        for field, value in spans.items():
            if value % HOUR:
                raise ValueError(f"{field} is {duration_text(value)}: give whole hours")
        if self.window_ms > 8 * DAY:
            raise ValueError("window is over 8 days: four weeks before it must still be kept")
        if self.clear_factor > self.factor:
            raise ValueError("clear_factor is above factor: it would clear while it fires")
        return self


class LowSpec(Part):
    """What counts as low confidence of an agent: under its usual quantile, at the nearest edge.

    Attributes:
        quantile: the quantile of the usual confidence.
        span_ms: length of the span that is usual.
        gap_ms: how long before the day of the tick the span ends.
        min_n: tasks with a confidence the span must hold.
    """

    quantile: Share
    span_ms: Duration = Field(alias="span", gt=0, le=34 * DAY, multiple_of=DAY)
    gap_ms: Duration = Field(alias="gap", multiple_of=DAY)
    min_n: int = Field(ge=1)


class ShareRule(Part):
    """A rule on a share that rises past its own baseline.

    Attributes:
        name: as in findings.
        version: rises when the meaning of its numbers changes.
        numerator: what is counted: overridden reviews of all reviews, or tasks of low confidence
            of all tasks with a confidence.
        severity: of its findings.
        page: whether its alerts call a person.
        interval_z: quantile of the interval shown with the value.
        relearn_after_ms: an alert open so long is the new usual.
        baseline: how the usual share is found.
        low: what low confidence is; just for that numerator.
        arms: its one window, as long as that of the baseline.
    """

    name: str = Field(min_length=1)
    version: int = Field(ge=1)
    numerator: Literal["overridden", "low-confidence"]
    severity: Severity
    page: bool
    interval_z: float = Field(gt=0)
    relearn_after_ms: Duration = Field(alias="relearn_after", gt=0)
    baseline: BaselineSpec
    low: LowSpec | None = None
    arms: tuple[ShareArm, ...] = Field(min_length=1, max_length=1)

    @property
    def arm(self) -> ShareArm:
        """Its one window."""
        return self.arms[0]

    @model_validator(mode="after")
    def _consistent(self) -> ShareRule:
        if (self.low is None) != (self.numerator == "overridden"):
            raise ValueError("low comes with the numerator low-confidence, and only with it")
        if self.baseline.pooled is not None:
            raise ValueError("baseline has no pooled span here: leave pooled and floor out")
        if self.baseline.window_ms != self.arm.window_ms:
            raise ValueError(
                f"the window of the arm is {duration_text(self.arm.window_ms)} and that of the "
                f"baseline {duration_text(self.baseline.window_ms)}: give the same"
            )
        return self


class OverridePatternRule(Part):
    """The rule on the same decision overridden in the same way again and again.

    Attributes:
        days: days of the window, today included.
        weeks: earlier windows behind the usual count, and how many of them must be known.
        min_weeks: fewest of them.
        min_count: least count in the window.
        factor: fires above this multiple of the usual count.
        tail: greatest chance of such a count by a Poisson law with the usual mean.
        slack: added to the usual mean in that test.
        spread: so many roots of the usual mean are added too: it is itself uncertain.
        quiet_ms: resolves when the condition did not hold for so long.
        low_share: THRESHOLD is advised from this share of low confidence among the overrides.
        low_min: reviews with a confidence that advice needs.
        examples: FINE_TUNE is advised from so many examples kept.
        max_patterns: patterns remembered of an agent.
        max_code: characters kept of a code.
    """

    name: Literal["override-pattern"] = "override-pattern"
    version: int = Field(ge=1)
    severity: Severity
    page: bool
    days: int = Field(ge=1, le=7)
    weeks: int = Field(ge=1, le=4)
    min_weeks: int = Field(ge=0, le=4)
    min_count: int = Field(ge=1)
    factor: float = Field(gt=1)
    tail: Share
    slack: float = Field(ge=0)
    spread: float = Field(ge=0)
    quiet_ms: Duration = Field(alias="quiet", gt=0)
    low_share: Share
    low_min: int = Field(ge=1)
    examples: int = Field(ge=1)
    max_patterns: int = Field(ge=1, le=256)
    max_code: int = Field(ge=16, le=128)

    @model_validator(mode="after")
    def _consistent(self) -> OverridePatternRule:
        if self.min_weeks > self.weeks:
            raise ValueError(f"min_weeks is {self.min_weeks}, of {self.weeks} weeks looked at")
        return self


class ThresholdRule(Part):
    """The recommendation of another confidence threshold.

    Attributes:
        span_days: closed days it is made of.
        target: override rate to stay under; None for the one of today.
        z: quantile of the intervals.
        min_tasks: tasks with a confidence it needs.
        min_reviews: reviews a bin needs to be known.
        minor: a bin with no more than this share of the tasks need not be known.
        min_gain: least gain in the automated rate that is worth a lower threshold.
        quiet_ms: resolves when nothing is recommended for so long.
    """

    name: Literal["threshold-recommendation"] = "threshold-recommendation"
    version: int = Field(ge=1)
    severity: Severity
    page: bool
    span_days: int = Field(ge=7, le=28)
    target: Share | None
    z: float = Field(gt=0)
    min_tasks: int = Field(ge=1)
    min_reviews: int = Field(ge=1)
    minor: Share
    min_gain: Share
    quiet_ms: Duration = Field(alias="quiet", gt=0)
