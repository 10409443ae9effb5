"""Watches that no partition stands still beside a backlog while nothing is done to its worker."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from aiokafka.errors import KafkaError

from load.logs import Positions, ends

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiokafka.structs import TopicPartition

    from load.workers import Crew

IDLE_SECONDS = 5.0
"""How long an owned partition may stand still beside a backlog."""


class Stillness:
    """The watch of one proof.

    Args:
        bootstrap: the broker.
        inputs: the partitions of all inputs.
        positions: how far the units have come.
        crew: the workers, and when something was done to them.
        grace: seconds the group may take to move on after that.

    Attributes:
        excused: how many things that workers need are away: nobody is accused meanwhile.
        looks: looks at all partitions so far.
        armed: looks at single partitions so far at which standing still would have been noticed.
    """

    def __init__(
        self,
        bootstrap: str,
        inputs: Sequence[TopicPartition],
        positions: Positions,
        crew: Crew,
        grace: float,
    ) -> None:
        self._bootstrap, self._inputs = bootstrap, list(inputs)
        self._positions, self._crew, self._grace = positions, crew, grace
        self._backlog_free: dict[int, float] = {}
        self.excused = 0
        self.looks = self.armed = 0

    async def watch(self, accuse: Callable[[str], None]) -> None:
        """Watch until cancelled; `accuse` takes a sentence for each stand-still."""
        while True:
            await asyncio.sleep(0.5)
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(3):
                    end = await ends(self._bootstrap, self._inputs, committed=False)
                now = time.monotonic()
                self.looks += 1
                self._crew.scan()
                if self.excused:
                    self._crew.touched_at = now
                for p in sorted({tp.partition for tp in self._inputs}):
                    self._look(p, end, now, accuse)

    def _look(
        self, p: int, end: dict[TopicPartition, int], now: float, accuse: Callable[[str], None]
    ) -> None:
        at, crew = self._positions.at, self._crew
        behind = sum(max(0, end[tp] - at.get(tp, 0)) for tp in end if tp.partition == p)
        if not behind or p not in self._backlog_free:
            self._backlog_free[p] = now
        opened_at = crew.opened_at.get(f"detect/{p}", 0.0)
        calm_since = max(crew.touched_at + self._grace, crew.rebalanced_at, opened_at)
        moved = [seconds for tp, seconds in self._positions.moved_at.items() if _detect(tp, p)]
        self.armed += now - calm_since > IDLE_SECONDS
        since = max(calm_since, *moved, self._backlog_free[p])
        if now - since > IDLE_SECONDS:
            accuse(f"partition {p} stood still over {IDLE_SECONDS:.0f} s, {behind} records behind")
            self._backlog_free[p] = now


def _detect(tp: TopicPartition, p: int) -> bool:
    """Return whether it is the state of unit detect/p."""
    return tp.partition == p and not tp.topic.endswith(("incidents-state", "rollup-state"))
