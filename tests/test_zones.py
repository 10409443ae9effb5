"""Days of zones: they follow one another without a gap, and begin at the zone's midnight."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from streams.durations import HOUR
from streams.zones import day_of


def ms(zone: str, *when: int) -> int:
    return int(datetime(*when, tzinfo=ZoneInfo(zone)).timestamp()) * 1000  # type: ignore[arg-type, misc]


def lengths(zone: str, first: int, days: int) -> list[int]:
    """Return the hours of days in a row, each found from its last millisecond."""
    found, day = [], day_of(zone, first)
    for _ in range(days):
        assert day_of(zone, day.start) == day_of(zone, day.end - 1) == day
        found.append((day.end - day.start) // HOUR)
        day = day_of(zone, day.end)
    return found


def test_a_day_begins_at_the_midnight_of_its_zone() -> None:
    day = day_of("America/New_York", ms("America/New_York", 2026, 7, 4, 23))

    assert day.start == ms("America/New_York", 2026, 7, 4)
    assert day.end == ms("America/New_York", 2026, 7, 5)


@pytest.mark.parametrize(("month", "hours"), [(3, [24, 23, 24]), (11, [24, 25, 24])])
def test_days_on_which_clocks_are_changed_are_shorter_or_longer(
    month: int, hours: list[int]
) -> None:
    day = {3: 7, 11: 31}[month]
    first = ms("America/New_York", 2026, month if month == 3 else 10, day, 12)

    assert lengths("America/New_York", first, 3) == hours


def test_a_midnight_within_an_hour_counts_from_the_next_hour_on() -> None:
    midnight = ms("Asia/Kathmandu", 2026, 5, 2)  # 18:15 UTC

    assert midnight % HOUR != 0
    assert day_of("Asia/Kathmandu", midnight).end == midnight - midnight % HOUR + HOUR
    assert lengths("Asia/Kathmandu", midnight, 3) == [24, 24, 24]


def test_an_unknown_zone_counts_as_utc() -> None:
    assert day_of("No/Where", 90 * HOUR) == day_of("UTC", 90 * HOUR)
    assert day_of("../etc", 90 * HOUR) == (72 * HOUR, 96 * HOUR)
