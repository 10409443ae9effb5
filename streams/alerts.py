"""The alert record: the state of an alert, as the people it concerns should see it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from streams.reasons import AlertReason, AlertStatus, EntityKind, Severity, Transition
from streams.summaries import summary

if TYPE_CHECKING:
    from streams.findings import Finding

STATUS = {
    Transition.FIRING: AlertStatus.FIRING,
    Transition.UPDATED: AlertStatus.UPDATED,
    Transition.RESOLVED: AlertStatus.RESOLVED,
}
"""Status of an alert after a finding; one with another transition concerns nobody."""

_FROM_FINDING = (
    "alert_id",
    "severity",
    "rule",
    "entity_kind",
    "tenant",
    "entity_id",
    "kind",
    "trace_id",
    "starts_at",
    "value",
    "threshold",
    "baseline",
    "sample_count",
    "change_ref",
    "evidence_topic",
    "evidence_partition",
    "first_offset",
    "last_offset",
    "operation",
    "task_type",
    "detail",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """The fields of Alert.avsc, which documents them; times in ms."""

    alert_id: str
    incident_id: str
    status: AlertStatus
    reason: AlertReason
    severity: Severity
    page: bool
    rule: str
    entity_kind: EntityKind
    tenant: str | None = None
    entity_id: str
    kind: str | None = None
    trace_id: str | None = None
    caused_by: str | None = None
    suppressed_by: str | None = None
    members: list[str] = field(default_factory=list)
    affected: list[str] = field(default_factory=list)
    starts_at: int
    updated_at: int
    ends_at: int | None = None
    value: float
    threshold: float
    baseline: float | None = None
    sample_count: int
    summary: str
    change_ref: str | None = None
    evidence_topic: str
    evidence_partition: int
    first_offset: int
    last_offset: int
    runbook_url: str | None = None
    operation: str | None = None
    task_type: str | None = None
    detail: str | None = None
    signals: list[str] = field(default_factory=list)
    acknowledged_by: str | None = None

    def to_record(self) -> dict[str, Any]:
        """Return it as the Avro record, enums as their symbols."""
        record = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: str(x) if isinstance(x, StrEnum) else x for name, x in record.items()}

    @classmethod
    def of(cls, finding: Finding, **given: Any) -> Alert:
        """Return an alert record with the numbers of a finding, which is its newest one.

        Args:
            finding: the finding.
            given: fields that are not the finding's own, or not equal to it.

        Raises:
            KeyError: no status is given, and the finding is pending or cancelled.
        """
        values = {name: getattr(finding, name) for name in _FROM_FINDING}
        values |= {
            "incident_id": finding.alert_id,
            "page": finding.page,
            "members": [finding.finding_id],
            "affected": [finding.entity_id],
            "signals": [finding.rule],
            "updated_at": finding.at,
            "summary": summary(finding),
        }
        values |= given
        if "status" not in given:
            values["status"] = STATUS[finding.transition]
        values.setdefault("reason", AlertReason(finding.reason))
        if values["status"] is AlertStatus.RESOLVED:
            values["ends_at"] = values["updated_at"]
        return cls(**values)
