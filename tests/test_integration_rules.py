"""The shipped numbers of the hourly rules on integrations, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from streams.arms import RiseArm
from streams.durations import DAY, HOUR
from streams.integration_rules import ErrorTypeRule, LatencyRule
from streams.rules import RuleSet
from streams.surge import SurgeArm

RULES = RuleSet.default()


def test_error_types_have_the_numbers_of_the_table() -> None:
    rule = RULES.integration_error_type
    assert (rule.factor, rule.min_count, rule.usual_ms) == (3.5, 6, 28 * DAY)
    assert (rule.mix.min_count, rule.mix.share, rule.mix.inflation) == (5, 0.4, 1.3)
    assert (rule.cap_factor, rule.cap_slack) == (3, 3)
    windows = [(arm.window_ms, arm.inflation, arm.slack, arm.chance) for arm in rule.arms]
    assert windows == [
        (24 * HOUR, 1.6, 0.2, 1e-6),
        (72 * HOUR, 1.6, 0.2, 1e-6),
        (168 * HOUR, 1.3, 0.2, 1e-5),
    ]
    assert {(arm.for_ms, arm.clear_for_ms) for arm in rule.arms} == {(2 * HOUR, 12 * HOUR)}


def test_latency_has_the_numbers_of_the_table() -> None:
    (arm,) = RULES.integration_latency.arms
    assert (arm.window_ms, arm.for_ms, arm.clear_for_ms) == (6 * HOUR, 3 * HOUR, 12 * HOUR)
    assert (arm.floor, arm.factor, arm.surely, arm.z, arm.min_n) == (0.045, 3, 0.025, 5, 150)
    assert (arm.clear_factor, RULES.integration_latency.quantile) == (1.7, 0.99)


def test_contract_tests_and_silence_have_the_numbers_of_the_table() -> None:
    assert RULES.contract_test.missing_after_ms == 26 * HOUR
    assert (RULES.contract_test.usual_tests, RULES.contract_test.usual_days) == (3, 2)
    assert (RULES.silence.expected, RULES.silence.share) == (13.8, 0.5)


def test_arms_of_these_rules_have_hour_ticks_and_no_rest() -> None:
    arms = [*RULES.integration_error_type.arms, *RULES.integration_latency.arms]
    assert {(arm.step_ms, arm.cool_down_ms) for arm in arms} == {(HOUR, 0)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"usual": "27d"}, "multiple of 604800000"), ({"factor": 1}, "greater than 1")],
)
def test_a_wrong_number_of_error_types_is_refused(changes: dict[str, Any], message: str) -> None:
    given = RULES.integration_error_type.model_dump(by_alias=True) | changes
    with pytest.raises(ValidationError, match=message):
        ErrorTypeRule.model_validate(given)


def test_the_windows_of_latency_must_be_the_same() -> None:
    given = RULES.integration_latency.model_dump(by_alias=True)
    given["baseline"]["window"] = "24h"
    with pytest.raises(ValidationError, match="must be the same"):
        LatencyRule.model_validate(given)


def test_every_arm_of_integration_errors_stands_in_the_semantics_with_its_numbers() -> None:
    page = Path(__file__).parent.parent / "docs" / "semantics.md"
    section = page.read_text(encoding="utf-8").split("## Rule integration-errors")[1]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section.split("## Rule ")[0], re.MULTILINE))
    arms = RULES.integration_errors.arms
    assert list(rows) == [arm.name for arm in arms]
    for arm in arms:
        assert isinstance(arm, RiseArm | SurgeArm)
        assert f"{arm.factor:g}·p0" in rows[arm.name]
        assert f"k ≥ {arm.min_hits}" in rows[arm.name]
        if isinstance(arm, SurgeArm):
            assert f"max({100 * arm.wilson.floor:g} %, 1.5·p0)" in rows[arm.name]
            assert f"r ≤ {arm.clear_factor:g}·p0" in rows[arm.name]
            assert arm.min_hours == 1 or f"in ≥ {arm.min_hours} hours" in rows[arm.name]
