"""One worker process that must read its topics to their ends in one life, within its memory."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from aiokafka.structs import TopicPartition

from load.logs import Positions
from load.workers import COMMAND, OPENED, REOPENING, Crew

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.settings import Settings

STALL_SECONDS = 60.0
"""How long it may read nothing before there is no point in waiting."""
SAMPLE_SECONDS = 0.5
CALM = ("Traceback", REOPENING, "unit.contended", "fetch.failed")
"""What its log may not hold, beside what no worker's log may hold."""

Ends = dict[tuple[str, int], int]


class WatchedWorker:
    """A worker process from start to clean stop; use it as an asynchronous context.

    Args:
        settings: its settings; those that differ from the defaults are passed on.
        state: its state topic, without the prefix.
        folder: where its log goes.
        command: what Python is given to become it.

    Attributes:
        problems: what must not be, a sentence each.
        peak_mib: most memory seen, MiB.
        seconds: from its start to the end of `reach`.
        cpu_seconds: CPU time it took.
    """

    def __init__(
        self, settings: Settings, state: str, folder: Path, command: Sequence[str] = COMMAND
    ) -> None:
        folder.mkdir()
        self.problems: list[str] = []
        self.peak_mib = 0
        self.seconds = self.cpu_seconds = 0.0
        self._settings = settings
        self._crew = Crew(_environment(settings), folder, command=command)
        states = [
            TopicPartition(settings.topic_prefix + state, p) for p in range(settings.partitions)
        ]
        self._positions = Positions(settings.bootstrap_servers, states)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Start it; it need not be ready on return."""
        self._worker = self._crew.start()
        self._began = time.monotonic()
        self._tasks = [
            asyncio.create_task(self._positions.follow()),
            asyncio.create_task(self._sample()),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        """End it in order, and look at what its log says."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._look()
        self.problems += self._crew.surprises()
        self.problems += await asyncio.to_thread(self._crew.end)
        self.problems += self._crew.worries()
        for word in CALM:
            if times := self._crew.count(word):
                self.problems.append(f"its log says {times} times {word!r}, in {self._worker.log}")
        opened = self._crew.count(OPENED)
        if opened < self._settings.partitions:
            self.problems.append(f"it opened {opened} of {self._settings.partitions} units")

    async def reach(self, ends: Ends) -> None:
        """Return when it has committed all records, or no longer moves.

        Args:
            ends: records by (topic without prefix, partition).
        """
        behind, moved_at = sum(ends.values()), time.monotonic()
        while behind:
            await asyncio.sleep(0.1)
            now = time.monotonic()
            left = sum(max(0, end - self._position(at)) for at, end in ends.items())
            behind, moved_at = left, now if left < behind else moved_at
            if not self._worker.alive:
                break  # `surprises` says so
            if now - moved_at > STALL_SECONDS:
                self.problems.append(f"{behind} records behind, nothing read for {STALL_SECONDS} s")
                break
        self.seconds = time.monotonic() - self._began

    def _position(self, at: tuple[str, int]) -> int:
        tp = TopicPartition(self._settings.topic_prefix + at[0], at[1])
        return self._positions.at.get(tp, 0)

    async def _sample(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(SAMPLE_SECONDS)

    def _look(self) -> None:
        """Read how much memory it took at most, and its CPU time."""
        with suppress(OSError):
            place = Path(f"/proc/{self._worker.process.pid}")
            times = (place / "stat").read_text(encoding="ascii").rpartition(")")[2].split()
            self.cpu_seconds = (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")
            text = (place / "status").read_text(encoding="ascii")
            found = dict(line.split(":", 1) for line in text.splitlines())
            # The peak the kernel knows misses nothing between two looks.
            peak = found.get("VmHWM") or found.get("VmRSS") or "0 kB"
            self.peak_mib = max(self.peak_mib, int(peak.split()[0]) // 1024)


def _environment(settings: Settings) -> Mapping[str, str]:
    given: dict[str, Any] = settings.model_dump(exclude_defaults=True)
    given |= {name: getattr(settings, name) for name in ("bootstrap_servers", "partitions")}
    return {f"AGENTOPS_{name.upper()}": str(value) for name, value in given.items()}
