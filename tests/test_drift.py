"""Drift, without a broker: what opens, joins, grows, ends, and that nothing forgets it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from streams import state
from streams.columns import AUTOMATED, FAILED, DictColumn, Ragged, TaskColumns
from streams.drift import DriftRules, DriftWatch
from streams.durations import DAY, HOUR, MINUTE
from streams.events import AgentProfile
from streams.events import Change as ChangeEvent
from streams.findings import Evidence, Finding
from streams.layout import TASKS
from streams.ledger import Ledger
from streams.override_signals import OverrideSignals
from streams.reasons import RetrainingAction, RetrainingCause, TransitionReason
from streams.rules import RuleSet
from streams.series import Agent
from streams.task_signals import TaskSignals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    I64 = NDArray[np.int64]
    F64 = NDArray[np.float64]

RULES = RuleSet.default()
START = 20_003 * DAY
AGENTS = (Agent(None, "claims-agent"), Agent("acme", "booking-agent"))
TASKS_AN_HOUR = 6
WARM = 20


class Surroundings:
    """Profiles and changes as a test wants them."""

    def __init__(self) -> None:
        self.profiles: dict[Agent, AgentProfile] = {}
        self.events: list[ChangeEvent] = []

    def profile(self, agent: Agent) -> AgentProfile | None:
        return self.profiles.get(agent)

    def changes(
        self, agent: Agent, since: int, until: int, as_of: int | None = None
    ) -> list[ChangeEvent]:
        del as_of
        return [
            one
            for one in self.events
            if (one.tenant, one.agent_id) == agent and since < one.occurred_at <= until
        ]

    def change(self, at: int, kind: str) -> None:
        self.events.append(
            ChangeEvent(
                event_id="e", occurred_at=at, agent_id="claims-agent", kind=kind, to_version="v2"
            )
        )


class Values(NamedTuple):
    """What an hour of all agents looks like; arrays by task."""

    confidence: F64
    output: F64
    amount: F64
    failed: NDArray[np.bool_]
    kinds: list[str | None]


Shape = "Callable[[int, np.random.Generator], Values]"


def calm(day: int, rng: np.random.Generator) -> Values:
    """A season of the week, and noise."""
    n = len(AGENTS) * TASKS_AN_HOUR
    weekend = (day + 3) % 7 >= 5
    return Values(
        confidence=np.clip(0.8 - 0.05 * weekend + 0.05 * rng.standard_normal(n), 0, 1),
        output=np.exp(5 + 0.5 * rng.standard_normal(n)),
        amount=100 + 20 * rng.standard_normal(n),
        failed=rng.random(n) < 0.05,
        kinds=[("claim", "quote")[one] for one in (rng.random(n) < 0.3).astype(int).tolist()],
    )


def after(days: int, **shift: Any) -> Callable[[int, np.random.Generator], Values]:
    """From a day on, the first agent's values are others: a function of what they were."""

    def shape(day: int, rng: np.random.Generator) -> Values:
        values = calm(day, rng)
        if day - START // DAY < days:
            return values
        first = slice(0, TASKS_AN_HOUR)
        for name, change in shift.items():
            column = getattr(values, name)
            column[first] = change(column[first])
        return values

    return shape


class World:
    """A partition in miniature, which lives hour by hour."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.ledger = Ledger((), 100, TASKS)
        self.context = Surroundings()
        for agent in AGENTS:
            for kind in ("claim", "quote", "other"):
                self.ledger.series.add(agent, kind)
        self.ledger.reserve()
        self.watch, self.source = self.fresh()
        self.found: list[Finding] = []
        self.stored: dict[bytes, bytes] = {}
        self.now = START

    def fresh(self) -> tuple[DriftWatch, TaskSignals]:
        source = TaskSignals(self.ledger, RULES.drift)
        rules = DriftRules(RULES.drift, RULES.anomalous_output, RULES.prompt_review)
        agents = self.ledger.series.agents
        evidence = partial(Evidence, "agentops.tasks", 3)
        watch = DriftWatch(rules, source, agents, self.context, evidence)
        return watch, source

    def run(self, days: float, shape: Callable[[int, np.random.Generator], Values] = calm) -> None:
        for _ in range(int(days * 24)):
            self.hour(shape(self.now // DAY, self.rng))

    def hour(self, values: Values) -> None:
        n = len(values.confidence)
        agents = np.repeat([self.ledger.series.row(agent) for agent in AGENTS], TASKS_AN_HOUR)
        times = self.now + np.tile(np.arange(TASKS_AN_HOUR) * 9 * MINUTE, len(AGENTS))
        order = np.argsort(times, kind="stable")
        outcome = np.where(values.failed, FAILED, AUTOMATED).astype(np.int8)
        columns = TaskColumns(
            occurred_at=times,
            outcome=outcome,
            cost_micro=np.full(n, 20_000),
            duration_us=np.full(n, 1_000),
            input_tokens=np.full(n, 500),
            output_tokens=values.output.astype(np.int64),
            cached_tokens=np.zeros(n, np.int64),
            tenant=DictColumn.of([AGENTS[row].tenant for row in agents.tolist()]),
            agent=DictColumn.of([AGENTS[row].agent_id for row in agents.tolist()]),
            task_type=DictColumn.of(values.kinds),
            confidence=values.confidence,
            features=Ragged.of([[x] for x in values.amount.tolist()]),
        ).take(order)
        agents = agents[order]
        self.source.sampler.add(agents, columns.occurred_at, columns)
        hours = columns.occurred_at // HOUR
        rows = np.array(
            [
                self.ledger.series.rows(AGENTS[row], str(kind))[1]
                for row, kind in zip(agents.tolist(), columns.task_type.to_list(), strict=True)
            ]
        )
        self.ledger.agent_hours.add(agents, hours, columns.outcome.astype(np.int64))
        cost = [columns.cost_micro] + [np.zeros(n, np.int64)] * (len(TASKS.sums) - 1)
        self.ledger.task_hours.add(rows, hours, columns.outcome.astype(np.int64), cost)
        self.now += HOUR
        if self.now % DAY == 0:
            self.ledger.agent_hours.expire(self.now - 36 * DAY)
            self.ledger.task_hours.expire(self.now - 36 * DAY)
        self.found += self.watch.hour(self.now)

    def restart(self) -> None:
        """Write the state, and go on with what reads it."""
        store(self.stored, self.watch.changes())
        self.watch, self.source = self.fresh()
        revive(self.watch, self.stored)


def store(stored: dict[bytes, bytes], changes: Iterable[tuple[bytes, bytes | None]]) -> None:
    for key, value in changes:
        if value is None:
            stored.pop(key, None)
        else:
            stored[key] = value


def revive(watch: DriftWatch, stored: dict[bytes, bytes]) -> None:
    for one in state.decode(stored.items()):
        assert watch.restore(one)
    watch.settle()
    assert list(watch.changes()) == []


def said(found: list[Finding]) -> list[tuple[str, str, str, str | None]]:
    return [(str(one.rule), str(one.transition), str(one.reason), one.kind) for one in found]


LOW = {"confidence": lambda x: x - 0.08}


@pytest.fixture(scope="module")
def warm() -> dict[bytes, bytes]:
    """State after some undisturbed weeks, with which every test begins."""
    world = World()
    world.run(WARM)
    assert world.found == []
    world.restart()
    return world.stored


@pytest.fixture
def world(warm: dict[bytes, bytes]) -> World:
    world = World(seed=1)
    world.stored = dict(warm)
    world.now = START + WARM * DAY
    revive(world.watch, world.stored)
    return world


def test_a_fall_of_confidence_is_found_and_told_with_its_numbers(world: World) -> None:
    world.run(6, after(WARM, **LOW))

    first = next(one for one in world.found if one.rule == "drift")
    numbers = dict(zip(first.measure_names, first.measure_values, strict=True))
    assert (str(first.transition), first.kind, first.entity_id) == (
        "FIRING",
        "confidence",
        "claims-agent",
    )
    assert (first.severity, first.page) == (RULES.drift.severity, False)
    assert first.retraining_cause is RetrainingCause.PERFORMANCE_DRIFT
    assert first.retraining_action is RetrainingAction.THRESHOLD
    assert numbers["direction"] == -1
    assert numbers["magnitude"] == first.value > 2
    assert numbers["reference_mean"] == pytest.approx(0.785, abs=0.01)
    assert numbers["current_mean"] == pytest.approx(0.70, abs=0.04)
    assert numbers["tasks_per_day"] * 0.02 == pytest.approx(numbers["cost_per_day"])
    assert numbers["signal:confidence"] < -2
    assert first.at - (START + WARM * DAY) < 3 * DAY


def test_a_shift_within_what_the_rule_leaves_alone_is_not_told(world: World) -> None:
    world.run(12, after(WARM, confidence=lambda x: x - 0.001))

    assert [one for one in world.found if one.kind == "confidence"] == []


def test_a_shift_that_goes_away_resolves_after_a_quiet_week(world: World) -> None:
    world.run(5, after(WARM, **LOW))
    world.run(11)

    last = [one for one in world.found if one.rule == "drift"][-1]
    assert (str(last.transition), last.reason) == ("RESOLVED", TransitionReason.QUIET)
    assert 6 * DAY <= last.at - (START + (WARM + 5) * DAY) < 12 * DAY


def test_a_new_model_resolves_a_drift_and_begins_anew(world: World) -> None:
    world.run(5, after(WARM, **LOW))
    world.context.change(world.now + 30 * MINUTE, "MODEL")
    world.run(2, after(WARM, **LOW))

    drift = said([one for one in world.found if one.rule == "drift"])
    assert drift[-1] == ("drift", "RESOLVED", "CHANGED", "confidence")
    assert [one.at for one in world.found if one.rule == "drift"][-1] == START + (
        WARM + 5
    ) * DAY + HOUR


def test_training_told_by_the_profile_resolves_a_drift(world: World) -> None:
    world.run(5, after(WARM, **LOW))
    world.context.profiles[AGENTS[0]] = AgentProfile(
        event_id="p",
        occurred_at=world.now,
        agent_id="claims-agent",
        owner="claims",
        last_trained_at=world.now,
    )
    world.run(1, after(WARM, **LOW))

    assert ("drift", "RESOLVED", "CHANGED", "confidence") in said(world.found)


def test_another_signal_of_the_same_cause_joins(world: World) -> None:
    world.run(3, after(WARM, **LOW))
    world.run(4, after(WARM, failed=lambda x: x | True, **LOW))

    drift = said([one for one in world.found if one.rule == "drift"])
    assert drift[0] == ("drift", "FIRING", "AT_ONCE", "confidence")
    assert ("drift", "UPDATED", "SIGNAL_JOINED", "confidence") in drift
    joined = next(one for one in world.found if one.reason is TransitionReason.SIGNAL_JOINED)
    assert (
        dict(zip(joined.measure_names, joined.measure_values, strict=True))["outcomes_suffer"]
        == 1.0
    )


def test_a_drift_that_grows_is_told_again(world: World) -> None:
    world.run(3, after(WARM, **LOW))
    world.run(6, after(WARM, confidence=lambda x: x - 0.4))

    drift = said([one for one in world.found if one.rule == "drift"])
    assert ("drift", "UPDATED", "CONDITION_TRUE", "confidence") in drift


def test_a_named_feature_drifts_as_input(world: World) -> None:
    world.context.profiles[AGENTS[0]] = AgentProfile(
        event_id="p",
        occurred_at=START,
        agent_id="claims-agent",
        owner="claims",
        feature_names=("amount",),
    )
    world.run(4, after(WARM, amount=lambda x: 1.5 * x))

    first = world.found[0]
    assert (first.kind, first.retraining_cause) == ("amount", RetrainingCause.INPUT_DRIFT)


def test_a_feature_without_a_name_has_its_number(world: World) -> None:
    world.run(4, after(WARM, amount=lambda x: 1.5 * x))

    assert world.found[0].kind == "feature_0"


def test_another_mix_of_task_types_is_input_drift(world: World) -> None:
    def swapped(day: int, rng: np.random.Generator) -> Values:
        values = calm(day, rng)
        others: list[str | None] = ["other"] * TASKS_AN_HOUR
        return values._replace(kinds=others + values.kinds[TASKS_AN_HOUR:])

    world.run(6)
    world.run(4, swapped)

    assert (world.found[0].kind, world.found[0].retraining_cause) == (
        "task_mix",
        RetrainingCause.INPUT_DRIFT,
    )


def test_longer_output_is_a_security_finding_as_well(world: World) -> None:
    world.run(4, after(WARM, output=lambda x: 3 * x))
    world.context.change(world.now, "PROMPT")
    world.run(0.1, after(WARM, output=lambda x: 3 * x))

    mine = said([one for one in world.found if one.rule == "anomalous-output"])
    assert mine == [
        ("anomalous-output", "FIRING", "AT_ONCE", "ANOMALOUS_OUTPUT"),
        ("anomalous-output", "RESOLVED", "CHANGED", "ANOMALOUS_OUTPUT"),
    ]


def test_a_new_model_asks_for_a_review_of_the_prompt_until_it_is_changed(world: World) -> None:
    world.context.change(world.now + 5 * MINUTE, "MODEL")
    world.run(2)
    world.context.change(world.now + 5 * MINUTE, "PROMPT")
    world.run(1)

    assert said(world.found) == [
        ("prompt-review", "FIRING", "AT_ONCE", "MODEL"),
        ("prompt-review", "RESOLVED", "CHANGED", "MODEL"),
    ]
    assert {one.retraining_cause for one in world.found} == {RetrainingCause.PROMPT_REVIEW}


def test_it_sleeps_when_all_bins_have_ended_and_nothing_is_open(world: World) -> None:
    world.run(1)
    assert world.watch.busy()

    for hour in range(1, 6):
        world.watch.hour(world.now + hour * HOUR)

    assert not world.watch.busy()


def lived(warm: dict[bytes, bytes], every: int | None) -> list[Finding]:
    """Return what eight days bring, with a restart every so many hours."""
    shape = after(WARM + 1, output=lambda x: 3 * x, amount=lambda x: 1.4 * x, **LOW)
    world = World(seed=4)
    world.stored, world.now = dict(warm), START + WARM * DAY
    revive(world.watch, world.stored)
    world.context.change(START + (WARM + 6) * DAY + 17 * MINUTE, "MODEL")
    for hour in range(24 * 8):
        world.hour(shape(world.now // DAY, world.rng))
        if every is not None and hour % every == 0:
            world.restart()
    return world.found


def test_the_findings_are_the_same_however_often_it_is_restarted(warm: dict[bytes, bytes]) -> None:
    uninterrupted = lived(warm, None)

    assert len(uninterrupted) > 5
    assert lived(warm, 3) == uninterrupted
    assert lived(warm, 31) == uninterrupted


# -- overrides ---------------------------------------------------------------------------------


class Reviews:
    """Reviews of one agent, day by day."""

    def __init__(self) -> None:
        self.context = Surroundings()
        self.source = OverrideSignals(RULES.drift)
        rules = DriftRules(RULES.drift, RULES.anomalous_output, RULES.prompt_review)
        self.watch = DriftWatch(
            rules,
            self.source,
            self.source.agents,
            self.context,
            lambda start, end: Evidence("agentops.reviews", 0, start, end),
        )
        self.now = START
        self.found: list[Finding] = []
        self.rng = np.random.default_rng(5)

    def run(self, days: int, rate: float) -> None:
        for _ in range(days * 24):
            for _ in range(2):
                overridden = bool(self.rng.random() < rate)
                self.source.note(AGENTS[0], self.now, overridden=overridden)
            self.now += HOUR
            self.found += self.watch.hour(self.now)


def test_more_overrides_are_performance_drift() -> None:
    reviews = Reviews()
    reviews.run(50, 0.1)
    quiet = list(reviews.found)
    stored: dict[bytes, bytes] = {}
    store(stored, reviews.watch.changes())
    again = Reviews()
    revive(again.watch, stored)
    again.now, again.rng = reviews.now, np.random.default_rng(6)
    again.run(12, 0.6)

    assert quiet == []
    first = again.found[0]
    assert (first.kind, first.retraining_cause) == (
        "override_rate",
        RetrainingCause.PERFORMANCE_DRIFT,
    )
    assert dict(zip(first.measure_names, first.measure_values, strict=True))["direction"] == 1.0
