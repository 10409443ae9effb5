"""Closed hours: the record of a series and hour, once it is over, and again when it changed.

An hour is closed a minute past its end. A late event changes it, and the next long tick publishes
it again with a higher revision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams.arms import LONG_STEP
from streams.durations import HOUR, MINUTE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from streams.layout import Layout
    from streams.panes import Panes
    from streams.series import Series

    I64 = NDArray[np.int64]

GRACE = MINUTE
"""How long after its end an hour is closed."""

_HOURS = 1 << 32  # hour numbers fit below, rows above


class Added(NamedTuple):
    """Events about to be added to the panes, in log order.

    Attributes:
        rows: int64[n], task rows.
        hours: int64[n], number of the hour pane.
        clocks: int64[n], the clock after each, ascending.
        outcomes: int64[n].
        sums: int64[n] for each sum.
        weights: int64[n], how many events each stands for; None for 1 each.
    """

    rows: I64
    hours: I64
    clocks: I64
    outcomes: I64
    sums: Sequence[I64]
    weights: I64 | None = None


class Closed(NamedTuple):
    """What is published, one row per (series, hour, tick), by tick, hour and series.

    Attributes:
        records: Window records.
        rows: int64[d], the distinct (row, hour) among them …
        hours: int64[d]
        last: int64[d], … with the tick of the last publication of each …
        times: int64[d], … and how many there are.
    """

    records: list[dict[str, Any]]
    rows: I64
    hours: I64
    last: I64
    times: I64


class Closing:
    """Publishes the hours of task series.

    Args:
        series: who the rows are.
        panes: their hour panes.
        layout: what a record is called.
    """

    def __init__(self, series: Series, panes: Panes, layout: Layout) -> None:
        self._series, self._panes = series, panes
        self._window = layout.window
        self._told = [(at, name) for at, name in enumerate(layout.columns) if name is not None]
        self._open: set[int] = set()  # hours with a change that is not published

    def close(self, after: int, until: int, added: Added) -> Closed | None:
        """Return what the ticks in (after, until] publish, with the panes as yet without `added`.

        Each tick sees the panes and those of `added` with a clock before it.
        """
        first = after // LONG_STEP * LONG_STEP + LONG_STEP
        last = until // LONG_STEP * LONG_STEP
        if first > last:
            return None
        due = np.maximum(_closed_at(added.hours), added.clocks // LONG_STEP * LONG_STEP + LONG_STEP)
        now = due <= last
        parts = [(added.rows[now], added.hours[now], due[now])]
        for hour in self._open:
            at = max(_closed_at(hour), first)
            if at <= last:
                rows = self._panes.changed_rows(hour)
                parts.append((rows, np.full(len(rows), hour), np.full(len(rows), at)))
        rows, hours, ticks = (np.concatenate(column) for column in zip(*parts, strict=True))
        if not len(rows):
            return None
        return self._published(rows * _HOURS + hours, ticks, added)

    def commit(self, closed: Closed | None, added: Added) -> None:
        """Note what was published, once `added` is in the panes."""
        self._open.update(_distinct(added.hours))
        if closed is None:
            return
        self._panes.publish(closed.rows, closed.hours, closed.times)
        keys = closed.rows * _HOURS + closed.hours
        order = np.argsort(keys)
        mine = added.rows * _HOURS + added.hours
        place = np.minimum(np.searchsorted(keys[order], mine), len(keys) - 1)
        known = order[place]
        again = (keys[known] == mine) & (added.clocks >= closed.last[known])
        self._panes.change(added.rows[again], added.hours[again])
        for hour in _distinct(closed.hours):
            if not len(self._panes.changed_rows(hour)):
                self._open.discard(hour)

    def restore(self, hour: int) -> None:
        """Take note of an hour pane with a change that is not published."""
        self._open.add(hour)

    def _published(self, keys: I64, ticks: I64, added: Added) -> Closed:
        order = np.lexsort((ticks, keys))
        keys, ticks = keys[order], ticks[order]
        once = np.append(True, (np.diff(keys) > 0) | (np.diff(ticks) > 0))
        keys, ticks = keys[once], ticks[once]
        starts = np.flatnonzero(np.append(True, np.diff(keys) > 0))
        times = np.diff(np.append(starts, len(keys)))
        rank = np.arange(len(keys)) - np.repeat(starts, times)
        rows, hours = keys // _HOURS, keys % _HOURS
        values = np.concatenate(self._panes.values(rows, hours), axis=1)
        values += _added_before(keys, ticks, added, values.shape[1])
        revisions = self._panes.revisions(rows, hours) + rank + 1
        show = np.lexsort((rows, hours, ticks))
        columns = (rows, hours, ticks, revisions, values)
        records = self._records(*(column[show] for column in columns))
        return Closed(records, rows[starts], hours[starts], ticks[starts + times - 1], times)

    def _records(
        self, rows: I64, hours: I64, ticks: I64, revisions: I64, values: I64
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        columns = (rows, hours, ticks, revisions, values)
        for row, hour, tick, revision, sums in zip(*(c.tolist() for c in columns), strict=True):
            task = self._series.tasks[row]
            found.append(
                {
                    **self._window(self._series.agents[task.agent], task),
                    "window_start": hour * HOUR,
                    "window_end": hour * HOUR + HOUR,
                    "revision": revision,
                    "at": tick,
                    **{name: sums[column] for column, name in self._told},
                }
            )
        return found


def _closed_at(hour: Any) -> Any:
    """Return from which tick on an hour pane (a number, or an array of them) is closed."""
    return hour * HOUR + HOUR + GRACE


def _added_before(keys: I64, ticks: I64, added: Added, width: int) -> I64:
    """Return int64[k, width]: what `added` adds to each key before its tick.

    Args:
        keys: int64[k], row · 2^32 + hour.
        ticks: int64[k].
        added: in log order, so that clocks ascend within a key.
        width: how many counts and sums there are.
    """
    mine = added.rows * _HOURS + added.hours
    known = np.flatnonzero(np.isin(mine, keys))
    if not len(known):
        return np.zeros((len(keys), width), np.int64)
    known = known[np.argsort(mine[known], kind="stable")]
    values = np.zeros((len(known) + 1, width), np.int64)
    values[np.arange(1, len(known) + 1), added.outcomes[known]] = (
        1 if added.weights is None else added.weights[known]
    )
    for column, one in enumerate(added.sums, start=width - len(added.sums)):
        values[1:, column] = one[known]
    values = values.cumsum(axis=0)
    start = np.searchsorted(mine[known], keys)
    distinct, rank = np.unique(mine[known], return_inverse=True)
    number = len(mine) + 1
    place = rank * number + known  # ascending: by key, then by position in the log
    before = np.searchsorted(added.clocks, ticks)
    mark = np.searchsorted(distinct, keys) * number + before
    end = np.maximum(np.searchsorted(place, mark), start)
    absent = ~np.isin(keys, distinct)
    end[absent] = start[absent]
    found: I64 = values[end] - values[start]
    return found


def _distinct(hours: I64) -> list[int]:
    """Return the distinct hours: few and near each other, so a table of flags is quickest."""
    if not len(hours):
        return []
    low = int(hours.min())
    if low == int(hours.max()):
        return [low]
    seen = np.bincount(hours - low)
    return [low + int(place) for place in np.flatnonzero(seen)]
