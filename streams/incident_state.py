"""The state of the incidents as records: open alerts, incidents, controls and the clock."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from streams import schemas, state
from streams.events import Control
from streams.findings import Finding
from streams.grouping import Anchor, Incident, Open, Stand
from streams.reasons import AlertReason, EntityKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.clock import Clock
    from streams.controls import Controls
    from streams.grouping import Book

_ALERT = (
    "incident_id",
    "number",
    "opened_at",
    "caused_by",
    "suppressed_by",
    "due",
    "told",
    "over",
)
_INCIDENT = (
    "incident_id",
    "alone",
    "leader",
    "root",
    "signals",
    "affected",
    "acknowledged_by",
    "acknowledgement",
    "repeat_due",
    "refresh_due",
    "forget_due",
)

Change = tuple[bytes, bytes | None]


def changes(book: Book, controls: Controls) -> list[Change]:
    """Return what changed since the last call: keys and records, None for what is gone."""
    found = [(state.alert_key(name), _alert(book.alerts.get(name))) for name in book.touched]
    found += [
        (state.incident_key(name), _incident(book.incidents.get(name)))
        for name in book.incidents_touched
    ]
    found += [
        (state.pending_key(*anchor), _pending(book, anchor)) for anchor in book.pending_touched
    ]
    for name in controls.touched:
        if isinstance(name, str):
            found.append((state.control_key(name), _control(controls.active.get(name), None)))
        else:
            key = state.waiting_control_key(name)
            found.append((key, _control(controls.waiting.get(name), name)))
    for touched in (book.touched, book.incidents_touched, book.pending_touched, controls.touched):
        touched.clear()
    return found


def clock_record(clock: Clock, count: int) -> Change:
    """Return the record of the clock, and of how many alerts were numbered."""
    values = {"now": clock.now, "lag": clock.lag, "count": count}
    return state.INCIDENTS_CLOCK_KEY, state.encode("IncidentsClock", values)


def restore(
    records: Iterable[tuple[bytes, bytes]], book: Book, controls: Controls, clock: Clock
) -> int:
    """Take over stored records, in any order; return how many alerts were numbered.

    Raises:
        ValueError: a record is of another kind or version.
    """
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for stored in state.decode(records):
        if stored.kind not in _KINDS:
            raise ValueError(f"{stored.key!r} holds {stored.kind}, not one of {', '.join(_KINDS)}")
        by_kind.setdefault(stored.kind, []).append(stored.fields)
    roots: dict[str, str | None] = {}
    for values in by_kind.get("IncidentState", ()):
        incident = _read_incident(values)
        roots[incident.incident_id] = incident.root
        book.found(incident)
    alerts = [_read_alert(values) for values in by_kind.get("OpenAlert", ())]
    for one in sorted(alerts, key=lambda one: one.number):
        book.add(one)
    for name, root in roots.items():
        book.incidents[name].root = root
    for values in by_kind.get("PendingCause", ()):
        anchor = Anchor(EntityKind(values["kind"]), values["tenant"], values["entity_id"])
        book.pending[anchor] = values["alert_id"], values["at"]
    _read_controls(by_kind.get("ControlState", ()), controls)
    for touched in (book.touched, book.incidents_touched):
        touched.clear()
    return _read_clock(by_kind.get("IncidentsClock", ()), clock)


_KINDS = ("OpenAlert", "IncidentState", "PendingCause", "ControlState", "IncidentsClock")


def _alert(one: Open | None) -> bytes | None:
    if one is None:
        return None
    values = {name: getattr(one, name) for name in _ALERT}
    values["stand"] = str(one.stand)
    values["reason"] = None if one.reason is None else str(one.reason)
    values["finding"] = schemas.encode("Finding", one.finding.to_record())
    return state.encode("OpenAlert", values)


def _read_alert(values: dict[str, Any]) -> Open:
    _, finding = schemas.decode(values["finding"])
    return Open(
        finding=Finding.from_record(finding),
        stand=Stand(values["stand"]),
        reason=None if values["reason"] is None else AlertReason(values["reason"]),
        **{name: values[name] for name in _ALERT},
    )


def _incident(one: Incident | None) -> bytes | None:
    if one is None:
        return None
    kind, tenant, entity_id = one.anchor
    values = {name: getattr(one, name) for name in _INCIDENT}
    values |= {"kind": str(kind), "tenant": tenant, "entity_id": entity_id}
    return state.encode("IncidentState", values)


def _read_incident(values: dict[str, Any]) -> Incident:
    anchor = Anchor(EntityKind(values["kind"]), values["tenant"], values["entity_id"])
    return Incident(anchor=anchor, **{name: values[name] for name in _INCIDENT})


def _pending(book: Book, anchor: Anchor) -> bytes | None:
    pending = book.pending.get(anchor)
    if pending is None:
        return None
    values = {**anchor._asdict(), "kind": str(anchor.kind)}
    return state.encode("PendingCause", values | {"alert_id": pending[0], "at": pending[1]})


def _control(control: Control | None, number: int | None) -> bytes | None:
    if control is None:
        return None
    stored = schemas.encode("Control", asdict(control))
    return state.encode("ControlState", {"number": number, "control": stored})


def _read_controls(found: Iterable[dict[str, Any]], controls: Controls) -> None:
    for values in found:
        _, record = schemas.decode(values["control"])
        control = Control(**{one.name: record[one.name] for one in fields(Control)})
        if values["number"] is None:
            controls.active[control.control_id] = control
        else:
            controls.waiting[values["number"]] = control


def _read_clock(found: Iterable[dict[str, Any]], clock: Clock) -> int:
    count = 0
    for values in found:
        clock.now, clock.lag, count = values["now"], values["lag"], values["count"]
    return count
