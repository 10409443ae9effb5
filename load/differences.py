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

JUDGED = frozenset(
    {"automated-rate", "error-rate", "security", "series-limit", "partition-stopped"}
)
"""Rules of which the oracle knows what they must say. Of the others nothing may be said twice."""

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
        demanded, everything = expected.get(p, Outputs()), actual.get(p, Outputs())
        said = judged(everything)
        lines = [
            *_twice(everything),
            *_differences("finding", (demanded.findings, said.findings), _finding_key),
            *_alert_differences(demanded.alerts, said.alerts),
            *_differences("window", (demanded.windows, said.windows), _window_key),
            *_letters(demanded.dead_letters, said.dead_letters),
            *_order(demanded.findings, said.findings),
            *_alert_order(said),
        ]
        found += [f"partition {p}: {line}" for line in lines]
    return found


def judged(said: Outputs) -> Outputs:
    """Return what the oracle knows of: some rules, and the windows of tasks."""
    return Outputs(
        findings=[one for one in said.findings if one["rule"] in JUDGED],
        alerts=[one for one in said.alerts if one["rule"] in JUDGED],
        windows=[one for one in said.windows if one.get("series", "TASKS") == "TASKS"],
        dead_letters=said.dead_letters,
    )


def _twice(said: Outputs) -> list[str]:
    """Check that no finding of a rule that is not judged was said twice."""
    counts = Counter(one["finding_id"] for one in said.findings if one["rule"] not in JUDGED)
    return [f"finding {name} {number} times" for name, number in counts.items() if number > 1]


def _finding_key(record: Record) -> Hashable:
    return str(record["finding_id"])


def _alert_key(record: Record) -> Hashable:
    return tuple(record["members"])


def _alert_differences(expected: list[Record], actual: list[Record]) -> list[str]:
    """Compare the record that each finding caused, which is the first that names it.

    What the incidents add to it (pages after their wait, releases, repeats) is theirs to prove. A
    withheld alert has its own status and reason, and the page of an incident ends with it.
    """
    caused: dict[Hashable, Record] = {}
    for record in actual:
        caused.setdefault(_alert_key(record), record)
    demanded = []
    for record in expected:
        status = caused.get(_alert_key(record), record)["status"]
        loose: set[str] = set()
        if status == "WITHHELD":
            loose = {"status", "reason", "ends_at"}
        elif (record["status"], status) == ("RESOLVED", "UPDATED"):
            loose = {"status", "ends_at"}
        demanded.append({name: value for name, value in record.items() if name not in loose})
    same = ("alert_id", "status", "reason", "updated_at", "members", "suppressed_by")
    times = Counter(tuple(str(one.get(name)) for name in same) for one in actual)
    ends = Counter(one["alert_id"] for one in actual if one["status"] == "RESOLVED")
    return [
        *(f"alert said {count} times: {name}" for name, count in times.items() if count > 1),
        *(f"alert resolved {count} times: {name}" for name, count in ends.items() if count > 1),
        *_differences("alert", (demanded, list(caused.values())), _alert_key),
    ]


def _window_key(record: Record) -> Hashable:
    names = ("tenant", "agent_id", "task_type", "model", "window_start", "revision")
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
    members = dict.fromkeys(member for alert in said.alerts for member in alert["members"])
    places = [place[member] for member in members if member in place]
    return [] if places == sorted(places) else ["alerts are not in the order of their findings"]
