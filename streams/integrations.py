"""All rules on the integrations that agents call, over the operations of one ledger.

The panes of a ledger know how many calls failed. What they do not know is kept here: how long calls
took, of which types the errors were, contract tests and changes. It comes by minute tick from the
partials of all partitions.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams import operations
from streams.arrivals import Arrivals, SilenceLives
from streams.contract_tests import ContractWatch
from streams.durations import DAY, HOUR
from streams.error_types import ErrorTypeWatch
from streams.findings import Entity, alert_id, finding_id, rate_finding
from streams.latency import LatencyWatch
from streams.reasons import Severity, TransitionReason
from streams.sketch import HOURS_KEPT, Sketch, SketchPanes, percentiles
from streams.type_counts import OTHER, TypeCounts
from streams.watch import Happening, Measure, watch_finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.arrivals import Silenced
    from streams.findings import Evidence, Finding
    from streams.ledger import Ledger
    from streams.operations import Source
    from streams.partials import Bin, Mark
    from streams.rules import RuleSet
    from streams.state import Stored
    from streams.sweep import Happened
    from streams.watch import Change

    I64 = NDArray[np.int64]

TOP = 3
"""Error types that a finding names."""


class Buckets(NamedTuple):
    """Additions to latency sketches, int64[k] each; see `Integrations.fold_bins`."""

    rows: I64
    ticks: I64
    hours: I64
    codes: I64
    counts: I64


class Errors(NamedTuple):
    """Additions to error types, k each; see `Integrations.fold_types`."""

    rows: I64
    ticks: I64
    hours: I64
    names: Sequence[str]
    counts: I64


class _Silent(NamedTuple):
    """The rule on silence, as its finding for one reason names it."""

    name: str
    version: int
    severity: Severity
    page: bool


_NONE = np.empty(0, np.int64)


class Integrations:
    """The watches on the operations of a ledger, and what they share; a `Watch` itself.

    Everything with a tick <= T is folded when `hour(T)` is called, and nothing else.

    Args:
        rules: all rules; the ledger was given `integration_errors` as its rate rule.
        ledger: its agent rows are operations.
        source: where the records behind findings lie.
    """

    def __init__(self, rules: RuleSet, ledger: Ledger, source: Source) -> None:
        self._rules, self._ledger, self._source = rules, ledger, source
        self.sketches = SketchPanes()
        self.types = TypeCounts()
        self._error_types = ErrorTypeWatch(rules.integration_error_type, ledger, self.types, source)
        self._latency = LatencyWatch(rules.integration_latency, ledger, self.sketches, source)
        self._contracts = ContractWatch(rules.contract_test, ledger, source)
        arrivals = Arrivals(rules.silence, ledger.agent_hours, ledger.agent_minutes)
        self._silence = SilenceLives("integration", arrivals)
        self._findings: list[Finding] = []
        self._buckets = Buckets(_NONE, _NONE, _NONE, _NONE, _NONE)
        self._errors = Errors(_NONE, _NONE, _NONE, (), _NONE)

    # -- folding -----------------------------------------------------------------------------

    def fold_bins(self, added: Buckets) -> None:
        """Add calls to latency sketches.

        Args:
            added: rows, ticks that first see them and starts of hours in ms, buckets as of
                `streams.sketch.index_of`, counts.
        """
        self._buckets = added
        self.sketches.fold(added.rows, added.hours, added.codes, added.counts)
        self._latency.stale(added.rows, added.hours)

    def fold_types(self, added: Errors) -> None:
        """Add errors by type, in log order.

        Args:
            added: rows, ticks that first see them and starts of hours in ms, types, counts.
        """
        self._errors = added
        self.types.fold(added.rows, added.hours, added.names, added.counts)

    def fold_mark(self, row: int, tick: int, at: int, text: str) -> None:
        """Take a contract test or a change; what it causes waits for `take_findings`.

        Args:
            row: the operation.
            tick: that first sees it, ms.
            at: its event time, ms.
            text: see `streams.contract_tests.ContractWatch.mark`.
        """
        self._findings += self._contracts.mark(row, tick, at, text)

    def take_bins(self, bins: Sequence[tuple[int, Bin]]) -> None:
        """Add what one step of the roll-up brings; called at each step, also with nothing."""
        slow = [(row, one) for row, one in bins if one.bucket is not None]
        bad = [(row, one) for row, one in bins if one.error_type is not None]
        codes = np.array([one.bucket for _, one in slow], np.int64)
        rows, ticks, hours, counts = _columns(slow)
        self.fold_bins(Buckets(rows, ticks, hours, codes, counts))
        rows, ticks, hours, counts = _columns(bad)
        names = [str(one.error_type) for _, one in bad]
        self.fold_types(Errors(rows, ticks, hours, names, counts))

    def take_mark(self, row: int, mark: Mark) -> None:
        """Take a contract test or a change of the roll-up."""
        self.fold_mark(row, mark.tick, mark.at, mark.text)

    def take_findings(self) -> list[Finding]:
        """Return what marks caused since the last call, in log order, each at its tick."""
        found, self._findings = self._findings, []
        return found

    # -- watching ----------------------------------------------------------------------------

    def hour(self, tick: int) -> list[Finding]:
        """Return what an hour tick causes, rule by rule."""
        self.sketches.enter(tick - HOUR)
        found = [*self._error_types.hour(tick), *self._latency.hour(tick)]
        found += [*self._contracts.hour(tick), *self._silent(tick)]
        return [self._with_change(one) for one in found]

    def busy(self) -> bool:
        """Return whether hours without any record matter too."""
        watches = (self._error_types, self._latency, self._contracts, self._silence)
        return any(watch.busy() for watch in watches)

    def holds(self, row: int) -> bool:
        """Return whether a row without panes must not be freed: it has contract tests."""
        return self._contracts.holds(row)

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        return chain.from_iterable(each.changes() for each in self._keepers())

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        return any(each.restore(stored) for each in self._keepers())

    def settle(self) -> None:
        """Count all that was restored as stored."""
        for each in self._keepers():
            each.settle()

    def forget(self, agents: Sequence[int], tasks: Sequence[int]) -> None:  # noqa: ARG002
        """Drop what is known of series rows that were freed and may be given again."""
        for row in agents:
            self.sketches.forget(row)
            self.types.forget(row)
        for watch in (self._error_types, self._latency, self._contracts, self._silence):
            watch.forget(agents)

    def _keepers(self) -> tuple[Any, ...]:
        return (
            self.sketches,
            self.types,
            self._error_types,
            self._latency,
            self._contracts,
            self._silence,
        )

    def _with_change(self, finding: Finding) -> Finding:
        return (
            finding
            if finding.change_ref is not None
            else replace(finding, change_ref=self._change_of(finding))
        )

    def _change_of(self, finding: Finding) -> str | None:
        row = self._row_of(finding.tenant, finding.entity_id, finding.operation or "")
        return None if row is None else self._contracts.change_ref(row, finding.starts_at)

    def _row_of(self, tenant: str | None, integration: str, operation: str) -> int | None:
        name = f"{integration}{operations.SEPARATOR}{operation}"
        agents = self._ledger.series.agents.items()
        return next((row for row, one in agents if one == (tenant, name)), None)

    # -- silence -----------------------------------------------------------------------------

    def _silent(self, tick: int) -> list[Finding]:
        rows = np.array(sorted(self._ledger.series.agents), np.int64)
        born = self._ledger.series.born
        found = self._silence.step(tick, rows, born, lambda _: TransitionReason.AT_ONCE)
        return [self._silence_finding(one, tick) for one in found]

    def _silence_finding(self, one: Silenced, tick: int) -> Finding:
        rule, reason = self._rules.silence, str(one.fired_for)
        named = _Silent(rule.name, rule.version, rule.severity[reason], reason in rule.paging)
        hours = (tick - one.last_seen) / HOUR
        measure = Measure(
            value=one.expected,
            threshold=rule.expected,
            sample_count=0,
            window_start=one.last_seen,
            window_end=tick,
            detail=f"no call for {hours:.1f} h, where {one.expected:.0f} were to be expected",
        )
        subject = operations.subject(self._ledger.series.agents[one.row])
        happening = Happening(one.turn, tick)
        return watch_finding(named, subject, happening, measure, self._source.evidence())

    # -- telling -----------------------------------------------------------------------------

    def report(self, happened: Happened, evidence: Evidence) -> Finding:
        """Return the finding of a step of the rate rule, with what the calls looked like then.

        Its numbers are those of the last full hours and the current one, up to the tick: what the
        last fold brought of later ticks is left out.
        """
        agent, step, rule = happened.agent, happened.found.step, happened.rate.rule
        whose = Entity(agent.tenant, agent.agent_id)
        found = rate_finding(rule, step, whose, happened.found.sample, evidence)
        subject = operations.subject(agent)
        mark = subject.fingerprint(rule.name)
        numbers = self._numbers(step.row, step.at)
        return replace(
            found,
            finding_id=finding_id(alert_id(mark, step.started_at), step.transition, step.at),
            fingerprint=mark,
            entity_kind=subject.kind,
            entity_id=subject.entity.entity_id,
            operation=subject.operation,
            detail=self._detail(step.row, step.at, numbers),
            change_ref=self._contracts.change_ref(step.row, step.started_at),
            measure_names=tuple(numbers),
            measure_values=tuple(numbers.values()),
        )

    def _numbers(self, row: int, tick: int) -> dict[str, float]:
        """Return the percentiles of the calls of the last 24 h that a tick sees."""
        start = tick // HOUR * HOUR - DAY + HOUR
        return percentiles(self._sketch(row, (start, tick + HOUR), tick))

    def _detail(self, row: int, tick: int, numbers: dict[str, float]) -> str | None:
        start = tick // HOUR * HOUR - DAY + HOUR
        types = self._types(row, (start, tick + HOUR), tick)
        parts = [f"{name} {count}" for name, count in types[:TOP]]
        if len(types) > TOP:
            parts.append(f"others {sum(count for _, count in types[TOP:])}")
        text = [f"errors in 24 h: {', '.join(parts)}"] if parts else []
        if "p99_ms" in numbers:
            text.append(f"P99 {numbers['p99_ms']:,.0f} ms")
        return "; ".join(text) or None

    def window(self, row: int, hour: int, now: int) -> dict[str, list[Any]]:
        """Return the array fields of the Window record of an operation and an hour.

        Args:
            row: the operation.
            hour: start of the hour, ms.
            now: tick at which the record is made, ms. Latencies of hours older than 48 h are not
                told apart any more: their fields are empty.
        """
        sketch = Sketch.merge(())
        if hour >= now // HOUR * HOUR - HOURS_KEPT * HOUR:
            sketch = self._sketch(row, (hour, hour + HOUR), now)
        errors = self._types(row, (hour, hour + HOUR), now)
        return {
            "latency_index": sketch.codes.tolist(),
            "latency_count": sketch.counts.tolist(),
            "error_types": [name for name, _ in errors],
            "error_counts": [count for _, count in errors],
        }

    def _sketch(self, row: int, span: tuple[int, int], tick: int) -> Sketch:
        """Return the latencies of whole hours, without what the last fold has of later ticks."""
        added, sketch = self._buckets, self.sketches.hours(row, *span)
        later = _later(added, row, span, tick)
        seen = Sketch.of(
            np.concatenate([sketch.codes, added.codes[later]]),
            np.concatenate([sketch.counts, -added.counts[later]]),
        )
        kept = seen.counts > 0
        return Sketch(seen.codes[kept], seen.counts[kept])

    def _types(self, row: int, span: tuple[int, int], tick: int) -> list[tuple[str, int]]:
        """Return the error types of whole hours that a tick sees, the most frequent first."""
        start, end = span[0] // HOUR, -(-span[1] // HOUR)
        totals = dict(self.types.top(row, start, end - start))
        known, added = set(self.types.names(row)), self._errors
        for place in np.flatnonzero(_later(added, row, span, tick)).tolist():
            name = added.names[place] if added.names[place] in known else OTHER
            totals[name] = totals.get(name, 0) - int(added.counts[place])
        return sorted(
            ((name, count) for name, count in totals.items() if count > 0),
            key=lambda pair: (-pair[1], pair[0]),
        )


def _later(
    added: Buckets | Errors, row: int, span: tuple[int, int], tick: int
) -> NDArray[np.bool_]:
    """Return bool[k]: the additions to hours of a row that a tick does not see."""
    inside = (added.hours >= span[0]) & (added.hours < span[1])
    found: NDArray[np.bool_] = inside & (added.rows == row) & (added.ticks > tick)
    return found


def _columns(bins: Sequence[tuple[int, Bin]]) -> tuple[I64, I64, I64, I64]:
    """Return (rows, ticks, hours, counts) of additions."""
    table = np.array([(row, one.tick, one.hour, one.number) for row, one in bins], np.int64)
    rows, ticks, hours, counts = table.reshape(-1, 4).T
    return rows, ticks, hours, counts
