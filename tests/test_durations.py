"""Durations as people write them."""

from __future__ import annotations

import doctest

import pytest

from streams import durations
from streams.durations import DAY, HOUR, MINUTE, SECOND, duration_text, parse_duration


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(durations).failed == 0


@pytest.mark.parametrize(
    ("text", "ms"), [("30s", 30 * SECOND), ("5m", 5 * MINUTE), ("24h", 24 * HOUR), ("7d", 7 * DAY)]
)
def test_a_duration_is_a_number_and_a_unit(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize("ms", [0, 5 * SECOND, 5 * MINUTE, 90 * MINUTE, 28 * DAY])
def test_a_duration_reads_back_as_it_was_written(ms: int) -> None:
    assert parse_duration(duration_text(ms)) == ms


@pytest.mark.parametrize("wrong", ["5 minutes", "h", "-5m", "1.5h", "", None, True, -1, 2.0])
def test_what_is_no_duration_is_refused_with_what_is_allowed(wrong: object) -> None:
    with pytest.raises(ValueError, match="write a whole number and s, m, h or d"):
        parse_duration(wrong)
