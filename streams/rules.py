"""What the rules are: validated parameters, read from data.

The numbers stand in `rules.yaml` beside this file, with the reason for each. Durations are written
as `5m`, `24h` or `7d` there and are integer milliseconds here.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from streams.arms import DropArm, Part, RiseArm
from streams.arrivals import SilenceRule  # noqa: TC001 - and these
from streams.baseline_spec import BaselineSpec  # noqa: TC001 - pydantic reads it at run time
from streams.cost_rules import CostPlanRule, CostRule, PriceStepRule  # noqa: TC001 - and these
from streams.drift_rules import (  # noqa: TC001 - and these
    AnomalousOutputRule,
    DriftRule,
    PromptReviewRule,
    RetrainingScheduleRule,
)
from streams.durations import Duration  # noqa: TC001 - and this
from streams.incident_rules import IncidentRules
from streams.integration_rules import (  # noqa: TC001
    ContractTestRule,
    ErrorTypeRule,
    LatencyRule,
)
from streams.queues import QueueRule  # noqa: TC001 - and this
from streams.reasons import Severity  # noqa: TC001 - pydantic reads it at run time
from streams.review_rules import (  # noqa: TC001 - and these
    OverridePatternRule,
    ShareRule,
    ThresholdRule,
)
from streams.surge import SurgeArm  # noqa: TC001 - and this

if TYPE_CHECKING:
    from pathlib import Path


class RuleError(ValueError):
    """A rule file that cannot be used; the message names each wrong place and what is allowed."""


class RateRule(Part):
    """A rule on the share of an agent's tasks with one outcome.

    Attributes:
        name: as in findings.
        version: rises when the meaning of its numbers changes.
        numerator: the outcome counted.
        severity: of its findings.
        page: whether its alerts call a person.
        interval_z: quantile of the interval shown with the value.
        relearn_after_ms: an alert open so long is the new usual.
        baseline: how the usual rate is found.
        arms: its windows; it fires when any does and clears when all are clear.
    """

    name: str = Field(min_length=1)
    version: int = Field(ge=1)
    numerator: Literal["automated", "failed"]
    severity: Severity
    page: bool
    interval_z: float = Field(gt=0)
    relearn_after_ms: Duration = Field(alias="relearn_after", gt=0)
    baseline: BaselineSpec
    arms: tuple[Annotated[DropArm | RiseArm | SurgeArm, Field(discriminator="kind")], ...] = Field(
        min_length=1
    )

    @model_validator(mode="after")
    def _distinct(self) -> RateRule:
        _require_distinct([arm.name for arm in self.arms], "arms")
        return self


class SecurityRule(Part):
    """The rule on security events: every one is a finding, some call a person.

    Attributes:
        quiet_ms: resolves when nothing came for so long.
        severity: severity of the finding by that of an event that pages; LOW to CRITICAL.
        paging_kinds: kinds that always page.
        paging_severities: severities that always page.
        volume_severities: severities that page by number.
        volume: so many events of these …
        volume_window_ms: … within this time page.
    """

    name: Literal["security"] = "security"
    version: int = Field(ge=1)
    quiet_ms: Duration = Field(alias="quiet", gt=0)
    severity: dict[str, Severity]
    paging_kinds: frozenset[str]
    paging_severities: frozenset[str]
    volume_severities: frozenset[str]
    volume: int = Field(ge=1)
    volume_window_ms: Duration = Field(alias="volume_window", gt=0)


class SeriesLimitRule(Part):
    """The rule on a partition that refuses new series.

    Attributes:
        quiet_ms: resolves when nothing was refused for so long.
        severity: of its findings.
        page: whether its alerts call a person.
    """

    name: Literal["series-limit"] = "series-limit"
    version: int = Field(ge=1)
    quiet_ms: Duration = Field(alias="quiet", gt=0)
    severity: Severity
    page: bool


class RuleSet(Part):
    """All rules of a worker.

    Attributes:
        rates: rate rules, in the order in which they are evaluated.
        fleet: the same for the whole workforce and for tenants.
        security: the rule on security events.
        series_limit: the rule on refused series.
        shares: rules on shares of reviews and of confidence.
        override_pattern: the rule on patterns of overrides.
        threshold_recommendation: the recommendation of confidence thresholds.
        integration_errors: the rate rule on failed calls of an operation.
        integration_error_type: the rule on types of errors.
        integration_latency: the rule on slow calls.
        contract_test: the rule on contract tests.
        silence: the rule on agents and integrations from which nothing comes.
        queue: the rule on work that waits.
        cost: the rule on cost per task.
        price_step: the rule on the price of a model's tokens.
        cost_plan: the rule on the cost of a day against its plan.
        incidents: how alerts become pages.
        drift: the rule on signals that are no more what they were.
        anomalous_output: the rule on the length of output.
        prompt_review: the rule on prompts to look at.
        retraining_schedule: the rule on dates of training.
    """

    rates: tuple[RateRule, ...]
    fleet: tuple[RateRule, ...]
    security: SecurityRule
    series_limit: SeriesLimitRule
    shares: tuple[ShareRule, ...]
    override_pattern: OverridePatternRule
    threshold_recommendation: ThresholdRule
    integration_errors: RateRule
    integration_error_type: ErrorTypeRule
    integration_latency: LatencyRule
    contract_test: ContractTestRule
    silence: SilenceRule
    queue: QueueRule
    cost: CostRule
    price_step: PriceStepRule
    cost_plan: CostPlanRule
    incidents: IncidentRules = Field(default_factory=IncidentRules)
    drift: DriftRule
    anomalous_output: AnomalousOutputRule
    prompt_review: PromptReviewRule
    retraining_schedule: RetrainingScheduleRule

    @model_validator(mode="after")
    def _distinct(self) -> RuleSet:
        names = [rule.name for rule in (*self.rates, *self.fleet)]
        names += [rule.name for rule in self.shares]
        names += [self.override_pattern.name, self.threshold_recommendation.name]
        names += [self.integration_errors.name, self.integration_error_type.name]
        names += [self.integration_latency.name, self.contract_test.name, self.silence.name]
        names += [self.queue.name]
        names += [self.cost.name, self.price_step.name, self.cost_plan.name]
        names += [self.drift.name, self.anomalous_output.name, self.prompt_review.name]
        names += [self.retraining_schedule.name]
        _require_distinct([*names, self.security.name, self.series_limit.name], "rules")
        return self

    @classmethod
    def default(cls) -> RuleSet:
        """Return the rules the package comes with."""
        text = files("streams").joinpath("rules.yaml").read_text(encoding="utf-8")
        return cls.load(text, "rules.yaml")

    @classmethod
    def read(cls, path: Path) -> RuleSet:
        """Read a rule file.

        Raises:
            RuleError: it is not there or not valid.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RuleError(f"{path}: cannot be read: {error}") from error
        return cls.load(text, str(path))

    @classmethod
    def load(cls, text: str, source: str = "rules") -> RuleSet:
        """Return the rules of a YAML text; `source` is what an error calls it.

        Raises:
            RuleError: it is not valid.
        """
        try:
            return cls.model_validate(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise RuleError(f"{source}: no YAML: {error}") from error
        except ValidationError as error:
            lines = [_sentence(source, dict(one)) for one in error.errors()]
            raise RuleError("\n".join(lines)) from error


def _sentence(source: str, error: dict[str, Any]) -> str:
    place = ".".join(str(step) for step in error["loc"]) or "the file"
    given = "" if isinstance(error["input"], dict | list) else f", given {error['input']!r}"
    return f"{source}: {place}: {error['msg'].removeprefix('Value error, ')}{given}"


def _require_distinct(names: list[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} with the same name: {', '.join(twice)}")
