"""Seeded events for the exactly-once proof: weeks of a fleet, with incidents and broken records.

Not a picture of a real fleet (that is `load.fleet`) but of everything the semantics tell apart:
late and refused events, quiet agents, drops, error rates, bursts, a rate that becomes the new
normal, security events of every kind, invented agents past the series limit, undecodable values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from load.dialects import FOREIGN, LACKING, STRANGER
from load.judge import DAY, HOUR, MIN
from load.proof import MARKER, encode, partition_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from load.dialects import Dialects

TASKS_TOPIC, SECURITY_TOPIC = "agentops.tasks", "agentops.security"
SCHEMAS_TOPIC = "agentops.schemas"
BEGIN = 1_736_121_600_000
"""Event time of the first chunk: Monday 2025-01-06, 00:00 UTC."""
FAR_FUTURE = 3_471_292_800_000
"""An event time that is ahead of every clock: 2080."""
TASK_TYPES = ("invoice", "booking")
KINDS = ("OTHER", "INJECTION_ATTEMPT", "TRUST_TIER_VIOLATION")
LATE_KIND = "ANOMALOUS_OUTPUT"
"""Kind that comes late only, and rarely: then it does not matter by which clock it is quieted."""
BROKEN = (
    "null",
    "framing",
    "schema",
    "wrong",
    "short",
    "long",
    "field",
    "no-key",
    "other-key",
    "stray",
)
WITH_DIALECTS = ("id", "cut", LACKING, STRANGER, FOREIGN)
"""More of them, where there are several schemas."""
BROKEN_SHARE, BROKEN_SHARE_WITH_DIALECTS = 0.002, 0.01
ROGUES_PER_PARTITION = 5


class Message(NamedTuple):
    """One record to produce."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None


class Chunk(NamedTuple):
    """An hour of events; security must be on the broker before the tasks are sent.

    Otherwise it would depend on timing whether a security life is quieted by the tasks clock
    before or after an event of the same hour. Schemas must be there before either.
    """

    start: int
    security: list[Message]
    tasks: list[Message]
    schemas: Sequence[Message] = ()


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that goes wrong with an agent in [start, end)."""

    kind: str
    start: int
    end: int


@dataclass(slots=True)
class Source:
    """An agent: where it belongs, how busy it is and what befalls it."""

    tenant: str | None
    agent_id: str
    partition: int
    weight: float
    incidents: list[Incident] = field(default_factory=list)
    late_at: int = BEGIN

    @property
    def key(self) -> bytes:
        """The record key."""
        return f"{self.tenant}/{self.agent_id}".encode() if self.tenant else self.agent_id.encode()

    @property
    def registered(self) -> bool:
        """Whether its values name their schemas by the ids of a registry."""
        return sum(self.key) % 2 == 0


class Traffic:
    """Chunks of events, the same for the same arguments.

    Args:
        seed: seed of everything.
        partitions: number of partitions; each has the same number of agents.
        agents: number of agents, rounded down to a multiple of `partitions`.
        days: days of event time, from BEGIN.
        tasks: about how many tasks, without bursts.
        dialects: how values are written; as single objects of today's schemas when None.
    """

    def __init__(
        self,
        seed: int,
        *,
        partitions: int,
        agents: int,
        days: int,
        tasks: int,
        dialects: Dialects | None = None,
    ) -> None:
        self._random = Random(seed)
        self._partitions, self._days, self._dialects = partitions, days, dialects
        self._day = 0
        self._per_hour = tasks / (days * 24)
        self.sources = [
            source for p in range(partitions) for source in self._team(p, agents // partitions)
        ]
        self._weights = [source.weight for source in self.sources]
        for number, source in enumerate(self.sources):
            source.incidents = self._incidents(number)
        self._event = 0

    @property
    def max_series(self) -> int:
        """The series limit under which the last of the invented agents are refused."""
        own = len(self.sources) // self._partitions * (1 + len(TASK_TYPES))
        return own + 2 * (ROGUES_PER_PARTITION - 2)

    @property
    def hours(self) -> int:
        """How many chunks there are."""
        return self._days * 24

    def chunks(self) -> Iterator[Chunk]:
        """Yield the chunks in order of event time."""
        for number in range(self.hours):
            start = BEGIN + number * HOUR
            self._day = number // 24
            schemas = self._schemas() if number % 24 == 0 else []
            yield Chunk(start, self._security(start), self._tasks(start), schemas)

    def _schemas(self) -> list[Message]:
        """Return what producers without a registry publish on this day, and an odd one."""
        if self._dialects is None:
            return []
        found = [
            Message(SCHEMAS_TOPIC, 0, version.frame[2:].hex().encode(), version.text.encode())
            for version in self._dialects.published(self._day)
        ]
        return [*found, Message(SCHEMAS_TOPIC, 0, b"\xff" * 8, b"{")]

    # ---- the fleet

    def _team(self, partition: int, size: int, name: str = "agent") -> list[Source]:
        found: list[Source] = []
        number = 0
        while len(found) < size:
            number += 1
            tenant = (None, "north", "south")[number % 3]
            source = Source(tenant, f"{name}-{number}", partition, self._random.uniform(0.5, 2))
            if partition_of(source.key, self._partitions) == partition:
                found.append(source)
        return found

    def _incidents(self, number: int) -> list[Incident]:
        """Give two agents of three an incident, every kind in turn."""
        end = BEGIN + self._days * DAY
        kinds = ("errors", "burst", "drop", "", "errors", "", "burst", "drop", "long", "")
        kind = kinds[number % len(kinds)]
        if not kind:
            return []
        if kind == "burst":
            starts = [self._random.randrange(BEGIN, end, 10 * MIN) for _ in range(3)]
            return [Incident(kind, start, start + 10 * MIN) for start in starts]
        first, length = {
            "errors": (1, self._random.randrange(12, 48) * HOUR),
            "drop": (9, self._random.randrange(24, 72) * HOUR),
            "long": (2, 9 * DAY),
        }[kind]
        earliest = min(BEGIN + first * DAY, end - DAY)
        start = self._random.randrange(earliest, max(earliest + HOUR, end - length), HOUR)
        return [Incident(kind, start, start + length)]

    # ---- tasks

    def _tasks(self, start: int) -> list[Message]:
        random = self._random
        wave = 1 + 0.5 * math.sin(2 * math.pi * (start % DAY) / DAY)
        count = max(1, round(random.gauss(self._per_hour * wave, self._per_hour**0.5)))
        picked = random.choices(self.sources, self._weights, k=count)
        events = [(start + random.randrange(HOUR), source) for source in picked]
        for source in self.sources:
            for incident in source.incidents:
                if incident.kind == "burst" and start <= incident.start < start + HOUR:
                    events += [(incident.start + random.randrange(4 * MIN), source)] * 60
        events.sort(key=lambda event: event[0])
        share = BROKEN_SHARE_WITH_DIALECTS if self._dialects else BROKEN_SHARE
        messages = []
        for at, source in events:
            messages.append(self._task(source, at, start))
            if random.random() < share:
                messages.append(self._broken(source, at))
        messages += self._rogues(start)
        return messages

    def _task(self, source: Source, at: int, start: int) -> Message:
        random = self._random
        outcome, draw = "AUTOMATED", random.random()
        good, failed = _rates(source, at)
        if draw < failed:
            outcome = "FAILED"
        elif draw > failed + good:
            outcome = "ESCALATED" if random.random() < 0.99 else "UNKNOWN"
        fate = random.random()
        occurred_at = at
        if fate < 0.01:
            occurred_at -= int(random.expovariate(1 / (2 * HOUR)))
        elif fate < 0.0105:
            occurred_at -= random.randrange(1, 30) * DAY
        elif fate < 0.011:
            occurred_at = FAR_FUTURE
        elif fate < 0.0115 and start > BEGIN + DAY:
            occurred_at -= 38 * DAY
        return self._message(TASKS_TOPIC, source, self._record(source, occurred_at, outcome))

    def _record(self, source: Source, at: int, outcome: str) -> dict[str, Any]:
        random = self._random
        return self._common(source, at) | {
            "task_type": TASK_TYPES[random.random() < 0.3],
            "outcome": outcome,
            "error_type": "TIMEOUT" if outcome == "FAILED" else None,
            "duration_ms": random.expovariate(1 / 900),
            "cost_usd": random.expovariate(50),
            "input_tokens": random.randrange(4000),
            "output_tokens": random.randrange(800),
            "cached_tokens": random.randrange(400) if random.random() < 0.5 else None,
            "model": "m-1",
        }

    def _common(self, source: Source, at: int) -> dict[str, Any]:
        self._event += 1
        return {
            "event_id": f"e{self._event}",
            "occurred_at": at,
            "tenant": source.tenant,
            "agent_id": source.agent_id,
        }

    def _message(
        self, topic: str, source: Source, record: dict[str, Any], word: str = ""
    ) -> Message:
        """Return a record to produce; `word` names the version to write it in, if not any."""
        if self._dialects is not None:
            value = self._dialects.write(
                self._random, record, self._day, registered=source.registered, word=word
            )
        else:
            name = "TaskFinished" if "task_type" in record else "SecurityEvent"
            value = encode(name, record)
        return Message(topic, source.partition, source.key, value)

    def _rogues(self, start: int) -> list[Message]:
        """Invent agents in the middle of the time, for an hour every other day."""
        day, hour = divmod((start - BEGIN) // HOUR, 24)
        if hour != 7 or day < self._days // 2 or day % 2:
            return []
        return [
            self._task(rogue, start + HOUR - 1, start)
            for p in range(0, self._partitions, 2)
            for rogue in self._team(p, ROGUES_PER_PARTITION, "rogue")
        ]

    def _broken(self, source: Source, at: int) -> Message:
        """Return a record that cannot be an event, in one of ten ways and some more."""
        record = self._record(source, at, "AUTOMATED")
        how = self._random.choice(BROKEN + WITH_DIALECTS if self._dialects else BROKEN)
        if how == "field":
            record["cost_usd"] = -1.0
        word = how if how in (LACKING, STRANGER, FOREIGN) else ""
        good = self._message(TASKS_TOPIC, source, record, word)
        value, stray = good.value or b"", (source.partition + 1) % self._partitions
        size = 10 if value.startswith(MARKER) else 5
        unknown = self._random.randrange(10**6, 2 * 10**6) if how == "id" else 0
        changes: dict[str, dict[str, Any]] = {
            "null": {"value": None},
            "framing": {"value": b"\x01" + value},
            "schema": {"value": MARKER + b"\xff" * 8 + value[size:]},
            "id": {"value": b"\0" + unknown.to_bytes(4, "big") + value[size:]},
            "cut": {"value": value[: size - 1]},
            "wrong": {"value": self._security_event(source, at, "OTHER").value},
            "short": {"value": value[:-3]},
            "long": {"value": value + b"\x00"},
            "no-key": {"key": None},
            "other-key": {"key": source.key + b"x"},
            "stray": {"partition": stray},
        }
        return good._replace(**changes.get(how, {}))

    # ---- security

    def _security(self, start: int) -> list[Message]:
        random = self._random
        events = []
        for source in self.sources:
            if random.random() < 0.015:
                several = random.choice((1, 1, 2, 6))
                kind = random.choice(KINDS)
                events += [(start + random.randrange(HOUR), source, kind) for _ in range(several)]
        events.sort(key=lambda event: event[0])
        messages = [self._security_event(source, at, kind) for at, source, kind in events]
        source = random.choice(self.sources)
        if random.random() < 0.3 and start - source.late_at >= 5 * DAY:
            source.late_at = start
            late = random.choice((7, 12, 30)) * HOUR
            messages.append(self._security_event(source, start - late, LATE_KIND))
        if random.random() < 0.02:
            messages.append(self._security_event(source, FAR_FUTURE, "OTHER"))
        if random.random() < 0.02 and start > BEGIN + 5 * DAY:
            messages.append(self._security_event(source, start - 50 * DAY, "OTHER"))
        return messages

    def _security_event(self, source: Source, at: int, kind: str) -> Message:
        random = self._random
        severity = random.choices(("LOW", "MEDIUM", "HIGH", "CRITICAL"), (10, 5, 1, 1))[0]
        record = self._common(source, at) | {
            "kind": kind,
            "severity": severity,
            "blocked": random.random() < 0.9,
        }
        return self._message(SECURITY_TOPIC, source, record)


def _rates(source: Source, at: int) -> tuple[float, float]:
    """Return the automated and the error rate of an agent at a time."""
    good, failed = 0.9, 0.004
    for incident in source.incidents:
        if incident.start <= at < incident.end:
            good = 0.55 if incident.kind == "drop" else good
            failed = {"errors": 0.1, "burst": 0.6, "long": 0.12}.get(incident.kind, failed)
    return min(good, 1 - failed), failed
