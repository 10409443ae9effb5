"""The rule on prices, with its shipped numbers: it explains, and is no drift."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from streams import state
from streams.durations import DAY, HOUR, WEEK
from streams.price_step import PriceStepWatch
from streams.reasons import EntityKind, Severity, TransitionReason
from streams.series import Agent
from tests.cost_rig import CLAIMS, RULES, START, Fleet, Work, evidence, look, told

NOW = START + 36 * DAY


class Told(NamedTuple):
    """A change as the rule reads it."""

    occurred_at: int
    kind: str


class Changes:
    """Changes of the agent `CLAIMS`."""

    def __init__(self, *changes: Told) -> None:
        self._changes = changes

    def changes(self, agent: Agent, since: int, until: int, as_of: int | None = None) -> list[Told]:
        assert as_of == until
        mine = self._changes if agent == CLAIMS else ()
        return [one for one in mine if since < one.occurred_at <= until]


def stepped(price: float, days: int = 3) -> Fleet:
    """Return an agent whose model has another price from NOW on."""
    fleet = Fleet([(CLAIMS, "invoice", "m")])
    fleet.work(0, (START, NOW))
    fleet.work(0, (NOW, NOW + days * DAY), work=Work(10_000, price))
    return fleet


def watch(
    fleet: Fleet, changes: Changes | None = None, kind: EntityKind = EntityKind.AGENT
) -> PriceStepWatch:
    weights = RULES.cost.weights
    return PriceStepWatch(RULES.price_step, fleet.sums(), weights, kind, evidence, changes)


def test_a_step_by_8_percent_is_told_and_calls_nobody() -> None:
    found = look(watch(stepped(1.08)), NOW, NOW + 2 * DAY)

    assert told(found) == ["PENDING 24h m", "FIRING 24h m"]
    finding = found[1]
    assert (finding.rule, finding.kind, finding.page) == ("price-step", "m", False)
    assert finding.severity is Severity.INFO
    assert finding.baseline == pytest.approx(1.0)
    assert finding.threshold == pytest.approx(1.05)
    assert str(finding.detail).startswith("price of m +6.")
    parts = dict(zip(finding.measure_names, finding.measure_values, strict=True))
    assert parts["price_usd"] == pytest.approx(parts["total_usd"])


def test_a_step_within_5_percent_below_the_threshold_is_not() -> None:
    assert look(watch(stepped(1.0475)), NOW, NOW + 3 * DAY) == []


def test_a_fall_is_a_step_too() -> None:
    found = look(watch(stepped(0.9)), NOW, NOW + 2 * DAY)

    assert told(found)[-1] == "FIRING 24h m"
    assert found[-1].threshold == pytest.approx(1 / 1.05)


def test_it_resolves_when_the_price_was_back_for_two_days() -> None:
    fleet = stepped(1.3, 1)
    fleet.work(0, (NOW + DAY, NOW + 5 * DAY))

    found = look(watch(fleet), NOW, NOW + 5 * DAY)

    assert told(found) == ["PENDING 24h m", "FIRING 24h m", "RESOLVED 24h m"]


def test_a_price_of_a_week_is_the_price() -> None:
    found = look(watch(stepped(1.3, 10)), NOW, NOW + 10 * DAY)

    assert found[-1].reason is TransitionReason.REBASELINED
    assert found[-1].at == found[1].at + WEEK


def test_an_announced_step_is_found_where_it_is_small() -> None:
    fleet, told_at = stepped(1.03), Told(NOW, "PRICE")

    found = look(watch(fleet, Changes(told_at)), NOW, NOW + DAY)

    assert told(found)[-1] == "FIRING 24h m"
    assert str(found[-1].detail).endswith("announced by a PRICE change")
    assert look(watch(fleet, Changes(Told(NOW, "PROMPT"))), NOW, NOW + DAY) == []


def test_more_tokens_are_no_step_of_the_price() -> None:
    fleet = Fleet([(CLAIMS, "invoice", "m")])
    fleet.work(0, (START, NOW))
    fleet.work(0, (NOW, NOW + DAY), work=Work(30_000))

    assert look(watch(fleet), NOW, NOW + DAY) == []


def test_a_price_that_always_scatters_makes_no_step() -> None:
    """Costs that have little to do with tokens: the scatter of the past says how far to trust."""
    random = np.random.default_rng(5)
    fleet = Fleet([(Agent(None, f"a{one}"), "invoice", "m") for one in range(20)])
    for row in range(20):
        for day in range(50):
            span = (START + day * DAY, START + (day + 1) * DAY)
            fleet.work(row, span, 10, Work(10_000, float(random.lognormal(0, 0.2))))

    found = look(watch(fleet), NOW, NOW + 14 * DAY)

    assert sum(f.transition == "FIRING" for f in found) <= 1


def test_task_types_over_all_agents_have_no_rule_of_their_own_as_shipped() -> None:
    assert look(watch(stepped(1.3), kind=EntityKind.TASK_TYPE), NOW, NOW + DAY) == []


def test_a_restart_at_any_hour_changes_nothing() -> None:
    fleet = stepped(1.3, 1)
    fleet.work(0, (NOW + DAY, NOW + 4 * DAY))
    whole = look(watch(fleet), NOW, NOW + 4 * DAY)
    records: dict[bytes, bytes] = {}
    found = []
    for tick in range(NOW, NOW + 4 * DAY + HOUR, HOUR):
        one = watch(fleet)
        assert all(one.restore(stored) for stored in state.decode(records.items()))
        one.settle()
        found += one.hour(tick)
        records |= {key: value for key, value in one.changes() if value is not None}
        fleet.hours.late.clear()

    assert found == whole
    assert len(found) == 3
