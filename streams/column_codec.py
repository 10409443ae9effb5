"""All records of a batch decoded at once, in columns.

What is odd in any way is read record by record with fastavro, which alone decides what is refused
and why. So one broken record costs its neighbours nothing, and the outcome of a record never
depends on its batch.

A field the reader does not use is skipped: its length is judged, its content is not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from streams import schemas
from streams.column_layout import IDS, Columns, Fields, Layout
from streams.columns import DictColumn, Ragged
from streams.cursor import Lists, Plan, Spans, Text
from streams.decoding import Decoded, each, event_of
from streams.keys import Keys, Partitioner
from streams.limits import MAX_ID, MAX_ITEMS, RANGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from streams.batch import FetchedBatch, Refusal
    from streams.cursor import Column

_MAX_PLANS = 64
"""Writer schemas prepared for columns before the preparing starts anew."""
_FEW = 24
"""Fewer records are read sooner one by one than in columns."""
_MAX_ID_BYTES = 4 * MAX_ID


C = TypeVar("C", bound=Columns)


class ColumnDecoder(ABC, Generic[C]):
    """Decodes batches of one topic.

    Args:
        partitions: number of partitions of the topic.
        partitioner: how producers choose a partition; see `Keys`.
        find: gives the schemas of other writers by frame; the built-in ones are always known.
    """

    layout: ClassVar[Layout]

    def __init__(
        self,
        *,
        partitions: int,
        partitioner: Partitioner = "murmur2",
        find: schemas.Find | None = None,
    ) -> None:
        self._keys = Keys(partitions, partitioner)
        self._reader = schemas.Reader(self.layout.record, find, self.layout.wanted)
        self._plans: dict[bytes, Plan | None] = {}
        self._learn(self._reader.current.frame)

    @staticmethod
    @abstractmethod
    def columns(fields: Fields) -> C:
        """Make the columns of good records."""

    def decode(self, batch: FetchedBatch) -> Decoded[C]:
        """Decode all records of a batch."""
        if len(batch) < _FEW:
            return self._merged(*self._singles(batch, np.arange(len(batch))))
        values = [value or b"" for value in batch.values]
        text = Text(values)
        size = np.fromiter(map(len, values), np.int64, len(values))
        end = np.cumsum(size)
        start = end - size
        rest = np.ones(len(values), np.bool_)
        here = ~np.isin(batch.offsets, [*batch.oversize, *batch.unreadable])
        parts: list[tuple[NDArray[np.int64], C]] = []

        def read(frame: bytes, plan: Plan) -> None:
            rows = np.flatnonzero(_framed(text, start, size, frame) & here)
            if len(rows):
                raw, regular = plan.read(text, start[rows] + len(frame), end[rows])
                done, found = self._select(raw, regular, rows, batch)
                rest[rows[done]] = False
                parts.append((rows[done], self.columns(found)))

        for frame, plan in list(self._plans.items()):
            if plan is not None and rest.any():
                read(frame, plan)
        for frame in self._newcomers(values, np.flatnonzero(rest)):
            if plan := self._learn(frame):
                read(frame, plan)
        singles, refused, unknown = self._singles(batch, np.flatnonzero(rest))
        return self._merged([*parts, *singles], refused, unknown)

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
        plan = self._plans[frame] = _plan(self._reader.writer(frame), self.layout)
        return plan

    def _select(
        self,
        raw: dict[str, Column],
        regular: NDArray[np.bool_],
        rows: NDArray[np.int64],
        batch: FetchedBatch,
    ) -> tuple[NDArray[np.int64], Fields]:
        """Return the rows of `raw` that keep all limits, and their fields."""
        with np.errstate(all="ignore"):  # the floats of a broken record can be anything
            good, numbers = _numbers(raw, regular, self.layout)
        spans = _texts(raw, good, self.layout)
        texts = {
            name: _distinct(spans[name], good, may_be_null=name in self.layout.absent)
            for name in self.layout.texts
        }
        lists = {name: _lists(raw.get(name), good) for name in self.layout.lists}
        keys = batch.keys
        if len(rows) < len(batch):
            keys = [batch.keys[row] for row in rows.tolist()]
        texts["tenant"], texts["agent_id"], named = self._keys.columns(
            keys, spans["tenant"].where(good), spans["agent_id"].where(good), batch.partition
        )
        good &= named
        good[good] = _event_ids(spans["event_id"], good)
        done = np.flatnonzero(good)
        fields = Fields(numbers, texts, lists)
        return done, fields if len(done) == len(rows) else fields.take(done)

    def _singles(
        self, batch: FetchedBatch, rows: NDArray[np.int64]
    ) -> tuple[list[tuple[NDArray[np.int64], C]], list[Refusal], frozenset[bytes]]:
        """Decode the records at `rows` one by one."""
        done = each(batch, rows, lambda row: event_of(self._reader, self._keys, batch, row))
        parts = [(done.rows, self._columns_of(done.value))] if len(done.rows) else []
        return parts, done.refused, done.unknown

    def _columns_of(self, records: Sequence[Mapping[str, Any]]) -> C:
        """Make the columns of good records, each given by its fields."""
        numbers: dict[str, NDArray[Any]] = {}
        for name in self.layout.numbers:
            kind = np.int64 if name in self.layout.longs else np.float64
            other = self.layout.absent.get(name)
            found = [other if each[name] is None else each[name] for each in records]
            numbers[name] = np.array(found, kind)
        for name, code in self.layout.symbols.items():
            numbers[name] = np.array([code(each[name]) for each in records], np.int64)
        names = ("tenant", "agent_id", *self.layout.texts)
        texts = {name: DictColumn.of([each[name] or None for each in records]) for name in names}
        lists = {name: _ragged([each[name] for each in records]) for name in self.layout.lists}
        return self.columns(Fields(numbers, texts, lists))

    def _merged(
        self,
        parts: list[tuple[NDArray[np.int64], C]],
        refused: list[Refusal],
        unknown: frozenset[bytes],
    ) -> Decoded[C]:
        """Put parts that hold different rows of one batch in the order of the rows."""
        if not parts:
            return Decoded(np.empty(0, np.int64), self._columns_of([]), refused, unknown)
        if len(parts) == 1:
            return Decoded(*parts[0], refused, unknown)
        rows = np.concatenate([part[0] for part in parts])
        order = np.argsort(rows)
        columns = [part[1] for part in parts]
        joined = type(columns[0]).join(columns).take(order)
        return Decoded(rows[order], joined, refused, unknown)


def _plan(schema: schemas.Schema, layout: Layout) -> Plan | None:
    """Return how to read a writer's values in columns; None where that is not possible."""
    for each_field in schema.raw["fields"]:
        kind = each_field["type"]
        kinds = kind if isinstance(kind, list) else [kind]
        plain = {kind["type"] if isinstance(kind, dict) else kind for kind in kinds} - {"null"}
        if not plain <= layout.columnar.get(each_field["name"], plain):
            return None
    try:
        return Plan(schema.raw, layout.wanted, layout.symbols)
    except NotImplementedError:
        return None


def _numbers(
    raw: dict[str, Column], regular: NDArray[np.bool_], layout: Layout
) -> tuple[NDArray[np.bool_], dict[str, NDArray[Any]]]:
    """Return which rows are regular with all numbers in their ranges, and the numbers."""
    good = regular.copy()
    numbers: dict[str, NDArray[Any]] = {}
    for name in layout.numbers:
        column, present = _number(raw, name, layout, len(good))
        low, high = RANGES[name]
        fits = (column >= low) & (column <= high)
        column = column.astype(np.float64 if name in layout.doubles else np.int64, copy=False)
        if present is None:
            good &= fits
        elif name in layout.absent:
            good &= fits | ~present
            column = np.where(present, column, layout.absent[name] or 0)
        else:
            good &= fits & present
        numbers[name] = column
    for name in layout.codes:
        numbers[name], present = _number(raw, name, layout, len(good))
        if present is not None:
            good &= present
    return good, numbers


def _number(
    raw: dict[str, Column], name: str, layout: Layout, rows: int
) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return the column of a numeric field or enum, and where it is not null (None: everywhere)."""
    found = raw.get(name)
    if isinstance(found, tuple):
        return found
    default = layout.defaults[name]
    if default is None:
        return np.zeros(rows), np.zeros(rows, np.bool_)
    if name in layout.codes:
        default = layout.symbols[name](default)
    return np.full(rows, default), None


def _texts(raw: dict[str, Column], good: NDArray[np.bool_], layout: Layout) -> dict[str, Spans]:
    """Return the texts, and take from `good` the rows of which one is too short or too long."""
    texts: dict[str, Spans] = {}
    for name in (*IDS, *layout.texts):
        spans = raw.get(name)
        if not isinstance(spans, Spans):
            nothing = np.zeros(len(good), np.int64)
            spans = Spans(Text([]), nothing, nothing, np.zeros(len(good), np.bool_))
        short = name in layout.absent
        fits = (spans.length >= (0 if short else 1)) & (spans.length <= _MAX_ID_BYTES)
        good &= fits | ~spans.present if short or name == "tenant" else fits & spans.present
        texts[name] = spans
    return texts


def _distinct(spans: Spans, good: NDArray[np.bool_], *, may_be_null: bool) -> DictColumn:
    """Return the texts as a column; take the rows from `good` that hold none."""
    codes, names = spans.where(good).distinct()
    values = [_name(name) for name in names]
    if None in values:
        good &= np.fromiter((name is not None for name in values), np.bool_, len(values))[codes]
    # Where it may be null, an empty text says as much as a null does.
    return DictColumn(codes, [name or None for name in values] if may_be_null else values)


def _lists(found: Column | None, good: NDArray[np.bool_]) -> Ragged:
    """Return lists of numbers; take the rows from `good` of which one is too long or not finite."""
    if not isinstance(found, Lists):
        return Ragged.empty(len(good))
    good &= found.count <= MAX_ITEMS
    count = found.count * good
    rows = np.flatnonzero(count)
    if not len(rows):
        return Ragged.empty(len(good))
    values = found.floats(rows)
    with np.errstate(all="ignore"):
        finite = np.isfinite(values)
    if not finite.all():
        good[np.repeat(rows, count[rows])[~finite]] = False
    starts = np.zeros(len(good) + 1, np.int64)
    np.cumsum(count, out=starts[1:])
    return Ragged(values, starts)


def _ragged(rows: Sequence[Sequence[float]]) -> Ragged:
    return Ragged.of(rows) if any(rows) else Ragged.empty(len(rows))


def _event_ids(spans: Spans, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the good rows have a UTF-8 id of at most MAX_ID characters."""
    spans = spans.where(good)
    fine = spans.ascii() & (spans.length <= MAX_ID)
    for row in np.flatnonzero(good & ~fine).tolist():
        fine[row] = _name(spans.bytes_at(row)) is not None
    return fine[good]


def rounded(numbers: NDArray[np.float64], scale: float) -> NDArray[np.int64]:
    """Return floor(number * scale + 0.5)."""
    return np.floor(numbers * scale + 0.5).astype(np.int64)


def _name(text: bytes) -> str | None:
    """Return a text as a string, None where it is not UTF-8 of at most MAX_ID characters."""
    try:
        name = text.decode()
    except UnicodeDecodeError:
        return None
    return name if len(name) <= MAX_ID else None


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
