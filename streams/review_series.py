"""What is remembered of the reviews of a partition: series, panes, and closed hours to publish.

A series is an agent and a task type. Reviews are few: one at a time goes into the panes.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams import state
from streams.clock import RETENTION, UNSET
from streams.closing import GRACE
from streams.columns import BINS, CONFIDENCE_EDGES
from streams.durations import DAY, HOUR
from streams.panes import BUCKET, Panes
from streams.series import Agent, Slots

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.events import HumanReview
    from streams.state import Stored
    from streams.watch import Change

    I64 = NDArray[np.int64]

OVERRIDDEN, CONFIRMED = range(2)
"""Counts of an hour pane."""

VERDICTS = {"OVERRIDDEN": OVERRIDDEN, "CONFIRMED": CONFIRMED}
"""Verdicts that count; one of a newer writer does not."""

MISSING = -1
"""Row of a series that does not exist, and bin of a review without confidence."""

_DAYS = RETENTION // DAY + 4
_SPAN = 9  # days in a block: a series reviewed each day has five blocks
_NOT_AUTOMATED = frozenset({"ESCALATED", "FAILED"})
_TABLE = "reviews"
_ZEROS = dict.fromkeys(
    (
        "automated",
        "escalated",
        "failed",
        "unknown",
        "cost_micro_usd",
        "duration_us",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
    ),
    0,
)


class ReviewKey(NamedTuple):
    """Which series a row is."""

    agent: Agent
    task_type: str


class ReviewSeries:
    """The series and panes of the reviews of a partition.

    Args:
        bound: most series.

    Attributes:
        keys: who the rows are.
        hours: hour panes, counts (overridden, confirmed).
        days: day panes, counts [automated task or not, verdict, bin of confidence], flat.
        day: day that everything was aged to, ms.
    """

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.keys: dict[int, ReviewKey] = {}
        self.hours = Panes(HOUR, DAY // HOUR, _DAYS, counts=2, published=True)
        self.days = Panes(DAY, _SPAN, _DAYS // _SPAN + 3, counts=4 * BINS)
        self._rows: dict[ReviewKey, int] = {}
        self._slots = Slots()
        self._born: dict[int, int] = {}
        self._open: set[int] = set()  # hours with a change that is not published
        self._dirty: set[int] = set()
        self._gone: list[bytes] = []
        self.day = UNSET

    def __len__(self) -> int:
        """Return how many series there are."""
        return len(self.keys)

    @property
    def rows(self) -> int:
        """Number past the last row."""
        return self._slots.end

    @property
    def unpublished(self) -> bool:
        """Whether an hour has a change that is not published."""
        return bool(self._open)

    def fits(self, review: HumanReview) -> bool:
        """Return whether there is room for the series of a review."""
        return len(self.keys) < self.bound or key_of(review) in self._rows

    def find(self, key: ReviewKey) -> int:
        """Return the row of a series, MISSING for none."""
        return self._rows.get(key, MISSING)

    def born(self, rows: Sequence[int]) -> I64:
        """Return int64[r]: the first hour of each row, ms."""
        return np.array([self._born[row] for row in rows], np.int64)

    # -- events ------------------------------------------------------------------------------

    def add(self, review: HumanReview) -> int:
        """Add a review with a verdict that counts; return its row."""
        row = self._row(key_of(review))
        hour, verdict = review.occurred_at // HOUR, VERDICTS[review.verdict]
        where = np.full(1, row, np.int64)
        self.hours.add(where, np.full(1, hour), np.full(1, verdict))
        self._open.add(hour)
        if hour * HOUR < self._born[row]:
            self._born[row] = hour * HOUR
            self._dirty.add(row)
        place = bin_of(review)
        if place != MISSING:
            half = int(review.task_outcome in _NOT_AUTOMATED)
            column = np.full(1, (2 * half + verdict) * BINS + place)
            self.days.add(where, np.full(1, review.occurred_at // DAY), column)
        return row

    def _row(self, key: ReviewKey) -> int:
        row = self._rows.get(key, MISSING)
        if row == MISSING:
            row = self._slots.take()
            self._put(row, key, -UNSET)
            self._dirty.add(row)
        return row

    def _put(self, row: int, key: ReviewKey, born: int) -> None:
        self.keys[row], self._rows[key], self._born[row] = key, row, born
        self.hours.reserve(self.rows)
        self.days.reserve(self.rows)

    # -- closed hours ------------------------------------------------------------------------

    def publish(self, at: int) -> list[dict[str, Any]]:
        """Return the Window records that a tick publishes: hours closed, or changed since."""
        records: list[dict[str, Any]] = []
        for hour in sorted(self._open):
            if hour * HOUR + HOUR + GRACE > at:
                continue
            self._open.discard(hour)
            rows = self.hours.changed_rows(hour)
            hours = np.full(len(rows), hour)
            counts, _ = self.hours.values(rows, hours)
            revisions = self.hours.revisions(rows, hours) + 1
            self.hours.publish(rows, hours, np.ones(len(rows), np.int64))
            told = zip(rows.tolist(), revisions.tolist(), counts.tolist(), strict=True)
            records += [self._window(row, hour, (at, *rest)) for row, *rest in told]
        return records

    def _window(self, row: int, hour: int, told: tuple[Any, ...]) -> dict[str, Any]:
        (at, revision, counts), key = told, self.keys[row]
        return {
            "tenant": key.agent.tenant,
            "agent_id": key.agent.agent_id,
            "task_type": key.task_type,
            "series": "REVIEWS",
            "window_start": hour * HOUR,
            "window_end": hour * HOUR + HOUR,
            "revision": revision,
            "at": at,
            **_ZEROS,
            "overridden": counts[OVERRIDDEN],
            "confirmed": counts[CONFIRMED],
        }

    # -- ageing ------------------------------------------------------------------------------

    def enter(self, day: int) -> list[int]:
        """Age to a day, ms; return the rows without any trace left, which `release` may free."""
        if day <= self.day:
            return []
        self.day = day
        for name, panes in ((_TABLE, self.hours), (f"{_TABLE}-bins", self.days)):
            gone = panes.expire(day - RETENTION)
            self._gone += [state.pane_key(name, panes.width, key) for key in gone]
        oldest = (day - RETENTION) // HOUR
        self._open = {hour for hour in self._open if hour >= oldest}
        alive = self.hours.alive(self.rows) | self.days.alive(self.rows)
        return [row for row in sorted(self.keys) if not alive[row]]

    def release(self, rows: Iterable[int]) -> None:
        """Free rows."""
        for row in rows:
            del self._rows[self.keys.pop(row)]
            del self._born[row]
            self._slots.give(row)
            self._dirty.add(row)

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        changes: dict[bytes, bytes | None] = dict.fromkeys(self._gone)
        self._gone.clear()
        for bucket in sorted({row // BUCKET for row in self._dirty}):
            changes[state.review_series_key(bucket)] = self._encoded(bucket)
        self._dirty.clear()
        for name, panes, published in self._tables():
            for key in panes.take_dirty():
                value = state.encode_panes(
                    name, panes.width, key, panes.dump(key), published=published
                )
                changes[state.pane_key(name, panes.width, key)] = value
        return changes.items()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this. Panes may come first."""
        fields = stored.fields
        if stored.kind == "ReviewSeriesState":
            self._load(fields)
            return True
        for name, panes, _ in self._tables():
            if stored.kind == "PaneState" and fields["table"] == name:
                found = state.decode_panes(fields)
                panes.reserve(int(found.rows.max(initial=0)) + 1)
                panes.load(fields["start"], found)
                if found.changed.any():
                    self._open.add(fields["start"] // HOUR)
                return True
        return False

    def settle(self) -> None:
        """Count all that was restored as stored, and find out which rows are free."""
        self._slots.fill(self.keys)
        self.keys = dict(sorted(self.keys.items()))
        self.hours.reserve(self.rows)
        self.days.reserve(self.rows)
        self.hours.settle()
        self.days.settle()

    def _tables(self) -> tuple[tuple[str, Panes, bool], ...]:
        return (_TABLE, self.hours, True), (f"{_TABLE}-bins", self.days, False)

    def _encoded(self, bucket: int) -> bytes | None:
        rows = [row for row in range(bucket * BUCKET, (bucket + 1) * BUCKET) if row in self.keys]
        keys = [self.keys[row] for row in rows]
        fields = {
            "bucket": bucket,
            "rows": state.pack_rows(np.array(rows, np.int64)),
            "tenants": [key.agent.tenant for key in keys],
            "agent_ids": [key.agent.agent_id for key in keys],
            "task_types": [key.task_type for key in keys],
            "born": [self._born[row] for row in rows],
        }
        return state.encode("ReviewSeriesState", fields) if rows else None

    def _load(self, fields: dict[str, Any]) -> None:
        rows = state.unpack_rows(fields["bucket"], fields["rows"]).tolist()
        names = zip(
            fields["tenants"],
            fields["agent_ids"],
            fields["task_types"],
            fields["born"],
            strict=True,
        )
        for row, (tenant, agent_id, task_type, born) in zip(rows, names, strict=True):
            key = ReviewKey(Agent(tenant, agent_id), task_type)
            self.keys[row], self._rows[key], self._born[row] = key, row, born


def key_of(review: HumanReview) -> ReviewKey:
    """Return the series of a review."""
    return ReviewKey(Agent(review.tenant, review.agent_id), review.task_type)


def bin_of(review: HumanReview) -> int:
    """Return the bin of a review's confidence, MISSING for none."""
    if review.agent_confidence is None:
        return MISSING
    return bisect_right(CONFIDENCE_EDGES, review.agent_confidence, 1, BINS) - 1
