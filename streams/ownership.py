"""The units of one worker, following the assignments of the group."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from aiokafka.structs import TopicPartition

from streams.assignor import UnitId, complete_units
from streams.failpoints import Failpoint
from streams.units import BatchVerdict, Unit, UnitStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streams.batch import FetchedBatch
    from streams.stage import Stage, Surroundings

log = structlog.get_logger(__name__)


class UnitManager:
    """The units of one worker, following the assignments of the group."""

    def __init__(self, stages: Sequence[Stage], around: Surroundings) -> None:
        """Make all units, closed."""
        self._around = around
        self._generation: int | None = None
        self.units: dict[UnitId, Unit] = {
            unit_id: Unit(unit_id, stage, around)
            for stage in stages
            for unit_id in stage.assignable().units()
        }
        self._stages = tuple(stages)
        self._by_partition = {tp: unit for unit in self.units.values() for tp in unit.partitions()}
        self._owned: list[Unit] = []
        self._last_group_commit = 0.0
        self._group_commit: asyncio.Task[None] | None = None

    def assigned(self, generation: int, held: Iterable[tuple[str, int]]) -> None:
        """Open every unit of which all topics are held; complain about the others."""
        held = set(held)
        self._generation = generation
        complete = complete_units([stage.assignable() for stage in self._stages], held)
        self._owned = [self.units[unit_id] for unit_id in complete]
        split = {partition for _, partition in held} - {unit.partition for unit in complete}
        if split:
            log.error(
                "assignment.split", partitions=sorted(split), cure="all workers need one version"
            )
        for unit in self._owned:
            unit.start(lambda: self._generation == generation)

    async def revoked(self) -> None:
        """Commit and close every unit; nothing is owned afterwards."""
        self._generation = None
        owned, self._owned = self._owned, []
        await asyncio.gather(*(unit.close() for unit in owned))

    async def accept(self, batch: FetchedBatch) -> BatchVerdict:
        """Hand a batch to its unit."""
        await self._around.failpoints.passage(Failpoint.BATCH_BEFORE_ACCEPT)
        await self._around.right_of_way.fold()
        unit = self._by_partition.get(TopicPartition(batch.topic, batch.partition))
        return BatchVerdict.NOT_OPEN if unit is None else unit.accept(batch)

    def fetch_failed(self, tp: TopicPartition, error: Exception) -> None:
        """Hand a fetch error to its unit."""
        if unit := self._by_partition.get(tp):
            unit.fetch_failed(tp, error)

    async def housekeeping(self) -> None:
        """Tell cores about ends of topics; now and then commit offsets for lag tools."""
        self._around.refusals.tell()
        for unit in self._owned:
            unit.settle()
        now = self._around.wall()
        if now - self._last_group_commit >= self._around.settings.group_commit_interval:
            self._last_group_commit = now
            positions: dict[TopicPartition, int] = {}
            for unit in self._owned:
                if unit.status is UnitStatus.OPEN:
                    positions |= unit.committed_positions()
            if positions and (self._group_commit is None or self._group_commit.done()):
                # Not awaited: with the broker away it lasts, and quiet lives must not wait for it.
                self._group_commit = asyncio.create_task(self._commit_for_lag_tools(positions))

    async def _commit_for_lag_tools(self, positions: Mapping[TopicPartition, int]) -> None:
        with suppress(Exception):
            await self._around.flow.commit_positions(positions)
