"""The lives of a rule on many rows: the same as a plain walk tick by tick, however it is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from streams.arms import Judgement
from streams.baseline import NEVER
from streams.durations import DAY, HOUR, MINUTE, SECOND
from streams.lives import Grid, Lives, Step
from streams.rules import RateRule, RuleSet

ERRORS = RuleSet.default().rates[1]
START = 480_000 * HOUR + 30 * MINUTE


def hurried() -> RateRule:
    """Return the error rule with times so short that a test of an hour sees every transition."""
    times = [
        {"for_ms": 2 * MINUTE, "clear_for_ms": 3 * MINUTE},
        {"for_ms": 4 * MINUTE, "clear_for_ms": 2 * MINUTE},
        {"for_ms": 0, "clear_for_ms": 20 * SECOND, "cool_down_ms": 90 * SECOND},
    ]
    arms = [arm.model_copy(update=t) for arm, t in zip(ERRORS.arms, times, strict=True)]
    return ERRORS.model_copy(update={"arms": tuple(arms), "relearn_after_ms": 13 * MINUTE})


RULE = hurried()
STEPS = [arm.step_ms for arm in RULE.arms]
SPAN = 90 * MINUTE


class Naive:
    """One row, tick by tick, as the specification tells it."""

    def __init__(self) -> None:
        self.phase = ["IDLE"] * 3
        self.since = [0] * 3
        self.clear_since: list[Any] = [None] * 3
        self.started: Any = None  # the code below asks `phase`, not these, what is set
        self.fired: Any = None
        self.resolved: int | None = None
        self.relearned: int | None = None
        self.tainted_hours: set[int] = set()
        self.found: list[tuple[int, str, str, int, int]] = []

    def arm(self, a: int, t: int, cell: Any) -> None:  # noqa: C901, PLR0912 - the table as one text
        touched, enough, fire, judgeable, clear = cell
        spec, phase = RULE.arms[a], self.phase[a]
        if spec.cool_down_ms and self.resolved is not None:
            fire = fire and t - self.resolved >= spec.cool_down_ms
        if phase == "IDLE":
            if touched and enough and fire:
                self.phase[a], self.since[a] = ("PENDING", t) if spec.for_ms else ("FIRING", 0)
                self.clear_since[a] = None
        elif phase == "PENDING":
            if not enough:
                self.since[a] += STEPS[a]
            elif not fire:
                self.phase[a] = "IDLE"
            elif t - self.since[a] >= spec.for_ms:
                self.phase[a], self.clear_since[a] = "FIRING", None
        elif not judgeable:
            if self.clear_since[a] is not None:
                self.clear_since[a] += STEPS[a]
        elif clear:
            if self.clear_since[a] is None:
                self.clear_since[a] = t
            if t - self.clear_since[a] >= spec.clear_for_ms:
                self.phase[a] = "IDLE"
        else:
            self.clear_since[a] = None

    def tick(self, t: int, cells: dict[int, Any]) -> None:  # noqa: C901 - likewise
        before = list(self.phase)
        for a, cell in cells.items():
            self.arm(a, t, cell)
        pairs = list(zip(before, self.phase, strict=True))

        def moved(was: str | None, now: str) -> list[int]:
            return [
                a
                for a, (old, new) in enumerate(pairs)
                if new == now and old != now and was in {None, old}
            ]

        say = self.found.append
        fired, pended = moved(None, "FIRING"), moved(None, "PENDING")
        if "FIRING" in before:
            if t - self.fired >= RULE.relearn_after_ms:
                say((t, "RESOLVED", "REBASELINED", before.index("FIRING"), self.started))
                self.relearned = self.started // HOUR * HOUR
                self.resolved, self.started, self.fired = t, None, None
                self.phase = ["IDLE"] * 3
                self.tainted_hours = set()
            elif "FIRING" not in self.phase:
                say((t, "RESOLVED", "CLEAR_ELAPSED", moved("FIRING", "IDLE")[0], self.started))
                hours = range(self.started // HOUR, t // HOUR + 1)
                self.tainted_hours |= set(hours)
                self.resolved, self.started, self.fired = t, None, None
                if "PENDING" in self.phase:
                    self.started = t
                    arm = (pended or [self.phase.index("PENDING")])[0]
                    say((t, "PENDING", "CONDITION_TRUE", arm, t))
            elif fired:
                say((t, "UPDATED", "ARM_JOINED", fired[0], self.started))
        elif fired:
            if self.started is None:
                self.started = t
            self.fired = t
            why = "FOR_ELAPSED" if RULE.arms[fired[0]].for_ms else "AT_ONCE"
            say((t, "FIRING", why, fired[0], self.started))
        elif "PENDING" in before and "PENDING" not in self.phase:
            say((t, "CANCELLED", "CONDITION_FALSE", moved("PENDING", "IDLE")[0], self.started))
            self.started = None
        elif "PENDING" in self.phase and "PENDING" not in before:
            self.started = t
            say((t, "PENDING", "CONDITION_TRUE", pended[0], t))

    def is_tainted(self, hour: int) -> bool:
        is_open = self.fired is not None and hour >= self.started // HOUR
        return is_open or hour in self.tainted_hours


MOODS = {  # enough, fire, judgeable, clear
    "hot": (True, True, True, False),
    "cold": (True, False, True, False),
    "calm": (True, False, True, True),
    "thin": (False, False, True, True),
    "none": (False, False, False, False),
}
ODDS = [0.34, 0.12, 0.34, 0.1, 0.1]


def judgement(flags: list[np.ndarray], numbers: np.ndarray) -> Judgement:
    """Return a judgement of enough, fire, judgeable and clear, whose numbers do not matter."""
    enough, fire, judgeable, clear = flags
    return Judgement(enough, fire, judgeable, clear, numbers, numbers, numbers)


class Weather:
    """Cells of every arm at every tick, [rows, ticks, 5], in runs of one mood."""

    def __init__(self, rng: np.random.Generator, rows: int) -> None:
        self.ticks = [np.arange(START, START + SPAN, step) for step in STEPS]
        self.cells = [self.arm(rng, rows, len(ticks)) for ticks in self.ticks]

    @staticmethod
    def arm(rng: np.random.Generator, rows: int, ticks: int) -> np.ndarray:
        moods = np.array(list(MOODS.values()))
        out = np.zeros((rows, ticks, 5), np.bool_)
        for row in range(rows):
            at = 0
            while at < ticks:
                length = int(rng.geometric(1 / rng.choice([2, 8, 20])))
                out[row, at : at + length, 1:] = moods[rng.choice(5, p=ODDS)]
                at += length
            out[row, :, 0] = rng.random(ticks) < rng.choice([0.1, 0.9])
        return out

    def grids(self, rows: list[int], after: int, until: int) -> list[Grid | None]:
        """Return the grids of rows for the ticks in (after, until]."""
        found: list[Grid | None] = []
        for ticks, cells in zip(self.ticks, self.cells, strict=True):
            chosen = (ticks > after) & (ticks <= until)
            part = cells[rows][:, chosen]
            numbers = np.zeros(part.shape[:2])
            judged = judgement([part[..., i] for i in range(1, 5)], numbers)
            grid = Grid(ticks[chosen], part[..., 0], judged)
            found.append(grid if chosen.any() else None)
        return found


def naive_walk(weather: Weather, rows: int) -> list[Naive]:
    lives = [Naive() for _ in range(rows)]
    index = [{int(t): i for i, t in enumerate(ticks)} for ticks in weather.ticks]
    for t in sorted(set().union(*index)):
        for row, life in enumerate(lives):
            due = {a: weather.cells[a][row, index[a][t]] for a in range(3) if t in index[a]}
            life.tick(t, due)
    return lives


def drive(weather: Weather, lives: Lives, rows: list[int], after: int, until: int) -> list[Step]:
    """Advance as the core does: again for each row whose baseline changed on the way."""
    done = lives.advance(np.array(rows), weather.grids(rows, after, until))
    steps = list(done.steps)
    for row, tick in done.halted.items():
        steps += drive(weather, lives, [row], tick, until)
    return steps


def restored(lives: Lives, rows: int) -> Lives:
    """Return lives made of what the given ones dump."""
    fresh = Lives(RULE)
    for row in range(rows):
        record = lives.dump(row)
        if record is not None:
            fresh.load(row, record)
    return fresh


ROWS = 4


# A seed shrinks to nothing simpler, so a failure is shown as it was found.
@settings(derandomize=True, max_examples=25, deadline=None, phases=[Phase.generate])
@given(
    st.integers(0, 2**32), st.sampled_from([5 * SECOND, MINUTE, 17 * MINUTE, SPAN]), st.booleans()
)
def test_lives_are_those_of_a_plain_walk_however_they_are_cut_and_restored(
    seed: int, chunk: int, restart: bool
) -> None:
    rng = np.random.default_rng(seed)
    weather = Weather(rng, ROWS)
    lives, steps, at = Lives(RULE), [], START - 1
    while at < START + SPAN:
        until = at + int(rng.integers(1, 2 * chunk))
        steps += drive(weather, lives, list(range(ROWS)), at, until)
        at = until
        if restart and rng.random() < 0.2:
            lives = restored(lives, ROWS)
    for row, plain in enumerate(naive_walk(weather, ROWS)):
        mine = [
            (s.at, str(s.transition), str(s.reason), s.arm, s.started_at)
            for s in steps
            if s.row == row
        ]
        assert mine == plain.found
        hours = np.arange(START // HOUR - 1, START // HOUR + 4)
        taint = lives.tainted(hours * HOUR, hours * HOUR + HOUR, ROWS)[row]
        assert taint.tolist() == [plain.is_tainted(int(hour)) for hour in hours]
        assert lives.relearned_from(ROWS)[row] == (
            NEVER if plain.relearned is None else plain.relearned
        )


def test_the_walk_of_the_property_sees_every_transition() -> None:
    lives = naive_walk(Weather(np.random.default_rng(1), 12), 12)
    seen = {(step[1], step[2]) for life in lives for step in life.found}
    assert seen == {
        ("PENDING", "CONDITION_TRUE"),
        ("CANCELLED", "CONDITION_FALSE"),
        ("FIRING", "FOR_ELAPSED"),
        ("FIRING", "AT_ONCE"),
        ("UPDATED", "ARM_JOINED"),
        ("RESOLVED", "CLEAR_ELAPSED"),
        ("RESOLVED", "REBASELINED"),
    }


def grid(ticks: list[int], moods: list[str], *, touched: bool = True) -> Grid:
    """Return one row's grid."""
    flags = np.array([MOODS[mood] for mood in moods])[None]
    zeros = np.zeros((1, len(ticks)))
    judged = judgement([flags[..., i] for i in range(4)], zeros)
    return Grid(np.array(ticks), np.full((1, len(ticks)), touched), judged)


def burst(lives: Lives, tick: int, mood: str = "hot", row: int = 0) -> list[Step]:
    return lives.advance(np.array([row]), [None, None, grid([tick], [mood])]).steps


def test_a_quiet_row_costs_no_life() -> None:
    lives = Lives(RULE)
    burst(lives, START, "cold")
    assert lives.dump(0) is None
    assert lives.take_dirty() == []


def test_a_row_that_was_not_touched_does_not_wake() -> None:
    lives = Lives(RULE)
    ticks = [START, START + MINUTE]
    moods = grid(ticks, ["hot", "hot"], touched=False)
    assert lives.advance(np.array([0]), [moods, None, None]).steps == []


def test_a_busy_row_is_named_until_it_is_idle() -> None:
    lives = Lives(RULE)
    lives.advance(np.array([7]), [grid([START], ["hot"]), None, None])
    assert [lives.busy(arm).tolist() for arm in range(3)] == [[7], [], []]
    lives.advance(np.array([7]), [grid([START + MINUTE], ["cold"]), None, None])
    assert lives.busy(0).tolist() == []


def test_a_row_stops_where_its_baseline_may_change() -> None:
    lives = Lives(RULE)
    ticks = [START + 5 * SECOND * i for i in range(4)]
    done = lives.advance(np.array([3]), [None, None, grid(ticks, ["cold", "hot", "hot", "calm"])])
    assert done.halted == {3: ticks[1]}
    assert [step.at for step in done.steps] == [ticks[1]]


def test_a_step_names_the_column_of_its_arm() -> None:
    lives = Lives(RULE)
    short = grid([START, START + 5 * SECOND], ["cold", "hot"])
    (step,) = lives.advance(np.array([3]), [grid([START], ["cold"]), None, short]).steps
    assert (step.arm, step.column) == (2, 1)


def test_an_arm_without_a_tick_at_the_step_has_no_column() -> None:
    lives = Lives(RULE)
    burst(lives, START)
    lives.advance(np.array([0]), [grid([START + MINUTE], ["hot"]), None, None])
    clearing = [START + MINUTE + 5 * SECOND * i for i in range(1, 7)]
    steps = lives.advance(np.array([0]), [None, None, grid(clearing, ["calm"] * 6)]).steps
    assert [(str(s.transition), s.arm, s.column) for s in steps] == [
        ("RESOLVED", 2, 4),
        ("PENDING", 0, -1),
    ]


def test_steps_stand_in_tick_order_across_rows() -> None:
    lives = Lives(RULE)
    ticks = [START, START + 5 * SECOND]
    early, late = grid(ticks, ["hot", "hot"]), grid(ticks, ["cold", "hot"])
    flags = [
        np.concatenate([getattr(late.judgement, name), getattr(early.judgement, name)])
        for name in ("enough", "fire", "judgeable", "clear", "rate", "z", "limit")
    ]
    both = Grid(np.array(ticks), np.ones((2, 2), np.bool_), Judgement(*flags))
    steps = lives.advance(np.array([0, 1]), [None, None, both]).steps
    assert [(step.at, step.row) for step in steps] == [(ticks[0], 1), (ticks[1], 0)]


@pytest.mark.parametrize("ticks", [1, 7, 40])
def test_a_hold_is_as_so_many_ticks_without_a_sample(ticks: int) -> None:
    held, stepped = Lives(RULE), Lives(RULE)
    for lives in (held, stepped):
        lives.advance(np.array([0]), [grid([START], ["hot"]), None, None])
    held.hold(0, ticks)
    empty = grid([START + MINUTE * i for i in range(1, ticks + 1)], ["none"] * ticks)
    stepped.advance(np.array([0]), [empty, None, None])
    assert held.dump(0) == stepped.dump(0)
    assert held.take_dirty() == [0]


def test_it_is_known_whether_the_rule_fires_anywhere() -> None:
    lives = Lives(RULE)
    assert not lives.firing()
    burst(lives, START)
    assert lives.firing()


def test_taint_leaves_windows_out() -> None:
    lives = Lives(RULE)
    burst(lives, START, row=1)
    hour = START - 30 * MINUTE
    starts = np.array([hour - HOUR, hour - HOUR, hour, hour + 9 * DAY])
    ends = np.array([hour, hour + HOUR, hour + HOUR, hour + 10 * DAY])
    assert lives.tainted(starts, ends, 2).tolist() == [[False] * 4, [False, True, True, True]]


def test_rows_beyond_those_asked_for_are_left_out() -> None:
    lives = Lives(RULE)
    burst(lives, START, row=5)
    assert lives.tainted(np.array([START]), np.array([START + 1]), 2).tolist() == [[False]] * 2


def test_marked_rows_are_those_that_leave_anything_out() -> None:
    lives = Lives(RULE)
    burst(lives, START, row=5)
    lives.advance(np.array([2]), [grid([START], ["hot"]), None, None])
    assert lives.marked() == [5]
    assert lives.excluded(2, 0, START) == []
    assert lives.excluded(5, 0, START) == [(START - 30 * MINUTE, START)]
    assert lives.excluded(99, 0, START) == []


def test_a_new_normal_is_told_for_its_row_alone() -> None:
    lives = Lives(RULE)
    burst(lives, START, row=1)
    burst(lives, START + RULE.relearn_after_ms, row=1)
    assert lives.relearned_from(3).tolist() == [NEVER, START - 30 * MINUTE, NEVER]
    assert lives.excluded(1, 0, START) == [(0, START - 30 * MINUTE)]


def test_what_no_window_can_reach_is_forgotten() -> None:
    lives = Lives(RULE)
    burst(lives, START)
    for i in range(1, 6):
        burst(lives, START + i * 5 * SECOND, "calm")
    lives.take_dirty()
    hour = START - 30 * MINUTE
    lives.prune(hour + HOUR + 36 * DAY - 1)
    assert lives.marked() == [0]
    lives.prune(hour + HOUR + 36 * DAY)
    assert lives.dump(0) is None
    assert lives.take_dirty() == [0]


def test_a_forgotten_row_leaves_nothing() -> None:
    lives = Lives(RULE)
    burst(lives, START)
    lives.take_dirty()
    lives.forget(0)
    assert lives.take_dirty() == [0]
    assert (lives.dump(0), lives.marked(), lives.busy(2).tolist()) == (None, [], [])
    assert not lives.firing()
