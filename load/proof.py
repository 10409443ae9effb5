"""Logs in, differences out: what the input topics demand against what the output topics hold.

The input logs are read once more from the broker and given to the oracle; nothing of what a
producer or a worker believes to have done counts. Decoding is plain `fastavro` over the files in
`schemas/`; nothing is imported from `streams`.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import fastavro

from load.oracle import SUMS, Oracle, Record, alerts

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
MARKER = b"\xc3\x01"
TOLERANCE = 1e-9
"""Relative difference up to which two floats count as equal."""

STREAMS = {"tasks": "TaskFinished", "security": "SecurityEvent"}
"""Input topics without their prefix, and their record."""

_BRIEF = (
    "finding_id",
    "members",
    "status",
    "rule",
    "arm",
    "transition",
    "reason",
    "entity_id",
    "agent_id",
    "task_type",
    "kind",
    "window_start",
    "revision",
    "at",
    "value",
)


class LogRecord(NamedTuple):
    """One record as on the broker."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class RefusedError(ValueError):
    """The record cannot be an event; the message is the dead-letter reason."""


class DeadLetter(NamedTuple):
    """A refused record: where it stood and why it was refused."""

    topic: str
    partition: int
    offset: int
    reason: str


@dataclass(slots=True)
class Outputs:
    """What one partition says, expected or found, each in the order it was said."""

    findings: list[Record] = field(default_factory=list)
    alerts: list[Record] = field(default_factory=list)
    windows: list[Record] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


@dataclass(slots=True)
class Expected:
    """What the input logs demand.

    Attributes:
        outputs: by partition.
        records: input records by (topic, partition).
        admitted: admitted records by stream.
        sums: totals of all admitted tasks by column.
        refused: dead letters by reason.
    """

    outputs: dict[int, Outputs] = field(default_factory=dict)
    records: Counter[tuple[str, int]] = field(default_factory=Counter)
    admitted: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


class _Schema(NamedTuple):
    name: str
    parsed: Any


def crc64_avro(data: bytes) -> int:
    """Return CRC-64-AVRO, the Rabin fingerprint of the Avro specification."""
    empty = 0xC15D213AA4D7A795
    crc = empty
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (empty if crc & 1 else 0)
    return crc


@cache
def schemas() -> dict[bytes, _Schema]:
    """Return the public schemas by fingerprint (8 bytes, little-endian)."""
    found = {}
    for path in sorted(SCHEMAS.glob("*.avsc")):
        raw = _plain(json.loads(path.read_text(encoding="utf-8")))
        canonical = fastavro.schema.to_parsing_canonical_form(raw)
        frame = crc64_avro(canonical.encode()).to_bytes(8, "little")
        parsed = fastavro.parse_schema(raw, named_schemas={})
        found[frame] = _Schema(path.stem, parsed)
    return found


def _plain(node: Any) -> Any:
    """Return a schema without logical types, so that times stay integers."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items() if key != "logicalType"}
    return [_plain(each) for each in node] if isinstance(node, list) else node


def encode(name: str, record: Record) -> bytes:
    """Encode a record as a single object.

    Raises:
        KeyError: no schema has that name.
    """
    for frame, found in schemas().items():
        if found.name == name:
            stream = BytesIO()
            stream.write(MARKER + frame)
            fastavro.schemaless_writer(stream, found.parsed, record)
            return stream.getvalue()
    raise KeyError(name)


def decode(value: bytes | None, expected: str) -> Record:
    """Decode a single object of the expected record.

    Raises:
        RefusedError: it is none; the message is the reason.
    """
    if value is None:
        raise RefusedError("NULL_VALUE")
    if len(value) < 10 or value[:2] != MARKER:
        raise RefusedError("BAD_FRAMING")
    known = schemas().get(value[2:10])
    if known is None:
        raise RefusedError("UNKNOWN_SCHEMA")
    if known.name != expected:
        raise RefusedError("WRONG_SCHEMA")
    stream = BytesIO(value[10:])
    try:
        record = cast("Record", fastavro.schemaless_reader(stream, known.parsed, None))
    except Exception as error:
        raise RefusedError("BAD_BODY") from error
    if stream.tell() != len(value) - 10:
        raise RefusedError("BAD_BODY")
    return record


def murmur2(data: bytes) -> int:
    """Return Kafka's default hash of a key: 32-bit murmur2 with Kafka's seed, unsigned."""
    mixer, mask = 0x5BD1E995, 0xFFFFFFFF
    result = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * mixer & mask
        k = (k ^ k >> 24) * mixer & mask
        result = (result * mixer & mask) ^ k
    if len(data) > whole:
        result = (result ^ int.from_bytes(data[whole:], "little")) * mixer & mask
    result = (result ^ result >> 13) * mixer & mask
    return result ^ result >> 15


@cache
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition a producer with Kafka's default partitioner chooses."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def check_fields(record: Record) -> None:
    """Hold a record against the limits written in the schemas.

    Raises:
        RefusedError: INVALID_FIELD.
    """
    for name, value in record.items():
        if isinstance(value, str):
            needed = name in ("event_id", "tenant", "agent_id", "task_type")
            if len(value) > 256 or (needed and not value):
                raise RefusedError("INVALID_FIELD")
        upper = {"duration_ms": 1e12, "cost_usd": 1e9, "confidence": 1.0}.get(name)
        if name.endswith("_tokens"):
            upper = 2**40
        if upper is not None and value is not None and not 0 <= value <= upper:
            raise RefusedError("INVALID_FIELD")
    if len(record.get("input_features", ())) > 256:
        raise RefusedError("INVALID_FIELD")


def read_event(log: LogRecord, expected: str, partitions: int) -> Record:
    """Return the event in a log record.

    Raises:
        RefusedError: it is none; the message is the reason.
    """
    record = decode(log.value, expected)
    check_fields(record)
    if log.key is None:
        raise RefusedError("KEY_MISSING")
    tenant = "" if record["tenant"] is None else record["tenant"] + "/"
    if log.key != (tenant + record["agent_id"]).encode():
        raise RefusedError("KEY_MISMATCH")
    if partition_of(log.key, partitions) != log.partition:
        raise RefusedError("STRAY_PARTITION")
    return record


def expect(
    logs: Iterable[LogRecord],
    *,
    partitions: int,
    max_series: int = 10_000,
    prefix: str = "agentops.",
) -> Expected:
    """Compute what the input logs demand of every partition.

    Each topic-partition must come in offset order; how topics and partitions are interleaved does
    not matter. At the end the security lives are quieted by the tasks clock, as a worker at the
    end of both topics does.
    """
    expected = Expected()
    oracles = {p: Oracle(p, max_series=max_series, prefix=prefix) for p in range(partitions)}
    outputs = expected.outputs = {p: Outputs() for p in range(partitions)}
    for log in logs:
        stream = log.topic.removeprefix(prefix)
        if stream not in STREAMS:
            continue
        expected.records[log.topic, log.partition] += 1
        oracle = oracles[log.partition]
        try:
            record = read_event(log, STREAMS[stream], partitions)
        except RefusedError as refused:
            letter = DeadLetter(log.topic, log.partition, log.offset, str(refused))
            outputs[log.partition].dead_letters.append(letter)
            continue
        take = oracle.task if stream == "tasks" else oracle.security
        take(log.offset, log.timestamp, record)
    for p, oracle in oracles.items():
        _conclude(expected, p, oracle)
    return expected


def _conclude(expected: Expected, p: int, oracle: Oracle) -> None:
    """Write down what one partition must have said at the end of its logs."""
    clock = oracle.clocks["tasks"]
    if clock is not None:
        oracle.quiet(clock)
    outputs = expected.outputs[p]
    outputs.dead_letters += [DeadLetter(topic, p, at, why) for topic, at, why in oracle.refusals]
    outputs.findings = oracle.findings
    outputs.alerts = alerts(oracle.findings)
    outputs.windows = oracle.window_log
    expected.admitted.update(oracle.admitted)
    expected.sums.update(dict(zip(SUMS, oracle.sums, strict=True)))
    expected.refused.update(letter.reason for letter in outputs.dead_letters)


def read_outputs(
    logs: Iterable[LogRecord], *, partitions: int, prefix: str = "agentops."
) -> dict[int, Outputs]:
    """Sort what the output topics hold by the partition it is about; logs in offset order.

    Raises:
        RefusedError: a record of our own does not decode.
        KeyError: a dead letter lacks a header, or something is about no partition there is.
    """
    outputs = {p: Outputs() for p in range(partitions)}
    for log in logs:
        stream = log.topic.removeprefix(prefix)
        if stream == "findings":
            record = decode(log.value, "Finding")
            outputs[record["evidence_partition"]].findings.append(record)
        elif stream == "alerts":
            record = decode(log.value, "Alert")
            outputs[record["evidence_partition"]].alerts.append(record)
        elif stream == "windows":
            outputs[log.partition].windows.append(decode(log.value, "Window"))
        elif stream == "dead-letters":
            letter = read_letter(log)
            outputs[letter.partition].dead_letters.append(letter)
    return outputs


def read_letter(log: LogRecord) -> DeadLetter:
    """Return which record a dead letter is, and why."""
    found = {name: value.decode() for name, value in log.headers}
    at = int(found["partition"]), int(found["offset"])
    return DeadLetter(found["topic"], *at, found["reason"])


def compare(expected: dict[int, Outputs], actual: dict[int, Outputs]) -> list[str]:
    """Return the differences, one sentence each; an empty list is the proof."""
    found = []
    for p in sorted(expected | actual):
        demanded, said = expected.get(p, Outputs()), actual.get(p, Outputs())
        lines = [
            *_differences("finding", (demanded.findings, said.findings), _finding_key),
            *_differences("alert", (demanded.alerts, said.alerts), _alert_key),
            *_differences("window", (demanded.windows, said.windows), _window_key),
            *_letters(demanded.dead_letters, said.dead_letters),
            *_order(demanded.findings, said.findings),
            *_alert_order(said),
        ]
        found += [f"partition {p}: {line}" for line in lines]
    return found


def _finding_key(record: Record) -> Hashable:
    return str(record["finding_id"])


def _alert_key(record: Record) -> Hashable:
    return record["status"], *record["members"]


def _window_key(record: Record) -> Hashable:
    names = ("tenant", "agent_id", "task_type", "window_start", "revision")
    return tuple(record[name] for name in names)


def _differences(
    kind: str,
    sides: tuple[list[Record], list[Record]],
    key: Callable[[Record], Hashable],
) -> list[str]:
    """Compare two lists by key; only fields that are expected count."""
    expected, actual = ({key(record): record for record in side} for side in sides)
    lines = [
        f"{kind} said {times} times: {name}"
        for name, times in Counter(map(key, sides[1])).items()
        if times > 1
    ]
    if len(expected) != len(sides[0]):
        lines.append(f"{kind}: the oracle itself says {len(sides[0]) - len(expected)} twice")
    lines += [f"{kind} missing: {_brief(expected[k])}" for k in expected if k not in actual]
    lines += [f"{kind} extra: {_brief(actual[k])}" for k in actual if k not in expected]
    for name in (name for name in expected if name in actual):
        other = actual[name]
        lines += [
            f"{kind} {name}: {of} is {other.get(of)!r}, expected {value!r}"
            for of, value in expected[name].items()
            if not _same(value, other.get(of))
        ]
    return lines


def _same(expected: Any, actual: Any) -> bool:
    if isinstance(expected, float) and isinstance(actual, int | float):
        return math.isclose(expected, actual, rel_tol=TOLERANCE)
    return bool(expected == actual)


def _brief(record: Record) -> str:
    return ", ".join(f"{name}={record[name]}" for name in _BRIEF if record.get(name) is not None)


def _letters(expected: list[DeadLetter], actual: list[DeadLetter]) -> list[str]:
    lines = [
        f"dead letter said {times} times: {letter}"
        for letter, times in Counter(actual).items()
        if times > 1
    ]
    lines += [f"dead letter missing: {each}" for each in sorted(set(expected) - set(actual))]
    lines += [f"dead letter extra: {each}" for each in sorted(set(actual) - set(expected))]
    return lines


def _order(expected: list[Record], actual: list[Record]) -> list[str]:
    """Compare the order of the findings of each rule on each entity."""
    orders: list[dict[str, dict[str, None]]] = []
    for side in (expected, actual):
        order: dict[str, dict[str, None]] = defaultdict(dict)
        for finding in side:
            order[finding["fingerprint"]][finding["finding_id"]] = None
        orders.append(order)
    demanded, said = orders
    return [
        f"findings of {name} are in the order {list(said[name])}, expected {list(ids)}"
        for name, ids in demanded.items()
        if name in said and said[name] == ids and list(said[name]) != list(ids)
    ]


def _alert_order(said: Outputs) -> list[str]:
    """Check that alerts stand in the order of their findings."""
    place = {finding["finding_id"]: at for at, finding in enumerate(said.findings)}
    members = [member for alert in said.alerts for member in alert["members"]]
    places = [place[member] for member in members if member in place]
    return [] if places == sorted(places) else ["alerts are not in the order of their findings"]
