"""The distance of a mix of task types from the usual one."""

from __future__ import annotations

import numpy as np
import pytest

from streams import state
from streams.durations import DAY, HOUR
from streams.layout import TASKS
from streams.ledger import Ledger
from streams.mixes import Mixes
from streams.series import Agent

AGENT = Agent(None, "a")
START = 20_000 * DAY // HOUR


class Bins:
    """One agent, bin by bin."""

    def __init__(self) -> None:
        self.ledger = Ledger((), 10, TASKS)
        for kind in ("x", "y"):
            self.ledger.series.add(AGENT, kind, "model-1")
        self.ledger.series.add(AGENT, "x", "model-2")
        self.ledger.reserve()
        self.mixes = Mixes(4 * HOUR)
        self.hour = START

    def bin(self, *kinds: tuple[str, str, int], held: bool = False) -> float:
        for kind, model, number in kinds:
            row = self.ledger.series.rows(AGENT, kind, model)[1]
            rows = np.full(number, row)
            hours = np.full(number, self.hour + 1)
            sums = [np.zeros(number, np.int64)] * len(TASKS.sums)
            self.ledger.task_hours.add(rows, hours, np.zeros(number, np.int64), sums)
        self.hour += 4
        rows = np.array([0])
        tick = self.hour * HOUR
        held_rows = {0} if held else set[int]()
        return float(self.mixes.distances(self.ledger, rows, tick, held_rows, into=rows)[0])


def usual(bins: Bins, number: int) -> list[float]:
    return [bins.bin(("x", "model-1", 30), ("y", "model-1", 10)) for _ in range(number)]


def test_the_distance_is_the_share_of_tasks_of_another_type() -> None:
    bins = Bins()
    found = usual(bins, 50)

    assert np.isnan(found[:42]).all()
    assert found[42:] == pytest.approx([0.0] * 8)
    assert bins.bin(("x", "model-1", 20), ("y", "model-1", 20)) == pytest.approx(0.25)


def test_another_model_is_no_other_mix() -> None:
    bins = Bins()
    usual(bins, 45)

    assert bins.bin(("x", "model-2", 30), ("y", "model-1", 10)) == pytest.approx(0.0)


def test_the_usual_mix_does_not_follow_a_drift() -> None:
    bins = Bins()
    usual(bins, 45)
    held = [bins.bin(("y", "model-1", 40), held=True) for _ in range(5)]
    followed = [bins.bin(("y", "model-1", 40)) for _ in range(5)]

    assert held == pytest.approx([0.75] * 5)
    assert followed[-1] < 0.72


def test_after_a_restart_of_the_agent_nothing_is_usual() -> None:
    bins = Bins()
    usual(bins, 45)
    bins.mixes.restart(0)

    assert np.isnan(usual(bins, 1)).all()


def test_it_goes_on_from_its_state() -> None:
    whole, parted = Bins(), Bins()
    stored: dict[bytes, bytes] = {}
    for _ in range(60):
        assert repr(usual(parted, 1)) == repr(usual(whole, 1))
        stored.update({key: value for key, value in parted.mixes.changes() if value})
        parted.mixes = Mixes(4 * HOUR)
        for one in state.decode(stored.items()):
            assert parted.mixes.restore(one)
        parted.mixes.settle()


def test_a_forgotten_agent_leaves_no_state() -> None:
    bins = Bins()
    usual(bins, 2)
    list(bins.mixes.changes())
    bins.mixes.forget([0])

    assert [value for _, value in bins.mixes.changes()] == [None]
