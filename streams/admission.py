"""Which task events are admitted, in log order, and where evaluation has to stop before the next.

Admission depends on the clock and on the series there are; both change with what was admitted
before. A batch is therefore cut into pieces within which neither midnight (which frees series) nor
a resolve of the series limit comes to pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import numpy as np

from streams.batch import Refusal
from streams.clock import AHEAD, RETENTION, UNSET
from streams.durations import DAY, HOUR
from streams.reasons import DeadLetterReason
from streams.series import MISSING, Agent, Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streams.clock import Clock
    from streams.columns import DictColumn
    from streams.findings import Finding
    from streams.security import SeriesLimitLife
    from streams.series import Series

    I64 = NDArray[np.int64]

_FOREVER = int(np.iinfo(np.int64).max)
_NONE = np.empty(0, np.int64)


class Events(Protocol):
    """Events in columns, in log order."""

    @property
    def occurred_at(self) -> I64:
        """Event times, ms."""

    @property
    def outcome(self) -> NDArray[np.int8]:
        """Which count of a pane each raises."""

    @property
    def tenant(self) -> DictColumn:
        """Tenant of each."""

    @property
    def agent(self) -> DictColumn:
        """Agent of each."""

    @property
    def task_type(self) -> DictColumn:
        """What it is about: the series of an agent."""

    @property
    def model(self) -> DictColumn:
        """Model of each."""

    def __len__(self) -> int:
        """Return the number of events."""

    def take(self, indices: I64) -> Self:
        """Return the events at `indices`, in that order."""


class Records(NamedTuple):
    """Records as they were fetched.

    Attributes:
        events: n events.
        offsets: int64[n].
        stamps: int64[n], record timestamps, ms.
    """

    events: Events
    offsets: I64
    stamps: I64


class Piece(NamedTuple):
    """A run of records, judged.

    Attributes:
        take: int64[m], positions of the admitted ones, ascending.
        clocks: int64[m], the clock after each.
        rows: their series.
        end: position after the piece.
        refused: the others, ascending.
        findings: what the refusals caused, after all that the admitted records cause.
        crossing: clock to advance to before the record at `end` is judged again; None for none.
    """

    take: I64
    clocks: I64
    rows: Rows
    end: int
    refused: list[Refusal]
    findings: list[Finding]
    crossing: int | None = None


class Gate:
    """Judges the task records of one partition.

    Args:
        clock: the clock of the topic-partition; only read.
        series: the series there are; new ones are added to it.
        limit: the life of the series limit; told of refusals.
    """

    def __init__(self, clock: Clock, series: Series, limit: SeriesLimitLife) -> None:
        self._clock, self._series, self._limit = clock, series, limit

    def piece(self, records: Records, start: int) -> Piece:
        """Judge the records from `start` on, as far as the next stop."""
        events, stamps = records.events, records.stamps
        judged = self._clock.admit(events.occurred_at[start:], stamps[start:])
        length = int(np.searchsorted(judged.clocks, self._stop(judged.clocks)))
        if length == len(events) and judged.good:  # the usual case: the whole batch
            rows = self._rows(events)
            if rows is not None:
                return Piece(np.arange(length), judged.clocks, rows, length, [], [])
        bad = judged.future | judged.late
        if length == 0 and not bad[0]:
            return self._cross(records, start, int(judged.clocks[0]))
        length = max(length, 1)
        bad = bad[:length]
        take = start + np.flatnonzero(~bad)
        rows = self._rows(events if len(take) == len(events) else events.take(take))
        if rows is None:
            return self._one_by_one(records, range(start, start + length))
        clocks = judged.clocks[:length]
        if len(take) == length:
            return Piece(take, clocks, rows, start + length, [], [])
        before = np.append(UNSET if self._clock.now is None else self._clock.now, clocks[:-1])
        refused = [
            _future(records, start + place)
            if judged.future[place]
            else _late(records, start + place, int(before[place]))
            for place in np.flatnonzero(bad).tolist()
        ]
        return Piece(take, clocks[~bad], rows, start + length, refused, [])

    def _stop(self, clocks: I64) -> int:
        """Return the clock up to which series and the life of their limit stay as they are."""
        now = self._clock.now
        if now is None:
            known = clocks[clocks > UNSET]
            if not len(known):
                return _FOREVER
            now = int(known[0])
        due = self._limit.due
        return min(now // DAY * DAY + DAY, _FOREVER if due is None else due)

    def _cross(self, records: Records, at: int, clock: int) -> Piece:
        """Judge the record that ends a piece alone: it is admitted before its ticks are due."""
        if self._needed(records, at) <= self._series.bound - len(self._series):
            return Piece(_NONE, _NONE, Rows(_NONE, _NONE), at, [], [], crossing=clock)
        return Piece(_NONE, _NONE, Rows(_NONE, _NONE), at + 1, *self._over(records, at))

    def _rows(self, events: Events) -> Rows | None:
        """Return the rows of events, new ones made; None where the bound forbids that."""
        rows = self._series.find(events)
        missing = np.flatnonzero(rows.task == MISSING)
        if not len(missing):
            return rows
        fresh = _names(events, missing)
        if not self._series.fits(fresh):
            return None
        for name in fresh:
            self._series.add(*name)
        return self._series.find(events)

    def _one_by_one(self, records: Records, places: range) -> Piece:
        """Judge records near the bound on series, where each refusal decides about the next.

        It stops after a refusal with a finding, so that findings are in log order.
        """
        now, end = self._clock.now, places.stop
        take: list[int] = []
        clocks: list[int] = []
        refused: list[Refusal] = []
        findings: list[Finding] = []
        times, stamps = records.events.occurred_at.tolist(), records.stamps.tolist()
        for place in places:
            time, due = times[place], self._limit.due
            seen = min(time, stamps[place])
            moved = seen if now is None else max(now, seen)
            if time > stamps[place] + AHEAD:
                refused.append(_future(records, place))
            elif now is not None and time < now // HOUR * HOUR - RETENTION:
                refused.append(_late(records, place, now))
            elif self._needed(records, place) > self._series.bound - len(self._series):
                more, findings = self._over(records, place)
                refused += more
            elif due is not None and moved >= due:
                end = place
                break
            else:
                self._series.add(*_name(records.events, place))
                take.append(place)
                clocks.append(moved)
                now = moved
            if findings:
                end = place + 1
                break
        taken = np.array(take, np.int64)
        rows = self._series.find(records.events.take(taken))
        return Piece(taken, np.array(clocks, np.int64), rows, end, refused, findings)

    def _needed(self, records: Records, place: int) -> int:
        return self._series.needed(*_name(records.events, place))

    def _over(self, records: Records, place: int) -> tuple[list[Refusal], list[Finding]]:
        detail = f"a new series, and {len(self._series)} of at most {self._series.bound} exist"
        refusal = Refusal(place, DeadLetterReason.SERIES_LIMIT, detail)
        time = int(records.events.occurred_at[place])
        return [refusal], self._limit.refuse(time, int(records.offsets[place]))


def future_detail(time: int, stamp: int) -> str:
    """Return why an event ahead of its record timestamp is refused."""
    return f"event time {time} is {time - stamp} ms past the record timestamp, more than {AHEAD}"


def late_detail(time: int, clock: int) -> str:
    """Return why an event before the hours still kept is refused."""
    return f"event time {time} is before {clock // HOUR * HOUR - RETENTION}, the oldest hour kept"


def _future(records: Records, place: int) -> Refusal:
    detail = future_detail(int(records.events.occurred_at[place]), int(records.stamps[place]))
    return Refusal(place, DeadLetterReason.FUTURE, detail)


def _late(records: Records, place: int, clock: int) -> Refusal:
    detail = late_detail(int(records.events.occurred_at[place]), clock)
    return Refusal(place, DeadLetterReason.TOO_LATE, detail)


def _name(events: Events, place: int) -> tuple[Agent, str, str | None]:
    tenant = events.tenant.values[events.tenant.codes[place]]
    agent_id = events.agent.values[events.agent.codes[place]]
    task_type = events.task_type.values[events.task_type.codes[place]]
    model = events.model.values[events.model.codes[place]]
    return Agent(tenant, agent_id or ""), task_type or "", model


def _names(events: Events, places: I64) -> list[tuple[Agent, str, str | None]]:
    """Return the distinct series at some places, by first appearance."""
    found = (_name(events, place) for place in places.tolist())
    return list(dict.fromkeys(found))
