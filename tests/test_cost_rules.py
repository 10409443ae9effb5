"""The rules on cost are read with their numbers, and refuse what cannot be meant."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from streams.cost_rules import CostRule, PriceStepRule, window_text, windows
from streams.durations import DAY, HOUR, WEEK
from tests.cost_rig import RULES


def altered(rule: Any, **changes: Any) -> Any:
    """Return the data of a rule with its first arm changed."""
    data = rule.model_dump(mode="json", by_alias=True)
    data["arms"][0].update(changes)
    return data


def test_the_thresholds_are_those_of_the_playbook() -> None:
    arms = {arm.name: (arm.factor, arm.z, arm.between, arm.min_n) for arm in RULES.cost.arms}

    assert arms == {
        "24h": (1.25, 5.0, 0.035, 300),
        "72h": (1.15, 4.5, 0.025, 300),
        "7d": (1.2, 4.5, 0.025, 300),
    }
    assert {(arm.for_ms, arm.clear_for_ms) for arm in RULES.cost.arms} == {(3 * HOUR, 48 * HOUR)}
    assert RULES.cost_plan.arms[0].factor == 1.2


def test_windows_are_those_of_the_arms_and_the_week_of_the_prices() -> None:
    assert windows(RULES.cost, RULES.price_step) == (DAY, 3 * DAY, WEEK)
    assert [window_text(one) for one in (6 * HOUR, DAY, 3 * DAY, WEEK)] == [
        "6h",
        "24h",
        "72h",
        "7d",
    ]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"window": "8d"}, "less than or equal"),
        ({"window": "90m"}, "greater than or equal"),
        ({"window": "390m"}, "multiple of"),
        ({"for": "90m"}, "multiple of"),
        ({"name": "7d"}, "arms with the same name"),
        ({"thing": 1}, "Extra inputs"),
    ],
)
def test_an_arm_that_cannot_be_meant_is_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        CostRule.model_validate(altered(RULES.cost, **changes))


def test_an_announced_step_must_be_the_smaller_one() -> None:
    with pytest.raises(ValidationError, match="announced_step is above step"):
        PriceStepRule.model_validate(altered(RULES.price_step, announced_step=0.2))


def test_only_agents_and_task_types_have_prices() -> None:
    data = altered(RULES.price_step) | {"entities": ["FLEET"]}

    with pytest.raises(ValidationError, match="only AGENT and TASK_TYPE"):
        PriceStepRule.model_validate(data)
