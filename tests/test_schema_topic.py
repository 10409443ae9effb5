"""The records of the schemas topic, and publishing them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from streams import schemas
from streams.schema_topic import (
    PublishError,
    SchemaTopic,
    SchemaTopicError,
    entry,
    parse,
    publish,
    published,
)
from streams.settings import Settings
from tests.worker_rig import producer


def newer(name: str = "TaskFinished", **field: Any) -> str:
    """A current schema with one field more, as a producer would have it."""
    raw = schemas.schema(name)
    more = {"name": "region", "type": ["null", "string"], "default": None} | field
    return json.dumps(raw | {"fields": [*raw["fields"], more]})


# -- records -----------------------------------------------------------------------------------


def test_the_key_is_the_fingerprint_as_in_the_frame_and_the_value_is_the_schema() -> None:
    key, value = entry(newer())

    written = schemas.parse(newer())
    assert key.decode() == written.frame[2:].hex()
    assert schemas.parse(value).fingerprint == written.fingerprint
    assert parse(key, value).name == "TaskFinished"


def test_docs_are_left_out_and_defaults_are_not() -> None:
    value = json.loads(entry(newer())[1])

    assert "doc" not in value
    assert value["fields"][-1] == {"name": "region", "type": ["null", "string"], "default": None}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{}", "no record"),
        ('{"type": "record", "name": "Mine", "fields": []}', "Mine is no record of any topic"),
        (json.dumps(schemas.schema("UnitState")), "UnitState is no record of any topic"),
        ('{"type": "record", "name": "Window", "fields": []}', "agent_id: the writer has no such"),
        (newer(type={"type": "array", "items": "null"}), "region: array items"),
    ],
)
def test_what_no_worker_could_read_is_not_published(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        entry(text)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        (b"0" * 16, newer(), "its fingerprint is"),
        (None, newer(), "its fingerprint is"),
        (b"\xff", "{", "no JSON"),
        (b"0" * 16, "[" * 100_000, "too deeply"),
        (b"0" * 16, " " * 300_000, "allowed are 262144"),
    ],
)
def test_a_record_that_is_no_schema_or_another_one_is_refused(
    key: bytes | None, value: str, why: str
) -> None:
    with pytest.raises(SchemaTopicError, match=why):
        parse(key, value.encode())


# -- the topic ---------------------------------------------------------------------------------


@pytest.mark.broker
async def test_publishing_twice_writes_once_and_a_reader_finds_it(topics: Settings) -> None:
    one, other = entry(newer()), entry(newer("SecurityEvent"))

    assert await publish(topics, dict([one])) == [one.key]
    assert await publish(topics, dict([one, other])) == [other.key]

    reader = SchemaTopic(topics)
    assert await reader.news() == [tuple(one), tuple(other)]
    assert await reader.news() == []
    await reader.close()


@pytest.mark.broker
async def test_what_was_deleted_or_spoilt_is_published_again(topics: Settings) -> None:
    key, value = entry(newer())
    for spoilt in (None, b"no schema"):
        await publish(topics, {key: value})
        async with producer(topics) as made:
            await made.send_and_wait(topics.topic("schemas"), spoilt, key)

        assert (await published(topics)).get(key) == spoilt
        assert await publish(topics, {key: value}) == [key]
        assert await published(topics) == {key: value}


@pytest.mark.broker
async def test_a_missing_topic_is_said_with_what_to_do(settings: Settings) -> None:
    with pytest.raises(PublishError, match="topics create"):
        await publish(settings, dict([entry(newer())]))


async def test_a_missing_broker_is_said_with_what_to_do() -> None:

    with pytest.raises(PublishError, match=r"127\.0\.0\.1:1 cannot be used"):
        await published(Settings(bootstrap_servers="127.0.0.1:1"))
