"""Lanes of fuzzed records: one topic and partition each, the same again for the same seed.

A lane is made twice, once to be sent and once to be judged, so that nothing of it is kept between.
Its records span a day of event time in which no midnight is passed. That day is long past: their
topics must keep records for ever.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from load.mutations import DAY, HOUR, KEYS, SHARES, Mutation, Sample, mutated, text, zigzag
from load.proof import partition_of
from load.reference import row_of
from load.versions import NEW_OUTCOME, NEW_SEVERITY, Version, current, join

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from load.reference import Record, Row

BEGIN = 1_736_215_200_000
"""First Kafka timestamp: Tuesday 2025-01-07, 02:00 UTC."""
_SPANS = 3 * HOUR, 18 * HOUR
"""Shortest and longest time that the records of a lane span."""
_STEP = 100
"""Milliseconds between two of its records, where that gives a span between them."""
CODECS = (0, 1, 2, 3, 4)
"""None, gzip, snappy, lz4 and zstd, as Kafka counts them."""
TASK_TYPES = ("invoice", "claim", "rückfrage", "t" * 256)
OUTCOMES = ("UNKNOWN", "AUTOMATED", "ESCALATED", "FAILED")
THREATS = ("OTHER", "INJECTION_ATTEMPT", "TRUST_TIER_VIOLATION", "ANOMALOUS_OUTPUT")
SEVERITIES = ("LOW", "MEDIUM", "HIGH", "CRITICAL")
POOL = 400
"""Different good bodies of a lane; ids and times differ for each record."""
AGENTS = 12
LARGEST_BATCH = 700_000
"""Bytes of values in a batch after which a new one begins."""
_SHARES = (0.0, 0.03, 0.3, 0.6, 0.9, 1.0)
"""Shares of fuzzed records in a batch."""
_HEADED = 0.06
_NAMES = ("trace", "traceparent", "content-type", "ключ", "", "x" * 200)
_RAW_NAMES = (b"\xff\xfe", b"ok\x80", b"\xed\xa0\x80", b"plain")
_ONE_IN = 40
"""Every so many batches have header names that are not UTF-8."""

Headers = tuple[tuple[bytes, bytes | None], ...]


class Fuzzed(NamedTuple):
    """One record to send.

    Attributes:
        key, value, timestamp: as on the broker.
        headers: names as bytes, UTF-8 or not.
        mutation: what was done to it, None for a good one.
        row: what must come out of it, for a good one.
    """

    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers
    mutation: Mutation | None
    row: Row | None


class FuzzedBatch(NamedTuple):
    """Records that stand in one Kafka batch, and the codec it is packed with."""

    codec: int
    records: list[Fuzzed]


class Body(NamedTuple):
    """A good record but for its id and its time, and the version it is written with."""

    key: bytes
    version: Version
    pieces: list[bytes]
    tail: bytes
    record: Record


@dataclass(frozen=True, slots=True)
class Lane:
    """The records of one topic and partition.

    Attributes:
        seed: of everything.
        stream: topic without its prefix.
        partition: number of the partition.
        partitions: number of partitions of the topic.
        values: how many fuzzed records there are.
        good: how many good ones, beside one for each series and one at the end.
        versions: schemas that good records are written with.
        hostile: frames of schemas that are known and cannot be read.
    """

    seed: int
    stream: str
    partition: int
    partitions: int
    values: int
    good: int
    versions: tuple[Version, ...]
    hostile: tuple[Version, ...] = ()

    @property
    def span(self) -> int:
        """How long after BEGIN its last records but one are produced, ms."""
        return max(_SPANS[0], min(_SPANS[1], _STEP * (self.values + self.good)))

    @property
    def end(self) -> int:
        """Event time of its last record, which closes all hours before."""
        return BEGIN + self.span + 2 * HOUR

    def batches(self) -> Iterator[FuzzedBatch]:
        """Yield the batches of the lane, always the same."""
        return _Maker(self).batches()


class _Maker:
    """Makes the records of a lane one after the other."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._random = Random(f"{lane.seed}/{lane.stream}/{lane.partition}")
        owners = list(_owners(lane.partitions, lane.partition))
        strangers = [each for p in _others(lane) for each in _owners(lane.partitions, p)]
        self._first = self._bodies([(owner, kind) for owner in owners for kind in TASK_TYPES])
        picks = [
            (self._random.choice(owners), self._random.choice(TASK_TYPES)) for _ in range(POOL)
        ]
        self._pool = self._first + self._bodies(picks)
        self._stray = self._bodies([(owner, TASK_TYPES[0]) for owner in strangers]) or self._pool
        self._other = _foreign(lane.stream, owners[0])
        self._total = lane.values + lane.good + len(self._first)
        self._made = 0
        self._follower = self._value(self._pool[0], BEGIN)

    # -- batches -----------------------------------------------------------------------------

    def batches(self) -> Iterator[FuzzedBatch]:
        yield FuzzedBatch(0, [self._good(body, first=True) for body in self._first])
        left = {True: self._lane.values, False: self._lane.good}
        number = 0
        while any(left.values()):
            number += 1
            odd = number % _ONE_IN == 0
            records = self._records(left, self._random.choice(_SHARES), 30 if odd else 1000, odd)
            yield FuzzedBatch(_codec(self._random, records), records)
        yield FuzzedBatch(4, [self._last()])

    def _records(self, left: dict[bool, int], share: float, most: int, odd: bool) -> list[Fuzzed]:
        """Return the next records, as many as go into a batch."""
        random, records, size = self._random, list[Fuzzed](), 0
        count = int(most ** random.random()) if random.random() < 0.6 else most
        while len(records) < count and size < LARGEST_BATCH and any(left.values()):
            bad = random.random() < share
            bad = bad if left[bad] else not bad
            left[bad] -= 1
            made = self._bad() if bad else self._good(random.choice(self._pool))
            if odd or random.random() < _HEADED:
                made = made._replace(headers=_headers(random, odd))
            size += len(made.value or b"")
            records.append(made)
        return records

    # -- records -----------------------------------------------------------------------------

    def _good(self, body: Body, *, first: bool = False) -> Fuzzed:
        stamp = self._stamp()
        at = stamp if first else stamp - _lateness(self._random)
        event_id = self._event_id()
        head = text(event_id) + zigzag(at)
        value = body.version.frame + head + body.tail
        self._follower = value
        record = body.record | {"event_id": event_id, "occurred_at": at}
        return Fuzzed(body.key, value, stamp, (), None, row_of(self._lane.stream, record))

    def _bad(self) -> Fuzzed:
        random, stamp = self._random, self._stamp()
        (mutation,) = random.choices(_MUTATIONS, cum_weights=_WEIGHTS)
        body = random.choice(self._stray if mutation is Mutation.STRAY else self._pool)
        key: bytes | None = body.key
        if mutation in KEYS:
            value: bytes | None = self._value(body, stamp - _lateness(random))
            key, stamp = self._odd_key(mutation, body.key, stamp)
        else:
            value = mutated(random, mutation, self._sample(body, stamp))
            if random.random() < 0.03:
                key = random.choice((None, b"\xff", b"nobody", random.choice(self._pool).key))
        return Fuzzed(key, value, stamp, (), mutation, None)

    def _odd_key(self, mutation: Mutation, key: bytes, stamp: int) -> tuple[bytes | None, int]:
        random = self._random
        if mutation is Mutation.NULL_KEY:
            return None, stamp
        if mutation is Mutation.NOISE_KEY:
            at, noise = random.randrange(len(key)), random.randbytes(random.randrange(12))
            return random.choice((noise, key[:at] + noise[:1] + key[at + 1 :], key + b"\0")), stamp
        if mutation is Mutation.OTHER_KEY:
            return random.choice(self._pool).key, stamp
        if mutation is Mutation.ODD_TIMESTAMP:
            return key, random.choice((0, 1, BEGIN - 40 * DAY, stamp - 7 * DAY, stamp - HOUR))
        return key, stamp

    def _last(self) -> Fuzzed:
        made = self._good(self._first[0])
        body, end = self._first[0], self._lane.end
        record = body.record | {"event_id": "last", "occurred_at": end}
        value = body.version.frame + text("last") + zigzag(end) + body.tail
        return made._replace(value=value, timestamp=end, row=row_of(self._lane.stream, record))

    def _sample(self, body: Body, stamp: int) -> Sample:
        version, pieces = body.version, body.pieces
        if self._lane.hostile and self._random.random() < 0.02:
            version = self._random.choice(self._lane.hostile)
        head = [text(self._event_id()), zigzag(stamp - _lateness(self._random))]
        return Sample(
            frame=version.frame,
            pieces=head + pieces[2:],
            kinds=body.version.kinds,
            key=body.key,
            timestamp=stamp,
            follower=self._follower,
            other=self._random.choice(self._other),
        )

    def _value(self, body: Body, at: int) -> bytes:
        return body.version.frame + text(self._event_id()) + zigzag(at) + body.tail

    def _stamp(self) -> int:
        self._made += 1
        return BEGIN + self._lane.span * self._made // (self._total + 1)

    def _event_id(self) -> str:
        return f"{self._lane.stream[0]}{self._lane.partition:03x}{self._made:012x}"

    # -- bodies ------------------------------------------------------------------------------

    def _bodies(self, picks: Sequence[tuple[Owner, str]]) -> list[Body]:
        return [self._body(owner, kind) for owner, kind in picks]

    def _body(self, owner: Owner, task_type: str) -> Body:
        random, version = self._random, self._random.choice(self._lane.versions)
        written = _MAKERS[self._lane.stream](random, owner, task_type)
        names = {each["name"] for each in version.raw["fields"]}
        if "region" in names:
            written |= {"region": random.choice((None, "eu")), "retries": random.randrange(9)}
            for field, symbol in (("outcome", NEW_OUTCOME), ("severity", NEW_SEVERITY)):
                if field in names and random.random() < 0.1:
                    written[field] = symbol
        pieces = version.pieces(written)
        return Body(owner.key, version, pieces, b"".join(pieces[2:]), _seen(written, names))


class Owner(NamedTuple):
    """An agent and its tenant."""

    tenant: str | None
    agent_id: str

    @property
    def key(self) -> bytes:
        """The key of its records."""
        return ("" if self.tenant is None else f"{self.tenant}/").encode() + self.agent_id.encode()


_DEFAULTS = {"attempts": 1}
"""What a field is that its writer does not have, where that is not null."""
_MUTATIONS = list(SHARES)
_WEIGHTS = [sum(list(SHARES.values())[: n + 1]) for n in range(len(SHARES))]


def _owners(partitions: int, partition: int) -> Iterator[Owner]:
    """Yield agents of a partition: plain, with tenants, not ASCII, and three that share a key."""
    found = number = 0
    while found < AGENTS:
        number += 1
        names = (
            (Owner(None, f"agent-{number}"),),
            (Owner(f"acme-{number % 3}", f"agent-{number}"),),
            (Owner("büro", f"prüfer-{number}"),),
            (Owner(None, f"a{number}/b/c"), Owner(f"a{number}", "b/c"), Owner(f"a{number}/b", "c")),
        )[number % 4]
        if partition_of(names[0].key, partitions) == partition:
            found += len(names)
            yield from names


def _others(lane: Lane) -> list[int]:
    return [p for p in range(lane.partitions) if p != lane.partition][:3]


def _foreign(stream: str, owner: Owner) -> list[bytes]:
    """Return good values of the other topic's record, and of one that is on neither."""
    other = "security" if stream == "tasks" else "tasks"
    record = _MAKERS[other](Random(0), owner, TASK_TYPES[0])
    record |= {"event_id": "e", "occurred_at": BEGIN}
    version = current(other)
    return [join(version.frame, version.pieces(record))]


def _task(random: Random, owner: Owner, task_type: str) -> Record:
    def maybe(value: Any) -> Any:
        return value if random.random() < 0.6 else None

    return {
        "event_id": "",
        "occurred_at": 0,
        **owner._asdict(),
        "trace_id": maybe(f"{random.randrange(1 << 64):032x}"),
        "task_type": task_type,
        "outcome": random.choice(OUTCOMES),
        "error_type": maybe("TIMEOUT"),
        "duration_ms": random.choice((0.0, 1e12, random.uniform(0, 90_000))),
        "cost_usd": random.choice((0.0, 1e9, random.random())) * (random.random() < 0.9),
        "input_tokens": random.choice((0, random.randrange(100_000), random.randrange(1 << 31))),
        "output_tokens": random.randrange(10_000),
        "cached_tokens": maybe(random.randrange(10_000)),
        "confidence": maybe(random.random()),
        "model": maybe("some-model"),
        "prompt_version": maybe("2026.1"),
        "agent_version": maybe("1.2.3"),
        "trust_tier": maybe("T2"),
        "input_features": [random.random() for _ in range(random.choice((0, 0, 2, 3, 70)))],
    }


def _threat(random: Random, owner: Owner, task_type: str) -> Record:
    del task_type

    def maybe(value: str) -> str | None:
        return value if random.random() < 0.5 else None

    return {
        "event_id": "",
        "occurred_at": 0,
        **owner._asdict(),
        "trace_id": maybe(f"{random.randrange(1 << 64):032x}"),
        "kind": random.choice(THREATS),
        "severity": random.choice(SEVERITIES),
        "blocked": random.random() < 0.5,
        "allowed_tier": maybe("T1"),
        "attempted_tier": maybe("T3"),
        "action": maybe("überweisen"),
        "detail_code": maybe("X" * 256),
        "evidence_ref": maybe("evidence/1"),
    }


def _call(random: Random, owner: Owner, integration: str) -> Record:
    def maybe(value: Any) -> Any:
        return value if random.random() < 0.5 else None

    return {
        "event_id": "",
        "occurred_at": 0,
        **owner._asdict(),
        "trace_id": maybe(f"{random.randrange(1 << 64):032x}"),
        "integration": integration,
        "operation": random.choice(("read", "write", "löschen")),
        "outcome": random.choice(("UNKNOWN", "OK", "ERROR", "TIMEOUT")),
        "error_type": maybe(random.choice(("RATE_LIMITED", "", "X" * 256))),
        "status_code": maybe(random.choice((0, 200, 399, 400, 503, 9999))),
        "duration_ms": random.choice((0.0, 1e12, random.uniform(0, 90_000))),
        "attempts": random.choice((1, 2, 1000)),
        "purpose": random.choice(("PRODUCTION", "CONTRACT_TEST")),
    }


_MAKERS = {"tasks": _task, "security": _threat, "calls": _call}


def _seen(written: Record, names: set[str]) -> Record:
    """Return what a reader of the current version sees of what a version wrote."""
    seen = {
        name: value if name in names else _DEFAULTS.get(name) for name, value in written.items()
    }
    if seen.get("outcome") == NEW_OUTCOME:
        seen["outcome"] = "UNKNOWN"
    if seen.get("severity") == NEW_SEVERITY:
        seen["severity"] = "HIGH"
    return seen


def _lateness(random: Random) -> int:
    """Return how far an event lies behind its Kafka timestamp, ms; a few lie ahead."""
    draw = random.random()
    if draw < 0.7:
        return random.randrange(2_000)
    if draw < 0.95:
        return random.randrange(600_000)
    return random.randrange(3 * DAY) if draw < 0.99 else -random.randrange(300_001)


def _headers(random: Random, odd: bool) -> Headers:
    names = _RAW_NAMES if odd else [name.encode() for name in _NAMES]
    values = (None, b"", b"\0\xff", b"some value", random.randbytes(40))
    return tuple((random.choice(names), random.choice(values)) for _ in range(random.randint(1, 3)))


def _codec(random: Random, records: Sequence[Fuzzed]) -> int:
    """Return a codec; what is too large for a batch must be packed."""
    large = sum(len(each.value or b"") for each in records) > LARGEST_BATCH
    return random.choice(CODECS[1:] if large else CODECS)
