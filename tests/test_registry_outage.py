"""A worker beside a schema registry that is away at the start, in the middle, and back again."""

from __future__ import annotations

import asyncio
import json
import re
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streams import schemas
from streams.keys import Keys
from streams.local_registry import LocalRegistry
from streams.registry import RegistryClient
from tests.test_metrics import free_port
from tests.worker_rig import DEADLINE, REAL, Workers, producer, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streams.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(240)]

HOUR = 3_600_000
AT = 1_767_225_600_000


class Bench:
    """One worker, its registry and what is sent to it."""

    def __init__(self, settings: Settings, registry: LocalRegistry, folder: Path) -> None:
        self.settings = settings
        self.registry = registry
        self.metrics = f"127.0.0.1:{free_port()}"
        self.workers = Workers(settings, REAL)
        self.folder = folder
        keys = Keys(settings.partitions)
        names = [f"agent-{number}" for number in range(200)]
        self.agents = [
            next(name for name in names if keys.place(name.encode()) == partition)
            for partition in range(settings.partitions)
        ]

    def start_worker(self, url: str) -> None:
        self.workers.start(self.folder, AGENTOPS_REGISTRY_URL=url, AGENTOPS_METRICS=self.metrics)

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as answer:
            page = answer.read().decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
        assert found, f"{name} is not in {page}"
        return float(found[1])

    def lines(self, event: str) -> int:
        return self.workers.log().count(event)

    async def register(self, schema: schemas.Schema) -> bytes:
        async with RegistryClient(self.registry.url) as client:
            subject = f"{self.settings.topic('tasks')}-value"
            return schemas.registry_frame(await client.register(subject, json.dumps(schema.raw)))

    async def send(self, partition: int, count: int, body: Body, at: int = AT) -> None:
        async with producer(self.settings) as made:
            for number in range(count):
                agent = self.agents[partition]
                value = body(agent, at + number)
                await made.send(
                    self.settings.topic("tasks"), value, key=agent.encode(), partition=partition
                )


class Body:
    """Makes values of one writer schema."""

    def __init__(self, schema: schemas.Schema, frame: bytes | None = None) -> None:
        self.schema = schema
        self.frame = frame

    def __call__(self, agent: str, at: int) -> bytes:
        return self.schema.write(a_task(agent, at, self.schema), self.frame)


def a_task(agent: str, at: int, schema: schemas.Schema) -> dict[str, Any]:
    record = {
        "event_id": f"e{at}",
        "occurred_at": at,
        "agent_id": agent,
        "task_type": "t",
        "outcome": "AUTOMATED",
        "duration_ms": 1.0,
        "cost_usd": 0.5,
        "input_tokens": 1,
        "output_tokens": 1,
    }
    added = {field["name"] for field in schema.raw["fields"]} - {
        field["name"] for field in schemas.schema("TaskFinished")["fields"]
    }
    return record | dict.fromkeys(added, "new")


def version(*extra: str, without: tuple[str, ...] = ()) -> schemas.Schema:
    raw = schemas.schema("TaskFinished")
    fields = [field for field in raw["fields"] if field["name"] not in without]
    added = [{"name": name, "type": ["null", "string"], "default": None} for name in extra]
    return schemas.build({**raw, "fields": fields + added})


@pytest.fixture
def bench(topics: Settings, tmp_path: Path) -> Iterator[Bench]:
    with LocalRegistry(tmp_path / "registry") as registry:
        made = Bench(topics, registry, tmp_path)
        yield made
        made.workers.close()


async def automated(settings: Settings, total: int) -> dict[str, int]:
    """Return the automated tasks of all windows by agent, once there are so many."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
    )
    newest: dict[bytes, tuple[str, int]] = {}
    deadline = time.monotonic() + DEADLINE
    await consumer.start()
    try:
        consumer.assign(
            [TopicPartition(settings.topic("windows"), p) for p in range(settings.partitions)]
        )
        await consumer.seek_to_beginning()
        while sum(count for _, count in newest.values()) < total:
            assert time.monotonic() < deadline, f"only {newest}"
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    assert record.value[:1] == b"\0", "written in the registry's framing"
                    window = schemas.get("Window").read(record.value[schemas.REGISTRY_FRAME :])
                    if window["series"] == "TASKS":
                        newest[record.key] = window["agent_id"], window["automated"]
    finally:
        await consumer.stop()
    counts: dict[str, int] = {}
    for agent, count in newest.values():
        counts[agent] = counts.get(agent, 0) + count
    return counts


async def ends(settings: Settings, suffix: str) -> int:
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers)
    await consumer.start()
    try:
        tps = [TopicPartition(settings.topic(suffix), p) for p in range(settings.partitions)]
        return sum((await consumer.end_offsets(tps)).values())
    finally:
        await consumer.stop()


async def test_nothing_is_lost_while_the_registry_is_away_and_people_are_told_once(
    bench: Bench,
) -> None:
    older, newer = version(without=("cached_tokens",)), version("extra")
    first = Body(older, await bench.register(older))
    second = Body(newer, await bench.register(newer))
    single = Body(schemas.get("TaskFinished"))
    url = bench.registry.url

    bench.registry.kill()
    bench.start_worker(url)
    await wait_until(lambda: bench.lines("registry.waiting") == 1, "the worker to wait")
    assert bench.metric("agentops_registry_up") == pytest.approx(0)
    await bench.send(0, 10, first)
    await asyncio.to_thread(bench.registry.restart)
    await wait_until(lambda: bench.lines("unit.open") >= 5, "the units to open")
    await wait_until(
        lambda: bench.metric('agentops_schema_look_ups_total{outcome="FOUND"}') >= 1,
        "the first schema to be looked up",
    )
    # The look-up read the whole subject, so the second schema is known as well; a third is not.
    third_schema = version("extra", "more")
    third = Body(third_schema, await bench.register(third_schema))
    bench.registry.kill()

    await bench.send(1, 7, third)
    await bench.send(1, 5, single)
    await wait_until(
        lambda: bench.metric('agentops_held_partitions{reason="SCHEMA"}') == 1, "a held partition"
    )
    await bench.send(0, 3, second, AT + 100)
    await bench.send(0, 1, first, AT + 3 * HOUR)
    assert (await automated(bench.settings, 13))[bench.agents[0]] == 13
    assert bench.metric("agentops_registry_up") == pytest.approx(0)
    assert bench.lines("schemas.source_away") == 1

    await asyncio.to_thread(bench.registry.restart)
    await bench.send(1, 1, single, AT + 3 * HOUR)
    counts = await automated(bench.settings, 25)
    assert counts == {bench.agents[0]: 13, bench.agents[1]: 12}
    assert bench.metric('agentops_held_partitions{reason="SCHEMA"}') == pytest.approx(0)
    assert bench.metric("agentops_registry_up") == pytest.approx(1)
    assert bench.lines("registry.waiting") == bench.lines("schemas.source_away") == 1
    assert bench.lines("schemas.source_back") == 1
    assert await ends(bench.settings, "dead-letters") == 0
    assert bench.lines("unit.reopening") == 0
