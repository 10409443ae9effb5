"""Which alert calls a person and which does not, each with its reason, as records.

One alert of an incident has the page; it shows the others. Whatever does not page because of
another alert or of a control is withheld, and says so; what withholds it always ends, and then it
pages by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from streams.alerts import Alert
from streams.grouping import MAX_AFFECTED, Open, Stand, anchor_of, causes, is_security, urgent
from streams.reasons import AlertReason, AlertStatus, Transition

if TYPE_CHECKING:
    from streams.controls import Controls
    from streams.grouping import Book, Incident
    from streams.incident_rules import IncidentRules


class Decision(NamedTuple):
    """What an alert should do now.

    Attributes:
        stand: CALM, WAITING, WITHHELD or PAGED.
        reason: why it is withheld.
        caused_by: alert held to be its cause.
        suppressed_by: control that withholds it.
        due: when to look again, ms.
    """

    stand: Stand
    reason: AlertReason | None = None
    caused_by: str | None = None
    suppressed_by: str | None = None
    due: int | None = None


class News(NamedTuple):
    """What an alert adds to its incident."""

    signal: bool
    affected: bool


class Pager:
    """Decides, and writes the alert records.

    Args:
        rules: waits and windows.
        book: the open alerts.
        controls: the silences.

    Attributes:
        records: alert records made, in order.
    """

    def __init__(self, rules: IncidentRules, book: Book, controls: Controls) -> None:
        self.records: list[Alert] = []
        self._rules = rules
        self._book = book
        self._controls = controls

    # -- deciding ----------------------------------------------------------------------------

    def decide(self, one: Open, now: int) -> Decision:
        """Return what an alert that has not paged should do; WAITING means that it may page."""
        finding, incident = one.finding, self._book.of(one)
        if not finding.page:
            return Decision(Stand.CALM)
        control = self._controls.withholding(finding, now)
        if control is not None:
            return Decision(Stand.WITHHELD, control[1], None, control[0])
        if urgent(finding):
            return Decision(Stand.PAGED)
        own = self._book.on_anchor(one)
        if not own:
            return self._depend(one, incident, now)
        if incident.leader not in {None, one.alert_id}:
            return Decision(Stand.WITHHELD, AlertReason.GROUPED, incident.leader)
        return Decision(Stand.WAITING, due=now + self._rules.group_wait_ms)

    def _depend(self, one: Open, incident: Incident, now: int) -> Decision:
        """Return what an alert on a dependant of the incident's anchor should do."""
        if incident.cause is not None:
            return Decision(Stand.WITHHELD, AlertReason.INHIBITED, incident.cause)
        leader = self._book.alerts.get(incident.leader or "")
        if leader is not None and anchor_of(leader.finding) == anchor_of(one.finding):
            return Decision(Stand.WITHHELD, AlertReason.GROUPED, leader.alert_id)
        # The cause is over: what stays has another one.
        due = now + self._rules.release_after_ms
        return Decision(Stand.WITHHELD, AlertReason.GROUPED, incident.root, due=due)

    def suspected(self, one: Open, now: int) -> bool:
        """Return whether a common cause of this alert and others is likely.

        It is when an integration that the agent calls has a pending rule, or when enough agents
        that call it have an alert opened within the storm window.
        """
        for anchor in causes(one.finding, self._rules):
            pending = self._book.pending.get(anchor)
            if pending is not None and now - pending[1] <= self._rules.keep_ms:
                return True
            agents: set[str] = set()
            for other in self._book.dependants(anchor):
                recent = now - other.opened_at < self._rules.storm_window_ms
                if recent and other.finding.page and not other.over:
                    agents.add(other.finding.entity_id)
                if len(agents) >= self._rules.storm_agents:
                    return True
        return False

    # -- acting ------------------------------------------------------------------------------

    def first(self, one: Open, now: int) -> None:
        """Decide on an alert that its finding has just opened, or made worse, and say so."""
        decision, reason = self.decide(one, now), AlertReason(one.finding.reason)
        if decision.stand is Stand.PAGED:
            self.page(one, now, reason)
            return
        self._stand(one, decision)
        if decision.stand is Stand.WITHHELD:
            self.say(one, AlertStatus.WITHHELD, decision.reason, at=one.finding.at)
        else:
            self._fire(one, reason, one.finding.at, page=False)

    def settle(self, one: Open, now: int, reason: AlertReason) -> None:
        """Page an alert whose wait is over with this reason, or say why it does not."""
        decision = self.decide(one, now)
        if decision.stand in {Stand.WAITING, Stand.PAGED}:
            self.page(one, now, reason)
        elif decision.stand is Stand.WITHHELD:
            self.withhold(one, decision, now)
        else:
            self._stand(one, decision)

    def withhold(self, one: Open, decision: Decision, now: int) -> None:
        """Withhold an alert and say why."""
        self._stand(one, decision)
        self.say(one, AlertStatus.WITHHELD, decision.reason, at=now)

    def suspect(self, one: Open, now: int) -> None:
        """Hold an alert until the storm window since it was opened is over."""
        due = one.opened_at + self._rules.storm_window_ms
        self.withhold(one, Decision(Stand.SUSPECTED, AlertReason.GROUPED, due=due), now)

    def page(self, one: Open, now: int, reason: AlertReason) -> None:
        """Call a person; the first alert of an incident to do so gets its page."""
        incident = self._book.of(one)
        if incident.leader is None:
            incident.leader = one.alert_id
        if incident.leader == one.alert_id:
            incident.repeat_due = now + self._rules.repeat_after_ms
            incident.refresh_due = None
            self._book.touch_incident(incident)
        self._stand(one, Decision(Stand.PAGED))
        # What a finding causes has its time, what a timer causes that of the clock.
        at_once = reason is AlertReason(one.finding.reason)
        self._fire(one, reason, one.finding.at if at_once else now, page=True)
        for other in self._book.members(incident):
            if other.held and other is not one:
                decision = self.decide(other, now)
                if decision.stand is Stand.WITHHELD:
                    self.withhold(other, decision, now)

    def join(self, one: Open, news: News, now: int) -> None:
        """Let the page of an incident show an alert that has come into it."""
        incident = self._book.of(one)
        if incident.leader in {None, one.alert_id} or not any(news):
            return
        if news.signal:
            self.doubt(incident, now)
            self.show(incident, AlertReason.SIGNAL_JOINED, now)
        elif incident.refresh_due is None:
            # Each of many agents is no news by itself: once in a while is enough.
            incident.refresh_due = now + self._rules.group_wait_ms
            self._book.touch_incident(incident)

    def note(self, one: Open) -> News:
        """Add an alert to the signals and to the affected of its incident; return what is new."""
        incident, finding = self._book.of(one), one.finding
        signal = finding.rule not in incident.signals
        if signal:
            incident.signals.append(finding.rule)
        room = len(incident.affected) < MAX_AFFECTED and not self._book.on_anchor(one)
        affected = room and finding.entity_id not in incident.affected
        if affected:
            incident.affected.append(finding.entity_id)
        self._book.touch_incident(incident)
        return News(signal, affected)

    def doubt(self, incident: Incident, now: int) -> None:
        """Let an acknowledged incident page again in time, because there is news."""
        if incident.acknowledgement is not None:
            incident.acknowledged_by = incident.acknowledgement = None
            incident.repeat_due = now + self._rules.repeat_after_ms
            self._book.touch_incident(incident)

    def show(
        self, incident: Incident, reason: AlertReason, now: int, *, page: bool = False
    ) -> None:
        """Bring the open page of an incident up to date."""
        leader = self._book.alerts.get(incident.leader or "")
        if leader is None:
            return
        incident.refresh_due = None
        self._book.touch_incident(incident)
        status = AlertStatus.UPDATED
        if reason is AlertReason.ACKNOWLEDGED:
            status = AlertStatus.ACKNOWLEDGED
        self.say(leader, status, reason, at=now, page=page)

    def again(self, one: Open, now: int, *, call: bool) -> None:
        """Tell of an update of an alert that has paged; security calls each time.

        Args:
            one: the alert.
            now: the clock, ms.
            call: whether it has become worse.
        """
        finding = one.finding
        page = finding.page and urgent(finding) and (call or is_security(finding))
        control = self._controls.withholding(finding, now) if page else None
        if control is None:
            self.say(one, AlertStatus.UPDATED, None, at=finding.at, page=page)
        else:
            name, reason = control
            self.say(one, AlertStatus.WITHHELD, reason, at=finding.at, suppressed_by=name)

    def stay(self, one: Open) -> None:
        """Tell of an update that changes nothing for who is called."""
        if one.stand in {Stand.WITHHELD, Stand.SUSPECTED}:
            self.say(one, AlertStatus.WITHHELD, one.reason, at=one.finding.at)
        else:
            self.say(one, AlertStatus.UPDATED, None, at=one.finding.at)

    # -- records -----------------------------------------------------------------------------

    def say(
        self,
        one: Open,
        status: AlertStatus,
        reason: AlertReason | None,
        *,
        at: int,
        page: bool = False,
        suppressed_by: str | None = None,
    ) -> None:
        """Write an alert record.

        Args:
            one: the alert.
            status: its state.
            reason: why the record is written; None for that of the finding.
            at: event time, ms.
            page: whether it calls a person.
            suppressed_by: control that withholds this record, where it is not the alert's.
        """
        incident, finding = self._book.of(one), one.finding
        leads = incident.leader == one.alert_id
        affected = list(incident.affected) if self._shows(one, incident) else []
        withheld = status is AlertStatus.WITHHELD
        given: dict[str, Any] = {
            "incident_id": incident.incident_id,
            "status": status,
            "page": page,
            "affected": affected or [finding.entity_id],
            "signals": list(incident.signals),
            "updated_at": at,
            "caused_by": one.caused_by,
            "suppressed_by": (suppressed_by or one.suppressed_by) if withheld else None,
            "acknowledged_by": incident.acknowledged_by if leads else None,
            "runbook_url": self._rules.runbook(finding.rule),
        }
        if reason is not None:
            given["reason"] = reason
        self.records.append(Alert.of(finding, **given))

    def _shows(self, one: Open, incident: Incident) -> bool:
        """Return whether an alert shows the whole incident: its page, or the cause without one."""
        return incident.leader == one.alert_id or (
            incident.leader is None and self._book.on_anchor(one)
        )

    def _fire(self, one: Open, reason: AlertReason, at: int, *, page: bool) -> None:
        """Say that an alert is open: FIRING at first, unless an update brought it up."""
        made = reason is AlertReason(one.finding.reason)
        news = made and one.finding.transition is Transition.UPDATED
        status = AlertStatus.UPDATED if one.told or news else AlertStatus.FIRING
        one.told = True
        self.say(one, status, reason, at=at, page=page)

    def _stand(self, one: Open, decision: Decision) -> None:
        one.stand, one.reason = decision.stand, decision.reason
        one.caused_by, one.suppressed_by = decision.caused_by, decision.suppressed_by
        one.due = decision.due
        self._book.touch(one)
