"""The numbers of the rules on drift and retraining, as data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from streams.arms import Part
from streams.detectors import DetectorSpec  # noqa: TC001 - pydantic reads it at run time
from streams.durations import DAY, HOUR, Duration
from streams.reasons import Severity  # noqa: TC001 - likewise


class ReferenceSpec(Part):
    """What a signal is compared with: its own past, some days back.

    Attributes:
        days: length of the reference. Raising it makes it steadier, and slower to follow.
        gap: days between it and today, which a new shift has before it becomes usual.
        min_days: days with values before anything is found; the reference of a young series.
        min_gap: days between the reference of a young series and its first finding.
        margin: factor on the spread of a whole reference …
        young_margin: … and on that of a shorter one, which is not known as well.
        clip: spreads of single values at which they are cut.
    """

    days: int = Field(ge=14)
    gap: int = Field(ge=1)
    min_days: int = Field(ge=7)
    min_gap: int = Field(ge=1)
    margin: float = Field(ge=1)
    young_margin: float = Field(ge=1)
    clip: float = Field(ge=1)

    @model_validator(mode="after")
    def _consistent(self) -> ReferenceSpec:
        if self.min_days > self.days or self.min_gap > self.gap:
            raise ValueError(
                f"min_days {self.min_days} and min_gap {self.min_gap} must not exceed days "
                f"{self.days} and gap {self.gap}"
            )
        return self


class DriftRule(Part):
    """The rule on signals of an agent that are no more what they were.

    Attributes:
        version: rises when the meaning of its numbers changes.
        severity: of its findings.
        page: whether its alerts call a person.
        step_ms: length of a bin, whose value is one input of a detector.
        min_n: values, or tasks, that a bin needs.
        review_step_ms: length of a bin of the override rate …
        review_min_n: … and the reviews it needs.
        detector: which, with its numbers in standard deviations of a day's mean.
        warm_up: inputs of a detector before it can find anything.
        min_magnitude: a shift smaller than so many standard deviations of a day's mean is none.
        growth: a finding is updated when the magnitude is so many times what was told.
        quiet_ms: it resolves when the signal is back for so long …
        back_share: … within this share of the magnitude.
        reference: what a signal is compared with.
    """

    name: Literal["drift"] = "drift"
    version: int = Field(ge=1)
    severity: Severity
    page: bool
    step_ms: Duration = Field(alias="step", gt=0, multiple_of=HOUR)
    min_n: int = Field(ge=1)
    review_step_ms: Duration = Field(alias="review_step", gt=0, multiple_of=HOUR)
    review_min_n: int = Field(ge=1)
    detector: DetectorSpec
    warm_up: int = Field(ge=2)
    min_magnitude: float = Field(ge=0)
    growth: float = Field(gt=1)
    quiet_ms: Duration = Field(alias="quiet", gt=0)
    back_share: float = Field(gt=0, lt=1)
    reference: ReferenceSpec

    @model_validator(mode="after")
    def _whole_days(self) -> DriftRule:
        for name in ("step_ms", "review_step_ms"):
            if DAY % getattr(self, name):
                raise ValueError(f"{name.removesuffix('_ms')} must divide a day: 1h, 4h, 24h")
        return self


class AnomalousOutputRule(Part):
    """The rule on the length of an agent's output that is no more what it was: a security finding.

    Attributes:
        version: rises when its meaning changes.
        severity: of its findings.
        page: whether its alerts call a person.
    """

    name: Literal["anomalous-output"] = "anomalous-output"
    version: int = Field(ge=1)
    severity: Severity
    page: bool


class PromptReviewRule(Part):
    """The rule on prompts that somebody should look at.

    Attributes:
        version: rises when its meaning changes.
        severity: of its findings.
        page: whether its alerts call a person.
        open_for_ms: resolves after so long without a new prompt.
    """

    name: Literal["prompt-review"] = "prompt-review"
    version: int = Field(ge=1)
    severity: Severity
    page: bool
    open_for_ms: Duration = Field(alias="open_for", gt=0)


class RetrainingScheduleRule(Part):
    """The rule on agents that are to be trained at intervals.

    Attributes:
        version: rises when its meaning changes.
        severity: of its findings.
        page: whether its alerts call a person.
        share: share of the interval: in the last of it the date approaches, and so much later it
            is overdue.
    """

    name: Literal["retraining-schedule"] = "retraining-schedule"
    version: int = Field(ge=1)
    severity: Severity
    page: bool
    share: float = Field(gt=0, lt=1)
