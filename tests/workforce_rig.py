"""A few agents, all their topics, and the stages that read them, without a broker."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from streams import schemas
from streams.batch import FetchedBatch
from streams.catalog import SchemaCatalog
from streams.detect_stage import ROLES, DetectCore
from streams.durations import DAY, HOUR, MINUTE
from streams.incident_stage import IncidentsCore
from streams.retraining import RetrainingDesk
from streams.rollup_stage import RollUpCore
from streams.rules import RuleSet
from streams.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streams.stage import Core

BEGIN = 20_458 * DAY
"""Monday 2026-01-05, 00:00 UTC."""

RULES = RuleSet.default()
SETTINGS = Settings(partitions=1, partitioner="unchecked")

Log = list[tuple[int, bytes, bytes]]
"""Records of a topic: record timestamp, key and value."""


def workforce(seed: int, days: int, begin: int = BEGIN) -> dict[str, Log]:
    """Return the logs of three agents over some days, with troubles on the last but one."""
    rng = np.random.default_rng(seed)
    logs: dict[str, Log] = {topic: [] for topic in ROLES}
    bad = begin + (days - 2) * DAY
    for agent in ("a", "b", "c"):
        key = agent.encode()
        fields = {"tenant": None, "agent_id": agent}
        times = np.sort(rng.integers(0, days * DAY, 400 * days)) + begin
        worse = (times > bad) & (times < bad + 12 * HOUR)
        failed = rng.random(len(times)) < np.where(worse & (agent == "a"), 0.3, 0.004)
        called = rng.random(len(times)) < np.where(worse, 0.1, 0.002)
        for number, at in enumerate(times.tolist()):
            late = int(rng.integers(0, 3 * HOUR)) if rng.random() < 0.01 else 0
            own = {"event_id": f"{agent}{number}", "occurred_at": at - late, **fields}
            task = {
                "task_type": "t" if number % 3 else "u",
                "outcome": "FAILED" if failed[number] else "AUTOMATED",
                "duration_ms": 5.0,
                "cost_usd": float(rng.lognormal(-5, 0.5)) * (2 if worse[number] else 1),
                "input_tokens": int(rng.integers(100, 900)) * (2 if worse[number] else 1),
                "output_tokens": int(rng.integers(10, 90)),
                "confidence": float(rng.beta(9, 2)),
                "model": "m" if number % 5 else None,
                "input_features": [float(rng.normal()), float(at > bad)],
            }
            logs["tasks"].append((at, key, schemas.encode("TaskFinished", own | task)))
            if number % 2:
                call = {
                    "integration": "erp" if agent != "c" else "crm",
                    "operation": "read",
                    "outcome": "ERROR" if called[number] else "OK",
                    "error_type": "HTTP_422" if called[number] else None,
                    "duration_ms": float(rng.lognormal(4, 0.6)),
                    "purpose": "CONTRACT_TEST" if number % 501 == 0 else "PRODUCTION",
                }
                logs["calls"].append((at, key, schemas.encode("IntegrationCall", own | call)))
            if number % 8 == 0:
                review = {
                    "task_type": "t" if number % 3 else "u",
                    "task_event_id": f"{agent}{number}",
                    "task_occurred_at": at - late,
                    "verdict": "OVERRIDDEN" if rng.random() < 0.1 + worse[number] else "CONFIRMED",
                    "agent_decision": "YES",
                    "human_decision": "NO",
                    "reason_code": "POLICY",
                    "agent_confidence": task["confidence"],
                }
                seen = own | {"occurred_at": at + 20 * MINUTE}
                record = schemas.encode("HumanReview", seen | review)
                logs["reviews"].append((at + 20 * MINUTE, key, record))
        if agent == "b":
            for at in range(bad, bad + 6 * HOUR, MINUTE):
                own = {"event_id": f"q{at}", "occurred_at": at, **fields}
                depth = {"depth": (at - bad) // MINUTE if at < bad + 3 * HOUR else 0}
                logs["queues"].append((at, key, schemas.encode("QueueDepth", own | depth)))
        own = {"event_id": f"p{agent}", "occurred_at": begin, **fields}
        profile = {
            "owner": "team",
            "retraining_interval_days": 10,
            "last_trained_at": begin - 7 * DAY,
            "daily_cost_plan_usd": 6.0,
        }
        logs["profiles"].append((begin, key, schemas.encode("AgentProfile", own | profile)))
        own = {"event_id": f"c{agent}", "occurred_at": bad - 9 * MINUTE, **fields}
        change = {"kind": "PROMPT", "from_version": "v17", "to_version": "v18"}
        logs["changes"].append((bad - 9 * MINUTE, key, schemas.encode("Change", own | change)))
        own = {"event_id": f"s{agent}", "occurred_at": bad, **fields}
        threat = {"kind": "INJECTION_ATTEMPT", "severity": "LOW", "blocked": agent != "a"}
        logs["security"].append((bad, key, schemas.encode("SecurityEvent", own | threat)))
    return {topic: sorted(log, key=lambda one: one[0]) for topic, log in logs.items()}


def cores(settings: Settings) -> dict[str, Callable[[], Core]]:
    """Return what makes the core of each stage."""
    catalog = SchemaCatalog(settings)
    return {
        "detect": lambda: DetectCore(settings, RULES, 0, catalog),
        "rollup": lambda: RollUpCore(settings, RULES, 0, catalog),
        "incidents": lambda: IncidentsCore(settings, RULES, 0, catalog, RetrainingDesk()),
    }


@dataclass
class Run:
    """One way through the logs.

    Attributes:
        settings: with one partition.
        outputs: records written, by topic without prefix: key, value, in order.
    """

    settings: Settings = SETTINGS
    outputs: dict[str, list[tuple[bytes | None, bytes | None]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._make = cores(self.settings)
        self._cores = {name: make() for name, make in self._make.items()}
        self._state: dict[str, dict[bytes, bytes]] = {name: {} for name in self._make}
        self._places: dict[str, int] = {}
        self._stamp = 0

    def play(
        self, logs: dict[str, Log], sizes: Callable[[], int], restart: Callable[[], bool]
    ) -> None:
        """Fold everything, in batches of those sizes, whichever topic is ready."""
        self._stamp = max(log[-1][0] for log in logs.values() if log)
        while any(self._places.get(topic, 0) < len(log) for topic, log in logs.items()):
            ends = {
                self.settings.topic(topic): 1.0
                for topic, log in logs.items()
                if self._places.get(topic, 0) >= len(log)
            }
            moved = [self._fold(topic, log, sizes(), ends) for topic, log in logs.items()]
            assert any(moved), f"nothing can go on: {self._places}"
            self._commit("detect", ends)
            for name in self._make:
                if restart():
                    self._cores[name] = self._make[name]()
                    self._cores[name].restore(dict(self._state[name]))

    def decoded(self, topic: str) -> list[dict[str, Any]]:
        """Return the records of a topic."""
        values = [value for _, value in self.outputs.get(topic, []) if value is not None]
        return [schemas.decode(value)[1] for value in values]

    def _fold(self, topic: str, log: Log, size: int, ends: dict[str, float]) -> bool:
        start = self._places.get(topic, 0)
        part = log[start : start + size]
        if not part:
            return False
        batch = batch_of(self.settings.topic(topic), part, start)
        core = self._cores["detect"]
        if not core.ready(batch, ends):
            return False
        batch = core.part(batch)
        assert not core.fold(batch, final=True)
        self._places[topic] = batch.next_offset
        return True

    def _commit(self, stage: str, ends: dict[str, float]) -> None:
        core = self._cores[stage]
        core.settle(ends, 0.0)
        records, changes = core.drain()
        for key, value in changes:
            self._state[stage].pop(key, None)
            if value is not None:
                self._state[stage][key] = value
        fed: dict[str, Log] = {}
        for one in records:
            topic = one.topic.removeprefix(self.settings.topic_prefix)
            self.outputs.setdefault(topic, []).append((one.key, one.value))
            fed.setdefault(topic, []).append((self._stamp, one.key or b"", one.value or b""))
        for topic, after in (("partials", "rollup"), ("findings", "incidents")):
            if topic in fed:
                self._feed(topic, after, fed[topic])

    def _feed(self, topic: str, stage: str, part: Log) -> None:
        start = self._places.get(topic, 0)
        self._places[topic] = start + len(part)
        batch = batch_of(self.settings.topic(topic), part, start)
        assert not self._cores[stage].fold(batch, final=True)
        self._commit(stage, {})


def batch_of(topic: str, part: Sequence[tuple[int, bytes, bytes]], start: int) -> FetchedBatch:
    """Return records as they are fetched."""
    return FetchedBatch(
        topic=topic,
        partition=0,
        incarnation=1,
        fetch_from=start,
        next_offset=start + len(part),
        offsets=np.arange(start, start + len(part)),
        timestamps=np.array([stamp for stamp, _, _ in part], np.int64),
        keys=[key for _, key, _ in part],
        values=[value for _, _, value in part],
        headers=[()] * len(part),
    )
