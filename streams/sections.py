"""Which entities the roll-up stage keeps, in which ledgers, and which rules look at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from streams import operations
from streams.calls import CALLS
from streams.cost import CostWatch
from streams.cost_rules import windows
from streams.cost_sums import CostSums
from streams.findings import Entity, Evidence
from streams.integrations import Integrations
from streams.layout import TASKS, Layout
from streams.ledger import Ledger
from streams.operations import SEPARATOR, Source
from streams.partials import Kind, Stream
from streams.price_step import PriceStepWatch
from streams.reasons import EntityKind
from streams.rollup import RollUp, Section
from streams.watch import Subject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.rules import RuleSet
    from streams.series import Agent, Task

FLEET = "fleet"
"""Id of the whole workforce."""


def roll_up(rules: RuleSet, *, max_series: int, sources: int, source: tuple[str, int]) -> RollUp:
    """Return an empty roll-up with all its ledgers.

    Args:
        rules: the rules.
        max_series: most entities of each ledger.
        sources: how many partitions the input topics have.
        source: topic and partition of the partials, for the evidence.
    """
    sections = [
        _fleet(rules, max_series),
        _task_types(rules, max_series, source),
        _operations(rules, max_series, source),
    ]
    return RollUp(sections, sources=sources, source=source)


def _fleet(rules: RuleSet, bound: int) -> Section:
    layout = _tasks("fleet", _fleet_window)
    ledger = Ledger(rules.fleet, bound, layout)
    kinds = frozenset({Kind.FLEET, Kind.TENANT})
    return Section(ledger, Stream.TASKS, kinds, _fleet_subject)


def _task_types(rules: RuleSet, bound: int, source: tuple[str, int]) -> Section:
    ledger = Ledger((), bound, _tasks("task-types", _task_type_window))
    found = windows(rules.cost, rules.price_step)
    sums = CostSums(ledger.series, ledger.task_hours, found, _entity)
    kind = EntityKind.TASK_TYPE

    def evidence(start: int) -> Evidence:
        last = ledger.last_offset
        return Evidence(*source, ledger.reached.first(start, last), last)

    weights = rules.cost.weights
    ledger.watches += [
        CostWatch(rules.cost, sums, kind, evidence),
        PriceStepWatch(rules.price_step, sums, weights, kind, evidence),
    ]
    kinds = frozenset({Kind.TASK_TYPE})
    return Section(ledger, Stream.TASKS, kinds, lambda agent: Subject(kind, _entity(agent)))


def _operations(rules: RuleSet, bound: int, source: tuple[str, int]) -> Section:
    layout = Layout("operations", CALLS.sums, CALLS.columns, _operation_window)
    ledger = Ledger((rules.integration_errors,), bound, layout)
    integrations = Integrations(rules, ledger, Source(*source))
    ledger.watches.append(integrations)
    ledger.holders.append(integrations.holds)
    kinds = frozenset({Kind.OPERATION})
    return Section(ledger, Stream.CALLS, kinds, operations.subject, integrations)


def _tasks(table: str, window: Any) -> Layout:
    return Layout(table, TASKS.sums, TASKS.columns, window)


def _entity(agent: Agent) -> Entity:
    return Entity(agent.tenant, agent.agent_id)


def _fleet_subject(agent: Agent) -> Subject:
    if agent.agent_id == FLEET:
        return Subject(EntityKind.FLEET, Entity(None, FLEET))
    return Subject(EntityKind.TENANT, Entity(agent.tenant, agent.tenant or ""))


def _fleet_window(agent: Agent, task: Task) -> Mapping[str, Any]:
    del task
    series = "FLEET" if agent.agent_id == FLEET else "TENANT"
    return {"tenant": agent.tenant, "agent_id": "", "task_type": "", "series": series}


def _task_type_window(agent: Agent, task: Task) -> Mapping[str, Any]:
    return {
        "tenant": agent.tenant,
        "agent_id": "",
        "task_type": agent.agent_id,
        "series": "TASK_TYPE",
        "model": task.model,
    }


def _operation_window(agent: Agent, task: Task) -> Mapping[str, Any]:
    del task
    integration, _, operation = agent.agent_id.partition(SEPARATOR)
    return {
        "tenant": agent.tenant,
        "agent_id": "",
        "task_type": "",
        "series": "INTEGRATION",
        "integration": integration,
        "operation": operation,
    }
