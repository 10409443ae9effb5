"""Real workers as processes, and what a test sends to them and reads back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from streams.settings import Settings

ROOT = Path(__file__).parent.parent
COUNTING = (str(Path(__file__).with_name("counting_worker.py")),)
REAL = ("-m", "streams.cli", "worker")
DEADLINE = 60.0


class Workers:
    """Worker processes of one test; all are ended by `close`."""

    def __init__(self, settings: Settings, command: Sequence[str] = COUNTING) -> None:
        self._command = [sys.executable, *command]
        self._env = os.environ | {
            "PYTHONPATH": str(ROOT),
            "AGENTOPS_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
            "AGENTOPS_TOPIC_PREFIX": settings.topic_prefix,
            "AGENTOPS_APP_ID": settings.app_id,
            "AGENTOPS_PARTITIONS": str(settings.partitions),
            "AGENTOPS_SESSION_TIMEOUT": "6",
        }
        self.running: list[subprocess.Popen[bytes]] = []
        self.logs: list[Path] = []

    def start(self, directory: Path, **env: str) -> subprocess.Popen[bytes]:
        """Start one more worker; its log goes to a file in `directory`."""
        path = directory / f"worker-{len(self.logs)}.log"
        with path.open("wb") as log:
            worker = subprocess.Popen(
                self._command, env=self._env | env, stdout=log, stderr=log, cwd=ROOT
            )
        self.running.append(worker)
        self.logs.append(path)
        return worker

    def log(self, index: int = 0) -> str:
        """Return what a worker has logged so far."""
        return self.logs[index].read_text(errors="replace")

    def close(self) -> None:
        """End what still runs."""
        for worker in self.running:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
                worker.wait()


async def wait_until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Poll until `condition`, or fail saying what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def producer(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """Give a started producer."""
    made = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, **options)
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


async def send_numbered(settings: Settings, count: int, first: int = 0) -> None:
    """Send task records ``n<number>`` round robin over the partitions."""
    async with producer(settings, linger_ms=5) as made:
        for number in range(first, first + count):
            await made.send(
                settings.topic("tasks"), b"n%d" % number, partition=number % settings.partitions
            )


@asynccontextmanager
async def reader(
    settings: Settings, suffix: str, partitions: int
) -> AsyncIterator[Callable[[], Any]]:
    """Give a function that returns all committed values of a topic so far, per partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=50,
    )
    tps = [TopicPartition(settings.topic(suffix), number) for number in range(partitions)]
    got: dict[int, list[bytes]] = {tp.partition: [] for tp in tps}
    await consumer.start()
    try:
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)

        async def read() -> dict[int, list[bytes]]:
            for tp, records in (await consumer.getmany(timeout_ms=200)).items():
                got[tp.partition] += [record.value for record in records]
            return got

        yield read
    finally:
        await consumer.stop()


async def read_counts(settings: Settings, expected: int, seconds: float = DEADLINE) -> None:
    """Read the counting workers' output until it is complete, and check exactly once."""
    deadline = time.monotonic() + seconds
    async with reader(settings, "windows", settings.partitions) as read:
        while True:
            got = await read()
            total = sum(map(len, got.values()))
            assert time.monotonic() < deadline, f"{total} of {expected} after {seconds:.0f} s"
            if total >= expected:
                break
        got = await read()
    assert sum(map(len, got.values())) == expected
    for lines in got.values():
        rows = [tuple(map(int, line.split(b",")[:2])) for line in lines]
        assert [number for number, _ in rows] == list(range(1, len(rows) + 1))
        offsets = [offset for _, offset in rows]
        assert offsets == sorted(set(offsets))
