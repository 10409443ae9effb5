from __future__ import annotations

from importlib.resources import files

import pytest

from streams.rules import RuleError, RuleSet

TEXT = files("streams").joinpath("rules.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("given", "changed", "message"),
    [
        ("clear_factor: 1.6 ", "clear_factor: 1.7 ", "clear_factor is above factor"),
        (
            "clear_for: 12h\n        factor: 1.6",
            "clear_for: 90s\n        factor: 1.6",
            "whole hours",
        ),
        ("window: 72h           #", "window: 48h           #", "give the same"),
        ("numerator: overridden ", "numerator: low-confidence ", "low comes with the numerator"),
        ("min_weeks: 1 ", "min_weeks: 5 ", "less than or equal to 4"),
        ("target: null ", "target: 2 ", "less than 1"),
    ],
)
def test_a_wrong_number_is_refused_with_what_is_wrong(
    given: str, changed: str, message: str
) -> None:
    assert given in TEXT

    with pytest.raises(RuleError, match=message):
        RuleSet.load(TEXT.replace(given, changed, 1))


def test_the_ticks_of_a_share_are_whole_hours() -> None:
    assert {rule.arm.step_ms for rule in RuleSet.default().shares} == {3_600_000}
