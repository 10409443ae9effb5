"""Folding waits for a commit that lasts too long, and for nothing else."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from streams.right_of_way import RightOfWay


class Seconds:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


async def settled(task: asyncio.Task[None]) -> bool:
    """Return whether a task ends without anything else happening."""
    for _ in range(5):
        await asyncio.sleep(0)
    return task.done()


async def test_folding_goes_on_while_commits_are_quick(clock: Seconds) -> None:
    way = RightOfWay(2.0, clock)
    await way.fold()
    with way.commit():
        clock.now = 2.0
        await way.fold()


async def test_folding_waits_for_a_commit_that_lasts_too_long(clock: Seconds) -> None:
    way = RightOfWay(2.0, clock)
    with way.commit():
        clock.now = 2.1
        folding = asyncio.create_task(way.fold())
        assert not await settled(folding)
    assert await settled(folding)


async def test_folding_waits_for_every_late_commit_whichever_ends_first(clock: Seconds) -> None:
    way = RightOfWay(2.0, clock)
    with way.commit():
        clock.now = 1.0
        with way.commit():
            clock.now = 3.1
            folding = asyncio.create_task(way.fold())
            assert not await settled(folding)
        assert not await settled(folding)
    assert await settled(folding)


async def test_a_commit_that_fails_holds_nobody_up(clock: Seconds) -> None:
    way = RightOfWay(2.0, clock)
    with suppress(TimeoutError), way.commit():
        clock.now = 9.0
        raise TimeoutError
    await way.fold()


async def test_a_part_lets_the_commits_under_way_pass_and_not_those_begun_later(
    clock: Seconds,
) -> None:
    way = RightOfWay(2.0, clock)
    first = way.commit()
    first.__enter__()
    passing = asyncio.create_task(way.pass_by())
    assert not await settled(passing)
    with way.commit():
        assert not await settled(passing)
        first.__exit__(None, None, None)
        assert await settled(passing)
