"""The doctor on permissions: what a worker does, what this client may do, and what is missing.

Topics and the group say it themselves (KIP-430). Transactional ids do not: there, ending a
transaction that does not exist is asked for, which a broker refuses for want of permission first,
and else because no producer has the number -1. Nothing is changed by that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from aiokafka.errors import (
    GroupAuthorizationFailedError,
    SecurityDisabled,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.protocol.admin import DescribeAclsRequest
from aiokafka.protocol.transaction import EndTxnRequest

from streams.diagnosis import Check, Diagnosis, bad, good, listed
from streams.doctor_cluster import DESCRIBE_CONFIGS, READ, WRITE, ask, describe_group
from streams.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from aiokafka.client import AIOKafkaClient

    from streams.doctor_cluster import Cluster
    from streams.settings import Settings
    from streams.stage import Stage

_BITS = {"READ": READ, "WRITE": WRITE, "DESCRIBE_CONFIGS": DESCRIBE_CONFIGS}
_ANY, _CLUSTER, _ANY_PATTERN = 1, 4, 1
_NO_PRODUCER = -1


class Resource(StrEnum):
    """What permissions are about; the values are the options of kafka-acls."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional-id"


@dataclass(frozen=True, slots=True)
class Need:
    """One operation on one resource that a worker cannot do without."""

    resource: Resource
    name: str
    operation: str


@dataclass(frozen=True, slots=True)
class Granted:
    """What this client may do.

    Attributes:
        authorizer: whether the broker has one; without it everybody may do everything.
        topics: topic → bits of operations.
        group: bits of operations on the group.
        transactional_ids: those it may write with.
    """

    authorizer: bool
    topics: Mapping[str, int]
    group: int
    transactional_ids: frozenset[str]

    def covers(self, need: Need) -> bool:
        """Return whether a need is met."""
        if need.resource is Resource.TRANSACTIONAL_ID:
            return need.name in self.transactional_ids
        bits = self.topics.get(need.name, 0) if need.resource is Resource.TOPIC else self.group
        # "Not known" is the smallest integer: no bit but the sign.
        return bool(bits >> _BITS[need.operation] & 1)


def needs(settings: Settings, stages: Sequence[Stage]) -> list[Need]:
    """Return what a worker does, each once."""
    return list(dict.fromkeys(_needs(settings, stages)))


def _needs(settings: Settings, stages: Sequence[Stage]) -> Iterator[Need]:
    yield Need(Resource.GROUP, settings.app_id, "READ")
    for stage in stages:
        for name in (*stage.topics, stage.state_topic):
            yield Need(Resource.TOPIC, name, "READ")
        for name in (*stage.writes, stage.state_topic):
            yield Need(Resource.TOPIC, name, "WRITE")
        for partition in range(stage.partitions):
            name = f"{settings.app_id}-{stage.name}-{partition}"
            yield Need(Resource.TRANSACTIONAL_ID, name, "WRITE")
    yield Need(Resource.TOPIC, settings.topic("schemas"), "READ")
    for spec in TOPICS:
        yield Need(Resource.TOPIC, spec.name(settings.topic_prefix), "DESCRIBE_CONFIGS")


async def observe(client: AIOKafkaClient, cluster: Cluster, wanted: Sequence[Need]) -> Granted:
    """Ask what this client may do."""
    acls = await ask(
        client, DescribeAclsRequest(_CLUSTER, None, _ANY_PATTERN, None, None, _ANY, _ANY)
    )
    authorizer = acls.error_code != SecurityDisabled.errno
    ids, group = set(), 0
    if authorizer:
        for need in wanted:
            if need.resource is Resource.TRANSACTIONAL_ID:
                end = EndTxnRequest(need.name, _NO_PRODUCER, _NO_PRODUCER, False)
                if (await ask(client, end)).error_code != TransactionalIdAuthorizationFailed.errno:
                    ids.add(need.name)
            elif need.resource is Resource.GROUP:
                group = await _on_group(client, need.name)
    topics = {name: topic.operations for name, topic in cluster.topics.items()}
    return Granted(authorizer, topics, group, frozenset(ids))


async def _on_group(client: AIOKafkaClient, group: str) -> int:
    try:
        _, described = await describe_group(client, group)
    except GroupAuthorizationFailedError:
        return 0
    return int(described[-1])


def judge(granted: Granted, wanted: Sequence[Need], settings: Settings) -> list[Diagnosis]:
    """Say what is missing, by operation."""
    if not granted.authorizer:
        return [good(Check.ACCESS, "The broker has no authorizer: every client may do everything.")]
    missing: dict[tuple[Resource, str], list[str]] = {}
    for need in wanted:
        if not granted.covers(need):
            missing.setdefault((need.resource, need.operation), []).append(need.name)
    return [
        bad(
            Check.ACCESS,
            f"No {operation} on {resource} {listed(names)}.",
            "Grant it to the user of this client: kafka-acls --add --allow-principal User:NAME "
            f"--operation {_java(operation)} {_option(resource, names, settings)}.",
        )
        for (resource, operation), names in missing.items()
    ] or [good(Check.ACCESS, f"All {len(wanted)} permissions that a worker needs are granted.")]


def _java(operation: str) -> str:
    """Return an operation as kafka-acls writes it: DESCRIBE_CONFIGS is DescribeConfigs."""
    return operation.title().replace("_", "")


def _option(resource: Resource, names: Sequence[str], settings: Settings) -> str:
    """Return the options of kafka-acls that name a resource, or all of ours where many lack it."""
    if len(names) == 1:
        return f"--{resource} {names[0]}"
    ours = {Resource.TOPIC: settings.topic_prefix, Resource.TRANSACTIONAL_ID: f"{settings.app_id}-"}
    return f"--{resource} {ours[resource]} --resource-pattern-type prefixed"
