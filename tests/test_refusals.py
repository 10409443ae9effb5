from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from streams.epoch import OutRecord
from streams.metrics import Metrics
from streams.refusals import QUIET_SECONDS, RefusalLog


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def letters(count: int, reason: str = "BAD_BODY", topic: str = "agentops.tasks") -> list[OutRecord]:
    return [
        OutRecord(
            "agentops.dead-letters",
            0,
            None,
            b"v",
            [
                ("reason", reason.encode()),
                ("detail", b"why"),
                ("topic", topic.encode()),
                ("partition", b"2"),
                ("offset", b"%d" % number),
            ],
        )
        for number in range(count)
    ]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_first_dead_letter_of_a_reason_is_told_at_once_with_an_example(clock: Clock) -> None:
    refusals = RefusalLog(Metrics(), clock)

    with capture_logs() as told:
        refusals.note(letters(3))

    (line,) = told
    assert (line["reason"], line["count"]) == ("BAD_BODY", 3)
    assert (line["example"], line["detail"]) == ("agentops.tasks/2@0", "why")


def test_a_flood_is_one_line_a_minute_for_each_reason_and_loses_no_count(clock: Clock) -> None:
    metrics = Metrics()
    refusals = RefusalLog(metrics, clock)

    with capture_logs() as told:
        for _ in range(1800):
            clock.now += 0.1
            refusals.note(letters(10))
            refusals.note(letters(1, "FUTURE"))
        clock.now += QUIET_SECONDS
        refusals.tell()

    assert len(told) <= 2 * (180 / QUIET_SECONDS + 2)
    assert sum(line["count"] for line in told if line["reason"] == "BAD_BODY") == 18_000
    assert sum(line["count"] for line in told if line["reason"] == "FUTURE") == 1_800
    counted = metrics.registry.get_sample_value(
        "agentops_dead_letters_total", {"reason": "BAD_BODY"}
    )
    assert counted == pytest.approx(18_000)


def test_nothing_new_is_no_line(clock: Clock) -> None:
    refusals = RefusalLog(Metrics(), clock)
    refusals.note(letters(1))

    with capture_logs() as told:
        clock.now += 10 * QUIET_SECONDS
        refusals.tell()

    assert told == []
