"""Open alerts and the incidents they are in: what belongs together, and what is known of it.

An incident stands at an anchor: an integration, a partition whose source is late, an agent, or
another entity. What a broken integration can be behind joins its incident, one step and no
further: the integration and the agents that call it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from heapq import heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from streams.reasons import AlertReason, EntityKind, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.findings import Finding
    from streams.incident_rules import IncidentRules

MAX_AFFECTED = 1000
"""Most entities named on one page."""

_SECURITY = frozenset({"security", "anomalous-output"})

SOURCE_LATE = "SOURCE_LATE"
"""Kind of a finding of the rule silence that concerns all of a partition."""


class Anchor(NamedTuple):
    """The entity that an incident is about."""

    kind: EntityKind
    tenant: str | None
    entity_id: str


class Stand(StrEnum):
    """How far an open alert has come towards a page."""

    CALM = "CALM"
    """It concerns nobody at once."""
    WAITING = "WAITING"
    """It waits for its group."""
    SUSPECTED = "SUSPECTED"
    """It is held for a while: a common cause is likely, and not known yet."""
    WITHHELD = "WITHHELD"
    """It does not page; its reason says why."""
    PAGED = "PAGED"
    """A person was called."""


@dataclass(slots=True)
class Open:
    """An open alert.

    Attributes:
        finding: the newest finding in it.
        incident_id: the incident it is in.
        number: how many alerts were opened by then.
        opened_at: clock when it was opened, ms.
        stand: how far it has come.
        reason: why it does not page, where it does not.
        caused_by: alert held to be its cause.
        suppressed_by: control that withholds it.
        due: when it is to be looked at again, ms; None for never.
        told: whether a FIRING record of it is out.
        over: whether its rule is clear, and it is open as the page of its incident alone.
    """

    finding: Finding
    incident_id: str
    number: int
    opened_at: int
    stand: Stand = Stand.CALM
    reason: AlertReason | None = None
    caused_by: str | None = None
    suppressed_by: str | None = None
    due: int | None = None
    told: bool = False
    over: bool = False

    @property
    def alert_id(self) -> str:
        """Its id."""
        return self.finding.alert_id

    @property
    def held(self) -> bool:
        """Whether a page may still come of it by itself."""
        return self.stand in {Stand.WAITING, Stand.SUSPECTED}


@dataclass(slots=True)
class Incident:
    """Alerts with one page.

    Attributes:
        incident_id: id of the first alert in it.
        anchor: what it is about.
        alone: whether nothing else may join it.
        leader: the alert whose page is open and shows the others; None for none.
        root: the newest alert on the anchor itself that others may depend on, open or not.
        signals: rules so far, the first first.
        affected: ids of entities that depend on the anchor, the first first.
        acknowledged_by: who has seen it.
        acknowledgement: id of the control that said so.
        repeat_due: when it pages again, ms.
        refresh_due: when its page is brought up to date, ms.
        forget_due: when it is forgotten, ms; None while an alert in it is open.
        members: its open alerts: number by id.
        own: those of them that others may depend on and whose rule is not clear.
    """

    incident_id: str
    anchor: Anchor
    alone: bool = False
    leader: str | None = None
    root: str | None = None
    signals: list[str] = field(default_factory=list)
    affected: list[str] = field(default_factory=list)
    acknowledged_by: str | None = None
    acknowledgement: str | None = None
    repeat_due: int | None = None
    refresh_due: int | None = None
    forget_due: int | None = None
    members: dict[str, int] = field(default_factory=dict)
    own: dict[str, int] = field(default_factory=dict)

    @property
    def cause(self) -> str | None:
        """The oldest open alert that others depend on; None where there is none."""
        return min(self.own, key=self.own.__getitem__, default=None)

    def begin_again(self) -> None:
        """Forget what was known of its closed alerts."""
        self.leader = self.acknowledged_by = self.acknowledgement = None
        self.repeat_due = self.refresh_due = self.forget_due = None
        self.signals, self.affected = [], []


def anchor_of(finding: Finding) -> Anchor:
    """Return the entity of a finding."""
    return Anchor(finding.entity_kind, finding.tenant, finding.entity_id)


def is_security(finding: Finding) -> bool:
    """Return whether it is about security."""
    return finding.rule in _SECURITY


def urgent(finding: Finding) -> bool:
    """Return whether it pages at once and is never swallowed."""
    return is_security(finding) or finding.severity is Severity.CRITICAL


def is_cause(finding: Finding) -> bool:
    """Return whether others may depend on its entity."""
    late = finding.entity_kind is EntityKind.PARTITION and finding.kind == SOURCE_LATE
    return finding.entity_kind is EntityKind.INTEGRATION or late


def causes(finding: Finding, rules: IncidentRules) -> list[Anchor]:
    """Return what may be behind a finding, the likeliest first."""
    if finding.entity_kind is not EntityKind.AGENT or urgent(finding):
        return []
    if not rules.groups(finding.rule):
        return []
    found = []
    if finding.rule == "silence":
        found.append(Anchor(EntityKind.PARTITION, None, str(finding.evidence_partition)))
    tenant = finding.tenant
    return found + [Anchor(EntityKind.INTEGRATION, tenant, one) for one in finding.integrations]


class What(IntEnum):
    """What a timer is for, in the order in which those of one time are handled."""

    ALERT = 0
    REFRESH = 1
    REPEAT = 2
    FORGET = 3


class Timer(NamedTuple):
    """Something to look at; `number` orders alerts of one time."""

    due: int
    what: What
    number: int
    name: str


class Timers:
    """What is due when; whoever is looked at checks that it still is."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._set: set[Timer] = set()

    def set(self, due: int | None, what: What, number: int, name: str) -> None:
        """Add a timer; None adds none."""
        if due is None:
            return
        timer = Timer(due, what, number, name)
        if timer not in self._set:
            self._set.add(timer)
            heappush(self._heap, timer)

    def first(self) -> int | None:
        """Return when the first one is due, ms."""
        return self._heap[0].due if self._heap else None

    def take(self) -> Timer:
        """Return and forget the first one."""
        timer = heappop(self._heap)
        self._set.discard(timer)
        return timer


class Book:
    """The open alerts and their incidents.

    Attributes:
        timers: when what is to be looked at, see `Timers`.
        alerts: by id.
        incidents: by id, those closed lately included.
        pending: integrations whose rule is pending: alert id and clock, by anchor.
        touched: ids of alerts that changed since the state was last taken.
        incidents_touched: the same of incidents.
        pending_touched: the same of pending integrations.
    """

    def __init__(self, rules: IncidentRules) -> None:
        self.timers = Timers()
        self.alerts: dict[str, Open] = {}
        self.incidents: dict[str, Incident] = {}
        self.pending: dict[Anchor, tuple[str, int]] = {}
        self.touched: dict[str, None] = {}
        self.incidents_touched: dict[str, None] = {}
        self.pending_touched: dict[Anchor, None] = {}
        self._rules = rules
        self._standing: dict[Anchor, str] = {}
        self._dependants: dict[Anchor, dict[str, int]] = {}

    def of(self, one: Open) -> Incident:
        """Return the incident of an open alert."""
        return self.incidents[one.incident_id]

    def at(self, anchor: Anchor) -> Incident | None:
        """Return the incident that stands at an anchor."""
        return self.incidents.get(self._standing.get(anchor, ""))

    def members(self, incident: Incident) -> Iterator[Open]:
        """Yield the open alerts of an incident, by number."""
        by_number = sorted(incident.members.items(), key=lambda item: item[1])
        yield from [self.alerts[name] for name, _ in by_number]

    def some(self, incident: Incident, most: int) -> list[Open]:
        """Return up to so many open alerts of an incident, in no order."""
        return [self.alerts[name] for name in islice(incident.members, most)]

    def dependants(self, anchor: Anchor) -> Iterator[Open]:
        """Yield the open alerts that an anchor may be behind, in no order."""
        return (self.alerts[name] for name in self._dependants.get(anchor, ()))

    def on_anchor(self, one: Open) -> bool:
        """Return whether an alert is about the entity of its incident itself."""
        return anchor_of(one.finding) == self.of(one).anchor

    def touch(self, one: Open) -> None:
        """Note that an alert changed."""
        self.touched[one.alert_id] = None
        self.timers.set(one.due, What.ALERT, one.number, one.alert_id)

    def touch_incident(self, incident: Incident) -> None:
        """Note that an incident changed."""
        name = incident.incident_id
        self.incidents_touched[name] = None
        self.timers.set(incident.refresh_due, What.REFRESH, 0, name)
        self.timers.set(incident.repeat_due, What.REPEAT, 0, name)
        self.timers.set(incident.forget_due, What.FORGET, 0, name)

    # -- alerts ------------------------------------------------------------------------------

    def add(self, one: Open) -> None:
        """Take a new open alert into the incident that it names."""
        self.alerts[one.alert_id] = one
        for anchor in causes(one.finding, self._rules):
            self._dependants.setdefault(anchor, {})[one.alert_id] = one.number
        self._enter(one)

    def remove(self, one: Open) -> None:
        """Forget an alert."""
        for anchor in causes(one.finding, self._rules):
            names = self._dependants.get(anchor, {})
            names.pop(one.alert_id, None)
            if not names:
                self._dependants.pop(anchor, None)
        self._leave(one)
        del self.alerts[one.alert_id]
        self.touch(one)

    def renew(self, one: Open, finding: Finding) -> None:
        """Let an alert have a newer finding."""
        old, new = causes(one.finding, self._rules), causes(finding, self._rules)
        one.finding = finding
        for anchor in old:
            if anchor not in new:
                self._dependants[anchor].pop(one.alert_id, None)
        for anchor in new:
            self._dependants.setdefault(anchor, {})[one.alert_id] = one.number
        self._note_own(one, self.of(one))
        self.touch(one)

    def end(self, one: Open) -> None:
        """Let an alert be open as a page alone."""
        one.over = True
        self.of(one).own.pop(one.alert_id, None)
        self.touch(one)

    def move(self, one: Open, incident: Incident) -> None:
        """Move an alert into another incident; one that is empty then and had no cause is gone."""
        old = self.of(one)
        if old is incident:
            return
        self._leave(one)
        one.incident_id = incident.incident_id
        self._enter(one)
        if not old.members and old.root is None:
            self.forget(old)

    # -- incidents ---------------------------------------------------------------------------

    def found(self, incident: Incident) -> None:
        """Take a new incident."""
        self.incidents[incident.incident_id] = incident
        if not incident.alone:
            self._standing[incident.anchor] = incident.incident_id
        self.touch_incident(incident)

    def name_for(self, one: Finding, number: int) -> str:
        """Return an id for a new incident whose first alert this is."""
        name = one.alert_id
        return f"{name}.{number}" if name in self.incidents else name

    def forget(self, incident: Incident) -> None:
        """Forget an incident without open alerts."""
        if self._standing.get(incident.anchor) == incident.incident_id:
            del self._standing[incident.anchor]
        del self.incidents[incident.incident_id]
        self.touch_incident(incident)

    def stand_at(self, incident: Incident, anchor: Anchor) -> None:
        """Let an incident stand at another anchor; what stood there is empty and is forgotten."""
        if self._standing.get(incident.anchor) == incident.incident_id:
            del self._standing[incident.anchor]
        other = self.at(anchor)
        incident.anchor = anchor
        incident.own = {}
        for one in self.members(incident):
            self._note_own(one, incident)
        if other is not None:
            for one in self.members(other):
                self.move(one, incident)
            if other.incident_id in self.incidents:
                self.forget(other)
        self._standing[anchor] = incident.incident_id
        self.touch_incident(incident)

    # -- inside ------------------------------------------------------------------------------

    def _enter(self, one: Open) -> None:
        incident = self.of(one)
        incident.members[one.alert_id] = one.number
        self._note_own(one, incident)
        self.touch(one)
        self.touch_incident(incident)

    def _note_own(self, one: Open, incident: Incident) -> None:
        at_it = anchor_of(one.finding) == incident.anchor and is_cause(one.finding)
        # What pages nobody must not keep others from paging.
        if not at_it or not one.finding.page or one.over:
            return
        incident.root = one.alert_id
        incident.own[one.alert_id] = one.number

    def _leave(self, one: Open) -> None:
        incident = self.of(one)
        incident.members.pop(one.alert_id, None)
        incident.own.pop(one.alert_id, None)
        self.touch_incident(incident)
