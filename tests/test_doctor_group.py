from __future__ import annotations

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, GroupCoordinatorNotAvailableError
from aiokafka.structs import TopicPartition

from streams.diagnosis import Status
from streams.doctor_group import Group, Waiting, judge, judge_error
from streams.stage import Stage

NOW = 1_767_225_600_000
TOPICS = ("tasks", "security")
STAGE = Stage("detect", TOPICS, TOPICS, (), "state", 4, lambda _: pytest.fail("no core is made"))


def held(*partitions: int) -> list[TopicPartition]:
    return [TopicPartition(topic, p) for topic in TOPICS for p in partitions]


def test_workers_that_have_every_unit_are_fine() -> None:
    group = Group("Stable", {"one": held(0, 1), "two": held(2, 3)}, {})

    (said,) = judge(group, [STAGE], {}, NOW)

    assert (said.status, said.found[:27]) == (Status.OK, "2 workers with all 4 units,")


def test_units_that_nobody_has_whole_are_named() -> None:
    group = Group("Stable", {"one": [*held(0, 1), TopicPartition("tasks", 3)]}, {})

    (said,) = judge(group, [STAGE], {}, NOW)

    assert said.status is Status.FAIL
    assert "No worker has detect/2, detect/3, though 1 are in the group (one)" in said.found


def test_a_group_without_workers_or_in_a_rebalance_is_only_odd() -> None:
    empty = judge(Group("Empty", {}, {}), [STAGE], {}, NOW)
    moving = judge(Group("PreparingRebalance", {"one": []}, {}), [STAGE], {}, NOW)

    assert [one.status for one in empty + moving] == [Status.WARN, Status.WARN]
    assert "agentops-streams worker" in str(empty[0].cure)


def test_records_that_wait_for_long_are_told_with_the_worst_place() -> None:
    group = Group("Stable", {"one": held(0, 1, 2, 3)}, {})
    waiting = {
        TopicPartition("tasks", 0): Waiting(5, NOW - 59_000),
        TopicPartition("tasks", 1): Waiting(7, NOW - 61_000),
        TopicPartition("tasks", 2): Waiting(11, NOW - 600_000),
        TopicPartition("tasks", 3): Waiting(1, None),
    }

    (said,) = judge(group, [STAGE], waiting, NOW)

    assert said.status is Status.WARN
    assert "18 offsets of 2 partitions" in said.found
    assert "tasks[2]: the next record there was sent 600 s ago" in said.found


def test_a_group_that_may_not_be_described_is_told_from_one_without_coordinator() -> None:
    assert judge_error(GroupAuthorizationFailedError()).status is Status.SKIPPED
    assert judge_error(GroupCoordinatorNotAvailableError()).status is Status.FAIL
