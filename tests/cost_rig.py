"""A small fleet in hour panes, for the rules on cost: filled by the hour, watched at each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.cost import CostWatch
from streams.cost_rules import windows
from streams.cost_sums import CostSums
from streams.durations import DAY, HOUR
from streams.findings import Entity, Evidence, Finding
from streams.panes import Panes
from streams.reasons import EntityKind
from streams.rules import RuleSet
from streams.series import Agent, Series

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from streams.watch import Watch

    I64 = NDArray[np.int64]

RULES = RuleSet.default()
START = 20_458 * DAY
"""Monday 2026-01-05, 00:00 UTC."""

EVIDENCE = Evidence("agentops.tasks", 0, 1, 2)
CLAIMS = Agent(None, "claims")


class Work(NamedTuple):
    """What one task costs and takes; price 1 is a micro-dollar for an effective token."""

    tokens: int = 10_000
    price: float = 1.0

    @property
    def cost(self) -> int:
        return round(self.tokens * self.price)


class Fleet:
    """Series and hour panes, filled by hand.

    Args:
        series: the task series, in the order of their rows.
    """

    def __init__(self, series: Iterable[tuple[Agent, str, str | None]]) -> None:
        self.series = Series(1 << 20)
        self.rows: dict[tuple[Agent, str, str | None], int] = {}
        self.hours = Panes(HOUR, DAY // HOUR, 60, 6, published=True)
        for one in series:
            self.join(*one)

    def join(self, agent: Agent, task_type: str, model: str | None) -> int:
        self.series.add(agent, task_type, model)
        row = next(r for r, t in self.series.tasks.items() if r not in self.rows.values())
        self.rows[agent, task_type, model] = row
        self.hours.reserve(self.series.task_rows)
        return row

    def add(self, rows: ArrayLike, hours: ArrayLike, tasks: ArrayLike, sums: I64) -> None:
        """Add panes.

        Args:
            rows: int[n], task rows.
            hours: int[n], start of the hour of each, ms.
            tasks: int[n], above 0.
            sums: int64[6, n], the sums of the panes.
        """
        rows, hours = np.asarray(rows, np.int64), np.asarray(hours, np.int64)
        agents = np.array([self.series.tasks[row].agent for row in rows.tolist()], np.int64)
        self.series.bear(agents, hours)
        none = np.zeros(len(rows), np.int64)
        self.hours.add(rows, hours // HOUR, none, list(sums), np.asarray(tasks, np.int64))

    def work(
        self, row: int, span: tuple[int, int], tasks: ArrayLike = 50, work: Work | None = None
    ) -> None:
        """Let a series do equal tasks in each hour of [start, end), ms."""
        work = work or Work()
        hours = np.arange(*span, HOUR)
        number = np.broadcast_to(np.asarray(tasks, np.int64), hours.shape)
        some = number > 0
        hours, number = hours[some], number[some]
        if not len(hours):
            return
        each = (work.cost, 1_000, work.tokens, 0, 0, (work.cost >> 3) ** 2)
        sums = np.array([number * one for one in each], np.int64)
        self.add(np.full(len(hours), row), hours, number, sums)

    def sums(self, kind: EntityKind = EntityKind.AGENT) -> CostSums:
        del kind
        found = windows(RULES.cost, RULES.price_step)
        return CostSums(self.series, self.hours, found, entity)

    def cost_watch(self, kind: EntityKind = EntityKind.AGENT) -> CostWatch:
        return CostWatch(RULES.cost, self.sums(), kind, evidence)


def entity(agent: Agent) -> Entity:
    return Entity(agent.tenant, agent.agent_id)


def evidence(start: int) -> Evidence:
    del start
    return EVIDENCE


def look(watch: Watch, first: int, last: int) -> list[Finding]:
    """Return the findings of the hour ticks in [first, last]."""
    return [one for tick in range(first, last + 1, HOUR) for one in watch.hour(tick)]


def told(findings: Sequence[Finding]) -> list[str]:
    """Return what happened, without the hours: `FIRING 24h` or `FIRING 24h invoice`."""
    return [" ".join(filter(None, (f.transition, f.arm, f.task_type, f.kind))) for f in findings]
