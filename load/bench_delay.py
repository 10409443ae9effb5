"""How soon an alert can be read after the event that caused it, under steady load.

The delay of a rate's alert counts from the scheduled send time of the record that moved the clock
past the tick at which the transition was due; that of a security alert from the scheduled send
time of its event. Both end at the receipt by a read-committed reader of the alerts. As scheduled
times count, a sender that falls behind makes delays longer, never shorter.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from load import bench_events
from load.bench_events import Tasks
from load.bench_worker import BenchError, BenchWorker
from streams import schemas
from streams.durations import MINUTE
from streams.provision import create_topics
from streams.sender import Outgoing, Sender

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from streams.settings import Settings

    I64 = NDArray[np.int64]

AGENTS = 1_000
TROUBLED = 400
"""Agents beside those, each with a burst of errors of its own."""
BURST_MS, BURST_RECORDS, BURST_FAILED = 8_000, 60, 0.6
CALM_MS = 30_000
"""Mean time between two records of a troubled agent while it is calm."""
WARM_MS = 10 * MINUTE
WARM_RECORDS = 100_000
SECURITY_PER_SECOND = 10
KINDS = ("OTHER", "INJECTION_ATTEMPT", "TRUST_TIER_VIOLATION", "ANOMALOUS_OUTPUT")
WARM_SECONDS, LEAD_SECONDS, PATIENCE_SECONDS = 120, 6.0, 15.0
_STEP = 0.01
"""Seconds between two looks at what has to be sent: a producer's linger."""


class Threat(NamedTuple):
    """A security event: its agent, kind and event time, which is its scheduled send time, ms."""

    agent: str
    kind: str
    at: int


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is sent, each record at its event time.

    Attributes:
        steady: records of the measured time.
        threats: security events, ascending; no two of one agent and kind.
        bursts: int64[troubled], first event time of each burst.
    """

    steady: Tasks
    threats: Sequence[Threat]
    bursts: I64


class Received(NamedTuple):
    """An alert and when it came, wall-clock ms."""

    at: float
    alert: Mapping[str, Any]


class Delay:
    """The benchmark.

    Args:
        settings: broker, prefix, application and partitions.
        folder: for the worker's log.
        rate: task events a second.
        seconds: how long.
    """

    def __init__(self, settings: Settings, folder: Path, rate: int, seconds: int) -> None:
        self._settings, self._folder = settings, folder
        self._rate, self._seconds = rate, seconds
        self._late: list[float] = []

    async def run(self) -> dict[str, Any]:
        """Measure; return quantiles in ms of rates, security and the sender's own lateness.

        Raises:
            BenchError: an alert did not come, or the worker failed.
        """
        await create_topics(self._settings)
        worker = BenchWorker(self._settings, self._folder / "worker.log")
        try:
            found = await self._measure(worker)
            worker.stop()
        finally:
            worker.kill()
        return found

    async def _measure(self, worker: BenchWorker) -> dict[str, Any]:
        rng = np.random.default_rng(36)
        begin = int(time.time() * 1000)
        warm = warm_up(rng, begin)
        async with Sender(self._settings) as sender:
            await sender.send(_outgoing(warm))
            await sender.flush()
            await worker.wait(len(warm), WARM_SECONDS)
            plan = make_plan(rng, self._rate, self._seconds)
            received: list[Received] = []
            beside = [
                asyncio.create_task(self._read(received)),
                asyncio.create_task(_watch(worker)),
            ]
            try:
                await self._send(sender, plan)
                await self._last_alerts(plan, received)
            finally:
                for task in beside:
                    task.cancel()
        before = plan.steady.occurred_at[0] / 1000
        used = worker.cpu_between(before, before + self._seconds)
        return {
            "rates": quantiles(rate_delays(plan, received, self._settings.partitions)),
            "security": quantiles(security_delays(plan, received)),
            "sender": quantiles(self._late),
            "worker_cpu_share": round(used / self._seconds, 3),
        }

    async def _send(self, sender: Sender, plan: Plan) -> None:
        """Send every record at its event time, or as soon after as this process can."""
        records = _outgoing(plan.steady)
        times = plan.steady.occurred_at.tolist()
        for threat in plan.threats:
            records.append(_security(threat))
            times.append(threat.at)
        order = sorted(range(len(times)), key=times.__getitem__)
        place = 0
        while place < len(order):
            now = time.time() * 1000
            due = []
            while place < len(order) and times[order[place]] <= now:
                due.append(records[order[place]])
                self._late.append(now - times[order[place]])
                place += 1
            if due:
                await sender.send(due)
                await sender.push()
            await asyncio.sleep(_STEP)
        await sender.flush()

    async def _read(self, received: list[Received]) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            place = TopicPartition(self._settings.topic("alerts"), 0)
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            seen: set[str] = set()
            while True:
                for batch in (await consumer.getmany(timeout_ms=1_000)).values():
                    now = time.time() * 1000
                    for one in batch:
                        alert = schemas.decode(one.value)[1]
                        # The first record of an alert; a page of a rate waits for its group.
                        if alert["alert_id"] not in seen:
                            seen.add(alert["alert_id"])
                            received.append(Received(now, alert))
        finally:
            await consumer.stop()

    async def _last_alerts(self, plan: Plan, received: list[Received]) -> None:
        """Wait for the alerts that must come; a rate's last one is due within a tick."""
        expected = len(plan.threats) + len(plan.bursts)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(received) < expected:
            if time.monotonic() > deadline:
                raise BenchError(f"{len(received)} alerts came, expected were {expected}")
            await asyncio.sleep(0.05)


async def _watch(worker: BenchWorker) -> None:
    """Note the worker's CPU time now and then."""
    while True:
        worker.look()
        await asyncio.sleep(1.0)


def warm_up(rng: np.random.Generator, until: int) -> Tasks:
    """Return the records of the last WARM_MS before `until`."""
    times = until - WARM_MS + np.sort(rng.integers(0, WARM_MS, WARM_RECORDS))
    usual = bench_events.draw(rng, times, AGENTS)
    calm = _calm(rng, until - WARM_MS, until)
    return _merged(usual, _rows(rng, *calm, failed=0.0))


def make_plan(rng: np.random.Generator, rate: int, seconds: int) -> Plan:
    """Return what to send from a few seconds from now on."""
    begin = int((time.time() + LEAD_SECONDS) * 1000)
    length = seconds * 1000
    bursts = begin + np.linspace(2_000, length - BURST_MS - 8_000, TROUBLED).astype(np.int64)
    rng.shuffle(bursts)
    within = np.arange(BURST_RECORDS) * (BURST_MS // BURST_RECORDS)
    burst = _rows(
        rng,
        (bursts[:, None] + within).ravel(),
        np.repeat(np.arange(TROUBLED), BURST_RECORDS),
        failed=BURST_FAILED,
    )
    calm = _rows(rng, *_calm(rng, begin, begin + length), failed=0.0)
    others = rate * seconds - len(burst) - len(calm)
    times = begin + np.sort(rng.integers(0, length, max(0, others)))
    usual = bench_events.draw(rng, times, AGENTS)
    number_of = min(SECURITY_PER_SECOND * seconds, AGENTS * len(KINDS))
    moments = begin + np.sort(rng.choice(length, number_of, replace=False))
    threats = [
        Threat(
            f"agent-{number % AGENTS:04d}", KINDS[(number + number // AGENTS) % len(KINDS)], int(at)
        )
        for number, at in enumerate(moments)
    ]
    return Plan(_merged(_merged(usual, burst), calm), threats, bursts)


def rate_delays(plan: Plan, received: Sequence[Received], partitions: int) -> list[float]:
    """Return the delay of each alert of a rate, ms.

    Raises:
        BenchError: a troubled agent has not exactly one.
    """
    places, times = plan.steady.partitions(partitions), plan.steady.occurred_at
    clocks = [times[places == number] for number in range(partitions)]
    found: dict[str, float] = {}
    for one in received:
        if one.alert["rule"] != "error-rate":
            continue
        agent, tick = one.alert["entity_id"], one.alert["updated_at"]
        if agent in found:
            raise BenchError(f"a second alert for {agent}: {one.alert}")
        clock = clocks[one.alert["evidence_partition"]]
        mover = int(np.searchsorted(clock, tick))
        found[agent] = one.at - float(clock[mover])
    if len(found) != len(plan.bursts):
        raise BenchError(f"alerts for {len(found)} of {len(plan.bursts)} agents with errors")
    return list(found.values())


def security_delays(plan: Plan, received: Sequence[Received]) -> list[float]:
    """Return the delay of the alert of each security event, ms.

    Raises:
        BenchError: an event has not exactly one.
    """
    came = {
        (one.alert["entity_id"], one.alert["starts_at"]): one.at
        for one in received
        if one.alert["rule"] == "security"
    }
    missing = [threat for threat in plan.threats if (threat.agent, threat.at) not in came]
    if missing or len(came) != len(plan.threats):
        raise BenchError(f"{len(came)} security alerts for {len(plan.threats)} events")
    return [came[threat.agent, threat.at] - threat.at for threat in plan.threats]


def quantiles(delays: Sequence[float]) -> dict[str, float]:
    """Return number, p50, p95, p99 and maximum."""
    levels = np.quantile(delays, (0.5, 0.95, 0.99, 1.0), method="higher").tolist()
    return {"count": len(delays), **dict(zip(("p50", "p95", "p99", "max"), levels, strict=True))}


def _calm(rng: np.random.Generator, begin: int, end: int) -> tuple[I64, I64]:
    """Return event times and agents of the calm records of troubled agents."""
    each = (end - begin) // CALM_MS
    times = rng.integers(begin, end, TROUBLED * each)
    return times, np.repeat(np.arange(TROUBLED), each)


def _rows(rng: np.random.Generator, times: I64, agents: I64, *, failed: float) -> Tasks:
    """Return records of troubled agents."""
    drawn = bench_events.draw(rng, times, 1, (1 - failed, 0.0, failed))
    names = [f"troubled-{number:03d}" for number in range(TROUBLED)]
    return Tasks(
        times,
        agents,
        drawn.task_type,
        drawn.outcome,
        drawn.input_tokens,
        drawn.output_tokens,
        names,
    )


def _merged(one: Tasks, other: Tasks) -> Tasks:
    """Return the records of both by event time."""
    times = np.concatenate((one.occurred_at, other.occurred_at))
    order = np.argsort(times, kind="stable")
    numbers = {
        name: number for number, name in enumerate(dict.fromkeys((*one.names, *other.names)))
    }
    agents = [np.array([numbers[name] for name in each.names])[each.agent] for each in (one, other)]
    return Tasks(
        times[order],
        np.concatenate(agents)[order],
        np.concatenate((one.task_type, other.task_type))[order],
        np.concatenate((one.outcome, other.outcome))[order],
        np.concatenate((one.input_tokens, other.input_tokens))[order],
        np.concatenate((one.output_tokens, other.output_tokens))[order],
        list(numbers),
    )


def _outgoing(tasks: Tasks) -> list[Outgoing]:
    keys = [name.encode() for name in tasks.names]
    values = bench_events.encode(tasks, slice(0, len(tasks)))
    agents = tasks.agent.tolist()
    return [
        Outgoing("tasks", keys[agent], value) for agent, value in zip(agents, values, strict=True)
    ]


def _security(threat: Threat) -> Outgoing:
    record = {
        "event_id": f"{threat.agent}-{threat.kind}",
        "occurred_at": threat.at,
        "agent_id": threat.agent,
        "kind": threat.kind,
        "severity": "MEDIUM",
        "blocked": True,
    }
    value = schemas.encode("SecurityEvent", record)
    return Outgoing("security", threat.agent.encode(), value)
