"""Patterns of overrides: the same decision changed in the same way for the same reason.

An agent has a bounded number of patterns. When a new one finds no place it takes that of the one
seen least, and inherits its count as a ghost: ghosts rank, so that a pattern that comes often
enough is never driven out by codes that are invented, but they count for nothing else than the
usual. So a count may be too low, and never too high. This is "space saving" over a sliding window.

Source: A. Metwally, D. Agrawal, A. El Abbadi (2005), "Efficient computation of frequent and top-k
elements in data streams", ICDT 2005.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from streams import state
from streams.durations import DAY
from streams.findings import Entity
from streams.pattern_judge import advised, measured, usual_count
from streams.reasons import EntityKind, RetrainingCause, TransitionReason
from streams.review_rules import KEPT_DAYS
from streams.series import Agent
from streams.standing import Standing
from streams.watch import Happening, Subject, watch_finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from streams.events import Change as ChangeEvent
    from streams.events import HumanReview
    from streams.findings import Evidence, Finding
    from streams.life import Turn
    from streams.review_rules import OverridePatternRule
    from streams.state import Stored
    from streams.watch import Change

    I64 = NDArray[np.int64]
    I32 = NDArray[np.int32]

COUNT, SURE, LOW, GHOST = range(4)
"""What is counted of a pattern and day: overrides; those whose confidence can be compared; those
of low confidence; those of patterns whose place it took."""

_RING = KEPT_DAYS + 1
_WHATS = 4
_RENEWING = frozenset({"PROMPT", "MODEL"})


class Changes(Protocol):
    """Knows the changes of agents."""

    def changes(
        self, agent: Agent, since: int, until: int, as_of: int | None = None
    ) -> Sequence[ChangeEvent]:
        """Return the changes of an agent with event time in (since, until], as a tick sees them."""


class Pattern(NamedTuple):
    """What was decided, and what instead; long codes are cut, with a mark of the whole."""

    task_type: str
    agent_decision: str
    human_decision: str
    reason_code: str

    @property
    def text(self) -> str:
        """One line for a person, which names it within its task type."""
        return f"{self.agent_decision} > {self.human_decision}: {self.reason_code}"


@dataclass(slots=True, eq=False)
class Book:
    """The patterns of one agent.

    Attributes:
        born: day of its first review.
        day: newest day of a review, days since 1970.
        patterns: by place.
        lives: of each.
        counts: int32[places, what, day mod ring].
    """

    born: int
    day: int
    patterns: list[Pattern] = field(default_factory=list)
    lives: list[Standing] = field(default_factory=list)
    counts: I32 = field(default_factory=lambda: np.zeros((0, _WHATS, _RING), np.int32))

    def reach(self, day: int) -> None:
        """Let the newest day be no earlier than this; forget what is too old then."""
        if day > self.day:
            gone = np.arange(max(self.day + 1, day - _RING + 1), day + 1) % _RING
            self.counts[:, :, gone] = 0
            self.day = day

    def add(self, pattern: Pattern, day: int, most: int, *, low: bool | None) -> None:
        """Count an override of a day that is still kept."""
        place = self._place(pattern, most)
        if place is None:
            return
        cell = self.counts[place, :, day % _RING]
        cell[COUNT] += 1
        if low is not None:
            cell[SURE] += 1
            cell[LOW] += low

    def between(self, first: int, last: int) -> I64:
        """Return int64[places, what]: the sums of the days [first, last], as far as kept."""
        days = np.arange(max(first, self.day - _RING + 1), min(last, self.day) + 1)
        found: I64 = self.counts[:, :, days % _RING].sum(axis=2, dtype=np.int64)
        return found

    def _place(self, pattern: Pattern, most: int) -> int | None:
        """Return the place of a pattern, taken from another if it must be; None for no place."""
        if pattern in self.patterns:
            return self.patterns.index(pattern)
        place = len(self.patterns)
        if place < most:
            self.patterns.append(pattern)
            self.lives.append(Standing())
            if place >= len(self.counts):
                room = np.zeros((max(4, len(self.counts)), _WHATS, _RING), np.int32)
                self.counts = np.concatenate([self.counts, room])
            return place
        closed = [place for place, life in enumerate(self.lives) if not life.open]
        if not closed:  # all places are open findings: what is new must wait
            return None
        ranks = self.counts[:, [COUNT, GHOST]].sum(axis=(1, 2))
        place = min(closed, key=lambda one: (int(ranks[one]), one))
        self.counts[place, GHOST] += self.counts[place, COUNT]
        self.counts[place, [COUNT, SURE, LOW]] = 0
        self.patterns[place], self.lives[place] = pattern, Standing()
        return place


class Patterns:
    """The patterns of all agents of a partition, and the rule on them.

    Args:
        rule: the rule.
        changes: changes of agents; None where none are known.
    """

    def __init__(self, rule: OverridePatternRule, changes: Changes | None) -> None:
        self._rule, self._changes = rule, changes
        self._books: dict[Agent, Book] = {}
        self._open: set[Agent] = set()  # with a life that is open
        self._dirty: set[Agent] = set()

    def __len__(self) -> int:
        """Return how many patterns are remembered."""
        return sum(len(book.patterns) for book in self._books.values())

    def busy(self) -> bool:
        """Return whether every hour matters."""
        return bool(self._open)

    def see(self, review: HumanReview, *, low: bool | None) -> None:
        """Take a review with a verdict.

        Args:
            review: the review.
            low: whether the confidence is low for what is usually confirmed; None for unknown.
        """
        agent, day = Agent(review.tenant, review.agent_id), review.occurred_at // DAY
        book = self._books.setdefault(agent, Book(day, day))
        before = book.born, book.day
        book.born = min(book.born, day)
        book.reach(day)
        if review.verdict == "OVERRIDDEN" and day > book.day - _RING:
            book.add(self._pattern(review), day, self._rule.max_patterns, low=low)
        if review.verdict == "OVERRIDDEN" or before != (book.born, book.day) or not book.patterns:
            self._dirty.add(agent)

    def hour(self, tick: int, evidence: Callable[[int], Evidence]) -> list[Finding]:
        """Look at an hour tick.

        Args:
            tick: a whole hour, ms.
            evidence: gives the evidence of a window that starts then, ms.
        """
        found: list[Finding] = []
        seen = evidence(self._first(tick) * DAY)
        for agent in sorted(self._books, key=_name):
            book = self._books[agent]
            if book.patterns:
                found += self._look(agent, book, tick, seen)
        return found

    def forget(self, agents: Iterable[Agent]) -> None:
        """Drop agents without reviews in the panes."""
        for agent in agents:
            if self._books.pop(agent, None) is not None:
                self._open.discard(agent)
                self._dirty.add(agent)

    # -- judging -----------------------------------------------------------------------------

    def _first(self, tick: int) -> int:
        """Return the first day of the window."""
        return (tick - 1) // DAY - self._rule.days + 1

    def _look(self, agent: Agent, book: Book, tick: int, seen: Evidence) -> list[Finding]:
        first, today = self._first(tick), (tick - 1) // DAY
        book.reach(today)
        if agent not in self._open and not self._many(book.between(first, today)):
            return []  # the usual case
        renewed = self._renewed(agent, tick)
        since = first if renewed is None else max(first, renewed // DAY + 1)
        window = book.between(since, today)
        usual, weeks = usual_count(self._rule, book.born, first, book.between)
        holds = measured(self._rule, window[:, COUNT], usual, weeks)
        found: list[Finding] = []
        for place, pattern in enumerate(book.patterns):
            life = book.lives[place]
            if not (holds[place] or life.open):
                continue
            self._dirty.add(agent)
            turn = self._step(life, tick, renewed, holds=bool(holds[place]))
            if turn is not None:
                numbers = window[place], float(usual[place]), weeks, self._examples(book, place)
                entry = agent, pattern, turn, numbers
                found.append(self._finding(entry, tick, seen))
        still = any(life.open for life in book.lives)
        (self._open.add if still else self._open.discard)(agent)
        return found

    def _many(self, window: I64) -> bool:
        return bool((window[:, COUNT] >= self._rule.min_count).any())

    def _step(self, life: Standing, tick: int, renewed: int | None, *, holds: bool) -> Turn | None:
        if life.started_at is not None and renewed is not None and renewed >= life.started_at:
            return life.end(TransitionReason.CHANGED)
        reasons = (TransitionReason.PATTERN, TransitionReason.PATTERN)
        return life.step(tick, self._rule.quiet_ms, holds=holds, reasons=reasons)

    def _renewed(self, agent: Agent, tick: int) -> int | None:
        """Return when the prompt or model was last changed, as far as the window sees it."""
        return self._last(agent, self._first(tick) * DAY - 1, tick, _RENEWING)

    def _last(self, agent: Agent, since: int, until: int, kinds: frozenset[str]) -> int | None:
        if self._changes is None:
            return None
        events = self._changes.changes(agent, since, until, until)
        return max((one.occurred_at for one in events if one.kind in kinds), default=None)

    def _examples(self, book: Book, place: int) -> I64:
        """Return int64[days kept]: the overrides of a pattern by day, the newest last."""
        days = np.arange(book.day - KEPT_DAYS, book.day + 1)
        found: I64 = book.counts[place, COUNT, days % _RING].astype(np.int64)
        return found

    def _finding(
        self, entry: tuple[Agent, Pattern, Turn, Any], tick: int, seen: Evidence
    ) -> Finding:
        agent, pattern, turn, (window, usual, weeks, examples) = entry
        last = (tick - 1) // DAY
        first = last - len(examples) + 1
        prompt = self._last(agent, first * DAY - 1, tick, frozenset({"PROMPT"}))
        tried = prompt is not None and bool(examples[: max(0, prompt // DAY - first)].any())
        subject = Subject(
            EntityKind.AGENT,
            Entity(agent.tenant, agent.agent_id),
            part=pattern.text,
            task_type=pattern.task_type,
        )
        advice = advised(self._rule, window, int(examples.sum()), tried=tried)
        measure = advice.measure(self._rule, usual, weeks, (self._first(tick) * DAY, tick))
        return watch_finding(
            self._rule,
            subject,
            Happening(turn, tick),
            measure,
            seen,
            retraining_cause=RetrainingCause.OVERRIDE_PATTERN,
            retraining_action=advice.action,
        )

    def _pattern(self, review: HumanReview) -> Pattern:
        codes = (
            review.task_type,
            review.agent_decision,
            review.human_decision,
            review.reason_code,
        )
        return Pattern(*(_cut(code, self._rule.max_code) for code in codes))

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        for agent in sorted(self._dirty, key=_name):
            book = self._books.get(agent)
            value = None if book is None else state.encode("PatternState", _dump(agent, book))
            yield state.pattern_key(_name(agent)), value
        self._dirty.clear()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this."""
        if stored.kind != "PatternState":
            return False
        fields = stored.fields
        agent = Agent(fields["tenant"], fields["agent_id"])
        book = self._books[agent] = _load(fields)
        if any(life.open for life in book.lives):
            self._open.add(agent)
        return True


def _cut(code: str, most: int) -> str:
    """Return a code of at most `most` characters; what is cut leaves a mark of the whole."""
    if len(code) <= most:
        return code
    return f"{code[: most - 9]}~{sha256(code.encode()).hexdigest()[:8]}"


def _name(agent: Agent) -> bytes:
    return json.dumps(agent, ensure_ascii=False, separators=(",", ":")).encode()


def _dump(agent: Agent, book: Book) -> dict[str, Any]:
    counts = book.counts[: len(book.patterns)].reshape(-1)
    places = np.flatnonzero(counts)
    return {
        "tenant": agent.tenant,
        "agent_id": agent.agent_id,
        "born": book.born,
        "day": book.day,
        "task_types": [one.task_type for one in book.patterns],
        "agent_decisions": [one.agent_decision for one in book.patterns],
        "human_decisions": [one.human_decision for one in book.patterns],
        "reason_codes": [one.reason_code for one in book.patterns],
        "started_at": [life.started_at for life in book.lives],
        "quiet_since": [life.quiet_since for life in book.lives],
        "places": places.tolist(),
        "values": counts[places].tolist(),
    }


def _load(fields: dict[str, Any]) -> Book:
    columns = ("task_types", "agent_decisions", "human_decisions", "reason_codes")
    patterns = [Pattern(*one) for one in zip(*(fields[name] for name in columns), strict=True)]
    times = zip(fields["started_at"], fields["quiet_since"], strict=True)
    counts = np.zeros(len(patterns) * _WHATS * _RING, np.int32)
    counts[fields["places"]] = fields["values"]
    return Book(
        fields["born"],
        fields["day"],
        patterns,
        [Standing(*one) for one in times],
        counts.reshape(len(patterns), _WHATS, _RING),
    )
