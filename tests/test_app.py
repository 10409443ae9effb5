"""The real worker on the real broker: events in, alerts out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from streams import schemas
from tests.worker_rig import REAL, Workers, producer, reader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streams.settings import Settings

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]


@pytest.fixture
def workers(settings: Settings) -> Iterator[Workers]:
    made = Workers(settings, REAL)
    yield made
    made.close()


def security_event(**fields: Any) -> dict[str, Any]:
    return {
        "event_id": "e1",
        "occurred_at": int(time.time() * 1000),
        "agent_id": "claims-agent",
        "kind": "INJECTION_ATTEMPT",
        "severity": "HIGH",
        "blocked": False,
    } | fields


async def test_a_security_event_becomes_an_alert(
    topics: Settings, workers: Workers, tmp_path: Path
) -> None:
    workers.start(tmp_path)
    async with producer(topics) as made, reader(topics, "alerts", 1) as read:
        value = schemas.encode("SecurityEvent", security_event())
        await made.send_and_wait(topics.topic("security"), value, key=b"claims-agent")
        values: list[bytes] = []
        while not values:
            values = (await read())[0]
            assert workers.running[0].poll() is None, workers.log()
    name, alert = schemas.decode(values[0])
    assert name == "Alert"
    assert (alert["status"], alert["page"], alert["entity_id"]) == ("FIRING", True, "claims-agent")
