from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.columns import DictColumn, TaskColumns
from streams.series import MISSING, UNBORN, Agent, Series, Task

EXAMPLES = settings(max_examples=500, derandomize=True, deadline=None)
Name = tuple[str | None, str, str, str | None]

NAMES = st.tuples(
    st.sampled_from([None, "x", "y"]),
    st.sampled_from("abcde"),
    st.sampled_from("tuv"),
    st.sampled_from([None, None, "m", "n", ""]),
)


def columns(names: list[Name]) -> TaskColumns:
    none = np.zeros(len(names), np.int64)
    named = (DictColumn.of([name[index] for name in names]) for index in range(4))
    tenant, agent, kind, model = named
    outcome = none.astype(np.int8)
    return TaskColumns(none, outcome, none, none, none, none, none, tenant, agent, kind, model)


def add(series: Series, name: Name) -> None:
    series.add(Agent(name[0], name[1]), *name[2:])


@EXAMPLES
@given(st.lists(NAMES, min_size=1, max_size=40), st.lists(NAMES, min_size=1, max_size=20))
def test_rows_are_given_in_log_order_and_found_again(known: list[Name], asked: list[Name]) -> None:
    series = Series(1000)
    for name in known:
        add(series, name)
    agents = list(dict.fromkeys(name[:2] for name in known))
    tasks = list(dict.fromkeys(known))

    found = series.find(columns(asked))

    assert found.agent.tolist() == [
        agents.index(name[:2]) if name[:2] in agents else MISSING for name in asked
    ]
    assert found.task.tolist() == [
        tasks.index(name) if name in tasks else MISSING for name in asked
    ]
    assert len(series) == len(agents) + len(tasks)
    assert [series.needed(Agent(*name[:2]), *name[2:]) for name in asked] == [
        int(name[:2] not in agents) + int(name not in tasks) for name in asked
    ]


@EXAMPLES
@given(st.lists(st.lists(NAMES, max_size=8), min_size=2, max_size=6), st.integers(0, 2**16))
def test_a_restored_table_gives_the_same_rows(rounds: list[list[Name]], mask: int) -> None:
    series = Series(1000)
    for index, names in enumerate(rounds):
        for name in names:
            add(series, name)
        gone = [row for row in series.agents if mask >> (row + index) & 1]
        lost = [row for row, task in series.tasks.items() if task.agent in gone]
        series.release(gone, lost)
        born = {row: (agent, int(series.born[row])) for row, agent in series.agents.items()}
        other = Series(1000)
        other.restore(born, dict(series.tasks))
        assert (other.agents, other.tasks) == (series.agents, series.tasks)
        for name in [(None, "new", "t", None), ("x", "a", "u", "m"), (None, "new", "t", "m")]:
            add(other, name)
            add(series, name)
        assert (other.agents, other.tasks) == (series.agents, series.tasks)


def test_thousands_of_series_are_found_however_they_collide() -> None:
    series = Series(100_000)
    names: list[Name] = [
        (None, f"agent-{index // 7}", f"type-{index % 7}", None) for index in range(7_000)
    ]
    for name in names:
        add(series, name)

    found = series.find(columns(names[::-1]))

    assert found.task.tolist() == list(range(7_000))[::-1]
    assert (series.find(columns([(None, "nobody", "type-1", None)])).task == MISSING).all()


def test_a_task_type_with_another_model_is_another_series() -> None:
    series = Series(10)
    names: list[Name] = [(None, "a", "t", None), (None, "a", "t", "m"), (None, "b", "t", "m")]
    for name in names:
        add(series, name)

    assert series.tasks == {0: Task(0, "t"), 1: Task(0, "t", "m"), 2: Task(1, "t", "m")}
    assert series.find(columns(names)).task.tolist() == [0, 1, 2]
    assert series.find(columns(names[1:])).task.tolist() == [1, 2]
    assert series.find(columns([(None, "b", "t", None)])).task.tolist() == [MISSING]


def test_many_tenants_and_agents_do_not_mix() -> None:
    series = Series(100_000)
    names: list[Name] = [(f"tenant-{i}", f"agent-{i}", "t", None) for i in range(1_200)]
    for name in names:
        add(series, name)

    assert series.find(columns(names)).agent.tolist() == list(range(1_200))
    assert (series.find(columns([("tenant-1", "agent-2", "t", None)])).agent == MISSING).all()


def test_the_bound_counts_agents_and_their_task_types() -> None:
    series = Series(4)
    add(series, (None, "a", "t", None))

    assert series.fits([(Agent(None, "a"), "u", None), (Agent(None, "a"), "v", None)])
    assert series.fits([(Agent(None, "b"), "t", None)])
    assert not series.fits([(Agent(None, "b"), "t", None), (Agent(None, "b"), "u", None)])
    assert not series.fits([(Agent(None, "b"), "t", None), (Agent(None, "a"), "u", None)])


def test_an_agent_is_born_in_the_earliest_hour_it_was_seen() -> None:
    series = Series(10)
    add(series, (None, "a", "t", None))
    add(series, (None, "b", "t", None))
    assert series.born[0] == UNBORN
    series.bear(np.array([0, 0]), np.array([7, 5]))
    series.bear(np.array([1, 0]), np.array([9, 6]))
    series.dirty_agents.clear()

    series.bear(np.array([0]), np.array([5]))
    assert series.dirty_agents == set()
    series.bear(np.array([1]), np.array([2]))

    assert series.born[:2].tolist() == [5, 2]
    assert series.dirty_agents == {1}


def test_a_freed_row_is_given_again_the_smallest_first() -> None:
    series = Series(10)
    for name in "abc":
        add(series, (None, name, "t", None))
    series.release([0, 1], [0, 1])

    add(series, (None, "d", "t", None))

    assert series.agents == {2: Agent(None, "c"), 0: Agent(None, "d")}
    assert series.tasks == {2: Task(2, "t"), 0: Task(0, "t")}
    assert series.born[0] == UNBORN
