"""What is done to workers, broker and schema registry while events flow."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from load.report import Report
    from load.schedule import Step
    from load.stillness import Stillness
    from load.workers import Crew, Worker
    from streams.local import LocalBroker, LocalRegistry

SESSION_SECONDS = 4.0
PAUSE_SECONDS = SESSION_SECONDS + 6.0
FAILPOINT_SECONDS = 30.0
LAST_SECONDS = 120.0
"""How long the last of what is done may take to end."""
AWAY_SECONDS = (2.0, 6.0)
"""How long the schema registry stays away, about; its start comes on top."""
OWNING_SECONDS = 20.0
"""How long to wait for a worker that owns something."""
HOPELESS = 2
"""Workers that may end by themselves before there is no point in going on."""


class HopelessError(Exception):
    """The run cannot come to anything; the message says why."""


class Trouble:
    """What breaks in one run.

    Args:
        seed: decides who is hit and how long things take.
        servers: the broker, and the schema registry if there is one.
        crew: the workers.
        still: the watch that must know when workers are excused.
        report: where it is written down.
    """

    def __init__(
        self,
        seed: int,
        servers: tuple[LocalBroker, LocalRegistry | None],
        crew: Crew,
        still: Stillness,
        report: Report,
    ) -> None:
        self._random = Random(seed + 1)
        self._broker, self._registry = servers
        self._crew, self._still, self._report = crew, still, report
        self._outage = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def make(self, steps: Sequence[Step], before_last: asyncio.Event) -> None:
        """Do all steps at their times, the last one when `before_last` is set; wait for the ends.

        Raises:
            HopelessError: workers end by themselves.
        """
        began = time.monotonic()
        for step in steps:
            await asyncio.sleep(max(0.0, began + step.at - time.monotonic()))
            if len(self._crew.surprises()) > HOPELESS:
                raise HopelessError("workers end by themselves, one after the other")
            if step is steps[-1]:
                await before_last.wait()
            self._report.done[step.verb] += 1
            await self._do(step)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_SECONDS)

    def stop(self) -> None:
        """Leave the rest undone."""
        for task in self._tasks:
            task.cancel()

    async def _do(self, step: Step) -> None:
        crew = self._crew
        victim = await self._victim(step.verb)
        about = f"worker {victim.number}" if step.verb in ("kill", "pause", "leave") else ""
        self._report.note(f"{step.verb} {step.argument or about}".strip())
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
        elif step.verb == "registry":
            self._later(self._take_registry_away())
        else:
            async with self._away():
                await asyncio.to_thread(self._broker.kill)
                await asyncio.sleep(self._random.uniform(0.5, 2))
                await asyncio.to_thread(self._broker.start)
            self._report.note("broker is back")

    @asynccontextmanager
    async def _away(self) -> AsyncIterator[None]:
        """Excuse the workers as long as something they need is away."""
        self._still.excused += 1
        try:
            yield
        finally:
            self._still.excused -= 1
            self._crew.touched_at = time.monotonic()

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
            self._report.note(f"worker {self._crew.start().number} started")

    async def _continue(self, worker: Worker) -> None:
        if len(self._crew.ready()) < 1:
            self._crew.start()
        await asyncio.sleep(PAUSE_SECONDS)
        self._crew.resume(worker)
        self._report.note(f"worker {worker.number} goes on")

    async def _fail_at(self, failpoint: str) -> None:
        """Start a worker that ends itself at a fail point; it must come there."""
        worker = self._crew.start(failpoint)
        left = FAILPOINT_SECONDS
        while worker.alive and left > 0:
            await asyncio.sleep(0.1)
            left -= 0.0 if self._still.excused else 0.1
        if worker.alive:
            self._report.problems.append(f"{failpoint} was not reached by worker {worker.number}")
            self._crew.kill(worker)
        self._crew.touched_at = time.monotonic()
        await self._replace()

    async def _take_registry_away(self) -> None:
        """Kill the registry; other things break while it is away."""
        assert self._registry is not None, "only scheduled with one"  # noqa: S101
        async with self._outage, self._away():
            await asyncio.to_thread(self._registry.kill)
            await asyncio.sleep(self._random.uniform(*AWAY_SECONDS))
            await asyncio.to_thread(self._registry.restart)
        self._report.note("registry is back")
