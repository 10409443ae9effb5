"""The doctor on the workers: who is in the group, units that nobody has, records that wait."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import GroupAuthorizationFailedError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import TopicPartition

from streams.assignor import UnitId, complete_units
from streams.diagnosis import Check, Diagnosis, bad, good, listed, odd, skipped
from streams.doctor_cluster import ask, describe_group
from streams.doctor_samples import Span, read, spans

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aiokafka.client import AIOKafkaClient

    from streams.consumer import BoundedConsumer
    from streams.stage import Stage

OLD_MS = 60_000
"""A record that waits for longer is worth a look."""
_START = "Start one: `agentops-streams worker`."


@dataclass(frozen=True, slots=True)
class Group:
    """The consumer group as its coordinator describes it.

    Attributes:
        state: Kafka's word for it: Stable, Empty, Dead, PreparingRebalance, ...
        members: client and host → the partitions it holds.
        committed: next offset of each partition that the group has committed.
    """

    state: str
    members: Mapping[str, Sequence[TopicPartition]]
    committed: Mapping[TopicPartition, int]

    @property
    def is_moving(self) -> bool:
        """Return whether the units are being handed out right now."""
        return "Rebalance" in self.state


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the group has not consumed of a partition.

    Attributes:
        records: how many offsets, those of transaction markers included.
        since_ms: when the oldest of them was sent; None where there is none but markers.
    """

    records: int
    since_ms: int | None = None


async def observe(client: AIOKafkaClient, group: str) -> Group:
    """Ask for the group; nobody joins it.

    Raises:
        KafkaError: its coordinator cannot be found, or this client may not ask.
    """
    node, (_, _, state, _, _, members, _) = await describe_group(client, group)
    held = {
        f"{client_id} at {host.lstrip('/')} ({member_id[-8:]})": _held(assignment)
        for member_id, client_id, host, _, assignment in members
    }
    offsets = await ask(client, OffsetFetchRequest(group, None), node)
    if offsets.error_code:
        raise for_code(offsets.error_code)(group)
    committed = {
        TopicPartition(topic, partition): offset
        for topic, partitions in offsets.topics
        for partition, offset, _, error in partitions
        if not error and offset >= 0
    }
    return Group(state, held, committed)


def _held(assignment: bytes) -> list[TopicPartition]:
    if not assignment:
        return []
    return list(ConsumerProtocolMemberAssignment.decode(assignment).partitions())


async def observe_waiting(
    reader: BoundedConsumer, group: Group, inputs: Sequence[TopicPartition]
) -> dict[TopicPartition, Waiting]:
    """Return what waits in the inputs that the group has committed something of."""
    known = [one for one in inputs if one in group.committed]
    held = await spans(reader, known)
    left = {
        one: Span(max(group.committed[one], span.first), span.end)
        for one, span in held.items()
        if group.committed[one] < span.end
    }
    # The first record of each tells since when; a few offsets are enough to pass markers.
    firsts = {one: Span(span.first, min(span.first + 10, span.end)) for one, span in left.items()}
    since: dict[TopicPartition, int] = {}
    for record in await read(reader, firsts) if firsts else []:
        since.setdefault(TopicPartition(record.topic, record.partition), record.timestamp)
    return {one: Waiting(span.end - span.first, since.get(one)) for one, span in left.items()}


def judge(
    group: Group,
    stages: Sequence[Stage],
    waiting: Mapping[TopicPartition, Waiting],
    now_ms: int,
) -> list[Diagnosis]:
    """Say who works, which units nobody has, and what waits for how long."""
    check, said = Check.GROUP, []
    if not group.members:
        was = "" if group.committed else " and never was"
        said.append(odd(check, f"No worker is in the group{was}.", _START))
    elif group.is_moving:
        what = "The units are being handed out at this moment."
        said.append(odd(check, what, "Run this again in some seconds."))
    else:
        said += _judge_units(group, stages)
    said += _judge_waiting(waiting, now_ms)
    if said:
        return said
    units = sum(stage.partitions for stage in stages)
    behind = sum(each.records for each in waiting.values())
    workers = f"{len(group.members)} worker{'s' if len(group.members) > 1 else ''}"
    return [good(check, f"{workers} with all {units} units, {behind:,} offsets behind the ends.")]


def judge_error(error: Exception) -> Diagnosis:
    """Say why the group cannot be described."""
    if isinstance(error, GroupAuthorizationFailedError):
        return skipped(Check.GROUP, "This client may not describe the group; see ACCESS.")
    cure = "offsets.topic.replication.factor of the broker must not be larger than their number."
    return bad(Check.GROUP, f"The group has no coordinator ({type(error).__name__}).", cure)


def _judge_units(group: Group, stages: Sequence[Stage]) -> list[Diagnosis]:
    topics = [stage.assignable() for stage in stages]
    owned = {
        unit for partitions in group.members.values() for unit in complete_units(topics, partitions)
    }
    missing = [unit for stage in topics for unit in stage.units() if unit not in owned]
    if not missing:
        return []
    return [
        bad(
            Check.GROUP,
            f"No worker has {_named(missing)}, though {len(group.members)} are in the group "
            f"({listed(sorted(group.members))}).",
            "All workers need one version and the same topic_prefix and partitions; their lines "
            "assignment.refused and assignment.split say more.",
        )
    ]


def _judge_waiting(waiting: Mapping[TopicPartition, Waiting], now_ms: int) -> list[Diagnosis]:
    old = {
        one: each
        for one, each in waiting.items()
        if each.since_ms is not None and now_ms - each.since_ms > OLD_MS
    }
    if not old:
        return []
    worst = max(old, key=lambda one: now_ms - (old[one].since_ms or 0))
    seconds = (now_ms - (old[worst].since_ms or 0)) / 1000
    return [
        odd(
            Check.GROUP,
            f"{sum(each.records for each in old.values()):,} offsets of {len(old)} partitions wait "
            f"for more than {OLD_MS // 1000} s, most in {worst.topic}[{worst.partition}]: the next "
            f"record there was sent {seconds:,.0f} s ago.",
            "Start more workers if this goes on, and look for lines unit.reopening and for units "
            "that stand still.",
        )
    ]


def _named(units: Sequence[UnitId]) -> str:
    return listed([str(unit) for unit in units], 5)
