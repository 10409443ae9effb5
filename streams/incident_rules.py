"""How alerts become pages: the section `incidents` of the rules."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from streams.arms import Part
from streams.durations import DAY, HOUR, MINUTE, SECOND, Duration

GROUPED = (
    "automated-rate",
    "error-rate",
    "latency*",
    "cost",
    "low-confidence",
    "queue*",
    "silence",
)
"""Rules on an agent that a broken integration can be behind."""


class IncidentRules(Part):
    """What is one incident, and when it calls a person.

    Attributes:
        group_wait_ms: how long a page waits for what belongs to it. Raising it groups more and
            pages later.
        storm_window_ms: how long pages are held when several agents that call one integration
            fail together. Raising it finds slower causes, and delays pages that have none.
        storm_agents: so many agents are several.
        root_window_ms: a page of an agent so long before that of its integration is one with it.
        release_after_ms: when a cause is over, an alert that stays for so long pages by itself.
            Raising it to `keep` gives one page for all that follows within a day.
        keep_ms: how long a closed incident is remembered.
        repeat_after_ms: an incident that nobody acknowledged pages again after so long.
        grouped_rules: rules on agents that join the incident of an integration. A name ending in
            `*` stands for all rules that begin so.
        runbook_base: what an alert's `runbook_url` begins with; the rule's name follows. None for
            no runbook.
    """

    group_wait_ms: Duration = Field(45 * SECOND, alias="group_wait", ge=30 * SECOND, le=60 * SECOND)
    storm_window_ms: Duration = Field(
        5 * MINUTE, alias="storm_window", ge=MINUTE, le=HOUR, multiple_of=SECOND
    )
    storm_agents: int = Field(3, ge=2)
    root_window_ms: Duration = Field(HOUR, alias="root_window", gt=0, le=DAY)
    release_after_ms: Duration = Field(15 * MINUTE, alias="release_after", gt=0, le=DAY)
    keep_ms: Duration = Field(DAY, alias="keep", ge=HOUR)
    repeat_after_ms: Duration = Field(DAY, alias="repeat_after", ge=HOUR)
    grouped_rules: tuple[Annotated[str, Field(min_length=1)], ...] = GROUPED
    runbook_base: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None

    def groups(self, rule: str) -> bool:
        """Return whether alerts of a rule on an agent can have an integration as their cause."""
        return any(
            rule.startswith(name[:-1]) if name.endswith("*") else rule == name
            for name in self.grouped_rules
        )

    def runbook(self, rule: str) -> str | None:
        """Return where to read what to do about alerts of a rule."""
        return None if self.runbook_base is None else self.runbook_base + rule
