"""A ledger of tasks and what is known around them, for tests of rules at minute ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams import state
from streams.context import Context
from streams.durations import HOUR, MINUTE, WEEK
from streams.events import AgentProfile, QueueDepth
from streams.layout import TASKS
from streams.ledger import Batch, Ledger
from streams.rules import RuleSet
from streams.series import Agent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, Protocol

    from streams.findings import Finding
    from streams.watch import Change

    class MinuteRule(Protocol):
        """What is looked at at minute ticks."""

        def minute(self, tick: int) -> list[Finding]: ...
        def next_tick(self, after: int) -> int | None: ...
        def changes(self) -> Iterable[Change]: ...
        def restore(self, stored: state.Stored) -> bool: ...
        def settle(self) -> None: ...


RULES = RuleSet.default()
START = 2_920 * WEEK
_FIRST = np.zeros(1, np.int64)
A, B = Agent(None, "claims-agent"), Agent("acme", "mail-agent")


class World:
    """One partition: tasks and depths come in order of time, and rules see their ticks."""

    def __init__(self) -> None:
        self.ledger = Ledger(RULES.rates, 1000, TASKS)
        self.context = Context(100)
        self.rules: list[Any] = []
        self.findings: list[Finding] = []
        self.ticks = 0
        self.noted = 0
        self.now = START

    def tasks(self, agent: Agent, times: Sequence[int]) -> None:
        """Finish tasks at these times, of which the last is no earlier than all before."""
        self.go(max(self.now, *times))
        self.ledger.series.add(agent, "t")
        self.ledger.reserve()
        rows = np.full(len(times), self.ledger.series.row(agent))
        none, events = np.zeros(len(times), np.int64), np.array(times, np.int64)
        clocks = np.full(len(times), self.now)
        batch = Batch(rows, rows, none, events, clocks, none, [none] * len(TASKS.sums))
        self.ledger.fold(batch, self.now, self.now)
        for rule in self.rules:
            if hasattr(rule, "note"):
                rule.note(rows, events, clocks)

    def depth(self, agent: Agent, waiting: int, at: int | None = None) -> None:
        """Report how much waits."""
        at = self.now if at is None else at
        event = QueueDepth(event_id="q", occurred_at=at, depth=waiting, **agent._asdict())
        assert not self.context.queues_desk.fold([event], _FIRST, np.array([at]))

    def profile(self, agent: Agent, lifecycle: str) -> None:
        """Tell where an agent is in its life."""
        event = AgentProfile(
            event_id="p",
            occurred_at=self.now,
            owner="team",
            lifecycle=lifecycle,
            **agent._asdict(),
        )
        assert not self.context.profiles_desk.fold([event], _FIRST, np.array([self.now]))

    def go(self, until: int) -> None:
        """Let the clock of the tasks go, with all ticks that matter on the way."""
        after, self.now = self.now, until
        while self.rules:
            ticks = [rule.next_tick(after) for rule in self.rules]
            tick = min((at for at in ticks if at is not None), default=until + 1)
            hour = after // HOUR * HOUR + HOUR
            if any(hasattr(rule, "hour") and rule.busy() for rule in self.rules):
                tick = min(tick, hour)
            if tick > until:
                return
            self._tick(tick)
            after = tick

    def _tick(self, tick: int) -> None:
        self.ticks += 1
        for rule in self.rules:
            if tick % HOUR == 0 and hasattr(rule, "hour"):
                self.findings += rule.hour(tick)
            self.findings += rule.minute(tick)

    def restart(self, old: MinuteRule, new: MinuteRule, stored: dict[bytes, bytes]) -> None:
        """Go on with a rule that knows only what is stored."""
        for key, value in old.changes():
            if value is None:
                stored.pop(key, None)
            else:
                stored[key] = value
        for record in state.decode(stored.items()):
            assert new.restore(record)
        new.settle()
        assert list(new.changes()) == []
        self.rules[self.rules.index(old)] = new

    def steps(self) -> list[tuple[str, str, int]]:
        """Return the findings so far as (transition, reason, minutes past `START`)."""
        return [
            (str(one.transition), str(one.reason), (one.at - START) // MINUTE)
            for one in self.findings
        ]
