"""A desk: one small input topic of a partition, event by event, with its clock and its ticks.

Reviews, changes, profiles and queue depths are few: what is done with each is plain Python. The
order is that of all streams here: an event is admitted, then the ticks that it makes due are
looked at, then it is taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from streams.admission import future_detail, late_detail
from streams.batch import Refusal
from streams.clock import AHEAD, RETENTION, Clock
from streams.durations import HOUR
from streams.reasons import DeadLetterReason, TransitionReason

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streams.findings import Finding
    from streams.state import Stored
    from streams.watch import Change

    I64 = NDArray[np.int64]


class Event(Protocol):
    """What every event has."""

    @property
    def occurred_at(self) -> int:
        """Event time, ms."""


E = TypeVar("E", bound=Event)


class Desk(Generic[E]):
    """One input topic of a partition.

    A subclass says what an event does (`take`), what happens at a tick (`tick`), and whether ticks
    without events matter (`busy`).

    Args:
        step: time between ticks, ms.

    Attributes:
        clock: of the topic and partition.
        findings: made and not yet fetched by `take_findings`, in order.
    """

    keeps_late = False
    """Whether an event older than the hour panes is taken all the same."""

    def __init__(self, step: int = HOUR) -> None:
        self.clock = Clock()
        self.findings: list[Finding] = []
        self._step = step
        self._clock_dirty = False

    def fold(self, events: Sequence[E], offsets: I64, stamps: I64) -> list[Refusal]:
        """Take events in log order.

        Args:
            events: n events.
            offsets: int64[n], ascending.
            stamps: int64[n], Kafka record timestamps, ms.

        Returns:
            Those not admitted, by position in `events`, ascending.
        """
        refused: list[Refusal] = []
        times = zip(events, offsets.tolist(), stamps.tolist(), strict=True)
        for place, (event, offset, stamp) in enumerate(times):
            refusal = self._refusal(place, event, stamp) or self._over(place, event)
            if refusal is not None:
                refused.append(refusal)
                continue
            at, now = event.occurred_at, self.clock.now
            seen = min(at, stamp)
            self._advance(seen if now is None else max(now, seen))
            self.clock.move(seen if now is None else max(now, seen), at, stamp)
            self._clock_dirty = True
            self.take(event, offset)
        return refused

    def idle(self, wall_ms: int) -> None:
        """Let the clock follow the wall, less its lag; what that causes has the reason IDLE."""
        now = self.clock.now
        if now is None or wall_ms - self.clock.lag <= now:
            return
        until = wall_ms - self.clock.lag
        made = len(self.findings)
        self._advance(until)
        # Within a step nothing can tell the difference: not worth a state record.
        self._clock_dirty |= until // self._step > now // self._step
        self.clock.now = until
        self.findings[made:] = [f.because(TransitionReason.IDLE) for f in self.findings[made:]]

    def take_findings(self) -> list[Finding]:
        """Return and forget what was found."""
        findings, self.findings = self.findings, []
        return findings

    def take_clock(self) -> bool:
        """Return whether the clock moved since the last call so far that it is worth a record."""
        dirty, self._clock_dirty = self._clock_dirty, False
        return dirty

    @property
    def dirty(self) -> bool:
        """Whether anything waits: findings, or a clock to be stored."""
        return bool(self.findings) or self._clock_dirty

    # -- what a subclass says ----------------------------------------------------------------

    def take(self, event: E, offset: int) -> None:
        """Fold an admitted event."""
        raise NotImplementedError

    def over(self, event: E) -> str | None:
        """Return why a bound refuses an event, None where none does."""
        del event
        return None

    def tick(self, at: int) -> None:
        """Look at everything as of a tick; what is found is appended to `findings`."""

    def busy(self) -> bool:
        """Return whether ticks without events matter."""
        return False

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call, without the clock."""
        return ()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this desk."""
        del stored
        return False

    def settle(self) -> None:
        """Count all that was restored as stored."""

    # -- inside ------------------------------------------------------------------------------

    def _advance(self, until: int) -> None:
        """Look at the ticks in (clock, until]; idle ones but the first are skipped."""
        now, step = self.clock.now, self._step
        if now is None:
            return
        tick = now // step * step + step
        while tick <= until:
            self.tick(tick)
            if not self.busy():
                return
            tick += step

    def _refusal(self, place: int, event: E, stamp: int) -> Refusal | None:
        at, now = event.occurred_at, self.clock.now
        if at > stamp + AHEAD:
            return Refusal(place, DeadLetterReason.FUTURE, future_detail(at, stamp))
        if not self.keeps_late and now is not None and at < now // HOUR * HOUR - RETENTION:
            return Refusal(place, DeadLetterReason.TOO_LATE, late_detail(at, now))
        return None

    def _over(self, place: int, event: E) -> Refusal | None:
        why = self.over(event)
        return None if why is None else Refusal(place, DeadLetterReason.SERIES_LIMIT, why)
