"""Watches: rules that are looked at when an hour ends, and what they share.

Most rules have windows of many hours and must hold for some: looking at them at whole hours loses
nothing, and lets them be plain functions of the hour panes. A watch that nothing can change sleeps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from streams import stats
from streams.arms import Phase
from streams.durations import DAY, HOUR
from streams.findings import Finding, alert_id, finding_id, fingerprint
from streams.life import Life
from streams.reasons import Transition

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streams.findings import Entity, Evidence, Sample
    from streams.life import Turn
    from streams.reasons import EntityKind, Severity
    from streams.state import Stored

    I64 = NDArray[np.int64]

Change = tuple[bytes, bytes | None]
"""A state record: its key, and its value or None for one that is gone."""

KEPT = 36 * DAY
"""How long taint is remembered: as long as hour panes, which no window outlives."""

_CALM = frozenset({Transition.PENDING, Transition.CANCELLED})


class Watch(Protocol):
    """A rule, or several that share their data, looked at every whole hour of a clock."""

    def hour(self, tick: int) -> list[Finding]:
        """Return what an hour tick causes; every record it sees is in the panes.

        Args:
            tick: a whole hour, ms; later than that of the call before.
        """

    def busy(self) -> bool:
        """Return whether hours without any record matter too."""

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this watch."""

    def settle(self) -> None:
        """Count all that was restored as stored."""

    def forget(self, agents: Sequence[int], tasks: Sequence[int]) -> None:
        """Drop what is known of series rows that were freed and may be given again."""


class MinuteWatch(Protocol):
    """A rule looked at in the minutes it asks for."""

    def note(self, agents: I64, events: I64, clocks: I64) -> None:
        """Take records that were folded.

        Args:
            agents: int64[n], agent rows.
            events: int64[n], event times, ms.
            clocks: int64[n], the clock after each.
        """

    def expect(self, agents: I64, events: I64, clocks: I64) -> None:
        """Look at the records to come, to ask for no tick that they make needless; see `note`."""

    def stirred(self, agents: I64, events: I64, clocks: I64) -> int | None:
        """Return the first minute tick that matters because of records to come; see `note`."""

    def next_tick(self, after: int) -> int | None:
        """Return the first minute tick past `after` that matters if no more records come."""

    def minute(self, tick: int) -> list[Finding]:
        """Return what a minute tick causes; every record it sees is in the panes.

        Args:
            tick: a whole minute, ms; later than that of the call before.
        """


class Named(Protocol):
    """What a finding says of its rule."""

    @property
    def name(self) -> str:
        """Name of the rule."""

    @property
    def version(self) -> int:
        """Version of its meaning."""

    @property
    def severity(self) -> Severity:
        """Of its findings."""

    @property
    def page(self) -> bool:
        """Whether its alerts call a person."""


class Subject(NamedTuple):
    """What a finding is about.

    Attributes:
        kind: of the entity.
        entity: tenant and id.
        part: what of the rule: an error type, a signal; the finding's `kind`.
        task_type: of the agent, where it is about one.
        operation: of the integration, where it is about one.
    """

    kind: EntityKind
    entity: Entity
    part: str | None = None
    task_type: str | None = None
    operation: str | None = None

    def fingerprint(self, rule: str) -> str:
        """Return the 16 hex digits that name a rule on this subject."""
        parts = [part for part in (self.operation, self.task_type, self.part) if part is not None]
        return fingerprint(rule, self.kind, self.entity, "\x1f".join(parts) or None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What was measured, in the words of Finding.avsc.

    Attributes:
        value: the number compared.
        threshold: what it was compared with.
        sample_count: records behind it.
        window_start: ms, included.
        window_end: ms, not included.
        baseline: the usual value.
        low: lower end of the interval of the value.
        high: upper end.
        weeks: past weeks behind the baseline.
        detail: one more sentence.
        numbers: further numbers by name.
    """

    value: float
    threshold: float
    sample_count: int
    window_start: int
    window_end: int
    baseline: float | None = None
    low: float | None = None
    high: float | None = None
    weeks: int | None = None
    detail: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


def rate_measure(sample: Sample, interval_z: float) -> Measure:
    """Return what the window of a rate rule holds.

    Args:
        sample: the window.
        interval_z: quantile of the Wilson interval of the rate.
    """
    n, k = sample.n, sample.k
    return Measure(
        value=k / n if n else 0.0,
        threshold=sample.limit,
        sample_count=n,
        window_start=sample.window_start,
        window_end=sample.window_end,
        baseline=sample.baseline,
        low=float(stats.wilson_lower(k, n, interval_z)) if n else None,
        high=float(stats.wilson_upper(k, n, interval_z)) if n else None,
        weeks=sample.weeks,
    )


class Happening(NamedTuple):
    """A transition at a tick, by which arm (None for a rule without)."""

    turn: Turn
    at: int
    arm: str | None = None


def watch_finding(
    rule: Named,
    subject: Subject,
    happening: Happening,
    measure: Measure,
    evidence: Evidence,
    **more: Any,
) -> Finding:
    """Return the finding of a transition.

    Args:
        rule: the rule.
        subject: what it is about.
        happening: what happened.
        measure: what was measured.
        evidence: where the records lie.
        **more: further fields of the finding; they win over those made here.
    """
    turn, at, arm = happening
    mark = subject.fingerprint(rule.name)
    return Finding(
        **{
            "finding_id": finding_id(alert_id(mark, turn.started_at), turn.transition, at),
            "fingerprint": mark,
            "rule": rule.name,
            "arm": arm,
            "rule_version": rule.version,
            "transition": turn.transition,
            "reason": turn.reason,
            "severity": rule.severity,
            "page": rule.page and turn.transition not in _CALM,
            "entity_kind": subject.kind,
            "tenant": subject.entity.tenant,
            "entity_id": subject.entity.entity_id,
            "task_type": subject.task_type,
            "operation": subject.operation,
            "kind": subject.part,
            "at": at,
            "starts_at": turn.started_at,
            "value": measure.value,
            "threshold": measure.threshold,
            "baseline": measure.baseline,
            "interval_low": measure.low,
            "interval_high": measure.high,
            "sample_count": measure.sample_count,
            "baseline_weeks": measure.weeks,
            "window_start": measure.window_start,
            "window_end": measure.window_end,
            "evidence_topic": evidence.topic,
            "evidence_partition": evidence.partition,
            "first_offset": evidence.first_offset,
            "last_offset": evidence.last_offset,
            "detail": measure.detail,
            "measure_names": tuple(measure.numbers),
            "measure_values": tuple(measure.numbers.values()),
            **more,
        }
    )


class KeyedLives:
    """The lives of one rule by key, stepped tick by tick.

    Rules on few subjects need no arrays: only a subject that stirs is stepped, one by one. The
    caller chooses the keys, short bytes that name a subject, and keeps them stable.

    Args:
        rule: anything with `arms` and `relearn_after_ms`, as `streams.life.Life` wants it.
    """

    def __init__(self, rule: Any) -> None:
        self._rule = rule
        self._lives: dict[bytes, Life] = {}
        self._awake: set[bytes] = set()
        self._dirty: set[bytes] = set()

    def step(self, key: bytes, tick: int, cells: Sequence[int]) -> list[Turn]:
        """Step all arms of one life at a tick.

        Args:
            key: whose.
            tick: event time, ms.
            cells: for each arm the bits ENOUGH, FIRE, JUDGEABLE, CLEAR and WAKES of
                `streams.arms`; an arm that is idle begins only at a cell with WAKES.
        """
        life = self._lives.get(key) or Life.new(self._rule)
        due = dict.fromkeys(range(len(cells)), 0)
        turns, changed = life.step(self._rule, tick, due, [_column(cell) for cell in cells])
        if changed:
            self._keep(key, life)
        return turns

    def awake(self) -> list[bytes]:
        """Return the keys with an arm that is not idle, ascending: each needs every tick."""
        return sorted(self._awake)

    def busy(self) -> bool:
        """Return whether any life needs every tick."""
        return bool(self._awake)

    def life(self, key: bytes) -> Life | None:
        """Return the life of a key, None for one that never left inactive."""
        return self._lives.get(key)

    def firing(self, key: bytes) -> bool:
        """Return whether the rule fires on a key."""
        life = self._lives.get(key)
        return life is not None and life.fired_at is not None

    def tainted(self, key: bytes, start: int, end: int) -> bool:
        """Return whether a window [start, end) holds an hour of an alert."""
        life = self._lives.get(key)
        return life is not None and any(a < end and start < b for a, b in life.tainted())

    def marked(self) -> list[bytes]:
        """Return the keys whose past is not all usual: tainted, or a new normal was learned."""
        return sorted(
            key
            for key, life in self._lives.items()
            if life.relearned_from is not None or life.tainted()
        )

    def prune(self, clock: int) -> None:
        """Forget what no window of a tick from `clock` on can reach."""
        oldest = clock // HOUR * HOUR - KEPT
        for key, life in list(self._lives.items()):
            if life.prune(oldest):
                self._keep(key, life)

    def drop(self, key: bytes) -> None:
        """Forget all of a key."""
        if key in self._lives:
            self._keep(key, Life.new(self._rule))

    def take_dirty(self) -> list[bytes]:
        """Return the keys whose life changed since the last call, ascending."""
        dirty = sorted(self._dirty)
        self._dirty.clear()
        return dirty

    def dump(self, key: bytes) -> dict[str, Any] | None:
        """Return the life of a key in plain values (see `Life.dump`), None for none."""
        life = self._lives.get(key)
        return None if life is None else life.dump()

    def load(self, key: bytes, record: Mapping[str, Any]) -> None:
        """Take what `dump` gave.

        Raises:
            ValueError: it has another number of arms than the rule.
        """
        self._keep(key, Life.of(self._rule, record))
        self._dirty.discard(key)

    def _keep(self, key: bytes, life: Life) -> None:
        if life.blank():
            self._lives.pop(key, None)
        else:
            self._lives[key] = life
        idle = all(arm.phase is Phase.IDLE for arm in life.arms)
        (self._awake.discard if idle else self._awake.add)(key)
        self._dirty.add(key)


def _column(cell: int) -> Any:
    """Return a cell as the one column of a row of cells."""
    return (cell,)
