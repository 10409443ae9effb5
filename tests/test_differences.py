"""That the comparison sees what is missing, extra, twice, different or out of order."""

from __future__ import annotations

from copy import deepcopy

from load.differences import compare
from load.proof import DeadLetter, Expected, LogRecord, Outputs, encode, expect

T = 1_767_225_600_000
HOUR = 3_600_000


def burst() -> Expected:
    record = {"event_id": "e", "occurred_at": T, "tenant": None, "agent_id": "a", "task_type": "t"}
    record |= {"outcome": "FAILED", "duration_ms": 1.0, "cost_usd": 0.25}
    record |= {"input_tokens": 3, "output_tokens": 4}
    records = [*([record] * 20), record | {"occurred_at": T + 5000}]
    return expect(
        [
            LogRecord("agentops.tasks", 0, offset, T + HOUR, b"a", encode("TaskFinished", each))
            for offset, each in enumerate(records)
        ],
        partitions=1,
    )


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
    different[0].alerts[0]["severity"] = "INFO"
    lines = compare(expected, different)
    assert "value is 1.000001" in lines[0]
    assert "severity is 'INFO', expected 'HIGH'" in lines[1]

    letter = DeadLetter("agentops.tasks", 0, 7, "FUTURE")
    extra = deepcopy(expected)
    extra[0].dead_letters = [letter, letter]
    assert [line.split(":")[1] for line in compare(expected, extra)] == [
        " dead letter said 2 times",
        " dead letter extra",
    ]


def test_what_the_incidents_add_is_not_compared_but_never_said_twice() -> None:
    expected = burst().outputs
    withheld = deepcopy(expected)
    (first,) = withheld[0].alerts
    first |= {"status": "WITHHELD", "reason": "GROUPED"}
    withheld[0].alerts.append(first | {"status": "FIRING", "reason": "RELEASED"})
    assert compare(expected, withheld) == []

    withheld[0].alerts.append(withheld[0].alerts[1])
    assert "alert said 2 times" in compare(expected, withheld)[0]

    ended = [first | {"status": "RESOLVED", "reason": reason} for reason in ("QUIET", "IDLE")]
    withheld[0].alerts[1:] = ended
    assert "alert resolved 2 times" in compare(expected, withheld)[0]


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
