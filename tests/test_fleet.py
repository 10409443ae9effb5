from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace
from functools import cache

import numpy as np
import pytest

from load import fleet, traces, truth
from load.fleet import AGENTS, DAY_MS, Tasks

WEEKDAY, SUNDAY = 1, 6


@cache
def whole() -> Tasks:
    return fleet.generate(truth.load())


def of(name: str) -> np.ndarray:
    mine: np.ndarray = whole().agent == [agent.name for agent in AGENTS].index(name)
    return mine


def rate(chosen: np.ndarray, outcome: str) -> float:
    return float(np.mean(whole().outcome[chosen] == traces.CLASSES.index(outcome)))


def during(case: str) -> np.ndarray:
    found = next(one for one in truth.load().troubles if one["name"] == case)
    at = whole().occurred_at
    return of(found["agent"]) & (at >= truth.start_ms(found)) & (at < truth.end_ms(found))


def test_nine_agents_make_about_nine_hundred_thousand_tasks_in_36_days() -> None:
    assert Counter(agent.trace for agent in AGENTS) == {"code": 4, "conv": 5}
    assert 850_000 < len(whole()) < 950_000
    assert whole().occurred_at.min() >= 0
    assert 35.9 * DAY_MS < whole().occurred_at.max() < 36 * DAY_MS


def test_the_same_seed_makes_the_same_records_and_another_others() -> None:
    few = [replace(AGENTS[8], daily=50)]
    first, again, other = (fleet.generate(truth.load(), seed, few) for seed in (1, 1, 2))

    for field in fields(Tasks):
        assert np.array_equal(getattr(first, field.name), getattr(again, field.name)), field.name
    assert not np.array_equal(first.occurred_at[:50], other.occurred_at[:50])


def test_a_middle_weekday_has_the_stated_volume_and_a_sunday_half() -> None:
    for agent in AGENTS:
        days = np.bincount(whole().occurred_at[of(agent.name)] // DAY_MS)
        assert days[2] == pytest.approx(agent.daily, rel=0.15)
        assert days[SUNDAY] == pytest.approx(agent.daily / 2, rel=0.2)


def test_outcomes_have_the_usual_rates_before_the_troubles() -> None:
    before = whole().occurred_at < 30 * DAY_MS

    assert rate(before, "AUTOMATED") == pytest.approx(0.92, abs=0.003)
    assert rate(before, "ESCALATED") == pytest.approx(0.075, abs=0.003)
    assert rate(before, "FAILED") == pytest.approx(0.005, abs=0.001)


def test_troubles_have_the_rates_of_the_truth_file() -> None:
    drop = during("automated rate 92 to 72 % for 6 h, after a new prompt")
    assert rate(drop, "AUTOMATED") == pytest.approx(0.72, abs=0.005)
    assert rate(during("errors 0.5 to 4 % for 4 h"), "FAILED") == pytest.approx(0.04, abs=0.002)
    assert rate(during("60 % error burst for 10 min"), "FAILED") == pytest.approx(0.6, abs=0.03)


def test_decoys_change_volume_or_versions_and_no_rate() -> None:
    assert during("doubled volume").sum() == pytest.approx(2 * 2600 * 1.02, rel=0.05)
    assert during("quiet weekend").sum() == pytest.approx(0.3 * 1600 * 1.1, rel=0.15)
    deploy = during("a deploy: new versions, tokens and duration 6 % up")
    prompt = during("automated rate 92 to 72 % for 6 h, after a new prompt")
    assert set(whole().version[~deploy & ~prompt]) == {0}
    assert [len(set(whole().version[chosen])) for chosen in (deploy, prompt)] == [1, 1]
    assert {whole().versions[code][0] for code in set(whole().version[deploy])} == {"2.4.0"}


def test_inputs_and_volume_change_as_the_truth_says() -> None:
    assert during("silent for 6 h").sum() == 0
    longer = during("longer prompts: 40 % more input tokens, to the end")
    usual = of("contract-extraction") & ~longer
    tokens = whole().input_tokens
    assert tokens[longer].mean() == pytest.approx(1.4 * tokens[usual].mean(), rel=0.05)
    drifted = during("conversations get longer: 80 % more turns, to the end")
    before = of("dispute-replies") & ~drifted
    turns = whole().turns
    assert turns[drifted].mean() == pytest.approx(1.8 * turns[before].mean(), rel=0.1)
    recorded = np.array([run.turns for run in whole().runs])[whole().run]
    assert np.array_equal(turns[~drifted], recorded[~drifted])


def test_token_pairs_come_from_the_trace() -> None:
    trace = traces.requests("conv")
    pairs = set(zip(trace.input_tokens.tolist(), trace.output_tokens.tolist(), strict=True))
    mine = of("dispute-replies")
    made = zip(
        whole().input_tokens[mine].tolist(), whole().output_tokens[mine].tolist(), strict=True
    )

    assert set(made) <= pairs


def test_error_types_belong_to_failed_tasks_alone() -> None:
    failed = whole().outcome == traces.CLASSES.index("FAILED")
    has_type = np.array([run.error_type is not None for run in whole().runs])[whole().run]

    assert np.array_equal(failed, has_type)


def test_records_arrive_in_order_a_few_late_and_none_after_the_last_event() -> None:
    late = whole().arrives_at - whole().occurred_at

    assert (np.diff(whole().arrives_at) >= 0).all()
    assert (late >= 0).all()
    assert 0.001 < (late > 0).mean() < 0.004
    assert (late > 3 * 3_600_000).sum() > 20
    assert whole().arrives_at.max() == whole().occurred_at.max()


def test_event_numbers_are_unique() -> None:
    assert len(np.unique(whole().number)) == len(whole())


def test_a_volume_above_the_trace_stacks_its_rows() -> None:
    rows = traces.requests("code").share(0, 4)
    many = fleet.Agent("many", "code", 40 * len(rows), ("one",), "small", "T1")

    tasks = fleet.generate(replace(truth.load(), troubles=[]), 3, [many])

    busiest = np.bincount(tasks.occurred_at // 3_600_000).max()
    assert busiest > 2 * len(rows)


def test_recorded_runs_have_the_classes_of_the_benchmark() -> None:
    grouped = traces.by_class(traces.runs())

    assert {name: len(found) for name, found in grouped.items()} == {
        "AUTOMATED": 49,
        "ESCALATED": 48,
        "FAILED": 103,
    }
    assert all(run.error_type for run in grouped["FAILED"])
    assert "TOOL_ERROR" not in {run.error_type for run in traces.runs()}
