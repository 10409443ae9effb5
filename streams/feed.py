"""How events in columns come into a ledger: admitted, their ticks evaluated, then folded.

Tasks and calls differ in what their columns mean, not in how time passes over them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams.admission import Gate, Records
from streams.clock import Clock
from streams.ledger import NOTHING, Batch
from streams.reasons import TransitionReason
from streams.sweep import SHORT, Sweep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from streams.admission import Events, Piece
    from streams.batch import Refusal
    from streams.findings import Finding
    from streams.ledger import Ledger
    from streams.security import SeriesLimitLife
    from streams.series import Rows
    from streams.sweep import Happened

    I64 = NDArray[np.int64]


class Taken(NamedTuple):
    """Admitted events, before any tick sees them.

    Attributes:
        events: n events, in log order.
        rows: their series.
        clocks: int64[n], the clock after each.
        offsets: int64[n].
    """

    events: Any
    rows: Rows
    clocks: I64
    offsets: I64


class Feed:
    """One input topic of a partition and the ledger it fills.

    Args:
        ledger: what is remembered.
        limit: the life of the rule on refused series.
        sums: gives the sums of a pane for events, int64[n] each.
        bins: gives the bin of confidence of events, int64[n]; None for a ledger without.
        find: makes the finding of a step of a rate rule.

    Attributes:
        clock: of the topic and partition.
        taps: told of events that were admitted, before any tick sees them.
        findings: made since they were last fetched, in order.
        windows: Window records, likewise.
    """

    def __init__(
        self,
        ledger: Ledger,
        limit: SeriesLimitLife,
        *,
        sums: Callable[[Any], Sequence[I64]],
        bins: Callable[[Any], I64 | None] | None = None,
        find: Callable[[Happened], Finding],
    ) -> None:
        self.ledger = ledger
        self.clock = Clock()
        self.taps: list[Callable[[Taken], None]] = []
        self.findings: list[Finding] = []
        self.windows: list[dict[str, Any]] = []
        self.dirty = False
        self._limit = limit
        self._sums, self._bins, self._find = sums, bins, find
        self._gate = Gate(self.clock, ledger.series, limit)

    def fold(self, events: Events, offsets: I64, timestamps: I64) -> list[Refusal]:
        """Take events in log order.

        Args:
            events: n events.
            offsets: int64[n], ascending.
            timestamps: int64[n], Kafka record timestamps, ms.

        Returns:
            Those not admitted, by position in `events`, ascending.
        """
        records = Records(events, offsets, timestamps)
        refused: list[Refusal] = []
        start = 0
        while start < len(events):
            piece = self._gate.piece(records, start)
            refused += piece.refused
            self._take(records, piece)
            if piece.crossing is not None:
                self._move(piece.crossing, records, piece.end)
            self.report(piece.findings)
            self.dirty |= bool(piece.refused)
            start = piece.end
        return refused

    def idle(self, wall_ms: int) -> None:
        """Let the clock follow the wall, less its lag; what that causes has the reason IDLE."""
        now = self.clock.now
        if now is None or wall_ms - self.clock.lag <= now:
            return
        until = wall_ms - self.clock.lag
        # Within a tick nothing can tell the difference: not worth a state record.
        self.dirty |= until // SHORT > now // SHORT
        self._sweep(NOTHING, now, until, TransitionReason.IDLE)
        self.clock.move(until)
        self.report(self._limit.quiet(until), TransitionReason.IDLE)

    def report(self, findings: list[Finding], reason: TransitionReason | None = None) -> None:
        """Add findings to those that wait, perhaps with another reason."""
        if findings:
            self.findings += findings if reason is None else [f.because(reason) for f in findings]
            self.dirty = True

    def drain(self) -> tuple[list[Finding], list[dict[str, Any]]]:
        """Return the findings and Window records that wait."""
        findings, windows = self.findings, self.windows
        self.findings, self.windows, self.dirty = [], [], False
        return findings, windows

    # -- inside ------------------------------------------------------------------------------

    def _take(self, records: Records, piece: Piece) -> None:
        """Evaluate the ticks up to the last admitted event of a piece, and fold its events."""
        if not len(piece.take):
            return
        whole = len(piece.take) == len(records.events)
        events = records.events if whole else records.events.take(piece.take)
        offsets = records.offsets if whole else records.offsets[piece.take]
        batch = Batch(
            agents=piece.rows.agent,
            tasks=piece.rows.task,
            outcomes=events.outcome.astype(np.int64),
            events=events.occurred_at,
            clocks=piece.clocks,
            offsets=offsets,
            sums=self._sums(events),
            bins=None if self._bins is None else self._bins(events),
        )
        until = int(piece.clocks[-1])
        after = int(piece.clocks[0]) if self.clock.now is None else self.clock.now
        self.ledger.reserve()
        self.ledger.reached.note(piece.clocks, offsets)
        for tap in self.taps:
            tap(Taken(events, piece.rows, piece.clocks, offsets))
        self._sweep(batch, after, until)
        setter = batch.seen(until)
        place = int(piece.take[setter])
        self.clock.move(until, int(batch.events[setter]), int(records.stamps[place]))
        self.dirty = True

    def _move(self, until: int, records: Records, place: int) -> None:
        """Let the clock go where the admitted event at `place` moves it, without the event yet."""
        clock = self.clock
        self._sweep(NOTHING, until if clock.now is None else clock.now, until)
        clock.move(until, int(records.events.occurred_at[place]), int(records.stamps[place]))
        self.report(self._limit.quiet(until))
        self.dirty = True

    def _sweep(
        self, batch: Batch, after: int, until: int, reason: TransitionReason | None = None
    ) -> None:
        sweep = Sweep(self.ledger, batch, after, until, self._find)
        sweep.run()
        self.windows += sweep.windows
        self.report(sweep.findings, reason)
