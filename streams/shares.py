"""A rule on a share that rises: baselines, variance between days, judgement and lives.

It is looked at every hour, for keys whose counts come from hour panes. The variance between days
is made anew each time from the panes alone, and only where the rest of the condition holds or a
life is open: so nothing of it is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams import stats
from streams.arms import CLEAR, ENOUGH, FIRE, JUDGEABLE, WAKES
from streams.baseline import NEVER, Baseline, Counts, baseline
from streams.durations import DAY, HOUR, WEEK
from streams.stored_lives import StoredLives
from streams.watch import Happening, KeyedLives, Measure, watch_finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from streams.findings import Evidence, Finding
    from streams.life import Turn
    from streams.review_rules import ShareRule
    from streams.state import Stored
    from streams.watch import Change, Subject

    I64 = NDArray[np.int64]
    F64 = NDArray[np.float64]
    Bool = NDArray[np.bool_]

HOURS_KEPT = 36 * DAY // HOUR
"""Hours before a tick that a baseline, or the variance between days, may look at."""


class Windows(NamedTuple):
    """Counts of keys in the window at a tick and in the same window of the weeks before.

    Attributes:
        total: int64[keys, 1 + weeks], the current window first.
        hits: int64[keys, 1 + weeks].
        born: int64[keys], first hour of each key, ms.
    """

    total: I64
    hits: I64
    born: I64


class Past(NamedTuple):
    """Counts of keys in the `HOURS_KEPT` hours before a tick.

    Attributes:
        total: int64[keys, hours].
        hits: int64[keys, hours].
        born: int64[keys], first hour of each key, ms.
    """

    total: I64
    hits: I64
    born: I64


class Verdict(NamedTuple):
    """What was made of one key.

    Attributes:
        n: events in the window.
        k: those counted.
        p0: the usual share, NaN where none is known.
        weeks: past weeks behind it.
        limit: what the share was compared with, NaN without a baseline.
        z: distance from the baseline in standard deviations.
        tau: standard deviation between days.
    """

    n: int
    k: int
    p0: float
    weeks: int
    limit: float
    z: float
    tau: float


class Found(NamedTuple):
    """A transition of a key, by its place in the call, and the numbers behind it."""

    place: int
    turn: Turn
    verdict: Verdict


def window_ends(rule: ShareRule, tick: int) -> I64:
    """Return the ends of the current window and those of the weeks before, int64[1 + weeks]."""
    return tick - WEEK * np.arange(rule.baseline.weeks + 1, dtype=np.int64)


class ShareLives:
    """One rule on a share over many keys: judges them and keeps their lives.

    Args:
        rule: the rule.
    """

    def __init__(self, rule: ShareRule) -> None:
        self.rule = rule
        self._lives = KeyedLives(rule)
        self._stored = StoredLives(rule.name, self._lives)

    def awake(self) -> list[bytes]:
        """Return the keys that need every tick."""
        return self._lives.awake()

    def busy(self) -> bool:
        """Return whether any key needs every tick."""
        return self._lives.busy()

    def known(self, key: bytes) -> bool:
        """Return whether anything is remembered of a key."""
        return self._lives.life(key) is not None

    def tainted(self, key: bytes, start: int, end: int) -> bool:
        """Return whether [start, end) holds an hour of an alert of the key."""
        return self._lives.tainted(key, start, end)

    def drop(self, key: bytes) -> None:
        """Forget a key."""
        self._lives.drop(key)

    def hour(
        self, tick: int, keys: Sequence[bytes], windows: Windows, past: Callable[[I64], Past]
    ) -> list[Found]:
        """Judge keys at an hour tick and step their lives.

        Args:
            tick: a whole hour, ms.
            keys: distinct; every one that is awake must be among them.
            windows: their counts.
            past: gives the past of the keys at some places.
        """
        self._lives.prune(tick)
        usual = self._usual(tick, keys, windows)
        hot = self._hot(windows, usual)
        awake = set(self._lives.awake())
        chosen = np.flatnonzero(hot | np.array([key in awake for key in keys], np.bool_))
        if not len(chosen):
            return []
        names = [keys[place] for place in chosen.tolist()]
        tau2 = self._tau2(tick, names, usual.take(chosen), past(chosen))
        return self._step(tick, names, chosen, (windows, usual, hot, tau2))

    # -- judging -----------------------------------------------------------------------------

    def _hot(self, windows: Windows, usual: Baseline) -> Bool:
        """Return where the condition holds if days differed by counting alone."""
        arm, n, k = self.rule.arm, windows.total[:, 0], windows.hits[:, 0]
        share = stats.rate(k, n)
        z = stats.z_score(share, usual.p0, n, 0.0)
        with np.errstate(invalid="ignore"):
            past_limit = (share > arm.factor * usual.p0) & (z > arm.z * usual.multiplier)
        found: Bool = usual.has_baseline & (k >= arm.min_hits) & past_limit
        return found

    def _step(
        self,
        tick: int,
        keys: Sequence[bytes],
        chosen: I64,
        judged: tuple[Windows, Baseline, Bool, F64],
    ) -> list[Found]:
        (windows, usual, hot, tau2), arm = judged, self.rule.arm
        n, k = windows.total[chosen, 0], windows.hits[chosen, 0]
        p0, known = usual.p0[chosen], usual.has_baseline[chosen]
        share = stats.rate(k, n)
        z = stats.z_score(share, p0, n, tau2)
        with np.errstate(invalid="ignore"):
            fire = hot[chosen] & (z > arm.z * usual.multiplier[chosen])
            clear = share <= arm.clear_factor * p0
        cells = np.where(known & (n > 0), ENOUGH | JUDGEABLE | CLEAR * clear, 0)
        cells |= np.where(fire, FIRE | WAKES, 0)
        found: list[Found] = []
        for place, key in enumerate(keys):
            verdict = Verdict(
                n=int(n[place]),
                k=int(k[place]),
                p0=float(p0[place]),
                weeks=int(usual.weeks[chosen[place]]),
                limit=float(arm.factor * p0[place]),
                z=float(z[place]),
                tau=float(np.sqrt(tau2[place])),
            )
            turns = self._lives.step(key, tick, [int(cells[place])])
            found += [Found(int(chosen[place]), turn, verdict) for turn in turns]
        return found

    def _usual(self, tick: int, keys: Sequence[bytes], windows: Windows) -> Baseline:
        ends = window_ends(self.rule, tick)[1:]
        ok = self._usable(keys, windows.born, ends)
        return self._baseline(windows.total[:, 1:], windows.hits[:, 1:], ok)

    def _baseline(self, total: I64, hits: I64, ok: Bool) -> Baseline:
        none = np.zeros(len(total), np.int64)
        counts = Counts(total, hits, ok, none, none, none.astype(np.bool_))
        return baseline(self.rule.baseline, counts)

    def _usable(self, keys: Sequence[bytes], born: I64, ends: I64) -> Bool:
        """Return bool[keys, windows]: those after the key's birth, without an hour of an alert."""
        starts = ends - self.rule.arm.window_ms
        ok: Bool = starts[None, :] >= born[:, None]
        marked = set(self._lives.marked())
        for place, key in enumerate(keys) if marked else ():
            life = self._lives.life(key) if key in marked else None
            if life is None:
                continue
            ok[place] &= starts >= (NEVER if life.relearned_from is None else life.relearned_from)
            for start, end in life.tainted():
                ok[place] &= (ends <= start) | (starts >= end)
        return ok

    def _tau2(self, tick: int, keys: Sequence[bytes], usual: Baseline, past: Past) -> F64:
        """Return the variance between days of each key; see docs/reviews.md for the formula."""
        spec, width = self.rule.arm.between, self.rule.arm.window_ms
        ages = np.arange(spec.min_age, spec.max_age + 1, dtype=np.int64)
        ends = (tick - ages * DAY)[:, None] + (window_ends(self.rule, tick) - tick)[None, :]
        kept = ends - width >= tick - HOURS_KEPT * HOUR
        total, hits = (_sums(one, tick, ends - width, ends, kept) for one in past[:2])
        ok = self._usable(keys, past.born, ends.reshape(-1)).reshape(total.shape) & kept
        weeks = (-1, total.shape[-1] - 1)
        own = self._baseline(
            total[..., 1:].reshape(weeks), hits[..., 1:].reshape(weeks), ok[..., 1:].reshape(weeks)
        )
        n, p0 = total[..., 0], own.p0.reshape(len(keys), -1)
        good = own.has_baseline.reshape(p0.shape) & (n >= spec.min_n) & ok[..., 0]
        residual = np.where(good, stats.rate(hits[..., 0], n) - p0, np.nan)
        spread = np.where(good, np.sqrt(stats.variance(p0, n)), np.nan)
        learned = stats.between_day_variance(residual, spread)
        prior = spec.prior * usual.p0
        return np.where(good.sum(axis=1) >= spec.min_entries, learned, prior * prior)

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the lives that changed since the last call."""
        return self._stored.changes()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored life; return whether it is one of this rule."""
        return self._stored.restore(stored)

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._stored.settle()


def share_finding(
    rule: ShareRule,
    subject: Subject,
    found: Found,
    tick: int,
    evidence: Evidence,
    *,
    under: float | None = None,
) -> Finding:
    """Return the finding of a transition of a rule on a share.

    Args:
        rule: the rule.
        subject: what it is about.
        found: what happened.
        tick: when, ms.
        evidence: where the records lie.
        under: confidence under which tasks count; None where that is not what is counted.
    """
    verdict, known = found.verdict, found.verdict.n > 0
    has_baseline = verdict.weeks > 0
    numbers = {"hits": float(verdict.k)} | ({} if under is None else {"under": under})
    if known and has_baseline:
        numbers |= {"z": verdict.z, "between_days": verdict.tau}
    measure = Measure(
        value=verdict.k / verdict.n if known else 0.0,
        threshold=verdict.limit if has_baseline else 0.0,
        baseline=verdict.p0 if has_baseline else None,
        low=float(stats.wilson_lower(verdict.k, verdict.n, rule.interval_z)) if known else None,
        high=float(stats.wilson_upper(verdict.k, verdict.n, rule.interval_z)) if known else None,
        sample_count=verdict.n,
        weeks=verdict.weeks,
        window_start=tick - rule.arm.window_ms,
        window_end=tick,
        numbers=numbers,
    )
    happening = Happening(found.turn, tick, rule.arm.name)
    return watch_finding(rule, subject, happening, measure, evidence)


def _sums(values: I64, tick: int, starts: I64, ends: I64, kept: Bool) -> I64:
    """Return int64[keys, …shape of starts]: sums over windows, 0 for one that is not kept."""
    first = tick // HOUR - HOURS_KEPT
    running = np.zeros((len(values), values.shape[1] + 1), np.int64)
    np.cumsum(values, axis=1, out=running[:, 1:])
    a, b = (np.where(kept, times // HOUR - first, 0) for times in (starts, ends))
    found: I64 = running[:, b] - running[:, a]
    return found
