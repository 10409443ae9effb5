"""Columns keep rows and values together however they are taken and joined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.columns import AUTOMATED, ESCALATED, FAILED, UNKNOWN, DictColumn, TaskColumns

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
    assert taken.outcome.dtype == np.int8


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_joined_tasks_are_the_tasks_they_were_cut_from(cut: int) -> None:
    whole = tasks(["a", None, "b"])
    parts = [whole.take(np.arange(cut)), whole.take(np.arange(cut, 3))]
    joined = TaskColumns.join(parts)
    assert joined.occurred_at.tolist() == [0, 1, 2]
    assert joined.outcome.tolist() == whole.outcome.tolist()
    assert joined.tenant.to_list() == ["a", None, "b"]
