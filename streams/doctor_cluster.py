"""The doctor on brokers and the copies of topics: what was seen, and what it means."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import create_conn
from aiokafka.errors import (
    KafkaConnectionError,
    KafkaError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    for_code,
)
from aiokafka.protocol.admin import DescribeConfigsRequest
from aiokafka.structs import TopicPartition

from streams import __version__
from streams.connection import connection
from streams.diagnosis import Check, Diagnosis, bad, good, listed, odd, skipped
from streams.doctor_requests import FeaturesQuestion, GroupsQuestion, MetadataQuestion
from streams.provision import ProblemKind
from streams.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from streams.provision import TopicProblem
    from streams.settings import Settings

T = TypeVar("T")

CONNECT_SECONDS = 3.0
COORDINATOR_SECONDS = 5.0
"""A new cluster makes the topics of its coordinators when they are first asked for."""
TESTED = "4.1"
"""The Kafka this release was tested with."""
_FORBIDDEN = TopicAuthorizationFailedError.errno
READ, WRITE, DESCRIBE_CONFIGS = 3, 4, 10
"""Kafka's numbers of operations."""
_TOPIC_CONFIG = 2
_GROUP, _TRANSACTION = 0, 1
_MIN_ISR = "min.insync.replicas"
# Highest metadata.version (KIP-584) that a release's software has, from Kafka's MetadataVersion.
_RELEASES = ((7, "3.3"), (8, "3.4"), (11, "3.5"), (14, "3.6"), (19, "3.7"), (20, "3.8"),
             (21, "3.9"), (25, "4.0"), (27, "4.1"), (29, "4.2"))  # fmt: skip


class BrokerAwayError(RuntimeError):
    """No broker can be used; the message says why, as far as can be told."""


@dataclass(frozen=True, slots=True)
class PartitionSeen:
    """One partition as a broker describes it: leader (-1 is none), copies, those in sync."""

    leader: int
    replicas: int
    in_sync: int


@dataclass(frozen=True, slots=True)
class TopicSeen:
    """One of our topics as a broker describes it.

    Attributes:
        error: Kafka's error code, 0 where it can be described.
        partitions: by number.
        operations: bits of what this client may do with it.
        min_in_sync: copies that must be in sync for a write; None where it is not known.
    """

    error: int
    partitions: Mapping[int, PartitionSeen] = field(default_factory=dict)
    operations: int = 0
    min_in_sync: int | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """What the brokers say.

    Attributes:
        seconds: how long connecting and the first answer took.
        brokers: node → host:port as it advertises itself.
        unreachable: nodes that do not answer there.
        release: Kafka's version as far as it can be derived, None where it cannot.
        topics: every topic of the table, by its name on the broker.
    """

    seconds: float
    brokers: Mapping[int, str]
    unreachable: Sequence[int]
    release: str | None
    topics: Mapping[str, TopicSeen]

    def partitions(self, names: Sequence[str]) -> list[TopicPartition]:
        """Return the partitions of those of the topics that this client can read now."""
        return [
            TopicPartition(name, number)
            for name in names
            for number, seen in sorted(self.topics[name].partitions.items())
            if seen.leader >= 0 and self.topics[name].operations >> READ & 1
        ]


# -- asking ------------------------------------------------------------------------------------


async def connect(settings: Settings) -> AIOKafkaClient:
    """Return a client that has found a broker; whoever takes it closes it.

    Raises:
        BrokerAwayError: there is none, with the reason of each address.
    """
    client = AIOKafkaClient(
        **connection(settings),
        client_id=f"{settings.app_id}-doctor",
        request_timeout_ms=int(CONNECT_SECONDS * 1000),
    )
    try:
        await client.bootstrap()
    except KafkaError as error:
        await client.close()
        servers = settings.bootstrap_servers.split(",")
        why = await asyncio.gather(*(_why_not(settings, server) for server in servers))
        raise BrokerAwayError(f"No Kafka broker answers: {'; '.join(why)}.") from error
    except BaseException:
        await client.close()
        raise
    return client


async def observe(client: AIOKafkaClient, settings: Settings, seconds: float) -> Cluster:
    """Ask for brokers and our topics; nothing is created.

    Args:
        client: connected.
        settings: say which topics are ours.
        seconds: how long connecting took.
    """
    began = time.monotonic()
    names = [spec.name(settings.topic_prefix) for spec in TOPICS]
    answer = await ask(client, MetadataQuestion(names))
    seconds += time.monotonic() - began
    features = (await ask(client, FeaturesQuestion(__version__))).features()
    brokers = {node: f"{host}:{port}" for node, host, port, _ in answer.brokers}
    reached = await asyncio.gather(*(_reaches(client, node) for node in brokers))
    topics = {}
    for error, name, _, partitions, operations in answer.topics:
        seen = {p[1]: PartitionSeen(p[2], len(p[4]), len(p[5])) for p in partitions}
        topics[name] = TopicSeen(error, seen, operations)
    present = [name for name, topic in topics.items() if not topic.error]
    for name, value in (await _min_in_sync(client, present)).items():
        topics[name] = TopicSeen(0, topics[name].partitions, topics[name].operations, value)
    return Cluster(
        seconds,
        brokers,
        [node for node, there in zip(brokers, reached, strict=True) if not there],
        release_of(features),
        topics,
    )


async def ask(client: AIOKafkaClient, request: Any, node: int | None = None) -> Any:
    """Send a request to a node, or to any.

    Raises:
        BrokerAwayError: the node did not answer, or is too old for the request.
    """
    try:
        return await client.send(client.get_random_node() if node is None else node, request)
    except NotImplementedError as error:
        raise BrokerAwayError(f"The broker is too old to be asked: {error}") from error


async def describe_group(client: AIOKafkaClient, group: str) -> tuple[int, Any]:
    """Return the node that keeps a group, and how it describes it.

    Raises:
        KafkaError: there is none, also after `COORDINATOR_SECONDS`, or it may not be described.
    """

    async def describe() -> tuple[int, Any]:
        node = int(await client.coordinator_lookup(_GROUP, group))
        (described,) = (await ask(client, GroupsQuestion(group), node)).groups
        if described[0]:
            raise for_code(described[0])(group)
        return node, described

    return await _in_time(describe)


async def find_coordinator(client: AIOKafkaClient, transactional_id: str) -> None:
    """Look for the coordinator of a transactional id.

    Raises:
        KafkaError: there is none, also after `COORDINATOR_SECONDS`.
    """
    await _in_time(lambda: client.coordinator_lookup(_TRANSACTION, transactional_id))


async def _in_time(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try again while the error is one that passes."""
    deadline = time.monotonic() + COORDINATOR_SECONDS
    while True:
        try:
            return await attempt()
        except KafkaError as error:
            if not error.retriable or time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)


def release_of(features: Mapping[str, tuple[int, int]]) -> str | None:
    """Return the Kafka release whose software has these features; None where it cannot be told."""
    level = features.get("metadata.version", (0, 0))[1]
    if level > _RELEASES[-1][0]:
        return f"later than {_RELEASES[-1][1]}"
    return next((release for most, release in _RELEASES if level and level <= most), None)


async def _why_not(settings: Settings, server: str) -> str:
    """Return why a server cannot be used."""
    host, _, port = server.rpartition(":")
    given = connection(settings)
    del given["bootstrap_servers"]
    try:
        found = await create_conn(
            host, int(port), request_timeout_ms=int(CONNECT_SECONDS * 1000), **given
        )
    except TimeoutError:
        return f"{server} does not answer in time (a firewall, or TLS on one side only?)"
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", None) or error.reason
        return f"{server}: TLS fails, {reason} (see the settings security_protocol and ssl_cafile)"
    except KafkaConnectionError:
        return (
            f"{server} ends the connection: it is no Kafka broker, or wants another "
            f"security_protocol than {settings.security_protocol}"
        )
    except (KafkaError, OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return f"{server}: {reason.removesuffix('.')}"
    found.close()
    return f"{server} does not answer as a Kafka broker does"


async def _reaches(client: AIOKafkaClient, node: int) -> bool:
    return bool(await client.ready(node))


async def _min_in_sync(client: AIOKafkaClient, names: Sequence[str]) -> dict[str, int]:
    """Return topic → min.insync.replicas, without those that may not be asked about."""
    request = DescribeConfigsRequest([(_TOPIC_CONFIG, name, [_MIN_ISR]) for name in names], False)
    answer = await ask(client, request)
    return {
        name: int(entries[0][1])
        for code, _, _, name, entries in answer.resources
        if not code and entries
    }


# -- judging -----------------------------------------------------------------------------------


def judge_brokers(cluster: Cluster, settings: Settings) -> list[Diagnosis]:
    """Say what is wrong with the brokers, or how they are."""
    check, found = Check.BROKER, []
    for node in cluster.unreachable:
        cure = (
            "Clients talk to this address, not only to bootstrap_servers: set advertised.listeners "
            "of the broker to one that is reachable from here."
        )
        where = cluster.brokers[node]
        found.append(bad(check, f"Broker {node} is not reachable at {where}, its address.", cure))
    count = len(cluster.brokers)
    if count < settings.replication:
        cure = "Start more brokers, or set AGENTOPS_REPLICATION for topics that do not exist yet."
        what = f"replication is {settings.replication}, brokers are {count}."
        found.append(bad(check, what, cure))
    return found or [
        good(
            check,
            f"{count} broker{'s' if count > 1 else ''}, answered in {cluster.seconds * 1000:.0f} "
            f"ms, Kafka {cluster.release or 'of a version that cannot be derived'} (by its "
            f"features; tested: {TESTED}), replication {settings.replication}.",
        )
    ]


def judge_transactions(error: Exception | None) -> Diagnosis:
    """Say whether a coordinator of transactions was found."""
    if error is None:
        return good(Check.BROKER, "Transactions have a coordinator.")
    if isinstance(error, TransactionalIdAuthorizationFailed):
        return skipped(Check.BROKER, "This client may not ask for transactions; see ACCESS.")
    return bad(
        Check.BROKER,
        f"Transactions have no coordinator ({type(error).__name__}).",
        "Every epoch is a transaction. transaction.state.log.replication.factor of the broker must "
        "not be larger than the number of brokers, and enough of those must be alive.",
    )


def judge_topics(
    cluster: Cluster, problems: Sequence[TopicProblem], settings: Settings
) -> list[Diagnosis]:
    """Say which topics do not fit the table, and which lack copies."""
    said: dict[tuple[bool, str, str], list[str]] = {}
    for problem in problems:
        what, cure = f"expected {problem.expected}, found {problem.found}.", problem.cure
        if cluster.topics[problem.topic].error == _FORBIDDEN:
            what, cure = "this client may not see it.", "What it needs stands under ACCESS."
        # With another setting a worker logs and runs; without the topic it does not.
        fatal = problem.kind is not ProblemKind.CONFIG
        said.setdefault((fatal, what, cure), []).append(problem.topic)
    for name, topic in cluster.topics.items():
        for each in _judge_copies(topic, settings):
            said.setdefault(each, []).append(name)
    present = sum(not topic.error for topic in cluster.topics.values())
    return [
        (bad if fatal else odd)(Check.TOPICS, f"{listed(names)}: {what}", cure)
        for (fatal, what, cure), names in said.items()
    ] or [good(Check.TOPICS, f"All {present} exist and fit, N is {settings.partitions}.")]


def _judge_copies(topic: TopicSeen, settings: Settings) -> list[tuple[bool, str, str]]:
    """Return (whether it is fatal, what, cure) of what is wrong with the copies of a topic."""
    partitions, least = topic.partitions, topic.min_in_sync or 1
    leaderless = [p for p, seen in partitions.items() if seen.leader < 0]
    few = [p for p, seen in partitions.items() if seen.in_sync < least <= seen.replicas]
    behind = [p for p, seen in partitions.items() if least <= seen.in_sync < seen.replicas]
    copies = min((seen.replicas for seen in partitions.values()), default=settings.replication)
    found, start = [], "Start the brokers that are down."
    if leaderless:
        found.append((True, f"partitions {_some(leaderless)} have no leader.", start))
    if copies < least:
        what = f"{_MIN_ISR} is {least}, but there are {copies} copies: nobody can write."
        found.append((True, what, "Lower that setting of the topic, or add copies."))
    if few:
        what = f"partitions {_some(few)} have fewer copies in sync than {_MIN_ISR}, {least}."
        found.append((True, what, f"Writes are refused. {start}"))
    if behind:
        found.append((False, f"partitions {_some(behind)} have copies that are behind.", start))
    if copies < settings.replication:
        what = f"{copies} copies, fewer than replication, {settings.replication}."
        cure = "Add copies with Kafka's own tool: kafka-reassign-partitions."
        found.append((False, what, cure))
    if copies > 1 and least == 1:
        what = f"{copies} copies, but {_MIN_ISR} is 1: a write is answered by one copy."
        found.append((False, what, "Set it to 2, or what one broker holds alone is lost with it."))
    return found


def _some(numbers: list[int]) -> str:
    return listed([str(number) for number in sorted(numbers)], 5)
