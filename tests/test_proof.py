"""What the proof refuses to count as an event, and that it sees what is missing, twice or wrong."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from load.oracle import SUMS
from load.proof import (
    DeadLetter,
    Expected,
    LogRecord,
    Outputs,
    compare,
    encode,
    expect,
    murmur2,
    partition_of,
    read_outputs,
)

T = 1_767_225_600_000
HOUR = 3_600_000


def task(**changes: Any) -> dict[str, Any]:
    record = {
        "event_id": "e",
        "occurred_at": T,
        "tenant": None,
        "agent_id": "a",
        "task_type": "t",
        "outcome": "FAILED",
        "duration_ms": 1.0,
        "cost_usd": 0.25,
        "input_tokens": 3,
        "output_tokens": 4,
    }
    return record | changes


def log(
    offset: int, value: bytes | None, key: bytes | None = b"a", *, partition: int = 0
) -> LogRecord:
    return LogRecord("agentops.tasks", partition, offset, T + HOUR, key, value)


def demanded(logs: list[LogRecord], partitions: int = 1) -> Expected:
    return expect(logs, partitions=partitions)


def burst() -> Expected:
    logs = [log(i, encode("TaskFinished", task())) for i in range(20)]
    return demanded([*logs, log(20, encode("TaskFinished", task(occurred_at=T + 5000)))])


@pytest.mark.parametrize(
    ("key", "value"), [(b"21", -973932308), (b"foobar", -790332482), (b"abc", 479470107)]
)
def test_murmur2_is_kafkas(key: bytes, value: int) -> None:
    assert murmur2(key) == value & 0xFFFFFFFF


def test_each_kind_of_broken_record_is_refused_with_its_reason() -> None:
    good = encode("TaskFinished", task())
    cases = [
        ("NULL_VALUE", None, b"a"),
        ("BAD_FRAMING", b"\x00" + good, b"a"),
        ("UNKNOWN_SCHEMA", good[:2] + b"12345678" + good[10:], b"a"),
        ("WRONG_SCHEMA", encode("SecurityEvent", security()), b"a"),
        ("BAD_BODY", good[:-1], b"a"),
        ("BAD_BODY", good + b"\0", b"a"),
        ("INVALID_FIELD", encode("TaskFinished", task(cost_usd=-1.0)), b"a"),
        ("INVALID_FIELD", encode("TaskFinished", task(duration_ms=float("nan"))), b"a"),
        ("INVALID_FIELD", encode("TaskFinished", task(task_type="")), b"a"),
        ("KEY_MISSING", good, None),
        ("KEY_MISMATCH", good, b"b"),
        ("KEY_MISMATCH", encode("TaskFinished", task(tenant="x")), b"a"),
    ]
    logs = [log(offset, value, key) for offset, (_, value, key) in enumerate(cases)]
    expected = demanded(logs)
    letters = expected.outputs[0].dead_letters
    assert [letter.reason for letter in letters] == [reason for reason, _, _ in cases]
    assert expected.admitted["tasks"] == 0


def security() -> dict[str, Any]:
    event = {"event_id": "e", "occurred_at": T, "tenant": None, "agent_id": "a"}
    return event | {"kind": "OTHER", "severity": "LOW", "blocked": True}


def test_a_record_in_a_partition_that_is_not_its_own_is_a_stray() -> None:
    own = partition_of(b"a", 2)
    value = encode("TaskFinished", task())
    expected = demanded([log(0, value, partition=own), log(0, value, partition=1 - own)], 2)
    assert expected.refused == {"STRAY_PARTITION": 1}
    assert expected.outputs[1 - own].dead_letters[0].offset == 0


def test_sums_and_counts_are_totals_of_what_was_admitted() -> None:
    expected = burst()
    assert expected.admitted == {"tasks": 21}
    assert expected.records == {("agentops.tasks", 0): 21}
    assert (expected.sums["failed"], expected.sums["cost_micro_usd"]) == (21, 5_250_000)


def test_quiet_security_lives_end_by_the_tasks_clock_at_the_end_of_the_log() -> None:
    value = encode("SecurityEvent", security())
    later = encode("TaskFinished", task(occurred_at=T + 6 * HOUR))
    logs = [LogRecord("agentops.security", 0, 0, T, b"a", value)]
    logs += [LogRecord("agentops.tasks", 0, 0, T + 6 * HOUR, b"a", later)]
    steps = [finding["transition"] for finding in demanded(logs).outputs[0].findings]
    assert steps == ["FIRING", "RESOLVED"]


def test_equal_outputs_show_no_difference() -> None:
    expected = burst().outputs
    assert [finding["transition"] for finding in expected[0].findings] == ["FIRING"]
    assert compare(expected, deepcopy(expected)) == []


def test_missing_extra_twice_and_different_are_each_named() -> None:
    expected = burst().outputs
    nothing = compare(expected, {0: Outputs()})
    assert [line.split(":")[1] for line in nothing] == [" finding missing", " alert missing"]

    twice = deepcopy(expected)
    twice[0].findings *= 2
    assert compare(expected, twice)[0].startswith("partition 0: finding said 2 times")

    different = deepcopy(expected)
    different[0].findings[0]["value"] += 1e-12
    assert compare(expected, different) == []
    different[0].findings[0]["value"] += 1e-6
    different[0].alerts[0]["page"] = False
    lines = compare(expected, different)
    assert "value is 1.000001" in lines[0]
    assert "page is False, expected True" in lines[1]

    letter = DeadLetter("agentops.tasks", 0, 7, "FUTURE")
    extra = deepcopy(expected)
    extra[0].dead_letters = [letter, letter]
    assert [line.split(":")[1] for line in compare(expected, extra)] == [
        " dead letter said 2 times",
        " dead letter extra",
    ]


def test_the_order_of_a_rules_findings_and_of_alerts_is_compared() -> None:
    expected = burst().outputs
    second = deepcopy(expected[0].findings[0]) | {"finding_id": "later"}
    expected[0].findings.append(second)
    expected[0].alerts.append(deepcopy(expected[0].alerts[0]) | {"members": ["later"]})
    swapped = deepcopy(expected)
    swapped[0].findings.reverse()
    lines = compare(expected, swapped)
    assert len(lines) == 2
    assert "are in the order ['later'" in lines[0]
    assert lines[1] == "partition 0: alerts are not in the order of their findings"


def test_outputs_are_sorted_by_the_partition_they_are_about() -> None:
    window = dict.fromkeys(SUMS, 0) | {"tenant": None, "agent_id": "a", "task_type": "t"}
    window |= {"window_start": T, "window_end": T + HOUR, "revision": 1, "at": T + HOUR}
    headers = [("reason", b"FUTURE"), ("topic", b"agentops.tasks"), ("partition", b"1")]
    logs = [
        LogRecord("agentops.windows", 1, 0, T, b"k", encode("Window", window)),
        LogRecord("agentops.dead-letters", 1, 0, T, b"k", b"v", [*headers, ("offset", b"5")]),
    ]
    outputs = read_outputs(logs, partitions=2)
    assert outputs[0] == Outputs()
    assert outputs[1].windows[0]["revision"] == 1
    assert outputs[1].dead_letters == [DeadLetter("agentops.tasks", 1, 5, "FUTURE")]
