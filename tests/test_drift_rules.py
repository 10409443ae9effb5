"""The numbers of the rules on drift: what is refused, and why."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from streams.drift_rules import DriftRule, ReferenceSpec
from streams.rules import RuleSet

SHIPPED = RuleSet.default().drift


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": "5h"}, "must divide a day"),
        ({"step": "30m"}, "multiple of"),
        ({"detector": {"kind": "adwin", "delta": 2}}, "less than 1"),
        ({"detector": {"kind": "cusum"}}, "kind"),
        ({"growth": 1.0}, "greater than 1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DriftRule.model_validate(SHIPPED.model_dump(by_alias=True) | change)


def test_a_young_reference_is_no_longer_than_a_whole_one() -> None:
    fields = SHIPPED.reference.model_dump()

    with pytest.raises(ValidationError, match="must not exceed"):
        ReferenceSpec.model_validate(fields | {"min_days": 50})
