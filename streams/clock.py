"""Event time of one topic-partition: its clock, admission by time, ticks and what a clock reached.

The clock is the largest event time admitted, no further than the record timestamps: one producer
with a wrong date must not close the windows of all others.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.durations import DAY, HOUR, MINUTE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    I64 = NDArray[np.int64]
    Bool = NDArray[np.bool_]

AHEAD = 5 * MINUTE
"""How far an event may lie ahead of its record timestamp."""

RETENTION = 36 * DAY
"""How late an event may be: the longest window, four weeks of baseline, and some days."""

UNSET = int(np.iinfo(np.int64).min) // 2
"""A clock before all others; half of the least integer, so that sums with it stay integers."""


class Admission(NamedTuple):
    """What the times of records say about each of them.

    Attributes:
        clocks: int64[n], the clock after each record; UNSET before the first admitted one.
        future: bool[n], refused: event time more than `AHEAD` past the record timestamp.
        late: bool[n], refused: event time before the hours still kept.
        good: whether none is refused.
    """

    clocks: I64
    future: Bool
    late: Bool
    good: bool


@dataclass(slots=True)
class Clock:
    """The clock of one topic-partition.

    Attributes:
        now: event time reached, ms; None before the first admitted record.
        lag: record timestamp minus event time, at least 0, of the record that set `now`.
    """

    now: int | None = None
    lag: int = 0

    def admit(self, events: I64, stamps: I64) -> Admission:
        """Judge records in log order, without moving.

        A record too late moves no clock by itself: its event time is before the clock.

        Args:
            events: int64[n], n ≥ 1, event times, ms.
            stamps: int64[n], record timestamps, ms.
        """
        start = UNSET if self.now is None else self.now
        future = events > stamps + AHEAD
        moves = np.minimum(events, stamps)
        if future.any():
            moves[future] = UNSET
        moves[0] = max(start, int(moves[0]))
        clocks: I64 = np.maximum.accumulate(moves)
        oldest = int(clocks[-1]) // HOUR * HOUR - RETENTION
        if int(events.min()) >= oldest:  # the usual case: no need to look at each
            return Admission(clocks, future, np.zeros(len(events), np.bool_), not future.any())
        before = np.append(start, clocks[:-1])
        late = (events < floor(before, HOUR) - RETENTION) & ~future
        return Admission(clocks, future, late, not (future.any() or late.any()))

    def move(self, clock: int, event: int | None = None, stamp: int | None = None) -> None:
        """Move to `clock`, which is not before `now`.

        Args:
            clock: event time reached.
            event: event time of the record that moves it; None where no record does.
            stamp: record timestamp of that record.
        """
        if event is not None and stamp is not None and (self.now is None or clock > self.now):
            self.lag = max(0, stamp - event)
        self.now = clock


class Reached:
    """At which offset the clock came into each hour: the evidence of a window, to the hour."""

    def __init__(self) -> None:
        self.hours: list[int] = []
        self.offsets: list[int] = []
        self._dirty = False

    def note(self, clocks: I64, offsets: I64) -> None:
        """Take records to be folded, in log order.

        Args:
            clocks: int64[n], n ≥ 1, the clock after each record.
            offsets: int64[n], their offsets.
        """
        newest = self.hours[-1] if self.hours else UNSET
        if int(clocks[-1]) < newest + HOUR:
            return
        hours = floor(clocks, HOUR)
        entered = np.flatnonzero(np.diff(hours, prepend=newest) > 0)
        self.hours += hours[entered].tolist()
        self.offsets += offsets[entered].tolist()
        self._dirty = True

    def first(self, start: int, last: int) -> int:
        """Return the offset of the first record folded once the clock was in the hour of `start`.

        Without one up to offset `last`: of the oldest record known, -1 for none.
        """
        found = bisect_left(self.hours, start // HOUR * HOUR)
        if found < len(self.hours) and self.offsets[found] <= last:
            return self.offsets[found]
        return self.offsets[0] if self.offsets else -1

    def has(self, hour: int) -> bool:
        """Return whether a record was noted with the clock in the hour that starts then."""
        found = bisect_left(self.hours, hour)
        return found < len(self.hours) and self.hours[found] == hour

    def prune(self, clock: int) -> None:
        """Forget hours older than the hour panes."""
        old = bisect_left(self.hours, clock // HOUR * HOUR - RETENTION)
        if old:
            del self.hours[:old], self.offsets[:old]
            self._dirty = True

    def take_dirty(self) -> bool:
        """Return whether it changed since the last call."""
        dirty, self._dirty = self._dirty, False
        return dirty


def floor(times: I64, width: int) -> I64:
    """Return the times rounded down to whole widths."""
    return times // width * width


def ticks(after: int, until: int, step: int) -> I64:
    """Return the multiples of `step` in (after, until], ascending."""
    return np.arange(after // step * step + step, until + 1, step, dtype=np.int64)
