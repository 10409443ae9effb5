"""Which incident an alert comes into, and what happens when a cause shows up or goes.

A cause has its direct dependants: an integration the agents that call it, a late source the agents
of its partition. Nothing goes a step further, so that two integrations never meet in one incident.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.grouping import Anchor, Incident, Open, Stand, anchor_of, causes, is_cause, urgent
from streams.paging import Decision
from streams.reasons import AlertReason, AlertStatus

if TYPE_CHECKING:
    from streams.findings import Finding
    from streams.grouping import Book
    from streams.incident_rules import IncidentRules
    from streams.paging import Pager


class Gathering:
    """Brings alerts together.

    Args:
        rules: windows, and the rules that a cause can be behind.
        book: the open alerts.
        pager: what tells of them.
    """

    def __init__(self, rules: IncidentRules, book: Book, pager: Pager) -> None:
        self._rules = rules
        self._book = book
        self._pager = pager

    def home(self, finding: Finding, number: int) -> Incident:
        """Return the incident for a new alert: one that there is, or a new one.

        In this order: that of an open cause, the open page of the entity itself, that of a cause
        that is over for less than a day, another of the entity.
        """
        anchor = anchor_of(finding)
        if urgent(finding) and not is_cause(finding):
            return self._new(anchor, finding, number, alone=True)
        mine = self._book.at(anchor)
        known = [self._book.at(cause) for cause in causes(finding, self._rules)]
        ours = [one for one in known if one is not None and one.root is not None]
        found = next((one for one in ours if one.cause is not None), None)
        if found is None and (mine is None or mine.leader is None):
            found = next(iter(ours), None)
        found = found or mine or self._new(anchor, finding, number)
        if not found.members:
            found.begin_again()
        return found

    def pending(self, finding: Finding, now: int) -> None:
        """Note that the rule of a cause is pending."""
        if is_cause(finding):
            anchor = anchor_of(finding)
            self._book.pending[anchor] = finding.alert_id, now
            self._book.pending_touched[anchor] = None

    def not_pending(self, finding: Finding) -> None:
        """Note that the rule of a cause is pending no more."""
        anchor = anchor_of(finding)
        if self._book.pending.get(anchor, ("", 0))[0] == finding.alert_id:
            del self._book.pending[anchor]
            self._book.pending_touched[anchor] = None

    def gather(self, root: Open, now: int) -> None:
        """Bring a cause that has just shown up together with the alerts it is behind.

        The first of them that has paged lately keeps its page, as that of all; the cause itself
        then does not page. Those that have not paged yet never will, while the cause lasts.
        """
        news = self._pager.note(root)
        paged, quiet = self._dependants(root, now)
        incident = self._book.of(root)
        adopted = incident.leader is None and bool(paged) and not urgent(root.finding)
        if adopted:
            incident = self._book.of(paged[0])
            self._book.stand_at(incident, anchor_of(root.finding))
        others = [one for one in paged if self._book.of(one) is not incident]
        self._bring(incident, quiet, others)
        if adopted:
            self._adopt(root, paged[0], now)
        else:
            self._pager.first(root, now)
            self._pager.join(root, news, now)
        for one in quiet:
            if one.held:
                grouped = Decision(Stand.WITHHELD, AlertReason.GROUPED, root.alert_id)
                self._pager.withhold(one, grouped, now)
        for one in others:
            one.caused_by = root.alert_id
            self._book.touch(one)
            self._pager.say(one, AlertStatus.UPDATED, AlertReason.ROOT_FOUND, at=now)
        self._keep(incident, root)

    def release(self, one: Open, now: int) -> None:
        """Let an alert whose cause is over, and which stays, page by itself."""
        anchor, incident = anchor_of(one.finding), self._book.of(one)
        leader = self._book.alerts.get(incident.leader or "")
        if leader is not None and anchor_of(leader.finding) == anchor:
            one.due = None  # the page that is open is its own entity's
            self._book.touch(one)
            return
        if anchor != incident.anchor:
            mine = self._book.at(anchor) or self._new(anchor, one.finding, one.number)
            if not mine.members:
                mine.begin_again()
            self._book.move(one, mine)
        news = self._pager.note(one)
        self._pager.settle(one, now, AlertReason.RELEASED)
        self._pager.join(one, news, now)

    def loosen(self, incident: Incident, now: int) -> None:
        """Let the dependants of a cause that is over page by themselves if they stay."""
        for one in self._book.members(incident):
            by_cause = one.stand is Stand.WITHHELD and one.suppressed_by is None
            if by_cause and not self._book.on_anchor(one):
                one.due = now + self._rules.release_after_ms
                self._book.touch(one)

    # -- inside ------------------------------------------------------------------------------

    def _new(
        self, anchor: Anchor, finding: Finding, number: int, *, alone: bool = False
    ) -> Incident:
        incident = Incident(self._book.name_for(finding, number), anchor, alone)
        self._book.found(incident)
        return incident

    def _dependants(self, root: Open, now: int) -> tuple[list[Open], list[Open]]:
        """Return the alerts a new cause is behind: those with a page of their own, and others.

        A page that was sent long before the cause showed up is another matter, and so is what it
        shows.
        """
        window = self._rules.root_window_ms
        paged, quiet = [], []
        found = self._book.dependants(anchor_of(root.finding))
        for one in sorted(found, key=lambda one: one.number):
            incident = self._book.of(one)
            if incident.anchor != anchor_of(one.finding) or one.over:
                continue
            if incident.leader is None:
                quiet.append(one)
            elif incident.leader == one.alert_id and now - one.opened_at <= window:
                paged.append(one)
        paged.sort(key=lambda one: (self._book.of(one).repeat_due or 0, one.number))
        return paged, quiet

    def _bring(self, incident: Incident, quiet: list[Open], others: list[Open]) -> None:
        """Move alerts into an incident; those with a page bring what it shows."""
        for one in others:
            for each in list(self._book.members(self._book.of(one))):
                self._book.move(each, incident)
        for one in quiet:
            self._book.move(one, incident)
        for one in self._book.members(incident):
            self._pager.note(one)

    def _adopt(self, root: Open, leader: Open, now: int) -> None:
        """Let the page of a dependant be that of its cause, which then does not page."""
        grouped = Decision(Stand.WITHHELD, AlertReason.ROOT_FOUND, leader.alert_id)
        self._pager.withhold(root, grouped, root.finding.at)
        leader.caused_by = root.alert_id
        self._book.touch(leader)
        incident = self._book.of(leader)
        self._pager.doubt(incident, now)
        self._pager.show(incident, AlertReason.ROOT_FOUND, now)

    def _keep(self, incident: Incident, root: Open) -> None:
        """Let those that wait for the end of an earlier cause wait for that of the new one."""
        for one in self._book.members(incident):
            if one.stand is Stand.WITHHELD and one.due is not None:
                one.due, one.caused_by = None, root.alert_id
                self._book.touch(one)
