from __future__ import annotations

import pytest

from streams.diagnosis import Status
from streams.doctor_clocks import BrokerClock, judge_brokers, judge_producers
from streams.doctor_samples import Sampled

NOW = 1_767_225_600_000
SECOND, MINUTE = 1000, 60_000


def sample(timestamp: int, key: bytes | None = b"a", partition: int = 0, lead: int = 0) -> Sampled:
    return Sampled("tasks", partition, key, timestamp, timestamp + lead)


def test_clocks_that_agree_are_fine_and_the_age_of_the_newest_is_told() -> None:
    (said,) = judge_producers([sample(NOW - 3 * SECOND, lead=-2 * SECOND)], NOW)

    assert said.status is Status.OK
    assert "newest is 3.0 s old, sent 2.0 s after the event" in said.found


@pytest.mark.parametrize(
    ("ahead", "status"),
    [(5 * SECOND, Status.OK), (6 * SECOND, Status.WARN), (6 * MINUTE, Status.FAIL)],
)
def test_a_producer_ahead_of_this_machine_is_named(ahead: int, status: Status) -> None:
    (said,) = judge_producers([sample(NOW), sample(NOW + ahead, b"fast")], NOW)

    assert said.status is status
    assert status is Status.OK or "'fast' on tasks" in said.found


def test_a_producer_behind_the_others_of_its_partition_is_named() -> None:
    behind = sample(NOW - 10 * MINUTE, b"slow", partition=1)
    rows = [sample(NOW - 10 * MINUTE), sample(NOW), sample(NOW, partition=1), behind]

    (said,) = judge_producers(rows, NOW)

    assert said.status is Status.WARN
    assert "'slow' on tasks sent records up to 10.0 min older" in said.found


def test_events_that_will_be_refused_as_future_fail() -> None:
    (said,) = judge_producers([sample(NOW, b"odd", lead=6 * MINUTE)], NOW)

    assert said.status is Status.FAIL
    assert "FUTURE" in str(said.cure)


def test_no_records_are_nothing_to_judge() -> None:
    assert [one.status for one in judge_producers([], NOW)] == [Status.SKIPPED]


@pytest.mark.parametrize(
    ("clock", "status"),
    [
        (BrokerClock(-900, 5), Status.OK),
        (BrokerClock(6 * SECOND, 2 * SECOND), Status.OK),
        (BrokerClock(-6 * SECOND, 100), Status.WARN),
        (BrokerClock(6 * MINUTE, 100), Status.FAIL),
    ],
)
def test_a_broker_is_judged_by_what_its_answer_proves(clock: BrokerClock, status: Status) -> None:
    (said,) = judge_brokers({7: clock})

    assert said.status is status
    assert status is Status.OK or "Broker 7" in said.found
