from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer

from load import truth, verdict
from streams import schemas
from streams.provision import create_topics

if TYPE_CHECKING:
    from streams.settings import Settings

pytestmark = pytest.mark.broker

ORIGIN = 1_700_000_000_000
FACTS = truth.load()


def blank(name: str) -> dict[str, Any]:
    empty = {"string": "", "boolean": False, "double": 0.0, "array": []}
    found: dict[str, Any] = {}
    for field in schemas.schema(name)["fields"]:
        kind = field["type"]["type"] if isinstance(field["type"], dict) else field["type"]
        if kind == "enum":
            found[field["name"]] = field["type"]["symbols"][1]
        else:
            found[field["name"]] = None if isinstance(kind, list) else empty.get(kind, 0)
    return found


def alerts(*, without: str = "") -> list[tuple[str, bytes]]:
    """Return (topic, value) of a run that is as the truth says, but for one alert."""
    values = []
    for one in FACTS.expected:
        start = ORIGIN + one.start_ms
        for status, at in (("FIRING", start), ("RESOLVED", start + 1)):
            record = blank("Alert") | {"rule": one.mark.rule, "page": bool(one.page)}
            record |= {"entity_kind": one.mark.entity_kind, "entity_id": one.mark.entity}
            record |= {"alert_id": f"{one.fingerprint}-{start}", "status": status}
            record |= {"starts_at": start, "updated_at": at, "change_ref": one.change_ref}
            if one.name != without:
                values.append(("alerts", schemas.encode("Alert", record)))
    return values


def requests() -> list[tuple[str, bytes]]:
    """Return (topic, value) of the retraining requests of such a run."""
    values = []
    for number, one in enumerate(FACTS.requests):
        record = blank("RetrainingRequest") | {"agent_id": one.agent, "cause": one.cause}
        record |= {"request_id": f"request-{number}", "signals": [one.signal or "any"]}
        record |= {"updated_at": ORIGIN + one.start_ms}
        values.append(("retraining", schemas.encode("RetrainingRequest", record)))
    return values


async def published(
    settings: Settings, values: list[tuple[str, bytes]], *, commit: bool = True
) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers, transactional_id=settings.app_id
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        for topic, value in values:
            await producer.send_and_wait(settings.topic(topic), value)
        await (producer.commit_transaction if commit else producer.abort_transaction)()
    finally:
        await producer.stop()


async def refused(settings: Settings) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await producer.start()
    try:
        for reason, count in FACTS.dead_letters.items():
            for _ in range(count):
                await producer.send_and_wait(
                    settings.topic("dead-letters"), b"x", headers=[("reason", reason.encode())]
                )
    finally:
        await producer.stop()


async def test_a_run_as_the_truth_says_is_right(settings: Settings) -> None:
    await create_topics(settings)
    await published(settings, [*alerts(), *requests()])
    await refused(settings)

    found = await verdict.judge(settings, ORIGIN, 20.0)

    assert found["wrong"] == []
    assert len(found["found"]) == len(FACTS.expected) + len(FACTS.requests)
    assert found["dead_letters_expected"] is True


async def test_a_missing_alert_and_missing_dead_letters_are_told(settings: Settings) -> None:
    await create_topics(settings)
    await published(settings, [*alerts(without="trust-tier violation"), *requests()])

    found = await verdict.judge(settings, ORIGIN, 3.0)

    assert found["wrong"] == ["missing: security of customs-classification (trust-tier violation)"]
    assert found["dead_letters_expected"] is False


async def test_what_is_not_committed_does_not_count(settings: Settings) -> None:
    await create_topics(settings)
    await published(settings, [*alerts(), *requests()], commit=False)

    found = await verdict.judge(settings, ORIGIN, 3.0)

    assert found["alerts"] == 0
    assert len(found["wrong"]) == len(FACTS.expected) + len(FACTS.requests)


def test_the_command_ends_with_1_when_something_is_wrong(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio  # noqa: PLC0415 - only this test has no loop

    asyncio.run(create_topics(settings))
    where = ["--bootstrap", settings.bootstrap_servers, "--prefix", settings.topic_prefix]

    assert verdict.main([*where, "--origin", str(ORIGIN), "--seconds", "2"]) == 1
    assert '"missing: ' in capsys.readouterr().out
