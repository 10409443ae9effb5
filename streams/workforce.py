"""What one partition says about its agents: all input topics together, the pure core of *detect*.

Tasks and security events are the matter of `Detect`; here the other topics join it: calls and what
they tell roll-up, reviews, and what is known around the tasks. Which batch may be folded next is
said by `streams.ordering`; folded is what comes, in the order in which it comes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from streams import snapshot
from streams.callers import Callers
from streams.calls import CALLS, CallEvents, CallTap, call_sums
from streams.clock import RETENTION
from streams.context import Context
from streams.detect import Detect
from streams.feed import Feed
from streams.ledger import Ledger
from streams.partials import PartialWriter, Stream
from streams.reasons import EntityKind, Transition
from streams.security import SeriesLimitLife
from streams.series import Agent
from streams.tasks import TaskTap
from streams.watches import Watches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streams.batch import Refusal
    from streams.columns import CallColumns, SecurityEvent, TaskColumns
    from streams.desk import Desk
    from streams.feed import Taken
    from streams.findings import Finding
    from streams.rules import RuleSet
    from streams.watch import Change

    I64 = NDArray[np.int64]

_NAMED = frozenset({Transition.FIRING, Transition.UPDATED})
"""Transitions whose finding says what else could be behind it."""


class Scope(NamedTuple):
    """Which partition it is, and how the world is named.

    Attributes:
        partition: its number.
        partitions: how many there are.
        max_series: most series of agents and their task types, and of whatever else is bounded.
        topic: full name of a topic by its suffix.
    """

    partition: int
    partitions: int
    max_series: int
    topic: Callable[[str], str]


class Said(NamedTuple):
    """What came of the events since the last drain.

    Attributes:
        findings: of each topic in log order.
        windows: Window records of closed hours.
        partials: (partition of the roll-up stage, Partials record).
        signals: TrainingSignal records.
        state: changed state records, None for one that is gone.
    """

    findings: list[Finding]
    windows: list[dict[str, Any]]
    partials: list[tuple[int, dict[str, Any]]]
    signals: list[dict[str, Any]]
    state: list[Change]


class Workforce:
    """Admits, folds and evaluates the events of one partition of all input topics.

    Args:
        rules: the rules.
        scope: which partition it is.
    """

    def __init__(self, rules: RuleSet, scope: Scope) -> None:
        self._detect = Detect(
            rules,
            partition=scope.partition,
            max_series=scope.max_series,
            tasks_topic=scope.topic("tasks"),
            security_topic=scope.topic("security"),
        )
        source = scope.topic("calls"), scope.partition
        limit = SeriesLimitLife(rules.series_limit, *source, scope.max_series, part="calls")
        ledger = Ledger((), scope.max_series, CALLS)
        self._calls = Feed(ledger, limit, sums=call_sums, find=_no_rate_rules)
        self._callers = Callers(scope.max_series)
        self._context = Context(scope.max_series)
        self._watches = Watches(
            rules,
            self._detect,
            self._context,
            partition=scope.partition,
            topic=scope.topic,
            bound=scope.max_series,
        )
        self._writers = {
            "tasks": PartialWriter(Stream.TASKS, scope.partition, scope.partitions),
            "calls": PartialWriter(Stream.CALLS, scope.partition, scope.partitions),
        }
        self._detect.taps.append(TaskTap(self._detect.ledger.series, self._writers["tasks"]))
        self._calls.taps += [CallTap(ledger.series, self._writers["calls"]), self._count_callers]
        self._desks: dict[str, Desk[Any]] = {
            "profiles": self._context.profiles_desk,
            "changes": self._context.changes_desk,
            "queues": self._context.queues_desk,
            "reviews": self._watches.reviews,
        }
        self._detect.join(
            books=[snapshot.Book(ledger, self._calls.clock)],
            clocks={name: desk.clock for name, desk in self._desks.items()},
            keepers=[
                snapshot.LimitKeeper(limit),
                self._callers,
                *self._desks.values(),
                *self._watches.keepers,
            ],
        )
        self._security = rules.security.name
        self._idled: set[str] = set()
        self._ended: set[str] = set()

    # -- what it is like ---------------------------------------------------------------------

    @property
    def clocks(self) -> dict[str, int]:
        """The clocks by topic suffix, ms; one without an event is left out."""
        own = {name: desk.clock.now for name, desk in self._desks.items()}
        own["calls"] = self._calls.clock.now
        return self._detect.clocks | {name: now for name, now in own.items() if now is not None}

    @property
    def urgent(self) -> bool:
        """Whether a finding waits to be drained."""
        desks = any(desk.findings for desk in self._desks.values())
        return desks or self._detect.urgent or bool(self._calls.findings)

    @property
    def dirty(self) -> bool:
        """Whether there is anything to drain."""
        desks = any(desk.dirty for desk in self._desks.values())
        return desks or self._detect.dirty or self._calls.dirty or self._tells()

    # -- events ------------------------------------------------------------------------------

    def fold_tasks(self, events: TaskColumns, offsets: I64, timestamps: I64) -> list[Refusal]:
        """Take tasks in log order; see `Feed.fold`."""
        self._idled.discard("tasks")
        return self._detect.fold_tasks(events, offsets, timestamps)

    def fold_security(
        self, events: Sequence[SecurityEvent], offsets: I64, timestamps: I64
    ) -> list[Refusal]:
        """Take security events in log order; each is handled at once."""
        return self._detect.fold_security(events, offsets, timestamps)

    def fold_calls(self, events: CallColumns, offsets: I64, timestamps: I64) -> list[Refusal]:
        """Take calls in log order; see `Feed.fold`."""
        self._idled.discard("calls")
        return self._calls.fold(CallEvents.of(events), offsets, timestamps)

    def fold_few(
        self, topic: str, events: Sequence[Any], offsets: I64, timestamps: I64
    ) -> list[Refusal]:
        """Take reviews, changes, queue depths or profiles in log order; see `Desk.fold`."""
        return self._desks[topic].fold(events, offsets, timestamps)

    # -- time --------------------------------------------------------------------------------

    def quiet(self, clock: int) -> None:
        """Let security lives end that were quiet by this clock: no event before it is to come."""
        self._detect.quiet(clock)

    def idle(self, wall_ms: int) -> None:
        """Let all clocks follow the wall clock, because all topics are read to their ends."""
        before = self.clocks
        for topic in ("profiles", "changes", "queues"):
            self._desks[topic].idle(wall_ms)
        self._calls.idle(wall_ms)
        self._detect.idle(wall_ms)
        self._desks["reviews"].idle(wall_ms)
        self._idled |= {name for name, now in self.clocks.items() if now != before.get(name)}

    def ended(self, topics: Iterable[str]) -> None:
        """Learn which topics, by suffix, are read to their ends: an empty one is told of."""
        self._ended = set(topics)

    # -- state -------------------------------------------------------------------------------

    def drain(self) -> Said:
        """Return what came since the last call, and what changed of the state."""
        findings, windows = self._calls.drain()
        for desk in self._desks.values():
            findings += desk.take_findings()
        windows += self._context.queues_desk.take_windows()
        windows += self._watches.reviews.take_windows()
        partials = [one for name in self._writers for one in self._told(name)]
        signals = self._watches.reviews.signals.take()
        drained = self._detect.drain()
        every = [self._named(finding) for finding in (*drained.findings, *findings)]
        return Said(every, [*drained.windows, *windows], partials, signals, drained.state)

    def restore(self, records: Iterable[tuple[bytes, bytes]]) -> None:
        """Take over stored state, the newest value of each key in any order; once, at first.

        Raises:
            ValueError: a record is of another version, or was made by rules with other arms.
        """
        self._detect.restore(records)

    # -- inside ------------------------------------------------------------------------------

    def _count_callers(self, taken: Taken) -> None:
        # Calls may be read ahead of the tasks, whose alerts ask for them.
        calls = int(taken.clocks[-1])
        tasks = min(calls, self.clocks.get("tasks", 0))
        self._callers.add(taken.events.calls, max(tasks, calls - RETENTION))

    def _tells(self) -> bool:
        return any(
            writer.waits(self.clocks.get(name)) or self._is_empty(name)
            for name, writer in self._writers.items()
        )

    def _is_empty(self, name: str) -> bool:
        return name in self._ended and name not in self.clocks and self._writers[name].empty()

    def _told(self, name: str) -> list[tuple[int, dict[str, Any]]]:
        clock, writer = self.clocks.get(name), self._writers[name]
        if clock is None and not self._is_empty(name):
            return []
        return writer.take(clock, idle=name in self._idled)

    def _named(self, finding: Finding) -> Finding:
        """Return a finding on an agent with what could be behind it: integrations, a change.

        Security events are told at once: changes and calls may not have been read as far.
        """
        told = finding.entity_kind is EntityKind.AGENT and finding.transition in _NAMED
        if not told or finding.rule == self._security:
            return finding
        agent = Agent(finding.tenant, finding.entity_id)
        profile = self._context.profile(agent)
        depends_on = () if profile is None else profile.depends_on
        called = self._callers.integrations_of(agent, finding.at, depends_on)
        change = finding.change_ref
        if change is None:
            known = self._context.change_ref(agent, finding.starts_at, as_of=finding.at)
            change = None if known is None else f"{known[0]} at {finding.starts_at - known[1]}"
        return replace(finding, integrations=called, change_ref=change)


def _no_rate_rules(one: Any) -> Finding:
    raise RuntimeError(f"calls have no rate rule in a partition: {one}")
