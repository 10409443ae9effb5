"""The rule on cost per task at constant price, of entities and of the task types of agents.

All entities of a partition are judged every hour by arrays; only where something stirs a life is
stepped. Total cost follows volume and would page at every month-end, so it is not compared: the
cost per task is, at the prices that were usual, and a finding says where a change comes from.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.arms import FIRE, WAKES
from streams.cost_judge import Judged, Totals, judge
from streams.cost_lives import CostLives, of
from streams.cost_rules import PAST_WEEKS, window_text
from streams.cost_sums import COST, SQUARE, SQUARE_UNIT, TASKS
from streams.decomposition import WORDS
from streams.durations import WEEK
from streams.prices import AGENT_MIX, MICRO, explained, priced
from streams.reasons import EntityKind, Transition
from streams.watch import Happening, Measure, Subject, watch_finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from streams.cost_rules import CostRule
    from streams.cost_sums import CostSums, Layout
    from streams.findings import Evidence, Finding
    from streams.life import Turn
    from streams.prices import Priced
    from streams.state import Stored
    from streams.watch import Change

    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]
    Bool = NDArray[np.bool_]

_NAMED = 3  # task types that a sentence names


class _Level(NamedTuple):
    """The subjects of one level: entities, or the task types of each.

    Attributes:
        subjects: what findings are about.
        keys: of their lives.
        owners: int64[subjects], owner of each.
        starts: int64[subjects], place of its first row.
        slices: places of its rows.
    """

    subjects: list[Subject]
    keys: list[bytes]
    owners: I64
    starts: I64
    slices: list[slice]


class _Look(NamedTuple):
    """A level as of a tick: what each arm judged."""

    level: _Level
    tick: int
    found: Priced
    totals: list[Totals]
    judged: list[Judged]


class CostWatch:
    """Watches the cost per task of the entities whose rows some sums hold.

    Args:
        rule: the rule.
        sums: window sums; may be shared with other watches.
        kind: of the entities; task types of AGENT are watched too.
        evidence: where the records of a window that begins at a time lie.
    """

    def __init__(
        self,
        rule: CostRule,
        sums: CostSums,
        kind: EntityKind,
        evidence: Callable[[int], Evidence],
    ) -> None:
        self.rule = rule
        self.lives = CostLives(rule)
        self._sums, self._kind, self._evidence = sums, kind, evidence
        self._places = [sums.windows.index(arm.window_ms) for arm in rule.arms]
        self._layout: Layout | None = None
        self._levels: list[_Level] = []
        self._index: dict[bytes, tuple[int, int]] = {}

    def hour(self, tick: int) -> list[Finding]:
        """Return what an hour tick causes: entities first, then task types."""
        self.lives.prune(tick)
        sums = self._sums.at(tick)
        self._arrange()
        if not len(sums):
            return []
        found = priced(sums, self._sums.windows, self._sums.layout, self.rule.weights)
        looks = [self._look(number, found, tick) for number in range(len(self._levels))]
        return [finding for look in looks for finding in self._live(look, looks)]

    def busy(self) -> bool:
        """Return whether hours without any record matter too."""
        return self.lives.busy()

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        return self.lives.changes()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this watch."""
        return self.lives.restore(stored)

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self.lives.settle()

    def forget(self, agents: Sequence[int], tasks: Sequence[int]) -> None:
        """Drop what is known of series rows that were freed and may be given again."""
        del agents  # an agent is freed with all of its task rows
        self._sums.forget(tasks)

    # -- looking -----------------------------------------------------------------------------

    def _arrange(self) -> None:
        """Name the subjects anew where the rows changed; a life without rows is forgotten."""
        layout = self._sums.layout
        if layout is self._layout:
            return
        self._layout = layout
        self._levels = [_entities(layout, self._kind)]
        if self._kind is EntityKind.AGENT:
            self._levels.append(_task_types(layout))
        self._index = {
            key: (number, place)
            for number, level in enumerate(self._levels)
            for place, key in enumerate(level.keys)
        }
        for key in {*self.lives.marked(), *self.lives.awake()} - self._index.keys():
            self.lives.drop(key)

    def _look(self, number: int, found: Priced, tick: int) -> _Look:
        level = self._levels[number]
        born = self._sums.born()[level.owners]
        touched = np.logical_or.reduceat(self._sums.touched(), level.starts)
        totals = [
            self._totals(number, found, place, (born, tick, arm.window_ms))
            for place, arm in zip(self._places, self.rule.arms, strict=True)
        ]
        judged = [
            judge(self.rule, arm, each, touched)
            for arm, each in zip(self.rule.arms, totals, strict=True)
        ]
        return _Look(level, tick, found, totals, judged)

    def _totals(self, number: int, found: Priced, place: int, when: tuple[I64, int, int]) -> Totals:
        """Return the totals of a level over one window.

        Args:
            number: of the level.
            found: sums of rows.
            place: index of the window.
            when: first hour of each subject, the tick, and the window's length.
        """
        level, (born, tick, window) = self._levels[number], when
        sums = np.add.reduceat(found.sums[:, place], level.starts)
        constant = np.add.reduceat(found.cost[:, place], level.starts)
        starts = tick - window - WEEK * np.arange(1, 1 + PAST_WEEKS)
        whole: Bool = starts >= born[:, None]
        usable: Bool = np.asarray(whole & (sums[:, 1:, TASKS] > 0) & (constant[:, 1:] > 0))
        for key in self.lives.marked():
            at, subject = self._index[key]
            life = self.lives.life(key)
            if at != number or life is None:
                continue
            if life.relearned_from is not None:
                usable[subject] &= starts >= life.relearned_from
            ends = [(start, start + window) for start in starts.tolist()]
            usable[subject] &= np.array([not self.lives.tainted(key, *span) for span in ends])
        return Totals(
            tasks=sums[..., TASKS],
            constant=constant,
            cost=sums[..., COST].astype(np.float64),
            square=SQUARE_UNIT * sums[..., SQUARE].astype(np.float64),
            usable=usable,
        )

    # -- living ------------------------------------------------------------------------------

    def _live(self, look: _Look, looks: Sequence[_Look]) -> list[Finding]:
        """Step the lives of a level that stir."""
        cells = np.stack([each.cells for each in look.judged])
        stirs: Bool = np.asarray((cells >= WAKES).any(axis=0))
        for key in self.lives.awake():
            number, place = self._index[key]
            if self._levels[number] is look.level:
                stirs[place] = True
        findings: list[Finding] = []
        for place in np.flatnonzero(stirs).tolist():
            key = look.level.keys[place]
            for turn in self.lives.step(key, look.tick, cells[:, place].tolist()):
                wanted = self.rule.page and not self._told(look, place)
                page = self.lives.pages(key, turn, wanted=wanted)
                findings.append(self._finding(look, looks, place, turn, page=page))
        return findings

    def _told(self, look: _Look, place: int) -> bool:
        """Return whether the alert of the agent, or of one of its task types, says it already."""
        owner = int(look.level.owners[place])
        if look.level is not self._levels[0]:
            return self.lives.firing(self._levels[0].keys[owner])
        return any(
            level.keys[other] in self.lives.paged
            for level in self._levels[1:]
            for other in np.flatnonzero(level.owners == owner).tolist()
        )

    def _finding(
        self, look: _Look, looks: Sequence[_Look], place: int, turn: Turn, *, page: bool
    ) -> Finding:
        arm = self.rule.arms[turn.arm]
        measure = self._measure(look, place, turn.arm)
        if turn.transition is not Transition.RESOLVED and measure.detail is not None:
            measure = replace(measure, detail=measure.detail + self._types(look, looks, place))
        return watch_finding(
            self.rule,
            look.level.subjects[place],
            Happening(turn, look.tick, arm.name),
            measure,
            self._evidence(measure.window_start),
            page=page,
        )

    def _measure(self, look: _Look, place: int, arm: int) -> Measure:
        """Return what an arm measured of a subject, in dollars."""
        judged, totals = look.judged[arm], look.totals[arm]
        window = self.rule.arms[arm].window_ms
        n, weeks = int(totals.tasks[place, 0]), int(judged.weeks[place])
        mean = float(totals.constant[place, 0]) / MICRO / n if n else 0.0
        usual = float(np.exp(judged.usual[place])) / MICRO if weeks else None
        sure = float(np.exp(self.rule.interval_z * judged.error[place])) if n and weeks else None
        rows = look.level.slices[place]
        whole = look.level is self._levels[0] and self._kind is EntityKind.AGENT
        mix = AGENT_MIX if whole else WORDS["mix"]
        why = explained(look.found, rows, self._places[arm], totals.usable[place], mix)
        text = why.text and f"{window_text(window)} against the usual: {why.text}"
        return Measure(
            value=mean,
            threshold=0.0 if usual is None else usual * float(np.exp(judged.limit[place])),
            sample_count=n,
            window_start=look.tick - window,
            window_end=look.tick,
            baseline=usual,
            low=None if sure is None else mean / sure,
            high=None if sure is None else mean * sure,
            weeks=weeks,
            detail=text,
            numbers=why.numbers,
        )

    def _types(self, of_agents: _Look, looks: Sequence[_Look], owner: int) -> str:
        """Return the task types of an agent on which the rule fires too, as the end of a text."""
        if of_agents is not looks[0] or len(looks) == 1:
            return ""
        look = looks[1]
        cells = np.bitwise_or.reduce([each.cells for each in look.judged])
        names = [
            str(look.level.subjects[place].task_type)
            for place in np.flatnonzero(look.level.owners == owner).tolist()
            if cells[place] & FIRE or self.lives.firing(look.level.keys[place])
        ]
        if not names:
            return ""
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return f"; in {', '.join(names[:_NAMED])}{more}"


def _entities(layout: Layout, kind: EntityKind) -> _Level:
    return _Level(
        subjects=[Subject(kind, entity) for entity in layout.entities],
        keys=[of(kind, entity).key for entity in layout.entities],
        owners=np.arange(len(layout.owners)),
        starts=layout.owner_starts,
        slices=[layout.owner_rows(owner) for owner in range(len(layout.owners))],
    )


def _task_types(layout: Layout) -> _Level:
    kind, entities = EntityKind.AGENT, layout.entities
    return _Level(
        subjects=[Subject(kind, entities[owner], task_type=name) for owner, name in layout.types],
        keys=[of(kind, entities[owner], name).key for owner, name in layout.types],
        owners=np.array([owner for owner, _ in layout.types], np.int64),
        starts=layout.type_starts,
        slices=[layout.type_rows(number) for number in range(len(layout.types))],
    )
