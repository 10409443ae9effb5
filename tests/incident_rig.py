"""Findings and controls for the tests of the incidents, and a rig that plays them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams.durations import HOUR, SECOND
from streams.events import Control
from streams.findings import Entity, Finding, alert_id, finding_id, fingerprint
from streams.incident_rules import IncidentRules
from streams.incidents import Incidents
from streams.reasons import EntityKind, Severity, Transition, TransitionReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.alerts import Alert

AT = 480_000 * HOUR
"""When the stories of the tests begin, ms."""

_REASONS = {
    "PENDING": "CONDITION_TRUE",
    "FIRING": "AT_ONCE",
    "UPDATED": "ARM_JOINED",
    "RESOLVED": "CLEAR_ELAPSED",
    "CANCELLED": "CONDITION_FALSE",
}


def finding(who: str, rule: str = "error-rate", step: str = "FIRING", **given: Any) -> Finding:
    """Return a finding on an agent, or with `kind=` on another entity; `at` counts from AT, s."""
    at = AT + round(given.pop("at", 0) * SECOND)
    starts_at = AT + round(given.pop("since", (at - AT) / SECOND) * SECOND)
    entity_kind = EntityKind(given.pop("entity_kind", "AGENT"))
    entity = Entity(given.pop("tenant", None), who)
    mark = fingerprint(rule, entity_kind, entity, given.get("kind"))
    transition = Transition(step)
    values = {
        "finding_id": finding_id(alert_id(mark, starts_at), transition, at),
        "fingerprint": mark,
        "rule": rule,
        "rule_version": 1,
        "transition": transition,
        "reason": TransitionReason(_REASONS[step]),
        "severity": Severity.HIGH,
        "page": step not in {"PENDING", "CANCELLED"},
        "entity_kind": entity_kind,
        "tenant": entity.tenant,
        "entity_id": who,
        "at": at,
        "starts_at": starts_at,
        "value": 0.5,
        "threshold": 0.3,
        "sample_count": 40,
        "window_start": at - HOUR,
        "window_end": at,
        "evidence_topic": "agentops.tasks",
        "evidence_partition": 0,
        "first_offset": 1,
        "last_offset": 2,
    }
    return Finding(**values | given)


def agent(who: str, step: str = "FIRING", **given: Any) -> Finding:
    """Return a finding on an agent that calls the integration `ledger`, if nothing else is said."""
    given.setdefault("integrations", ("ledger",))
    return finding(who, given.pop("rule", "error-rate"), step, **given)


def integration(step: str = "FIRING", who: str = "ledger", **given: Any) -> Finding:
    """Return a finding on an integration."""
    rule = given.pop("rule", "integration-errors")
    return finding(who, rule, step, entity_kind="INTEGRATION", **given)


def control(kind: str, control_id: str = "c1", at: float = 0, **given: Any) -> Control:
    """Return a control; `at`, `from_at` and `until_at` count from AT, s."""
    for name in ("from_at", "until_at"):
        if name in given:
            given[name] = AT + round(given[name] * SECOND)
    return Control(
        event_id=f"{control_id}-{kind}-{at}",
        occurred_at=AT + round(at * SECOND),
        control_id=control_id,
        kind=kind,
        by="on-call",
        why="a test",
        **given,
    )


class Rig:
    """Incidents, and all that came of them.

    Attributes:
        alerts: all alert records so far.
        state: the newest value of each state key.
    """

    def __init__(self, **rules: Any) -> None:
        self.rules = IncidentRules(**rules)
        self.incidents = Incidents(self.rules)
        self.alerts: list[Alert] = []
        self.state: dict[bytes, bytes] = {}

    def play(self, *steps: Finding | Control) -> list[Alert]:
        """Fold findings and controls in this order; return the alerts that came of them."""
        for step in steps:
            if isinstance(step, Control):
                self.incidents.fold_controls([step])
            else:
                self.incidents.fold([step])
        return self.collect()

    def until(self, at: float) -> list[Alert]:
        """Let the clock go on to `at`, s from AT, by a finding that concerns nobody."""
        return self.play(finding("clock", "clock", "CANCELLED", at=at))

    def collect(self) -> list[Alert]:
        """Return the alerts since the last time."""
        drained = self.incidents.drain()
        self.alerts += drained.alerts
        for key, value in drained.state:
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        return drained.alerts

    def restart(self) -> None:
        """Go on with a new object made of the stored state."""
        self.collect()
        self.incidents = Incidents(self.rules)
        self.incidents.restore(self.state.items())


def pages(alerts: Sequence[Alert]) -> list[Alert]:
    """Return the records that call a person."""
    return [one for one in alerts if one.page and one.status in {"FIRING", "UPDATED"}]


def told(alerts: Sequence[Alert]) -> list[str]:
    """Return entity, status, reason and page of records, in short."""
    return [
        " ".join([one.entity_id, one.status, one.reason, *(["page"] * one.page)]) for one in alerts
    ]
