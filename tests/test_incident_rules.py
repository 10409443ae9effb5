"""The section `incidents` of the rules."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from streams.durations import DAY, SECOND
from streams.incident_rules import IncidentRules
from streams.rules import RuleSet


def test_the_rule_file_says_what_is_built_in() -> None:
    assert RuleSet.default().incidents == IncidentRules()


def test_durations_are_read_as_people_write_them() -> None:
    rules = IncidentRules.model_validate({"group_wait": "30s", "repeat_after": "2d"})
    assert (rules.group_wait_ms, rules.repeat_after_ms) == (30 * SECOND, 2 * DAY)


@pytest.mark.parametrize(
    "given",
    [{"group_wait": "29s"}, {"group_wait": "61s"}, {"storm_agents": 1}, {"runbook_base": "x"}],
)
def test_what_cannot_be_meant_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(given))):
        IncidentRules.model_validate(given)


def test_a_star_stands_for_all_rules_that_begin_so() -> None:
    rules = IncidentRules(grouped_rules=("queue*", "cost"))
    assert [rules.groups(name) for name in ("queue-depth", "cost", "cost-plan")] == [
        True,
        True,
        False,
    ]


def test_a_runbook_is_the_base_with_the_rule() -> None:
    rules = IncidentRules(runbook_base="https://runbooks.example/")
    assert rules.runbook("cost") == "https://runbooks.example/cost"
    assert IncidentRules().runbook("cost") is None
