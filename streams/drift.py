"""Drift: signals of an agent that are no more what they were, looked at when a bin of hours ends.

A detector says that a signal has shifted; what is made of it stands here: a finding while it lasts,
one for each agent and cause, which ends when the signals are back or the agent was changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from streams import state
from streams.drift_findings import DriftFindings, Told
from streams.drift_lives import Drifting, DriftLife, DriftLives
from streams.durations import DAY, HOUR
from streams.life import Turn
from streams.prompt_reviews import PromptReviews
from streams.reasons import RetrainingAction, RetrainingCause, Transition, TransitionReason
from streams.signals import SignalHistory

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streams.drift_rules import AnomalousOutputRule, DriftRule, PromptReviewRule
    from streams.events import AgentProfile
    from streams.events import Change as ChangeEvent
    from streams.findings import Evidence, Finding
    from streams.series import Agent
    from streams.shifts import Distance, Shift
    from streams.state import Stored
    from streams.watch import Change

    I64 = NDArray[np.int64]
    F64 = NDArray[np.float64]

RESETS = frozenset({"MODEL", "PROMPT", "CONFIG", "TOOL_SCHEMA", "POLICY"})
"""Changes after which an agent's past says nothing of its future."""

RESOLVES = frozenset({"MODEL", "PROMPT", "CONFIG"})
"""Those that answer a drift."""

_GONE_AFTER = 35 * DAY
"""An agent without any value for so long has nothing that could drift; its row is freed soon."""

_BACK_BINS = 0.5
"""Share of the bins of the quiet time that need a value before a signal can be called back."""


class Source(Protocol):
    """Where the values of the signals come from."""

    @property
    def name(self) -> str:
        """Name in the state."""

    @property
    def step(self) -> int:
        """Length of a bin, ms."""

    @property
    def width(self) -> int:
        """Number of signals."""

    @property
    def output(self) -> int | None:
        """The signal whose drift is a security finding as well."""

    def names(self, profile: AgentProfile | None) -> list[str]:
        """Return the names of an agent's signals."""

    def cause(self, signal: int) -> RetrainingCause:
        """Return what a shift of a signal means."""

    def action(self, signal: int) -> RetrainingAction:
        """Return what helps against it."""

    def suffers(self, signal: int, direction: int) -> bool:
        """Return whether a shift means worse outcomes."""

    def plain(self, signal: int, mean: float) -> float:
        """Return a mean of a signal as a person would say it."""

    def volume(self, row: int, tick: int) -> tuple[float, float]:
        """Return the tasks a day of an agent, and their cost in US dollars."""

    def hour(self, tick: int) -> None:
        """Take what came in the hour before a tick."""

    def values(self, rows: I64, tick: int, frozen: Collection[tuple[int, int]]) -> F64:
        """Return float64[r, signals] of the bin that ends at a tick, NaN for none."""

    def restart(self, row: int) -> None:
        """Begin anew with an agent."""

    def widen(self, width: int) -> None:
        """Have at least so many signals."""

    def pending(self, looked: int) -> bool:
        """Return whether a bin with values ends after a tick."""

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""

    def settle(self) -> None:
        """Count all that was restored as stored."""

    def forget(self, agents: Sequence[int]) -> None:
        """Drop what is known of agent rows that were freed."""


class Surroundings(Protocol):
    """What is asked about an agent: see `streams.context.Context`."""

    def profile(self, agent: Agent) -> AgentProfile | None:
        """Return the profile of an agent."""

    def changes(
        self, agent: Agent, since: int, until: int, as_of: int | None = None
    ) -> list[ChangeEvent]:
        """Return the changes with event time in (since, until] that a tick sees."""


class DriftRules(NamedTuple):
    """The rules a watch needs."""

    drift: DriftRule
    output: AnomalousOutputRule
    prompt: PromptReviewRule


class DriftWatch:
    """Drift of the signals of one source in one partition; a `streams.watch.Watch`.

    Args:
        rules: the numbers.
        source: of the values.
        agents: of the source's rows, as they are now.
        context: profiles and changes.
        evidence: where the records of a span of event time [start, end) lie.
    """

    def __init__(
        self,
        rules: DriftRules,
        source: Source,
        agents: Mapping[int, Agent],
        context: Surroundings,
        evidence: Callable[[int, int], Evidence],
    ) -> None:
        self._rule = rules.drift
        self._source, self._agents, self._context = source, agents, context
        self._history = SignalHistory(source.name, rules.drift, source.step, source.width)
        self._lives = DriftLives(source.name)
        self._reviews = PromptReviews(rules.prompt, source.name)
        self._tell = DriftFindings(rules.drift, rules.output, rules.prompt, evidence)
        self._looked: int | None = None
        self._looked_dirty = False
        self._findings: list[Finding] = []

    # -- ticks -------------------------------------------------------------------------------

    def hour(self, tick: int) -> list[Finding]:
        """Return what an hour tick causes: see `Watch`."""
        source, history = self._source, self._history
        rows = max(self._agents, default=-1) + 1
        source.hour(tick)
        history.reserve(rows, source.width)
        for row in history.unnamed(rows):
            if row in self._agents:
                history.name(row, self._agents[row])
        for row in sorted(self._agents):
            self._follow(row, tick)
        number, due = history.due(tick, rows)
        values = source.values(due, tick, self._lives.frozen())
        for shift in history.close(number, due, values):
            self._found(shift, tick)
        ended = set(due.tolist()) if len(self._lives) else set()
        for life in self._lives.all():
            if life.row in ended:
                self._measure(life, tick, number)
        for row in self._reviews.old(tick):
            self._end_review(row, tick, TransitionReason.QUIET)
        self._looked, self._looked_dirty = tick, True
        findings, self._findings = self._findings, []
        return findings

    def busy(self) -> bool:
        """Return whether hours without any record matter too."""
        looked = self._looked or 0
        return bool(self._lives) or bool(self._reviews) or self._source.pending(looked)

    def forget(self, agents: Sequence[int], tasks: Sequence[int]) -> None:
        """Drop what is known of agent rows that were freed."""
        del tasks
        for row in agents:
            for life in self._lives.of(row):
                life.signals.clear()
                self._lives.keep(life)
            self._reviews.forget(row)
        self._source.forget(agents)
        if self._source.name == "tasks":
            self._history.forget(agents)

    # -- changes of the agent ----------------------------------------------------------------

    def _follow(self, row: int, tick: int) -> None:
        """Take note of changes and of training since the last tick."""
        agent = self._agents[row]
        since = (tick - HOUR if self._looked is None else self._looked) - DAY  # some come late
        changed: int | None = None
        for change in self._context.changes(agent, since, tick, tick):
            at = change.occurred_at
            if change.integration is None and change.kind in RESETS:
                self._restart(row, at)
                changed = at if change.kind in RESOLVES else changed
                self._prompt(row, change, tick)
        profile = self._context.profile(agent)
        trained = None if profile is None else profile.last_trained_at
        if trained is not None and trained <= tick:
            self._restart(row, trained)
            changed = max(trained, changed or trained)
        if changed is not None:
            for life in self._lives.of(row):
                if changed > life.started_at:
                    self._end(life, tick, TransitionReason.CHANGED)

    def _restart(self, row: int, at: int) -> None:
        if self._history.restart(row, self._history.bin_at(at, row) + 1):
            self._source.restart(row)

    def _prompt(self, row: int, change: ChangeEvent, tick: int) -> None:
        if change.kind == "PROMPT":
            self._end_review(row, tick, TransitionReason.CHANGED, change.occurred_at)
        if change.kind == "MODEL" and self._source.output is not None:
            new = self._reviews.model(row, change.occurred_at)
            if new and self._reviews.open(row, tick, "MODEL"):
                self._review(row, tick, Turn(*_FIRED, 0, tick), "MODEL")

    def _end_review(
        self, row: int, tick: int, reason: TransitionReason, at: int | None = None
    ) -> None:
        ended = self._reviews.close(row, at)
        if ended is not None and ended.started_at is not None:
            turn = Turn(Transition.RESOLVED, reason, 0, ended.started_at)
            self._review(row, tick, turn, ended.why or "")

    # -- drift -------------------------------------------------------------------------------

    def _found(self, shift: Shift, tick: int) -> None:
        row, signal = shift.row, shift.signal
        cause = self._source.cause(signal)
        life = self._lives.get(row, cause)
        turn = _JOINED
        if life is None:
            life = DriftLife(row, cause, self._names(row)[signal], tick, tick)
            turn = _FIRED
        life.signals[signal] = Drifting(shift.onset, tick, shift.now.magnitude, shift.usual)
        self._lives.keep(life)
        self._told(life, tick, Turn(*turn, 0, life.started_at), signal)
        if signal == self._source.output:
            self._output(life, tick, Turn(*_FIRED, 0, tick))
        if cause is RetrainingCause.PERFORMANCE_DRIFT and self._reviews.open(row, tick, life.part):
            self._review(row, tick, Turn(*_FIRED, 0, tick), life.part)

    def _measure(self, life: DriftLife, tick: int, number: int) -> None:
        """See how far the signals of a life are now."""
        grown: int | None = None
        back: list[int] = []
        for signal, one in life.signals.items():
            key = life.row, signal
            now = self._history.distance(key, one.usual, one.onset, number + 1)
            if self._history.distance(key, one.usual, number, number + 1).number:
                life.last_data = tick
            if abs(now.magnitude) >= self._rule.growth * abs(one.told):
                one.told, grown = now.magnitude, signal
            if self._is_back(key, one, number):
                back.append(signal)
        if tick - life.last_data >= _GONE_AFTER:
            self._end(life, tick, TransitionReason.ENTITY_GONE)
        elif len(back) == len(life.signals):
            self._end(life, tick, TransitionReason.QUIET, number + 1)
        elif back:
            self._drop(life, back, tick, number + 1)
        elif grown is not None:
            turn = Turn(Transition.UPDATED, TransitionReason.CONDITION_TRUE, 0, life.started_at)
            self._told(life, tick, turn, grown)
        self._lives.keep(life)

    def _is_back(self, key: tuple[int, int], one: Drifting, number: int) -> bool:
        """Return whether a signal was as usual for the quiet time, and at its beginning too."""
        bins = self._rule.quiet_ms // self._source.step
        if number - one.onset < bins:
            return False
        first, end = number + 1 - bins, number + 1
        whole = self._history.distance(key, one.usual, first, end)
        oldest = self._history.distance(key, one.usual, first, end - bins * 5 // 7)
        most = self._rule.back_share * abs(one.told)
        near = abs(whole.magnitude) <= most and abs(oldest.magnitude) <= most
        return near and whole.number >= _BACK_BINS * bins

    def _drop(self, life: DriftLife, back: Sequence[int], tick: int, end: int) -> None:
        """Take signals that are back out of a life that goes on."""
        for signal in back:
            one = life.signals[signal]
            self._history.thaw((life.row, signal), (one.onset, end))
            if signal == self._source.output:
                turn = Turn(Transition.RESOLVED, TransitionReason.QUIET, 0, one.opened_at)
                self._output(life, tick, turn)
            del life.signals[signal]

    def _end(
        self, life: DriftLife, tick: int, reason: TransitionReason, end: int | None = None
    ) -> None:
        """End a life; `end` is the bin up to which its values are never usual."""
        turn = Turn(Transition.RESOLVED, reason, 0, life.started_at)
        self._told(life, tick, turn, life.largest())
        for signal, one in life.signals.items():
            self._history.thaw((life.row, signal), None if end is None else (one.onset, end))
            if signal == self._source.output:
                gone = Turn(Transition.RESOLVED, reason, 0, one.opened_at)
                self._output(life, tick, gone)
        life.signals.clear()
        self._lives.keep(life)

    # -- telling -----------------------------------------------------------------------------

    def _names(self, row: int) -> list[str]:
        return self._source.names(self._context.profile(self._agents[row]))

    def _now(self, life: DriftLife, signal: int, tick: int) -> Told:
        source = self._source
        one = life.signals[signal]
        bin_now = self._history.bin_at(tick, life.row)
        now: Distance = self._history.distance((life.row, signal), one.usual, one.onset, bin_now)
        names = self._names(life.row)
        level, count = one.usual.numbers[-2:]
        return Told(
            agent=self._agents[life.row],
            life=life,
            signal=names[signal],
            now=now,
            reference_mean=source.plain(signal, level),
            current_mean=source.plain(signal, now.mean),
            reference_count=count,
            window=(self._history.start(one.onset, life.row), tick),
            action=source.action(signal),
            volume=source.volume(life.row, tick),
            suffers=any(
                source.suffers(at, 1 if other.told > 0 else -1)
                for each in self._lives.of(life.row)
                for at, other in each.signals.items()
            ),
            signals={names[at]: other.told for at, other in life.signals.items()},
        )

    def _told(self, life: DriftLife, tick: int, turn: Turn, signal: int) -> None:
        self._findings.append(self._tell.drift(self._now(life, signal, tick), turn, tick))

    def _output(self, life: DriftLife, tick: int, turn: Turn) -> None:
        signal = self._source.output
        if signal is not None:
            self._findings.append(self._tell.output(self._now(life, signal, tick), turn, tick))

    def _review(self, row: int, tick: int, turn: Turn, why: str) -> None:
        volume = self._source.volume(row, tick)
        finding = self._tell.review(self._agents[row], turn, tick, why, volume)
        self._findings.append(finding)

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        yield from self._source.changes()
        yield from self._history.changes()
        yield from self._lives.changes()
        yield from self._reviews.changes()
        if self._looked_dirty:
            self._looked_dirty = False
            fields = {"looked": self._looked, "width": self._source.width}
            value = state.encode("DriftWatchState", {"source": self._source.name, **fields})
            yield state.drift_watch_key(self._source.name), value

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this watch."""
        fields = stored.fields
        if stored.kind == "DriftWatchState" and fields["source"] == self._source.name:
            self._looked = fields["looked"]
            self._source.widen(fields["width"])
            return True
        parts = (self._source, self._history, self._lives, self._reviews)
        return any(part.restore(stored) for part in parts)

    def settle(self) -> None:
        """Count all that was restored as stored."""
        for life in self._lives.all():
            for signal, one in life.signals.items():
                self._history.freeze((life.row, signal), one.usual)
        for part in (self._source, self._history, self._lives, self._reviews):
            part.settle()
        self._looked_dirty = False


_FIRED = Transition.FIRING, TransitionReason.AT_ONCE
_JOINED = Transition.UPDATED, TransitionReason.SIGNAL_JOINED
