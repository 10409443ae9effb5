"""Where the partials of all partitions meet: what waits, and up to which tick nothing is missing.

Partitions are read at different speeds. A tick of the roll-up is complete once the clock of every
partition has passed it; what a faster partition has sent by then waits. A partition without any
record holds nobody back, once it has said so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams import schemas, state
from streams.durations import MINUTE
from streams.partials import Partial, Sums, merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streams.partials import Bin, EntityKey, Mark, Stream
    from streams.state import Stored
    from streams.watch import Change


class Inflow(NamedTuple):
    """What some ticks see first, of all partitions.

    Attributes:
        keys: entities, ascending.
        sums: additions to panes, by (tick, entity); groups number `keys`.
        bins: additions to histograms, by (tick, entity).
        marks: single events, by (tick, entity, time).
    """

    keys: list[EntityKey]
    sums: Sums
    bins: list[Bin]
    marks: list[Mark]


class _Waiting(NamedTuple):
    """A partial of which some ticks are still to come, its record, and its first tick left, ms."""

    partial: Partial
    record: Mapping[str, Any]
    first: int


class Confluence:
    """The partials of one stream in one partition of the roll-up stage.

    Args:
        stream: the input topic they come from.
        sources: how many partitions that has.

    Attributes:
        taken: tick up to which everything was taken, ms; None before the first.
    """

    def __init__(self, stream: Stream, sources: int) -> None:
        self.taken: int | None = None
        self._stream, self._sources = stream, sources
        self._clocks: dict[int, int | None] = {}
        self._idle: set[int] = set()
        self._waiting: dict[int, _Waiting] = {}
        self._stored: set[int] = set()
        self._gone: set[int] = set()
        self._dirty = False

    @property
    def dirty(self) -> bool:
        """Whether there is state to write."""
        return self._dirty

    @property
    def idle(self) -> bool:
        """Whether any clock that it waits for got there by following the wall."""
        return bool(self._idle)

    def put(self, offset: int, record: Mapping[str, Any]) -> None:
        """Take a partial.

        Args:
            offset: of its record; distinct.
            record: the Partials record; kept in the state while it waits.

        Raises:
            ValueError, IndexError: the record contradicts itself.
        """
        partial = Partial.of(record)
        known = self._clocks.get(partial.source)
        if known is None or (partial.clock is not None and partial.clock > known):
            self._clocks[partial.source] = partial.clock
        (self._idle.add if partial.idle else self._idle.discard)(partial.source)
        if partial.last_tick:
            self._waiting[offset] = _Waiting(partial, record, partial.first_tick)
        self._dirty = True

    def ready(self) -> int | None:
        """Return the minute tick up to which nothing is missing, ms; None for none."""
        if len(self._clocks) < self._sources:
            return None
        clocks = [clock for clock in self._clocks.values() if clock is not None]
        return min(clocks) // MINUTE * MINUTE if clocks else None

    def first(self) -> int | None:
        """Return the first tick that sees anything that waits, ms."""
        return min((one.first for one in self._waiting.values()), default=None)

    def take(self, until: int) -> Inflow:
        """Return what the ticks up to `until` see first; it waits no longer."""
        partials: list[Partial] = []
        ripe = [offset for offset, one in self._waiting.items() if one.first <= until]
        for offset in sorted(ripe):
            one = self._waiting[offset]
            now, later = one.partial.split(until)
            partials.append(now)
            if later is not None:
                self._waiting[offset] = _Waiting(later, one.record, later.first_tick)
                continue
            del self._waiting[offset]
            if offset in self._stored:
                self._gone.add(offset)
        self.taken = until
        self._dirty = True
        return _joined(partials)

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        if not self._dirty:
            return
        self._dirty = False
        for offset in sorted(self._gone):
            yield state.waiting_key(self._stream, offset), None
        self._stored -= self._gone
        self._gone.clear()
        for offset in sorted(self._waiting.keys() - self._stored):
            fields = {
                "stream": str(self._stream),
                "offset": offset,
                "record": schemas.encode("Partials", self._waiting[offset].record),
            }
            yield state.waiting_key(self._stream, offset), state.encode("WaitingState", fields)
        self._stored |= self._waiting.keys()
        sources = sorted(self._clocks)
        fields = {
            "stream": str(self._stream),
            "taken": self.taken,
            "sources": sources,
            "clocks": [self._clocks[source] for source in sources],
            "idle": sorted(self._idle),
        }
        yield state.sources_key(self._stream), state.encode("SourcesState", fields)

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this stream."""
        fields = stored.fields
        if fields.get("stream") != str(self._stream):
            return False
        if stored.kind == "SourcesState":
            self.taken = fields["taken"]
            self._clocks = dict(zip(fields["sources"], fields["clocks"], strict=True))
            self._idle = set(fields["idle"])
        elif stored.kind == "WaitingState":
            _, record = schemas.decode(fields["record"])
            self._waiting[fields["offset"]] = _Waiting(Partial.of(record), record, 0)
            self._stored.add(fields["offset"])
        return stored.kind in {"SourcesState", "WaitingState"}

    def settle(self) -> None:
        """Leave out what was taken of the partials that wait, once all is restored."""
        for offset, (partial, record, _) in list(self._waiting.items()):
            later: Partial | None = partial
            if self.taken is not None:
                _, later = partial.split(self.taken)
            if later is None:
                del self._waiting[offset]
                self._gone.add(offset)
            else:
                self._waiting[offset] = _Waiting(later, record, later.first_tick)


def _joined(partials: Sequence[Partial]) -> Inflow:
    """Add partials up, in an order that does not depend on how they were cut into records."""
    keys = sorted({key for one in partials for key in one.entities}, key=_order)
    number = {key: place for place, key in enumerate(keys)}
    groups = [_numbers(one, number) for one in partials]
    parts = [
        one.sums._replace(group=group[one.sums.group])
        for one, group in zip(partials, groups, strict=True)
        if len(one.sums.group)
    ]
    if parts:
        whole = merge(Sums(*(np.concatenate(column) for column in zip(*parts, strict=True))))
        order = np.lexsort((whole.pane, whole.group, whole.tick))
        sums = Sums(*(column[order] for column in whole))
    else:
        none = np.empty(0, np.int64)
        sums = Sums(none, none, none, none.reshape(0, 0), none.reshape(0, 0))
    bins = [each for one in partials for each in one.bins]
    bins.sort(key=lambda each: (each.tick, number[each.key], each.hour))
    marks = [each for one in partials for each in one.marks]
    marks.sort(key=lambda each: (each.tick, number[each.key], each.at, each.text))
    return Inflow(keys, sums, bins, marks)


def _numbers(
    partial: Partial, number: dict[EntityKey, int]
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([number[key] for key in partial.entities], np.int64)


def _order(key: EntityKey) -> tuple[int, str, str, str]:
    return int(key.kind), key.tenant or "", key.name or "", key.part or ""
