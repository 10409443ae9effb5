"""From findings to alerts: what a person or a bridge acts on, in the order of the findings.

Thin for now: every finding that fires, updates or resolves becomes one alert record; pending and
cancelled ones concern nobody. The open alerts are the state.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from streams import schemas
from streams.durations import DAY
from streams.reasons import (
    AlertStatus,
    EntityKind,
    Severity,
    Transition,
    TransitionReason,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streams.findings import Finding

_PREFIX = b"alert/"
_VERSION = 1
_ARM = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "s", "m": "min", "h": "h", "d": "d"}
_STATUS = {
    Transition.FIRING: AlertStatus.FIRING,
    Transition.UPDATED: AlertStatus.UPDATED,
    Transition.RESOLVED: AlertStatus.RESOLVED,
}


class Outcome(StrEnum):
    """What became of a finding."""

    OPENED = "OPENED"
    """It opened an alert."""
    UPDATED = "UPDATED"
    """It updated an open alert."""
    RESOLVED = "RESOLVED"
    """It resolved an open alert."""
    NO_ALERT = "NO_ALERT"
    """It is pending or cancelled: nobody needs to act."""
    NOT_OPEN = "NOT_OPEN"
    """It resolves an alert that is not open, and was dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """The fields of Alert.avsc, which documents them; times in ms."""

    alert_id: str
    incident_id: str
    status: AlertStatus
    reason: TransitionReason
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

    def to_record(self) -> dict[str, Any]:
        """Return it as the Avro record, enums as their symbols."""
        record = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: str(x) if isinstance(x, StrEnum) else x for name, x in record.items()}

    @classmethod
    def of(cls, finding: Finding) -> Alert:
        """Return the alert record of a finding that fires, updates or resolves.

        Raises:
            KeyError: it does something else.
        """
        resolved = finding.transition is Transition.RESOLVED
        return cls(
            alert_id=finding.alert_id,
            incident_id=finding.alert_id,
            status=_STATUS[finding.transition],
            reason=finding.reason,
            severity=finding.severity,
            page=finding.page,
            rule=finding.rule,
            entity_kind=finding.entity_kind,
            tenant=finding.tenant,
            entity_id=finding.entity_id,
            kind=finding.kind,
            trace_id=finding.trace_id,
            members=[finding.finding_id],
            affected=[finding.entity_id],
            starts_at=finding.starts_at,
            updated_at=finding.at,
            ends_at=finding.at if resolved else None,
            value=finding.value,
            threshold=finding.threshold,
            baseline=finding.baseline,
            sample_count=finding.sample_count,
            summary=summary(finding),
            evidence_topic=finding.evidence_topic,
            evidence_partition=finding.evidence_partition,
            first_offset=finding.first_offset,
            last_offset=finding.last_offset,
        )


class Incidents:
    """The fold of findings into alerts.

    Attributes:
        outcomes: how many findings had each outcome; every outcome is there from the start.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter(dict.fromkeys(Outcome, 0))
        self._open: set[str] = set()
        self._alerts: list[Alert] = []
        self._state: dict[bytes, bytes | None] = {}

    def __len__(self) -> int:
        """Return how many alerts are open."""
        return len(self._open)

    def fold(self, findings: Sequence[Finding]) -> None:
        """Take findings in the order of their topic."""
        for finding in findings:
            outcome = self._outcome(finding)
            self.outcomes[outcome] += 1
            if outcome not in {Outcome.NO_ALERT, Outcome.NOT_OPEN}:
                self._publish(Alert.of(finding))

    def drain(self) -> tuple[list[Alert], list[tuple[bytes, bytes | None]]]:
        """Return alerts and changed state since the last drain; a None value is a tombstone."""
        alerts, state = self._alerts, list(self._state.items())
        self._alerts, self._state = [], {}
        return alerts, state

    def restore(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Take the state that drains gave: the latest value of each key, in any order.

        Raises:
            ValueError: a record is of another kind or version.
        """
        for key, value in records:
            name, record = schemas.decode(value)
            if name != "OpenAlert" or record["version"] != _VERSION:
                raise ValueError(f"{key!r} holds {name}, not OpenAlert of version {_VERSION}")
            self._open.add(record["alert_id"])

    def _outcome(self, finding: Finding) -> Outcome:
        is_open = finding.alert_id in self._open
        if finding.transition not in _STATUS:
            return Outcome.NO_ALERT
        if finding.transition is Transition.RESOLVED:
            return Outcome.RESOLVED if is_open else Outcome.NOT_OPEN
        # An update of an alert that is not open is not dropped: a person may have to come.
        return Outcome.UPDATED if is_open else Outcome.OPENED

    def _publish(self, alert: Alert) -> None:
        self._alerts.append(alert)
        key = _PREFIX + alert.alert_id.encode()
        if alert.status is AlertStatus.RESOLVED:
            self._open.discard(alert.alert_id)
            self._state[key] = None
            return
        self._open.add(alert.alert_id)
        record = {
            "version": _VERSION,
            "alert_id": alert.alert_id,
            "starts_at": alert.starts_at,
            "updated_at": alert.updated_at,
            "status": str(alert.status),
            "severity": str(alert.severity),
            "page": alert.page,
            "finding_id": alert.members[-1],
        }
        self._state[key] = schemas.encode("OpenAlert", record)


def summary(finding: Finding) -> str:
    """Return one plain sentence on a finding, with its numbers."""
    if finding.entity_kind is EntityKind.PARTITION:
        subject = f"partition {finding.entity_id}"
    else:
        subject = "/".join(filter(None, (finding.tenant, finding.entity_id)))
    if finding.arm is not None:
        return f"{subject}: {_rate(finding)}"
    if finding.rule == "series-limit":
        return f"{subject}: {_series_limit(finding)}"
    if finding.rule == "security":
        return f"{subject}: {_security(finding)}"
    return f"{subject}: {finding.rule.replace('-', ' ')}, {finding.kind or finding.reason}"


def _rate(finding: Finding) -> str:
    name, value = finding.rule.replace("-", " "), _percent(finding.value)
    window = _ARM.sub(lambda found: f"{found[1]} {_UNITS[found[2]]}", finding.arm or "")
    behind = f"({_usual(finding)}, {finding.sample_count:,} tasks)"
    if finding.reason is TransitionReason.REBASELINED:
        days = (finding.at - finding.starts_at) // DAY
        return f"{name} {value} over {window}, taken as the new usual after {days} days {behind}"
    if finding.transition is Transition.RESOLVED:
        return f"{name} back at {value} over {window} {behind}"
    return f"{name} {value} over {window}, limit {_percent(finding.threshold)} {behind}"


def _usual(finding: Finding) -> str:
    if finding.baseline is None:
        return "no usual rate known yet"
    weeks = finding.baseline_weeks
    young = f" from {weeks} week{'s' * (weeks > 1)}" if weeks in {1, 2, 3} else ""
    return f"usual {_percent(finding.baseline)}{young}"


def _security(finding: Finding) -> str:
    count = f"{finding.sample_count:,} security event{'s' * (finding.sample_count > 1)}"
    quiet = finding.transition is Transition.RESOLVED
    return f"{finding.kind}, quiet after {count}" if quiet else f"{finding.kind}, {count} so far"


def _series_limit(finding: Finding) -> str:
    count = f"{finding.sample_count:,} record{'s' * (finding.sample_count > 1)}"
    if finding.transition is Transition.RESOLVED:
        return f"no record refused any more, after {count}"
    return f"{count} refused, its bound of {finding.threshold:,.0f} series is reached"


def _percent(share: float) -> str:
    percent = 100 * share
    text = f"{percent:.1f}" if percent >= 1 else f"{percent:.2f}".rstrip("0").rstrip(".")
    return f"{text} %"
