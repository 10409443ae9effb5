"""What the input topics demand, and what the output topics hold; `differences` compares them.

The input logs are read once more from the broker and given to the oracle; nothing of what a
producer or a worker believes to have done counts. Decoding is plain `fastavro` over the files in
`schemas/`; nothing is imported from `streams`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import fastavro

from load.oracle import SUMS, Oracle, Record, alerts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"
MARKER = b"\xc3\x01"
STREAMS = {"tasks": "TaskFinished", "security": "SecurityEvent"}
"""Input topics without their prefix, and their record."""


class LogRecord(NamedTuple):
    """One record as on the broker."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()


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


class Writer(NamedTuple):
    """A schema that values are written with.

    Attributes:
        name: name of the record.
        fields: names of its fields.
        parsed: for fastavro, without logical types; None where it cannot be used.
    """

    name: str
    fields: frozenset[str]
    parsed: Any


UNUSABLE = Writer("", frozenset(), None)
"""What is registered under an id and is no Avro schema."""


def crc64_avro(data: bytes) -> int:
    """Return CRC-64-AVRO, the Rabin fingerprint of the Avro specification."""
    empty = 0xC15D213AA4D7A795
    crc = empty
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (empty if crc & 1 else 0)
    return crc


def single_object_frame(raw: Record) -> bytes:
    """Return what single objects of a schema start with."""
    canonical = fastavro.schema.to_parsing_canonical_form(_plain(raw))
    return MARKER + crc64_avro(canonical.encode()).to_bytes(8, "little")


def writer_of(raw: Record) -> Writer:
    """Return a schema given as JSON."""
    names = frozenset(field["name"] for field in raw["fields"])
    parsed = fastavro.parse_schema(_plain(raw), named_schemas={})
    return Writer(raw["name"].rpartition(".")[2], names, parsed)


@cache
def schemas() -> dict[bytes, Writer]:
    """Return the public schemas, released versions included, by what their values start with."""
    paths = [*SCHEMAS.glob("history/*/*.avsc"), *SCHEMAS.glob("*.avsc")]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(paths)]
    return {single_object_frame(raw): writer_of(raw) for raw in found}


@cache
def _today(name: str) -> tuple[bytes, Writer, frozenset[str]]:
    """Return frame, schema and fields without default of a record as `schemas/` has it."""
    raw = json.loads((SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8"))
    needed = frozenset(field["name"] for field in raw["fields"] if "default" not in field)
    return single_object_frame(raw), writer_of(raw), needed


def _plain(node: Any) -> Any:
    """Return a schema without logical types, so that times stay integers."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items() if key != "logicalType"}
    return [_plain(each) for each in node] if isinstance(node, list) else node


def encode(name: str, record: Record) -> bytes:
    """Encode a record as a single object.

    Raises:
        OSError: no schema has that name.
    """
    frame, writer, _ = _today(name)
    stream = BytesIO()
    stream.write(frame)
    fastavro.schemaless_writer(stream, writer.parsed, record)
    return stream.getvalue()


def decode(
    value: bytes | None, expected: str, writers: Mapping[bytes, Writer] | None = None
) -> Record:
    """Decode a value as the expected record of today.

    Args:
        value: what was written.
        expected: name of the record.
        writers: the schemas there are, by what a value starts with; the public ones when None.

    Raises:
        RefusedError: it is none; the message is the reason.
    """
    frame = _frame_of(value)
    writer = (schemas() if writers is None else writers).get(frame)
    own_frame, own, needed = _today(expected)
    if writer is None:
        raise RefusedError("UNKNOWN_SCHEMA")
    if writer.parsed is None:
        raise RefusedError("INCOMPATIBLE_SCHEMA")
    if writer.name != expected:
        raise RefusedError("WRONG_SCHEMA")
    if not needed <= writer.fields:
        raise RefusedError("INCOMPATIBLE_SCHEMA")
    body = (value or b"")[len(frame) :]
    # First as it was written: what a reader skips, fastavro does not look for the end of.
    record = _body(body, writer, None)
    return record if frame == own_frame else _body(body, writer, own)


def _frame_of(value: bytes | None) -> bytes:
    if value is None:
        raise RefusedError("NULL_VALUE")
    for start, size in ((MARKER, 10), (b"\0", 5)):
        if value.startswith(start) and len(value) >= size:
            return value[:size]
    raise RefusedError("BAD_FRAMING")


def _body(body: bytes, writer: Writer, reader: Writer | None) -> Record:
    stream = BytesIO(body)
    resolved = None if reader is None else reader.parsed
    try:
        record = cast("Record", fastavro.schemaless_reader(stream, writer.parsed, resolved))
    except Exception as error:
        raise RefusedError("BAD_BODY") from error
    if stream.tell() != len(body):
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


def read_event(
    log: LogRecord,
    expected: str,
    partitions: int,
    writers: Mapping[bytes, Writer] | None = None,
) -> Record:
    """Return the event in a log record.

    Raises:
        RefusedError: it is none; the message is the reason.
    """
    record = decode(log.value, expected, writers)
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
    writers: Mapping[bytes, Writer] | None = None,
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
            record = read_event(log, STREAMS[stream], partitions, writers)
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
    logs: Iterable[LogRecord],
    *,
    partitions: int,
    prefix: str = "agentops.",
    writers: Mapping[bytes, Writer] | None = None,
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
            record = decode(log.value, "Finding", writers)
            outputs[record["evidence_partition"]].findings.append(record)
        elif stream == "alerts":
            record = decode(log.value, "Alert", writers)
            outputs[record["evidence_partition"]].alerts.append(record)
        elif stream == "windows":
            outputs[log.partition].windows.append(decode(log.value, "Window", writers))
        elif stream == "dead-letters":
            letter = read_letter(log)
            outputs[letter.partition].dead_letters.append(letter)
    return outputs


def read_letter(log: LogRecord) -> DeadLetter:
    """Return which record a dead letter is, and why."""
    found = {name: value.decode() for name, value in log.headers if value is not None}
    at = int(found["partition"]), int(found["offset"])
    return DeadLetter(found["topic"], *at, found["reason"])
