"""How fast the whole job is beside a bare read of the same records, in one run."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import TopicPartition

from load import bench_events
from load.bench_worker import BenchError, BenchWorker
from streams import state
from streams.durations import HOUR
from streams.provision import create_topics

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from streams.settings import Settings

BEGIN = 1_767_573_000_000
"""First event time: half past an hour, so that one hour closes on the way."""
SPAN = HOUR
AGENTS = 1_000
OUTPUTS = ("state", "incidents-state", "findings", "windows", "alerts", "dead-letters")
READ_SECONDS, WORK_SECONDS = 300, 600


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one of the two.

    Attributes:
        rate: records a second, from the flow's begin to the last record (committed, for a worker).
        cpu: CPU seconds a million records.
        between: for a worker, the rate between its first and last committed position.
    """

    rate: float
    cpu: float
    between: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A bare read and a worker's run, one after the other."""

    bare: Measured
    worker: Measured

    @property
    def ratio(self) -> float:
        """How much of the bare read's rate the whole job keeps."""
        return self.worker.rate / self.bare.rate


class Throughput:
    """The benchmark.

    Args:
        settings: broker, prefix, application and partitions.
        folder: for the workers' logs.
        records: how many.
    """

    def __init__(self, settings: Settings, folder: Path, records: int) -> None:
        self._settings, self._folder, self._records = settings, folder, records
        self._pairs = 0
        rng = np.random.default_rng(36)
        times = BEGIN + np.sort(rng.integers(0, SPAN, records))
        self._tasks = bench_events.draw(rng, times, AGENTS)

    async def write(self) -> float:
        """Create the topics and write the input once; return the mean size of a value, bytes."""
        await create_topics(self._settings)
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.bootstrap_servers,
            enable_idempotence=True,
            compression_type="lz4",
            max_batch_size=1_000_000,
        )
        await producer.start()
        try:
            size = await bench_events.produce(
                producer, self._settings.topic("tasks"), self._tasks, self._settings.partitions
            )
        finally:
            await producer.stop()
        return size / self._records

    async def pair(self, *, tuned: bool = False) -> Pair:
        """Measure both, each in a fresh process."""
        self._pairs += 1
        bare = await asyncio.to_thread(self._bare, tuned)
        await recreate(self._settings, OUTPUTS)
        app_id = f"{self._settings.app_id}-{self._pairs}"
        worker = await self._work(self._settings.model_copy(update={"app_id": app_id}))
        return Pair(bare, worker)

    def _bare(self, tuned: bool) -> Measured:
        command = [sys.executable, "-m", "load.bench_bare", *(["--tuned"] if tuned else [])]
        command += ["--bootstrap", self._settings.bootstrap_servers]
        command += ["--topic", self._settings.topic("tasks")]
        command += ["--partitions", str(self._settings.partitions)]
        command += ["--records", str(self._records)]
        run = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, timeout=READ_SECONDS, check=True
        )
        found = json.loads(run.stdout)
        if found["records"] != self._records:
            raise BenchError(f"the bare read gave {found['records']} of {self._records} records")
        million = self._records / 1e6
        return Measured(self._records / found["seconds"], found["cpu"] / million)

    async def _work(self, settings: Settings) -> Measured:
        worker = BenchWorker(settings, self._folder / f"{settings.app_id}.log")
        try:
            await worker.wait(self._records, WORK_SECONDS)
            measured = _measured(worker, self._records)
            worker.stop()
        finally:
            worker.kill()
        if worker.progress.complaints:
            raise BenchError(f"the worker complained: {worker.progress.complaints[0][:500]}")
        await self._verify(settings)
        return measured

    async def _verify(self, settings: Settings) -> None:
        """Compare the sums of the hour panes in the state with the sums of what was sent."""
        names = [settings.topic("state")]
        found = totals(await latest(settings, names))
        expected = self._tasks.totals()
        if found != expected:
            raise BenchError(f"the state sums up to {found}, sent were {expected}")


def _measured(worker: BenchWorker, records: int) -> Measured:
    progress = worker.progress
    begin, first, last = min(progress.opened.values()), progress.reached[0], progress.reached[-1]
    seconds = last.at - first.at
    return Measured(
        rate=records / (last.at - begin),
        cpu=worker.cpu_between(begin, last.at) / (records / 1e6),
        between=(last.records - first.records) / seconds if seconds > 0 else None,
    )


async def recreate(settings: Settings, suffixes: Sequence[str]) -> None:
    """Empty topics by deleting them and creating them again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([settings.topic(suffix) for suffix in suffixes])
    finally:
        await admin.close()
    await create_topics(settings)


async def latest(settings: Settings, topics: Sequence[str]) -> dict[bytes, bytes]:
    """Return the newest committed value of each key in topics of kind N."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        max_partition_fetch_bytes=8 << 20,
    )
    places = [TopicPartition(name, p) for name in topics for p in range(settings.partitions)]
    found: dict[bytes, bytes] = {}
    await consumer.start()
    try:
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        while [place for place in places if await consumer.position(place) < ends[place]]:
            for place, batch in (await consumer.getmany(timeout_ms=500)).items():
                prefix = b"%d/" % place.partition
                found |= {prefix + (one.key or b""): one.value for one in batch}
    finally:
        await consumer.stop()
    return {key: value for key, value in found.items() if value is not None}


def totals(records: dict[bytes, bytes]) -> list[int]:
    """Return the sums of all hour panes of task series, in the order of their columns."""
    sums = np.zeros(9, np.int64)
    for stored in state.decode(records.items()):
        place = stored.fields.get("table"), stored.fields.get("width")
        if stored.kind == "PaneState" and place == ("tasks", HOUR):
            panes = state.decode_panes(stored.fields)
            sums += np.concatenate([panes.counts.sum(axis=0), panes.sums.sum(axis=0)])[:9]
    return [int(one) for one in sums]


def summary(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return medians, and every pair."""
    return {
        "bare_rate": statistics.median(pair.bare.rate for pair in pairs),
        "worker_rate": statistics.median(pair.worker.rate for pair in pairs),
        "bare_cpu": statistics.median(pair.bare.cpu for pair in pairs),
        "worker_cpu": statistics.median(pair.worker.cpu for pair in pairs),
        "ratio": statistics.median(pair.ratio for pair in pairs),
        "pairs": [asdict(pair) | {"ratio": pair.ratio} for pair in pairs],
    }
