"""Silence: how many records are overdue, by brute force, and what becomes of it."""

from __future__ import annotations

from statistics import median_low

import numpy as np
import pytest

from streams import state
from streams.arrivals import NEVER, Arrivals, SilenceLives
from streams.durations import DAY, HOUR, MINUTE, WEEK
from streams.panes import Panes
from streams.reasons import Transition, TransitionReason
from streams.rules import RuleSet

RULE = RuleSet.default().silence
NOW = 2_900 * WEEK + 3 * DAY + 9 * HOUR
IDLE = TransitionReason.AGENT_IDLE


class Series:
    """Rows with hour and minute panes, and when each began."""

    def __init__(self, rows: int, born: int = NOW - 6 * WEEK) -> None:
        self.hours, self.minutes = Panes(HOUR, 24, 50), Panes(MINUTE, 60, 9)
        self.hours.reserve(rows)
        self.minutes.reserve(rows)
        self.rows = np.arange(rows)
        self.born = np.full(rows, born)
        self.counts: dict[tuple[int, int], int] = {}
        self.arrivals = Arrivals(RULE, self.hours, self.minutes)

    def add(self, row: int, at: int, number: int = 1) -> None:
        one = np.array([row]), np.array([at // HOUR])
        self.hours.add(*one, np.zeros(1, np.int64), (), np.array([number]))
        self.counts[row, at // HOUR] = self.counts.get((row, at // HOUR), 0) + number

    def minute(self, row: int, at: int) -> None:
        self.minutes.expire(at - 180 * MINUTE)
        self.minutes.add(np.array([row]), np.array([at // MINUTE]), np.zeros(1, np.int64))
        self.add(row, at)

    def every_hour(self, row: int, number: int, until: int, since: int = NOW - 5 * WEEK) -> None:
        for at in range(since, until, HOUR):
            self.add(row, at, number)

    def expected(self, row: int, since: int, now: int) -> float:
        """Return the records overdue, written out from docs/semantics.md."""
        total = 0.0
        for hour in range(since // HOUR, -(-now // HOUR)):
            weeks = [hour - 168 * week for week in (1, 2, 3, 4)]
            known = [
                self.counts.get((row, one), 0) for one in weeks if one * HOUR >= self.born[row]
            ]
            if len(known) < 2:
                continue
            usual = min(sum(known) / len(known), 2 * median_low(known) + 1)
            spent = min(now, (hour + 1) * HOUR) - max(since, hour * HOUR)
            total += usual * spent / HOUR
        return 0.5 * total


def test_the_overdue_number_is_the_integral_written_out() -> None:
    random = np.random.default_rng(3)
    series = Series(40)
    series.born = NOW - random.integers(0, 6 * WEEK, 40) // HOUR * HOUR
    for row in range(40):
        for at in range(NOW - 5 * WEEK, NOW, HOUR):
            if at >= series.born[row] and random.random() < 0.4:
                series.add(row, at, int(random.poisson(2 + row)) + 1)
    since = NOW - random.integers(20 * MINUTE, 3 * DAY, 40)
    now = NOW + 17 * MINUTE
    found = series.arrivals.overdue(series.rows, since, now, series.born)
    brute = [series.expected(row, int(since[row]), now) for row in range(40)]
    assert found.tolist() == pytest.approx(brute)
    assert max(brute) > 13.8


def test_it_does_not_matter_how_rows_are_asked_together() -> None:
    series = Series(30)
    for row in range(30):
        series.every_hour(row, row % 7, NOW)
    since = NOW - np.arange(30) * 3 * HOUR - HOUR
    whole = series.arrivals.overdue(series.rows, since, NOW, series.born)
    single = [
        series.arrivals.overdue(series.rows[row : row + 1], since[row : row + 1], NOW, series.born)
        for row in range(30)
    ]
    assert whole.tolist() == np.concatenate(single).tolist()


def test_nothing_is_expected_of_a_series_younger_than_two_weeks() -> None:
    series = Series(1, born=NOW - 2 * WEEK + HOUR)
    series.every_hour(0, 1_000, NOW, since=int(series.born[0]))
    since = np.array([NOW - 5 * HOUR])
    assert series.arrivals.overdue(series.rows, since, NOW, series.born).tolist() == [0.0]


def test_what_came_in_one_week_only_is_no_habit() -> None:
    series = Series(1)
    series.add(0, NOW - 2 * WEEK, 50_000)
    since = np.array([NOW])
    found = series.arrivals.overdue(series.rows, since, NOW + HOUR, series.born)
    assert found.tolist() == [0.5]


def test_the_last_record_is_known_to_the_minute_for_three_hours_then_to_the_hour() -> None:
    series = Series(1)
    at = NOW + 20 * MINUTE
    series.minute(0, at)
    for now in (at + MINUTE, at + 179 * MINUTE):
        assert series.arrivals.last_seen(series.rows, now).tolist() == [at + MINUTE]
    assert series.arrivals.last_seen(series.rows, at + DAY).tolist() == [NOW + HOUR]
    assert series.arrivals.last_seen(series.rows, at + 40 * DAY).tolist() == [NEVER]


# -- lives -------------------------------------------------------------------------------------


def lives_of(series: Series) -> SilenceLives:
    return SilenceLives("agent", series.arrivals)


def step(lives: SilenceLives, series: Series, tick: int) -> list[Transition]:
    found = lives.step(tick, series.rows, series.born, lambda _: IDLE)
    return [one.turn.transition for one in found]


def busy_until_now() -> Series:
    """Return a row with 4 records an hour, the last one just before NOW."""
    series = Series(1)
    series.every_hour(0, 4, NOW)
    return series


def test_it_falls_silent_when_more_than_13_8_records_are_overdue() -> None:
    series = busy_until_now()
    lives = lives_of(series)
    assert step(lives, series, NOW + 6 * HOUR) == []  # 12 overdue
    assert step(lives, series, NOW + 7 * HOUR) == [Transition.FIRING]  # 14


def test_within_5_percent_below_the_limit_it_does_not() -> None:
    series = busy_until_now()
    lives = lives_of(series)
    tick = NOW + 6 * HOUR + 34 * MINUTE  # 13.13: 4.8 % below
    assert 0.95 * 13.8 < series.expected(0, NOW, tick) < 13.8
    assert step(lives, series, tick) == []


def test_it_resolves_at_the_first_record() -> None:
    series = busy_until_now()
    lives = lives_of(series)
    step(lives, series, NOW + 8 * HOUR)
    assert step(lives, series, NOW + 9 * HOUR) == []
    series.minute(0, NOW + 9 * HOUR + 5 * MINUTE)
    (found,) = lives.step(NOW + 10 * HOUR, series.rows, series.born, lambda _: IDLE)
    assert found.turn.transition is Transition.RESOLVED
    assert found.turn.started_at == NOW + 8 * HOUR
    assert (found.fired_for, found.last_seen) == (IDLE, NOW)


def test_a_last_record_known_to_the_minute_then_to_the_hour_is_no_new_one() -> None:
    series = Series(1)
    series.every_hour(0, 100, NOW)
    series.minute(0, NOW + 2 * MINUTE)
    lives = lives_of(series)
    assert step(lives, series, NOW + 30 * MINUTE) == [Transition.FIRING]
    ticks = range(NOW + HOUR, NOW + 3 * DAY, HOUR)
    assert all(step(lives, series, tick) == [] for tick in ticks)


def test_a_pause_under_a_quarter_of_an_hour_is_no_silence() -> None:
    series = Series(1)
    series.every_hour(0, 10_000, NOW)
    series.minute(0, NOW)
    lives = lives_of(series)
    assert step(lives, series, NOW + 15 * MINUTE) == []
    assert step(lives, series, NOW + 16 * MINUTE) == [Transition.FIRING]


def test_who_was_silent_for_28_days_is_gone() -> None:
    series = busy_until_now()
    lives = lives_of(series)
    step(lives, series, NOW + 8 * HOUR)
    (found,) = lives.step(NOW + 29 * DAY, series.rows, series.born, lambda _: IDLE)
    assert found.turn.reason is TransitionReason.ENTITY_GONE
    assert not lives.busy()


def test_a_row_with_records_needs_every_hour() -> None:
    series = busy_until_now()
    lives = lives_of(series)
    step(lives, series, NOW)
    assert lives.busy()


def test_a_restart_changes_nothing() -> None:
    series = Series(3)
    for row, number in enumerate((4, 40, 0)):
        series.every_hour(row, number, NOW)
    plain, stored = lives_of(series), dict[bytes, bytes]()
    again = lives_of(series)
    for tick in range(NOW, NOW + 12 * HOUR, 30 * MINUTE):
        if tick == NOW + 10 * HOUR:
            series.minute(0, tick - MINUTE)
        for key, value in again.changes():
            if value is None:
                stored.pop(key)
            else:
                stored[key] = value
        again = lives_of(series)
        assert all(again.restore(one) for one in state.decode(stored.items()))
        again.settle()
        assert step(again, series, tick) == step(plain, series, tick)
    assert plain.silent(1)
    assert not plain.silent(0)


def test_another_scope_and_a_forgotten_row_are_left_alone() -> None:
    series = busy_until_now()
    lives = lives_of(series)
    step(lives, series, NOW + 8 * HOUR)
    ((key, value),) = lives.changes()
    assert value is not None
    (stored,) = state.decode([(key, value)])
    assert not SilenceLives("integration", series.arrivals).restore(stored)
    lives.forget([0])
    assert list(lives.changes()) == [(key, None)]
