"""The parts of a change of cost add up, and each says what it means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streams.decomposition import Cells, Effects, decompose, log_mean, sentence

PARTS = ("volume", "tokens", "price", "mix")

amounts = st.one_of(
    st.just(0.0),
    st.floats(1e-12, 1e-6),
    st.floats(0.1, 1e9),
    st.sampled_from([1.0, 1.0 + 1e-15, 1e-300, 5e-324, 1e15]),
)


@st.composite
def sides(draw: st.DrawFn) -> tuple[Cells, Cells]:
    """Return two spans of the same cells, any of which may be new, vanished, free or silent."""
    number = draw(st.integers(1, 5))
    columns = [draw(st.lists(amounts, min_size=number, max_size=number)) for _ in range(6)]
    one, two = (np.array(columns[at : at + 3]) for at in (0, 3))
    for side in (one, two):
        side[1:, side[0] <= 0] = 0.0  # without tasks there are neither tokens nor cost
    return Cells(*one), Cells(*two)


def cells(*each: tuple[float, float, float]) -> Cells:
    """Return cells of (tasks, tokens per task, price per token)."""
    tasks, tokens, price = np.array(each, np.float64).T
    return Cells(tasks, tasks * tokens, tasks * tokens * price)


def only(effects: Effects, name: str) -> bool:
    """Return whether one effect is the whole change."""
    others = [getattr(effects, part) for part in PARTS if part != name]
    return getattr(effects, name) == pytest.approx(effects.total) and others == pytest.approx(
        [0.0] * 3, abs=1e-9 * abs(effects.total)
    )


@settings(max_examples=200, deadline=None)
@given(sides())
@example((Cells(*np.zeros((3, 2))), Cells(*np.ones((3, 2)))))
def test_the_effects_add_up_to_the_change(both: tuple[Cells, Cells]) -> None:
    effects = decompose(*both)

    whole = max(math.fsum(side.cost) for side in both)
    parts = math.fsum(getattr(effects, name) for name in PARTS)
    assert effects.total == pytest.approx(
        both[1].cost.sum() - both[0].cost.sum(), abs=1e-12 * whole
    )
    assert abs(parts - effects.total) <= 1e-12 * whole
    assert all(math.isfinite(getattr(effects, name)) for name in PARTS)


@settings(max_examples=100, deadline=None)
@given(sides())
def test_backwards_every_effect_is_the_opposite(both: tuple[Cells, Cells]) -> None:
    there, back = decompose(*both), decompose(*reversed(both))

    whole = max(float(side.cost.sum()) for side in both)
    assert [-one for one in back] == pytest.approx(list(there), abs=1e-9 * whole)


USUAL = cells((100, 1000, 2.0), (50, 3000, 1.0))


@pytest.mark.parametrize(
    ("now", "name"),
    [
        (cells((120, 1000, 2.0), (60, 3000, 1.0)), "volume"),
        (cells((100, 1500, 2.0), (50, 3300, 1.0)), "tokens"),
        (cells((100, 1000, 2.5), (50, 3000, 0.9)), "price"),
        (cells((70, 1000, 2.0), (80, 3000, 1.0)), "mix"),
        (cells((0, 0, 0), (0, 0, 0)), "volume"),
        (cells((100, 1000, 0), (50, 3000, 0)), "price"),
    ],
)
def test_what_alone_changed_is_the_whole_change(now: Cells, name: str) -> None:
    assert only(decompose(USUAL, now), name)


def test_a_new_and_a_vanished_model_are_mix() -> None:
    usual = cells((100, 1000, 1.0), (0, 0, 0))
    now = cells((0, 0, 0), (100, 1000, 3.0))

    effects = decompose(usual, now)

    assert only(effects, "mix")
    assert effects.total == 200_000.0


def test_a_cost_without_tokens_counts_as_tokens_per_task() -> None:
    usual = Cells(np.array([10.0]), np.array([0.0]), np.array([50.0]))
    now = Cells(np.array([10.0]), np.array([0.0]), np.array([80.0]))

    assert only(decompose(usual, now), "tokens")


def test_the_zero_is_the_limit_of_small_numbers() -> None:
    """A model that had one task in a million, and then none: the effects hardly differ."""
    tiny = cells((100, 1000, 1.0), (1e-9, 1000, 3.0))
    none = cells((100, 1000, 1.0), (0, 0, 0))
    now = cells((60, 1100, 1.1), (40, 1000, 3.0))

    assert list(decompose(tiny, now)) == pytest.approx(
        list(decompose(none, now)), rel=0.1, abs=1e-3
    )


def test_a_cost_without_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match="cost but no tasks"):
        decompose(USUAL, Cells(np.zeros(2), np.zeros(2), np.ones(2)))


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-9, 1e9), st.floats(-0.5, 3))
def test_the_logarithmic_mean_lies_between_its_arguments(one: float, more: float) -> None:
    other = one * (1 + more)

    mean = float(log_mean(one, other))

    assert min(one, other) * (1 - 1e-9) <= mean <= max(one, other) * (1 + 1e-9)
    assert mean <= (one + other) / 2 * (1 + 1e-9)


def test_the_sentence_adds_up_where_rounding_each_part_would_not() -> None:
    effects = Effects(volume=0.4, tokens=0.4, price=0.4, mix=0.0, total=1.2)

    assert sentence(effects, 100.0) == (
        "+1 %: tokens per task +1 %, price 0 %, volume 0 %, model mix 0 %"
    )
    assert sentence(Effects(-0.5, 0, 0, 0, -0.5), 1.0, "mix of models") == (
        "-50 %: volume -50 %, tokens per task 0 %, mix of models 0 %, price 0 %"
    )


def test_without_a_usual_cost_there_is_no_share() -> None:
    assert sentence(Effects(1, 0, 0, 0, 1), 0.0) is None
