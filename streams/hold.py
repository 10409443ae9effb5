"""What waits in front of a unit: batches of a topic that cannot be folded yet, or not in one go.

Either a schema must be looked up first, or another topic of the unit must be read further. Order
within a topic is kept: while one batch waits, the batches behind it wait too. Other topics of the
unit go on. After a moment the partition is paused, so what waits here is no more than what was on
its way; it is in memory only, and read again if the unit closes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from streams.reasons import HoldReason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from aiokafka.structs import TopicPartition

    from streams.batch import FetchedBatch
    from streams.stage import Surroundings

    class Folded(Protocol):
        """What became of a batch."""

        @property
        def missing(self) -> Collection[bytes]:
            """Frames to look up first."""

        @property
        def rest(self) -> FetchedBatch | None:
            """What is still to be folded; None for nothing."""

        @property
        def more(self) -> bool:
            """Whether the rest can be folded at once."""

    Fold = Callable[[FetchedBatch, bool], Folded]

PATIENCE = 0.25
"""Seconds a look-up may take before the partition is paused."""
MOST = 4
"""Batches that may wait before the partition is paused."""


class Hold:
    """The waiting batches of one topic partition.

    Args:
        tp: the partition.
        around: whom to ask, and the flow to pause.
        fold: folds a batch, or what can be folded of it; True = frames were looked up.
        fail: told when that cannot go on.
    """

    def __init__(
        self, tp: TopicPartition, around: Surroundings, fold: Fold, fail: Callable[[str], None]
    ) -> None:
        self._tp = tp
        self._around = around
        self._fold = fold
        self._fail = fail
        self._batches: deque[FetchedBatch] = deque()
        self._task: asyncio.Task[None] | None = None
        self._paused = False
        self._nudged = asyncio.Event()

    @property
    def waiting(self) -> bool:
        """Whether batches wait, so that no later one may pass."""
        return bool(self._batches)

    def put(self, batch: FetchedBatch, missing: Collection[bytes] = ()) -> None:
        """Take a batch: the first one with what it misses, the others behind it."""
        self._batches.append(batch)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._release(missing), name=f"hold {self._tp}")

    def nudge(self) -> None:
        """Try again: another topic may have been read further."""
        self._nudged.set()

    async def drop(self) -> None:
        """Forget what waits: it will be read again."""
        self._batches.clear()
        self._paused = False  # a unit that opens lets its partitions flow
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _release(self, missing: Collection[bytes]) -> None:
        """Look up and fold until nothing waits; whatever goes wrong, the unit opens again."""
        try:
            await self._fold_all(missing)
        except Exception as error:  # noqa: BLE001 - a hold that ends silently would wait for ever
            self._batches.clear()
            self._fail(f"{type(error).__name__}: {error}")

    async def _fold_all(self, missing: Collection[bytes]) -> None:
        while self._batches or self._paused:
            if not self._batches:
                await self._resume()
                continue
            if len(self._batches) > MOST:
                await self._pause()
            if looked_up := bool(missing):
                await self._look_up(missing)
            await self._around.right_of_way.fold()
            self._nudged.clear()
            found = self._fold(self._batches[0], looked_up)
            missing = found.missing
            if found.rest is not None:
                self._batches[0] = found.rest
                if found.more:
                    await self._around.right_of_way.pass_by()
                elif not missing:
                    await self._wait_for_turn()
            else:
                self._batches.popleft()
            await asyncio.sleep(0)  # others on this loop wait no longer than for one batch

    async def _wait_for_turn(self) -> None:
        """Wait until another topic was folded, or for a while: its end may have been reached."""
        held = self._around.metrics.held.labels(HoldReason.ORDER)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._nudged.wait()
        except TimeoutError:
            held.inc()
            try:
                await self._pause()
                await self._nudged.wait()
            finally:
                held.dec()

    async def _look_up(self, missing: Collection[bytes]) -> None:
        asking = asyncio.create_task(self._around.catalog.look_up(missing))
        try:
            done, _ = await asyncio.wait({asking}, timeout=PATIENCE)
            if done:
                asking.result()
            else:
                await self._look_up_paused(asking)
        finally:
            asking.cancel()

    async def _look_up_paused(self, asking: asyncio.Task[None]) -> None:
        held = self._around.metrics.held.labels(HoldReason.SCHEMA)
        held.inc()
        try:
            await self._pause()
            await asking
        finally:
            held.dec()

    async def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            await self._around.flow.pause([self._tp])

    async def _resume(self) -> None:
        await self._around.flow.resume([self._tp])
        self._paused = False
