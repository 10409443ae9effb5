"""The right of way on the loop: folding waits for epochs whose commit lasts too long.

Folding never waits inside, and a commit needs many turns of the loop. Batches of which every record
is refused can keep the loop so busy that no commit ends within its time; the work of the epochs
would then be lost and begun again, for ever.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class RightOfWay:
    """The commits under way in one worker, and folding that waits for them.

    Args:
        patience: seconds a commit may last before folding waits. Less of it slows folding down
            where the broker is merely far away.
        clock: seconds that only rise.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._began: dict[object, float] = {}
        self._ended = asyncio.Event()

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Know of a commit while it lasts."""
        mark = object()
        self._began[mark] = self._clock()
        try:
            yield
        finally:
            del self._began[mark]
            self._ended.set()

    async def pass_by(self) -> None:
        """Return once the commits under way now have ended; those begun later wait for nobody.

        For who folds long batches part by part: a commit needs many turns, each of which would last
        as long as a part.
        """
        under_way = set(self._began)
        while under_way & self._began.keys():
            self._ended.clear()
            await self._ended.wait()

    async def fold(self) -> None:
        """Return once no commit lasts too long."""
        while self._began and self._clock() - min(self._began.values()) > self._patience:
            self._ended.clear()
            await self._ended.wait()
