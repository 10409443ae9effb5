"""What the self-test of the exactly-once proof takes for the sign of a missing guard."""

from __future__ import annotations

import pytest

from load.chaos import UNGUARDED, shows_the_guard
from streams.failpoints import Failpoints, Guard


@pytest.mark.parametrize(
    "difference",
    [
        "partition 1: window said 2 times: (None, 'a', 't', 0, 1)",
        "partition 1: finding extra: finding_id=x",
        "partition 1: finding x: value is 0.2, expected 0.1",
    ],
)
def test_twice_too_much_and_other_numbers_are_signs(difference: str) -> None:
    assert shows_the_guard(difference)


def test_what_is_only_missing_is_no_sign() -> None:
    assert not shows_the_guard("partition 1: finding missing: finding_id=x, reason=QUIET")


def test_every_guard_is_taken_away_once_with_fail_points_that_exist() -> None:
    assert [guard for guard, _, _ in UNGUARDED] == [str(guard) for guard in Guard]
    for guard, extra, _ in UNGUARDED:
        assert Failpoints.parse(",".join([guard, *extra])).off == {Guard(guard)}
