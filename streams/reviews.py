"""The desk of human reviews: panes, closed hours, rules on overrides, and training signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams import state
from streams.clock import Reached
from streams.columns import BINS
from streams.desk import Desk
from streams.durations import DAY, HOUR, MINUTE
from streams.events import HumanReview
from streams.findings import Evidence
from streams.overrides import OverrideRate
from streams.patterns import Patterns
from streams.review_series import CONFIRMED, MISSING, VERDICTS, ReviewSeries, bin_of, key_of
from streams.threshold_advice import ThresholdAdvice
from streams.training_signals import TrainingSignals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streams.late_tasks import ClosedTasks
    from streams.patterns import Changes
    from streams.rules import RuleSet
    from streams.state import Stored
    from streams.watch import Change, Watch

TABLE = "reviews"
"""Name of the topic in state keys."""

_USUAL_DAYS = 28
_USUAL_LEAST = 20  # confirmed reviews that say what confidence is usual


class Around(NamedTuple):
    """What the desk asks of others.

    Attributes:
        tasks: closed hours and days of tasks.
        clock: gives the clock of the tasks, ms; None before the first.
        changes: changes of agents; None where none are known.
        seen: is told every review taken that has a verdict; None for nobody.
    """

    tasks: ClosedTasks
    clock: Callable[[], int | None]
    changes: Changes | None = None
    seen: Callable[[HumanReview], None] | None = None


class ReviewDesk(Desk[HumanReview]):
    """The reviews of a partition.

    Args:
        rules: the rules.
        source: topic and partition, for the evidence.
        bound: most series of agent and task type.
        around: what it asks of others.

    Attributes:
        series: what is remembered of reviews.
        signals: training signals.
        watches: further rules looked at every hour.
    """

    def __init__(self, rules: RuleSet, source: tuple[str, int], bound: int, around: Around) -> None:
        super().__init__(MINUTE)
        self._source, self._seen = source, around.seen
        self.series = ReviewSeries(bound)
        self.signals = TrainingSignals(around.tasks, around.clock)
        self._rates = [
            OverrideRate(rule, self.series)
            for rule in rules.shares
            if rule.numerator == "overridden"
        ]
        self._patterns = Patterns(rules.override_pattern, around.changes)
        self.watches: list[Watch] = []
        advice = rules.threshold_recommendation
        self._advice = ThresholdAdvice(advice, self.series, around.tasks, around.clock)
        self._reached = Reached()
        self._windows: list[dict[str, Any]] = []
        self._touched = False
        self._advised = 0
        self._last_offset = -1
        self._dirty = False

    # -- events and ticks --------------------------------------------------------------------

    def take(self, event: HumanReview, offset: int) -> None:
        """Fold an admitted review."""
        now = self.clock.now or 0
        self._enter(now)
        self._reached.note(np.full(1, now), np.full(1, offset))
        self._last_offset, self._touched, self._dirty = offset, True, True
        self.signals.add(event, offset)
        if event.verdict not in VERDICTS:
            return
        low = self._low(event)
        self.series.add(event)
        self._patterns.see(event, low=low)
        if self._seen is not None:
            self._seen(event)

    def over(self, event: HumanReview) -> str | None:
        """Return why the bound refuses a review, None where it does not."""
        if not self.series.fits(event):
            # Nothing else would: while all is refused, the clock stands still.
            self._enter(max(self.clock.now or 0, event.occurred_at))
        if self.series.fits(event):
            return None
        return (
            f"reviews of a new agent or task type, and {len(self.series)} of the "
            f"{self.series.bound} series of reviews are in use"
        )

    def tick(self, at: int) -> None:
        """Publish what is closed; at whole hours, look at the rules."""
        self.signals.flush()
        self._windows += self.series.publish(at)
        if at % HOUR == 0:
            self._hour(at)

    def busy(self) -> bool:
        """Return whether ticks without events matter."""
        rates = any(rate.busy() for rate in self._rates)
        rules = rates or self._patterns.busy() or self._advice.busy()
        rules = rules or any(watch.busy() for watch in self.watches)
        return self._touched or self.series.unpublished or rules

    @property
    def dirty(self) -> bool:
        """Whether anything waits: findings, windows, signals, or a clock to be stored."""
        return bool(self._windows) or self.signals.ready or super().dirty

    def take_windows(self) -> list[dict[str, Any]]:
        """Return and forget the Window records made since the last call."""
        windows, self._windows = self._windows, []
        return windows

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call, without the clock."""
        for part in (*self._parts(), *self.watches):
            yield from part.changes()
        if self._reached.take_dirty():
            hours, offsets = self._reached.hours, self._reached.offsets
            evidence = {"topic": TABLE, "hours": hours, "offsets": offsets}
            yield state.evidence_key(TABLE), state.encode("EvidenceState", evidence)
        if self._dirty:
            self._dirty = False
            fields = {
                "touched": self._touched,
                "day": self.series.day,
                "advised": self._advised,
                "last_offset": self._last_offset,
            }
            yield state.REVIEWS_KEY, state.encode("ReviewsState", fields)

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this desk."""
        fields = stored.fields
        if stored.kind == "ReviewsState":
            self._touched, self._advised = fields["touched"], fields["advised"]
            self.series.day, self._last_offset = fields["day"], fields["last_offset"]
            return True
        if stored.kind == "EvidenceState" and fields["topic"] == TABLE:
            self._reached.hours = list(fields["hours"])
            self._reached.offsets = list(fields["offsets"])
            return True
        return any(part.restore(stored) for part in (*self._parts(), *self.watches))

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self.series.settle()
        for rate in self._rates:
            rate.settle()
        for watch in self.watches:
            watch.settle()

    # -- inside ------------------------------------------------------------------------------

    def _parts(
        self,
    ) -> tuple[ReviewSeries | TrainingSignals | OverrideRate | Patterns | ThresholdAdvice, ...]:
        return (self.series, self.signals, *self._rates, self._patterns, self._advice)

    def _hour(self, at: int) -> None:
        self._enter(at - HOUR)
        for rate in self._rates:
            self.findings += rate.hour(at, self.evidence)
        self.findings += self._patterns.hour(at, self.evidence)
        if at // DAY > self._advised and at % DAY >= HOUR:  # midnight has no grace yet
            self._advised, self._dirty = at // DAY, True
            self.findings += self._advice.day(at, self.evidence)
        for watch in self.watches:
            self.findings += watch.hour(at)
        self._dirty |= self._touched
        self._touched = False

    def _enter(self, now: int) -> None:
        """Age to the day of a clock, and free the series without any trace."""
        day = now // DAY * DAY
        if day <= self.series.day:
            return
        self._dirty = True
        self._reached.prune(now)
        dead = {row: self.series.keys[row] for row in self.series.enter(day)}
        gone = {
            row: key
            for row, key in dead.items()
            if not any(rate.holds(key) for rate in self._rates)
        }
        self.series.release(gone)
        for rate in self._rates:
            rate.forget(gone.values())
        self._advice.forget(gone.values())
        left = {key.agent for key in self.series.keys.values()}
        self._patterns.forget({key.agent for key in gone.values()} - left)

    def evidence(self, start: int) -> Evidence:
        """Return where the reviews of a window that begins at a time lie."""
        first = self._reached.first(start, self._last_offset)
        return Evidence(*self._source, first, self._last_offset)

    def _low(self, review: HumanReview) -> bool | None:
        """Return whether the confidence is under the usual one; None where it cannot be told.

        The usual one is the middle of those of the confirmed reviews of the series in 28 days.
        """
        place, row = bin_of(review), self.series.find(key_of(review))
        if MISSING in (place, row):
            return None
        today = (self.clock.now or 0) // DAY
        days = self.series.days.counts(np.full(1, row), today - _USUAL_DAYS + 1, _USUAL_DAYS)
        confirmed = days.sum(axis=(0, 1), dtype=np.int64).reshape(2, 2, BINS)[:, CONFIRMED]
        running = confirmed.sum(axis=0).cumsum()
        if running[-1] < _USUAL_LEAST:
            return None
        return place < int(np.searchsorted(running, running[-1] / 2))
