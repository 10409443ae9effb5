"""Records of a fetched batch, decoded into columns or events, or refused with a reason.

Finished tasks are read in columns, all records of a batch at once; what is odd in any way is
read record by record with fastavro, which alone decides what is refused and why. So one broken
record costs its neighbours nothing, and the outcome of a record never depends on its batch.

A field the reader does not use is skipped: its length is judged, its content is not.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from streams import schemas
from streams.batch import Refusal
from streams.columns import (
    AUTOMATED,
    ESCALATED,
    FAILED,
    UNKNOWN,
    DictColumn,
    SecurityEvent,
    TaskColumns,
)
from streams.cursor import Plan, Spans, Text
from streams.keys import MAX_ID, Keys, Partitioner
from streams.reasons import DeadLetterReason
from streams.trace import trace_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from streams.batch import FetchedBatch
    from streams.cursor import Column

T = TypeVar("T")

END_OF_TIME = 4_102_444_800_000
"""2100-01-01 UTC in ms: no event time is this late."""
MAX_COST_USD = 1e9
MAX_DURATION_MS = 1e12
MAX_TOKENS = 2**40

_TOKENS = ("input_tokens", "output_tokens", "cached_tokens")
_RANGES: dict[str, tuple[float, float]] = {
    "occurred_at": (0, END_OF_TIME - 1),
    "duration_ms": (0, MAX_DURATION_MS),
    "cost_usd": (0, MAX_COST_USD),
    **dict.fromkeys(_TOKENS, (0, MAX_TOKENS)),
}
"""Smallest and largest value of each numeric field; NaN lies in no range."""
_IDS = ("event_id", "tenant", "agent_id", "task_type")
_OUTCOMES = {"AUTOMATED": AUTOMATED, "ESCALATED": ESCALATED, "FAILED": FAILED}
_WANTED = (*_IDS, *_RANGES, "outcome")
_COLUMNAR = {name: {"string", "bytes"} for name in _IDS}
_COLUMNAR |= {name: {"int", "long"} for name in ("occurred_at", *_TOKENS)}
_COLUMNAR |= {name: {"int", "long", "float", "double"} for name in ("duration_ms", "cost_usd")}
_COLUMNAR |= {"outcome": {"enum"}}
"""The types a writer may give a wanted field for it to be read in columns."""
_MAX_PLANS = 64
"""Writer schemas prepared for columns before the preparing starts anew."""
_FEW = 24
"""Fewer records are read sooner one by one than in columns."""
_MAX_ID_BYTES = 4 * MAX_ID


@dataclass(frozen=True, slots=True, eq=False)
class Decoded(Generic[T]):
    """What a batch gave.

    Attributes:
        rows: int64[m], the indices of the good records in the batch, ascending.
        value: the m good records.
        refused: the others, by index ascending.
        unknown: the frames of those refused as UNKNOWN_SCHEMA: worth a look-up.
    """

    rows: NDArray[np.int64]
    value: T
    refused: list[Refusal]
    unknown: frozenset[bytes] = frozenset()


class TaskDecoder:
    """Decodes batches of the tasks topic.

    Args:
        partitions: number of partitions of the topic.
        partitioner: how producers choose a partition; see `Keys`.
        find: gives the schemas of other writers by frame; the built-in ones are always known.
    """

    def __init__(
        self,
        *,
        partitions: int,
        partitioner: Partitioner = "murmur2",
        find: schemas.Find | None = None,
    ) -> None:
        self._keys = Keys(partitions, partitioner)
        self._reader = schemas.Reader("TaskFinished", find, _WANTED)
        self._plans: dict[bytes, Plan | None] = {}
        self._learn(self._reader.current.frame)

    def decode(self, batch: FetchedBatch) -> Decoded[TaskColumns]:
        """Decode all records of a batch."""
        if len(batch) < _FEW:
            return _merged(*self._singles(batch, np.arange(len(batch))))
        values = [value or b"" for value in batch.values]
        text = Text(values)
        size = np.fromiter(map(len, values), np.int64, len(values))
        end = np.cumsum(size)
        start = end - size
        rest = np.ones(len(values), np.bool_)
        here = ~np.isin(batch.offsets, [*batch.oversize, *batch.unreadable])
        parts: list[tuple[NDArray[np.int64], TaskColumns]] = []

        def columns(frame: bytes, plan: Plan) -> None:
            rows = np.flatnonzero(_framed(text, start, size, frame) & here)
            if len(rows):
                raw, regular = plan.read(text, start[rows] + len(frame), end[rows])
                done, found = self._select(raw, regular, rows, batch)
                rest[rows[done]] = False
                parts.append((rows[done], found))

        for frame, plan in list(self._plans.items()):
            if plan is not None and rest.any():
                columns(frame, plan)
        for frame in self._newcomers(values, np.flatnonzero(rest)):
            if plan := self._learn(frame):
                columns(frame, plan)
        singles, refused, unknown = self._singles(batch, np.flatnonzero(rest))
        parts.extend(singles)
        return _merged(parts, refused, unknown)

    def _newcomers(self, values: Sequence[bytes], rows: NDArray[np.int64]) -> list[bytes]:
        """Return frames among `rows` that were not met before, if their schemas are known."""
        found = []
        frames = {value[: schemas.FRAME] for value in map(values.__getitem__, rows.tolist())}
        for start in frames:
            with suppress(schemas.DecodeError):
                frame = schemas.frame_of(start)
                if frame not in self._plans and frame not in found:
                    self._reader.writer(frame)
                    found.append(frame)
        return found

    def _learn(self, frame: bytes) -> Plan | None:
        """Prepare to read the values of a known frame in columns; None where they have none."""
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        plan = self._plans[frame] = _plan(self._reader.writer(frame))
        return plan

    def _select(
        self,
        raw: dict[str, Column],
        regular: NDArray[np.bool_],
        rows: NDArray[np.int64],
        batch: FetchedBatch,
    ) -> tuple[NDArray[np.int64], TaskColumns]:
        """Return the rows of `raw` that keep all limits, and their columns."""
        with np.errstate(all="ignore"):  # the floats of a broken record can be anything
            good, numbers, texts = _within_limits(raw, regular)
        codes, names = texts["task_type"].distinct()
        types = [_name(name) for name in names]
        good &= np.fromiter((name is not None for name in types), np.bool_, len(types))[codes]
        whole = len(rows) == len(batch)
        keys = batch.keys if whole else [batch.keys[row] for row in rows.tolist()]
        tenant, agent, named = self._keys.columns(
            keys, texts["tenant"], texts["agent_id"], batch.partition
        )
        good &= named
        good[good] = _event_ids(texts["event_id"], good)
        columns = TaskColumns(
            occurred_at=numbers["occurred_at"],
            outcome=numbers["outcome"].astype(np.int8),
            cost_micro=_rounded(numbers["cost_usd"], good, 1e6),
            duration_us=_rounded(numbers["duration_ms"], good, 1e3),
            input_tokens=numbers["input_tokens"],
            output_tokens=numbers["output_tokens"],
            cached_tokens=numbers["cached_tokens"],
            tenant=tenant,
            agent=agent,
            task_type=DictColumn(codes, types),
        )
        done = np.flatnonzero(good)
        if len(done) < len(rows):
            # Joining leaves out the names that only broken records had.
            columns = TaskColumns.join([columns.take(done)])
        return done, columns

    def _singles(
        self, batch: FetchedBatch, rows: NDArray[np.int64]
    ) -> tuple[list[tuple[NDArray[np.int64], TaskColumns]], list[Refusal], frozenset[bytes]]:
        """Decode the records at `rows` one by one."""
        done = _each(batch, rows, lambda row: _checked(self._reader, self._keys, batch, row))
        parts = [(done.rows, _columns_of(done.value))] if len(done.rows) else []
        return parts, done.refused, done.unknown


class SecurityDecoder:
    """Decodes batches of the security topic; the parameters are those of `TaskDecoder`."""

    def __init__(
        self,
        *,
        partitions: int,
        partitioner: Partitioner = "murmur2",
        find: schemas.Find | None = None,
    ) -> None:
        self._keys = Keys(partitions, partitioner)
        self._reader = schemas.Reader("SecurityEvent", find)

    def decode(self, batch: FetchedBatch) -> Decoded[list[SecurityEvent]]:
        """Decode all records of a batch; a trace id may also stand in the headers."""

        def event(row: int) -> SecurityEvent:
            record = _checked(self._reader, self._keys, batch, row)
            if record["trace_id"] is None and batch.headers[row]:
                record["trace_id"] = trace_id(batch.headers[row])
            return SecurityEvent(**record)

        return _each(batch, np.arange(len(batch)), event)


class RecordDecoder:
    """Decodes batches of a topic of ours, such as the findings: any key, any field values.

    Args:
        name: name of the schema.
        find: gives the schemas of other writers by frame.
    """

    def __init__(self, name: str, find: schemas.Find | None = None) -> None:
        self._reader = schemas.Reader(name, find)

    def decode(self, batch: FetchedBatch) -> Decoded[list[dict[str, Any]]]:
        """Decode all records of a batch."""
        rows = np.arange(len(batch))
        return _each(batch, rows, lambda row: self._reader.read(_whole_value(batch, row)))


def _plan(schema: schemas.Schema) -> Plan | None:
    """Return how to read a writer's values in columns; None where that is not possible."""
    for field in schema.raw["fields"]:
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        plain = {kind["type"] if isinstance(kind, dict) else kind for kind in kinds} - {"null"}
        if not plain <= _COLUMNAR.get(field["name"], plain):
            return None
    try:
        return Plan(schema.raw, _WANTED, {"outcome": lambda name: _OUTCOMES.get(name, UNKNOWN)})
    except NotImplementedError:
        return None


def _within_limits(
    raw: dict[str, Column], regular: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], dict[str, NDArray[Any]], dict[str, Spans]]:
    """Return which rows keep the limits, the numbers, and the texts (empty where they do not)."""
    good = regular.copy()
    numbers: dict[str, NDArray[Any]] = {}
    for name in (*_RANGES, "outcome"):
        found = raw.get(name)
        if isinstance(found, tuple):
            column, present = found
        else:
            column, present = np.zeros(len(good), np.int64), None
        if name in _RANGES:
            low, high = _RANGES[name]
            good &= (column >= low) & (column <= high)
        if present is not None and name != "cached_tokens":
            good &= present
        numbers[name] = column
    texts: dict[str, Spans] = {}
    for name in _IDS:
        spans = raw.get(name)
        if not isinstance(spans, Spans):
            nothing = np.zeros(len(good), np.int64)
            texts[name] = Spans(Text([]), nothing, nothing, np.zeros(len(good), np.bool_))
            continue
        fits = (spans.length >= 1) & (spans.length <= _MAX_ID_BYTES)
        good &= fits & spans.present if name != "tenant" else fits | ~spans.present
        texts[name] = spans
    for name, spans in texts.items():
        texts[name] = spans.where(good)
    return good, numbers, texts


def _event_ids(spans: Spans, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the good rows have a UTF-8 id of at most MAX_ID characters."""
    fine = spans.ascii() & (spans.length <= MAX_ID)
    for row in np.flatnonzero(good & ~fine).tolist():
        fine[row] = _name(spans.bytes_at(row)) is not None
    return fine[good]


def _rounded(
    numbers: NDArray[np.float64], good: NDArray[np.bool_], scale: float
) -> NDArray[np.int64]:
    """Return floor(number * scale + 0.5), 0 where not good; the same as `_round`."""
    return np.floor(np.where(good, numbers, 0.0) * scale + 0.5).astype(np.int64)


def _round(number: float, scale: float) -> int:
    return math.floor(number * scale + 0.5)


def _name(text: bytes) -> str | None:
    """Return an id as a string, None where it is not UTF-8 of 1 to MAX_ID characters."""
    try:
        name = text.decode()
    except UnicodeDecodeError:
        return None
    return name if 1 <= len(name) <= MAX_ID else None


def _framed(
    text: Text, start: NDArray[np.int64], size: NDArray[np.int64], frame: bytes
) -> NDArray[np.bool_]:
    """Return which values start with a frame."""
    found: NDArray[np.bool_] = size >= len(frame)
    for at in (0, max(0, len(frame) - 8)):
        part = frame[at : at + 8]
        keep = np.uint64((1 << 8 * len(part)) - 1)
        found &= (text.words[start + at] & keep) == np.uint64(int.from_bytes(part, "little"))
    return found


def _checked(reader: schemas.Reader, keys: Keys, batch: FetchedBatch, row: int) -> dict[str, Any]:
    """Decode one event and judge its fields and its key, or raise DecodeError."""
    record = reader.read(_whole_value(batch, row))
    detail = _invalid(record)
    if detail is not None:
        raise schemas.DecodeError(DeadLetterReason.INVALID_FIELD, detail)
    problem = keys.problem(batch.keys[row], record["tenant"], record["agent_id"], batch.partition)
    if problem is not None:
        raise schemas.DecodeError(*problem)
    return record


def _invalid(record: Mapping[str, Any]) -> str | None:
    """Return which field is outside its limits, and how; None where all are within."""
    for name, value in record.items():
        if isinstance(value, str):
            least = 1 if name in _IDS else 0
            if not least <= len(value) <= MAX_ID:
                return f"{name} has {len(value)} characters, allowed are {least} to {MAX_ID}"
        elif name in _RANGES and value is not None:
            low, high = _RANGES[name]
            if not low <= value <= high:
                return f"{name} is {value!r}, allowed is {low:.15g} to {high:.15g}"
    return None


def _columns_of(records: Sequence[Mapping[str, Any]]) -> TaskColumns:
    def numbers(name: str) -> NDArray[np.int64]:
        return np.array([record[name] or 0 for record in records], np.int64)

    def texts(name: str) -> DictColumn:
        return DictColumn.of([record[name] for record in records])

    return TaskColumns(
        occurred_at=numbers("occurred_at"),
        outcome=np.array([_OUTCOMES.get(r["outcome"], UNKNOWN) for r in records], np.int8),
        cost_micro=np.array([_round(r["cost_usd"], 1e6) for r in records], np.int64),
        duration_us=np.array([_round(r["duration_ms"], 1e3) for r in records], np.int64),
        input_tokens=numbers("input_tokens"),
        output_tokens=numbers("output_tokens"),
        cached_tokens=numbers("cached_tokens"),
        tenant=texts("tenant"),
        agent=texts("agent_id"),
        task_type=texts("task_type"),
    )


def _merged(
    parts: list[tuple[NDArray[np.int64], TaskColumns]],
    refused: list[Refusal],
    unknown: frozenset[bytes],
) -> Decoded[TaskColumns]:
    """Put parts that hold different rows of one batch in the order of the rows."""
    if not parts:
        return Decoded(np.empty(0, np.int64), _columns_of([]), refused, unknown)
    if len(parts) == 1:
        return Decoded(*parts[0], refused, unknown)
    rows = np.concatenate([part[0] for part in parts])
    order = np.argsort(rows)
    joined = TaskColumns.join([part[1] for part in parts]).take(order)
    return Decoded(rows[order], joined, refused, unknown)


def _each(
    batch: FetchedBatch, rows: NDArray[np.int64], read: Callable[[int], T]
) -> Decoded[list[T]]:
    """Decode the records of a batch at `rows` one by one."""
    found: list[T] = []
    kept: list[int] = []
    refused: list[Refusal] = []
    unknown: set[bytes] = set()
    for row in rows.tolist():
        try:
            found.append(read(row))
            kept.append(row)
        except schemas.DecodeError as error:
            refused.append(Refusal(row, error.reason, error.detail))
            if error.reason is DeadLetterReason.UNKNOWN_SCHEMA:
                unknown.add(schemas.frame_of(batch.values[row] or b""))
    return Decoded(np.array(kept, np.int64), found, refused, frozenset(unknown))


def _whole_value(batch: FetchedBatch, row: int) -> bytes | None:
    """Return a value, or raise DecodeError where not all of it is here."""
    if batch.oversize or batch.unreadable:
        offset = int(batch.offsets[row])
        if (why := batch.unreadable.get(offset)) is not None:
            raise schemas.DecodeError(DeadLetterReason.UNREADABLE_BATCH, why)
        if (size := batch.oversize.get(offset)) is not None:
            detail = f"key and value have {size} bytes, more than max_value_bytes allows"
            raise schemas.DecodeError(DeadLetterReason.OVERSIZE, detail)
    return batch.values[row]
