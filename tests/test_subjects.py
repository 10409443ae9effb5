"""Our subjects at a real schema registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from streams import schemas
from streams.registry import RegistryAwayError, RegistryClient
from streams.settings import Settings
from streams.subjects import LEVEL, RefusedError, Registered, incompatible, register, subjects
from streams.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.local import LocalRegistry

pytestmark = pytest.mark.broker


@pytest.fixture
def where(prefix: str) -> Settings:
    """Settings with a prefix of the test; no broker is asked."""
    return Settings(topic_prefix=prefix)


@pytest.fixture
async def client(registry: LocalRegistry) -> AsyncIterator[RegistryClient]:
    async with RegistryClient(registry.url, timeout=30) as running:
        yield running


async def registered(
    client: RegistryClient, where: Settings, *, dry_run: bool = False
) -> list[Registered]:
    return [one async for one in register(client, where, dry_run=dry_run)]


async def test_every_topic_with_a_record_has_a_subject_with_its_schema(
    client: RegistryClient, where: Settings
) -> None:
    done = await registered(client, where)

    assert [one.subject for one in done] == [
        f"{where.topic(spec.suffix)}-value" for spec in TOPICS if spec.record
    ]
    for one in done:
        assert (one.version, one.new, one.level) == (1, True, LEVEL)
        assert await client.compatibility(one.subject) == LEVEL
        assert one.id is not None
        text = await client.schema(one.id) or ""
        assert schemas.parse(text).fingerprint == schemas.fingerprint(one.record)


async def test_registering_again_changes_nothing(client: RegistryClient, where: Settings) -> None:
    first = await registered(client, where)

    again = await registered(client, where)

    assert again == [one._replace(new=False) for one in first]


async def test_a_dry_run_registers_nothing(client: RegistryClient, where: Settings) -> None:
    planned = await registered(client, where, dry_run=True)

    assert {(one.version, one.id, one.new) for one in planned} == {(None, None, True)}
    assert [await client.versions(one.subject) for one in planned] == [[]] * len(planned)


async def test_a_level_that_was_chosen_stays(client: RegistryClient, where: Settings) -> None:
    subject = subjects(where)[0]
    await client.register(subject.name, subject.schema)
    await client.set_compatibility(subject.name, "FULL")

    assert (await registered(client, where))[0].level == "FULL"


@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_subject_that_is_not_ours_is_refused_and_named(
    client: RegistryClient, where: Settings, dry_run: bool
) -> None:
    subject = subjects(where)[0]
    other = {"type": "record", "name": "Other", "fields": [{"name": "depth", "type": "long"}]}
    await client.register(subject.name, json.dumps(other))
    await client.set_compatibility(subject.name, LEVEL)

    assert [fault.against for fault in await incompatible(client, where)] == [subject.name]
    with pytest.raises(RefusedError, match=f"does not take TaskFinished as subject {subject.name}"):
        await registered(client, where, dry_run=dry_run)


async def test_an_absent_subject_refuses_nothing(client: RegistryClient, where: Settings) -> None:
    assert await incompatible(client, where) == []


async def test_a_registry_that_is_away_is_not_called_a_refusal(where: Settings) -> None:
    async with RegistryClient("http://127.0.0.1:1") as nobody:
        with pytest.raises(RegistryAwayError, match="registry_url"):
            await registered(nobody, where)
