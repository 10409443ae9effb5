"""One run of the exactly-once proof: events, breakage, and the verdict over the logs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from load.dialects import Dialects
from load.differences import compare
from load.logs import Positions, Writer, ends, read
from load.proof import Expected, Outputs, RefusedError, expect, read_outputs
from load.report import Report
from load.schedule import Size, schedule
from load.stillness import Stillness
from load.traffic import Traffic
from load.trouble import SESSION_SECONDS, HopelessError, Trouble
from load.workers import OPENED, REOPENING, Crew
from load.writers import collect, register
from streams.local import LocalBroker, LocalRegistry
from streams.provision import create_topics
from streams.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


PARTITIONS = 8
PREFIX = "agentops."
GRACE_SECONDS = SESSION_SECONDS + 4.0
"""How long the group may take to move on after something was done to it."""
CALM_SECONDS = 4.0
"""No epoch for so long at the end of all inputs: the workers are done."""
SETTLE_SECONDS = 120.0
WARM_UP_CHUNKS = 12
"""Hours of events before anything breaks."""
WARM_UP_SECONDS = 45.0
LEARNED, WITHOUT_REGISTRY = "schemas.learned", ("schemas.source_away", "registry.waiting")
"""What a worker's log holds when it came to know a schema, and when it found nobody to ask."""


class Run:
    """One run against one broker.

    Args:
        seed: seed of events and of what is done to the workers.
        size: how large.
        failpoints: fail points of all workers, for the self-test.
        folder: where logs and the report go.
    """

    def __init__(
        self, seed: int, size: Size, folder: Path, failpoints: tuple[str, ...] = ()
    ) -> None:
        self.report = Report()
        self._size, self._folder = size, folder
        self._steps = schedule(seed, size)
        self._seed = seed
        self._broker = LocalBroker()
        self._registry = LocalRegistry() if size.registry_kills else None
        self._failpoints = failpoints
        self._warm, self._produced = asyncio.Event(), asyncio.Event()

    def start(self) -> Report:
        """Run it; everything started is ended again."""
        began = time.monotonic()
        servers = [self._broker, *([self._registry] if self._registry else [])]
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda server: server.start(), servers))
            self._traffic = self._make_traffic()
            asyncio.run(self._run())
        finally:
            for server in servers:
                server.stop()
        self.report.facts["seconds"] = round(time.monotonic() - began)
        self.report.save(self._folder)
        return self.report

    def _make_traffic(self) -> Traffic:
        size, dialects = self._size, None
        if (registry := self._registry) is not None:
            dialects = Dialects(size.days, lambda *schema: register(registry.url, *schema))
            self.report.facts["schemas that producers write with"] = len(dialects.versions)
        return Traffic(
            self._seed,
            partitions=PARTITIONS,
            agents=size.agents,
            days=size.days,
            tasks=size.tasks,
            dialects=dialects,
        )

    async def _run(self) -> None:
        settings = Settings(
            bootstrap_servers=self._broker.bootstrap, topic_prefix=PREFIX, partitions=PARTITIONS
        )
        await create_topics(settings)
        self._crew = Crew(self._environment(), self._folder, self._failpoints)
        self._positions = Positions(self._broker.bootstrap, _on("state", "incidents-state"))
        following = asyncio.create_task(self._positions.follow())
        self._still = Stillness(
            self._broker.bootstrap,
            _on("tasks", "security"),
            self._positions,
            self._crew,
            GRACE_SECONDS,
        )
        watching = asyncio.create_task(self._still.watch(self.report.blame))
        servers = self._broker, self._registry
        trouble = Trouble(self._seed, servers, self._crew, self._still, self.report)
        try:
            self._crew.start()
            self._crew.start()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._produce())
                group.create_task(self._break_things(trouble))
            await self._settle()
        except* HopelessError as hopeless:
            self.report.problems += [str(error) for error in hopeless.exceptions]
        finally:
            for task in (following, watching):
                if task.done():
                    self.report.problems.append(f"the watch itself ended: {task.exception()!r}")
            for task in (following, watching):
                task.cancel()
            trouble.stop()
            self.report.problems += self._crew.surprises()
            self.report.problems += await asyncio.to_thread(self._crew.end)
            self.report.problems += self._crew.worries()
            self._count()
        await self._judge()

    def _count(self) -> None:
        """Write down what the workers' logs hold."""
        facts, crew = self.report.facts, self._crew
        self.report.done["workers started"] = len(crew.workers)
        facts["looks at partitions, and in calm"] = [
            self._still.looks * PARTITIONS,
            self._still.armed,
        ]
        facts["units opened"] = crew.count(OPENED)
        facts["units opened again after an error"] = crew.count(REOPENING)
        facts["tracebacks in logs"] = crew.count("Traceback")
        if self._registry is not None:
            away = sum(crew.count(event) for event in WITHOUT_REGISTRY)
            facts["schemas learned, by all workers"] = crew.count(LEARNED)
            facts["times nobody could be asked"] = away
            if not away:
                self.report.problems.append("no worker noticed that the registry was away")

    def _environment(self) -> dict[str, str]:
        registry = {"AGENTOPS_REGISTRY_URL": self._registry.url} if self._registry else {}
        return registry | {
            "AGENTOPS_BOOTSTRAP_SERVERS": self._broker.bootstrap,
            "AGENTOPS_TOPIC_PREFIX": PREFIX,
            "AGENTOPS_PARTITIONS": str(PARTITIONS),
            "AGENTOPS_IDLE_AFTER": "0",
            "AGENTOPS_MAX_SERIES": str(self._traffic.max_series),
            "AGENTOPS_SESSION_TIMEOUT": str(SESSION_SECONDS),
            "AGENTOPS_TRANSACTION_TIMEOUT": "15",
        }

    # ---- events

    async def _produce(self) -> None:
        """Send all chunks, spread over the time there is."""
        writer = Writer(self._broker.bootstrap)
        began = time.monotonic()
        try:
            for number, chunk in enumerate(self._traffic.chunks()):
                if number == WARM_UP_CHUNKS:
                    await self._warm_up()
                    began = time.monotonic()
                elif number > WARM_UP_CHUNKS and not self._size.burst:
                    due = began + self._size.seconds * number / self._traffic.hours
                    await asyncio.sleep(max(0.0, due - time.monotonic()))
                await writer.send(chunk.schemas)
                await writer.send(chunk.security)
                await writer.send(chunk.tasks)
        finally:
            await writer.close()
        self.report.facts["records sent"] = writer.sent
        self.report.facts["sends repeated"] = writer.retries
        self.report.facts["seconds of production"] = round(time.monotonic() - began)
        self.report.note("all events are sent")
        self._produced.set()

    async def _warm_up(self) -> None:
        """Wait until the workers have committed something; then things may break."""
        deadline = time.monotonic() + WARM_UP_SECONDS
        while not self._positions.epochs and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        self.report.note("things may break now")
        self._warm.set()

    async def _break_things(self, trouble: Trouble) -> None:
        await self._warm.wait()
        await trouble.make(self._steps, self._produced)

    # ---- the end

    async def _settle(self) -> None:
        """Wait until all units are at the ends of their inputs and nothing more is committed."""
        began = time.monotonic()
        waited: list[str] = ["nothing looked at"]
        while waited and time.monotonic() - began < SETTLE_SECONDS:
            await asyncio.sleep(0.5)
            with suppress(KafkaError, OSError):
                waited = await self._waited_for()
        self.report.facts["seconds to settle"] = round(time.monotonic() - began)
        self.report.problems += [f"not settled: {each}" for each in waited]

    async def _waited_for(self) -> list[str]:
        bootstrap, at = self._broker.bootstrap, self._positions.at
        inputs, outputs = _on("tasks", "security"), _on("findings", "alerts")
        end = await ends(bootstrap, inputs, committed=True)
        found = [f"{tp} at {at.get(tp)} of {end[tp]}" for tp in inputs if at.get(tp, 0) < end[tp]]
        if found:
            return found
        committed = await ends(bootstrap, outputs, committed=True)
        written = await ends(bootstrap, outputs, committed=False)
        if committed != written:
            return ["an open transaction"]
        newest = max(self._positions.moved_at.values(), default=0.0)
        if time.monotonic() - newest < CALM_SECONDS:
            return [f"an epoch within {CALM_SECONDS:.0f} s"]
        return []

    # ---- the verdict

    async def _judge(self) -> None:
        bootstrap = self._broker.bootstrap
        published = [log async for log in read(bootstrap, _on("schemas"))]
        logs = [log async for log in read(bootstrap, _on("tasks", "security"))]
        said = [
            log
            async for log in read(bootstrap, _on("findings", "alerts", "windows", "dead-letters"))
        ]
        url = self._registry.url if self._registry else None
        writers = await asyncio.to_thread(collect, published, [*logs, *said], url)
        expected = await asyncio.to_thread(
            expect,
            logs,
            partitions=PARTITIONS,
            max_series=self._traffic.max_series,
            prefix=PREFIX,
            writers=writers,
        )
        try:
            actual = read_outputs(said, partitions=PARTITIONS, prefix=PREFIX, writers=writers)
        except (RefusedError, KeyError) as error:
            self.report.problems.append(f"an output is none: {error!r}")
            return
        self.report.differences = compare(expected.outputs, actual)
        self._state_facts(expected, actual)

    def _state_facts(self, expected: Expected, actual: dict[int, Outputs]) -> None:
        facts = self.report.facts
        facts["records in the input logs"] = expected.records.total()
        facts["admitted"] = dict(expected.admitted)
        facts["refused"] = dict(sorted(expected.refused.items()))
        facts["sums of admitted tasks"] = dict(expected.sums)
        facts["epochs"] = self._positions.epochs
        for name in ("findings", "alerts", "windows", "dead_letters"):
            sides = (expected.outputs, actual)
            counts = [sum(len(getattr(of, name)) for of in side.values()) for side in sides]
            facts[f"{name}, expected and found"] = counts
        findings = [finding for of in expected.outputs.values() for finding in of.findings]
        facts["findings by rule"] = dict(Counter(finding["rule"] for finding in findings))
        facts["findings by step"] = dict(Counter(finding["reason"] for finding in findings))


def _on(*suffixes: str) -> list[TopicPartition]:
    """Return all partitions of topics, by their name without the prefix."""
    single = ("findings", "alerts", "incidents-state", "schemas")
    return [
        TopicPartition(PREFIX + suffix, p)
        for suffix in suffixes
        for p in range(1 if suffix in single else PARTITIONS)
    ]
