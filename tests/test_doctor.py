from __future__ import annotations

import asyncio
import json
import time
import zlib
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.errors import TopicAuthorizationFailedError
from typer.testing import CliRunner

from streams import doctor, doctor_access, schemas
from streams.app import dataflow
from streams.catalog import SchemaCatalog
from streams.cli import app
from streams.diagnosis import Check, Diagnosis, Status
from streams.doctor import Doctor, bounded
from streams.doctor_access import Resource
from streams.failpoints import Failpoints
from streams.registry import RegistryClient
from streams.rules import RuleSet
from streams.settings import Settings
from streams.topics import TOPICS
from streams.units import Unit
from tests.worker_rig import REAL, Workers, producer, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from streams.local import LocalRegistry

OK, WARN, FAIL, SKIPPED = Status


async def examined(settings: Settings, *, probe: bool = False) -> list[Diagnosis]:
    return [one async for one in Doctor(settings, {}, probe=probe).examine()]


def of(found: list[Diagnosis], check: Check) -> list[Diagnosis]:
    return [one for one in found if one.check is check]


def statuses(found: list[Diagnosis]) -> dict[Check, set[Status]]:
    return {check: {one.status for one in of(found, check)} for check in Check}


async def look(settings: Settings, *checks: Check) -> list[Diagnosis]:
    found = await examined(settings)
    assert {one.check for one in found} == set(Check)
    return [one for one in found if one.check in checks]


def task(at: int, agent: str = "a") -> bytes:
    fields: dict[str, Any] = {
        "event_id": "e", "occurred_at": at, "agent_id": agent, "task_type": "t",
        "outcome": "AUTOMATED", "duration_ms": 1.0, "cost_usd": 0.0, "input_tokens": 1,
        "output_tokens": 1,
    }  # fmt: skip
    return schemas.encode("TaskFinished", fields)


@pytest.mark.broker
async def test_a_broker_with_topics_and_no_workers_yet_is_sound(topics: Settings) -> None:
    found = await examined(topics, probe=True)

    assert list(dict.fromkeys(one.check for one in found)) == list(Check)
    assert not [one for one in found if one.status is FAIL]
    expected = statuses(found)
    for check in (Check.SETTINGS, Check.BROKER, Check.TOPICS, Check.ACCESS, Check.BROKER_CLOCK):
        assert expected[check] == {OK}, of(found, check)
    assert "Kafka 4.1" in of(found, Check.BROKER)[0].found
    assert "no authorizer" in of(found, Check.ACCESS)[0].found
    assert expected[Check.REGISTRY] == expected[Check.PARTITIONER] == {SKIPPED}
    assert "agentops-streams worker" in str(of(found, Check.GROUP)[0])


@pytest.mark.broker
async def test_missing_topics_are_one_line_with_the_command_that_creates_them(
    settings: Settings,
) -> None:
    (missing,) = await look(settings, Check.TOPICS)

    assert missing.status is FAIL
    assert f"{len(TOPICS) - 3} more" in missing.found
    assert "topics create" in str(missing.cure)


async def test_no_broker_is_one_clear_line_and_the_rest_is_skipped() -> None:
    found = await examined(Settings(bootstrap_servers="127.0.0.1:1"))

    failures = [one for one in found if one.status is FAIL]
    assert [one.check for one in failures] == [Check.BROKER]
    assert "127.0.0.1:1" in failures[0].found
    assert all(one.status is SKIPPED for one in found[found.index(failures[0]) + 1 :])


async def test_a_server_that_is_no_broker_is_told_from_one_that_is_away() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    async with server:
        (found,) = await look(Settings(bootstrap_servers=f"127.0.0.1:{port}"), Check.BROKER)

    assert "no Kafka broker" in found.found


@pytest.mark.broker
async def test_fewer_brokers_than_replication_fail_with_both_cures(topics: Settings) -> None:
    wanting = topics.model_copy(update={"replication": 3})

    found = await look(wanting, Check.BROKER, Check.TOPICS)

    assert "replication is 3, brokers are 1" in found[0].found
    assert "AGENTOPS_REPLICATION" in str(found[0].cure)
    assert (found[-1].status, found[-1].check) == (WARN, Check.TOPICS)
    assert "1 copies" in found[-1].found


@pytest.mark.broker
async def test_clocks_and_keys_of_producers_are_read_from_their_records(topics: Settings) -> None:
    now = int(time.time() * 1000)
    async with producer(topics) as made:
        sends = [
            await made.send(topics.topic("tasks"), task(now), b"agent-%d" % n, timestamp_ms=now)
            for n in range(20)
        ]
        ahead = now + 60_000
        for key, value in ((b"ahead", task(ahead)), (None, task(now)), (b"odd", b"?")):
            sends.append(
                await made.send(
                    topics.topic("security"), value, key, partition=0, timestamp_ms=ahead
                )
            )
        future = task(now + 10**7)
        sends.append(await made.send(topics.topic("tasks"), future, b"f", timestamp_ms=now))
        await asyncio.gather(*sends)

    found = await look(topics, Check.PARTITIONER, Check.CLOCKS)

    told = {one.status: one for one in found if one.check is Check.CLOCKS}
    assert "'ahead' on" in told[WARN].found
    assert "'f' on" in told[FAIL].found
    assert "FUTURE" in str(told[FAIL].cure)
    keys = [str(one) for one in found if one.check is Check.PARTITIONER]
    assert any("1 of 3 records have no key" in line for line in keys), keys
    assert not any("tasks: " in line for line in keys), keys


@pytest.mark.broker
async def test_producers_of_librdkafka_are_told_by_where_their_keys_stand(
    topics: Settings,
) -> None:
    async with producer(topics) as made:
        for n in range(40):
            key = b"agent-%d" % n
            place = zlib.crc32(key) % topics.partitions
            await made.send(topics.topic("tasks"), b"?", key, partition=place)

    (found,) = await look(topics, Check.PARTITIONER)
    other = topics.model_copy(update={"partitioner": "crc32"})
    (fits,) = await look(other, Check.PARTITIONER)

    assert found.status is FAIL
    assert "all stand where crc32 does" in found.found
    assert "partitioner=murmur2_random" in str(found.cure)
    assert "AGENTOPS_PARTITIONER=crc32" in str(found.cure)
    assert (fits.status, "crc32" in fits.found) == (OK, True)


@pytest.mark.broker
async def test_entries_of_the_schemas_topic_that_are_no_schema_are_named(topics: Settings) -> None:
    good = schemas.get("TaskFinished")
    name = good.fingerprint.hex().encode()
    async with producer(topics) as made:
        for key, value in (
            (b"0123456789abcdef", b"{"),
            (b"0123456789abcdee", b"gone"),
            (b"0123456789abcdee", None),
            (name, json.dumps(good.raw).encode()),
        ):
            await made.send_and_wait(topics.topic("schemas"), value, key)

    found = await look(topics, Check.SCHEMAS)

    assert [one.status for one in found] == [WARN]
    assert "0123456789abcdef" in found[0].found


@pytest.mark.broker
async def test_workers_and_their_units_are_seen_and_left_alone(
    topics: Settings, tmp_path: Path
) -> None:
    async with producer(topics) as made:
        await made.send_and_wait(topics.topic("tasks"), task(int(time.time() * 1000)), b"a")
    workers = Workers(topics, REAL)
    try:
        workers.start(tmp_path)
        units = 2 * topics.partitions + 1  # detect and roll-up, and the incidents
        await wait_until(lambda: workers.log().count("unit.open ") == units, "units to open")
        before = await look(topics, Check.GROUP, Check.STATE)
        after = await look(topics, Check.GROUP, Check.STATE)
        log = workers.log()
    finally:
        workers.close()

    assert {one.status for one in after} <= {OK, WARN}, after
    assert f"all {units} units" in after[0].found, before
    assert "unit.reopening" not in log
    assert log.count("unit.open ") == units


@pytest.mark.broker
async def test_a_unit_that_stands_still_is_named_with_its_cure(topics: Settings) -> None:
    unit = {
        "version": 1, "epoch": 1, "partitions": topics.partitions, "topics": [], "positions": [],
        "stopped": "POSITION_OUTSIDE@1700000000000",
    }  # fmt: skip
    beyond = {
        **unit, "stopped": None, "topics": [topics.topic("tasks")], "positions": [7],
    }  # fmt: skip
    grown = {**unit, "stopped": None, "partitions": 12}
    async with producer(topics) as made:
        for partition, state in enumerate((unit, beyond, grown)):
            value = schemas.encode("UnitState", state)
            await made.send_and_wait(topics.topic("state"), value, b"unit", partition=partition)

    found = {one.found: str(one.cure) for one in await look(topics, Check.STATE)}

    assert list(found) == [
        "detect/0 stand still since 2023-11-14 22:13:20Z: POSITION_OUTSIDE.",
        "detect/1 would stop once opened: POSITION_OUTSIDE.",
        "detect/2 would stop once opened: PARTITIONS_CHANGED.",
    ]
    assert "--reset-state" in next(iter(found.values()))
    assert "AGENTOPS_PARTITIONS" in list(found.values())[2]


@pytest.mark.broker
async def test_versions_in_the_registry_that_no_worker_can_read_are_named(
    topics: Settings, registry: LocalRegistry
) -> None:
    settings = topics.model_copy(update={"registry_url": registry.url})
    subject = f"{topics.topic('tasks')}-value"
    foreign = {"type": "record", "name": "TaskFinished", "fields": [
        {"name": "event_id", "type": "long"}]}  # fmt: skip
    (before,) = await look(settings, Check.REGISTRY)
    async with RegistryClient(registry.url) as client:
        await client.register(subject, json.dumps(schemas.schema("TaskFinished")))
        await client.set_compatibility(subject, "NONE")
        await client.register(subject, json.dumps(foreign))

    found = await look(settings, Check.REGISTRY)

    subjects = len({one.record for one in TOPICS if one.record} - {"Control"})
    assert (before.status, f"0 of {subjects}" in before.found) == (OK, True)
    assert [one.status for one in found] == [WARN, WARN]
    assert "Version 2" in found[0].found
    assert "event_id" in found[0].found
    assert "compatibility NONE" in found[1].found


@pytest.mark.broker
async def test_a_registry_that_is_away_is_one_line(topics: Settings) -> None:
    settings = topics.model_copy(update={"registry_url": "http://127.0.0.1:1"})

    (found,) = await look(settings, Check.REGISTRY)

    assert found.status is FAIL
    assert "127.0.0.1:1" in found.found


async def test_a_check_that_breaks_says_so_and_raises_nothing() -> None:
    async def broken() -> list[Diagnosis]:
        raise RuntimeError("a bug")

    async def denied() -> list[Diagnosis]:
        raise TopicAuthorizationFailedError("tasks")

    found = [*await bounded(Check.TOPICS, broken), *await bounded(Check.CLOCKS, denied)]

    assert [one.status for one in found] == [FAIL, FAIL]
    assert "a bug" in found[0].found
    assert "report it" in str(found[0].cure)
    assert "ACCESS" in str(found[1].cure)


async def test_a_check_that_hangs_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECK_SECONDS", 0.05)

    async def endless() -> list[Diagnosis]:
        await asyncio.Event().wait()
        return []

    (found,) = await bounded(Check.GROUP, endless)

    assert found.status is FAIL
    assert "No answer within" in found.found


def test_a_unit_stands_for_its_transactional_id() -> None:
    settings = Settings(partitions=3, app_id="mine")
    stages = dataflow(settings, RuleSet.default(), SchemaCatalog(settings))
    around: Any = SimpleNamespace(settings=settings, failpoints=Failpoints())
    expected = {
        Unit(unit, stage, around)._transactional_id()
        for stage in stages
        for unit in stage.assignable().units()
    }

    wanted = doctor_access.needs(settings, stages)

    found = {one.name for one in wanted if one.resource is Resource.TRANSACTIONAL_ID}
    assert found == expected


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_settings_that_do_not_hold_are_one_line_and_the_rest_is_skipped(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    done = CliRunner().invoke(app, ["doctor", *options], env={"AGENTOPS_PARTITIONS": "many"})

    assert done.exit_code == 1
    if options:
        shown = [(one["check"], one["status"]) for one in json.loads(done.stdout)]
    else:
        shown = [(words[1], words[0]) for words in map(str.split, done.stdout.splitlines())]
    assert shown == [(check, FAIL if check == "SETTINGS" else SKIPPED) for check in Check]


@pytest.mark.broker
def test_the_exit_code_is_0_without_a_failure(
    topics: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = {
        "AGENTOPS_TOPIC_PREFIX": topics.topic_prefix,
        "AGENTOPS_APP_ID": topics.app_id,
        "AGENTOPS_PARTITIONS": str(topics.partitions),
    }

    done = CliRunner().invoke(app, ["doctor", "-b", topics.bootstrap_servers], env=env)

    assert done.exit_code == 0, done.output
    assert "topic_prefix from environment" in done.stdout
    assert done.stderr == ""
