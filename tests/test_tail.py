from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from streams import schemas
from streams.provision import create_topics
from streams.sender import Outgoing, Sender
from streams.settings import Settings
from streams.tail import (
    Condition,
    Selection,
    Tailed,
    TailError,
    as_json,
    as_line,
    condition,
    moment,
    read,
    tail,
)
from tests.letter_rig import message

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)


def event(number: int, at: int, **others: Any) -> bytes:
    record = {
        "event_id": f"e{number}",
        "occurred_at": at,
        "agent_id": "a",
        "kind": "OTHER",
        "severity": "LOW",
        "blocked": True,
    }
    return schemas.encode("SecurityEvent", record | others)


def shown(record: dict[str, Any], schema: str | None = "SecurityEvent") -> Tailed:
    return Tailed("agentops.security", 1, 2, NOW_MS, "a", schema, record)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15m", NOW_MS - 900_000),
        ("1.5h", NOW_MS - 5_400_000),
        ("2d", NOW_MS - 172_800_000),
        ("now", NOW_MS),
        ("2026-03-01T11:00", NOW_MS - 3_600_000),
        ("2026-03-01T12:00+01:00", NOW_MS - 3_600_000),
        ("2026-03-01", NOW_MS - 43_200_000),
    ],
)
def test_times_are_ago_or_iso_and_utc(text: str, expected: int) -> None:
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "3 weeks", "", "-5m"])
def test_another_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(TailError, match=r"is no time. Write 15m"):
        moment(text, NOW)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("rule=error-rate", True),
        ("rule = error-rate", True),
        ("rule!=error-rate", False),
        ("value>0.01", True),
        ("value>=0.04", True),
        ("value<0.04", False),
        ("value<=0.04", True),
        ("value=4e-2", True),
        ("page=true", True),
        ("page!=true", False),
        ("tenant=null", True),
        ("tenant!=null", False),
        ("tenant>1", False),
        ("page>0", False),
        ("value>many", False),
        ("missing=1", False),
        ("rule>a", True),
    ],
)
def test_conditions(text: str, holds: bool) -> None:
    record = {"rule": "error-rate", "value": 0.04, "page": True, "tenant": None}

    assert condition(text).holds(record) is holds


@pytest.mark.parametrize("text", ["", "rule", "=x", "a b=c", "1a=2"])
def test_another_condition_is_refused_with_its_forms(text: str) -> None:
    with pytest.raises(TailError, match="is no condition"):
        condition(text)


def test_a_line_says_when_where_and_what() -> None:
    _, record = schemas.decode(event(1, NOW_MS, tenant="acme", blocked=False, action="PAY"))

    assert as_line(shown(record)) == (
        "2026-03-01 12:00:00Z  agentops.security/1@2  LOW      OTHER acme/a NOT BLOCKED PAY"
    )


@pytest.mark.parametrize("name", ["TaskFinished", "Finding", "Alert", "Window"])
def test_each_record_of_the_contract_has_a_line(name: str) -> None:
    record = {field["name"]: sample(field["type"]) for field in schemas.schema(name)["fields"]}

    line = as_line(shown(record, name))

    assert "\n" not in line
    assert "word" in line
    assert "None" not in line


def test_the_line_of_a_review_leaves_out_the_words_of_the_person() -> None:
    fields = schemas.schema("HumanReview")["fields"]
    record = {field["name"]: sample(field["type"]) for field in fields}

    line = as_line(shown(record | {"reason": "she said so"}, "HumanReview"))

    assert "OVERRIDDEN" in line
    assert "she said so" not in line


def sample(kind: Any) -> Any:
    if isinstance(kind, list):
        return sample(kind[-1])
    if isinstance(kind, dict):
        return kind["symbols"][1] if kind["type"] == "enum" else sample(kind["type"])
    return {"string": "word", "boolean": True, "double": 0.5, "array": []}.get(kind, 7)


def test_what_does_not_decode_is_shown_with_its_headers() -> None:
    broken = shown({"undecoded": "why", "size": 3, "headers": {"reason": "BAD_BODY"}}, None)

    assert as_line(broken).endswith("undecoded=why size=3 headers={'reason': 'BAD_BODY'}")


def test_a_header_of_no_value_is_shown_as_null() -> None:
    headers = (("reason", b"BAD_BODY"), ("header.null_header", None))

    one = read(message(b"k", b"v", headers))

    assert json.loads(as_json(one))["headers"]["header.null_header"] is None


def test_json_has_the_place_and_all_fields() -> None:
    _, record = schemas.decode(event(1, NOW_MS))

    found = json.loads(as_json(shown(record)))

    assert found["topic"] == "agentops.security"
    assert (found["partition"], found["offset"], found["key"]) == (1, 2, "a")
    assert found["occurred_at"] == NOW_MS
    assert found["action"] is None


async def tailed(settings: Settings, **selection: Any) -> list[Tailed]:
    return [one async for one in tail(settings, Selection(["security"], **selection))]


@pytest.mark.broker
async def test_event_times_and_conditions_select(settings: Settings) -> None:
    await create_topics(settings)
    now = round(datetime.now(UTC).timestamp() * 1000)
    async with Sender(settings) as sender:
        await sender.send(
            Outgoing("security", b"a", event(n, now - 60_000 * (9 - n))) for n in range(10)
        )

    some = await tailed(
        settings,
        since_ms=now - 60_000 * 5,
        until_ms=now - 60_000,
        where=[Condition("event_id", "!=", "e6")],
    )

    assert [one.record["event_id"] for one in some] == ["e4", "e5", "e7"]
    assert len(await tailed(settings)) == 10
    assert await tailed(settings, since_ms=now + 86_400_000) == []


@pytest.mark.broker
async def test_only_committed_records_are_shown_and_the_end_is_reached(settings: Settings) -> None:
    await create_topics(settings)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap_servers, transactional_id=settings.app_id
    )
    await producer.start()
    try:
        for number, kept in enumerate((True, False, True, False)):
            await producer.begin_transaction()
            await producer.send_and_wait(settings.topic("security"), event(number, NOW_MS), b"a")
            await (producer.commit_transaction if kept else producer.abort_transaction)()
    finally:
        await producer.stop()

    assert [one.record["event_id"] for one in await tailed(settings)] == ["e0", "e2"]


@pytest.mark.broker
async def test_following_goes_on_past_the_end(settings: Settings) -> None:
    await create_topics(settings)
    records = tail(settings, Selection(["security"], follow=True))
    async with Sender(settings) as sender:
        for number in range(3):
            await sender.send([Outgoing("security", b"a", event(number, NOW_MS))])
            await sender.flush()
            assert (await anext(records)).record["event_id"] == f"e{number}"
    await records.aclose()


@pytest.mark.broker
async def test_an_unknown_topic_is_refused_with_those_there_are(settings: Settings) -> None:
    await create_topics(settings)

    with pytest.raises(TailError, match=r"There is no topic alrts .* There are alerts, broadcast"):
        [one async for one in tail(settings, Selection(["alrts"]))]


async def test_no_broker_is_one_clear_sentence() -> None:
    with pytest.raises(TailError, match=r"No Kafka broker answers at 127\.0\.0\.1:1"):
        await tailed(Settings(bootstrap_servers="127.0.0.1:1"))
