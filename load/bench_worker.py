"""A real worker as a benchmark sees it: its committed positions over time, and its CPU time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.tether import tethered

if TYPE_CHECKING:
    from pathlib import Path

    from streams.settings import Settings

POLL_SECONDS = 0.05
STOP_SECONDS = 30.0
COMMAND = ("-m", "streams.cli", "worker")
_SETTINGS = ("bootstrap_servers", "topic_prefix", "app_id", "partitions")


class BenchError(RuntimeError):
    """A run did not do what it should, so its numbers mean nothing."""


class Reached(NamedTuple):
    """How many records of a topic were committed at a time.

    Attributes:
        at: wall-clock seconds.
        records: sum of the committed positions of all units.
    """

    at: float
    records: int


@dataclass(slots=True)
class Progress:
    """What a worker's log says about one input topic.

    Attributes:
        topic: name on the broker.
        opened: wall-clock seconds at which each unit opened.
        reached: after each epoch.
        complaints: log lines of level warning and worse.
    """

    topic: str
    opened: dict[str, float] = field(default_factory=dict)
    reached: list[Reached] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _positions: dict[str, int] = field(default_factory=dict)

    @property
    def records(self) -> int:
        """Records committed so far."""
        return sum(self._positions.values())

    def take(self, line: str) -> None:
        """Take one line of the log."""
        try:
            event: dict[str, Any] = json.loads(line)
            at = datetime.fromisoformat(event["timestamp"]).timestamp()
        except (ValueError, KeyError, TypeError):
            # Other libraries log text, also about a broker that has just begun.
            if "Traceback" in line:
                self.complaints.append(line)
            return
        if event.get("level") not in {"debug", "info"}:
            self.complaints.append(line)
        if self.topic not in event.get("positions", {}):
            return
        unit, position = event["unit"], event["positions"][self.topic]
        if event["event"] == "unit.open":
            self.opened[unit] = at
        elif event["event"] == "unit.epoch":
            self._positions[unit] = position
            self.reached.append(Reached(at, self.records))


class BenchWorker:
    """One worker process; start it from the thread that stays.

    Args:
        settings: broker, prefix, application and partitions; the rest is as by default.
        log: file of its log.
    """

    def __init__(self, settings: Settings, log: Path) -> None:
        self.progress = Progress(settings.topic("tasks"))
        own = {name: text for name, text in os.environ.items() if not name.startswith("AGENTOPS_")}
        own |= {f"AGENTOPS_{name.upper()}": str(getattr(settings, name)) for name in _SETTINGS}
        own |= {"AGENTOPS_LOG_JSON": "true", "AGENTOPS_LOG_LEVEL": "debug"}
        self._log = log
        self._read = 0
        self._cpu: list[tuple[float, float]] = []
        with log.open("wb") as file:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                tethered([sys.executable, *COMMAND]),
                env=own,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )

    async def wait(self, records: int, seconds: float) -> None:
        """Return once that many records are committed.

        Raises:
            BenchError: the worker ended, or it took longer than `seconds`.
        """
        deadline = time.monotonic() + seconds
        while self.progress.records < records:
            await asyncio.sleep(POLL_SECONDS)
            self.look()
            if self._process.poll() is not None:
                raise BenchError(f"the worker ended: {self._tail()}")
            if time.monotonic() > deadline:
                raise BenchError(f"{self.progress.records} of {records} records in {seconds:.0f} s")

    def look(self) -> None:
        """Read what is new in the log, and the CPU time."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self._read += whole
        for line in text[:whole].decode(errors="replace").splitlines():
            self.progress.take(line)
        self._cpu.append((time.time(), _cpu_seconds(self._process.pid)))

    def cpu_between(self, first: float, last: float) -> float:
        """Return the CPU seconds used between two wall-clock times, to about 0.05 s."""
        before = [used for at, used in self._cpu if at <= first]
        until = [used for at, used in self._cpu if at <= last + POLL_SECONDS]
        return until[-1] - (before[-1] if before else 0.0)

    def stop(self) -> None:
        """End the worker in order.

        Raises:
            BenchError: it did not end with exit code 0 in time.
        """
        self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BenchError(f"the worker did not stop within {STOP_SECONDS:.0f} s") from None
        self.look_at_end(code)

    def look_at_end(self, code: int) -> None:
        """Judge how the worker ended.

        Raises:
            BenchError: not with exit code 0.
        """
        if code != 0:
            raise BenchError(f"the worker ended with code {code}: {self._tail()}")

    def kill(self) -> None:
        """End the worker at once, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-2_000:]


def _cpu_seconds(pid: int) -> float:
    """Return user and system seconds of a process; 0.0 where the system does not say."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123 - often called
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
