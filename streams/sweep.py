"""One pass over a batch: the ticks its records make due, evaluated before the records they precede.

Ticks at which nothing can happen are skipped, however many: a gap in the data costs nothing, and a
busy rule costs an hour's work per hour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams.clock import UNSET, floor
from streams.durations import DAY, HOUR
from streams.evaluation import STEPS

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.evaluation import Found, RateEvaluation
    from streams.findings import Finding
    from streams.ledger import Batch, Ledger
    from streams.series import Agent

SHORT = min(STEPS)


class Happened(NamedTuple):
    """A step of a rule, and which records its tick saw.

    Attributes:
        rate: the rule.
        found: the step.
        agent: the agent.
        first_offset: of the first event folded once the clock was in the window's first hour.
        last_offset: of the last event folded before the tick.
    """

    rate: RateEvaluation
    found: Found
    agent: Agent
    first_offset: int
    last_offset: int


class Sweep:
    """Lets the clock go from `after` to `until`, with the events of a batch on the way.

    Args:
        ledger: what is remembered.
        batch: admitted events, their clocks in (…, until], noted in `ledger.reached`.
        after: the clock before.
        until: the clock after.
        find: makes the finding of a step of a rate rule.

    Attributes:
        findings: by tick; of a tick first those of rate rules, by rule and agent, then those of
            watches.
        windows: Window records, by tick.
    """

    def __init__(
        self,
        ledger: Ledger,
        batch: Batch,
        after: int,
        until: int,
        find: Callable[[Happened], Finding],
    ) -> None:
        self.findings: list[Finding] = []
        self.windows: list[dict[str, Any]] = []
        self._find = find
        self._ledger, self._batch = ledger, batch
        self._after, self._until = after, until
        self._folded = 0
        self._closed = after  # ticks up to here have closed hours
        self._begun = False

    def run(self) -> None:
        """Evaluate all ticks and fold all events."""
        tick = _after(self._after)
        while tick <= self._until:
            tick = self._next(tick)
            if tick <= self._until:
                end = min(self._until, tick // HOUR * HOUR + HOUR - 1)
                self._hour(tick, end)
                tick = _after(end)
        self._fold(len(self._batch.events), self._until)
        self._ledger.enter(self._until // HOUR * HOUR)

    # -- skipping ----------------------------------------------------------------------------

    def _next(self, tick: int) -> int:
        """Return the first tick from `tick` on at which anything can happen."""
        if not self._ledger.busy():
            return min(self._stirring(tick))
        if not self._void(tick):
            return tick
        relearn = self._ledger.relearn_at()
        found = self._stirring(tick)
        if relearn is not None:
            found.append(_after(max(relearn, tick) - 1))
        self._ledger.hold(tick, min(found))
        return min(found)

    def _void(self, tick: int) -> bool:
        """Return whether the windows of all ticks up to the next event's are empty."""
        return self._newest(tick) < tick - self._ledger.widest

    def _newest(self, tick: int) -> int:
        seen = self._batch.events[self._folded : self._batch.seen(tick)]
        return max(self._ledger.newest, int(seen.max())) if len(seen) else self._ledger.newest

    def _stirring(self, tick: int) -> list[int]:
        """Return ticks, or times between them, that may have to be looked at next."""
        clocks, seen = self._batch.clocks, self._batch.seen(tick)
        found = [_after(self._until)]
        minute = self._ledger.next_minute(tick - 1)
        if minute is not None:
            found.append(minute)
        if self._ledger.watches:
            hour = (tick - 1) // HOUR * HOUR + HOUR
            found += [hour] if self._ledger.watched(hour) else []
        elif not self._ledger.rates:
            return found
        if seen < len(clocks):
            found.append(_after(int(clocks[seen])))
        if not self._ledger.rates:
            return found
        touched = clocks[seen - 1 : seen] if seen else self._ledger.touched
        last = int(touched.max(initial=UNSET))
        found += [at for at in (_after(last, step) for step in STEPS) if at >= tick]
        midnight = (tick - 1) // DAY * DAY + DAY
        if self._newest(tick) >= midnight - DAY - self._ledger.widest:
            found.append(midnight)
        return found

    # -- evaluating --------------------------------------------------------------------------

    def _hour(self, tick: int, end: int) -> None:
        """Evaluate the ticks in [tick, end], all of one hour.

        Baselines change within an hour only with an event so late that they see it: the ticks are
        cut there, and what came before is folded. The watches of a whole hour are looked at before
        rate rules are, and their findings put behind: else its tick would have to be cut off too.
        """
        batch, oldest = self._batch, tick // HOUR * HOUR - self._ledger.depth
        seen, all_ = batch.seen(tick), batch.seen(end // SHORT * SHORT)
        deep = self._folded + np.flatnonzero(batch.events[self._folded : all_] < oldest)
        watched = tick % HOUR == 0 and self._ledger.watched(tick)
        if self._begun or watched or tick % DAY == 0 or (deep < seen).any():
            self._fold(seen, tick - 1)
        self._begun = True
        if tick % DAY == 0:
            self._ledger.close_day(tick)
        noticed = self._ledger.watch(tick) if watched else []
        cuts = np.unique(floor(batch.clocks[deep[deep >= seen]], SHORT) + SHORT).tolist()
        starts = [tick, *(cut for cut in cuts if tick < cut <= end)]
        found: list[tuple[int, Finding]] = []
        for start, stop in zip(starts, [*starts[1:], end + 1], strict=True):
            if start > tick:
                self._fold(batch.seen(start), start - 1)
            both = [(one.at, one) for one in self._evaluate(start, stop - 1)]
            found += sorted(both + self._minutes(start, stop - 1), key=lambda one: one[0])
        first = sum(at <= tick for at, _ in found)
        findings = [one for _, one in found]
        self.findings += [*findings[:first], *noticed, *findings[first:]]

    def _minutes(self, first: int, last: int) -> list[tuple[int, Finding]]:
        """Return what the minute ticks in [first, last] cause that somebody waits for.

        Call it when rate rules have seen these ticks: their records are folded on the way.
        """
        found: list[tuple[int, Finding]] = []
        self._ledger.expect(self._coming(last))
        tick = self._next_minute(first - 1, last)
        while tick is not None and tick <= last:
            self._fold(self._batch.seen(tick), tick - 1)
            found += [(tick, one) for one in self._ledger.minute(tick)]
            tick = self._next_minute(tick, last)
        return found

    def _next_minute(self, after: int, last: int) -> int | None:
        """Return the next minute that somebody waits for, or will once it has seen its records."""
        if not self._ledger.minutely:
            return None
        return self._ledger.next_minute(after, self._coming(last))

    def _coming(self, last: int) -> Batch:
        """Return the events that are not folded and that some tick up to `last` sees."""
        return self._batch.part(self._folded, max(self._folded, self._batch.seen(last)))

    def _evaluate(self, first: int, last: int) -> list[Finding]:
        """Return what the ticks in [first, last] cause by rate rules, by tick, rule and agent."""
        batch, ledger = self._batch, self._ledger
        if not ledger.rates:
            return []
        tail = batch.part(self._folded, batch.seen(last // SHORT * SHORT))
        chunk = ledger.chunk(first, last, tail)
        happened: list[Happened] = []
        for rate in ledger.rates:
            for found in rate.evaluate(chunk):
                seen = batch.seen(found.step.at)
                last = int(batch.offsets[seen - 1]) if seen else ledger.last_offset
                first = ledger.reached.first(found.sample.window_start, last)
                agent = ledger.series.agents[found.step.row]
                happened.append(Happened(rate, found, agent, first, last))
        happened.sort(key=lambda one: one.found.step.at)
        return [self._find(one) for one in happened]

    def _fold(self, end: int, until: int) -> None:
        """Fold the events before place `end`, all seen by the first tick after `until`.

        An event far ahead of the one before it is folded by itself: panes age in between.
        """
        clocks = self._batch.clocks
        while True:
            stop = end
            if self._folded < end:
                stop = min(end, self._batch.seen(int(clocks[self._folded]) + HOUR))
            now = until if stop == end else int(clocks[stop])
            part = self._batch.part(self._folded, stop)
            self.windows += self._ledger.fold(part, self._closed, now)
            self._folded, self._closed = stop, now
            if stop == end:
                return


def _after(time: int, step: int = SHORT) -> int:
    """Return the first tick past a time."""
    return time // step * step + step
