"""What must become of one record: its fields, or the reason for which it is refused.

The reference that fuzzing judges the service by: plain `fastavro` over the files in `schemas/`, the
whole value consumed, then the limits of the contract, the key and the partition, then the rules of
time and of the bound on series. Record by record, no columns, nothing imported from `streams`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import fastavro

from load.oracle import Clock
from load.proof import MARKER, SCHEMAS, RefusedError, crc64_avro, partition_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Row = tuple[Any, ...]
Record = dict[str, Any]

RECORDS = {"tasks": "TaskFinished", "security": "SecurityEvent"}
"""The record of each topic that a run sends, by its name without the prefix."""
DECODED = RECORDS | {"calls": "IntegrationCall"}
"""The same of each topic whose decoder is judged."""
OUTCOMES = ("AUTOMATED", "ESCALATED", "FAILED", "UNKNOWN")
TASK_FIELDS = (
    "event_id",
    "occurred_at",
    "tenant",
    "agent_id",
    "task_type",
    "outcome",
    "duration_ms",
    "cost_usd",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "confidence",
    "model",
    "input_features",
)
"""Fields of a task that are judged; of the others only the encoding is."""
CALL_FIELDS = (
    "event_id",
    "occurred_at",
    "tenant",
    "agent_id",
    "integration",
    "operation",
    "outcome",
    "error_type",
    "status_code",
    "duration_ms",
    "attempts",
    "purpose",
)
"""The same of a call."""
SECURITY_ROW = (
    "event_id",
    "occurred_at",
    "tenant",
    "agent_id",
    "kind",
    "severity",
    "blocked",
    "trace_id",
    "allowed_tier",
    "attempted_tier",
    "action",
    "detail_code",
    "evidence_ref",
)
_JUDGED = {
    "TaskFinished": TASK_FIELDS,
    "IntegrationCall": CALL_FIELDS,
    "SecurityEvent": SECURITY_ROW,
}
_NEEDED = ("event_id", "tenant", "agent_id", "task_type", "integration", "operation")
_TOKENS = 2**40
_MOST = {
    "occurred_at": 4_102_444_799_999,
    "duration_ms": 1e12,
    "cost_usd": 1e9,
    "input_tokens": _TOKENS,
    "output_tokens": _TOKENS,
    "cached_tokens": _TOKENS,
    "confidence": 1,
    "status_code": 9999,
    "attempts": 1000,
}
_LEAST = {"attempts": 1}


class Verdict(NamedTuple):
    """What becomes of a record before its time is looked at.

    Attributes:
        reason: why it is refused, None where it is not.
        row: what comes out of the decoder; None where refused.
    """

    reason: str | None
    row: Row | None


@dataclass(frozen=True, slots=True)
class Writer:
    """A schema values are written with.

    Attributes:
        record: name of the record.
        names: of its fields.
        parsed: for fastavro, without logical types; texts that are not judged are bytes: those
            that no reader knows, and of a task those it does not use.
    """

    record: str
    names: frozenset[str]
    parsed: Any


class Reference:
    """Judges single records.

    Args:
        partitions: number of partitions of the topics.
        max_bytes: largest key with value.
        others: schemas as JSON beside those of `schemas/`, each with the frame that names it.
    """

    def __init__(
        self,
        partitions: int,
        max_bytes: int = 1 << 20,
        others: Iterable[tuple[bytes, Record]] = (),
    ) -> None:
        self._partitions = partitions
        self._max_bytes = max_bytes
        files = (json.loads(path.read_text("utf-8")) for path in SCHEMAS.rglob("*.avsc"))
        pairs = [(frame_of(raw), raw) for raw in files]
        self._writers = {frame: _writer(raw) for frame, raw in [*pairs, *others]}
        self._readers = {stream: _fields(name) for stream, name in DECODED.items()}

    def judge(self, stream: str, partition: int, key: bytes | None, value: bytes | None) -> Verdict:
        """Judge a record of the topic `stream`."""
        try:
            record = self._decode(stream, len(key or b""), value)
            _check_fields({name: record[name] for name in _JUDGED[DECODED[stream]]})
            self._check_key(partition, key, record)
        except RefusedError as refused:
            return Verdict(str(refused), None)
        return Verdict(None, row_of(stream, record))

    def key_of(self, stream: str, value: bytes | None) -> bytes | None:
        """Return the key that a value asks for; None where it has no fields to ask with."""
        try:
            return _key_of(self._decode(stream, 0, value))
        except RefusedError:
            return None

    def _decode(self, stream: str, key_bytes: int, value: bytes | None) -> Record:
        if key_bytes + len(value or b"") > self._max_bytes:
            raise RefusedError("OVERSIZE")
        if value is None:
            raise RefusedError("NULL_VALUE")
        frame = framing(value)
        if frame is None:
            raise RefusedError("BAD_FRAMING")
        writer = self._writers.get(frame)
        if writer is None:
            raise RefusedError("UNKNOWN_SCHEMA")
        if writer.record != DECODED[stream]:
            raise RefusedError("WRONG_SCHEMA")
        reader = self._readers[stream]
        if not all("default" in each or each["name"] in writer.names for each in reader):
            raise RefusedError("INCOMPATIBLE_SCHEMA")
        record = _read(writer.parsed, value[len(frame) :])
        if record is None:
            raise RefusedError("BAD_BODY")
        return _resolved(record, reader)

    def _check_key(self, partition: int, key: bytes | None, record: Record) -> None:
        if key is None or not _is_text(key):
            raise RefusedError("KEY_MISSING")
        if key != _key_of(record):
            raise RefusedError("KEY_MISMATCH")
        if partition_of(key, self._partitions) != partition:
            raise RefusedError("STRAY_PARTITION")


class Gate:
    """The rules of time and of the bound on series, for one topic and partition in log order.

    The clock must not pass a midnight while series can be freed, as this reference frees none.

    Args:
        stream: the topic.
        max_series: most series of a partition.
    """

    def __init__(self, stream: str, max_series: int) -> None:
        self._tasks = stream == "tasks"
        self._max_series = max_series
        self._clock = Clock()
        self._agents: set[Row] = set()
        self._series: set[Row] = set()

    def __len__(self) -> int:
        """Return the number of series."""
        return len(self._agents) + len(self._series)

    def refuses(self, row: Row, timestamp: int) -> str | None:
        """Take the next decoded record; return why it is refused, or None."""
        at = row[0] if self._tasks else row[1]
        reason = self._clock.refuses(at, timestamp)
        if reason is not None:
            return reason
        if self._full(row):
            return "SERIES_LIMIT"
        self._clock.move(self._clock.after(at, timestamp))
        return None

    def _full(self, row: Row) -> bool:
        """Count the series of a row, or return that there is no room for it."""
        agent, series = (row[7:9], row[7:11]) if self._tasks else ((), row[2:5])
        new = int(series not in self._series) + int(self._tasks and agent not in self._agents)
        if new and len(self) + new > self._max_series:
            return True
        self._series.add(series)
        if self._tasks:
            self._agents.add(agent)
        return False


def frame_of(raw: Record) -> bytes:
    """Return the ten bytes that single objects of a schema start with."""
    canonical = fastavro.schema.to_parsing_canonical_form(plain_schema(raw))
    return MARKER + crc64_avro(canonical.encode()).to_bytes(8, "little")


def framing(value: bytes) -> bytes | None:
    """Return the frame of a value: C3 01 and a fingerprint, or 00 and an id; None for neither."""
    if value[:2] == MARKER and len(value) >= 10:
        return value[:10]
    if value[:1] == b"\0" and len(value) >= 5:
        return value[:5]
    return None


def _check_fields(record: Record) -> None:
    if not all(within_limits(name, field) for name, field in record.items()):
        raise RefusedError("INVALID_FIELD")


def within_limits(name: str, field: Any) -> bool:
    """Return whether a field keeps the limits that the contract gives for its name."""
    if isinstance(field, str):
        return (1 if name in _NEEDED else 0) <= len(field) <= 256
    if isinstance(field, list):
        return len(field) <= 256 and all(map(math.isfinite, field))
    most = _MOST.get(name)
    return most is None or field is None or _LEAST.get(name, 0) <= field <= most


def row_of(stream: str, record: Mapping[str, Any]) -> Row:
    """Return what the decoder of a topic gives for a record."""
    if stream == "security":
        return tuple(record[name] for name in SECURITY_ROW)
    if stream == "calls":
        return _call_row(record)
    return (
        record["occurred_at"],
        OUTCOMES.index(record["outcome"]),
        math.floor(record["cost_usd"] * 1e6 + 0.5),
        math.floor(record["duration_ms"] * 1e3 + 0.5),
        record["input_tokens"],
        record["output_tokens"],
        record["cached_tokens"] or 0,
        record["tenant"],
        record["agent_id"],
        record["task_type"],
        record["model"] or None,
        record["confidence"],
        record["input_features"],
    )


def _call_row(record: Mapping[str, Any]) -> Row:
    outcome, status, error = record["outcome"], record["status_code"] or 0, None
    if outcome in {"ERROR", "TIMEOUT"}:
        error = record["error_type"] or (f"HTTP_{status}" if status >= 400 else outcome)
    return (
        record["occurred_at"],
        {"OK": 0, "ERROR": 2, "TIMEOUT": 2}.get(outcome, 3),
        outcome == "TIMEOUT",
        math.floor(record["duration_ms"] * 1e3 + 0.5),
        record["attempts"],
        record["purpose"] == "CONTRACT_TEST",
        record["tenant"],
        record["agent_id"],
        record["integration"],
        record["operation"],
        error,
    )


def _writer(raw: Record) -> Writer:
    plain = plain_schema(raw)
    name = raw["name"].rpartition(".")[2]
    if name in DECODED.values():
        judged = _JUDGED[name]
        plain["fields"] = [
            field if field["name"] in judged else {**field, "type": _bytes(field["type"])}
            for field in plain["fields"]
        ]
    for field in plain["fields"]:
        field.pop("default", None)  # of no use to a writer, and not that of a changed type
    names = frozenset(field["name"] for field in plain["fields"])
    return Writer(name, names, fastavro.parse_schema(plain, named_schemas={}))


def _fields(name: str) -> list[Record]:
    """Return the fields of the current version of a record."""
    raw: Record = json.loads((SCHEMAS / f"{name}.avsc").read_text("utf-8"))
    return list(raw["fields"])


def plain_schema(node: Any) -> Any:
    """Return a schema without logical types, so that times stay integers."""
    if isinstance(node, dict):
        return {key: plain_schema(value) for key, value in node.items() if key != "logicalType"}
    return [plain_schema(each) for each in node] if isinstance(node, list) else node


def _bytes(kind: Any) -> Any:
    """Return a type that takes any bytes as text."""
    if isinstance(kind, list):
        return [_bytes(branch) for branch in kind]
    if isinstance(kind, dict) and "items" in kind:
        return {**kind, "items": _bytes(kind["items"])}
    return "bytes" if kind == "string" else kind


def _read(parsed: Any, body: bytes) -> Record | None:
    """Return the record that is all of `body`, None where there is none."""
    stream = BytesIO(body)
    try:
        record: Any = fastavro.schemaless_reader(stream, parsed, None)
    except Exception:  # noqa: BLE001 - fastavro documents no set of errors
        return None
    return record if stream.tell() == len(body) else None


def _resolved(record: Record, reader: list[Record]) -> Record:
    """Return a writer's record with the fields of the reader, by the rules of Avro."""
    resolved: Record = {}
    for field in reader:
        name, kind = field["name"], field["type"]
        found = record[name] if name in record else field["default"]
        if isinstance(kind, dict) and kind["type"] == "enum" and found not in kind["symbols"]:
            found = kind["default"]
        resolved[name] = found
    return resolved


def _key_of(record: Record) -> bytes:
    tenant = "" if record["tenant"] is None else record["tenant"] + "/"
    return str(tenant + record["agent_id"]).encode()


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
