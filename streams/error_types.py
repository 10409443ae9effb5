"""The watch on types of errors: the same rate may be another failure.

An API that changes its schema, or credentials that ran out, show as errors of another type long
before the number of errors is unusual. Each type of each operation is compared with its own past.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams import operations
from streams.arms import CLEAR, ENOUGH, FIRE, JUDGEABLE, WAKES
from streams.durations import DAY, HOUR, WEEK
from streams.operations import life_key, life_row
from streams.stored_lives import StoredLives
from streams.tails import binomial_tail, poisson_tail
from streams.watch import Happening, KeyedLives, Measure, watch_finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.findings import Finding
    from streams.integration_rules import ErrorTypeRule, TypeArm
    from streams.ledger import Ledger
    from streams.life import Turn
    from streams.operations import Source
    from streams.state import Stored
    from streams.type_counts import TypeCounts
    from streams.watch import Change

    Bool = NDArray[np.bool_]
    I64 = NDArray[np.int64]

_WEEK = WEEK // HOUR
_NEVER = int(np.iinfo(np.int64).max)

REFUSED = ("401", "403", "auth", "credential")
"""Parts of the name of a type that is about credentials, in small letters."""


class Verdict(NamedTuple):
    """What an arm makes of one type.

    Attributes:
        number: errors of the type in the window.
        calls: calls in the window.
        errors: errors of all types in it.
        expected: e; usual errors of the type in so many calls.
        usual_share: its usual share of the errors.
        usual_errors: usual errors of all types in so many calls.
        known: whether its past is long enough.
        fire: whether the condition holds.
        mixed: whether it holds by the mix alone.
    """

    number: int
    calls: int
    errors: int
    expected: float
    usual_share: float
    usual_errors: float
    known: bool
    fire: bool
    mixed: bool

    def cell(self) -> int:
        """Return it as the bits of `streams.arms`."""
        if not (self.known and self.calls):
            return 0
        return ENOUGH | JUDGEABLE | (FIRE | WAKES if self.fire else CLEAR)


class ErrorTypeWatch:
    """Looks at the types of errors of all operations of a ledger.

    Args:
        rule: the rule.
        ledger: its rows are operations.
        counts: errors by type.
        source: where the records lie.
    """

    def __init__(
        self, rule: ErrorTypeRule, ledger: Ledger, counts: TypeCounts, source: Source
    ) -> None:
        self.rule = rule
        self.lives = KeyedLives(rule)
        self._stored = StoredLives(rule.name, self.lives)
        self._ledger, self._counts, self._source = ledger, counts, source
        self._widest = max(arm.window_ms for arm in rule.arms) // HOUR
        self._least = min(rule.min_count, rule.mix.min_count)

    def hour(self, tick: int) -> list[Finding]:
        """Return what an hour tick causes, by operation, type and arm."""
        self.lives.prune(tick)
        self._counts.enter((tick - HOUR) // DAY)
        awake: dict[int, set[str]] = {}
        for key in self.lives.awake():
            row, name = life_row(key)
            awake.setdefault(row, set()).add(name)
        recent = self._counts.rows((tick - self._widest * HOUR) // DAY)
        found: list[Finding] = []
        for row in sorted({*recent, *awake}):
            if row in self._ledger.series.agents:
                found += self._row(row, tick, awake.get(row, set()))
        return found

    def busy(self) -> bool:
        """Return whether hours without any record matter too."""
        return self.lives.busy()

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call; not that of the counts."""
        return self._stored.changes()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this watch."""
        return self._stored.restore(stored)

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._stored.settle()

    def forget(self, rows: Sequence[int]) -> None:
        """Drop what is known of rows that were freed."""
        operations.drop_rows(self.lives, rows, {*self.lives.marked(), *self.lives.awake()})

    # -- one operation -----------------------------------------------------------------------

    def _row(self, row: int, tick: int, awake: set[str]) -> list[Finding]:
        names = sorted({*self._counts.names(row), *awake})
        past = self._past(row, tick, names)
        recent = past.counts[:, -self._widest :].sum(axis=1)
        found: list[Finding] = []
        for place, name in enumerate(names):
            if recent[place] < self._least and name not in awake:
                continue
            verdicts = [past.verdict(self.rule, arm, place) for arm in self.rule.arms]
            cells = [verdict.cell() for verdict in verdicts]
            turns = self.lives.step(life_key(row, name), tick, cells)
            found += [self._finding((row, name), turn, tick, verdicts[turn.arm]) for turn in turns]
        return found

    def _past(self, row: int, tick: int, names: Sequence[str]) -> _Past:
        number = self._widest + self.rule.usual_ms // HOUR
        first = tick // HOUR - number
        counts = np.zeros((len(names), number), np.int64)
        known = self._counts.names(row)
        if known:
            places = [names.index(name) for name in known]
            counts[places] = self._counts.read(row, first, number)
        usable = np.ones((len(names), number), np.bool_)
        born = int(self._ledger.series.born[row]) // HOUR
        usable[:, : max(0, born - first)] = False
        for place, name in enumerate(names):
            life = self.lives.life(life_key(row, name))
            spans = [] if life is None else life.excluded(first * HOUR, tick)
            for start, end in spans:
                usable[place, start // HOUR - first : -(-end // HOUR) - first] = False
        one = np.full(1, row, np.int64)
        return _Past(counts, operations.calls(self._ledger, one, first, number)[0], usable, {})

    # -- telling -----------------------------------------------------------------------------

    def _finding(self, whose: tuple[int, str], turn: Turn, tick: int, verdict: Verdict) -> Finding:
        row, name = whose
        arm = self.rule.arms[turn.arm]
        limit = max(self.rule.factor * verdict.expected, float(self.rule.min_count - 1))
        share = verdict.number / verdict.errors if verdict.errors else 0.0
        numbers = {
            "calls": float(verdict.calls),
            "errors": float(verdict.errors),
            "usual_errors": verdict.usual_errors,
            "share": share,
            "usual_share": verdict.usual_share,
        }
        measure = Measure(
            value=float(verdict.number),
            threshold=float(self.rule.mix.min_count - 1) if verdict.mixed else limit,
            baseline=verdict.expected if verdict.known else None,
            sample_count=verdict.calls,
            window_start=tick - arm.window_ms,
            window_end=tick,
            detail=self._detail(row, name, tick, verdict),
            numbers=numbers,
        )
        subject = operations.subject(self._ledger.series.agents[row], name)
        happening = Happening(turn, tick, arm.name)
        return watch_finding(self.rule, subject, happening, measure, self._source.evidence())

    def _detail(self, row: int, name: str, tick: int, verdict: Verdict) -> str:
        """Return what it looks like, for a person."""
        share = verdict.number / verdict.errors if verdict.errors else 0.0
        text = (
            f"{name} is {share:.0%} of the errors, usually {verdict.usual_share:.0%}: "
            f"{verdict.number} in {verdict.calls} calls, usually {verdict.expected:.1f}"
        )
        refused, calls = self._last_hour(row, name, tick)
        everyone = 0 < self.rule.everyone * calls <= refused
        if everyone and any(one in name.lower() for one in REFUSED):
            return f"{name} for everyone: {refused} of the last hour's {calls} calls; {text}"
        if verdict.errors <= self.rule.same_rate * max(verdict.usual_errors, 1.0):
            return f"same rate, new failure: {text}"
        return text

    def _last_hour(self, row: int, name: str, tick: int) -> tuple[int, int]:
        """Return (errors of the type, calls) of the hour that ends."""
        hour, names = tick // HOUR - 1, self._counts.names(row)
        one = np.full(1, row, np.int64)
        calls = int(operations.calls(self._ledger, one, hour, 1)[0, 0])
        if name not in names:
            return 0, calls
        return int(self._counts.read(row, hour, 1)[names.index(name), 0]), calls


class _Past(NamedTuple):
    """The hours up to a tick.

    Attributes:
        counts: int64[types, hours], errors.
        calls: int64[hours].
        usable: bool[types, hours], what may tell what is usual.
        found: what is usual by window and usable hours, which most types share: a cache.
    """

    counts: I64
    calls: I64
    usable: Bool
    found: dict[tuple[int, bytes], _Usual]

    def verdict(self, rule: ErrorTypeRule, arm: TypeArm, place: int) -> Verdict:
        """Return what an arm makes of the type at a place; see docs/semantics.md."""
        last, width = self.counts.shape[1], arm.window_ms // HOUR
        usual = self._usual(rule, width, place)
        calls, counted = usual.calls, usual.errors
        known = calls > 0 and usual.hours * HOUR >= rule.min_known_ms
        count = int(self.counts[place, last - width :].sum())
        errors = int(self.counts[:, last - width :].sum())
        now = int(self.calls[last - width :].sum())
        scale = now / calls if calls else 0.0
        expected = max(float(counted[place]) * scale, float(usual.season[place]))
        share = (float(counted[place]) + 0.5) / (float(counted.sum()) + 1)
        frequent = known and (
            count >= rule.min_count
            and count > rule.factor * expected
            and poisson_tail(count, arm.inflation * expected + arm.slack) < arm.chance
        )
        mixed = (
            known
            and not frequent
            and (
                count >= rule.mix.min_count
                and count > rule.mix.share * errors
                and binomial_tail(count, errors, rule.mix.inflation * share) < arm.chance
            )
        )
        return Verdict(
            number=count,
            calls=now,
            errors=errors,
            expected=expected,
            usual_share=share,
            usual_errors=float(counted.sum()) * scale,
            known=known,
            fire=frequent or mixed,
            mixed=mixed,
        )

    def _usual(self, rule: ErrorTypeRule, width: int, place: int) -> _Usual:
        """Return what is usual, by the hours that end where a window of so many hours begins."""
        last = self.counts.shape[1] - width
        span = slice(last - rule.usual_ms // HOUR, last)
        ok = self.usable[place, span]
        key = width, ok.tobytes()
        if key not in self.found:
            types = np.where(ok, self.counts[:, span], 0)
            cap = rule.cap_factor * _habits(self.counts[:, span], ok) + rule.cap_slack
            capped: I64 = np.minimum(types, cap)
            hours, calls = int(np.count_nonzero(ok)), int(self.calls[span][ok].sum())
            # The span ends where the window begins, so that each of its weeks begins with the
            # hours of the window.
            same = capped.reshape(len(types), -1, _WEEK)[:, :, :width].sum(axis=2)
            season = np.sort(same, axis=1)[:, (same.shape[1] - 1) // 2]
            self.found[key] = _Usual(hours, calls, capped.sum(axis=1), season)
        return self.found[key]


class _Usual(NamedTuple):
    """What usual hours held, errors capped.

    Attributes:
        hours: how many there are.
        calls: their calls.
        errors: int64[types].
        season: int64[types], errors in the same hours of the week, in the lower median week.
    """

    hours: int
    calls: int
    errors: I64
    season: I64


def _habits(types: I64, ok: Bool) -> I64:
    """Return int64[types, hours]: what each hour has in most weeks.

    It is the median of all hours, or the lower median of the same hour of the week where that is
    more: a batch that fails every Monday is a habit, an outage is none.

    Args:
        types: int64[types, hours], whole weeks.
        ok: bool[hours], which of them count.
    """
    weeks = types.shape[1] // _WEEK
    left_out = np.where(ok, types, _NEVER).reshape(len(types), weeks, _WEEK)
    ordered = np.sort(left_out, axis=1)
    usable = np.count_nonzero(ok.reshape(weeks, _WEEK), axis=0)
    place = np.broadcast_to(np.maximum(usable - 1, 0) // 2, (len(types), 1, _WEEK))
    same = np.where(usable > 0, np.take_along_axis(ordered, place, axis=1)[:, 0], 0)
    every = np.zeros((len(types), 1), np.int64)
    some = np.flatnonzero(2 * np.count_nonzero(types[:, ok], axis=1) > np.count_nonzero(ok))
    if len(some):
        every[some, 0] = np.sort(types[some][:, ok], axis=1)[:, (np.count_nonzero(ok) - 1) // 2]
    found: I64 = np.tile(np.maximum(same, every), (1, weeks))
    return found
