"""A bounded sample of the single values of tasks, and what it says of each agent and hour.

Panes hold sums and rates; how confident an agent is, how long its texts are and what its inputs
look like is known from single values only. The first few of each agent in each quarter of an hour
are kept until the hour ends: enough for a mean, however many tasks there are. Which are kept
depends on the log alone, as quarters and hours are those of the clock, which never goes back.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams import state
from streams.durations import HOUR, MINUTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.columns import Ragged, TaskColumns
    from streams.state import Stored
    from streams.watch import Change

    I64 = NDArray[np.int64]
    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]

QUARTER = 15 * MINUTE

EACH = 8
"""Tasks kept of an agent in a quarter of an hour."""

FEATURES = 16
"""Input features that are watched, the first ones of each task."""

TOKENS = 3
"""Columns of a sample before its features: confidence, ln(1 + input), ln(1 + output tokens)."""

_TRIM = 16
"""One value in so many is left out of the mean at either end: a wild one says nothing."""

_LATEST = HOUR
"""An event so much behind the clock says nothing of the hour it is seen in."""

_LARGEST = 1e30
_NO_QUARTER = -1
_NARROW = 1 << 16


class Sample(NamedTuple):
    """Single values of tasks, in log order.

    Attributes:
        agents: int32[n], agent rows.
        values: float32[n, columns], NaN for none.
    """

    agents: NDArray[np.int32]
    values: F32


class Means(NamedTuple):
    """What the sample of an hour says.

    Attributes:
        rows: int64[r], agent rows, ascending.
        counts: int64[r, columns], values behind each mean.
        means: float64[r, columns], NaN where there is no value.
    """

    rows: I64
    counts: I64
    means: F64


class Sampler:
    """The sample of one partition.

    Args:
        each: tasks kept of an agent in a quarter of an hour. Raising it makes the means of busy
            agents steadier, and the state larger.
    """

    def __init__(self, each: int = EACH) -> None:
        self._each = each
        self._quarter = _NO_QUARTER
        self._taken = np.zeros(0, np.int32)  # by each agent in the current quarter
        self._minutes: dict[int, list[Sample]] = {}
        self._dirty: set[int] = set()
        self._stored: set[int] = set()
        self._gone: list[int] = []

    # -- adding ------------------------------------------------------------------------------

    def add(self, agents: I64, clocks: I64, columns: TaskColumns) -> None:
        """Take what is to be kept of a batch.

        Args:
            agents: int64[n], agent rows, in log order.
            clocks: int64[n], the clock after each event, ms, ascending.
            columns: the n events.
        """
        if not len(agents):
            return
        self._reserve(int(agents.max()) + 1)
        quarters = clocks // QUARTER
        kept = self._choose(agents, quarters, clocks - columns.occurred_at <= _LATEST)
        if len(kept):
            self._keep(agents[kept], clocks[kept] // MINUTE, _values(columns, kept))

    def _choose(self, agents: I64, quarters: I64, timely: NDArray[np.bool_]) -> I64:
        """Return the positions of the events to keep, ascending, and count them."""
        first, last = int(quarters[0]), int(quarters[-1])
        if first != self._quarter:
            self._begin(first)
        room = self._taken[agents] < self._each
        if last != first:
            room |= quarters != first
        places = np.flatnonzero(room & timely)
        if not len(places):
            self._end(last)
            return places
        who, when = agents[places], quarters[places] - first
        rank = _ranks(when * len(self._taken) + who)
        before = np.where(when == 0, self._taken[who], 0)
        keep = rank + before < self._each
        self._end(last)
        newest = who[keep & (when == last - first)]
        self._taken += np.bincount(newest, minlength=len(self._taken)).astype(np.int32)
        return places[keep]

    def _begin(self, quarter: int) -> None:
        self._quarter = quarter
        self._taken[:] = 0

    def _end(self, quarter: int) -> None:
        if quarter != self._quarter:
            self._begin(quarter)

    def _keep(self, agents: I64, minutes: I64, values: F32) -> None:
        """File a sample under the minutes of its clocks, which ascend."""
        cuts = np.flatnonzero(np.diff(minutes)) + 1
        bounds = [0, *cuts.tolist(), len(minutes)]
        rows = agents.astype(np.int32)
        for start, end in pairwise(bounds):
            minute = int(minutes[start])
            self._minutes.setdefault(minute, []).append(Sample(rows[start:end], values[start:end]))
            self._dirty.add(minute)

    def _reserve(self, rows: int) -> None:
        if rows > len(self._taken):
            longer = np.zeros(2 * rows, np.int32)
            longer[: len(self._taken)] = self._taken
            self._taken = longer

    # -- reading -----------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return how many tasks are kept at the moment."""
        return sum(len(part.agents) for parts in self._minutes.values() for part in parts)

    def close(self, tick: int) -> Means:
        """Return what the sample before a tick says of each agent, and forget it.

        Args:
            tick: a whole hour, ms; the tick of the hour before has been closed.
        """
        past = sorted(minute for minute in self._minutes if minute < tick // MINUTE)
        parts = [part for minute in past for part in self._minutes.pop(minute)]
        self._dirty.difference_update(past)
        self._gone += [minute for minute in past if minute in self._stored]
        self._stored.difference_update(past)
        width = max((part.values.shape[1] for part in parts), default=TOKENS)
        agents = np.concatenate([part.agents for part in parts] or [np.empty(0, np.int32)])
        values = np.concatenate(
            [_widened(part.values, width) for part in parts] or [np.empty((0, width), np.float32)]
        )
        return _means(agents, values)

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        for minute in self._gone:
            yield state.sample_key(minute), None
        for minute in sorted(self._dirty):
            parts = self._minutes[minute]
            width = max(part.values.shape[1] for part in parts)
            agents = np.concatenate([part.agents for part in parts])
            values = np.concatenate([_widened(part.values, width) for part in parts])
            fields = {
                "minute": minute,
                "agents": agents.astype("<i4").tobytes(),
                "columns": width,
                "values": values.astype("<f4").tobytes(),
            }
            yield state.sample_key(minute), state.encode("SampleState", fields)
        self._stored |= self._dirty
        self._dirty.clear()
        self._gone.clear()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of a sample."""
        if stored.kind != "SampleState":
            return False
        minute = stored.fields["minute"]
        agents = np.frombuffer(stored.fields["agents"], "<i4").astype(np.int32)
        values = np.frombuffer(stored.fields["values"], "<f4").astype(np.float32)
        sample = Sample(agents, values.reshape(len(agents), stored.fields["columns"]))
        self._minutes[minute] = [sample]
        self._stored.add(minute)
        self._recount()
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._stored |= self._dirty
        self._dirty.clear()

    def forget(self, agents: Sequence[int]) -> None:
        """Drop what is kept of agent rows that were freed: nothing, as they were quiet for long."""
        rows = [row for row in agents if row < len(self._taken)]
        self._taken[rows] = 0

    def _recount(self) -> None:
        """Count what each agent has of the newest quarter, which is all a batch has to know."""
        newest = max(self._minutes)
        per = QUARTER // MINUTE
        agents = [
            part.agents
            for minute, parts in self._minutes.items()
            if minute // per == newest // per
            for part in parts
        ]
        found = np.concatenate(agents)
        self._reserve(int(found.max(initial=0)) + 1)
        self._begin(newest // per)
        self._taken += np.bincount(found, minlength=len(self._taken)).astype(np.int32)


def _ranks(keys: I64) -> I64:
    """Return how many equal keys stand before each, int64[n]."""
    span = int(keys.max()) + 1
    small = keys.astype(np.uint16) if span <= _NARROW else keys  # sorted in linear time
    order = np.argsort(small, kind="stable")
    ordered = keys[order]
    fresh = np.empty(len(keys), np.bool_)
    fresh[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=fresh[1:])
    starts = np.flatnonzero(fresh)
    ranks = np.empty(len(keys), np.int64)
    lengths = np.diff(np.append(starts, len(keys)))
    ranks[order] = np.arange(len(keys)) - np.repeat(starts, lengths)
    return ranks


def _values(columns: TaskColumns, kept: I64) -> F32:
    """Return float32[n, columns] of the events at `kept`."""
    features = _features(columns.features, kept)
    found = np.empty((len(kept), TOKENS + features.shape[1]), np.float32)
    found[:, 0] = columns.confidence[kept]
    found[:, 1] = np.log1p(columns.input_tokens[kept])
    found[:, 2] = np.log1p(columns.output_tokens[kept])
    found[:, TOKENS:] = features
    return found


def _features(column: Ragged, kept: I64) -> F64:
    """Return float64[n, features]: the first features of the events at `kept`, NaN for none."""
    starts, lengths = column.starts[kept], column.starts[kept + 1] - column.starts[kept]
    width = min(FEATURES, int(lengths.max(initial=0)))
    if not width:
        return np.empty((len(kept), 0))
    places = np.arange(width)
    there = places < lengths[:, None]
    found = column.values[np.where(there, starts[:, None] + places, 0)]
    usable = there & np.isfinite(found)
    return np.where(usable, np.clip(found, -_LARGEST, _LARGEST), np.nan)


def _widened(values: F32, width: int) -> F32:
    missing = width - values.shape[1]
    return np.pad(values, ((0, 0), (0, missing)), constant_values=np.nan) if missing else values


def _means(agents: NDArray[np.int32], values: F32) -> Means:
    """Return the trimmed means of each agent's values."""
    rows, places = np.unique(agents.astype(np.int64), return_inverse=True)
    width = values.shape[1]
    if not len(rows):
        none = np.empty((0, width))
        return Means(rows, none.astype(np.int64), none)
    ranks = _ranks(places)
    cube = np.full((len(rows), width, int(ranks.max()) + 1), np.nan, np.float32)
    cube[places, :, ranks] = values
    cube.sort(axis=2)  # NaNs go last
    counts = np.count_nonzero(~np.isnan(cube), axis=2)
    trim = counts // _TRIM
    at = np.arange(cube.shape[2])
    inner = (at >= trim[..., None]) & (at < (counts - trim)[..., None])
    total = np.where(inner, cube, 0).sum(axis=2, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        means = total / (counts - 2 * trim)
    return Means(rows, counts, means)
