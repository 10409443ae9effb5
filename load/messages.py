"""The fleet's records as Kafka messages: encoded, in arrival order.

With the tasks goes what belongs to them, and corrupt records are among them.

Times go in as ms from the start of the data and come out shifted to `origin_ms`.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from typing import TYPE_CHECKING, Any

import numpy as np

from load import companions, encoder, truth
from load.fleet import DAY_MS
from load.truth import HOUR_MS
from streams import schemas
from streams.sender import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from load.fleet import Tasks
    from load.truth import Truth

TASKS, SECURITY = "tasks", "security"
CHUNK = 4_096
LEAD_MS = 3 * HOUR_MS
"""How much sooner than the tasks all else is produced: a fraction of a second where a day takes
seconds. Else a queue would be told of when its minutes are over already."""


class Messages:
    """The records of a fleet, ready to produce."""

    def __init__(self, tasks: Tasks, facts: Truth, origin_ms: int) -> None:
        """Shift `tasks`, and what `facts` puts around them, to `origin_ms`."""
        self._tasks = tasks
        self._origin_ms = origin_ms
        self._keys = [agent.name.encode() for agent in tasks.agents]
        extra = [*_security(facts, origin_ms), *_corrupt(facts, tasks, origin_ms)]
        extra += companions.records(tasks, facts, origin_ms)
        self._extra = sorted(extra, key=lambda one: one[0])
        self._times = [max(0, at - LEAD_MS) for at, _ in self._extra]

    def __len__(self) -> int:
        """Return the number of messages."""
        return len(self._tasks) + len(self._extra)

    @property
    def end_ms(self) -> int:
        """Return when the last message arrives, ms from the start of the data."""
        return max(int(self._tasks.arrives_at[-1]), self._extra[-1][0] if self._extra else 0)

    def between(self, from_ms: int, until_ms: int) -> Iterator[list[Outgoing]]:
        """Yield what arrives in [from_ms, until_ms) of the data, a few thousand at once."""
        ends = np.searchsorted(self._tasks.arrives_at, (from_ms, until_ms)).tolist()
        first, last = (bisect_left(self._times, at) for at in (from_ms, until_ms))
        for low in range(first, last, CHUNK):
            yield [record for _, record in self._extra[low : min(low + CHUNK, last)]]
        for low in range(ends[0], ends[1], CHUNK):
            rows = slice(low, min(low + CHUNK, ends[1]))
            values = encode(self._tasks, rows, self._origin_ms)
            agents = self._tasks.agent[rows].tolist()
            yield [Outgoing(TASKS, self._keys[a], v) for a, v in zip(agents, values, strict=True)]


def encode(tasks: Tasks, rows: slice, origin_ms: int) -> list[bytes]:
    """Encode rows of the fleet as values of TaskFinished.

    Raises:
        KeyError: the schema has a field that the demo does not make.
    """
    fields = _task_fields(tasks, rows, origin_ms)
    schema = schemas.get("TaskFinished")
    return encoder.join(schema.frame, [fields[field["name"]] for field in schema.raw["fields"]])


def _task_fields(tasks: Tasks, rows: slice, origin_ms: int) -> dict[str, encoder.Cells]:
    agent = tasks.agent[rows]
    none = encoder.nulls(len(agent))
    kinds = [kind for one in tasks.agents for kind in one.task_types]
    first = np.cumsum([0, *(len(one.task_types) for one in tasks.agents[:-1])])
    symbols = schemas.schema("TaskFinished")["fields"]
    outcomes = next(f for f in symbols if f["name"] == "outcome")["type"]["symbols"]
    symbol = np.array([outcomes.index(name) for name in ("AUTOMATED", "ESCALATED", "FAILED")])
    run, version = tasks.run[rows], tasks.version[rows]
    tools = np.array([one.tool_calls for one in tasks.runs], dtype=np.float64)
    return {
        "event_id": encoder.hex_texts(tasks.number[rows]),
        "occurred_at": encoder.longs(tasks.occurred_at[rows] + origin_ms),
        "tenant": none,
        "agent_id": encoder.texts(agent, [one.name for one in tasks.agents]),
        "trace_id": none,
        "task_type": encoder.texts(first[agent] + tasks.task_type[rows], kinds),
        "outcome": encoder.longs(symbol[tasks.outcome[rows]]),
        "error_type": encoder.optional_texts(run, [one.error_type for one in tasks.runs]),
        "duration_ms": encoder.doubles(tasks.duration_ms[rows]),
        "cost_usd": encoder.doubles(tasks.cost_usd[rows]),
        "input_tokens": encoder.longs(tasks.input_tokens[rows]),
        "output_tokens": encoder.longs(tasks.output_tokens[rows]),
        "cached_tokens": none,
        "confidence": encoder.present(encoder.doubles(tasks.confidence[rows])),
        "model": encoder.optional_texts(agent, [one.model for one in tasks.agents]),
        "prompt_version": encoder.optional_texts(version, [pair[1] for pair in tasks.versions]),
        "agent_version": encoder.optional_texts(version, [pair[0] for pair in tasks.versions]),
        "trust_tier": encoder.optional_texts(agent, [one.tier for one in tasks.agents]),
        "input_features": encoder.double_arrays(np.column_stack((tasks.turns[rows], tools[run]))),
    }


def _security(facts: Truth, origin_ms: int) -> Iterator[tuple[int, Outgoing]]:
    fields = {field["name"] for field in schemas.schema("SecurityEvent")["fields"]}
    for number, case in enumerate(facts.security):
        at = truth.start_ms(case)
        record = {name: case.get(name) for name in fields}
        record |= {"event_id": f"demo-s{number}", "occurred_at": at + origin_ms}
        record |= {"agent_id": case["agent"]}
        value = schemas.encode("SecurityEvent", record)
        yield at, Outgoing(SECURITY, case["agent"].encode(), value)


def _corrupt(facts: Truth, tasks: Tasks, origin_ms: int) -> Iterator[tuple[int, Outgoing]]:
    """Make the records that must become dead letters, spread over the last five days."""
    reasons = [reason for reason, count in facts.dead_letters.items() for _ in range(count)]
    first = (facts.days - 6) * DAY_MS + 7 * HOUR_MS
    step = (5 * DAY_MS - 8 * HOUR_MS) // max(1, len(reasons))
    for number, reason in enumerate(reasons):
        at = first + number * step
        agent = tasks.agents[number % len(tasks.agents)]
        record = _plain(agent.name, f"demo-c{number}", at + origin_ms)
        yield at, _spoilt(reason, agent.name.encode(), record, facts.days * DAY_MS)


def _plain(agent: str, event_id: str, at: int) -> dict[str, Any]:
    return {
        "event_id": event_id,
        "occurred_at": at,
        "agent_id": agent,
        "task_type": "corrupt",
        "outcome": "FAILED",
        "duration_ms": 1.0,
        "cost_usd": 0.0,
        "input_tokens": 1,
        "output_tokens": 1,
    }


def _spoilt(reason: str, key: bytes, record: dict[str, Any], span_ms: int) -> Outgoing:
    """Spoil a good record so that it must be refused for `reason`.

    Raises:
        ValueError: no record of the demo is refused for this reason.
    """
    at = record["occurred_at"]
    good = _task(record)
    same = {name: record[name] for name in ("event_id", "occurred_at", "agent_id")}
    security = same | {"kind": "OTHER", "severity": "LOW", "blocked": True}
    made: dict[str, tuple[bytes | None, bytes | None]] = {
        "NULL_VALUE": (key, None),
        "BAD_FRAMING": (key, json.dumps({"event_id": record["event_id"]}).encode()),
        "UNKNOWN_SCHEMA": (key, good[:2] + bytes(8) + good[schemas.FRAME :]),
        "WRONG_SCHEMA": (key, schemas.encode("SecurityEvent", security)),
        "BAD_BODY": (key, good[:-5]),
        "INVALID_FIELD": (key, _task(record | {"cost_usd": -1.0})),
        "KEY_MISSING": (None, good),
        "KEY_MISMATCH": (b"somebody-else", good),
        "STRAY_PARTITION": (key, good),
        "FUTURE": (key, _task(record | {"occurred_at": at + span_ms})),
        "TOO_LATE": (key, _task(record | {"occurred_at": at - 2 * span_ms})),
    }
    if reason not in made:
        raise ValueError(f"{reason}: the demo makes no such record; it can be {', '.join(made)}")
    return Outgoing(TASKS, *made[reason], stray=reason == "STRAY_PARTITION")


def _task(record: dict[str, Any]) -> bytes:
    return schemas.encode("TaskFinished", record)
