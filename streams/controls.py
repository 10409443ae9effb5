"""What operators said and is in force: silences and maintenance, and what is said for later.

A control takes effect when the clock of the incidents reaches the time at which it was said, so
that it makes no difference which of the two topics was read first.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from streams.grouping import urgent
from streams.reasons import AlertReason

if TYPE_CHECKING:
    from streams.events import Control
    from streams.findings import Finding

MAX_WAITING = 10_000
"""Most controls that may wait for their time."""

_WITHHOLDS = {"SILENCE": AlertReason.SILENCED, "MAINTENANCE": AlertReason.MAINTENANCE}


class ControlOutcome(StrEnum):
    """What became of a control."""

    IN_FORCE = "IN_FORCE"
    """It withholds pages from now on, or from the time it names."""
    ACKNOWLEDGED = "ACKNOWLEDGED"
    """An open incident was acknowledged, or more than one."""
    ENDED = "ENDED"
    """It ended another control."""
    NOTHING = "NOTHING"
    """It found nothing to act on, or its time is over."""
    NOT_HERE = "NOT_HERE"
    """It is not for the incidents: rules, and what is normal now."""
    TOO_MANY = "TOO_MANY"
    """Too many wait for a time to come; it was dropped."""


class Controls:
    """The controls of the incidents.

    Attributes:
        active: silences and maintenance by control id, those whose time is to come included.
        waiting: controls said later than the clock, by number in the order of their topic.
        touched: control ids and numbers that changed since the state was last taken.
    """

    def __init__(self) -> None:
        self.active: dict[str, Control] = {}
        self.waiting: dict[int, Control] = {}
        self.touched: dict[str | int, None] = {}

    def wait(self, control: Control) -> bool:
        """Keep a control until the clock gets there; return False where too many wait already."""
        if len(self.waiting) >= MAX_WAITING:
            return False
        number = max(self.waiting, default=0) + 1
        self.waiting[number] = control
        self.touched[number] = None
        return True

    def next(self, until: int) -> tuple[int, Control] | None:
        """Return the first waiting control said by `until`, with its number."""
        found = min(
            ((one.occurred_at, number) for number, one in self.waiting.items()), default=None
        )
        if found is None or found[0] > until:
            return None
        return found[1], self.waiting[found[1]]

    def take(self, number: int) -> None:
        """Let a control wait no longer."""
        del self.waiting[number]
        self.touched[number] = None

    def start(self, control: Control) -> None:
        """Put a silence or maintenance in force, in place of one with the same id."""
        self.active[control.control_id] = control
        self.touched[control.control_id] = None

    def end(self, control_id: str) -> bool:
        """End a silence or maintenance; return whether there was one."""
        ended = self.active.pop(control_id, None) is not None
        if ended:
            self.touched[control_id] = None
        return ended

    def over(self, now: int) -> list[str]:
        """Return the ids of those whose time is over, ascending by end."""
        ends = [(one.until_at, name) for name, one in self.active.items() if one.until_at]
        return [name for until, name in sorted(ends) if until <= now]

    def next_end(self) -> int | None:
        """Return when the first of them ends, ms."""
        return min((one.until_at for one in self.active.values() if one.until_at), default=None)

    def withholding(self, finding: Finding, now: int) -> tuple[str, AlertReason] | None:
        """Return the control that withholds pages of a finding, and the reason; None for none."""
        for name in sorted(self.active):
            one = self.active[name]
            begun = one.from_at is None or one.from_at <= now
            if begun and matches(one, finding):
                return name, _WITHHOLDS[one.kind]
        return None


def withholds(control: Control) -> bool:
    """Return whether it is a silence or maintenance."""
    return control.kind in _WITHHOLDS


def matches(control: Control, finding: Finding) -> bool:
    """Return whether a control is about the alert of a finding.

    All that it names must be equal. What is urgent must be named by its rule or alert.
    """
    if urgent(finding) and control.match_alert_id is None and control.match_rule is None:
        return False
    pairs = (
        (control.match_alert_id, finding.alert_id),
        (control.match_rule, finding.rule),
        (control.match_entity_kind, str(finding.entity_kind)),
        (control.match_tenant, finding.tenant),
        (control.match_entity_id, finding.entity_id),
    )
    return all(wanted is None or wanted == found for wanted, found in pairs)
