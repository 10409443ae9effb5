"""The history of signals: which bins end when, and what of a row is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams import state
from streams.durations import DAY, HOUR
from streams.rules import RuleSet
from streams.series import Agent
from streams.signals import SignalHistory

if TYPE_CHECKING:
    from streams.shifts import Shift

RULE = RuleSet.default().drift
FIRST = 20_000 * DAY
ROWS = 8


def history() -> SignalHistory:
    one = SignalHistory("tasks", RULE, RULE.step_ms, 1)
    one.reserve(ROWS, 1)
    for row in range(ROWS):
        one.name(row, Agent(None, f"agent-{row}"))
    return one


def live(one: SignalHistory, first: int, last: int, step_at: int = 10**6) -> list[Shift]:
    """Let days pass; from a day on the values of row 3 are higher."""
    found = []
    for hour in range(first * 24, last * 24):
        rng = np.random.default_rng(hour)
        number, rows = one.due(FIRST + hour * HOUR, ROWS)
        values = rng.standard_normal((len(rows), 1))
        values[rows == 3] += 5.0 * (hour >= step_at * 24)
        found += one.close(number, rows, values)
    return found


def test_every_row_has_one_bin_in_four_hours_that_begins_where_it_says() -> None:
    one = history()
    ticks = range(FIRST, FIRST + DAY, HOUR)
    ended = [
        (tick, number, row)
        for tick in ticks
        for number, rows in [one.due(tick, ROWS)]
        for row in rows.tolist()
    ]

    assert len(ended) == 6 * ROWS
    assert all(one.start(number, row) == tick - 4 * HOUR for tick, number, row in ended)
    assert all(one.bin_at(tick - 1, row) == number for tick, number, row in ended)


def test_a_shift_is_found_with_its_onset_and_frozen_until_thawed() -> None:
    one = history()
    found = live(one, 0, 30, step_at=26)

    assert [shift.row for shift in found] == [3]
    assert abs(one.start(found[0].onset, 3) - (FIRST + 26 * DAY)) <= DAY
    assert found[0].now.magnitude > 3


def test_after_a_restart_of_the_agent_nothing_is_found_for_two_weeks() -> None:
    one = history()
    live(one, 0, 22)
    one.restart(3, one.bin_at(FIRST + 22 * DAY, 3))

    assert live(one, 22, 37, step_at=30) == []


def test_what_is_stored_gives_the_same_history() -> None:
    whole, parted = history(), history()
    stored: dict[bytes, bytes] = {}
    for first, last in ((0, 19), (19, 26), (26, 27), (27, 30)):
        assert live(parted, first, last, 26) == live(whole, first, last, 26)
        stored.update({key: value for key, value in parted.changes() if value is not None})
        again = SignalHistory("tasks", RULE, RULE.step_ms, 1)
        for one in state.decode(stored.items()):
            assert again.restore(one)
        again.settle()
        for row in range(ROWS):
            again.name(row, Agent(None, f"agent-{row}"))
        for signal, usual in parted._frozen.items():  # the watch keeps these
            again.freeze(signal, usual)
        parted = again


def test_bins_too_old_are_deleted_from_the_state() -> None:
    one = history()
    live(one, 0, 1)
    written = {key for key, _ in one.changes()}
    live(one, 1, 53)
    gone = {key for key, value in one.changes() if value is None}

    assert written <= gone
