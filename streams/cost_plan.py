"""The rule on the cost of a day against the plan in the agent's profile.

A day is looked at at each of its hours: what it has cost, and what it will have cost at its end
when the rest of it is like the same hours of the past weeks. How far such projections err is seen
from the past four weeks, each day of which is projected as today is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from streams.arms import CLEAR, ENOUGH, FIRE, JUDGEABLE, WAKES
from streams.cost_lives import CostLives, of
from streams.cost_rules import PAST_WEEKS
from streams.cost_sums import effective
from streams.decomposition import Cells
from streams.durations import DAY, HOUR, WEEK
from streams.findings import Entity
from streams.hourly_cost import HourlyCost
from streams.prices import AGENT_MIX, MICRO, Explained, explain
from streams.reasons import EntityKind
from streams.watch import Happening, Measure, Subject, watch_finding
from streams.zones import Day, day_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from streams.cost_rules import CostPlanRule, PlanArm, TokenWeights
    from streams.findings import Evidence, Finding
    from streams.life import Turn
    from streams.panes import Panes
    from streams.series import Agent, Series
    from streams.state import Stored
    from streams.watch import Change

    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]
    Bool = NDArray[np.bool_]

PAST_DAYS = 28
"""Days before today that are projected to see how far projections err."""


class Profile(Protocol):
    """What the rule reads of a profile."""

    @property
    def daily_cost_plan_usd(self) -> float | None:
        """Planned cost of a day; None for no plan."""

    @property
    def time_zone(self) -> str:
        """Zone its days are of."""


class Profiles(Protocol):
    """Where profiles of agents can be looked up."""

    def profile(self, agent: Agent) -> Profile | None:
        """Return the profile of an agent."""


class Projected(NamedTuple):
    """A day as of one of its hours; arrays [agents], micro-dollars.

    Attributes:
        spent: float64, until now.
        end: float64, at its end; what was spent where no past is known.
        low: float64, lower end of the interval of `end`.
        high: float64, upper end.
        usual: float64, a usual day; NaN for none.
        weeks: int64, past weeks behind it.
    """

    spent: F64
    end: F64
    low: F64
    high: F64
    usual: F64
    weeks: I64


def project(arm: PlanArm, before: F64, after: F64, usable: Bool) -> Projected:
    """Project the end of a day from its part so far and from the same parts of past days.

    The rest of a day is the mean rest of the same weekday in the past weeks, times
    (spent + rest) / (usual part + rest): early in the day the past decides, late the day itself.

    Args:
        arm: the setting.
        before: float64[agents, 1 + 28], cost until this hour of the day, today first, then by age.
        after: float64[agents, 1 + 28], cost of the rest of the day; that of today is not read.
        usable: bool[agents, 28], past days that may teach anything.
    """
    rest, part, weeks = (one[:, 0] for one in _same_weekday(before, after, usable, others=False))
    spent = before[:, 0]
    known = weeks > 0
    ahead = np.where(known, rest * _level(spent, part, rest), 0.0)
    expected, own, others = _same_weekday(before, after, usable, others=True)
    expected = expected * _level(before[:, 1:], own, expected)
    good = usable & (others > 0) & (expected > 0) & (after[:, 1:] > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(good, np.log(after[:, 1:] / expected), 0.0)
    number = np.count_nonzero(good, axis=1)
    spread = np.sqrt(np.square(errors).sum(axis=1) / np.maximum(number, 1))
    spread = np.where(number >= arm.min_errors, spread, np.fmax(spread, arm.prior_error))
    factor = np.exp(arm.z * spread)
    return Projected(
        spent=spent,
        end=spent + ahead,
        low=spent + ahead / factor,
        high=spent + ahead * factor,
        usual=np.where(known, part + rest, np.nan),
        weeks=weeks.astype(np.int64),
    )


def expected(before: F64, after: F64, usable: Bool) -> F64:
    """Return float64[agents], the end of `project` by the days of the same weekday alone.

    Args:
        before: float64[agents, 1 + weeks], see `project`.
        after: float64[agents, 1 + weeks].
        usable: bool[agents, weeks].
    """
    number = np.maximum(np.count_nonzero(usable, axis=1), 1)
    part, rest = (np.where(usable, one[:, 1:], 0.0).sum(axis=1) / number for one in (before, after))
    found: F64 = np.asarray(before[:, 0] + rest * _level(before[:, 0], part, rest))
    return found


def _same_weekday(before: F64, after: F64, usable: Bool, *, others: bool) -> tuple[F64, F64, F64]:
    """Return (mean rest, mean part, number) of past days of the same weekday.

    Args:
        before: see `project`.
        after: see `project`.
        usable: see `project`.
        others: for each past day, without itself: [agents, 28]; else for today: [agents, 1].
    """
    shape = (len(usable), PAST_WEEKS, 7)  # ages 1 … 28: column 6 is the weekday of today
    ok = usable.reshape(shape)
    found = []
    for values in (after, before):
        each = np.where(ok, values[:, 1:].reshape(shape), 0.0)
        found.append(each.sum(axis=1, keepdims=True) - (each if others else 0.0))
    number = ok.sum(axis=1, keepdims=True) - (ok if others else 0)
    rest, part = (sums / np.maximum(number, 1) for sums in found)
    if others:
        flat = (len(usable), PAST_DAYS)
        return rest.reshape(flat), part.reshape(flat), number.reshape(flat).astype(np.float64)
    return rest[:, 0, 6:], part[:, 0, 6:], number[:, 0, 6:].astype(np.float64)


def _level(spent: F64, part: F64, rest: F64) -> F64:
    """Return how busy a day is, in usual days."""
    total = part + rest
    return np.where(total > 0, (spent + rest) / np.where(total > 0, total, 1.0), 1.0)


class _Planned(NamedTuple):
    """Agents with a plan whose day is the same: rows, plans in micro-dollars, and the day."""

    rows: list[int]
    plans: F64
    day: Day


class CostPlanWatch:
    """Watches the cost of the day of each agent that has a plan.

    Args:
        rule: the rule.
        series: which agents and task rows there are.
        hours: hour panes of task rows.
        weights: what makes an effective token.
        context: where profiles are looked up.
        evidence: where the records of a window that begins at a time lie.
    """

    def __init__(
        self,
        rule: CostPlanRule,
        series: Series,
        hours: Panes,
        weights: TokenWeights,
        context: Profiles,
        evidence: Callable[[int], Evidence],
    ) -> None:
        self.rule = rule
        self.lives = CostLives(rule)
        self._series, self._hours, self._weights = series, hours, weights
        self._context, self._evidence = context, evidence
        self._cost = HourlyCost(series, hours)

    def hour(self, tick: int) -> list[Finding]:
        """Return what an hour tick causes; it looks at the day that holds the hour before it."""
        self.lives.prune(tick)
        groups = self._groups(tick)
        rows = sorted(row for group in groups for row in group.rows)
        hourly = self._cost.at(tick, rows)
        place = {row: at for at, row in enumerate(rows)}
        findings: list[Finding] = []
        for group in groups:
            some = np.array([place[row] for row in group.rows], np.int64)
            findings += self._judge(group, hourly, some, tick)
        return findings + self._end(tick, rows)

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
        self._cost.forget(agents, tasks)

    # -- looking -----------------------------------------------------------------------------

    def _groups(self, tick: int) -> list[_Planned]:
        """Return the agents with a plan, by their day, in order."""
        found: dict[Day, list[tuple[int, float]]] = {}
        for row, agent in sorted(self._series.agents.items()):
            profile = self._context.profile(agent)
            if profile is None or profile.daily_cost_plan_usd is None:
                continue
            day = day_of(profile.time_zone, tick - 1)
            found.setdefault(day, []).append((row, profile.daily_cost_plan_usd * MICRO))
        return [
            _Planned([row for row, _ in some], np.array([plan for _, plan in some]), day)
            for day, some in sorted(found.items())
        ]

    def _judge(self, group: _Planned, hourly: I64, places: I64, tick: int) -> list[Finding]:
        """Step the agents of one day that stir: whose day may end past the limit, or is open.

        Args:
            group: the agents.
            hourly: int64[all agents, hours], cost of the hours before the tick, the newest last.
            places: int64[agents], their places in it.
            tick: ms.
        """
        arm, limits = self.rule.arms[0], self.rule.arms[0].factor * group.plans
        weeks = 7 * np.arange(1 + PAST_WEEKS)
        mine = hourly if len(places) == len(hourly) else hourly[places]  # all need no copy
        likely = expected(*self._parts(group, mine, tick, weeks))
        awake = set(self.lives.awake())
        stirs = [
            place
            for place, row in enumerate(group.rows)
            if likely[place] > limits[place] or (awake and self._key(row) in awake)
        ]
        some = _Planned([group.rows[place] for place in stirs], group.plans[stirs], group.day)
        days = np.arange(1 + PAST_DAYS)
        found = project(arm, *self._parts(some, mine[stirs], tick, days))
        limits = limits[stirs]
        fire = (found.low > limits) | (found.spent > limits)
        findings: list[Finding] = []
        for place, row in enumerate(some.rows):
            life = self.lives.life(self._key(row))
            fired = None if life is None else life.fired_at
            over = fired is not None and fired <= group.day.start
            cell = ENOUGH | JUDGEABLE | (CLEAR if over else 0)
            cell |= FIRE | WAKES if fire[place] else 0
            for turn in self.lives.step(self._key(row), tick, [cell]):
                measure = self._measure(some, place, found, tick)
                findings.append(self._finding(self._series.agents[row], turn, tick, measure))
        return findings

    def _key(self, row: int) -> bytes:
        return of(EntityKind.AGENT, Entity(*self._series.agents[row])).key

    def _end(self, tick: int, rows: Sequence[int]) -> list[Finding]:
        """End the alerts of agents other than these, whose plan is gone."""
        awake = self.lives.awake()
        if not awake:
            return []
        planned = {self._key(row) for row in rows}
        agents = {self._key(row): agent for row, agent in self._series.agents.items()}
        findings: list[Finding] = []
        for key in awake:
            if key in planned:
                continue
            if key not in agents:
                self.lives.drop(key)
                continue
            measure = Measure(
                value=0.0,
                threshold=0.0,
                sample_count=0,
                window_start=tick - HOUR,
                window_end=tick,
                detail="the profile names no plan any more",
            )
            turns = self.lives.step(key, tick, [ENOUGH | JUDGEABLE | CLEAR])
            findings += [self._finding(agents[key], turn, tick, measure) for turn in turns]
        return findings

    def _parts(self, group: _Planned, hourly: I64, tick: int, ages: I64) -> tuple[F64, F64, Bool]:
        """Return the cost until now and of the rest of days of some ages, and which count.

        Args:
            group: the agents.
            hourly: int64[agents, hours], the newest last.
            tick: ms.
            ages: int64[days], in days; that of today, 0, first.
        """
        day, width = group.day, hourly.shape[1]
        before, after = np.zeros((2, len(hourly), len(ages)))
        for column, age in enumerate(ages.tolist()):
            start, now, end = (
                width + (time - tick - age * DAY) // HOUR for time in (day.start, tick, day.end)
            )
            before[:, column] = hourly[:, start:now].sum(axis=1)
            after[:, column] = hourly[:, now:end].sum(axis=1)  # of today nothing is there yet
        born = self._series.born[np.array(group.rows, np.int64)]
        whole = day.start - DAY * ages[1:] >= born[:, None]
        usable: Bool = np.asarray(whole & (before[:, 1:] + after[:, 1:] > 0))
        return before, after, usable

    # -- finding -----------------------------------------------------------------------------

    def _measure(self, group: _Planned, place: int, found: Projected, tick: int) -> Measure:
        """Return what was measured of an agent, in dollars."""
        spent, end, low, high, usual = (float(each[place]) / MICRO for each in found[:5])
        plan, weeks = float(group.plans[place]) / MICRO, int(found.weeks[place])
        tasks, why = self._explained(group.rows[place], group.day, tick)
        text = f"{spent:.2f} USD spent of {plan:.2f} planned"
        if tick < group.day.end and weeks:
            text += f", {end:.2f} ({low:.2f} to {high:.2f}) expected at the end of the day"
        if why.text is not None:
            text += f"; so far against the usual: {why.text}"
        return Measure(
            value=end,
            threshold=plan * self.rule.arms[0].factor,
            sample_count=tasks,
            window_start=group.day.start,
            window_end=tick,
            baseline=usual if weeks else None,
            low=low,
            high=high,
            weeks=weeks,
            detail=text,
            numbers={"spent_usd": spent, "plan_usd": plan, **why.numbers},
        )

    def _finding(self, agent: Agent, turn: Turn, tick: int, measure: Measure) -> Finding:
        entity = Entity(*agent)
        key = of(EntityKind.AGENT, entity).key
        page = self.lives.pages(key, turn, wanted=self.rule.page)
        return watch_finding(
            self.rule,
            Subject(EntityKind.AGENT, entity),
            Happening(turn, tick, self.rule.arms[0].name),
            measure,
            self._evidence(measure.window_start),
            page=page,
        )

    def _explained(self, agent: int, day: Day, tick: int) -> tuple[int, Explained]:
        """Return the tasks of the day so far, and where its cost comes from."""
        rows = np.array(self._cost.rows(agent), np.int64)
        number = (tick - day.start) // HOUR
        spans = [self._cells(rows, day.start - WEEK * week, number) for week in range(5)]
        past = [span for span in spans[1:] if span.tasks.any()]
        tasks = int(spans[0].tasks.sum())
        if not past:
            return tasks, Explained({}, None)
        usual = Cells(*(np.mean([span[part] for span in past], axis=0) for part in range(3)))
        return tasks, explain(usual, spans[0], AGENT_MIX)

    def _cells(self, rows: I64, start: int, hours: int) -> Cells:
        """Return what rows did in some hours."""
        counts = self._hours.counts(rows, start // HOUR, hours)
        sums = self._hours.sums(rows, start // HOUR, hours).sum(axis=1)
        # In the order of `cost_sums`: tasks, cost, squares, input, output, cached.
        columns = np.stack([counts.sum(axis=(1, 2)), *(sums[:, at] for at in (0, 5, 2, 3, 4))], 1)
        tokens = effective(columns, self._weights)
        return Cells(columns[:, 0].astype(float), tokens, columns[:, 1].astype(float))
