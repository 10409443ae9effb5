from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest

from streams.cells import Cells

Cell = tuple[int, int, int, int, int]  # agent, task, pane, outcome, bin


def cells_of(seed: int, size: int, *, tasks: int = 6, weighted: bool, binned: bool) -> Cells:
    random = Random(seed)
    task = np.array([random.randrange(tasks) for _ in range(size)])
    many = np.array([random.randint(1, 5) for _ in range(size)])
    bins = np.array([random.randint(-1, 9) for _ in range(size)])
    return Cells(
        agents=task // 2,
        tasks=task,
        panes=480_000 + np.array([random.choice([0, 0, 0, 1]) for _ in range(size)]),
        outcomes=np.array([random.randrange(4) for _ in range(size)]),
        sums=[many * 3, np.array([random.randrange(1 << 50) for _ in range(size)])],
        weights=many if weighted else None,
        bins=bins if binned else None,
    )


def totals(cells: Cells) -> tuple[Counter[Cell], Counter[tuple[int, int, int, int]]]:
    """Return the weight of each cell, and the sums of each task and pane."""
    size = len(cells.tasks)
    weights = [1] * size if cells.weights is None else cells.weights.tolist()
    bins = [-1] * size if cells.bins is None else cells.bins.tolist()
    columns = (cells.agents, cells.tasks, cells.panes, cells.outcomes)
    keys = list(zip(*(column.tolist() for column in columns), bins, strict=True))
    counts: Counter[Cell] = Counter()
    sums: Counter[tuple[int, int, int, int]] = Counter()
    for key, weight in zip(keys, weights, strict=True):
        counts[key] += weight
    for index, column in enumerate(cells.sums):
        for (agent, task, pane, *_), value in zip(keys, column.tolist(), strict=True):
            sums[agent, task, pane, index] += value
    return counts, sums


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("binned", [False, True])
def test_merged_cells_add_up_to_the_same(seed: int, *, weighted: bool, binned: bool) -> None:
    cells = cells_of(seed, 700 if seed % 2 else 100, weighted=weighted, binned=binned)

    merged = cells.merged()

    assert totals(merged) == totals(cells)
    if seed % 2:
        assert len(merged.tasks) == len(totals(cells)[0])


def test_few_events_of_many_series_stay_as_they_are() -> None:
    cells = cells_of(1, 50, tasks=400, weighted=False, binned=True)

    assert cells.merged() is cells


def test_cells_without_a_confidence_are_in_no_bin() -> None:
    cells = cells_of(2, 300, weighted=True, binned=True)
    expected = {key: n for key, n in totals(cells)[0].items() if key[4] >= 0}

    assert totals(cells.binned())[0] == expected
