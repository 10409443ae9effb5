"""A finding: one step in the life of a rule on an entity, with the numbers behind it.

Ids are made of what the finding is about and of event time alone, so that the same log gives the
same ids, and a finding seen twice is known by its id.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from streams import stats
from streams.reasons import (
    EntityKind,
    RetrainingAction,
    RetrainingCause,
    Severity,
    Transition,
    TransitionReason,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.lives import Step
    from streams.rules import RateRule

_CALM = frozenset({Transition.PENDING, Transition.CANCELLED})
"""Transitions that are of no concern to anyone but a reader of the findings."""


class Entity(NamedTuple):
    """The agent, or other thing, a finding is about."""

    tenant: str | None
    entity_id: str


class Evidence(NamedTuple):
    """Where the records behind a value lie; offsets are -1 where none is known."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int


class Sample(NamedTuple):
    """What a window held, and what it was compared with.

    Attributes:
        n: records in the window.
        k: those the rule counts.
        limit: what the rate k / n was compared with.
        baseline: the usual rate; None where none is known.
        weeks: past weeks behind the baseline, 0 to 4.
        window_start: ms, included.
        window_end: ms, not included.
    """

    n: int
    k: int
    limit: float
    baseline: float | None
    weeks: int
    window_start: int
    window_end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The fields of Finding.avsc, which documents them; times in ms."""

    finding_id: str
    fingerprint: str
    rule: str
    arm: str | None = None
    rule_version: int
    transition: Transition
    reason: TransitionReason
    severity: Severity
    page: bool
    entity_kind: EntityKind
    tenant: str | None = None
    entity_id: str
    task_type: str | None = None
    kind: str | None = None
    trace_id: str | None = None
    at: int
    starts_at: int
    value: float
    threshold: float
    baseline: float | None = None
    interval_low: float | None = None
    interval_high: float | None = None
    sample_count: int
    baseline_weeks: int | None = None
    window_start: int
    window_end: int
    evidence_topic: str
    evidence_partition: int
    first_offset: int
    last_offset: int
    operation: str | None = None
    detail: str | None = None
    change_ref: str | None = None
    integrations: tuple[str, ...] = ()
    retraining_cause: RetrainingCause = RetrainingCause.NONE
    retraining_action: RetrainingAction = RetrainingAction.NONE
    measure_names: tuple[str, ...] = ()
    measure_values: tuple[float, ...] = ()

    @property
    def alert_id(self) -> str:
        """The alert it belongs to."""
        return alert_id(self.fingerprint, self.starts_at)

    def because(self, reason: TransitionReason) -> Finding:
        """Return it with another reason."""
        return replace(self, reason=reason)

    def to_record(self) -> dict[str, Any]:
        """Return it as the Avro record, enums as their symbols."""
        return (
            {name: getattr(self, name) for name in _NAMES}
            | {name: str(getattr(self, name)) for name in _ENUMS}
            | {name: list(getattr(self, name)) for name in _LISTS}
        )

    @classmethod
    def partition_stopped(cls, partition: int, why: str, at: int) -> Finding:
        """Return the finding that a partition stands still until a person has looked.

        Args:
            partition: its number.
            why: the reason, which becomes the finding's kind.
            at: when it stopped, ms.
        """
        entity = Entity(None, str(partition))
        mark = fingerprint("partition-stopped", EntityKind.PARTITION, entity, why)
        return cls(
            finding_id=finding_id(alert_id(mark, at), Transition.FIRING, at),
            fingerprint=mark,
            rule="partition-stopped",
            rule_version=1,
            transition=Transition.FIRING,
            reason=TransitionReason.AT_ONCE,
            severity=Severity.CRITICAL,
            page=True,
            entity_kind=EntityKind.PARTITION,
            entity_id=entity.entity_id,
            kind=why,
            at=at,
            starts_at=at,
            value=1.0,
            threshold=1.0,
            sample_count=1,
            window_start=at,
            window_end=at + 1,
            evidence_topic="",
            evidence_partition=partition,
            first_offset=-1,
            last_offset=-1,
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Finding:
        """Return the finding of an Avro record.

        Raises:
            KeyError: a field is missing.
            ValueError: a symbol is not known here.
        """
        values = {name: record[name] for name in _NAMES}
        values |= {name: tuple(record[name]) for name in _LISTS}
        return cls(**values | {name: enum(record[name]) for name, enum in _ENUMS.items()})


_NAMES = tuple(one.name for one in fields(Finding))
_ENUMS = {
    "transition": Transition,
    "reason": TransitionReason,
    "severity": Severity,
    "entity_kind": EntityKind,
    "retraining_cause": RetrainingCause,
    "retraining_action": RetrainingAction,
}
_LISTS = ("integrations", "measure_names", "measure_values")


def fingerprint(rule: str, kind: EntityKind, entity: Entity, part: str | None = None) -> str:
    """Return the 16 hex digits that name a rule on an entity.

    Args:
        rule: name of the rule.
        kind: kind of the entity.
        entity: the entity.
        part: what of it: a task type or, for the security rule, the kind of event.

    >>> fingerprint("error-rate", EntityKind.AGENT, Entity(None, "claims-agent"))
    'e736160964950384'
    """
    text = "|".join((rule, kind, entity.tenant or "", entity.entity_id, part or ""))
    return sha256(text.encode()).hexdigest()[:16]


def alert_id(fingerprint: str, starts_at: int) -> str:
    """Return the id of the alert that began then."""
    return f"{fingerprint}-{starts_at}"


def finding_id(alert: str, transition: Transition, at: int, offset: int | None = None) -> str:
    """Return the id of a finding.

    Args:
        alert: the alert it belongs to.
        transition: what happened.
        at: event time, ms.
        offset: of the event, where several can have one time.
    """
    suffix = "" if offset is None else f"-{offset}"
    return f"{alert}-{transition.lower()}-{at}{suffix}"


def rate_finding(
    rule: RateRule, step: Step, entity: Entity, sample: Sample, evidence: Evidence
) -> Finding:
    """Return the finding of a step of a rate rule on an agent.

    Args:
        rule: the rule.
        step: what happened.
        entity: the agent.
        sample: the window of the arm that caused the step, at its tick.
        evidence: where its records lie.
    """
    mark = fingerprint(rule.name, EntityKind.AGENT, entity)
    alert = alert_id(mark, step.started_at)
    known = sample.n > 0
    return Finding(
        finding_id=finding_id(alert, step.transition, step.at),
        fingerprint=mark,
        rule=rule.name,
        arm=rule.arms[step.arm].name,
        rule_version=rule.version,
        transition=step.transition,
        reason=step.reason,
        severity=rule.severity,
        page=rule.page and step.transition not in _CALM,
        entity_kind=EntityKind.AGENT,
        tenant=entity.tenant,
        entity_id=entity.entity_id,
        at=step.at,
        starts_at=step.started_at,
        value=sample.k / sample.n if known else 0.0,
        threshold=sample.limit,
        baseline=sample.baseline,
        interval_low=_plain(stats.wilson_lower(sample.k, sample.n, rule.interval_z), known),
        interval_high=_plain(stats.wilson_upper(sample.k, sample.n, rule.interval_z), known),
        sample_count=sample.n,
        baseline_weeks=sample.weeks,
        window_start=sample.window_start,
        window_end=sample.window_end,
        evidence_topic=evidence.topic,
        evidence_partition=evidence.partition,
        first_offset=evidence.first_offset,
        last_offset=evidence.last_offset,
    )


def _plain(bound: Any, known: bool) -> float | None:
    return float(bound) if known else None
