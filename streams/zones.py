"""Days of time zones, as event times: when the day that a time belongs to begins and ends.

Nothing here asks what time it is: a given time is converted.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from streams.durations import HOUR


class Day(NamedTuple):
    """A day of some zone, in whole hours of UTC.

    Attributes:
        start: ms, included.
        end: ms, not included.
    """

    start: int
    end: int


def day_of(zone: str, time: int) -> Day:
    """Return the day of a zone that holds a time.

    A midnight that is no whole hour of UTC counts from the next whole hour on, as sums are kept
    by hours of UTC; a day may have 23 or 25 hours. A zone that is not known counts as UTC.

    Args:
        zone: IANA name.
        time: ms since 1970 UTC.

    >>> day = day_of("Europe/Warsaw", 1_792_314_000_000)
    >>> (1_792_314_000_000 - day.start) // HOUR, (day.end - day.start) // HOUR
    (11, 24)
    """
    return _day(zone, time // HOUR * HOUR)


@lru_cache(maxsize=1024)
def _day(zone: str, hour: int) -> Day:
    place = _zone(zone)
    local = datetime.fromtimestamp(hour / 1000, place)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    start = _whole(midnight)
    if start > hour:  # this hour holds the midnight, and still counts for the day before
        return Day(_whole(_midnight(midnight, -1)), start)
    return Day(start, _whole(_midnight(midnight, 1)))


def _midnight(midnight: datetime, days: int) -> datetime:
    """Return the midnight some days later by the calendar."""
    date = midnight.date() + timedelta(days=days)
    return datetime(date.year, date.month, date.day, tzinfo=midnight.tzinfo)


def _whole(midnight: datetime) -> int:
    """Return the first whole hour of UTC at or after a midnight, ms."""
    return -(-int(midnight.timestamp() * 1000) // HOUR) * HOUR


@lru_cache(maxsize=256)
def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return UTC
