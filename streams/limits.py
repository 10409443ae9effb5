"""What a field of an event may hold, by its name: the one table of limits.

A name means the same in every record. The limits are no part of a schema, yet of the contract: the
docs of the schemas state them, and a worker refuses what breaks them as INVALID_FIELD.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

END_OF_TIME = 4_102_444_800_000
"""2100-01-01 UTC in ms: no event time is this late."""
MAX_ID = 256
"""Most characters of an id, a code or any other text of one line."""
MAX_ITEMS = 256
"""Most items of a list."""
MAX_RULES = 256 * 1024
"""Most bytes of the rules in a control."""
MAX_COST_USD = 1e9
MAX_DURATION_MS = 1e12
MAX_COUNT = 2**40
ABOVE_ZERO = math.ulp(0.0)
"""The smallest number that is not 0."""

_TIMES = ("occurred_at", "task_occurred_at", "last_trained_at", "sunset_at", "from_at", "until_at")
RANGES: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(_TIMES, (0, END_OF_TIME - 1)),
    "duration_ms": (0, MAX_DURATION_MS),
    "oldest_age_ms": (0, MAX_DURATION_MS),
    "cost_usd": (0, MAX_COST_USD),
    "daily_cost_plan_usd": (ABOVE_ZERO, MAX_COST_USD),
    **dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens", "depth"), (0, MAX_COUNT)),
    "confidence": (0, 1),
    "agent_confidence": (0, 1),
    "status_code": (0, 9999),
    "attempts": (1, 1000),
    "retraining_interval_days": (1, 3650),
}
"""Smallest and largest value of each numeric field; NaN lies in no range."""
NEEDED = frozenset(
    (
        *("event_id", "tenant", "agent_id", "task_type", "integration", "operation"),
        *("task_event_id", "agent_decision", "human_decision", "reason_code", "to_version"),
        *("owner", "time_zone", "control_id", "by", "why"),
    )
)
"""Texts of at least one character; a null is no text."""


def broken(record: Mapping[str, Any]) -> str | None:
    """Return which field is outside its limits, and how; None where all are within.

    The sentence begins with the name of the field, and repeats no text of it.
    """
    for name, value in record.items():
        if value is None:
            continue
        if isinstance(value, str):
            size = len(value)
            found = None if 0 < size <= MAX_ID else _text(name, value)
        elif name in RANGES:
            low, high = RANGES[name]
            found = None if low <= value <= high else _number(name, value)
        else:
            found = _items(name, value) if isinstance(value, list) else None
        if found is not None:
            return found
    return None


def faults(record: Mapping[str, Any]) -> list[str]:
    """Return all fields outside their limits; values of a wrong type are not judged."""
    found = []
    for name, value in record.items():
        with suppress(TypeError):
            found.append(broken({name: value}))
    return [fault for fault in found if fault is not None]


def _text(name: str, value: str) -> str | None:
    """Judge a text that is empty or long."""
    if name == "rules":
        size = len(value.encode())
        found = f"rules has {size} bytes, allowed are 0 to {MAX_RULES}"
        return None if size <= MAX_RULES else found
    least = int(name in NEEDED)
    if least <= len(value) <= MAX_ID:
        return None
    return f"{name} has {len(value)} characters, allowed are {least} to {MAX_ID}"


def _number(name: str, value: float) -> str:
    low, high = RANGES[name]
    lowest = "above 0" if low == ABOVE_ZERO else f"{low:.15g}"
    return f"{name} is {value!r}, allowed is {lowest} to {high:.15g}"


def _items(name: str, value: Sequence[Any]) -> str | None:
    if len(value) > MAX_ITEMS:
        return f"{name} has {len(value)} items, allowed are 0 to {MAX_ITEMS}"
    for place, item in enumerate(value):
        if isinstance(item, str):
            if not 1 <= len(item) <= MAX_ID:
                return (
                    f"{name} has {len(item)} characters in item {place}, allowed are 1 to {MAX_ID}"
                )
        elif not math.isfinite(item):
            return f"{name} has {item!r} as item {place}, allowed are finite numbers"
    return None
