"""One run of the fuzzing proof: hostile records on a real broker, two real workers, a verdict.

The real worker reads while the records are produced, so its fetches are of every size; the echo
worker starts when all are there and reads as fast as it can. Both must come to the ends of the
topics in one life each.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.structs import TopicPartition

from load import versions
from load.echo_worker import ECHO, ECHO_STATE
from load.fuzz_judge import Findings, Judge, Said
from load.fuzz_sender import send
from load.lanes import Lane
from load.logs import read
from load.reference import RECORDS, Reference
from load.watched_worker import WatchedWorker
from streams.provision import create_topics
from streams.registry import RegistryClient
from streams.settings import LOCAL_PARTITIONS, Settings
from streams.topics import topic

if TYPE_CHECKING:
    from pathlib import Path

    from load.reference import Record
    from load.versions import Version
    from load.watched_worker import Ends

PARTITIONS = LOCAL_PARTITIONS
ECHO_COMMAND = ("-m", "load.echo_worker")
SECURITY_SHARE = 0.2
MOST_IDS = 64
"""Ids of a registry that are asked for; it counts from 1."""
_LARGE = str(16 * 1024 * 1024)


@dataclass(frozen=True, slots=True)
class Size:
    """How large a run is, and what bounds its workers.

    Attributes:
        values: fuzzed records.
        good: good records, beside one for each series.
        max_series: bound on series of a partition.
        resident_mib: most memory a worker may take.
        together: both workers at once, to save time.
    """

    values: int
    good: int
    max_series: int = 3_000
    resident_mib: int = 1_024
    together: bool = False


@dataclass(slots=True)
class Report:
    """What a run found.

    Attributes:
        findings: the judge's.
        problems: whatever else must not be.
        facts: numbers for people.
    """

    findings: Findings = field(default_factory=Findings)
    problems: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def red(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.problems or self.findings.kinds)


class FuzzRun:
    """One run against a broker that is there.

    Args:
        bootstrap: the broker.
        seed: seed of all records.
        size: how many.
        folder: where logs go.
        prefix: topic prefix; no such topics may exist.
        registry_url: a schema registry; some values are framed by its ids then.
    """

    def __init__(
        self,
        bootstrap: str,
        seed: int,
        size: Size,
        folder: Path,
        *,
        prefix: str = "agentops.",
        registry_url: str | None = None,
    ) -> None:
        self.report = Report()
        self._seed, self._size, self._folder, self._prefix = seed, size, folder, prefix
        self._settings = Settings(
            bootstrap_servers=bootstrap,
            topic_prefix=prefix,
            partitions=PARTITIONS,
            app_id=f"{prefix.rstrip('.')}-fuzz",
            max_series=size.max_series,
            idle_after=0,
            registry_url=registry_url,
        )
        makers = versions.current, versions.older, versions.newer
        self._versions = {stream: [make(stream) for make in makers] for stream in RECORDS}
        self._hostile = {stream: [versions.hostile(stream)] for stream in RECORDS}

    async def run(self) -> Report:
        """Send, let both workers read, judge; every process is ended again."""
        await self._create_topics()
        await self._publish()
        await self._register()
        self._lanes = [self._lane(p, stream) for p in range(PARTITIONS) for stream in RECORDS]
        real = WatchedWorker(self._settings, "state", self._folder / "worker")
        settings = self._settings.model_copy(update={"app_id": f"{self._settings.app_id}-echo"})
        echo = WatchedWorker(settings, ECHO_STATE, self._folder / "echo", ECHO_COMMAND)
        async with AsyncExitStack() as beside:
            if self._size.together:
                await beside.enter_async_context(echo)
            async with real:
                ends = await self._send()
                await real.reach(ends)
            if not self._size.together:
                await beside.enter_async_context(echo)
            await echo.reach(ends)
        self._note("worker", real)
        self._note("echo worker", echo)
        if not self.report.problems:
            began = time.monotonic()
            await self._judge()
            self.report.facts["seconds to judge"] = round(time.monotonic() - began, 1)
        return self.report

    async def _send(self) -> Ends:
        began = time.monotonic()
        ends = await send(self._settings.bootstrap_servers, self._prefix, self._lanes)
        self.report.facts["records"] = sum(ends.values())
        self.report.facts["seconds of production"] = round(time.monotonic() - began, 1)
        return ends

    # -- before ------------------------------------------------------------------------------

    def _lane(self, partition: int, stream: str) -> Lane:
        def part(count: int) -> int:
            of_stream = round(count * SECURITY_SHARE)
            of_stream = of_stream if stream == "security" else count - of_stream
            return of_stream // PARTITIONS + (partition < of_stream % PARTITIONS)

        return Lane(
            seed=self._seed,
            stream=stream,
            partition=partition,
            partitions=PARTITIONS,
            values=part(self._size.values),
            good=part(self._size.good),
            versions=tuple(self._versions[stream]),
            hostile=tuple(self._hostile[stream]),
        )

    async def _create_topics(self) -> None:
        """Create all topics; the inputs are of a day long past and must not be deleted for it."""
        inputs = {name: dict(topic(name).config) | {"retention.ms": "-1"} for name in RECORDS}
        echo = {ECHO: {"max.message.bytes": _LARGE}, ECHO_STATE: {"cleanup.policy": "compact"}}
        admin = AIOKafkaAdminClient(bootstrap_servers=self._settings.bootstrap_servers)
        await admin.start()
        try:
            await admin.create_topics(
                [
                    NewTopic(self._prefix + name, PARTITIONS, 1, topic_configs=config)
                    for name, config in (inputs | echo).items()
                ]
            )
        finally:
            await admin.close()
        await create_topics(self._settings)

    async def _publish(self) -> None:
        """Make the schemas known that are not built in, before the first record."""
        producer = AIOKafkaProducer(bootstrap_servers=self._settings.bootstrap_servers, acks="all")
        await producer.start()
        try:
            for version in self._written():
                await producer.send_and_wait(
                    self._settings.topic("schemas"),
                    key=version.frame[2:].hex().encode(),
                    value=json.dumps(version.raw).encode(),
                )
        finally:
            await producer.stop()

    async def _register(self) -> None:
        """Have values in the registry's framing as well, if there is one."""
        if self._settings.registry_url is None:
            return
        async with RegistryClient.of(self._settings) as registry:
            for stream in RECORDS:
                subject = f"{self._settings.topic(stream)}-value"
                for every in (self._versions[stream], self._hostile[stream]):
                    for version in list(every):
                        number = await registry.register(subject, json.dumps(version.raw))
                        # Only now there is a subject to have no rule.
                        await registry.set_compatibility(subject, "NONE")
                        every.append(version.framed(b"\0" + number.to_bytes(4, "big")))

    async def _registered(self) -> list[tuple[bytes, Record]]:
        """Return every schema that the registry has by now, with its frame."""
        if self._settings.registry_url is None:
            return []
        found: list[tuple[bytes, Record]] = []
        async with RegistryClient.of(self._settings) as registry:
            for number in range(MOST_IDS):
                raw = await registry.schema(number)
                found += [(b"\0" + number.to_bytes(4, "big"), json.loads(raw))] if raw else []
        return found

    def _written(self) -> list[Version]:
        """Return all versions that records are written with."""
        every = [*self._versions.values(), *self._hostile.values()]
        return [version for some in every for version in some]

    # -- after -------------------------------------------------------------------------------

    def _note(self, name: str, worker: WatchedWorker) -> None:
        """Write down how a worker did."""
        facts = self.report.facts
        facts[f"{name}, records/s"] = round(facts["records"] / worker.seconds)
        facts[f"{name}, CPU s per million"] = round(worker.cpu_seconds / facts["records"] * 1e6, 1)
        facts[f"{name}, peak MiB"] = worker.peak_mib
        self.report.problems += [f"{name}: {problem}" for problem in worker.problems]
        if worker.peak_mib > self._size.resident_mib:
            text = f"{name}: {worker.peak_mib} MiB, more than {self._size.resident_mib}"
            self.report.problems.append(text)

    async def _judge(self) -> None:
        """Judge one partition after the other, so that only one is in memory."""
        others = [(version.frame, version.raw) for version in self._written()]
        others += await self._registered()
        reference = Reference(PARTITIONS, self._settings.max_value_bytes, others)
        judge = Judge(reference, self._size.max_series, self._prefix)
        for p in range(PARTITIONS):
            said = Said()
            outputs = [
                TopicPartition(self._prefix + name, p) for name in ("dead-letters", "windows", ECHO)
            ]
            async for log in read(self._settings.bootstrap_servers, outputs):
                said.take(log, self._prefix, judge.findings)
            lanes = [lane for lane in self._lanes if lane.partition == p]
            await asyncio.to_thread(judge.partition, lanes, said)
        self.report.findings = judge.findings
