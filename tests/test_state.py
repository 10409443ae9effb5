from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import schemas, state
from streams.durations import DAY, HOUR, MINUTE
from streams.panes import PaneKey, PaneRows
from streams.series import Agent, Task

EXAMPLES = settings(max_examples=500, derandomize=True, deadline=None)
NUMBERS = st.one_of(
    st.integers(0, 200), st.integers(-(2**63), 2**63 - 1), st.sampled_from([127, 128, -128, 32767])
)


@EXAMPLES
@given(st.lists(st.lists(NUMBERS, min_size=9, max_size=9), max_size=5), st.booleans())
def test_panes_come_back_as_they_were(values: list[list[int]], published: bool) -> None:
    table = np.array(values, np.int64).reshape(-1, 9)
    rows = np.arange(512, 512 + 3 * len(table), 3)
    revision = np.arange(len(table)) * 1000 if published else np.zeros(len(table), np.int64)
    changed = revision % 2000 > 0
    panes = PaneRows(rows, table[:, :4], table[:, 4:], revision, changed)

    data = state.encode_panes("tasks", HOUR, PaneKey(2, 20_000 * DAY), panes, published=published)
    (record,) = state.decode([(b"key", data)])

    for mine, theirs in zip(panes, state.decode_panes(record.fields), strict=True):
        assert mine.tolist() == theirs.tolist()


def test_small_numbers_take_little_room() -> None:
    rows = np.arange(256)
    table = np.tile(np.array([[100, 3, 1, 0, 20_000, 70_000, 2_000, 500, 0]]), (256, 1))
    none = np.zeros(256, np.int64)
    panes = PaneRows(rows, table[:, :4], table[:, 4:], none, none > 0)

    data = state.encode_panes("tasks", HOUR, PaneKey(0, 0), panes, published=False)

    assert len(data) < 256 * (1 + 4 + 2 + 4 + 2 + 2 + 1) + 100


@EXAMPLES
@given(st.sets(st.integers(0, 3000)))
def test_marks_come_back_as_they_were(rows: set[int]) -> None:
    marks = np.zeros(3001, np.bool_)
    marks[list(rows)] = True

    assert state.unpack_bits(state.pack_bits(marks)).tolist() == sorted(rows)


def test_series_come_back_as_they_were() -> None:
    agents = {256: (Agent(None, "a"), 7), 300: (Agent("x", "ä"), 9)}
    tasks = {5: Task(256, "t"), 7: Task(300, "t", "m")}
    stored = state.decode(
        [
            (state.agents_key("tasks", 1), state.encode_agents("tasks", 1, agents)),
            (state.series_key("tasks", 0), state.encode_series("tasks", 0, tasks)),
        ]
    )

    assert stored[0].fields["tenants"] == [None, "x"]
    assert state.unpack_rows(1, stored[0].fields["rows"]).tolist() == [256, 300]
    assert stored[1].fields["agents"] == [256, 300]
    assert stored[1].fields["models"] == [None, "m"]
    assert {one.fields["table"] for one in stored} == {"tasks"}


def test_half_precision_comes_back_bit_by_bit() -> None:
    values = np.random.default_rng(1).normal(size=(3, 24, 2)).astype(np.float16)
    values[1, 5] = np.nan

    back = state.unpack_residuals(state.pack_residuals(values), 3)

    assert back.tobytes() == values.tobytes()


def test_a_record_of_another_version_is_an_error_that_says_what_to_do() -> None:
    fields = {"version": 2, "started_at": 0, "last_seen": 0, "events": 1, "last_offset": 0}

    with pytest.raises(ValueError, match="'limit' has version 2, this worker reads 1"):
        state.decode([(b"limit", schemas.encode("LimitState", fields))])


def test_keys_are_short_paths() -> None:
    keys = [
        state.clock_key("tasks"),
        state.evidence_key("tasks"),
        state.agents_key("tasks", 3),
        state.series_key("calls", 3),
        state.pane_key("tasks", HOUR, PaneKey(3, 20_000 * DAY)),
        state.pane_key("tasks", MINUTE, PaneKey(3, 20_000 * DAY)),
        state.pane_key("tasks-days", DAY, PaneKey(3, 20_000 * DAY)),
        state.residual_key("error-rate", "24h", 3, 20_000),
        state.life_key("error-rate", 3),
        state.limit_key(None),
    ]

    assert [key.decode() for key in keys] == [
        "clock/tasks",
        "evidence/tasks",
        "agents/tasks/3",
        "series/calls/3",
        "pane/tasks/1h/3/1728000000000",
        "pane/tasks/1m/3/1728000000000",
        "pane/tasks-days/1d/3/1728000000000",
        "residual/error-rate/24h/3/20000",
        "life/error-rate/3",
        "limit",
    ]
    assert state.threat_name(state.threat_key(b'["x"]')) == b'["x"]'
