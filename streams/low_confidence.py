"""Low confidence: the share of tasks of which an agent is less sure than it usually is.

The usual 10th percentile is known to a bin: it is the edge at which the share of tasks below comes
nearest to 10 %. What is compared is the share below that edge, now and in the weeks before; so the
edge need not be exact, but where bins are coarse the usual share may be far from 10 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams.columns import BINS, CONFIDENCE_EDGES
from streams.durations import DAY, HOUR
from streams.findings import Entity, Evidence
from streams.reasons import EntityKind
from streams.shares import HOURS_KEPT, Past, ShareLives, Windows, share_finding, window_ends
from streams.watch import Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.findings import Finding
    from streams.ledger import Ledger
    from streams.review_rules import LowSpec, ShareRule
    from streams.state import Stored
    from streams.watch import Change

    I64 = NDArray[np.int64]

_LEAST = 0.2
"""An edge with less below it than this part of the quantile is no percentile, but chance."""


class LowConfidence:
    """The watch on low confidence over the agents of a partition.

    Args:
        rule: the rule, with `low`.
        ledger: of the tasks.
        source: topic and partition of the tasks, for the evidence.
    """

    def __init__(self, rule: ShareRule, ledger: Ledger, source: tuple[str, int]) -> None:
        if rule.low is None:
            raise ValueError(f"rule {rule.name} counts reviews: give one with low")
        self._rule, self._low = rule, rule.low
        self._ledger, self._source = ledger, source
        self._lives = ShareLives(rule)

    def hour(self, tick: int) -> list[Finding]:
        """Return what an hour tick causes."""
        rows = self._rows(tick)
        edges = self._edges(tick, rows)
        rows, edges = rows[edges >= 0], edges[edges >= 0]
        if not len(rows):
            return []
        windows = self._windows(tick, rows, edges)

        def past(places: I64) -> Past:
            first = tick // HOUR - HOURS_KEPT
            counts = self._counts(rows[places], edges[places], first, HOURS_KEPT)
            return Past(*counts, windows.born[places])

        found = self._lives.hour(tick, [_key(row) for row in rows.tolist()], windows, past)
        reached, last = self._ledger.reached, self._ledger.last_offset
        first = reached.first(tick - self._rule.arm.window_ms, last)
        seen = Evidence(*self._source, first, last)
        return [
            share_finding(
                self._rule,
                self._subject(int(rows[one.place])),
                one,
                tick,
                seen,
                under=CONFIDENCE_EDGES[edges[one.place]],
            )
            for one in found
        ]

    def busy(self) -> bool:
        """Return whether hours without any record matter too."""
        return self._lives.busy()

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        return self._lives.changes()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this watch."""
        return self._lives.restore(stored)

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._lives.settle()

    def forget(self, agents: Sequence[int], tasks: Sequence[int]) -> None:
        """Drop the lives of agent rows that were freed."""
        del tasks
        for row in agents:
            self._lives.drop(_key(row))

    # -- counting ----------------------------------------------------------------------------

    def _rows(self, tick: int) -> I64:
        """Return the agent rows with enough tasks in the window, and those that are awake."""
        rows = np.arange(self._ledger.series.agent_rows)
        if not len(rows):
            return rows
        width = self._rule.arm.window_ms // HOUR
        recent = self._ledger.agent_bins.counts(rows, tick // HOUR - width, width)
        chosen = recent.sum(axis=(1, 2)) >= self._rule.arm.min_hits
        chosen[[int(key) for key in self._lives.awake()]] = True
        return np.flatnonzero(chosen)

    def _edges(self, tick: int, rows: I64) -> I64:
        """Return the bin whose lower edge is the usual quantile of each row, -1 for not known.

        An agent awake keeps an edge however few tasks are known, so that its life goes on.
        """
        if not len(rows):
            return rows
        usual = self._usual_bins(tick, rows)
        edges = usual_edges(self._low, usual)
        awake = {int(key) for key in self._lives.awake()}
        kept = np.array([row in awake for row in rows.tolist()], np.bool_)
        few = usual.sum(axis=1) < self._low.min_n
        return np.where(few & ~kept, -1, edges)

    def _usual_bins(self, tick: int, rows: I64) -> I64:
        """Return int64[r, bins]: tasks by confidence in the usual days, less those of alerts."""
        series, number = self._ledger.series, self._low.span_ms // DAY
        first = (tick - self._low.gap_ms) // DAY - number
        place = np.full(series.agent_rows, -1, np.int64)
        place[rows] = np.arange(len(rows))
        tasks = np.array(sorted(series.tasks), np.int64)
        owner = place[[series.tasks[row].agent for row in tasks.tolist()]]
        tasks, owner = tasks[owner >= 0], owner[owner >= 0]
        counts = self._ledger.task_days.counts(tasks, first, number).astype(np.int64)
        by_day = np.zeros((len(rows), number, BINS), np.int64)
        np.add.at(by_day, owner, counts[..., :BINS] + counts[..., BINS:])
        for index, row in enumerate(rows.tolist()):
            if not self._lives.known(_key(row)):
                continue
            for day in range(number):
                start = (first + day) * DAY
                if self._lives.tainted(_key(row), start, start + DAY):
                    by_day[index, day] = 0
        found: I64 = by_day.sum(axis=1)
        return found

    def _windows(self, tick: int, rows: I64, edges: I64) -> Windows:
        width = self._rule.arm.window_ms // HOUR
        ends = window_ends(self._rule, tick).tolist()
        parts = [self._counts(rows, edges, end // HOUR - width, width) for end in ends]
        total, hits = (
            np.stack([part[which].sum(axis=1) for part in parts], axis=1) for which in (0, 1)
        )
        return Windows(total, hits, self._ledger.series.born[rows])

    def _counts(self, rows: I64, edges: I64, first: int, number: int) -> tuple[I64, I64]:
        """Return (tasks, those under the edge) by hour, int64[r, number] each."""
        bins = self._ledger.agent_bins.counts(rows, first, number)
        below = np.arange(BINS)[None, :] < edges[:, None]
        hits = np.einsum("rhb,rb->rh", bins, below, dtype=np.int64)
        return bins.sum(axis=2, dtype=np.int64), hits

    def _subject(self, row: int) -> Subject:
        agent = self._ledger.series.agents[row]
        return Subject(EntityKind.AGENT, Entity(agent.tenant, agent.agent_id))


def usual_edges(low: LowSpec, usual: I64) -> I64:
    """Return for each row the bin whose lower edge is nearest to the usual quantile.

    The lower of two as near. An edge with hardly anything below does not count, unless no edge
    has more: then it is the highest, and any tasks below it are news.

    Args:
        low: the quantile.
        usual: int64[rows, bins], tasks by confidence.

    >>> from streams.review_rules import LowSpec
    >>> low = LowSpec(quantile=0.1, span="28d", gap="24h", min_n=1)
    >>> usual_edges(low, np.array([[0, 0, 2, 5, 20, 30, 43, 0, 0, 0]])).tolist()
    [4]
    """
    total = np.maximum(usual.sum(axis=1, keepdims=True), 1)
    below = np.cumsum(usual, axis=1)[:, :-1] / total  # below edge 1 … BINS - 1
    far = np.abs(below - low.quantile)
    far[below < _LEAST * low.quantile] = np.inf
    found: I64 = np.where(np.isinf(far).all(axis=1), BINS - 1, 1 + np.argmin(far, axis=1))
    return found


def _key(row: int) -> bytes:
    return str(row).encode()
