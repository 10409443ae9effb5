"""How many records should have come by now: the silence of an agent or of an integration.

The usual number of an hour is that of the same hour of the week in past weeks. Summed over the
time since the last record it says how many are overdue; when a series that is half as busy as
usual would hardly ever be so late, it is silent. All is a function of the panes, in whole numbers,
so that it does not matter how rows are asked about together.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from pydantic import Field

from streams import state
from streams.arms import Part, Share
from streams.durations import DAY, HOUR, MINUTE, WEEK, Duration
from streams.life import Turn
from streams.reasons import Severity, Transition, TransitionReason

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from streams.panes import Panes
    from streams.watch import Change

    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]

NEVER = int(np.iinfo(np.int64).min) // 2
"""Last record of a row that had none within `REACH`; half of the least integer."""

REACH = 28 * DAY
"""How far back the last record is looked for: past it, all usual numbers are 0 anyway."""

WEEKS = 4

_HOURS = WEEK // HOUR
_PARTS = 12  # a mean of 2, 3 or 4 weeks is a whole number of twelfths
_MINUTES_BACK = 180
_AHEAD = 6  # minutes that an event may lie ahead of the clock, rounded up
_AT_ONCE = 1024  # rows computed together: bounds memory, not results


class SilenceRule(Part):
    """The rule on agents and integrations from which nothing comes.

    Attributes:
        expected: fires when more records than this are overdue. It is -ln of the chance that a
            series at `share` of its usual pace is so late. Raising it waits longer.
        share: pace that is still held for usual. Raising it fires sooner.
        min_weeks: past weeks without which nothing is expected of a series.
        min_gap_ms: no shorter silence fires, however busy the series.
        severity: of its findings, by the reason it fires for.
        paging: reasons that call a person.
    """

    name: Literal["silence"] = "silence"
    version: int = Field(ge=1)
    expected: float = Field(gt=0)
    share: Share
    min_weeks: int = Field(ge=2, le=WEEKS)
    min_gap_ms: Duration = Field(alias="min_gap", gt=0)
    severity: dict[str, Severity]
    paging: frozenset[str]


class Arrivals:
    """What may be expected of rows, by their hour panes.

    Args:
        rule: the rule.
        hours: hour panes of the rows; what counts is their counts.
        minutes: minute panes of the same rows, to know a recent last record to the minute.
    """

    def __init__(self, rule: SilenceRule, hours: Panes, minutes: Panes) -> None:
        self.rule = rule
        self._hours, self._minutes = hours, minutes

    def rates(self, rows: I64, first: int, number: int, born: I64) -> I64:
        """Return the usual number of records of consecutive hours: int64[r, number], in twelfths.

        It is the mean of the same hour of the last four weeks, but no more than twice their lower
        median and one: what came in one week only is no habit. With fewer than `min_weeks` weeks
        since the row's first hour it is 0.

        Args:
            rows: int64[r].
            first: number of the first hour.
            number: how many hours.
            born: int64[r], first hour of each row, ms.
        """
        past = range(1, WEEKS + 1)
        counts = np.stack([self._total(rows, first - week * _HOURS, number) for week in past])
        weeks = np.array(past)
        starts = (first + np.arange(number) - weeks[:, None] * _HOURS) * HOUR  # [weeks, hours]
        known = starts[:, None, :] >= born[None, :, None]
        usable = np.count_nonzero(known, axis=0)
        mean = np.where(known, counts, 0).sum(axis=0) * _PARTS // np.maximum(usable, 1)
        ordered = np.sort(np.where(known, counts, np.iinfo(np.int64).max), axis=0)
        place = np.maximum(usable - 1, 0) // 2
        median = np.take_along_axis(ordered, place[None], axis=0)[0]
        bound = np.where(usable > 0, median, 0) * 2 + 1
        return np.where(usable >= self.rule.min_weeks, np.minimum(mean, bound * _PARTS), 0)

    def last_seen(self, rows: I64, now: int) -> I64:
        """Return the end of the newest pane with any record of each row, at most `now`, ms.

        It is known to the minute for three hours, then to the hour; NEVER where there is none.

        Args:
            rows: int64[r].
            now: event time, ms.
        """
        first, number = now // MINUTE - _MINUTES_BACK, _MINUTES_BACK + _AHEAD
        found = _newest(self._any(self._minutes, rows, first, number), first, MINUTE)
        older = np.flatnonzero(found == NEVER)
        first, number = (now - REACH) // HOUR, REACH // HOUR + 2
        for start in range(0, len(older), _AT_ONCE):
            some = older[start : start + _AT_ONCE]
            found[some] = _newest(self._any(self._hours, rows[some], first, number), first, HOUR)
        return np.minimum(found, now)

    def overdue(self, rows: I64, last_seen: I64, now: int, born: I64) -> F64:
        """Return how many records are expected since the last one: float64[r].

        It is the integral of `share` · the usual number of each hour of the week, from `last_seen`
        to `now`; 0 where nothing is known or the gap is shorter than `min_gap`.

        Args:
            rows: int64[r].
            last_seen: int64[r], as of `last_seen`.
            now: event time, ms.
            born: int64[r], first hour of each row, ms.
        """
        found = np.zeros(len(rows), np.float64)
        late = np.flatnonzero((last_seen != NEVER) & (now - last_seen >= self.rule.min_gap_ms))
        for start in range(0, len(late), _AT_ONCE):
            some = late[start : start + _AT_ONCE]
            found[some] = self._expected(rows[some], last_seen[some], now, born[some])
        return found * self.rule.share

    def came(self, row: int, since: int, now: int) -> bool:
        """Return whether a row had a record at or after `since`, the end of an earlier pane."""
        one = np.full(1, row, np.int64)
        hour = -(-since // HOUR)
        if self._any(self._hours, one, hour, max(now // HOUR + 2 - hour, 1)).any():
            return True
        minute = max(since, now - _MINUTES_BACK * MINUTE) // MINUTE
        return bool(self._any(self._minutes, one, minute, now // MINUTE + _AHEAD - minute).any())

    def _expected(self, rows: I64, since: I64, now: int, born: I64) -> F64:
        first = int(since.min()) // HOUR
        number = -(-now // HOUR) - first
        hours = (first + np.arange(number)) * HOUR
        spent = np.minimum(hours + HOUR, now) - np.maximum(hours, since[:, None])
        usual = self.rates(rows, first, number, born)
        total = (usual * np.maximum(spent, 0)).sum(axis=1)  # whole numbers: any order is exact
        found: F64 = total / (_PARTS * HOUR)
        return found

    def _total(self, rows: I64, first: int, number: int) -> I64:
        found: I64 = self._hours.counts(rows, first, number).sum(axis=-1, dtype=np.int64)
        return found

    def _any(self, panes: Panes, rows: I64, first: int, number: int) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = np.any(panes.counts(rows, first, number), axis=-1)
        return found


def _newest(seen: NDArray[np.bool_], first: int, width: int) -> I64:
    """Return the end of the last pane seen of each row, ms; NEVER for none."""
    last = seen.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
    found: I64 = np.where(seen.any(axis=1), (first + last + 1) * width, NEVER)
    return found


class Silenced(NamedTuple):
    """A row fell silent, or is no longer.

    Attributes:
        row: the row.
        turn: FIRING with the reason the caller gave, or RESOLVED: CLEAR_ELAPSED at the first
            record, ENTITY_GONE when nothing came for `REACH`.
        last_seen: end of the pane of the last record before the silence, ms.
        expected: records overdue when it fired.
        fired_for: the reason it fired for.
    """

    row: int
    turn: Turn
    last_seen: int
    expected: float
    fired_for: TransitionReason


@dataclass(frozen=True, slots=True)
class _Silence:
    started_at: int
    last_seen: int
    expected: float
    reason: str


class SilenceLives:
    """Which rows are silent; stepped at whole minutes or hours, as the caller likes.

    Args:
        scope: whose silence, such as `agent`: part of the state's keys.
        arrivals: what is expected.
    """

    def __init__(self, scope: str, arrivals: Arrivals) -> None:
        self.scope = scope
        self.arrivals = arrivals
        self._silent: dict[int, _Silence] = {}
        self._dirty: set[int] = set()
        self._watching = True

    def silent(self, row: int) -> bool:
        """Return whether a row is silent."""
        return row in self._silent

    def busy(self) -> bool:
        """Return whether ticks without any record matter: a row may fall silent, or be gone."""
        return self._watching or bool(self._silent)

    def step(
        self, tick: int, rows: I64, born: I64, typed: Callable[[int], TransitionReason]
    ) -> list[Silenced]:
        """Look at rows at a tick; return what happened, by row.

        Args:
            tick: event time, ms; what it sees is in the panes.
            rows: int64[r], all rows that matter, ascending.
            born: int64[all rows], first hour of each.
            typed: gives the reason for which a row that falls silent does.
        """
        seen = self.arrivals.last_seen(rows, tick)
        self._watching = bool((seen != NEVER).any())
        late = self.arrivals.overdue(rows, seen, tick, born[rows])
        stirs = late > self.arrivals.rule.expected
        if self._silent:
            stirs |= np.isin(rows, np.fromiter(self._silent, np.int64))
        found: list[Silenced] = []
        for place in np.flatnonzero(stirs).tolist():
            row, last = int(rows[place]), int(seen[place])
            if row in self._silent:
                found += self._end(tick, row, last)
            else:
                found.append(self._begin(row, typed(row), tick, (last, float(late[place]))))
        return found

    def _begin(
        self, row: int, reason: TransitionReason, tick: int, late: tuple[int, float]
    ) -> Silenced:
        last_seen, expected = late
        self._silent[row] = _Silence(tick, last_seen, expected, str(reason))
        self._dirty.add(row)
        turn = Turn(Transition.FIRING, reason, 0, tick)
        return Silenced(row, turn, last_seen, expected, reason)

    def _end(self, tick: int, row: int, last_seen: int) -> list[Silenced]:
        """Resolve a silent row from which something came, or of which nothing is left."""
        if last_seen == NEVER:
            return [self.close(row, TransitionReason.ENTITY_GONE)]
        if not self.arrivals.came(row, self._silent[row].last_seen, tick):
            return []
        return [self.close(row, TransitionReason.CLEAR_ELAPSED)]

    def close(self, row: int, why: TransitionReason) -> Silenced:
        """Resolve a row that is silent, for this reason."""
        one = self._silent[row]
        self.drop(row)
        turn = Turn(Transition.RESOLVED, why, 0, one.started_at)
        reason = TransitionReason(one.reason)
        return Silenced(row, turn, one.last_seen, one.expected, reason)

    def rows(self) -> list[int]:
        """Return the silent rows, ascending."""
        return sorted(self._silent)

    def drop(self, row: int) -> None:
        """Forget a row."""
        if self._silent.pop(row, None) is not None:
            self._dirty.add(row)

    def forget(self, rows: Sequence[int]) -> None:
        """Forget rows that were freed."""
        for row in rows:
            self.drop(row)

    def changes(self) -> Iterable[Change]:
        """Return the state records that changed since the last call, None for one that is gone."""
        dirty = sorted(self._dirty)
        self._dirty.clear()
        for row in dirty:
            one = self._silent.get(row)
            fields = None if one is None else {"scope": self.scope, "row": row, **asdict(one)}
            value = None if fields is None else state.encode("SilenceState", fields)
            yield state.silence_key(self.scope, row), value

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        fields = stored.fields
        if stored.kind != "SilenceState" or fields["scope"] != self.scope:
            return False
        names = ("started_at", "last_seen", "expected", "reason")
        self._silent[fields["row"]] = _Silence(**{name: fields[name] for name in names})
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._dirty.clear()
