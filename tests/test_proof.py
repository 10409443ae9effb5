"""What the proof refuses to count as an event, and what it demands and finds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from load.oracle import SUMS
from load.proof import (
    SCHEMAS,
    UNUSABLE,
    DeadLetter,
    Expected,
    LogRecord,
    Outputs,
    RefusedError,
    decode,
    encode,
    expect,
    murmur2,
    partition_of,
    read_outputs,
    schemas,
    writer_of,
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


@pytest.mark.parametrize(
    ("key", "value"), [(b"21", -973932308), (b"foobar", -790332482), (b"abc", 479470107)]
)
def test_murmur2_is_kafkas(key: bytes, value: int) -> None:
    assert murmur2(key) == value & 0xFFFFFFFF


def test_each_kind_of_broken_record_is_refused_with_its_reason() -> None:
    good = encode("TaskFinished", task())
    cases = [
        ("NULL_VALUE", None, b"a"),
        ("BAD_FRAMING", b"\x01" + good, b"a"),
        ("BAD_FRAMING", good[:9], b"a"),
        ("BAD_FRAMING", b"\x00\x00\x00\x01", b"a"),
        ("UNKNOWN_SCHEMA", b"\x00\x00\x00\x00\x01" + good[10:], b"a"),
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


def test_values_are_read_by_the_schema_that_wrote_them() -> None:
    raw = json.loads((SCHEMAS / "TaskFinished.avsc").read_text())
    fields = [{"name": "region", "type": "string"}, *raw["fields"]]
    newer, lacking = {**raw, "fields": fields}, {**raw, "fields": raw["fields"][:-12]}
    frames = {b"\0\0\0\0" + bytes([n]): writer_of(each) for n, each in enumerate((newer, lacking))}
    writers = schemas() | frames | {b"\0\0\0\0\2": UNUSABLE}
    good = encode("TaskFinished", task())
    written = b"\x04eu" + good[10:]

    assert decode(b"\0\0\0\0\0" + written, "TaskFinished", writers) == decode(good, "TaskFinished")
    for value, reason in (
        (b"\0\0\0\0\0" + written[:-1], "BAD_BODY"),
        (b"\0\0\0\0\1" + written, "INCOMPATIBLE_SCHEMA"),
        (b"\0\0\0\0\2" + written, "INCOMPATIBLE_SCHEMA"),
        (b"\0\0\0\0\3" + written, "UNKNOWN_SCHEMA"),
    ):
        with pytest.raises(RefusedError, match=reason):
            decode(value, "TaskFinished", writers)


def test_a_record_in_a_partition_that_is_not_its_own_is_a_stray() -> None:
    own = partition_of(b"a", 2)
    value = encode("TaskFinished", task())
    expected = demanded([log(0, value, partition=own), log(0, value, partition=1 - own)], 2)
    assert expected.refused == {"STRAY_PARTITION": 1}
    assert expected.outputs[1 - own].dead_letters[0].offset == 0


def test_sums_and_counts_are_totals_of_what_was_admitted() -> None:
    logs = [log(i, encode("TaskFinished", task())) for i in range(21)]
    expected = demanded(logs)
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
