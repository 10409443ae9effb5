"""Types of errors: the same rate may be another failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from streams.durations import DAY, HOUR
from streams.reasons import EntityKind, Transition, TransitionReason
from streams.tails import binomial_tail, poisson_tail
from tests.integration_rig import Rig, steady

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.findings import Finding

RULE = "integration-error-type"


def of_rule(rig: Rig) -> list[Finding]:
    return [one for one in rig.findings if one.rule == RULE]


def firing(rig: Rig) -> list[Finding]:
    return [one for one in of_rule(rig) if one.transition is Transition.FIRING]


def run(rig: Rig, hours: int, calls: int = 200, types: Mapping[str, int] | None = None) -> None:
    for _ in range(hours):
        rig.hour(steady(rig, calls, types))


def daily(number: int, days: int = 36) -> np.ndarray:
    """Return int64[1, hours]: errors once a day at noon."""
    hours = np.zeros(days * 24, np.int64)
    hours[12::24] = number
    return hours[None]


def rig(errors: Mapping[str, int] | None = None) -> Rig:
    """Return one operation of 200 calls an hour, with errors of a type once a day."""
    one = Rig()
    usual = {"TIMEOUT": 2} if errors is None else errors
    one.past(36, 200, {name: daily(number) for name, number in usual.items()})
    return one


def test_a_new_type_fires_after_two_hours() -> None:
    one = rig()
    run(one, 1, types={"SCHEMA": 6})
    run(one, 2)
    (found,) = firing(one)
    assert (found.kind, found.arm, found.operation) == ("SCHEMA", "24h", "post")
    assert (found.entity_kind, found.entity_id) == (EntityKind.INTEGRATION, "sap-0")
    assert (found.value, found.baseline, found.page) == (6.0, 0.0, True)
    assert found.at - found.starts_at == 2 * HOUR


def test_five_errors_of_a_new_type_are_too_few() -> None:
    one = rig({"TIMEOUT": 30})  # so that the new type is no large share of the errors
    run(one, 12)
    run(one, 1, types={"SCHEMA": 5, "TIMEOUT": 30})
    run(one, 24)
    assert firing(one) == []


def test_it_resolves_when_it_was_usual_for_12_hours() -> None:
    one = rig()
    run(one, 2, types={"SCHEMA": 6})
    run(one, 9 * 24)
    last = of_rule(one)[-1]
    assert (last.transition, last.reason) == (Transition.RESOLVED, TransitionReason.CLEAR_ELAPSED)


def limit_of(expected: float) -> int:
    """Return the least count of 24 h that fires, by the formulas."""
    counts = range(6, 10_000)
    return next(
        k for k in counts if k > 3.5 * expected and poisson_tail(k, 1.6 * expected + 0.2) < 1e-6
    )


def spread_over(number: int, hours: int) -> list[int]:
    return [int(one) for one in np.diff(np.arange(hours + 1) * number // hours)]


@pytest.mark.parametrize(("share", "fires"), [(1.0, True), (0.955, False)])
def test_a_usual_type_fires_at_its_limit_and_not_5_percent_below(share: float, fires: bool) -> None:
    one = Rig()
    # 240 a day are usual, of which no hour counts over 3 times the median and 3.
    one.past(36, 1_000, {"TIMEOUT": 10, "HTTP_500": 400})
    limit = limit_of(240.0)
    for number in spread_over(int(limit * share), 24):
        one.hour(steady(one, 1_000, {"TIMEOUT": number, "HTTP_500": 400}))
    run(one, 2, 1_000, {"TIMEOUT": int(limit * share / 24), "HTTP_500": 400})
    assert bool([each for each in of_rule(one) if each.kind == "TIMEOUT"]) is fires


def test_the_same_rate_with_another_type_is_said_to_be_a_new_failure() -> None:
    one = rig({"TIMEOUT": 20})
    run(one, 12)
    run(one, 1, types={"SCHEMA": 20})
    run(one, 3)
    (found,) = firing(one)
    assert found.kind == "SCHEMA"
    assert found.detail is not None
    assert found.detail.startswith("same rate, new failure: SCHEMA is 100% of the errors")


def test_a_type_that_makes_up_most_errors_where_it_did_not_fires_by_the_mix() -> None:
    one = rig({"TIMEOUT": 300, "SCHEMA": 3})
    run(one, 12)
    run(one, 1, types={"SCHEMA": 8})  # less than 3.5 times the usual 3, but 8 of 8 errors
    run(one, 2)
    assert binomial_tail(8, 8, 1.3 * 3.5 / 304) < 1e-6
    (found,) = firing(one)
    assert (found.value, found.threshold) == (8.0, 4.0)
    assert found.baseline == pytest.approx(3.0, 0.1)


def test_what_fails_in_the_same_hour_every_week_is_usual() -> None:
    one = Rig()
    past = np.zeros((1, 36 * 24), np.int64)
    past[0, 5::168] = 60
    past[0, 90:600:80] = 1
    one.past(36, 200, {"BATCH": past})
    for hour in range(24):
        run(one, 1, types={"BATCH": 60 if hour == (5 - 36 * 24) % 168 else 0})
    assert firing(one) == []


def test_refused_credentials_of_half_the_calls_are_said_to_be_for_everyone() -> None:
    one = rig()
    run(one, 3, types={"HTTP_401": 120})
    detail = next(each.detail for each in firing(one) if each.kind == "HTTP_401")
    assert detail is not None
    assert detail.startswith("HTTP_401 for everyone: 120 of the last hour's 200 calls")


def test_a_past_outage_does_not_make_the_next_one_usual() -> None:
    one = Rig()
    past = np.zeros((1, 36 * 24), np.int64)
    past[0, 200:206] = 200  # six hours in which nothing worked
    one.past(36, 200, {"HTTP_500": past})
    run(one, 1, types={"HTTP_500": 10})
    run(one, 3)
    (found,) = firing(one)
    assert found.baseline == pytest.approx(18 / 28, rel=0.05)


def test_an_operation_known_for_less_than_a_week_has_no_new_types() -> None:
    one = Rig()
    one.past(6, 200, {})
    run(one, 6, types={"SCHEMA": 9})
    assert of_rule(one) == []


def test_a_type_open_for_two_weeks_is_the_new_usual() -> None:
    one = rig()
    run(one, 4, types={"SCHEMA": 3})
    watch = one.integrations._error_types  # without the sweep: two weeks in a second
    reasons: list[str] = []
    for tick in range(one.clock + HOUR, one.clock + 16 * DAY, HOUR):
        come(one, tick - HOUR, np.array([3]), "SCHEMA")
        reasons += [str(each.reason) for each in watch.hour(tick)]
    assert reasons[-1] == "REBASELINED"
    assert not watch.busy()


def come(one: Rig, hour: int, failed: np.ndarray, name: str = "TIMEOUT") -> None:
    """Let 208 calls come to each operation in an hour, some of which fail."""
    rows = len(one.rows)
    hours = np.full(rows, hour)
    one.integrations.types.fold(one.rows, hours, [name] * rows, failed)
    one.ledger.agent_hours.expire(hour - 38 * DAY)
    one.ledger.task_hours.expire(hour - 38 * DAY)
    one._add(one.rows, hours // HOUR, np.zeros(rows, np.int64), 208 - failed)


def test_three_quiet_weeks_give_no_finding() -> None:
    random = np.random.default_rng(11)
    one = Rig(2)
    past = random.binomial(208, 0.001, (2, 36 * 24))
    one.past(36, 208, {"TIMEOUT": past})
    watch = one.integrations._error_types  # without the sweep: a month in seconds
    for tick in range(one.clock + HOUR, one.clock + 20 * DAY, HOUR):
        come(one, tick - HOUR, random.binomial(208, 0.001, 2))
        assert watch.hour(tick) == []
