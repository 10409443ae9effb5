"""How long calls took, as counts in buckets of fixed relative width: small, exact to add up.

A bucket spans a factor of g = (1 + a) / (1 - a), so that its middle is within a = 1 % of anything
in it, and so is every quantile. Sketches of minutes, agents and partitions are merged by adding
counts.

Source: C. Masson, J. E. Rim, H. K. Lee (2019), "DDSketch: a fast and fully-mergeable quantile
sketch with relative-error guarantees", PVLDB 12(12), 2195-2205. The bounds here are whole numbers
found by integer arithmetic, so that every machine agrees on the bucket of a duration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams import state
from streams.durations import DAY, HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from streams.watch import Change

    I64 = NDArray[np.int64]

ERROR_PERCENT = 1
"""Relative error of a quantile, percent: a."""

ZERO = 0
"""Bucket of durations of 0."""

BUCKETS = 1_760
"""How many buckets there are; the last holds all beyond 10^15 µs, longer than any call may take."""

HOURS_KEPT = 48
DAYS_KEPT = 28
"""How long sketches of hours are kept, then those of days; with the day at each end."""

_UP, _DOWN = 100 + ERROR_PERCENT, 100 - ERROR_PERCENT


def _bounds() -> I64:
    """Return the largest duration of each bucket from 1 on: ⌊g^(bucket - 1)⌋, µs."""
    found, up, down = [], 1, 1
    for _ in range(1, BUCKETS - 1):
        found.append(up // down)
        up, down = up * _UP, down * _DOWN
    return np.array(found, np.int64)


_BOUNDS = _bounds()


def index_of(durations: I64) -> I64:
    """Return the bucket of each duration: int64[n].

    Args:
        durations: int64[n], whole µs, at least 0.

    >>> index_of(np.array([0, 1, 2, 1_000_000])).tolist()
    [0, 1, 36, 692]
    """
    return np.where(durations > 0, np.searchsorted(_BOUNDS, durations) + 1, ZERO)


def value_of(index: int) -> float:
    """Return the duration a bucket stands for, µs: within 1 % of all in it.

    >>> round(value_of(692) / 1_000_000, 3)
    0.995
    """
    if index == ZERO:
        return 0.0
    return float((_UP / _DOWN) ** (index - 1) * _DOWN / 100)


class Sketch(NamedTuple):
    """How many durations fell in which bucket.

    Attributes:
        codes: int64[b], buckets, ascending.
        counts: int64[b], at least 1 each.
    """

    codes: I64
    counts: I64

    @classmethod
    def of(cls, codes: I64, counts: I64) -> Sketch:
        """Return the sketch of buckets in any order, which may come more than once."""
        distinct, place = np.unique(codes, return_inverse=True)
        total = np.zeros(len(distinct), np.int64)
        np.add.at(total, place, counts)
        return cls(distinct, total)

    @classmethod
    def merge(cls, parts: Iterable[Sketch]) -> Sketch:
        """Return the sum of sketches; that of none is empty."""
        each = [EMPTY, *parts]
        return cls.of(
            np.concatenate([one.codes for one in each]),
            np.concatenate([one.counts for one in each]),
        )

    @property
    def total(self) -> int:
        """How many durations there are."""
        return int(self.counts.sum())

    def bucket(self, share: float) -> int | None:
        """Return the bucket of a quantile; None where there is no duration.

        Args:
            share: of the durations that are no longer, such as 0.99.
        """
        if not len(self.counts):
            return None
        sums = np.cumsum(self.counts)
        rank = int(share * (int(sums[-1]) - 1))
        return int(self.codes[np.searchsorted(sums, rank, side="right")])

    def quantile(self, share: float) -> float | None:
        """Return a quantile in µs, within 1 % of the exact one of lower rank; None for none."""
        bucket = self.bucket(share)
        return None if bucket is None else value_of(bucket)

    def over(self, bucket: int) -> int:
        """Return how many durations are in higher buckets."""
        return int(self.counts[self.codes > bucket].sum())


EMPTY = Sketch(np.empty(0, np.int64), np.empty(0, np.int64))


def percentiles(sketch: Sketch) -> dict[str, float]:
    """Return P50, P95 and P99 in ms, by the name they have in findings; none for no call."""
    shares = {"p50_ms": 0.50, "p95_ms": 0.95, "p99_ms": 0.99}
    found = {name: sketch.quantile(share) for name, share in shares.items()}
    return {name: value / 1_000 for name, value in found.items() if value is not None}


class SketchPanes:
    """Sketches of rows: of hours for 48 h, and of days for the 28 d before today.

    A record goes into its hour, and when the hour is older than 48 h, into its day. A row has at
    most 48 + 2 hours and 28 + 4 days, of at most `BUCKETS` buckets each.
    """

    def __init__(self) -> None:
        self._panes: dict[int, dict[int, dict[int, Sketch]]] = {HOUR: {}, DAY: {}}
        self._dirty: set[tuple[int, int, int]] = set()
        self._now = 0  # hour up to which hours were moved to days

    def fold(self, rows: I64, hours: I64, codes: I64, counts: I64) -> None:
        """Add counts of buckets.

        Args:
            rows: int64[k].
            hours: int64[k], starts of hours, ms.
            codes: int64[k], buckets.
            counts: int64[k].
        """
        if not len(rows):
            return
        order = np.lexsort((hours, rows))
        rows, hours, codes, counts = rows[order], hours[order], codes[order], counts[order]
        changes = np.flatnonzero((np.diff(rows) != 0) | (np.diff(hours) != 0)) + 1
        starts = [0, *changes.tolist()]
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            more = Sketch(codes[start:end], counts[start:end])
            self._add(int(rows[start]), int(hours[start]), more)

    def hours(self, row: int, start: int, end: int) -> Sketch:
        """Return the sum of the hours in [start, end), ms; none older than 48 h."""
        return self._between(HOUR, row, start, end)

    def days(self, row: int, start: int, end: int, out: Iterable[int] = ()) -> Sketch:
        """Return the sum of the days in [start, end), ms, but those in `out`."""
        left = set(out)
        days = [pane for day, pane in self._of(DAY, row) if start <= day < end and day not in left]
        hours = [
            pane
            for hour, pane in self._of(HOUR, row)
            if start <= hour < end and hour // DAY * DAY not in left
        ]
        return Sketch.merge([*days, *hours])

    def rows(self) -> list[int]:
        """Return the rows with any sketch, ascending."""
        return sorted(self._panes[HOUR].keys() | self._panes[DAY].keys())

    def enter(self, hour: int) -> None:
        """Move hours that are too old to their days, and forget days, as of an hour, ms."""
        if hour <= self._now:
            return
        self._now = hour
        for row in list(self._panes[HOUR]):
            for at, sketch in self._of(HOUR, row):
                if at < self._oldest_hour():
                    self._put(DAY, row, at // DAY * DAY, sketch)
                    self._drop(HOUR, row, at)
        oldest = hour // DAY * DAY - (DAYS_KEPT + 1) * DAY
        for row in list(self._panes[DAY]):
            for at, _ in self._of(DAY, row):
                if at < oldest:
                    self._drop(DAY, row, at)

    def forget(self, row: int) -> None:
        """Forget a row."""
        for width in (HOUR, DAY):
            for at, _ in self._of(width, row):
                self._drop(width, row, at)

    def changes(self) -> Iterable[Change]:
        """Return the state records that changed since the last call, None for one that is gone."""
        dirty = sorted(self._dirty)
        self._dirty.clear()
        for width, row, at in dirty:
            sketch = self._panes[width].get(row, {}).get(at)
            key = state.sketch_key(width, row, at)
            yield key, None if sketch is None else _encoded(width, row, at, sketch)

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        if stored.kind != "SketchState":
            return False
        fields = stored.fields
        panes = self._panes[fields["width"]].setdefault(fields["row"], {})
        panes[fields["start"]] = _decoded(fields)
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._dirty.clear()

    @property
    def nbytes(self) -> int:
        """Memory of the arrays; each sketch has some 400 bytes beside."""
        every = (
            one
            for rows in self._panes.values()
            for panes in rows.values()
            for one in panes.values()
        )
        return sum(one.codes.nbytes + one.counts.nbytes for one in every)

    def _add(self, row: int, hour: int, more: Sketch) -> None:
        if hour >= self._oldest_hour():
            self._put(HOUR, row, hour, more)
        elif hour >= self._now // DAY * DAY - (DAYS_KEPT + 1) * DAY:
            self._put(DAY, row, hour // DAY * DAY, more)

    def _oldest_hour(self) -> int:
        return self._now - HOURS_KEPT * HOUR

    def _put(self, width: int, row: int, at: int, more: Sketch) -> None:
        panes = self._panes[width].setdefault(row, {})
        panes[at] = Sketch.merge([panes.get(at, EMPTY), more])
        self._dirty.add((width, row, at))

    def _drop(self, width: int, row: int, at: int) -> None:
        panes = self._panes[width][row]
        del panes[at]
        if not panes:
            del self._panes[width][row]
        self._dirty.add((width, row, at))

    def _of(self, width: int, row: int) -> list[tuple[int, Sketch]]:
        return list(self._panes[width].get(row, {}).items())

    def _between(self, width: int, row: int, start: int, end: int) -> Sketch:
        return Sketch.merge(pane for at, pane in self._of(width, row) if start <= at < end)


def _encoded(width: int, row: int, at: int, sketch: Sketch) -> bytes:
    return state.encode(
        "SketchState",
        {
            "width": width,
            "row": row,
            "start": at,
            "index": sketch.codes.astype("<i2").tobytes(),
            "count": state.pack_values(sketch.counts),
        },
    )


def _decoded(fields: Mapping[str, Any]) -> Sketch:
    index = np.frombuffer(fields["index"], "<i2").astype(np.int64)
    return Sketch(index, state.unpack_values(fields["count"], len(index)))
