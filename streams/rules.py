"""What the rules are: validated parameters, read from data.

The numbers stand in `rules.yaml` beside this file, with the reason for each. Durations are written
as `5m`, `24h` or `7d` there and are integer milliseconds here.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from streams.arms import DropArm, Part, RiseArm, Share
from streams.durations import HOUR, Duration
from streams.reasons import Severity  # noqa: TC001 - pydantic reads it at run time

if TYPE_CHECKING:
    from pathlib import Path


class RuleError(ValueError):
    """A rule file that cannot be used; the message names each wrong place and what is allowed."""


class Pooled(Part):
    """A long-span rate beside the seasonal one, so that one quiet week cannot lower the baseline.

    Attributes:
        span_ms: length of the span.
        gap_ms: how long before the current hour the span ends.
        min_n: events the span must hold.
    """

    span_ms: Duration = Field(alias="span", gt=0)
    gap_ms: Duration = Field(alias="gap")
    min_n: int = Field(ge=1)


class BaselineSpec(Part):
    """How the usual rate of a rule is found.

    Attributes:
        window_ms: length of the window in each past week.
        weeks: how many past weeks are looked at.
        pool_below: with fewer events in any usable week, the weeks are pooled, not ranked.
        multiplier: factor on the z limit by the number of usable weeks, 0 … `weeks`. Raising it
            makes a young baseline more cautious.
        pooled: the long-span rate; None for none.
        floor: least baseline of a rule that has `pooled`, and its stand-in while there is none.
    """

    window_ms: Duration = Field(alias="window", gt=0, multiple_of=HOUR)
    weeks: int = Field(ge=1, le=4)
    pool_below: int = Field(ge=1)
    multiplier: tuple[Annotated[float, Field(ge=1)], ...]
    pooled: Pooled | None = None
    floor: Share | None = None

    @model_validator(mode="after")
    def _consistent(self) -> BaselineSpec:
        if len(self.multiplier) != self.weeks + 1:
            raise ValueError(
                f"multiplier has {len(self.multiplier)} numbers; it needs {self.weeks + 1}, for 0 "
                f"to {self.weeks} usable weeks"
            )
        if (self.pooled is None) != (self.floor is None):
            raise ValueError("pooled and floor come together: give both or neither")
        return self


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
    arms: tuple[Annotated[DropArm | RiseArm, Field(discriminator="kind")], ...] = Field(
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
        security: the rule on security events.
        series_limit: the rule on refused series.
    """

    rates: tuple[RateRule, ...]
    security: SecurityRule
    series_limit: SeriesLimitRule

    @model_validator(mode="after")
    def _distinct(self) -> RuleSet:
        names = [rule.name for rule in self.rates]
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
