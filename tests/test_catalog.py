from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from streams import schemas
from streams.catalog import MAX_ASKED, SchemaCatalog
from streams.metrics import Metrics
from streams.reasons import DeadLetterReason, LookUpOutcome
from streams.registry import RegistryClient
from tests.test_registry_outage import version
from tests.worker_rig import producer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streams.local_registry import LocalRegistry
    from streams.settings import Settings

pytestmark = pytest.mark.broker

NEWER = version("extra")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def catalog(topics: Settings, metrics: Metrics) -> AsyncIterator[SchemaCatalog]:
    made = SchemaCatalog(topics, metrics=metrics)
    yield made
    await made.close()


@pytest.fixture
def registered(topics: Settings, registry: LocalRegistry) -> Settings:
    return topics.model_copy(update={"registry_url": registry.url})


def looked_up(metrics: Metrics, outcome: LookUpOutcome) -> float:
    name = "agentops_schema_look_ups_total"
    return metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


async def publish(settings: Settings, key: bytes, value: bytes | None) -> None:
    async with producer(settings) as made:
        await made.send_and_wait(settings.topic("schemas"), value, key=key)


async def publish_schema(settings: Settings, schema: schemas.Schema) -> None:
    text = json.dumps(schema.raw).encode()
    await publish(settings, schema.fingerprint.hex().encode(), text)


async def test_a_schema_published_before_the_look_up_is_known_after_it(
    topics: Settings, catalog: SchemaCatalog, metrics: Metrics
) -> None:
    await publish_schema(topics, version("other"))
    assert catalog.find(NEWER.frame) is None
    await catalog.look_up([NEWER.frame])
    assert catalog.find(NEWER.frame) is None
    await publish_schema(topics, NEWER)

    await catalog.look_up([NEWER.frame])

    found = catalog.find(NEWER.frame)
    assert found is not None
    assert found.fingerprint == NEWER.fingerprint
    assert looked_up(metrics, LookUpOutcome.ABSENT) == pytest.approx(1)
    assert looked_up(metrics, LookUpOutcome.FOUND) == pytest.approx(1)


async def test_rubbish_on_the_schemas_topic_hides_nothing(
    topics: Settings, catalog: SchemaCatalog
) -> None:
    for value in (b"{", b"[]", b'"int"', b"\xff" * 10, b"[" * 5000, None):
        await publish(topics, NEWER.fingerprint.hex().encode(), value)
    await publish(topics, b"0" * 16, json.dumps(NEWER.raw).encode())
    await publish_schema(topics, NEWER)

    await catalog.look_up([NEWER.frame, schemas.MARKER + bytes(8)])

    assert catalog.find(NEWER.frame) is not None
    assert catalog.find(schemas.MARKER + bytes(8)) is None


async def test_what_is_known_once_stays_known_when_it_is_deleted(
    topics: Settings, catalog: SchemaCatalog
) -> None:
    await publish_schema(topics, NEWER)
    await catalog.look_up([NEWER.frame])
    await publish(topics, NEWER.fingerprint.hex().encode(), None)

    await catalog.look_up([NEWER.frame, schemas.MARKER + bytes(8)])

    assert catalog.find(NEWER.frame) is not None


async def test_an_id_without_a_registry_is_not_known(catalog: SchemaCatalog) -> None:
    await catalog.look_up([schemas.registry_frame(1)])

    assert catalog.find(schemas.registry_frame(1)) is None


async def test_ids_are_found_by_the_subject_of_the_topic_and_by_themselves(
    registered: Settings,
) -> None:
    async with RegistryClient.of(registered) as client:
        text = json.dumps(NEWER.raw)
        subject = f"{registered.topic('tasks')}-value"
        other = version("stray")
        by_subject = schemas.registry_frame(await client.register(subject, text))
        stray = await client.register(f"{registered.topic_prefix}stray", json.dumps(other.raw))
    catalog = SchemaCatalog(registered)
    try:
        flood = [schemas.registry_frame(2**31 + number) for number in range(MAX_ASKED)]
        await catalog.look_up([*flood, by_subject])
        assert catalog.find(by_subject) is not None
        # Of the others, the smallest are asked for: ids are counted from 1, invented ones are not.
        await catalog.look_up([*flood, schemas.registry_frame(stray)])
        found = catalog.find(schemas.registry_frame(stray))
        assert found is not None
        assert found.fingerprint == other.fingerprint
    finally:
        await catalog.close()


async def test_what_is_no_record_of_ours_is_unusable_and_not_asked_for_again(
    registered: Settings, metrics: Metrics
) -> None:
    async with RegistryClient.of(registered) as client:
        number = await client.register(f"{registered.topic_prefix}int", '{"type": "int"}')
    frame = schemas.registry_frame(number)
    catalog = SchemaCatalog(registered, metrics=metrics)
    try:
        await catalog.look_up([frame])
        with pytest.raises(schemas.DecodeError) as refused:
            catalog.find(frame)
        await catalog.look_up([frame])
    finally:
        await catalog.close()

    assert refused.value.reason is DeadLetterReason.INCOMPATIBLE_SCHEMA
    assert looked_up(metrics, LookUpOutcome.UNUSABLE) == pytest.approx(1)


async def test_our_own_records_carry_the_frame_they_are_given(topics: Settings) -> None:
    frame = schemas.registry_frame(77)
    catalog = SchemaCatalog(topics, {"Window": frame})
    fields = schemas.schema("Window")["fields"]
    window = {field["name"]: field.get("default", 7) for field in fields}
    window |= {"agent_id": "a", "task_type": "t"}

    value = catalog.encode("Window", window)

    assert value.startswith(frame)
    assert schemas.decode(value, catalog.find) == ("Window", window)


async def test_a_broker_that_is_away_is_asked_until_it_answers(topics: Settings) -> None:
    nobody = topics.model_copy(update={"bootstrap_servers": "127.0.0.1:1"})
    metrics = Metrics()
    catalog = SchemaCatalog(nobody, metrics=metrics)

    asking = asyncio.create_task(catalog.look_up([NEWER.frame]))
    while looked_up(metrics, LookUpOutcome.AWAY) < 2:
        await asyncio.sleep(0.05)

    assert not asking.done()
    asking.cancel()
    await catalog.close()
