"""Retraining requests: what findings say about agents that may have to be trained, in one place.

There is one request for each agent and cause at a time. It is open while any of its findings is,
and is told again when something about it changes that would change what a person does first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from streams import schemas, state
from streams.drift_findings import DETECTOR, SIGNAL
from streams.durations import DAY
from streams.findings import Entity, Finding, fingerprint
from streams.reasons import EntityKind, RetrainingCause, Transition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.state import Stored
    from streams.watch import Change

MEMBERS = 32
"""Ids of findings that a request names, the newest."""

LEAST_COST = 0.001
"""US dollars a task costs at least: what costs nothing may still be wrong."""

SUFFERS = 2.0
"""Factor on the priority when outcomes are worse than usual."""

CHANGED = 0.1
"""Share by which the magnitude or the priority must change to be told again."""

_WEEK = 7
_EARLY = 0.5
_MOVES = frozenset({Transition.FIRING, Transition.UPDATED, Transition.RESOLVED})

Key = tuple[str | None, str, RetrainingCause]


class _View(NamedTuple):
    """What a finding says that matters to a request."""

    finding: Finding
    numbers: dict[str, float]

    @classmethod
    def of(cls, finding: Finding) -> _View:
        pairs = zip(finding.measure_names, finding.measure_values, strict=True)
        return cls(finding, dict(pairs))

    @property
    def signal(self) -> str:
        return self.finding.kind or self.finding.rule

    @property
    def signals(self) -> list[str]:
        named = [name.removeprefix(SIGNAL) for name in self.numbers if name.startswith(SIGNAL)]
        return named or [self.signal]

    @property
    def detector(self) -> str | None:
        found = [name for name in self.numbers if name.startswith(DETECTOR)]
        return found[0].removeprefix(DETECTOR) if found else None

    @property
    def direction(self) -> str:
        way = self.numbers.get("direction", 0.0)
        return "UP" if way > 0 else "DOWN" if way < 0 else "NONE"

    @property
    def magnitude(self) -> float:
        found, one = self.numbers.get("magnitude"), self.finding
        if found is not None:
            return found
        return one.value / one.threshold if one.threshold > 0 else 1.0

    @property
    def urgency(self) -> float:
        """The magnitude, or for a schedule a number that grows by one a week from its date on."""
        if self.finding.retraining_cause is not RetrainingCause.SCHEDULE:
            return self.magnitude
        late = (self.finding.at - self.numbers.get("due_at", self.finding.at)) / DAY
        return _EARLY if late < 0 else 1 + late / _WEEK

    @property
    def priority(self) -> float:
        """Urgency times tasks a day times cost of a task, more when outcomes suffer."""
        tasks = self.numbers.get("tasks_per_day", float(self.finding.sample_count))
        cost = max(self.numbers.get("cost_per_day", 0.0), LEAST_COST * tasks)
        factor = SUFFERS if self.numbers.get("outcomes_suffer", 0.0) > 0 else 1.0
        return self.urgency * cost * factor


@dataclass(slots=True)
class _Request:
    """An open request.

    Attributes:
        record: as it was last told.
        open: newest finding of each open alert behind it, by alert id.
        members: ids of all findings so far.
        signals: all of them so far, the first first.
    """

    record: dict[str, Any]
    open: dict[str, Finding] = field(default_factory=dict)
    members: list[str] = field(default_factory=list)
    signals: list[str] = field(default_factory=list)


class RetrainingDesk:
    """The retraining queue: findings in the order of their topic, requests out."""

    def __init__(self) -> None:
        self._requests: dict[Key, _Request] = {}
        self._dirty: dict[str, Key] = {}

    def __len__(self) -> int:
        """Return how many requests are open."""
        return len(self._requests)

    def fold(self, finding: Finding) -> list[dict[str, Any]]:
        """Take a finding; return the RetrainingRequest records that it causes, at most one."""
        if finding.retraining_cause is RetrainingCause.NONE or finding.transition not in _MOVES:
            return []
        key = finding.tenant, finding.entity_id, finding.retraining_cause
        request = self._requests.get(key)
        if request is None:
            return [] if finding.transition is Transition.RESOLVED else [self._begin(key, finding)]
        if finding.finding_id in request.members:
            return []  # read twice
        return self._go_on(key, request, finding)

    def open(self) -> list[dict[str, Any]]:
        """Return the open requests as they were last told, by priority, the highest first."""
        found = [request.record for request in self._requests.values()]
        return sorted(found, key=lambda one: (-one["priority"], one["request_id"]))

    def _begin(self, key: Key, finding: Finding) -> dict[str, Any]:
        request = self._requests[key] = _Request({})
        self._take(request, finding)
        request.record = _record(key, request, finding, "REQUESTED")
        self._dirty[request.record["request_id"]] = key
        return request.record

    def _go_on(self, key: Key, request: _Request, finding: Finding) -> list[dict[str, Any]]:
        known = len(request.signals)
        if finding.transition is Transition.RESOLVED:
            if request.open.pop(finding.alert_id, None) is None:
                return []
            request.members.append(finding.finding_id)
        else:
            self._take(request, finding)
        self._dirty[request.record["request_id"]] = key
        if not request.open:
            del self._requests[key]
            return [_record(key, request, finding, "CLOSED")]
        new = _record(key, request, finding, "UPDATED")
        if len(request.signals) == known and not _differs(request.record, new):
            return []
        request.record = new
        return [new]

    def _take(self, request: _Request, finding: Finding) -> None:
        request.open[finding.alert_id] = finding
        request.members.append(finding.finding_id)
        del request.members[:-MEMBERS]
        fresh = [one for one in _View.of(finding).signals if one not in request.signals]
        request.signals += fresh

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        for request_id, key in self._dirty.items():
            request = self._requests.get(key)
            name = state.retraining_key(request_id)
            if request is None or request.record["request_id"] != request_id:
                yield name, None
                continue
            fields = {
                "record": schemas.encode("RetrainingRequest", request.record),
                "findings": [
                    schemas.encode("Finding", one.to_record()) for one in request.open.values()
                ],
                "members": request.members,
                "signals": request.signals,
            }
            yield name, state.encode("RetrainingState", fields)
        self._dirty.clear()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is a retraining request."""
        if stored.kind != "RetrainingState":
            return False
        fields = stored.fields
        record = schemas.decode(fields["record"])[1]
        findings = [Finding.from_record(schemas.decode(one)[1]) for one in fields["findings"]]
        key = record["tenant"], record["agent_id"], RetrainingCause(record["cause"])
        self._requests[key] = _Request(
            record,
            {one.alert_id: one for one in findings},
            list(fields["members"]),
            list(fields["signals"]),
        )
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._dirty.clear()


def _differs(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Return whether a request is to be told again."""
    if any(old[name] != new[name] for name in ("action", "due_at")):
        return True
    pairs = [(old[name], new[name]) for name in ("magnitude", "priority")]
    return any(abs(after - before) >= CHANGED * abs(before) > 0 for before, after in pairs)


def _record(key: Key, request: _Request, finding: Finding, status: str) -> dict[str, Any]:
    """Return the record of a request after a finding."""
    tenant, agent, cause = key
    views = [_View.of(one) for one in request.open.values()] or [_View.of(finding)]
    most = max(views, key=lambda view: view.priority)  # the first of equals
    numbers, shown = most.numbers, most.finding
    first = request.record.get("first_seen_at", finding.starts_at)
    due_at = numbers.get("due_at")
    mark = fingerprint("retraining", EntityKind.AGENT, Entity(tenant, agent), str(cause))
    closed = status == "CLOSED"
    return {
        "request_id": f"{mark}-{first}",
        "tenant": tenant,
        "agent_id": agent,
        "cause": str(cause),
        "action": str(shown.retraining_action),
        "status": status,
        "reason": str(finding.reason),
        "signal": most.signal,
        "signals": list(request.signals),
        "direction": most.direction,
        "magnitude": most.magnitude,
        "detector": most.detector,
        "reference_mean": numbers.get("reference_mean"),
        "current_mean": numbers.get("current_mean"),
        "reference_count": int(numbers.get("reference_count", 0)),
        "current_count": int(numbers.get("current_count", 0)),
        "first_seen_at": first,
        "updated_at": finding.at,
        "due_at": None if due_at is None else int(due_at),
        "closed_at": finding.at if closed else None,
        "priority": 0.0 if closed else max(view.priority for view in views),
        "summary": _summary(key, most, status, finding),
        "members": list(request.members),
        "evidence_topic": shown.evidence_topic,
        "evidence_partition": shown.evidence_partition,
        "first_offset": shown.first_offset,
        "last_offset": shown.last_offset,
    }


def _summary(key: Key, most: _View, status: str, finding: Finding) -> str:
    """Return one sentence for a person."""
    tenant, agent, cause = key
    who = "/".join(filter(None, (tenant, agent)))
    what = str(cause).replace("_", " ").lower()
    if status == "CLOSED":
        return f"{who}: {what} is over ({str(finding.reason).replace('_', ' ').lower()})"
    detail = most.finding.detail or most.signal.replace("_", " ")
    return f"{who}: {what}: {detail}"
