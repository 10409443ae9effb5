"""How the usual rate of a rule is found: its parameters, which several kinds of rules share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from streams.arms import Part, Share
from streams.durations import HOUR, Duration


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


class Daily(Part):
    """A usual rate that is the median of past days.

    Attributes:
        days: how many days are looked at; the newest ends a day before the current hour.
        min_n: events a day needs to count.
        min_days: days needed for a baseline.
    """

    days: int = Field(ge=1, le=28)
    min_n: int = Field(ge=1)
    min_days: int = Field(ge=1)


class BaselineSpec(Part):
    """How the usual rate of a rule is found.

    Attributes:
        window_ms: length of the window in each past week.
        weeks: how many past weeks are looked at.
        pool_below: with fewer events in any usable week, the weeks are pooled, not ranked.
        multiplier: factor on the z limit by the number of usable weeks, 0 … `weeks`. Raising it
            makes a young baseline more cautious.
        pooled: the long-span rate; None for none.
        daily: past days, which make the baseline in place of the past weeks; None for weeks.
        floor: least baseline of a rule that has `pooled` or `daily`, and its stand-in while there
            is none.
    """

    window_ms: Duration = Field(alias="window", gt=0, multiple_of=HOUR)
    weeks: int = Field(ge=1, le=4)
    pool_below: int = Field(ge=1)
    multiplier: tuple[Annotated[float, Field(ge=1)], ...]
    pooled: Pooled | None = None
    daily: Daily | None = None
    floor: Share | None = None

    @model_validator(mode="after")
    def _consistent(self) -> BaselineSpec:
        if len(self.multiplier) != self.weeks + 1:
            raise ValueError(
                f"multiplier has {len(self.multiplier)} numbers; it needs {self.weeks + 1}, for 0 "
                f"to {self.weeks} usable weeks"
            )
        if (self.pooled is None and self.daily is None) != (self.floor is None):
            raise ValueError("pooled and floor come together: give both or neither")
        if self.pooled is not None and self.daily is not None:
            raise ValueError("give one of pooled and daily")
        return self
