"""Create the topics of the table on a broker, and check that what stands there fits it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streams.connection import connection
from streams.topics import TOPICS, TopicSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from streams.settings import Settings

VISIBLE_SECONDS = 15.0


class ProblemKind(StrEnum):
    """What does not fit."""

    MISSING = "MISSING"
    PARTITIONS = "PARTITIONS"
    CONFIG = "CONFIG"


@dataclass(frozen=True, slots=True)
class TopicProblem:
    """One way in which a topic on the broker differs from the table.

    Attributes:
        topic: name on the broker.
        kind: what does not fit.
        expected: what the table says.
        found: what the broker has.
        cure: what to do.
    """

    topic: str
    kind: ProblemKind
    expected: str
    found: str
    cure: str

    def __str__(self) -> str:
        """Return one sentence for people."""
        return f"{self.topic}: expected {self.expected}, found {self.found}. {self.cure}"


class TopicsError(RuntimeError):
    """Topics are missing or do not fit.

    Attributes:
        problems: what exactly, empty when the broker itself failed.
    """

    def __init__(self, message: str, problems: Sequence[TopicProblem] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


async def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing and return their names, in the order of the table.

    Topics that exist are never altered.

    Raises:
        TopicsError: the broker is not reachable or refused, or an existing topic does not fit.
    """
    async with _admin(settings) as admin:
        existing = set(await admin.list_topics())
        missing = [spec for spec in TOPICS if spec.name(settings.topic_prefix) not in existing]
        if missing:
            await _create(admin, missing, settings)
        problems = await _problems(admin, settings)
    if problems:
        raise TopicsError("\n".join(map(str, problems)), problems)
    return [spec.name(settings.topic_prefix) for spec in missing]


async def check_topics(settings: Settings) -> list[TopicProblem]:
    """Return every way in which the topics on the broker differ from the table; none is good.

    Raises:
        TopicsError: the broker is not reachable.
    """
    async with _admin(settings) as admin:
        return await _problems(admin, settings)


async def size_limits(settings: Settings) -> dict[str, int]:
    """Return topic → max.message.bytes, as the broker has it now.

    Raises:
        TopicsError: the broker is not reachable, or a topic is missing.
    """
    names = [spec.name(settings.topic_prefix) for spec in TOPICS]
    async with _admin(settings) as admin:
        found = await _configs(admin, names)
    return {name: int(config["max.message.bytes"]) for name, config in found.items()}


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**connection(settings), client_id=f"{settings.app_id}-topics")
    try:
        await admin.start()
    except (KafkaError, OSError) as error:
        await admin.close()
        raise TopicsError(
            f"No Kafka broker answers at {settings.bootstrap_servers} (bootstrap_servers): {error}."
            " Start it (`agentops-streams local up` starts one here) or set "
            "AGENTOPS_BOOTSTRAP_SERVERS."
        ) from error
    try:
        yield admin
    finally:
        await admin.close()


async def _create(admin: Any, specs: Sequence[TopicSpec], settings: Settings) -> None:
    prefix = settings.topic_prefix
    answer = await admin.create_topics(
        [
            NewTopic(
                name=spec.name(prefix),
                num_partitions=spec.count(settings.partitions),
                replication_factor=settings.replication,
                topic_configs=dict(spec.config),
            )
            for spec in specs
        ]
    )
    for name, code, *message in answer.topic_errors:
        error = for_code(code)
        # Somebody created it at the same moment: whether it fits is checked afterwards.
        if code and error is not TopicAlreadyExistsError:
            why = message[0] if message and message[0] else error.__name__
            raise TopicsError(f"The broker refused to create {name}: {why}")
    await _wait_until_visible(admin, [spec.name(prefix) for spec in specs])


async def _wait_until_visible(admin: Any, names: Sequence[str]) -> None:
    """Return once every partition has a leader: creation is acknowledged before that."""
    async with asyncio.timeout(VISIBLE_SECONDS):
        while True:
            found = await admin.describe_topics(list(names))
            if all(
                not topic["error_code"] and all(not p["error_code"] for p in topic["partitions"])
                for topic in found
            ):
                return
            await asyncio.sleep(0.05)


async def _problems(admin: Any, settings: Settings) -> list[TopicProblem]:
    prefix = settings.topic_prefix
    existing = set(await admin.list_topics())
    present = [spec for spec in TOPICS if spec.name(prefix) in existing]
    described = await admin.describe_topics([spec.name(prefix) for spec in present])
    counts = {topic["topic"]: len(topic["partitions"]) for topic in described}
    configs = await _configs(admin, [spec.name(prefix) for spec in present])
    problems = []
    for spec in TOPICS:
        name = spec.name(prefix)
        if name not in existing:
            problems.append(_missing(name))
            continue
        expected = spec.count(settings.partitions)
        if counts[name] != expected:
            problems.append(_wrong_count(name, expected, counts[name]))
        problems.extend(_wrong_config(name, spec, configs[name]))
    return problems


async def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found = {}
    for answer in await admin.describe_configs(resources):
        for code, message, _kind, name, entries in answer.resources:
            if code:
                raise TopicsError(f"The broker does not describe {name}: {message or code}")
            found[name] = {entry[0]: entry[1] for entry in entries}
    return found


def _missing(name: str) -> TopicProblem:
    return TopicProblem(
        name, ProblemKind.MISSING, "a topic", "none", "Run `agentops-streams topics create`."
    )


def _wrong_count(name: str, expected: int, found: int) -> TopicProblem:
    cure = (
        "Partition p holds all of an agent, so the count is fixed for the life of a prefix: set "
        "AGENTOPS_PARTITIONS to what is there if all topics agree, or use a new "
        "AGENTOPS_TOPIC_PREFIX."
    )
    return TopicProblem(name, ProblemKind.PARTITIONS, f"{expected} partitions", str(found), cure)


def _wrong_config(name: str, spec: TopicSpec, found: dict[str, str]) -> list[TopicProblem]:
    problems = []
    for key, expected in spec.config.items():
        relation, fits = _compare(key, expected, found.get(key, ""))
        if not fits:
            cure = f"Set it with Kafka's own tool: kafka-configs --alter --add-config {key}=[...]."
            problems.append(
                TopicProblem(
                    name,
                    ProblemKind.CONFIG,
                    f"{key} {relation} {expected}",
                    found.get(key, "nothing"),
                    cure.replace("...", expected),
                )
            )
    return problems


def _compare(key: str, expected: str, found: str) -> tuple[str, bool]:
    """Return how `found` must relate to `expected`, and whether it does."""
    match key:
        case "retention.ms":
            return "of", True  # how long to keep is the operator's choice
        case "max.message.bytes":
            return "at least", int(found or 0) >= int(expected)
        case "segment.bytes":
            return "at most", int(found or 0) <= int(expected)
        case "min.cleanable.dirty.ratio":
            return "at most", float(found or 1) <= float(expected)
        case "cleanup.policy":
            return "of", set(found.split(",")) == set(expected.split(","))
        case _:
            return "of", found == expected
