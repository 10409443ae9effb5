"""Assigning whole units, not partitions, to the workers of the group.

A unit is a stage and a partition number: what concerns an agent meets in partition p of every
input topic, so all of them must go to one worker. Faust's own assignor splits p between
workers when topic counts or subscriptions differ; this one cannot, because it never looks at a
single partition.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import structlog
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from faust.types.assignor import PartitionAssignorT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from faust.types import TP

log = structlog.get_logger(__name__)


class UnitId(NamedTuple):
    """A stage and a partition number, written ``detect/3``."""

    stage: str
    partition: int

    def __str__(self) -> str:
        """Return ``stage/partition``."""
        return f"{self.stage}/{self.partition}"


@dataclass(frozen=True, slots=True)
class StageTopics:
    """The input topics of a stage; all of them have `partitions` partitions."""

    name: str
    topics: tuple[str, ...]
    partitions: int

    def units(self) -> list[UnitId]:
        """Return the units of this stage in order."""
        return [UnitId(self.name, partition) for partition in range(self.partitions)]


def unequal_counts(
    stages: Sequence[StageTopics], counts: Mapping[str, int | None]
) -> dict[str, int | None]:
    """Return the topics whose partition count on the broker is not the one their stage needs."""
    return {
        topic: counts.get(topic)
        for stage in stages
        for topic in stage.topics
        if counts.get(topic) != stage.partitions
    }


def assign_units(
    units: Sequence[UnitId], owned: Mapping[str, Sequence[UnitId]]
) -> dict[str, list[UnitId]]:
    """Share `units` among the members, moving as few as can be.

    Args:
        units: every unit there is.
        owned: member id → the units it owned until now (stale claims are allowed).

    Returns:
        member id → its units. No two members differ by more than one unit; a unit stays with its
        owner as long as that keeps the balance. The same input gives the same output.
    """
    members = sorted(owned)
    if not members:
        return {}
    share: dict[str, list[UnitId]] = {member: [] for member in members}
    least, extra = divmod(len(units), len(members))
    free = dict.fromkeys(units)
    # Members that own most keep most: the `extra` larger shares go where the fewest units move.
    by_size = sorted(members, key=lambda member: (-len(owned[member]), member))
    for rank, member in enumerate(by_size):
        room = least + (1 if rank < extra else 0)
        for unit in owned[member]:
            if unit in free and len(share[member]) < room:
                share[member].append(unit)
                del free[unit]
    waiting = list(free)
    for rank, member in enumerate(by_size):
        room = least + (1 if rank < extra else 0)
        take = room - len(share[member])
        share[member] += waiting[:take]
        waiting = waiting[take:]
    return {member: sorted(mine) for member, mine in share.items()}


class UnitAssignor(AbstractPartitionAssignor, PartitionAssignorT):  # type: ignore[misc]
    """The group protocol around `assign_units`, as Faust and aiokafka call it.

    One subclass is made per app (see `assignor_for`), because Faust builds it from a class.
    """

    stages: ClassVar[tuple[StageTopics, ...]] = ()
    VERSION: ClassVar[int] = 1
    replicas = 0

    def __init__(self, app: Any, replicas: int = 0) -> None:
        """Keep the app, whose consumer thread is told of an assignment at once."""
        self.app: Any = app
        self.replicas = replicas
        self._owned: list[UnitId] = []
        self._actives: set[TP] = set()

    @property
    def name(self) -> str:
        """Name of the protocol in the group."""
        return f"agentops-units-v{self.VERSION}"

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """Tell the leader what this member subscribes to and owns."""
        owned = json.dumps([[unit.stage, unit.partition] for unit in self._owned])
        return ConsumerProtocolMemberMetadata(self.VERSION, sorted(topics), owned.encode())

    def assign(
        self, cluster: Any, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Share the units among the members that subscribe to every topic.

        With unequal partition counts nobody gets anything: an agent would live in two places.
        """
        topics = {topic for stage in self.stages for topic in stage.topics}
        counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}
        units = [unit for stage in self.stages for unit in stage.units()]
        if wrong := unequal_counts(self.stages, counts):
            log.error("assignment.refused", reason="UNEQUAL_PARTITIONS", found=wrong)
            units = []
        fit = {
            member: _claims(metadata.user_data)
            for member, metadata in members.items()
            if topics <= set(metadata.subscription)
        }
        for member in members.keys() - fit.keys():
            log.error("assignment.refused", reason="OTHER_SUBSCRIPTION", member=member)
        shares = assign_units(units, fit)
        return {member: self._wire(shares.get(member, [])) for member in members}

    def _wire(self, units: Sequence[UnitId]) -> ConsumerProtocolMemberAssignment:
        of_stage = {stage.name: stage.topics for stage in self.stages}
        by_topic: dict[str, list[int]] = {}
        for unit in units:
            for topic in of_stage[unit.stage]:
                by_topic.setdefault(topic, []).append(unit.partition)
        return ConsumerProtocolMemberAssignment(self.VERSION, sorted(by_topic.items()), b"")

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Remember the assignment, and hold its partitions before a fetch can start.

        aiokafka calls this in the same step that makes the assignment, so nothing was fetched.
        """
        held = [(tp.topic, tp.partition) for tp in assignment.partitions()]
        self._owned = complete_units(self.stages, held)
        self.app.consumer.hold(held)

    def assigned_actives(self) -> set[TP]:
        """No changelog topics: Faust has nothing to recover."""
        return self._actives

    def assigned_standbys(self) -> set[TP]:
        """No standbys."""
        return set()

    def is_active(self, tp: TP) -> bool:
        """Every assigned partition is active."""
        del tp
        return True

    def is_standby(self, tp: TP) -> bool:
        """No standbys."""
        del tp
        return False

    def group_for_topic(self, topic: str) -> int:
        """One group: units keep topics together."""
        del topic
        return 0

    def key_store(self, topic: str, key: bytes) -> Any:
        """Not offered: there are no tables to route to."""
        raise NotImplementedError

    def table_metadata(self, topic: str) -> Any:
        """Return nothing: there are no tables."""
        del topic
        return {}

    def tables_metadata(self) -> Any:
        """Return nothing: there are no tables."""
        return {}


def complete_units(stages: Sequence[StageTopics], held: Iterable[tuple[str, int]]) -> list[UnitId]:
    """Return the units of which every topic is among the (topic, partition) pairs in `held`."""
    have = set(held)
    return [
        unit
        for stage in stages
        for unit in stage.units()
        if all((topic, unit.partition) in have for topic in stage.topics)
    ]


def assignor_for(stages: Sequence[StageTopics]) -> type[UnitAssignor]:
    """Return the assignor class of an app with these stages."""
    return type("AppUnitAssignor", (UnitAssignor,), {"stages": tuple(stages)})


def _claims(user_data: bytes | None) -> list[UnitId]:
    """Read what a member says it owned; an unreadable claim is no claim."""
    try:
        return [
            UnitId(str(stage), int(partition))
            for stage, partition in json.loads(user_data or b"[]")
        ]
    except (ValueError, TypeError):
        return []
