"""What is missing, extra, twice or different between what logs demand and what workers said."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from load.proof import DeadLetter, Outputs

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from load.oracle import Record

TOLERANCE = 1e-9
"""Relative difference up to which two floats count as equal."""

_BRIEF = (
    "finding_id",
    "members",
    "status",
    "rule",
    "arm",
    "transition",
    "reason",
    "entity_id",
    "agent_id",
    "task_type",
    "kind",
    "window_start",
    "revision",
    "at",
    "value",
)


def compare(expected: dict[int, Outputs], actual: dict[int, Outputs]) -> list[str]:
    """Return the differences, one sentence each; an empty list is the proof."""
    found = []
    for p in sorted(expected | actual):
        demanded, said = expected.get(p, Outputs()), actual.get(p, Outputs())
        lines = [
            *_differences("finding", (demanded.findings, said.findings), _finding_key),
            *_differences("alert", (demanded.alerts, said.alerts), _alert_key),
            *_differences("window", (demanded.windows, said.windows), _window_key),
            *_letters(demanded.dead_letters, said.dead_letters),
            *_order(demanded.findings, said.findings),
            *_alert_order(said),
        ]
        found += [f"partition {p}: {line}" for line in lines]
    return found


def _finding_key(record: Record) -> Hashable:
    return str(record["finding_id"])


def _alert_key(record: Record) -> Hashable:
    return record["status"], *record["members"]


def _window_key(record: Record) -> Hashable:
    names = ("tenant", "agent_id", "task_type", "window_start", "revision")
    return tuple(record[name] for name in names)


def _differences(
    kind: str,
    sides: tuple[list[Record], list[Record]],
    key: Callable[[Record], Hashable],
) -> list[str]:
    """Compare two lists by key; only fields that are expected count."""
    expected, actual = ({key(record): record for record in side} for side in sides)
    lines = [
        f"{kind} said {times} times: {name}"
        for name, times in Counter(map(key, sides[1])).items()
        if times > 1
    ]
    if len(expected) != len(sides[0]):
        lines.append(f"{kind}: the oracle itself says {len(sides[0]) - len(expected)} twice")
    lines += [f"{kind} missing: {_brief(expected[k])}" for k in expected if k not in actual]
    lines += [f"{kind} extra: {_brief(actual[k])}" for k in actual if k not in expected]
    for name in (name for name in expected if name in actual):
        other = actual[name]
        lines += [
            f"{kind} {name}: {of} is {other.get(of)!r}, expected {value!r}"
            for of, value in expected[name].items()
            if not _same(value, other.get(of))
        ]
    return lines


def _same(expected: Any, actual: Any) -> bool:
    if isinstance(expected, float) and isinstance(actual, int | float):
        return math.isclose(expected, actual, rel_tol=TOLERANCE)
    return bool(expected == actual)


def _brief(record: Record) -> str:
    return ", ".join(f"{name}={record[name]}" for name in _BRIEF if record.get(name) is not None)


def _letters(expected: list[DeadLetter], actual: list[DeadLetter]) -> list[str]:
    lines = [
        f"dead letter said {times} times: {letter}"
        for letter, times in Counter(actual).items()
        if times > 1
    ]
    lines += [f"dead letter missing: {each}" for each in sorted(set(expected) - set(actual))]
    lines += [f"dead letter extra: {each}" for each in sorted(set(actual) - set(expected))]
    return lines


def _order(expected: list[Record], actual: list[Record]) -> list[str]:
    """Compare the order of the findings of each rule on each entity."""
    orders: list[dict[str, dict[str, None]]] = []
    for side in (expected, actual):
        order: dict[str, dict[str, None]] = defaultdict(dict)
        for finding in side:
            order[finding["fingerprint"]][finding["finding_id"]] = None
        orders.append(order)
    demanded, said = orders
    return [
        f"findings of {name} are in the order {list(said[name])}, expected {list(ids)}"
        for name, ids in demanded.items()
        if name in said and said[name] == ids and list(said[name]) != list(ids)
    ]


def _alert_order(said: Outputs) -> list[str]:
    """Check that alerts stand in the order of their findings."""
    place = {finding["finding_id"]: at for at, finding in enumerate(said.findings)}
    members = [member for alert in said.alerts for member in alert["members"]]
    places = [place[member] for member in members if member in place]
    return [] if places == sorted(places) else ["alerts are not in the order of their findings"]
