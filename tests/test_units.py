"""Units on a real broker: exactly once through faults, and clear words where a unit must stop."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.epoch import EpochProducer
from streams.local import LocalBroker
from streams.provision import create_topics
from streams.settings import Settings
from streams.topics import TOPICS
from tests.worker_rig import (
    Workers,
    producer,
    read_counts,
    reader,
    send_numbered,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180)]


@pytest.fixture
def workers(settings: Settings) -> Iterator[Workers]:
    made = Workers(settings)
    yield made
    made.close()


async def test_every_record_is_counted_once(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    workers.start(tmp_path)
    await send_numbered(topics, 4000)
    await read_counts(topics, 4000)


async def test_a_second_worker_joins_and_leaves_and_nothing_is_lost_or_repeated(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    workers.start(tmp_path)
    await send_numbered(topics, 2000)
    await read_counts(topics, 2000)
    second = workers.start(tmp_path)
    await wait_until(lambda: "unit.open" in workers.log(1), "the second worker to own a unit")
    await send_numbered(topics, 2000, first=2000)
    second.send_signal(signal.SIGTERM)
    await send_numbered(topics, 2000, first=4000)
    await read_counts(topics, 6000)


async def test_a_killed_worker_is_replaced_exactly_where_it_was(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    first = workers.start(tmp_path)
    await wait_until(lambda: workers.log().count("unit.open") >= 4, "all units open")
    await send_numbered(topics, 20_000)
    first.kill()
    workers.start(tmp_path)
    await read_counts(topics, 20_000)


@pytest.mark.parametrize(
    "point", ["epoch.before_produce", "epoch.before_commit", "epoch.after_commit"]
)
async def test_a_kill_around_a_commit_loses_and_repeats_nothing(
    topics: Settings, workers: Workers, tmp_path: Path, point: str
) -> None:
    first = workers.start(tmp_path, AGENTOPS_FAILPOINTS=f"{point}=kill@2")
    await send_numbered(topics, 2000)
    await wait_until(lambda: first.poll() is not None, "the fail point to end the worker")
    workers.start(tmp_path)
    await read_counts(topics, 2000)


async def test_an_outside_fence_without_a_rebalance_heals(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    workers.start(tmp_path)
    await send_numbered(topics, 400)
    await read_counts(topics, 400)
    usurper = EpochProducer(topics, f"{topics.app_id}-detect-1")
    await usurper.start()
    await send_numbered(topics, 400, first=400)
    await read_counts(topics, 800)
    await usurper.discard()
    assert workers.running[0].poll() is None


async def test_sigterm_ends_a_worker_within_five_seconds_with_its_epoch_committed(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    worker = workers.start(tmp_path, AGENTOPS_EPOCH_INTERVAL="10")
    await wait_until(lambda: workers.log().count("unit.open") >= 4, "all units open")
    await send_numbered(topics, 400)
    async with reader(topics, "windows", topics.partitions) as read:
        await asyncio.sleep(1.0)  # the records are folded, and their epoch is nine seconds away
        assert not any((await read()).values())
        asked = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        await wait_until(lambda: worker.poll() is not None, "the worker to end", 10)
        assert time.monotonic() - asked < 5
        assert worker.returncode == 0
        assert sum(map(len, (await read()).values())) == 400


async def test_recovery_may_take_longer_than_every_timeout_of_the_group(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    workers.start(
        tmp_path,
        AGENTOPS_FAILPOINTS="open.before_read=sleep@15",
        AGENTOPS_REQUEST_TIMEOUT="6",
        AGENTOPS_REBALANCE_TIMEOUT="6",
    )
    await send_numbered(topics, 400)
    await read_counts(topics, 400)
    assert workers.log().count("unit.open") == topics.partitions


async def test_aborted_transactions_and_markers_in_the_input_are_left_out(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    workers.start(tmp_path)
    async with producer(topics, transactional_id=f"{topics.app_id}-input") as made:
        for round_ in range(6):
            await made.begin_transaction()
            for number in range(100):
                await made.send(topics.topic("tasks"), b"n%d" % number, partition=number % 4)
            await (made.abort_transaction() if round_ % 2 else made.commit_transaction())
    await read_counts(topics, 300)


async def test_a_recreated_topic_stops_its_partitions_with_a_finding(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    first = workers.start(tmp_path)
    await send_numbered(topics, 400)
    await read_counts(topics, 400)
    first.send_signal(signal.SIGTERM)
    await wait_until(lambda: first.poll() is not None, "the worker to end")
    await _recreate(topics, topics.topic("tasks"))
    again = workers.start(tmp_path)
    await wait_until(lambda: workers.log(1).count("unit.stopped") == 4, "all units to stop")
    assert "the topic was recreated" in workers.log(1)
    again.send_signal(signal.SIGTERM)
    workers.start(tmp_path)
    await wait_until(lambda: workers.log(2).count("unit.stopped") == 4, "them to stop again")
    async with reader(topics, "findings", 1) as read:
        while len(told := (await read())[0]) < 4:
            assert workers.running[-1].poll() is None
    assert len(told) == 4
    assert all(line.startswith(b"POSITION_OUTSIDE") for line in told)


async def test_a_stopped_partition_goes_on_when_told_to_and_says_so(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    first = workers.start(tmp_path)
    await send_numbered(topics, 400)
    await read_counts(topics, 400)
    first.send_signal(signal.SIGTERM)
    await wait_until(lambda: first.poll() is not None, "the worker to end")
    await _recreate(topics, topics.topic("tasks"))
    again = workers.start(tmp_path)
    async with reader(topics, "findings", 1) as read:
        while len((await read())[0]) < 4:
            assert again.poll() is None
        again.send_signal(signal.SIGTERM)
        workers.start(tmp_path, AGENTOPS_RESET_STATE="true")
        while len((await read())[0]) < 8:
            assert workers.running[-1].poll() is None
        told = (await read())[0]
    assert sorted(line.split()[-1] for line in told) == [b"resumed"] * 4 + [b"stopped"] * 4


async def test_lost_state_is_refused_while_the_group_remembers_a_position(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    first = workers.start(tmp_path, AGENTOPS_GROUP_COMMIT_INTERVAL="0.1")
    await send_numbered(topics, 400)
    await read_counts(topics, 400)
    await asyncio.sleep(1.0)  # one more commit of the group's offsets
    first.send_signal(signal.SIGTERM)
    await wait_until(lambda: first.poll() is not None, "the worker to end")
    await _recreate(topics, topics.topic("state"))
    workers.start(tmp_path)
    await wait_until(lambda: workers.log(1).count("STATE_MISSING") == 4, "all units to refuse")
    assert "--reset-state" in workers.log(1)


async def test_a_record_the_broker_refuses_heals_when_the_topic_accepts_it(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    workers.start(tmp_path)
    await wait_until(lambda: workers.log().count("unit.open") >= 4, "all units open")
    await _set_max_bytes(topics, topics.topic("windows"), 100)
    await send_numbered(topics, 400)
    await wait_until(lambda: "unit.reopening" in workers.log(), "the epoch to be refused")
    await _set_max_bytes(topics, topics.topic("windows"), 1_048_588)
    await read_counts(topics, 400)


async def test_an_epoch_with_an_oversize_record_is_kept_until_the_topic_accepts_it(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    await _set_max_bytes(topics, topics.topic("windows"), 100)
    await send_numbered(topics, 400)
    first = workers.start(tmp_path)
    await wait_until(lambda: workers.log().count("OVERSIZE_RECORD") == 4, "all units to stop")
    async with reader(topics, "findings", 1) as read:
        while len((await read())[0]) < 4:
            assert first.poll() is None
    first.send_signal(signal.SIGTERM)
    await _set_max_bytes(topics, topics.topic("windows"), 1_048_588)
    workers.start(tmp_path)
    await read_counts(topics, 400)


async def test_a_changed_partition_count_is_refused_each_time(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    first = workers.start(tmp_path)
    await send_numbered(topics, 400)
    await read_counts(topics, 400)
    first.send_signal(signal.SIGTERM)
    await wait_until(lambda: first.poll() is not None, "the worker to end")
    await _grow(topics, 5)
    for attempt in (1, 2):
        worker = workers.start(tmp_path, AGENTOPS_PARTITIONS="5")
        await wait_until(
            lambda at=attempt: workers.log(at).count("PARTITIONS_CHANGED") == 4,  # type: ignore[misc]
            "all old units to refuse",
        )
        worker.send_signal(signal.SIGTERM)
        await wait_until(lambda one=worker: one.poll() is not None, "the worker to end")  # type: ignore[misc]
    assert "unit=detect/0" not in "".join(
        line for line in workers.log(2).splitlines() if "unit.open" in line
    )


async def test_unequal_partition_counts_are_refused_with_the_topic_named(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    await _recreate(topics, topics.topic("calls"), partitions=3)
    worker = workers.start(tmp_path)
    await wait_until(lambda: worker.poll() is not None, "the worker to refuse")
    assert worker.returncode != 0
    assert topics.topic("calls") in workers.log()


async def test_a_worker_started_before_its_broker_waits(tmp_path: Path) -> None:
    with LocalBroker() as broker:
        settings = Settings(bootstrap_servers=broker.bootstrap, partitions=4)
        await create_topics(settings)
        broker.kill()
        workers = Workers(settings)
        try:
            worker = workers.start(tmp_path)
            await wait_until(lambda: "broker.waiting" in workers.log(), "the worker to wait")
            broker.restart()
            await send_numbered(settings, 400)
            await read_counts(settings, 400)
            assert worker.poll() is None
        finally:
            workers.close()


async def _recreate(settings: Settings, topic: str, partitions: int | None = None) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        deadline = time.monotonic() + 20
        while topic in await admin.list_topics():
            assert time.monotonic() < deadline, f"{topic} was not deleted"
        await admin.create_topics([NewTopic(topic, partitions or settings.partitions, 1)])
        if topic.endswith("state"):
            await _set_policy(admin, topic)
    finally:
        await admin.close()


async def _set_policy(admin: AIOKafkaAdminClient, topic: str) -> None:
    config = {"cleanup.policy": "compact", "max.message.bytes": str(8 * 1_048_576)}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])


async def _set_max_bytes(settings: Settings, topic: str, limit: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        config = {"cleanup.policy": "compact,delete", "max.message.bytes": str(limit)}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, config)])
    finally:
        await admin.close()


async def _grow(settings: Settings, partitions: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        names = [spec.name(settings.topic_prefix) for spec in TOPICS if spec.partitions == "N"]
        await admin.create_partitions({name: NewPartitions(partitions) for name in names})
        deadline = time.monotonic() + 20
        while min(len(t["partitions"]) for t in await admin.describe_topics(names)) < partitions:
            assert time.monotonic() < deadline, "the topics did not grow"
            await asyncio.sleep(0.1)
    finally:
        await admin.close()
