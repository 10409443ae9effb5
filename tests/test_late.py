"""Late additions are remembered by row, and only those to panes that are added up already."""

from __future__ import annotations

import numpy as np

from streams.durations import HOUR
from streams.late import Late
from streams.panes import Panes


def followed() -> tuple[Panes, Late]:
    panes = Panes(HOUR, 24, 40)
    panes.reserve(10)
    panes.late.append(Late())
    return panes, panes.late[0]


def add(panes: Panes, *cells: tuple[int, int]) -> None:
    rows, hours = np.array(cells).T
    panes.add(rows, hours, np.zeros(len(rows), np.int64))


def test_rows_with_an_addition_to_an_added_up_pane_are_told_once() -> None:
    panes, late = followed()
    late.before = 100

    add(panes, (3, 99), (5, 100), (1, 98), (3, 98))
    add(panes, (4, 101))

    assert late.take().tolist() == [1, 3]
    assert late.take().tolist() == []


def test_before_anything_was_added_up_nothing_is_late() -> None:
    panes, late = followed()

    add(panes, (3, 99))

    assert late.take().tolist() == []
