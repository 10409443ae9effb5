"""Which rules are looked at on the tasks and reviews of a partition, and what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.agent_silence import AgentSilence
from streams.cost import CostWatch
from streams.cost_plan import CostPlanWatch
from streams.cost_rules import windows
from streams.cost_sums import CostSums
from streams.drift import DriftRules, DriftWatch
from streams.findings import Entity, Evidence
from streams.late_tasks import ClosedTasks, LateTasks
from streams.ledger import Table
from streams.low_confidence import LowConfidence
from streams.override_signals import OverrideSignals
from streams.price_step import PriceStepWatch
from streams.queues import Queues
from streams.reasons import EntityKind
from streams.reviews import Around, ReviewDesk
from streams.series import Agent
from streams.task_signals import TaskSignals
from streams.training_schedule import ScheduleWatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.context import Context
    from streams.detect import Detect
    from streams.events import HumanReview
    from streams.rules import RuleSet
    from streams.snapshot import Keeper


class Watches:
    """The rules beside rates and security, tied to what they look at.

    Args:
        rules: the rules.
        detect: tasks and security; its ledger gets the watches.
        context: what is known around the tasks.
        partition: number of the partition.
        topic: full name of a topic by its suffix.

    Attributes:
        reviews: the desk of reviews.
        keepers: what else is to be stored.
    """

    def __init__(
        self,
        rules: RuleSet,
        detect: Detect,
        context: Context,
        *,
        partition: int,
        topic: Callable[[str], str],
        bound: int,
    ) -> None:
        self._rules, self._detect, self._context = rules, detect, context
        self._ledger = detect.ledger
        self._tasks = topic("tasks"), partition
        signals = TaskSignals(self._ledger, rules.drift)
        silence = AgentSilence(rules.silence, self._ledger, context, *self._tasks)
        queue = Queues(rules.queue, self._ledger, context.queues, topic("queues"), partition)
        overrides = OverrideSignals(rules.drift, bound)
        drift = DriftRules(rules.drift, rules.anomalous_output, rules.prompt_review)
        self._ledger.watches += [
            *self._shares(),
            *self._costs(),
            DriftWatch(drift, signals, self._ledger.series.agents, context, self._evidence),
            ScheduleWatch(
                rules.retraining_schedule,
                self._ledger.series.agents,
                context,
                self._evidence,
                signals.volume,
            ),
            silence,
        ]
        self._ledger.minutely += [queue, silence]
        detect.taps.append(
            lambda taken: signals.sampler.add(taken.rows.agent, taken.clocks, taken.events)
        )
        self.reviews = ReviewDesk(
            rules,
            (topic("reviews"), partition),
            bound,
            Around(self._closed_tasks(), detect.tasks_clock, context, self._seen(overrides)),
        )
        self.reviews.watches.append(
            DriftWatch(drift, overrides, overrides.agents, context, self._of_reviews)
        )
        self.keepers: list[Keeper] = [queue]

    def _shares(self) -> list[LowConfidence]:
        return [
            LowConfidence(rule, self._ledger, self._tasks)
            for rule in self._rules.shares
            if rule.low is not None
        ]

    def _costs(self) -> list[CostWatch | PriceStepWatch | CostPlanWatch]:
        rules, ledger = self._rules, self._ledger
        found = windows(rules.cost, rules.price_step)
        sums = CostSums(ledger.series, ledger.task_hours, found, entity)
        kind, weights = EntityKind.AGENT, rules.cost.weights
        return [
            CostWatch(rules.cost, sums, kind, self._since),
            PriceStepWatch(rules.price_step, sums, weights, kind, self._since, self._context),
            CostPlanWatch(
                rules.cost_plan,
                ledger.series,
                ledger.task_hours,
                weights,
                self._context,
                self._since,
            ),
        ]

    def _closed_tasks(self) -> ClosedTasks:
        """Let what came late be told apart, and return tasks as they were when closed."""
        ledger, late = self._ledger, LateTasks()
        ledger.listeners.append(late)
        ledger.tables += [Table("late", late.hours), Table("late-days", late.days)]
        return ClosedTasks(ledger.series, ledger.task_hours, ledger.task_days, late)

    def _seen(self, overrides: OverrideSignals) -> Callable[[HumanReview], None]:
        def seen(review: HumanReview) -> None:
            agent = Agent(review.tenant, review.agent_id)
            clock = self.reviews.clock.now or 0
            overrides.note(agent, clock, overridden=review.verdict == "OVERRIDDEN")

        return seen

    def _since(self, start: int) -> Evidence:
        """Return where the tasks of a window that begins at a time lie."""
        last = self._ledger.last_offset
        return Evidence(*self._tasks, self._ledger.reached.first(start, last), last)

    def _evidence(self, start: int, end: int) -> Evidence:
        del end
        return self._since(start)

    def _of_reviews(self, start: int, end: int) -> Evidence:
        del end
        return self.reviews.evidence(start)


def entity(agent: Agent) -> Entity:
    """Return an agent as the entity of findings."""
    return Entity(agent.tenant, agent.agent_id)
