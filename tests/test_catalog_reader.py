from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from streams import schemas
from streams.catalog_reader import CatalogReader
from tests.test_registry_outage import a_task, version
from tests.worker_rig import producer

if TYPE_CHECKING:
    from streams.settings import Settings

pytestmark = pytest.mark.broker

NEWER = version("extra")


async def test_a_schema_on_the_topic_is_found_for_a_value(topics: Settings) -> None:
    async with producer(topics) as made:
        key, text = NEWER.fingerprint.hex().encode(), json.dumps(NEWER.raw).encode()
        await made.send_and_wait(topics.topic("schemas"), text, key=key)
    value = NEWER.write(a_task("a", 1, NEWER))

    async with CatalogReader(topics) as reader:
        name, record = schemas.decode(value, await reader.find_for(value))

    assert (name, record["event_id"]) == ("TaskFinished", "e1")


async def test_whoever_does_not_answer_is_waited_for_once_and_briefly(settings: Settings) -> None:
    away = settings.model_copy(
        update={"registry_url": "http://127.0.0.1:1/apis", "registry_timeout": 0.05}
    )
    value = schemas.registry_frame(7) + b"x"

    async with CatalogReader(away) as reader:
        for _ in range(3):
            find = await reader.find_for(value)
            with pytest.raises(schemas.DecodeError, match="schema id 7 is not known"):
                schemas.decode(value, find)


@pytest.mark.parametrize("value", [None, b"", b"rubbish"])
async def test_what_has_no_frame_is_not_asked_for(settings: Settings, value: bytes | None) -> None:
    async with CatalogReader(settings) as reader:
        assert (await reader.find_for(value))(b"") is None
