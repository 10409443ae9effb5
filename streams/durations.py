"""Spans of time: integer milliseconds in the code, `5m` or `24h` where people write them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
"""Milliseconds, as all times here."""

_UNITS = {"s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY}
_DURATION = re.compile(r"(\d+)([smhd])")


def parse_duration(value: object) -> int:
    """Return the milliseconds of a duration such as `5m`; an integer counts as milliseconds.

    Raises:
        ValueError: it is no duration.

    >>> parse_duration("24h")
    86400000
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            f"{value!r} is no duration: write a whole number and s, m, h or d, such as 5m or 24h"
        )
    return int(found[1]) * _UNITS[found[2]]


def duration_text(ms: int) -> str:
    """Return a duration as `parse_duration` reads it, in the largest unit up to hours that fits.

    >>> duration_text(5 * MINUTE), duration_text(48 * HOUR)
    ('5m', '48h')
    """
    for unit, size in (("h", HOUR), ("m", MINUTE)):
        if ms and ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms // SECOND}s"


Duration = Annotated[int, BeforeValidator(parse_duration), PlainSerializer(duration_text)]
"""A field of a model: reads what `parse_duration` does, keeps milliseconds."""
