"""The rules as data: the built-in file is as meant, and a wrong one says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from pydantic import ValidationError

from streams import rules
from streams.arms import DropArm, RiseArm
from streams.durations import DAY, HOUR, MINUTE, SECOND
from streams.reasons import Severity
from streams.rules import RuleError, RuleSet

if TYPE_CHECKING:
    from typing import Any

DEFAULT = Path(rules.__file__).with_name("rules.yaml")


def changed(**path: Any) -> str:
    """Return the built-in file with values set at paths such as rates__0__name."""
    document = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    for where, value in path.items():
        *way, last = [int(step) if step.isdigit() else step for step in where.split("__")]
        node = document
        for step in way:
            node = node[step]
        node[last] = value
    return str(yaml.safe_dump(document))


def test_the_built_in_rules_are_the_file_beside_the_code() -> None:
    assert RuleSet.read(DEFAULT) == RuleSet.default()


def test_rules_are_evaluated_in_the_order_of_the_file() -> None:
    assert [rule.name for rule in RuleSet.default().rates] == ["automated-rate", "error-rate"]


def test_arms_stand_longest_first() -> None:
    first, second = RuleSet.default().rates
    assert [arm.name for arm in first.arms] == ["24h"]
    assert [arm.name for arm in second.arms] == ["24h", "1h", "5m"]


def test_the_drop_arm_has_the_numbers_of_the_table() -> None:
    (arm,) = RuleSet.default().rates[0].arms
    assert isinstance(arm, DropArm)
    assert (arm.factor, arm.z, arm.min_n, arm.clear_factor) == (0.95, 4.4, 50, 0.975)
    assert (arm.window_ms, arm.for_ms, arm.clear_for_ms) == (DAY, 2 * HOUR, 12 * HOUR)


@pytest.mark.parametrize(
    ("index", "factor", "z", "window", "waits"),
    [(0, 2.0, 4.5, 24 * HOUR, 2 * HOUR), (1, 2.2, 4.0, HOUR, 3 * HOUR)],
)
def test_the_slow_error_arms_have_the_numbers_of_the_table(
    index: int, factor: float, z: float, window: int, waits: int
) -> None:
    arm = RuleSet.default().rates[1].arms[index]
    assert isinstance(arm, RiseArm)
    assert arm.wilson is not None
    assert (arm.floor, arm.factor, arm.z, arm.min_hits) == (0.015, factor, z, 8)
    assert (arm.wilson.z, arm.wilson.share, arm.clear_share) == (2.6, 0.75, 0.7)
    assert (arm.window_ms, arm.for_ms, arm.clear_for_ms) == (window, waits, 6 * HOUR)


def test_the_burst_arm_has_the_numbers_of_the_table() -> None:
    arm = RuleSet.default().rates[1].arms[2]
    assert isinstance(arm, RiseArm)
    assert (arm.floor, arm.factor, arm.min_hits, arm.min_n) == (0.3, 5.0, 8, 20)
    assert (arm.clear_rate, arm.wilson, arm.z) == (0.05, None, None)
    assert (arm.for_ms, arm.clear_for_ms, arm.cool_down_ms) == (0, 15 * MINUTE, 15 * MINUTE)


def test_rate_rules_page_as_high() -> None:
    assert all(rule.page and rule.severity is Severity.HIGH for rule in RuleSet.default().rates)


def test_a_short_window_ticks_every_five_seconds_and_a_long_one_every_minute() -> None:
    steps = [arm.step_ms for arm in RuleSet.default().rates[1].arms]
    assert steps == [MINUTE, MINUTE, 5 * SECOND]


def test_windows_up_to_three_hours_are_summed_from_minutes() -> None:
    panes = [arm.pane_ms for arm in RuleSet.default().rates[1].arms]
    assert panes == [HOUR, MINUTE, MINUTE]


def test_rules_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        RuleSet.default().security.volume = 9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("rates__0__arms__0__window", "a day", "'a day' is no duration"),
        ("rates__0__arms__0__window", "90m", None),
        ("rates__0__arms__0__window", "25m", None),
        ("rates__0__arms__0__window", "270m", "no whole number of 1h panes"),
        ("rates__0__arms__0__for", "90s", "for is no whole number of 1m"),
        ("rates__0__arms__0__z", None, "z"),
        ("rates__1__arms__0__tau", None, "z and tau come together"),
        ("rates__1__arms__2__clear_share", 0.7, "give one of clear_share and clear_rate"),
        ("rates__0__arms__0__kind", "sideways", "'sideways'"),
        ("rates__1__arms__1__name", "24h", "arms with the same name: 24h"),
        ("rates__1__name", "automated-rate", "rules with the same name: automated-rate"),
        ("rates__0__baseline__multiplier", [1, 1], "it needs 5, for 0 to 4 usable weeks"),
        ("rates__1__baseline__floor", None, "pooled and floor come together"),
        ("rates__0__severity", "LOUD", "given 'LOUD'"),
        ("rates__0__thresold", 1, "rates.0.thresold: Extra inputs are not permitted"),
        ("security__volume", 0, "security.volume"),
    ],
)
def test_a_wrong_number_is_named_with_its_place(path: str, value: Any, message: str | None) -> None:
    text = changed(**{path: value})
    if message is None:
        RuleSet.load(text)
        return
    with pytest.raises(RuleError) as caught:
        RuleSet.load(text, "mine.yaml")
    assert message in str(caught.value)
    assert str(caught.value).startswith("mine.yaml: ")


def test_each_wrong_place_is_named() -> None:
    with pytest.raises(RuleError) as caught:
        RuleSet.load(changed(security__volume=0, series_limit__quiet="soon"))
    assert len(str(caught.value).splitlines()) == 2


def test_what_is_no_yaml_is_refused() -> None:
    with pytest.raises(RuleError, match="no YAML"):
        RuleSet.load("rates: [")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuleError, match=r"gone\.yaml: cannot be read"):
        RuleSet.read(tmp_path / "gone.yaml")
