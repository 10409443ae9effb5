from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.provision import ProblemKind, TopicsError, check_topics, create_topics
from streams.settings import Settings
from streams.topics import TOPICS, TopicSpec, topic

if TYPE_CHECKING:
    from collections.abc import Callable


async def existing(settings: Settings, spec: TopicSpec, partitions: int, **config: str) -> None:
    """Create one topic as somebody else would have."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        changed = {key.replace("_", "."): value for key, value in config.items()}
        name = spec.name(settings.topic_prefix)
        answer = await admin.create_topics(
            [NewTopic(name, partitions, 1, topic_configs={**spec.config, **changed})]
        )
        assert [error[1] for error in answer.topic_errors] == [0]
        while name not in await admin.list_topics():
            await asyncio.sleep(0.02)
    finally:
        await admin.close()


@pytest.mark.broker
async def test_created_topics_fit_the_table(settings: Settings) -> None:
    created = await create_topics(settings)

    assert created == [spec.name(settings.topic_prefix) for spec in TOPICS]
    assert await check_topics(settings) == []


@pytest.mark.broker
async def test_creating_again_creates_nothing(settings: Settings) -> None:
    await create_topics(settings)

    assert await create_topics(settings) == []


@pytest.mark.broker
async def test_missing_topics_are_reported_with_the_command_that_creates_them(
    settings: Settings,
) -> None:
    problems = await check_topics(settings)

    assert [problem.kind for problem in problems] == [ProblemKind.MISSING] * len(TOPICS)
    assert "agentops-streams topics create" in str(problems[0])


@pytest.mark.broker
async def test_unequal_partitions_are_refused_with_expected_found_and_cure(
    settings: Settings,
) -> None:
    await existing(settings, topic("calls"), settings.partitions + 1)

    with pytest.raises(TopicsError) as caught:
        await create_topics(settings)

    (problem,) = caught.value.problems
    assert problem.kind is ProblemKind.PARTITIONS
    assert problem.topic == settings.topic("calls")
    assert (problem.expected, problem.found) == ("4 partitions", "5")
    assert "AGENTOPS_PARTITIONS" in str(caught.value)


@pytest.mark.broker
@pytest.mark.parametrize(
    ("suffix", "key", "value"),
    [
        ("state", "cleanup.policy", "delete"),
        ("state", "max.message.bytes", "1000000"),
        ("state", "segment.bytes", "1073741824"),
        ("state", "min.cleanable.dirty.ratio", "0.5"),
        ("tasks", "message.timestamp.type", "LogAppendTime"),
    ],
)
async def test_a_setting_of_a_topic_that_does_not_fit_is_reported(
    settings: Settings, suffix: str, key: str, value: str
) -> None:
    await existing(settings, topic(suffix), settings.partitions, **{key.replace(".", "_"): value})

    problems = [each for each in await check_topics(settings) if each.kind is ProblemKind.CONFIG]

    assert [each.topic for each in problems] == [settings.topic(suffix)]
    assert key in problems[0].expected
    assert value in problems[0].found


@pytest.mark.broker
async def test_more_room_and_other_retention_than_the_table_are_fine(settings: Settings) -> None:
    await existing(
        settings,
        topic("tasks"),
        settings.partitions,
        max_message_bytes="2000000",
        retention_ms="1000000000",
    )

    problems = await check_topics(settings)

    assert settings.topic("tasks") not in [each.topic for each in problems]


@pytest.mark.parametrize("action", [create_topics, check_topics])
async def test_no_broker_is_one_clear_sentence(action: Callable[..., object]) -> None:
    nowhere = Settings(bootstrap_servers="127.0.0.1:1")

    with pytest.raises(TopicsError, match=r"No Kafka broker answers at 127\.0\.0\.1:1"):
        await action(nowhere)  # type: ignore[misc]
