"""The sample of single values: which tasks are in it, and what it says of an hour."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import state
from streams.columns import DictColumn, Ragged, TaskColumns
from streams.durations import HOUR, MINUTE
from streams.sampling import EACH, QUARTER, Sampler

START = 480_000 * HOUR


def tasks(times: list[int], confidence: list[float], features: list[list[float]]) -> TaskColumns:
    n = len(times)
    zeros = np.zeros(n, np.int64)
    return TaskColumns(
        occurred_at=np.array(times, np.int64),
        outcome=zeros.astype(np.int8),
        cost_micro=zeros,
        duration_us=zeros,
        input_tokens=np.arange(n, dtype=np.int64) * 10,
        output_tokens=zeros,
        cached_tokens=zeros,
        tenant=DictColumn.of([None] * n),
        agent=DictColumn.of(["a"] * n),
        task_type=DictColumn.of(["t"] * n),
        confidence=np.array(confidence),
        features=Ragged.of(features),
    )


def brute(agents: list[int], clocks: list[int], columns: TaskColumns) -> dict[int, list[float]]:
    """Return the confidences of the first few of each agent and quarter, in log order."""
    taken: dict[tuple[int, int], int] = defaultdict(int)
    found: dict[int, list[float]] = defaultdict(list)
    for agent, clock, at, value in zip(
        agents, clocks, columns.occurred_at.tolist(), columns.confidence.tolist(), strict=True
    ):
        if clock - at > HOUR or taken[agent, clock // QUARTER] >= EACH:
            continue
        taken[agent, clock // QUARTER] += 1
        found[agent].append(value)
    return found


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.sampled_from([0, 1_000, 3 * MINUTE, 16 * MINUTE]),
            st.sampled_from([0, 5 * MINUTE, 2 * HOUR]),
        ),
        max_size=120,
    ),
    cuts=st.sets(st.integers(0, 120)),
)
def test_the_first_of_each_agent_and_quarter_are_kept_however_batches_are_cut(
    rows: list[tuple[int, int, int]], cuts: set[int]
) -> None:
    agents = [agent for agent, _, _ in rows]
    clocks = (START + np.cumsum([step for _, step, _ in rows], dtype=np.int64)).tolist()
    times = [clock - late for clock, (_, _, late) in zip(clocks, rows, strict=True)]
    columns = tasks(times, [0.001 * at for at in range(len(rows))], [[]] * len(rows))
    sampler = Sampler()
    stored: dict[bytes, bytes] = {}
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut <= len(rows))})
    for start, end in pairwise(bounds):
        part = slice(start, end)
        sampler.add(
            np.array(agents[part], np.int64),
            np.array(clocks[part], np.int64),
            columns.take(np.arange(start, end)),
        )
        stored.update({key: value for key, value in sampler.changes() if value is not None})
        sampler = Sampler()  # and however often it is restored
        for one in state.decode(stored.items()):
            assert sampler.restore(one)
        sampler.settle()

    means = sampler.close(START + 1_000 * HOUR)

    wanted = brute(agents, clocks, columns)
    assert means.rows.tolist() == sorted(wanted)
    assert means.counts[:, 0].tolist() == [len(wanted[row]) for row in sorted(wanted)]
    for place, row in enumerate(sorted(wanted)):
        values = sorted(wanted[row])
        trim = len(values) // 16
        kept = values[trim : len(values) - trim]
        assert means.means[place, 0] == pytest.approx(sum(kept) / len(kept), rel=1e-6)


def test_missing_values_count_in_no_mean() -> None:
    sampler = Sampler()
    columns = tasks([START] * 3, [0.5, np.nan, 0.7], [[1.0, 2.0], [], [3.0, np.inf]])

    sampler.add(np.array([4, 4, 4]), np.full(3, START), columns)
    means = sampler.close(START + HOUR)

    assert means.counts.tolist() == [[2, 3, 3, 2, 1]]
    assert means.means[0].round(4).tolist() == [0.6, pytest.approx(1.8141, abs=1e-3), 0.0, 2.0, 2.0]


def test_features_past_the_bound_are_not_watched() -> None:
    sampler = Sampler()

    sampler.add(np.array([0]), np.array([START]), tasks([START], [0.5], [[1.0] * 200]))

    assert sampler.close(START + HOUR).means.shape == (1, 3 + 16)


def test_an_hour_that_was_closed_leaves_no_state() -> None:
    sampler = Sampler()
    sampler.add(np.array([0]), np.array([START]), tasks([START], [0.5], [[]]))
    (stored,) = [key for key, _ in sampler.changes()]

    sampler.close(START + HOUR)

    assert list(sampler.changes()) == [(stored, None)]
    assert len(sampler) == 0


def test_an_hour_without_tasks_says_nothing() -> None:
    assert len(Sampler().close(START).rows) == 0
