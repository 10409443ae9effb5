"""Partials: what one partition adds to entities that span partitions, for the roll-up stage.

A partial says: this much came to this entity, first seen by this minute tick of its partition's
clock, in the pane of this minute. Partials add up, so it makes no difference into how many records
an epoch happens to cut them. With them travels the clock of their partition: roll-up looks at a
tick only when no partition can add to it any more.
"""

from __future__ import annotations

import zlib
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams.durations import MINUTE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    I64 = NDArray[np.int64]

COUNTS = 4
"""Counts of a pane, in the order of the outcome codes of `streams.columns`."""

_LAG_BITS = 16  # minutes between a pane and the tick that first sees it: 36 days and some
_TICK_BITS = 26  # minutes since 1970 until 2097


class Kind(IntEnum):
    """Kinds of entities; the numbers are part of the record."""

    FLEET = 0
    TENANT = 1
    TASK_TYPE = 2
    OPERATION = 3


class Stream(StrEnum):
    """Input topics that are rolled up."""

    TASKS = "TASKS"
    CALLS = "CALLS"
    QUEUES = "QUEUES"


class EntityKey(NamedTuple):
    """An entity that spans partitions.

    Attributes:
        kind: what it is.
        tenant: None where there is none, and for the fleet.
        name: task type or integration; None for fleet and tenant.
        part: model of the tasks, or operation of the integration.
    """

    kind: Kind
    tenant: str | None = None
    name: str | None = None
    part: str | None = None

    def home(self, partitions: int) -> int:
        """Return the partition of the roll-up stage that has it; all parts of a name are together.

        CRC-32 of kind, tenant and name: fixed for the life of a topic prefix.
        """
        text = "\x1f".join((str(int(self.kind)), self.tenant or "", self.name or ""))
        return zlib.crc32(text.encode()) % partitions


class Sums(NamedTuple):
    """Additions to panes, one a row, distinct in (group, tick, pane) or not.

    Attributes:
        group: int64[n], the caller's number of the series.
        tick: int64[n], minute tick that sees it first, ms.
        pane: int64[n], start of its minute, ms.
        counts: int64[n, 4].
        sums: int64[n, s].
    """

    group: I64
    tick: I64
    pane: I64
    counts: I64
    sums: I64


def first_tick(clocks: I64) -> I64:
    """Return the minute tick that first sees a record after which the clock was that."""
    return clocks // MINUTE * MINUTE + MINUTE


def condense(group: I64, clocks: I64, events: I64, outcomes: I64, sums: Sequence[I64]) -> Sums:
    """Add up events that one tick sees first, by series and minute.

    Args:
        group: int64[n], number of the series, below 2^20.
        clocks: int64[n], the clock after each.
        events: int64[n], event times, ms; not before the hours kept.
        outcomes: int64[n].
        sums: int64[n] each.
    """
    counts = np.zeros((len(group), COUNTS), np.int64)
    counts[np.arange(len(group)), outcomes] = 1
    columns = np.stack(sums, axis=1) if sums else np.zeros((len(group), 0), np.int64)
    pane = events // MINUTE * MINUTE
    return merge(Sums(group, first_tick(clocks), pane, counts, columns))


def merge(added: Sums) -> Sums:
    """Return additions with those of one group, tick and pane in one row, ascending."""
    if not len(added.group):
        return added
    tick = added.tick // MINUTE
    lag = tick - added.pane // MINUTE + AHEAD_MINUTES
    key = (added.group << (_TICK_BITS + _LAG_BITS)) | (tick << _LAG_BITS) | lag
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(key[order]) != 0))
    first = order[starts]
    return Sums(
        group=added.group[first],
        tick=added.tick[first],
        pane=added.pane[first],
        counts=np.add.reduceat(added.counts[order], starts, axis=0),
        sums=np.add.reduceat(added.sums[order], starts, axis=0),
    )


_END = int(np.iinfo(np.int64).max)
AHEAD_MINUTES = 16
"""Room for events ahead of the clock in the packed lag; admission allows five minutes."""


class PartialWriter:
    """Collects what one partition of one input topic adds, between two epochs.

    Args:
        stream: the input topic.
        source: its partition.
        partitions: of the roll-up stage.
    """

    def __init__(self, stream: Stream, source: int, partitions: int) -> None:
        self._stream, self._source, self._partitions = stream, source, partitions
        self._entities: dict[EntityKey, int] = {}
        self._sums: list[Sums] = []
        self._bins: dict[tuple[int, int, int, int | str], int] = {}
        self._marks: list[tuple[int, int, int, str]] = []
        self._told: int | None = None
        self._told_empty = False

    def add(self, keys: Sequence[EntityKey], added: Sums) -> None:
        """Add to panes.

        Args:
            keys: for each group number of `added` the entity it belongs to.
            added: what was added.
        """
        numbers = np.fromiter(map(self._number, keys), np.int64, len(keys))
        self._sums.append(merge(added._replace(group=numbers[added.group])))

    def add_bin(self, key: EntityKey, tick: int, hour: int, code: int | str, count: int) -> None:
        """Add to a histogram of an hour.

        Args:
            key: whose.
            tick: that first sees it, ms.
            hour: start of the hour, ms.
            code: bucket of the latency sketch, at least 0, or an error type.
            count: how often.
        """
        place = self._number(key), tick, hour, code
        self._bins[place] = self._bins.get(place, 0) + count

    def mark(self, key: EntityKey, tick: int, at: int, text: str) -> None:
        """Tell of a single event."""
        self._marks.append((self._number(key), tick, at, text))

    def waits(self, clock: int | None) -> bool:
        """Return whether there is anything to tell: additions, or a tick that was passed."""
        return bool(self._entities) or self._ticked(clock)

    def empty(self) -> bool:
        """Return whether it is not told yet that the topic has no record and is read to its end."""
        return not self._told_empty and self._told is None

    def take(self, clock: int | None, *, idle: bool = False) -> list[tuple[int, dict[str, Any]]]:
        """Return (roll-up partition, Partials record) of all that waits.

        Args:
            clock: of the input topic and partition now, ms; None while nothing ever came.
            idle: whether the clock got there by following the wall.
        """
        ticked = self._ticked(clock) or (clock is None and self.empty())
        homes = [key.home(self._partitions) for key in self._entities]
        told = range(self._partitions) if ticked else sorted(set(homes))
        whole = self._whole()
        found = [
            (home, self._record(home, homes, whole) | {"clock": clock, "idle": idle})
            for home in told
        ]
        self._entities, self._sums, self._bins, self._marks = {}, [], {}, []
        if clock is None:
            self._told_empty = self._told_empty or ticked
        elif ticked:
            self._told = clock
        return found

    def _ticked(self, clock: int | None) -> bool:
        if clock is None:
            return False
        return self._told is None or clock // MINUTE > self._told // MINUTE

    def _number(self, key: EntityKey) -> int:
        return self._entities.setdefault(key, len(self._entities))

    def _record(self, home: int, homes: Sequence[int], whole: Sums) -> dict[str, Any]:
        mine = [number for number, one in enumerate(homes) if one == home]
        place = {number: index for index, number in enumerate(mine)}
        keys = list(self._entities)
        names = _Names()
        entities = [names.entity(keys[number]) for number in mine]
        bins = sorted(
            (place[number], tick, hour, names.code(code), count)
            for (number, tick, hour, code), count in self._bins.items()
            if number in place
        )
        marks = [(place[one[0]], *one[1:]) for one in self._marks if one[0] in place]
        sums = _of(whole, np.array(mine, np.int64), len(homes))
        record: dict[str, Any] = {
            "source": self._source,
            "stream": str(self._stream),
            "at_entity": sums.group.tolist(),
            "at_tick": sums.tick.tolist(),
            "at_pane": sums.pane.tolist(),
            "counts": sums.counts.T.tolist(),
            "sums": sums.sums.T.tolist(),
        }
        record |= _columns(("kind", "tenant", "name", "part"), entities)
        record |= _columns(("bin_entity", "bin_tick", "bin_hour", "bin_code", "bin_count"), bins)
        record |= _columns(("mark_entity", "mark_tick", "mark_at", "mark_text"), marks)
        return record | {"names": list(names.names), "tenants": list(names.tenants)}

    def _whole(self) -> Sums:
        """Return all additions, added up."""
        if not self._sums:
            return _NOTHING
        columns = zip(*self._sums, strict=True)
        return merge(Sums(*(np.concatenate(column) for column in columns)))


_NO_TABLE = np.empty((0, 0), np.int64)
_NONE = np.empty(0, np.int64)
_NOTHING = Sums(_NONE, _NONE, _NONE, _NO_TABLE, _NO_TABLE)


def _of(whole: Sums, mine: I64, entities: int) -> Sums:
    """Return the additions of some entities, numbered by their place in `mine`."""
    place = np.full(entities, -1, np.int64)
    place[mine] = np.arange(len(mine))
    keep = place[whole.group] >= 0
    kept = Sums(*(column[keep] for column in whole))
    return kept._replace(group=place[kept.group])


class _Names:
    """Texts of one record, by number."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self.tenants: dict[str | None, int] = {}

    def entity(self, key: EntityKey) -> tuple[int, int, int, int]:
        tenant = self.tenants.setdefault(key.tenant, len(self.tenants))
        return int(key.kind), tenant, self._number(key.name), self._number(key.part)

    def code(self, code: int | str) -> int:
        return code if isinstance(code, int) else -1 - self._number(code)

    def _number(self, name: str | None) -> int:
        return -1 if name is None else self.names.setdefault(name, len(self.names))


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    """Return rows as one list a column."""
    if not rows:
        return {name: [] for name in names}
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


# -- reading -----------------------------------------------------------------------------------


class Mark(NamedTuple):
    """A single event: whose, the tick that first sees it, its event time, and what."""

    key: EntityKey
    tick: int
    at: int
    text: str


class Bin(NamedTuple):
    """An addition to a histogram of an hour.

    Attributes:
        key: whose.
        tick: that first sees it, ms.
        hour: start of the hour, ms.
        bucket: of the latency sketch; None for an error type.
        error_type: None for a bucket.
        number: how often.
    """

    key: EntityKey
    tick: int
    hour: int
    bucket: int | None
    error_type: str | None
    number: int


class Partial(NamedTuple):
    """A Partials record, read.

    Attributes:
        stream: the input topic; a member of `Stream`, or another text of a newer writer.
        source: its partition.
        clock: of that partition, ms; None while it is empty.
        idle: whether the clock followed the wall.
        entities: whose the groups of `sums` are.
        sums: additions to panes.
        bins: additions to histograms.
        marks: single events.
    """

    stream: str
    source: int
    clock: int | None
    idle: bool
    entities: list[EntityKey]
    sums: Sums
    bins: list[Bin]
    marks: list[Mark]

    @property
    def first_tick(self) -> int:
        """The earliest tick that sees anything of it, ms; of one with nothing the end of time."""
        return min([*self._ticks(), int(self.sums.tick.min(initial=_END))], default=_END)

    @property
    def last_tick(self) -> int:
        """The latest tick that first sees anything of it, ms; 0 for nothing."""
        return max([*self._ticks(), int(self.sums.tick.max(initial=0))])

    def split(self, until: int) -> tuple[Partial, Partial | None]:
        """Return what the ticks up to `until` see first, and what is left; None for nothing."""
        if self.last_tick <= until:
            return self, None
        now = self.sums.tick <= until
        parts = [
            self._replace(
                sums=Sums(*(column[keep] for column in self.sums)),
                bins=[one for one in self.bins if (one.tick <= until) is soon],
                marks=[one for one in self.marks if (one.tick <= until) is soon],
            )
            for keep, soon in ((now, True), (~now, False))
        ]
        return parts[0], parts[1]

    def _ticks(self) -> list[int]:
        return [one.tick for one in self.bins] + [one.tick for one in self.marks]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Partial:
        """Read a decoded record.

        Raises:
            ValueError, IndexError: arrays of one group differ in length, or a number names nothing.
        """
        names, tenants = record["names"], record["tenants"]

        def name(number: int) -> str | None:
            return None if number < 0 else names[number]

        entities = [
            EntityKey(Kind(kind), tenants[tenant], name(first), name(part))
            for kind, tenant, first, part in zip(
                record["kind"], record["tenant"], record["name"], record["part"], strict=True
            )
        ]
        number = len(record["at_entity"])
        sums = Sums(
            group=_ints(record["at_entity"], number),
            tick=_ints(record["at_tick"], number),
            pane=_ints(record["at_pane"], number),
            counts=_table(record["counts"], number),
            sums=_table(record["sums"], number),
        )
        bins = [
            Bin(
                entities[entity],
                tick,
                hour,
                code if code >= 0 else None,
                None if code >= 0 else names[-1 - code],
                count,
            )
            for entity, tick, hour, code, count in zip(
                *(record[f"bin_{each}"] for each in ("entity", "tick", "hour", "code", "count")),
                strict=True,
            )
        ]
        marks = [
            Mark(entities[entity], tick, at, text)
            for entity, tick, at, text in zip(
                *(record[f"mark_{each}"] for each in ("entity", "tick", "at", "text")), strict=True
            )
        ]
        stream, source = record["stream"], record["source"]
        return cls(stream, source, record["clock"], record["idle"], entities, sums, bins, marks)


def _ints(values: Sequence[int], number: int) -> I64:
    if len(values) != number:
        raise ValueError(f"an array of {len(values)} numbers beside one of {number}")
    return np.array(values, np.int64)


def _table(columns: Sequence[Sequence[int]], number: int) -> I64:
    if any(len(column) != number for column in columns):
        raise ValueError(f"a column of another length than {number}")
    return np.array(columns, np.int64).reshape(len(columns), number).T
