"""One run of the exactly-once proof: events, breakage, and the verdict over the logs."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from load.logs import Positions, Writer, ends, read
from load.proof import Expected, Outputs, RefusedError, compare, expect, read_outputs
from load.schedule import Size, Step, schedule
from load.traffic import Traffic
from load.workers import OPENED, REOPENING, Crew
from streams.local import LocalBroker
from streams.provision import create_topics
from streams.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from load.workers import Worker

PARTITIONS = 8
PREFIX = "agentops."
SESSION_SECONDS = 4.0
PAUSE_SECONDS = SESSION_SECONDS + 6.0
GRACE_SECONDS = SESSION_SECONDS + 4.0
"""How long the group may take to move on after something was done to it."""
IDLE_SECONDS = 5.0
"""How long an owned partition may stand still beside a backlog."""
CALM_SECONDS = 4.0
"""No epoch for so long at the end of all inputs: the workers are done."""
SETTLE_SECONDS = 120.0
FAILPOINT_SECONDS = 30.0
WARM_UP_CHUNKS = 12
"""Hours of events before anything breaks."""
WARM_UP_SECONDS = 45.0
OWNING_SECONDS = 20.0
"""How long to wait for a worker that owns something."""
HOPELESS = 2
"""Workers that may end by themselves before there is no point in going on."""


class HopelessError(Exception):
    """The run cannot come to anything; the message says why."""


@dataclass(slots=True)
class Report:
    """What a proof found.

    Attributes:
        differences: where outputs differ from the oracle.
        problems: everything else that must not be.
        done: what was done how often.
        facts: numbers for people.
        timeline: what was done when, UTC, as the workers' logs have it.
    """

    differences: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    facts: dict[str, object] = field(default_factory=dict)
    timeline: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Write down that something was done now."""
        self.timeline.append(f"{datetime.now(UTC):%H:%M:%S.%f} {text}")

    @property
    def red(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.differences or self.problems)


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
        self._random = Random(seed + 1)
        self._steps = schedule(seed, size)
        self._traffic = Traffic(
            seed, partitions=PARTITIONS, agents=size.agents, days=size.days, tasks=size.tasks
        )
        self._broker = LocalBroker()
        self._failpoints = failpoints
        self._warm, self._produced = asyncio.Event(), asyncio.Event()
        self._backlog_free: dict[int, float] = {}
        self._looks = self._armed = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> Report:
        """Run it; everything started is ended again."""
        began = time.monotonic()
        try:
            self._broker.start()
            asyncio.run(self._run())
        finally:
            self._broker.stop()
        self.report.facts["seconds"] = round(time.monotonic() - began)
        text = json.dumps(
            {
                "differences": self.report.differences,
                "problems": self.report.problems,
                "done": self.report.done,
                "facts": self.report.facts,
                "timeline": self.report.timeline,
            },
            indent=2,
            default=str,
        )
        (self._folder / "report.json").write_text(text)
        return self.report

    async def _run(self) -> None:
        settings = Settings(
            bootstrap_servers=self._broker.bootstrap, topic_prefix=PREFIX, partitions=PARTITIONS
        )
        await create_topics(settings)
        self._crew = Crew(self._environment(), self._folder, self._failpoints)
        self._positions = Positions(self._broker.bootstrap, _on("state", "incidents-state"))
        following = asyncio.create_task(self._positions.follow())
        watching = asyncio.create_task(self._watch())
        try:
            self._crew.start()
            self._crew.start()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._produce())
                group.create_task(self._disturb())
            await self._settle()
        except* HopelessError as hopeless:
            self.report.problems += [str(error) for error in hopeless.exceptions]
        finally:
            for task in (following, watching):
                if task.done():
                    self.report.problems.append(f"the watch itself ended: {task.exception()!r}")
            for task in (following, watching, *self._tasks):
                task.cancel()
            looks = [self._looks * PARTITIONS, self._armed]
            self.report.facts["looks at partitions, and in calm"] = looks
            self.report.problems += self._crew.surprises()
            self.report.problems += await asyncio.to_thread(self._crew.end)
            self.report.problems += self._crew.worries()
            self.report.done["workers started"] = len(self._crew.workers)
            self.report.facts["units opened"] = self._crew.count(OPENED)
            self.report.facts["units opened again after an error"] = self._crew.count(REOPENING)
            self.report.facts["tracebacks in logs"] = self._crew.count("Traceback")
        await self._judge()

    def _environment(self) -> dict[str, str]:
        return {
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

    # ---- what is done to the workers and the broker

    async def _disturb(self) -> None:
        await self._warm.wait()
        began = time.monotonic()
        for step in self._steps:
            await asyncio.sleep(max(0.0, began + step.at - time.monotonic()))
            if len(self._crew.surprises()) > HOPELESS:
                raise HopelessError("workers end by themselves, one after the other")
            if step is self._steps[-1]:
                await self._produced.wait()
            self.report.done[step.verb] += 1
            await self._do(step)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PAUSE_SECONDS + FAILPOINT_SECONDS)

    async def _do(self, step: Step) -> None:
        crew = self._crew
        victim = await self._victim(step.verb)
        about = f"worker {victim.number}" if step.verb in ("kill", "pause", "leave") else ""
        self.report.note(f"{step.verb} {step.argument or about}".strip())
        if step.verb == "kill":
            crew.kill(victim)
            self._later(self._replace())
        elif step.verb == "pause":
            crew.pause(victim)
            self._later(self._continue(victim))
        elif step.verb == "leave":
            crew.leave(victim)
            self._later(self._replace())
        elif step.verb == "join":
            crew.start()
        elif step.verb == "point":
            self._later(self._fail_at(step.argument))
        else:
            await asyncio.to_thread(self._broker.kill)
            await asyncio.sleep(self._random.uniform(0.5, 2))
            await asyncio.to_thread(self._broker.start)
            self.report.note("broker is back")
            crew.touched_at = time.monotonic()

    async def _victim(self, verb: str) -> Worker:
        """Choose a worker; to pause one that owns nothing would be no test, so wait for one."""
        deadline = time.monotonic() + OWNING_SECONDS
        while verb == "pause" and not self._crew.owning() and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
        ready = self._crew.owning() or self._crew.ready()
        return self._random.choice(ready) if ready else self._crew.start()

    def _later(self, what: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self) -> None:
        await asyncio.sleep(self._random.uniform(0.2, 2))
        if len(self._crew.ready()) < 2:
            self.report.note(f"worker {self._crew.start().number} started")

    async def _continue(self, worker: Worker) -> None:
        if len(self._crew.ready()) < 1:
            self._crew.start()
        await asyncio.sleep(PAUSE_SECONDS)
        self._crew.resume(worker)
        self.report.note(f"worker {worker.number} goes on")

    async def _fail_at(self, failpoint: str) -> None:
        """Start a worker that ends itself at a fail point; it must come there."""
        worker = self._crew.start(failpoint)
        deadline = time.monotonic() + FAILPOINT_SECONDS
        while worker.alive and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        if worker.alive:
            self.report.problems.append(f"{failpoint} was not reached by worker {worker.number}")
            self._crew.kill(worker)
        self._crew.touched_at = time.monotonic()
        await self._replace()

    # ---- watching

    async def _watch(self) -> None:
        """Report partitions that stand still beside a backlog while nothing is done to anyone."""
        inputs = _on("tasks", "security")
        while True:
            await asyncio.sleep(0.5)
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(3):
                    end = await ends(self._broker.bootstrap, inputs, committed=False)
                now = time.monotonic()
                self._looks += 1
                self._crew.scan()
                for p in range(PARTITIONS):
                    self._look(p, end, now)

    def _look(self, p: int, end: dict[TopicPartition, int], now: float) -> None:
        behind = sum(
            max(0, end[tp] - self._positions.at.get(tp, 0)) for tp in end if tp.partition == p
        )
        if not behind or p not in self._backlog_free:
            self._backlog_free[p] = now
        crew = self._crew
        opened_at = crew.opened_at.get(f"detect/{p}", 0.0)
        calm_since = max(crew.touched_at + GRACE_SECONDS, crew.rebalanced_at, opened_at)
        moved_at = self._positions.moved_at.get(TopicPartition(PREFIX + "state", p), 0.0)
        self._armed += now - calm_since > IDLE_SECONDS
        since = max(calm_since, moved_at, self._backlog_free[p])
        if now - since > IDLE_SECONDS:
            text = f"partition {p} stood still over {IDLE_SECONDS:.0f} s, {behind} records behind"
            self.report.note(text)
            self.report.problems.append(text)
            self._backlog_free[p] = now

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
        logs = [log async for log in read(bootstrap, _on("tasks", "security"))]
        said = [
            log
            async for log in read(bootstrap, _on("findings", "alerts", "windows", "dead-letters"))
        ]
        expected = await asyncio.to_thread(
            expect, logs, partitions=PARTITIONS, max_series=self._traffic.max_series, prefix=PREFIX
        )
        try:
            actual = read_outputs(said, partitions=PARTITIONS, prefix=PREFIX)
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
    single = ("findings", "alerts", "incidents-state")
    return [
        TopicPartition(PREFIX + suffix, p)
        for suffix in suffixes
        for p in range(1 if suffix in single else PARTITIONS)
    ]
