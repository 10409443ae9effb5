from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from aiokafka.partitioner import DefaultPartitioner

from streams.provision import create_topics
from streams.sender import Outgoing, Sender, SendError
from streams.tail import Selection, Tailed, tail

if TYPE_CHECKING:
    from streams.settings import Settings

pytestmark = pytest.mark.broker


async def sent(settings: Settings, records: list[Outgoing]) -> list[Tailed]:
    async with Sender(settings) as sender:
        await sender.send(records)
    return [one async for one in tail(settings, Selection(["tasks"]))]


async def test_records_stand_where_the_default_partitioner_puts_them(settings: Settings) -> None:
    await create_topics(settings)
    keys = [f"agent-{number}".encode() for number in range(200)]
    parts = list(range(settings.partitions))

    found = await sent(settings, [Outgoing("tasks", key, b"v") for key in keys])

    where = {one.key: one.partition for one in found}
    assert where == {key.decode(): DefaultPartitioner()(key, parts, parts) for key in keys}


async def test_more_than_a_batch_arrives_whole_and_in_order(settings: Settings) -> None:
    await create_topics(settings)
    values = [f"{number:>2000}".encode() for number in range(1_000)]

    found = await sent(settings, [Outgoing("tasks", b"one", value) for value in values])

    assert [one.record["size"] for one in found] == [2000] * 1_000
    assert [one.offset for one in found] == list(range(1_000))


async def test_a_stray_record_goes_elsewhere_and_nulls_stay_null(settings: Settings) -> None:
    await create_topics(settings)
    records = [Outgoing("tasks", b"k", b"v"), Outgoing("tasks", b"k", b"v", stray=True)]

    found = await sent(settings, [*records, Outgoing("tasks", None, None)])

    places = {one.partition for one in found if one.key == "k"}
    assert len(places) == 2
    assert [one.record["undecoded"] for one in found if one.key is None] == ["null value"]


async def test_a_record_larger_than_a_batch_is_refused(settings: Settings) -> None:
    await create_topics(settings)

    with pytest.raises(SendError, match=r"larger|exceeds|refused"):
        await sent(settings, [Outgoing("tasks", b"k", os.urandom(4 * 1024 * 1024))])
