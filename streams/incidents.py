"""From findings and controls to alerts: what a person acts on, at most one page for one cause.

The clock is the largest time of the findings. Waits, silences and repeats run on it, so that the
two logs alone decide what is written; when both are read to their ends it follows the wall. A
control takes effect when the clock gets to the time at which it was said.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from streams import incident_state
from streams.alerts import STATUS, Alert
from streams.clock import Clock
from streams.controls import ControlOutcome, Controls, matches, withholds
from streams.durations import MINUTE
from streams.gathering import Gathering
from streams.grouping import Book, Incident, Open, Stand, What, is_cause, urgent
from streams.incident_rules import IncidentRules
from streams.paging import Decision, Pager
from streams.reasons import AlertReason, AlertStatus, Severity, Transition

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streams.events import Control
    from streams.findings import Finding
    from streams.grouping import Timer

_SEVERE = {one: -place for place, one in enumerate(Severity)}


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


class Drained(NamedTuple):
    """What came of the findings and controls since the last drain.

    Attributes:
        alerts: alert records, in order.
        state: changed state records, None for one that is gone.
    """

    alerts: list[Alert]
    state: list[tuple[bytes, bytes | None]]


class Incidents:
    """The fold of findings and controls into alerts.

    Args:
        rules: waits and windows; None for the built-in ones.

    Attributes:
        outcomes: how many findings had each outcome; every outcome is there from the start.
        control_outcomes: the same of controls.
    """

    def __init__(self, rules: IncidentRules | None = None) -> None:
        self.outcomes: Counter[Outcome] = Counter(dict.fromkeys(Outcome, 0))
        self.control_outcomes: Counter[ControlOutcome] = Counter(dict.fromkeys(ControlOutcome, 0))
        self._rules = rules or IncidentRules()
        self._book = Book(self._rules)
        self._controls = Controls()
        self._pager = Pager(self._rules, self._book, self._controls)
        self._gathering = Gathering(self._rules, self._book, self._pager)
        self._clock = Clock()
        self._now = 0
        self._count = 0
        self._clock_dirty = False

    def __len__(self) -> int:
        """Return how many alerts are open."""
        return len(self._book.alerts)

    @property
    def clock(self) -> int | None:
        """Event time reached, ms; None before the first finding."""
        return self._clock.now

    @property
    def urgent(self) -> bool:
        """Whether an alert waits to be drained."""
        return bool(self._pager.records)

    @property
    def dirty(self) -> bool:
        """Whether there is anything to drain."""
        book = self._book
        touched = book.touched or book.incidents_touched or book.pending_touched
        return bool(self.urgent or self._clock_dirty or touched or self._controls.touched)

    # -- input -------------------------------------------------------------------------------

    def fold(self, findings: Sequence[Finding], stamps: Sequence[int] | None = None) -> None:
        """Take findings in the order of their topic.

        Args:
            findings: n findings.
            stamps: n Kafka record timestamps, ms; None for the times of the findings.
        """
        times = stamps if stamps is not None else [one.at for one in findings]
        for finding, stamp in zip(findings, times, strict=True):
            self._move(finding, stamp)
            self._clock_dirty = True
            self.outcomes[self._take(finding)] += 1

    def fold_controls(self, controls: Sequence[Control]) -> None:
        """Take controls in the order of their topic; one said later than the clock waits."""
        for control in controls:
            if self._clock.now is not None and control.occurred_at <= self._clock.now:
                self.control_outcomes[self._apply(control)] += 1
            elif not self._controls.wait(control):
                self.control_outcomes[ControlOutcome.TOO_MANY] += 1

    def idle(self, wall_ms: int) -> None:
        """Let the clock follow the wall, less its lag, because both topics are read to their ends.

        A control that waits for a later time takes effect too: nothing before it is to come.
        """
        if self._clock.now is None:
            return
        until = max(self._clock.now, wall_ms - self._clock.lag)
        self._advance(until)
        # Within a minute nothing can tell the difference: not worth a state record.
        self._clock_dirty |= until // MINUTE > self._clock.now // MINUTE
        self._clock.now = until
        for number in sorted(self._controls.waiting):
            if self._controls.waiting[number].occurred_at <= wall_ms:
                self._apply_waiting(number)

    # -- state -------------------------------------------------------------------------------

    def drain(self) -> Drained:
        """Return alerts and changed state since the last drain."""
        alerts, self._pager.records = self._pager.records, []
        state = incident_state.changes(self._book, self._controls)
        if self._clock_dirty:
            state.append(incident_state.clock_record(self._clock, self._count))
            self._clock_dirty = False
        return Drained(alerts, state)

    def restore(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Take the state that drains gave: the latest value of each key, in any order; at first.

        Raises:
            ValueError: a record is of another kind or version.
        """
        self._count = incident_state.restore(records, self._book, self._controls, self._clock)
        self._now = self._clock.now or 0

    # -- time --------------------------------------------------------------------------------

    def _move(self, finding: Finding, stamp: int) -> None:
        """Move the clock to a finding; a partition that stops has the wall's time, no event's."""
        now, seen = self._clock.now, min(finding.at, stamp)
        if now is not None and finding.rule == "partition-stopped":
            seen = now
        until = seen if now is None else max(now, seen)
        self._advance(until)
        self._clock.move(until, finding.at, stamp)

    def _advance(self, until: int) -> None:
        """Do what is due by `until`: controls first, then what waits, earliest first."""
        while True:
            waiting = self._controls.next(until)
            end, first = self._controls.next_end(), self._book.timers.first()
            said = waiting[1].occurred_at if waiting else None
            due = min((one for one in (said, end, first) if one is not None), default=until + 1)
            if due > until:
                break
            self._now = max(self._now, due)
            if waiting is not None and said == due:
                self._apply_waiting(waiting[0])
            elif end == due:
                for name in self._controls.over(due):
                    self._end(name)
            else:
                self._look(self._book.timers.take())
        self._now = max(self._now, until)

    def _look(self, timer: Timer) -> None:
        """Do what a timer is for, if it still stands."""
        if timer.what is What.ALERT:
            one = self._book.alerts.get(timer.name)
            if one is not None and one.due == timer.due:
                self._wait_over(one)
            return
        incident = self._book.incidents.get(timer.name)
        if incident is None:
            return
        if timer.what is What.REFRESH and incident.refresh_due == timer.due:
            self._pager.show(incident, AlertReason.SIGNAL_JOINED, self._now)
        elif timer.what is What.REPEAT and incident.repeat_due == timer.due:
            self._repeat(incident)
        elif timer.what is What.FORGET and incident.forget_due == timer.due:
            self._book.forget(incident)

    def _wait_over(self, one: Open) -> None:
        if one.stand is Stand.WAITING:
            if self._pager.suspected(one, self._now) and self._may_page(one):
                self._pager.suspect(one, self._now)
            else:
                self._pager.settle(one, self._now, AlertReason.GROUP_WAIT)
        elif one.stand is Stand.SUSPECTED:
            self._pager.settle(one, self._now, AlertReason.RELEASED)
        else:
            incident = self._book.of(one)
            self._gathering.release(one, self._now)
            self._close_if_done(incident, self._now)

    def _may_page(self, one: Open) -> bool:
        return self._pager.decide(one, self._now).stand is Stand.WAITING

    def _repeat(self, incident: Incident) -> None:
        leader = self._book.alerts[incident.leader or ""]
        acknowledged = incident.acknowledgement is not None
        due = None if acknowledged else self._now + self._rules.repeat_after_ms
        incident.repeat_due = due
        self._book.touch_incident(incident)
        if acknowledged:
            return
        control = self._controls.withholding(leader.finding, self._now)
        if control is None:
            self._pager.show(incident, AlertReason.REPEATED, self._now, page=True)
            return
        self._pager.say(
            leader, AlertStatus.WITHHELD, control[1], at=self._now, suppressed_by=control[0]
        )

    # -- findings ----------------------------------------------------------------------------

    def _take(self, finding: Finding) -> Outcome:
        if finding.transition is Transition.PENDING:
            self._gathering.pending(finding, self._now)
        else:
            self._gathering.not_pending(finding)
        one = self._book.alerts.get(finding.alert_id)
        if finding.transition not in STATUS:
            return Outcome.NO_ALERT
        if finding.transition is Transition.RESOLVED:
            if one is None or one.over:
                return Outcome.NOT_OPEN
            self._resolve(one, finding)
            return Outcome.RESOLVED
        # An update of an alert that is not open is not dropped: a person may have to come.
        if one is None:
            self._open(finding)
            return Outcome.OPENED
        self._update(one, finding)
        return Outcome.UPDATED

    def _open(self, finding: Finding) -> None:
        self._count += 1
        incident = self._gathering.home(finding, self._count)
        one = Open(finding, incident.incident_id, self._count, self._now)
        self._book.add(one)
        if is_cause(finding) and finding.page:
            self._gathering.gather(one, self._now)
            return
        news = self._pager.note(one)
        self._pager.first(one, self._now)
        self._pager.join(one, news, self._now)

    def _update(self, one: Open, finding: Finding) -> None:
        before = one.finding
        self._book.renew(one, finding)
        worse = _SEVERE[finding.severity] > _SEVERE[before.severity]
        if worse:
            self._pager.doubt(self._book.of(one), self._now)
        if one.stand is Stand.PAGED:
            self._pager.again(one, self._now, call=worse)
        elif finding.page and one.stand is Stand.CALM and is_cause(finding):
            self._gathering.gather(one, self._now)
        elif urgent(finding) or (finding.page and one.stand is Stand.CALM):
            self._pager.first(one, self._now)
        else:
            self._pager.stay(one)

    def _resolve(self, one: Open, finding: Finding) -> None:
        self._book.renew(one, finding)
        incident, reason = self._book.of(one), AlertReason(finding.reason)
        was_cause = one.alert_id in incident.own
        # At most one is over, so three tell whether another is left.
        some = self._book.some(incident, 3)
        others = any(not other.over and other is not one for other in some)
        if incident.leader == one.alert_id and others:
            self._book.end(one)
            self._pager.say(one, AlertStatus.UPDATED, reason, at=finding.at)
        else:
            if one.stand is Stand.WAITING:
                decision = Decision(Stand.WITHHELD, AlertReason.GROUP_WAIT)
                self._pager.withhold(one, decision, finding.at)
            page = one.stand is Stand.PAGED
            self._pager.say(one, AlertStatus.RESOLVED, reason, at=finding.at, page=page)
            self._book.remove(one)
            self._close_if_done(incident, finding.at)
        if was_cause and incident.cause is None:
            self._gathering.loosen(incident, self._now)

    def _close_if_done(self, incident: Incident, at: int) -> None:
        """Close an incident in which nothing is open but its page."""
        if any(not one.over for one in self._book.some(incident, 2)):
            return
        for one in self._book.members(incident):
            reason = AlertReason.INCIDENT_CLOSED
            self._pager.say(one, AlertStatus.RESOLVED, reason, at=at, page=True)
            self._book.remove(one)
        if incident.incident_id not in self._book.incidents:
            return
        if incident.alone:
            self._book.forget(incident)
            return
        incident.begin_again()
        incident.forget_due = self._now + self._rules.keep_ms
        self._book.touch_incident(incident)

    # -- controls ----------------------------------------------------------------------------

    def _apply_waiting(self, number: int) -> None:
        control = self._controls.waiting[number]
        self._controls.take(number)
        self.control_outcomes[self._apply(control)] += 1

    def _apply(self, control: Control) -> ControlOutcome:
        if control.kind == "EXPIRE":
            return self._end(control.control_id)
        if control.kind == "ACKNOWLEDGE":
            return self._acknowledge(control)
        if not withholds(control):
            return ControlOutcome.NOT_HERE
        if control.until_at is not None and control.until_at <= self._now:
            return ControlOutcome.NOTHING
        self._controls.start(control)
        # What an earlier one of this id withheld may be no matter of the new one.
        self._reconsider(control.control_id)
        return ControlOutcome.IN_FORCE

    def _end(self, control_id: str) -> ControlOutcome:
        """End a control, whatever it is, and let go what it withheld."""
        ended = self._controls.end(control_id)
        for incident in self._book.incidents.values():
            if incident.acknowledgement == control_id:
                self._pager.doubt(incident, self._now)
                ended = True
        ended |= self._reconsider(control_id)
        return ControlOutcome.ENDED if ended else ControlOutcome.NOTHING

    def _reconsider(self, control_id: str) -> bool:
        withheld = [one for one in self._book.alerts.values() if one.suppressed_by == control_id]
        for one in sorted(withheld, key=lambda one: one.number):
            control = self._controls.withholding(one.finding, self._now)
            if control is None or control[0] != control_id:
                self._pager.settle(one, self._now, AlertReason.RELEASED)
        return bool(withheld)

    def _acknowledge(self, control: Control) -> ControlOutcome:
        found = [one for one in self._book.alerts.values() if matches(control, one.finding)]
        for one in sorted(found, key=lambda one: one.number):
            incident = self._book.of(one)
            if one.held:
                decision = Decision(
                    Stand.WITHHELD, AlertReason.ACKNOWLEDGED, suppressed_by=control.control_id
                )
                self._pager.withhold(one, decision, self._now)
            if incident.leader is not None and incident.acknowledgement is None:
                incident.acknowledged_by = control.by
                incident.acknowledgement = control.control_id
                self._pager.show(incident, AlertReason.ACKNOWLEDGED, self._now)
        return ControlOutcome.ACKNOWLEDGED if found else ControlOutcome.NOTHING
