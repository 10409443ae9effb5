"""The watch on slow calls: more of them than usual are slower than the usual P99.

The P99 of an hour is one number of a few calls and jumps; the share of calls slower than a fixed
time is a rate, and rates can be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams import operations, state, stats
from streams.arms import CLEAR, ENOUGH, FIRE, JUDGEABLE, WAKES
from streams.baseline import NEVER, Baseline, Counts, baseline
from streams.durations import DAY, HOUR, WEEK
from streams.operations import life_key, life_row
from streams.panes import Panes
from streams.sketch import Sketch, SketchPanes, percentiles, value_of
from streams.stored_lives import StoredLives
from streams.watch import KEPT, Happening, KeyedLives, Measure, watch_finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.findings import Finding
    from streams.integration_rules import LatencyRule, SlowArm
    from streams.ledger import Ledger
    from streams.life import Turn
    from streams.operations import Source
    from streams.watch import Change

    I64 = NDArray[np.int64]

TABLE = "slow-calls"
"""Name of the panes of slow calls in state keys."""

_SLOW = 1  # place of the count of slow calls; 0 is that of all others
_LEAST_OF_DAY = 20  # calls of a past window that tells how days differ


class Verdict(NamedTuple):
    """What an arm makes of one operation.

    Attributes:
        sketch: of the window.
        slow: calls in it slower than usual.
        bucket: what usual is; None where it is not known.
        p0: usual share of slow calls.
        weeks: past weeks behind it.
        limit: what the share is compared with.
        cell: bits of `streams.arms`.
    """

    sketch: Sketch
    slow: int
    bucket: int | None
    p0: float
    weeks: int
    limit: float
    cell: int


class LatencyWatch:
    """Looks at the latency of all operations of a ledger.

    At the end of each hour its slow calls, by the P99 that was usual then, are counted for good:
    what is usual later is compared with that.

    Args:
        rule: the rule.
        ledger: its rows are operations.
        sketches: latencies by row.
        source: where the records lie.
    """

    def __init__(
        self, rule: LatencyRule, ledger: Ledger, sketches: SketchPanes, source: Source
    ) -> None:
        self.rule = rule
        self.lives = KeyedLives(rule)
        self._stored = StoredLives(rule.name, self.lives)
        self._ledger, self._sketches, self._source = ledger, sketches, source
        self._slow = Panes(HOUR, DAY // HOUR, KEPT // DAY + 4, counts=2)
        self._gone: list[bytes] = []
        self._usual: dict[int, tuple[int, int | None]] = {}  # of a row: day, bucket

    def hour(self, tick: int) -> list[Finding]:
        """Return what an hour tick causes, by operation."""
        self.lives.prune(tick)
        expired = self._slow.expire((tick - HOUR) // DAY * DAY - KEPT)
        self._gone += [state.pane_key(TABLE, HOUR, key) for key in expired]
        rows = self._ledger.series.agent_rows
        self._slow.reserve(rows)
        every = np.arange(rows)
        came = operations.calls(self._ledger, every, tick // HOUR - 1, 1)[:, 0] > 0
        awake = {life_row(key)[0] for key in self.lives.awake()}
        found: list[Finding] = []
        for row in sorted({*np.flatnonzero(came).tolist(), *awake}):
            if row in self._ledger.series.agents:
                found += self._row(row, tick)
        return found

    def stale(self, rows: I64, hours: I64) -> None:
        """Say that calls of these hours, int64[k] each in ms, were added to the sketches."""
        for row, (day, _) in list(self._usual.items()):
            if (hours[rows == row] < day).any():
                del self._usual[row]

    def busy(self) -> bool:
        """Return whether hours without any record matter too."""
        return self.lives.busy()

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call; not that of the sketches."""
        yield from dict.fromkeys(self._gone).items()
        self._gone.clear()
        for key in self._slow.take_dirty():
            panes = self._slow.dump(key)
            value = state.encode_panes(TABLE, HOUR, key, panes, published=False)
            yield state.pane_key(TABLE, HOUR, key), value
        yield from self._stored.changes()

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of this watch."""
        if stored.kind == "PaneState" and stored.fields["table"] == TABLE:
            found = state.decode_panes(stored.fields)
            self._slow.reserve(int(found.rows.max(initial=0)) + 1)
            self._slow.load(stored.fields["start"], found)
            return True
        return self._stored.restore(stored)

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._slow.settle()
        self._stored.settle()

    def forget(self, rows: Sequence[int]) -> None:
        """Drop what is known of rows that were freed; their panes are gone before."""
        operations.drop_rows(self.lives, rows, {*self.lives.marked(), *self.lives.awake()})
        for row in rows:
            self._usual.pop(row, None)

    def usual_bucket(self, row: int, tick: int) -> int | None:
        """Return the bucket of the usual P99 of a row as of a tick; None where it is not known."""
        today = tick // DAY * DAY
        known = self._usual.get(row)
        if known is None or known[0] != today:
            known = self._usual[row] = today, self._find_usual(row, today)
        return known[1]

    # -- one operation -----------------------------------------------------------------------

    def _row(self, row: int, tick: int) -> list[Finding]:
        bucket = self.usual_bucket(row, tick)
        if bucket is not None:
            self._record(row, tick - HOUR, bucket)
        verdicts = [self._verdict(row, arm, tick, bucket) for arm in self.rule.arms]
        cells = [verdict.cell for verdict in verdicts]
        turns = self.lives.step(life_key(row), tick, cells)
        if turns:  # what is tainted may be another now
            self._usual.pop(row, None)
        return [self._finding(row, turn, tick, verdicts[turn.arm]) for turn in turns]

    def _find_usual(self, row: int, today: int) -> int | None:
        first, out = today - self.rule.usual_days * DAY, set[int]()
        life = self.lives.life(life_key(row))
        for start, end in [] if life is None else life.excluded(first, today):
            out.update(range(start // DAY * DAY, end, DAY))
        sketch = self._sketches.days(row, first, today, out)
        return sketch.bucket(self.rule.quantile) if sketch.total >= self.rule.min_usual else None

    def _record(self, row: int, hour: int, bucket: int) -> None:
        """Count the slow calls of an hour that ended, and the others."""
        sketch = self._sketches.hours(row, hour, hour + HOUR)
        slow = sketch.over(bucket)
        weights = np.array([sketch.total - slow, slow], np.int64)
        kinds = np.flatnonzero(weights)
        same = np.ones(len(kinds), np.int64)
        self._slow.add(row * same, hour // HOUR * same, kinds, (), weights[kinds])

    def _verdict(self, row: int, arm: SlowArm, tick: int, bucket: int | None) -> Verdict:
        sketch = self._sketches.hours(row, tick - arm.window_ms, tick)
        if bucket is None:
            return Verdict(sketch, 0, None, 1 - self.rule.quantile, 0, arm.floor, 0)
        n, slow = sketch.total, sketch.over(bucket)
        usual = self._baseline(row, tick)
        known = bool(usual.has_baseline[0])
        p0 = float(usual.p0[0]) if known else 1 - self.rule.quantile
        limit = max(arm.floor, arm.factor * p0)
        cell = ENOUGH if n >= arm.min_n else 0
        if n:
            share = slow / n
            tau2 = self._between_days(row, arm, tick, p0)
            z = float(stats.z_score(share, p0, n, tau2))
            surely = float(stats.wilson_lower(slow, n, arm.wilson_z)) > arm.surely
            far = z > arm.z * float(usual.multiplier[0])
            cell |= JUDGEABLE | (CLEAR if share <= arm.clear_factor * p0 else 0)
            if cell & ENOUGH and share > limit and surely and far:
                cell |= FIRE | WAKES
        return Verdict(sketch, slow, bucket, p0, int(usual.weeks[0]), limit, cell)

    def _baseline(self, row: int, tick: int) -> Baseline:
        """Return the usual share of slow calls, arrays [1]: of the same hours of past weeks."""
        spec = self.rule.baseline
        ends = tick - WEEK * np.arange(1, spec.weeks + 1, dtype=np.int64)
        total, hits = self._windows(row, ends, spec.window_ms)
        none = np.zeros(1, np.int64)
        ok = self._usable(row, ends - spec.window_ms, ends)
        counts = Counts(total[None], hits[None], ok[None], none, none, none.astype(np.bool_))
        return baseline(spec, counts)

    def _between_days(self, row: int, arm: SlowArm, tick: int, p0: float) -> float:
        """Return how the share differs from day to day beyond chance, at this hour of the day."""
        ends = tick - DAY * np.arange(2, self.rule.usual_days + 1, dtype=np.int64)
        total, hits = self._windows(row, ends, arm.window_ms)
        good = (total >= _LEAST_OF_DAY) & self._usable(row, ends - arm.window_ms, ends)
        if np.count_nonzero(good) < arm.min_entries:
            return p0 * p0
        shares, n = stats.rate(hits[good], total[good]), total[good]
        spread = np.sqrt(stats.variance(p0, n))
        return float(stats.between_day_variance(shares - stats.median(shares), spread))

    def _windows(self, row: int, ends: I64, width: int) -> tuple[I64, I64]:
        """Return (calls, slow calls) counted in windows of the past: int64[windows] each."""
        last = ends // HOUR
        first = int(last.min()) - width // HOUR
        number = int(last.max()) - first
        counts = self._slow.counts(np.full(1, row, np.int64), first, number)[0].astype(np.int64)
        sums = np.zeros((number + 1, 2), np.int64)
        np.cumsum(counts, axis=0, out=sums[1:])
        each = sums[last - first] - sums[last - first - width // HOUR]
        return each.sum(axis=1), each[:, _SLOW]

    def _usable(self, row: int, starts: I64, ends: I64) -> NDArray[np.bool_]:
        life = self.lives.life(life_key(row))
        spans = [] if life is None else life.tainted()
        learned = NEVER if life is None or life.relearned_from is None else life.relearned_from
        ok: NDArray[np.bool_] = starts >= max(learned, int(self._ledger.series.born[row]))
        for start, end in spans:
            ok &= (ends <= start) | (starts >= end)
        return ok

    # -- telling -----------------------------------------------------------------------------

    def _finding(self, row: int, turn: Turn, tick: int, verdict: Verdict) -> Finding:
        arm, n = self.rule.arms[turn.arm], verdict.sketch.total
        numbers = percentiles(verdict.sketch) | {"slow": float(verdict.slow)}
        numbers |= operations.totals(self._ledger, row, tick - arm.window_ms, tick)
        share, detail = verdict.slow / n if n else 0.0, None
        if verdict.bucket is not None:
            usual = value_of(verdict.bucket) / 1_000
            numbers["usual_p99_ms"] = usual
            detail = (
                f"{share:.1%} of the calls took longer than {usual:,.0f} ms, "
                f"usually {verdict.p0:.1%}"
            )
        measure = Measure(
            value=share,
            threshold=verdict.limit,
            baseline=None if verdict.bucket is None else verdict.p0,
            low=float(stats.wilson_lower(verdict.slow, n, 1.96)) if n else None,
            high=float(stats.wilson_upper(verdict.slow, n, 1.96)) if n else None,
            sample_count=n,
            weeks=verdict.weeks,
            window_start=tick - arm.window_ms,
            window_end=tick,
            detail=detail,
            numbers=numbers,
        )
        subject = operations.subject(self._ledger.series.agents[row])
        happening = Happening(turn, tick, arm.name)
        return watch_finding(self.rule, subject, happening, measure, self._source.evidence())
