from __future__ import annotations

import numpy as np
import pytest

from streams import stats
from streams.rules import RuleSet
from streams.thresholds import Advice, Bins, advise, edge_in_use

RULE = RuleSet.default().threshold_recommendation
TEN_BINS = range(10)


def bins(
    *, escalated_overrides: int = 0, edge: int = 7, reviews: int = 200, overrides: int = 8
) -> Bins:
    """Return an agent that automates from a bin on; 100 tasks a bin, `reviews` reviews each."""
    tasks = np.array([[0, 100][place >= edge] for place in TEN_BINS])
    above = np.arange(10) >= edge
    overridden = np.stack([np.where(above, overrides, 0), np.where(above, 0, escalated_overrides)])
    reviewed = np.stack([np.where(above, reviews, 0), np.where(above, 0, reviews)])
    return Bins(np.stack([tasks, 100 - tasks]), overridden, reviewed - overridden)


def asked(given: Bins, target: float | None = None) -> Advice:
    found = advise(RULE.model_copy(update={"target": target}), given)
    assert found is not None
    return found


def test_the_threshold_in_use_is_where_automation_begins() -> None:
    assert edge_in_use(bins(edge=7).tasks) == 7
    assert edge_in_use(bins(edge=0).tasks) == 0


def test_some_failures_above_do_not_hide_the_threshold_in_use() -> None:
    given = bins(edge=7)
    given.tasks[:, 7:] += np.array([[-10], [10]])

    assert edge_in_use(given.tasks) == 7


def test_a_lower_threshold_is_recommended_where_people_agree_with_what_is_escalated() -> None:
    found = asked(bins(escalated_overrides=0))

    assert found.current.edge == 7
    assert found.best is not None
    assert found.best.edge == 0
    assert found.best.automated.value == 1.0
    assert found.best.overrides.high <= found.target == found.current.overrides.value
    assert found.target == pytest.approx(0.04)
    assert "an extrapolation" in found.sentence


def test_a_target_within_five_per_cent_below_what_is_sure_recommends_nothing() -> None:
    given = bins(escalated_overrides=2)
    least = min(one.overrides.high for one in asked(given).candidates)

    assert asked(given, least * 0.96).best is None
    assert asked(given, least).best is not None


def test_a_higher_threshold_is_recommended_where_the_target_is_surely_missed() -> None:
    given = bins(edge=5, overrides=2)
    given.overridden[0, 5:8], given.confirmed[0, 5:8] = 60, 140

    found = asked(given, target=0.05)
    assert found.best is not None
    assert found.best.edge == 8


def test_nothing_is_recommended_while_the_target_may_be_met() -> None:
    assert asked(bins(overrides=8, escalated_overrides=100), target=0.039).best is None


def test_a_bin_with_few_reviews_makes_all_thresholds_below_it_unknown() -> None:
    given = bins()
    given.confirmed[1, 4] = RULE.min_reviews - 1

    found = asked(given)
    assert [bool(np.isnan(one.overrides.value)) for one in found.candidates] == [
        place <= 4 for place in TEN_BINS
    ]
    assert found.best is not None
    assert found.best.edge == 5
    assert "overrides_at_0.8" in found.numbers
    assert "overrides_at_0.7" not in found.numbers


def test_an_agent_without_reviews_of_what_it_automates_gets_no_advice() -> None:
    assert advise(RULE, bins(reviews=RULE.min_reviews - 1, overrides=0)) is None


def test_an_agent_with_few_tasks_gets_no_advice() -> None:
    given = bins()

    assert advise(RULE, Bins(given.tasks // 3, given.overridden, given.confirmed)) is None


def test_a_small_gain_is_not_worth_a_change() -> None:
    given = bins(edge=1)
    given.tasks[1, 0] = 10  # one task in a hundred

    assert asked(given).best is None


def test_bins_are_weighted_by_tasks_whichever_were_reviewed() -> None:
    given = bins(edge=8)
    given.overridden[0, 8], given.confirmed[0, 8] = 50, 50
    given.overridden[0, 9], given.confirmed[0, 9] = 0, 900

    assert asked(given).current.overrides.value == pytest.approx(0.25)


def test_the_interval_of_one_bin_is_nearly_wilsons() -> None:
    given = bins(edge=9)
    given.overridden[0, 9], given.confirmed[0, 9] = 40, 360

    rate = asked(given).current.overrides
    assert rate.low == pytest.approx(float(stats.wilson_lower(40, 400, 1.96)), abs=2e-3)
    assert rate.high == pytest.approx(float(stats.wilson_upper(40, 400, 1.96)), abs=2e-3)


def test_the_automated_rate_of_a_threshold_counts_what_fails_above_it() -> None:
    given = bins(edge=5)
    given.tasks[:, 5:] += np.array([[-20], [20]])

    found = asked(given)
    assert found.current.automated.value == pytest.approx(0.4)
    assert found.candidates[0].automated.value == pytest.approx(0.8)
