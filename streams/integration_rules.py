"""The rules on integrations that are looked at every hour: their parameters.

The numbers stand in `rules.yaml`, with the reason for each.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from streams.arms import Part, Share
from streams.baseline_spec import BaselineSpec  # noqa: TC001 - pydantic reads it at run time
from streams.durations import HOUR, WEEK, Duration
from streams.reasons import Severity  # noqa: TC001 - and this


class HourArm(Part):
    """One window of a rule that is looked at every hour.

    Attributes:
        name: such as 24h; the `arm` of its findings.
        window_ms: length of the window.
        for_ms: how long the condition must hold before the arm fires.
        clear_for_ms: how long the clear condition must hold before it stops.
    """

    name: str = Field(min_length=1)
    window_ms: Duration = Field(alias="window", gt=0, multiple_of=HOUR)
    for_ms: Duration = Field(alias="for", multiple_of=HOUR)
    clear_for_ms: Duration = Field(alias="clear_for", multiple_of=HOUR)

    @property
    def step_ms(self) -> int:
        """Distance of its ticks."""
        return HOUR

    @property
    def cool_down_ms(self) -> int:
        """A new life may begin at once."""
        return 0


class HourRule(Part):
    """What these rules share.

    Attributes:
        version: rises when the meaning of its numbers changes.
        severity: of its findings.
        page: whether its alerts call a person.
        relearn_after_ms: an alert open so long is the new usual.
    """

    version: int = Field(ge=1)
    severity: Severity
    page: bool
    relearn_after_ms: Duration = Field(alias="relearn_after", gt=0)


class TypeArm(HourArm):
    """A window in which an error type is too frequent.

    Attributes:
        chance: it fires when so many would come by chance less often than this.
        inflation: … by a Poisson distribution with the mean `inflation` · e + `slack`.
        slack: … which is what an error never seen before may have.
    """

    chance: float = Field(gt=0, lt=1)
    inflation: float = Field(ge=1)
    slack: float = Field(gt=0)


class Mix(Part):
    """When one type makes up too much of the errors.

    Attributes:
        min_count: least errors of the type.
        share: least share of the errors.
        inflation: the usual share is multiplied by this before chance is asked.
    """

    min_count: int = Field(ge=1)
    share: Share
    inflation: float = Field(ge=1)


class ErrorTypeRule(HourRule):
    """The rule on the types of the errors of an operation.

    Attributes:
        usual_ms: span before a window that tells how frequent a type usually is: e.
        min_known_ms: with fewer hours known of it, nothing is.
        factor: fires above this multiple of e …
        min_count: … and with at least so many errors; or by the mix.
        mix: when a type makes up too much of the errors.
        cap_factor: of a usual hour no more counts than this multiple of the median hour, or of
            the same hour in most weeks …
        cap_slack: … and so many.
        everyone: share of the last hour's calls that were refused for their credentials, from
            which on it is said to be everyone.
        same_rate: up to this multiple of the usual error rate, the rate is called the same.
        arms: its windows.
    """

    name: Literal["integration-error-type"] = "integration-error-type"
    usual_ms: Duration = Field(alias="usual", gt=0, multiple_of=WEEK, le=4 * WEEK)
    min_known_ms: Duration = Field(alias="min_known", gt=0, multiple_of=HOUR)
    factor: float = Field(gt=1)
    min_count: int = Field(ge=1)
    mix: Mix
    cap_factor: float = Field(ge=1)
    cap_slack: int = Field(ge=0)
    everyone: Share
    same_rate: float = Field(ge=1)
    arms: tuple[TypeArm, ...] = Field(min_length=1)


class SlowArm(HourArm):
    """A window in which too many calls are slow.

    Attributes:
        floor: fires above this share of slow calls …
        factor: … and above this multiple of the usual share.
        wilson_z: quantile of the Wilson bound …
        surely: … which must exceed this share.
        z: least distance from the usual share in standard deviations.
        min_n: calls needed.
        clear_factor: clears up to this multiple of the usual share.
        min_entries: days needed to know how the share differs from day to day; with fewer, the
            usual share itself is taken for it.
    """

    floor: Share
    factor: float = Field(gt=1)
    wilson_z: float = Field(gt=0)
    surely: Share
    z: float = Field(gt=0)
    min_n: int = Field(ge=1)
    clear_factor: float = Field(ge=1)
    min_entries: int = Field(ge=1)


class LatencyRule(HourRule):
    """The rule on slow calls: slower than the usual P99.

    Attributes:
        quantile: what is usual is exceeded by the other calls.
        usual_days: whole days before today that tell it.
        min_usual: calls they must have.
        baseline: how the usual share of slow calls is found.
        arms: its windows.
    """

    name: Literal["integration-latency"] = "integration-latency"
    quantile: Share
    usual_days: int = Field(ge=1, le=28)
    min_usual: int = Field(ge=1)
    baseline: BaselineSpec
    arms: tuple[SlowArm, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _by_weeks(self) -> LatencyRule:
        if self.baseline.pooled is not None or self.baseline.daily is not None:
            raise ValueError("baseline takes neither pooled nor daily here")
        if any(arm.window_ms != self.baseline.window_ms for arm in self.arms):
            raise ValueError("the windows of the arms and of the baseline must be the same")
        return self


class ContractTestRule(Part):
    """The rule on contract tests.

    Attributes:
        version: rises when the meaning of its numbers changes.
        severity: of its findings.
        page: whether its alerts call a person.
        missing_after_ms: where tests are usual, none for so long fires.
        usual_tests: they are usual when so many came …
        usual_days: … on so many different days …
        of_days: … of so many last days.
        relearn_after_ms: tests missing for so long are no longer usual.
    """

    name: Literal["contract-test"] = "contract-test"
    version: int = Field(ge=1)
    severity: Severity
    page: bool
    missing_after_ms: Duration = Field(alias="missing_after", gt=0)
    usual_tests: int = Field(ge=1)
    usual_days: int = Field(ge=1)
    of_days: int = Field(ge=1, le=28)
    relearn_after_ms: Duration = Field(alias="relearn_after", gt=0)
