from __future__ import annotations

from typing import Any

import pytest

from streams import schemas
from streams.dead_letters import Letter, letter_of
from streams.letter_trial import Target, Trial, try_letter
from streams.reasons import DeadLetterReason as Reason
from streams.settings import Settings
from tests.letter_rig import a_letter, message

NOW = 1_800_000_000_000
SETTINGS = Settings(bootstrap_servers="127.0.0.1:1", registry_timeout=0.1, partitions=1)


def event(at: int = NOW, **others: Any) -> bytes:
    record = {
        "event_id": "e",
        "occurred_at": at,
        "agent_id": "a",
        "kind": "OTHER",
        "severity": "LOW",
        "blocked": True,
    }
    return schemas.encode("SecurityEvent", record | others)


def letter(value: bytes | None, key: bytes | None = b"a") -> Letter:
    made = a_letter(SETTINGS, Reason.BAD_BODY, (key, value))
    found = letter_of(message(made.key, made.value, made.headers))
    assert found is not None
    return found


async def tried(one: Letter, topic: str = "security") -> Trial:
    found = await try_letter(one, Target(topic, 0, 1), SETTINGS, NOW)
    assert found is not None
    return found


async def test_a_good_record_would_be_taken_and_is_shown_with_all_its_fields() -> None:
    found = await tried(letter(event(action="PAY")))

    assert found.refusal is None
    assert found.schema == "SecurityEvent"
    assert (found.record or {})["action"] == "PAY"


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (letter(None), Reason.NULL_VALUE),
        (letter(b"{}"), Reason.BAD_FRAMING),
        (letter(event()[:-2]), Reason.BAD_BODY),
        (letter(event(agent_id="")), Reason.INVALID_FIELD),
        (letter(event(), None), Reason.KEY_MISSING),
        (letter(event(), b"other"), Reason.KEY_MISMATCH),
        (letter(event(NOW + 300_001)), Reason.FUTURE),
        (letter(event() + b"x" * 1_100_000), Reason.OVERSIZE),
    ],
)
async def test_a_bad_record_would_be_refused_with_the_reason_a_worker_gives(
    one: Letter, reason: Reason
) -> None:
    found = await tried(one)

    assert found.refusal is not None
    assert found.refusal[0] is reason


async def test_the_time_of_a_replay_is_now() -> None:
    assert (await tried(letter(event(NOW + 300_000)))).refusal is None


async def test_a_record_of_another_topic_is_named() -> None:
    found = await tried(letter(event()), "tasks")

    assert found.refusal is not None
    assert found.refusal[0] is Reason.WRONG_SCHEMA
    assert found.schema == "SecurityEvent"


async def test_where_nobody_answers_an_unknown_schema_is_said_to_be_unasked() -> None:
    found = await tried(letter(schemas.MARKER + b"x" * 8))

    assert found.refusal is not None
    assert (found.refusal[0], found.asked) == (Reason.UNKNOWN_SCHEMA, False)


async def test_what_workers_do_not_read_is_not_judged() -> None:
    assert await try_letter(letter(event()), Target("windows", 0, 1), SETTINGS, NOW) is None
