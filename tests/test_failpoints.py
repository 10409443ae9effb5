"""Fail points: what can be asked of them, and that nothing is asked by default."""

from __future__ import annotations

import time

import pytest

from streams.failpoints import Failpoint, Failpoints, Guard


def test_unset_means_every_guard_is_on() -> None:
    points = Failpoints.parse("")
    assert all(points.guards(guard) for guard in Guard)


def test_a_switch_turns_one_guard_off() -> None:
    points = Failpoints.parse("no-fencing")
    assert [guard for guard in Guard if not points.guards(guard)] == [Guard.FENCING]


def test_a_kill_names_its_passage() -> None:
    points = Failpoints.parse("epoch.before_commit=kill@3, no-positions")
    assert points.kill_at == {Failpoint.EPOCH_BEFORE_COMMIT: 3}


def test_an_unknown_point_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(ValueError, match=r"epoch\.elsewhere.*epoch\.before_produce"):
        Failpoints.parse("epoch.elsewhere=kill@1")


async def test_a_sleep_waits_at_each_passage() -> None:
    points = Failpoints.parse("open.before_read=sleep@0.05")
    started = time.monotonic()
    await points.passage(Failpoint.OPEN_BEFORE_READ)
    await points.passage(Failpoint.OPEN_BEFORE_READ)
    assert time.monotonic() - started >= 0.1
