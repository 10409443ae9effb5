"""Rules on single records: security events, and records refused for the bound on series.

Both have quiet lives: a life begins with a record, goes on with further ones, and resolves when
none came for some hours of the clock of their topic. There is no window and no baseline.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.durations import DAY, HOUR
from streams.findings import Entity, Finding, alert_id, finding_id, fingerprint
from streams.reasons import EntityKind, Severity, Transition, TransitionReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.columns import SecurityEvent
    from streams.rules import SecurityRule, SeriesLimitRule

ADMITTED = 36 * DAY
"""An admitted event is at most so much older than the clock's hour."""

_ORDER = (Severity.INFO, Severity.WARNING, Severity.HIGH, Severity.CRITICAL)


@dataclass(slots=True)
class _Quiet:
    """A life that ends by quiet.

    Attributes:
        started_at: event time of its first record, ms.
        last_seen: latest event time, ms.
        events: records in it.
        last_offset: offset of the record handled last.
    """

    started_at: int = 0
    last_seen: int = 0
    events: int = 0
    last_offset: int = -1

    def see(self, at: int, offset: int) -> Transition:
        """Take a record at `at`; return whether it begins the life or goes on with it."""
        opened = self.events == 0
        self.started_at = at if opened else self.started_at
        self.last_seen = at if opened else max(self.last_seen, at)
        self.events += 1
        self.last_offset = offset
        return Transition.FIRING if opened else Transition.UPDATED


@dataclass(slots=True)
class _Threat(_Quiet):
    """What is known of one kind of event of one agent; its life is closed while `events` is 0.

    Attributes:
        paged: whether this life called a person.
        severity: the highest of this life.
        recent: times of the last events that page by number only, of past lives too.
    """

    paged: bool = False
    severity: Severity = Severity.INFO
    recent: list[int] = field(default_factory=list)

    def close(self) -> None:
        """End the life; what counts towards paging by number stays."""
        self.started_at = self.last_seen = self.events = 0
        self.last_offset = -1
        self.paged, self.severity = False, Severity.INFO


class ThreatKey(NamedTuple):
    """What a security life is about."""

    tenant: str | None
    agent_id: str
    kind: str

    def to_bytes(self) -> bytes:
        """Return it as a state key: a short JSON list."""
        return json.dumps(self, ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def of(cls, key: bytes) -> ThreatKey:
        """Return the key that `to_bytes` gave."""
        tenant, agent_id, kind = json.loads(key)
        return cls(tenant, agent_id, kind)


class SecurityLives:
    """The lives of the security rule in one partition, by (tenant, agent, kind).

    What it remembers is a function of the records handled and the clocks told, in their order.

    Args:
        rule: its parameters.
        topic: topic of the events, for the evidence.
        partition: partition of the events.
    """

    def __init__(self, rule: SecurityRule, topic: str, partition: int) -> None:
        self._rule = rule
        self._reporter = _Reporter(
            rule, EntityKind.AGENT, TransitionReason.SECURITY_EVENT, topic, partition
        )
        self._threats: dict[ThreatKey, _Threat] = {}
        self._open: set[ThreatKey] = set()
        self._dirty: set[ThreatKey] = set()
        self._hour: int | None = None

    def __len__(self) -> int:
        """Return how many (tenant, agent, kind) are remembered."""
        return len(self._threats)

    def knows(self, event: SecurityEvent) -> bool:
        """Return whether the event's (tenant, agent, kind) is remembered."""
        return _key(event) in self._threats

    def handle(self, event: SecurityEvent, clock: int, offset: int) -> list[Finding]:
        """Take an admitted event; return what it caused, lives that ended before it first.

        Args:
            event: the event.
            clock: of its topic and partition with this event, ms.
            offset: of the event.
        """
        findings = self.quiet(clock)
        key = _key(event)
        threat = self._threats.setdefault(key, _Threat())
        transition = threat.see(event.occurred_at, offset)
        if self._pages(threat, event):
            own = self._rule.severity.get(event.severity, Severity.HIGH)
            threat.paged, threat.severity = True, max(threat.severity, own, key=_ORDER.index)
        self._open.add(key)
        self._dirty.add(key)
        finding = self._finding(key, transition, event.occurred_at)
        findings.append(replace(finding, trace_id=event.trace_id))
        return findings

    def quiet(self, clock: int) -> list[Finding]:
        """Resolve the lives in which nothing came for long by this clock, ms; earliest first."""
        due = sorted(
            (self._threats[key].last_seen + self._rule.quiet_ms, self._fingerprint(key), key)
            for key in self._open
            if self._threats[key].last_seen + self._rule.quiet_ms <= clock
        )
        findings = []
        for at, _, key in due:
            findings.append(self._finding(key, Transition.RESOLVED, at))
            self._threats[key].close()
            self._open.discard(key)
            self._dirty.add(key)
        self._forget(clock, [key for *_, key in due])
        return findings

    def take_dirty(self) -> list[bytes]:
        """Return the keys of what changed since the last call, ascending."""
        dirty = sorted(key.to_bytes() for key in self._dirty)
        self._dirty.clear()
        return dirty

    def dump(self, key: bytes) -> dict[str, Any] | None:
        """Return what is remembered under a key in plain values, None for nothing."""
        about = ThreatKey.of(key)
        threat = self._threats.get(about)
        if threat is None:
            return None
        return about._asdict() | asdict(threat) | {"open": about in self._open}

    def load(self, key: bytes, record: Mapping[str, Any]) -> None:
        """Take what `dump` gave."""
        about = ThreatKey.of(key)
        values = {name: record[name] for name in (one.name for one in fields(_Threat))}
        values |= {"severity": Severity(record["severity"]), "recent": list(record["recent"])}
        self._threats[about] = _Threat(**values)
        (self._open.add if record["open"] else self._open.discard)(about)
        self._dirty.discard(about)

    def _pages(self, threat: _Threat, event: SecurityEvent) -> bool:
        """Return whether the event itself calls a person; remember it if it counts by number."""
        rule, many = self._rule, False
        if event.severity in rule.volume_severities:
            threat.recent = [*threat.recent, event.occurred_at][-rule.volume :]
            since = event.occurred_at - rule.volume_window_ms
            near = [at for at in threat.recent if since < at <= event.occurred_at]
            many = len(near) >= rule.volume
        always = event.kind in rule.paging_kinds or event.severity in rule.paging_severities
        return many or always or not event.blocked

    def _forget(self, clock: int, closed: list[ThreatKey]) -> None:
        """Drop closed lives whose past can page with no event that may still be admitted.

        A life can become so when it closes or when the clock enters another hour; at no other
        time, so that batches and restarts make no difference.
        """
        hour = clock // HOUR * HOUR
        candidates = closed
        if hour != self._hour:
            candidates = [key for key in self._threats if key not in self._open]
            self._hour = hour
        oldest = hour - ADMITTED - self._rule.volume_window_ms
        for key in candidates:
            if all(at <= oldest for at in self._threats[key].recent):
                del self._threats[key]
                self._dirty.add(key)

    def _fingerprint(self, key: ThreatKey) -> str:
        entity = Entity(key.tenant, key.agent_id)
        return fingerprint(self._rule.name, EntityKind.AGENT, entity, key.kind)

    def _finding(self, key: ThreatKey, transition: Transition, at: int) -> Finding:
        threat = self._threats[key]
        step = _Step(transition, at, threat.severity, threat.paged, threshold=1.0)
        return self._reporter.report(Entity(key.tenant, key.agent_id), key.kind, threat, step)


class SeriesLimitLife:
    """The life of the rule on refused series in one partition.

    Args:
        rule: its parameters.
        topic: topic of the refused records, for the evidence.
        partition: the partition.
        max_series: the bound that refuses.
        part: which series of the partition, where not those of tasks.
    """

    def __init__(
        self,
        rule: SeriesLimitRule,
        topic: str,
        partition: int,
        max_series: int,
        part: str | None = None,
    ) -> None:
        self._rule = rule
        self.part = part
        self._reporter = _Reporter(
            rule, EntityKind.PARTITION, TransitionReason.SERIES_LIMIT, topic, partition
        )
        self._entity = Entity(None, str(partition))
        self._max_series = max_series
        self._life = _Quiet()
        self.dirty = False

    def refuse(self, at: int, offset: int) -> list[Finding]:
        """Take a refused record by its event time, ms, and offset; the first one is a finding."""
        transition = self._life.see(at, offset)
        self.dirty = True
        return [self._finding(transition, at)] if transition is Transition.FIRING else []

    @property
    def due(self) -> int | None:
        """When it resolves if nothing more is refused, ms; None while it is not open."""
        return self._life.last_seen + self._rule.quiet_ms if self._life.events else None

    def quiet(self, clock: int) -> list[Finding]:
        """Resolve it when nothing was refused for long by this clock of the tasks, ms."""
        at = self.due
        if at is None or at > clock:
            return []
        finding = self._finding(Transition.RESOLVED, at)
        self._life = _Quiet()
        self.dirty = True
        return [finding]

    def dump(self) -> dict[str, Any] | None:
        """Return its state in plain values, None for none; it is no longer dirty then."""
        self.dirty = False
        return asdict(self._life) if self._life.events else None

    def load(self, record: Mapping[str, Any]) -> None:
        """Take the state that `dump` gave."""
        self._life = _Quiet(**{one.name: record[one.name] for one in fields(_Quiet)})
        self.dirty = False

    def _finding(self, transition: Transition, at: int) -> Finding:
        bound = float(self._max_series)
        step = _Step(transition, at, self._rule.severity, self._rule.page, threshold=bound)
        return self._reporter.report(self._entity, self.part, self._life, step)


class _Step(NamedTuple):
    transition: Transition
    at: int
    severity: Severity
    page: bool
    threshold: float


@dataclass(frozen=True, slots=True)
class _Reporter:
    """Makes the findings of quiet lives of one rule in one partition."""

    rule: SecurityRule | SeriesLimitRule
    entity_kind: EntityKind
    reason: TransitionReason
    topic: str
    partition: int

    def report(self, entity: Entity, kind: str | None, life: _Quiet, step: _Step) -> Finding:
        resolved = step.transition is Transition.RESOLVED
        mark = fingerprint(self.rule.name, self.entity_kind, entity, kind)
        alert = alert_id(mark, life.started_at)
        # Several events can have one time: the offset tells their findings apart.
        counted = kind is None or self.entity_kind is EntityKind.PARTITION
        offset = None if resolved or counted else life.last_offset
        return Finding(
            finding_id=finding_id(alert, step.transition, step.at, offset),
            fingerprint=mark,
            rule=self.rule.name,
            rule_version=self.rule.version,
            transition=step.transition,
            reason=TransitionReason.QUIET if resolved else self.reason,
            severity=step.severity,
            page=step.page,
            entity_kind=self.entity_kind,
            tenant=entity.tenant,
            entity_id=entity.entity_id,
            kind=kind,
            at=step.at,
            starts_at=life.started_at,
            value=float(life.events),
            threshold=step.threshold,
            sample_count=life.events,
            window_start=life.started_at,
            window_end=life.last_seen + 1,
            evidence_topic=self.topic,
            evidence_partition=self.partition,
            first_offset=life.last_offset,
            last_offset=life.last_offset,
        )


def _key(event: SecurityEvent) -> ThreatKey:
    return ThreatKey(event.tenant, event.agent_id, event.kind)
