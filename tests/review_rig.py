"""Reviews and tasks for tests, and a desk that can be written away and read back."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from streams import state
from streams.columns import BINS
from streams.durations import DAY, HOUR, WEEK
from streams.events import Change, HumanReview
from streams.late_tasks import ClosedTasks, LateTasks
from streams.panes import Panes
from streams.reviews import Around, ReviewDesk
from streams.rules import RuleSet
from streams.series import Agent, Series

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streams.findings import Finding

RULES = RuleSet.default()
MONDAY = 1_767_571_200_000  # 2026-01-05, a Monday midnight, UTC
AGENT = Agent("acme", "claims-agent")


def review(at: int, *, overridden: bool = False, **fields: Any) -> HumanReview:
    """Return a review; `fields` win."""
    given: dict[str, Any] = {
        "event_id": f"r{at}",
        "occurred_at": at,
        "tenant": AGENT.tenant,
        "agent_id": AGENT.agent_id,
        "task_type": "claim",
        "task_event_id": f"t{at}",
        "verdict": "OVERRIDDEN" if overridden else "CONFIRMED",
        "agent_decision": "approve",
        "human_decision": "reject" if overridden else "approve",
        "reason_code": "POLICY" if overridden else "OK",
    }
    return HumanReview(**given | fields)


def spread(day: int, overridden: int, confirmed: int, **fields: Any) -> list[HumanReview]:
    """Return the reviews of a day, evenly over ten hours, overrides evenly among them."""
    total = overridden + confirmed
    marks = [
        (place + 1) * overridden // total > place * overridden // total for place in range(total)
    ]
    step = 10 * HOUR // max(1, total)
    return [
        review(day + 8 * HOUR + place * step, overridden=mark, **fields)
        for place, mark in enumerate(marks)
    ]


class FakeChanges:
    """Changes of one agent."""

    def __init__(self, *events: Change) -> None:
        self.events = events

    def changes(
        self, agent: Agent, since: int, until: int, as_of: int | None = None
    ) -> list[Change]:
        del agent, as_of
        return [one for one in self.events if since < one.occurred_at <= until]


class Rig:
    """A desk with tasks it can ask for; offsets are counted, records are stamped on time."""

    def __init__(self, changes: FakeChanges | None = None, bound: int = 100) -> None:
        self.now: int | None = None
        self.tasks = Series(100)
        self.hours = Panes(HOUR, 24, 40, 6)
        self.days = Panes(DAY, 1, 40, counts=2 * BINS)
        self.late = LateTasks()
        for panes in (self.hours, self.days, self.late):
            panes.reserve(100)
        self.changes, self.bound = changes, bound
        self.findings: list[Finding] = []
        self.windows: list[dict[str, Any]] = []
        self.signals: list[dict[str, Any]] = []
        self.refused: list[Any] = []
        self.stored: dict[bytes, bytes] = {}
        self._offset = 0
        self.desk = self._desk()

    def clock(self) -> int | None:
        """Return the clock of the tasks."""
        return self.now

    def _desk(self) -> ReviewDesk:
        closed = ClosedTasks(self.tasks, self.hours, self.days, self.late)
        around = Around(closed, self.clock, self.changes)
        return ReviewDesk(RULES, ("agentops.reviews", 3), self.bound, around)

    def feed(self, events: Sequence[HumanReview]) -> None:
        """Let the desk take events, the clock of the tasks being with them."""
        offsets = np.arange(self._offset, self._offset + len(events))
        self._offset += len(events)
        stamps = np.array([one.occurred_at for one in events], np.int64)
        for start in range(len(events)):
            self.now = max(self.now or 0, events[start].occurred_at)
            part = slice(start, start + 1)
            self.refused += self.desk.fold(events[part], offsets[part], stamps[part])
        self._collect()

    def idle(self, wall: int) -> None:
        """Let the clocks follow the wall."""
        self.now = max(self.now or 0, wall)
        self.desk.idle(wall)
        self._collect()

    def restart(self) -> None:
        """Write the state away and go on with a fresh desk."""
        for key, value in self.desk.changes():
            if value is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = value
        clock, self.desk = self.desk.clock, self._desk()
        self.desk.clock.now, self.desk.clock.lag = clock.now, clock.lag
        for record in state.decode(self.stored.items()):
            assert self.desk.restore(record), record.kind
        self.desk.settle()
        assert list(self.desk.changes()) == []

    def of(self, rule: str, task_type: str | None = None) -> list[Finding]:
        """Return the findings of a rule but the calm ones, on the agent or one of its types."""
        return [
            one
            for one in self.findings
            if one.rule == rule
            and (rule != "overrides" or one.task_type == task_type)
            and one.transition not in {"PENDING", "CANCELLED"}
        ]

    def _collect(self) -> None:
        self.findings += self.desk.take_findings()
        self.windows += self.desk.take_windows()
        self.signals += self.desk.signals.take()


def five_weeks(
    overridden: int = 10, confirmed: int = 90, start: int = MONDAY, **fields: Any
) -> list[HumanReview]:
    """Return five weeks of the same every day."""
    days = range(start, start + 5 * WEEK, DAY)
    return [one for day in days for one in spread(day, overridden, confirmed, **fields)]


@cache
def _settled() -> Rig:
    rig = Rig()
    rig.feed(five_weeks())
    return rig


def settled() -> Rig:
    """Return a rig after five weeks in which one review in ten was an override."""
    return deepcopy(_settled())
