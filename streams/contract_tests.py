"""The watch on contract tests: calls made to see whether an operation still keeps its contract.

They are single events, and few: the first failure is reported at once, and where tests are usual,
it is reported that none comes. The changes of an operation travel with them and are named in what
starts soon after.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from streams import operations, state
from streams.durations import DAY, HOUR, MINUTE
from streams.life import Turn
from streams.reasons import Transition, TransitionReason
from streams.watch import Happening, Measure, watch_finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streams.findings import Finding
    from streams.integration_rules import ContractTestRule
    from streams.ledger import Ledger
    from streams.operations import Source
    from streams.watch import Change

FAILED, MISSING = "FAILED", "MISSING"
"""What a finding is about: its kind."""

TEST, CHANGE = "contract-test ", "change "
"""How the text of a mark begins."""

NEAR = 6 * HOUR
"""How long before an alert a change is still named in it."""

CHANGES_MOST = 8
"""Changes of an operation that are remembered, the newest."""

_KEPT_DAYS = 36


@dataclass(slots=True)
class _Tests:
    """What is known of one operation; times in ms.

    Attributes:
        days: tests of each day, by days since 1970.
        last_at: time of the newest test.
        failing_since: when the open alert on failures began.
        failed_at: time of the newest failure of it.
        failures: failures of it.
        error_type: of the newest of them.
        missing_since: when the open alert on missing tests began.
        changes: (time, text) of the last changes, ascending.
    """

    days: dict[int, int] = field(default_factory=dict)
    last_at: int | None = None
    failing_since: int | None = None
    failed_at: int | None = None
    failures: int = 0
    error_type: str | None = None
    missing_since: int | None = None
    changes: list[tuple[int, str]] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.failing_since is not None or self.missing_since is not None

    def blank(self) -> bool:
        return not (self.days or self.changes or self.open)

    def dump(self) -> dict[str, Any]:
        return {
            "days": sorted(self.days),
            "tests": [self.days[day] for day in sorted(self.days)],
            "last_at": self.last_at,
            "failing_since": self.failing_since,
            "failed_at": self.failed_at,
            "failures": self.failures,
            "error_type": self.error_type,
            "missing_since": self.missing_since,
            "changed_at": [at for at, _ in self.changes],
            "changed": [text for _, text in self.changes],
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> _Tests:
        return cls(
            days=dict(zip(record["days"], record["tests"], strict=True)),
            last_at=record["last_at"],
            failing_since=record["failing_since"],
            failed_at=record["failed_at"],
            failures=record["failures"],
            error_type=record["error_type"],
            missing_since=record["missing_since"],
            changes=list(zip(record["changed_at"], record["changed"], strict=True)),
        )


class ContractWatch:
    """Looks at the contract tests of all operations of a ledger.

    Args:
        rule: the rule.
        ledger: its rows are operations.
        source: where the records lie.
    """

    def __init__(self, rule: ContractTestRule, ledger: Ledger, source: Source) -> None:
        self.rule = rule
        self._ledger, self._source = ledger, source
        self._tests: dict[int, _Tests] = {}
        self._dirty: set[int] = set()

    def mark(self, row: int, tick: int, at: int, text: str) -> list[Finding]:
        """Take a single event; return what it causes at once.

        Args:
            row: the operation.
            tick: that first sees it, ms.
            at: its event time, ms.
            text: `contract-test OK`, `contract-test ERROR TYPE` or `change KIND FROM TO`.
        """
        tests = self._tests.setdefault(row, _Tests())
        self._dirty.add(row)
        if text.startswith(CHANGE):
            tests.changes = sorted({*tests.changes, (at, text.removeprefix(CHANGE))})
            del tests.changes[:-CHANGES_MOST]
            return []
        tests.days[at // DAY] = tests.days.get(at // DAY, 0) + 1
        tests.last_at = at if tests.last_at is None else max(at, tests.last_at)
        found = self._came(row, tests, tick)
        outcome, _, error_type = text.removeprefix(TEST).partition(" ")
        if outcome == "OK":
            return [*found, *self._passed(row, tests, tick, at)]
        return [*found, *self._failed(row, tests, (tick, at), error_type or outcome)]

    def hour(self, tick: int) -> list[Finding]:
        """Return what an hour tick causes, by operation."""
        found: list[Finding] = []
        for row in sorted(self._tests):
            tests = self._tests[row]
            if row in self._ledger.series.agents:
                found += self._missing(row, tests, tick)
                if tests.failing_since is not None and not tests.days:
                    found.append(self._fixed(row, tests, tick, TransitionReason.ENTITY_GONE))
            self._prune(row, tests, tick)
        return found

    def busy(self) -> bool:
        """Return whether hours without any record matter too: a test may be missing."""
        return any(tests.days or tests.open for tests in self._tests.values())

    def holds(self, row: int) -> bool:
        """Return whether a row must be kept though it has no panes: tests are in none."""
        return row in self._tests

    def change_ref(self, row: int, starts_at: int) -> str | None:
        """Return the newest change in the hours before an alert began, in words; None for none."""
        tests = self._tests.get(row)
        near = [] if tests is None else tests.changes
        near = [one for one in near if starts_at - NEAR <= one[0] <= starts_at]
        if not near:
            return None
        at, text = near[-1]
        kind, old, new = (*text.split(" "), "", "")[:3]
        return f"{kind} {old} to {new}, {(starts_at - at) // MINUTE} min before"

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call, None for what is gone."""
        dirty = sorted(self._dirty)
        self._dirty.clear()
        for row in dirty:
            tests = self._tests.get(row)
            fields = None if tests is None else {"row": row, **tests.dump()}
            value = None if fields is None else state.encode("ContractState", fields)
            yield state.contract_key(row), value

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of this watch."""
        if stored.kind != "ContractState":
            return False
        self._tests[stored.fields["row"]] = _Tests.of(stored.fields)
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._dirty.clear()

    def forget(self, rows: Sequence[int]) -> None:
        """Drop what is known of rows that were freed."""
        for row in rows:
            if self._tests.pop(row, None) is not None:
                self._dirty.add(row)

    # -- failures ----------------------------------------------------------------------------

    def _failed(
        self, row: int, tests: _Tests, when: tuple[int, int], error_type: str
    ) -> list[Finding]:
        tick, at = when
        tests.error_type = error_type
        tests.failures += 1
        tests.failed_at = at if tests.failed_at is None else max(at, tests.failed_at)
        if tests.failing_since is not None:
            return []
        # Not the tick: two lives can begin in one minute, and must not have one id.
        tests.failing_since = min(at, tick)
        turn = Turn(Transition.FIRING, TransitionReason.CONTRACT_TEST, 0, tests.failing_since)
        return [self._finding((row, FAILED), turn, tick, self._failure(tests, tick))]

    def _passed(self, row: int, tests: _Tests, tick: int, at: int) -> list[Finding]:
        """Resolve an open failure by a test that passed after it."""
        if tests.failing_since is None or tests.failed_at is None or at <= tests.failed_at:
            return []
        return [self._fixed(row, tests, tick, TransitionReason.CONTRACT_TEST)]

    def _fixed(self, row: int, tests: _Tests, tick: int, reason: TransitionReason) -> Finding:
        started = tick if tests.failing_since is None else tests.failing_since
        turn = Turn(Transition.RESOLVED, reason, 0, started)
        found = self._finding((row, FAILED), turn, tick, self._failure(tests, tick))
        tests.failing_since = tests.failed_at = tests.error_type = None
        tests.failures = 0
        self._dirty.add(row)
        return found

    def _failure(self, tests: _Tests, tick: int) -> Measure:
        start = tick if tests.failing_since is None else tests.failing_since
        return Measure(
            value=float(tests.failures),
            threshold=1.0,
            sample_count=tests.failures,
            window_start=min(start, tick - MINUTE),
            window_end=tick,
            detail=f"the contract test failed: {tests.error_type}",
            numbers={"failures": float(tests.failures)},
        )

    # -- missing tests -----------------------------------------------------------------------

    def _missing(self, row: int, tests: _Tests, tick: int) -> list[Finding]:
        if tests.missing_since is not None:
            if tick - tests.missing_since < self.rule.relearn_after_ms:
                return []
            return [self._found_again(row, tests, tick, TransitionReason.REBASELINED)]
        if tests.last_at is None or not self._usual(tests, tick):
            return []
        if tick - tests.last_at < self.rule.missing_after_ms:
            return []
        tests.missing_since = tick
        self._dirty.add(row)
        turn = Turn(Transition.FIRING, TransitionReason.CONTRACT_TEST, 0, tick)
        return [self._finding((row, MISSING), turn, tick, self._gap(tests, tick))]

    def _usual(self, tests: _Tests, tick: int) -> bool:
        """Return whether tests were usual on the days before the last one came too long ago."""
        today = tick // DAY
        recent = [n for day, n in tests.days.items() if today - self.rule.of_days <= day <= today]
        return len(recent) >= self.rule.usual_days and sum(recent) >= self.rule.usual_tests

    def _came(self, row: int, tests: _Tests, tick: int) -> list[Finding]:
        """Resolve an open alert on missing tests, as one came."""
        if tests.missing_since is None:
            return []
        return [self._found_again(row, tests, tick, TransitionReason.CONTRACT_TEST)]

    def _found_again(self, row: int, tests: _Tests, tick: int, reason: TransitionReason) -> Finding:
        started = tick if tests.missing_since is None else tests.missing_since
        turn = Turn(Transition.RESOLVED, reason, 0, started)
        found = self._finding((row, MISSING), turn, tick, self._gap(tests, tick))
        tests.missing_since = None
        if reason is TransitionReason.REBASELINED:
            tests.days.clear()
        self._dirty.add(row)
        return found

    def _gap(self, tests: _Tests, tick: int) -> Measure:
        """Return the hours since the newest test, against those allowed."""
        last = tick if tests.last_at is None else min(tests.last_at, tick)
        return Measure(
            value=(tick - last) / HOUR,
            threshold=self.rule.missing_after_ms / HOUR,
            sample_count=sum(tests.days.values()),
            window_start=min(last, tick - MINUTE),
            window_end=tick,
            detail=f"no contract test for {(tick - last) // HOUR} h",
        )

    # -- both --------------------------------------------------------------------------------

    def _finding(self, whose: tuple[int, str], turn: Turn, tick: int, measure: Measure) -> Finding:
        row, kind = whose
        subject = operations.subject(self._ledger.series.agents[row], kind)
        happening = Happening(turn, tick)
        more = {"change_ref": self.change_ref(row, turn.started_at)}
        evidence = self._source.evidence()
        return watch_finding(self.rule, subject, happening, measure, evidence, **more)

    def _prune(self, row: int, tests: _Tests, tick: int) -> None:
        """Forget days and changes that are too old, and a row of which nothing is left."""
        oldest = tick // DAY - _KEPT_DAYS
        days = [day for day in tests.days if day < oldest]
        for day in days:
            del tests.days[day]
        changes = [one for one in tests.changes if one[0] >= oldest * DAY]
        if days or len(changes) < len(tests.changes):
            tests.changes = changes
            self._dirty.add(row)
        if tests.blank():
            del self._tests[row]
            self._dirty.add(row)
