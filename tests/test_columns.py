"""Columns keep rows and values together however they are taken and joined."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.columns import (
    AUTOMATED,
    BINS,
    CONFIDENCE_EDGES,
    ESCALATED,
    FAILED,
    UNKNOWN,
    DictColumn,
    Ragged,
    TaskColumns,
    confidence_bins,
)

rows = st.lists(st.none() | st.sampled_from(["a", "b", "", "ä"]), max_size=12)


def tasks(names: list[str | None]) -> TaskColumns:
    numbers = np.arange(len(names), dtype=np.int64)
    column = DictColumn.of(names)
    return TaskColumns(
        occurred_at=numbers,
        outcome=(numbers % 4).astype(np.int8),
        cost_micro=numbers + 1,
        duration_us=numbers + 2,
        input_tokens=numbers + 3,
        output_tokens=numbers + 4,
        cached_tokens=numbers + 5,
        tenant=column,
        agent=column,
        task_type=column,
        model=column,
        confidence=numbers / 10,
        features=Ragged.of([[float(n)] * (n % 3) for n in range(len(names))]),
    )


def test_outcome_codes_are_in_the_order_of_a_pane() -> None:
    assert (AUTOMATED, ESCALATED, FAILED, UNKNOWN) == (0, 1, 2, 3)


@given(rows)
def test_a_dictionary_column_gives_back_its_rows(names: list[str | None]) -> None:
    column = DictColumn.of(names)
    assert column.to_list() == names
    assert len(column) == len(names)
    assert column.codes.dtype == np.int32
    assert len(set(column.values)) == len(column.values)


@given(st.lists(rows, max_size=4))
def test_joined_columns_are_the_rows_one_behind_the_other(parts: list[list[str | None]]) -> None:
    joined = DictColumn.join([DictColumn.of(part) for part in parts])
    assert joined.to_list() == [name for part in parts for name in part]
    assert joined.codes.dtype == np.int32
    assert sorted(map(str, joined.values)) == sorted({str(n) for part in parts for n in part})


def test_joining_drops_the_values_no_row_has() -> None:
    column = DictColumn.of(["a", "b", None]).take(np.array([1, 1]))
    assert column.values == ["a", "b", None]
    assert DictColumn.join([column]).values == ["b"]


@given(rows.filter(len), st.data())
def test_take_keeps_rows_together(names: list[str | None], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=12))
    taken = tasks(names).take(np.array(chosen, np.int64))
    assert len(taken) == len(chosen)
    assert taken.occurred_at.tolist() == chosen
    assert taken.cached_tokens.tolist() == [row + 5 for row in chosen]
    assert taken.agent.to_list() == [names[row] for row in chosen]
    assert taken.model.to_list() == [names[row] for row in chosen]
    assert taken.confidence.tolist() == [row / 10 for row in chosen]
    assert taken.features.to_list() == [[float(row)] * (row % 3) for row in chosen]
    assert taken.outcome.dtype == np.int8


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_joined_tasks_are_the_tasks_they_were_cut_from(cut: int) -> None:
    whole = tasks(["a", None, "b"])
    parts = [whole.take(np.arange(cut)), whole.take(np.arange(cut, 3))]
    joined = TaskColumns.join(parts)
    assert joined.occurred_at.tolist() == [0, 1, 2]
    assert joined.outcome.tolist() == whole.outcome.tolist()
    assert joined.tenant.to_list() == ["a", None, "b"]
    assert joined.model.to_list() == ["a", None, "b"]
    assert joined.confidence.tolist() == [0, 0.1, 0.2]
    assert joined.features.to_list() == [[], [1.0], [2.0, 2.0]]


def test_columns_left_out_are_of_events_that_have_none() -> None:
    whole = tasks(["a", "b"])
    bare = replace(whole, model=DictColumn.of([]), confidence=np.empty(0), features=Ragged.empty(0))

    assert bare.model.to_list() == [None, None]
    assert np.isnan(bare.confidence).all()
    assert bare.features.to_list() == [[], []]
    assert TaskColumns.join([bare, whole]).model.to_list() == [None, None, "a", "b"]
    assert TaskColumns.join([whole, bare]).features.to_list() == [[], [1.0], [], []]


def test_a_column_of_another_length_is_an_error() -> None:
    whole = tasks(["a", "b"])
    with pytest.raises(ValueError, match="column model has 3 rows and occurred_at 2"):
        replace(whole, model=DictColumn.of(["m"] * 3))


@given(st.lists(st.one_of(st.just(np.nan), st.floats(0, 1), st.sampled_from(CONFIDENCE_EDGES))))
def test_a_confidence_is_in_the_bin_between_its_edges(found: list[float]) -> None:
    def bin_of(one: float) -> int:
        if np.isnan(one):
            return -1
        return next(i for i in range(BINS - 1, -1, -1) if one >= CONFIDENCE_EDGES[i])

    assert confidence_bins(np.array(found, np.float64)).tolist() == [bin_of(one) for one in found]


def test_a_confidence_just_below_an_edge_is_below_it() -> None:
    below = np.nextafter(np.array(CONFIDENCE_EDGES[1:]), 0)
    assert confidence_bins(below).tolist() == list(range(BINS))
    assert confidence_bins(np.array(CONFIDENCE_EDGES)).tolist() == [*range(BINS), BINS - 1]


@given(st.lists(st.lists(st.floats(allow_nan=False), max_size=4), max_size=8))
def test_ragged_rows_come_back_taken_and_joined(lists: list[list[float]]) -> None:
    column = Ragged.of(lists)
    indices = np.arange(len(lists))[::-2]

    assert column.to_list() == lists
    assert column.take(indices).to_list() == [lists[i] for i in indices]
    assert Ragged.join([column, column.take(indices)]).to_list() == [
        *lists,
        *(lists[i] for i in indices),
    ]
    assert Ragged.empty(2).to_list() == [[], []]
