from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from streams import schemas
from streams.dead_letters import Letter, letter_of, marked
from streams.durations import HOUR, MINUTE
from streams.epoch import OutRecord
from streams.keys import Keys
from streams.letter_box import Choice, open_box
from streams.letter_replay import BATCH_LETTERS, LetterFate, LetterReplay, ReplayError, Tally
from streams.reasons import DeadLetterReason as Reason
from streams.schema_topic import entry, publish
from tests.letter_rig import AT, a_letter, read_all, write
from tests.worker_rig import REAL, ROOT, Workers, producer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from streams.batch import Header
    from streams.settings import Settings

pytestmark = pytest.mark.broker

BESIDE = {"agent_id", "revision", "at"}
"""Fields of a window that are no sums."""


async def replay(settings: Settings, choice: Choice | None = None) -> Tally:
    choice = choice or Choice()
    async with open_box(settings) as box:
        spans = await box.spans(choice)
        return await LetterReplay(settings, box, choice).run(spans, lambda _: None)


async def survey(settings: Settings) -> Tally:
    await read_all(settings, "dead-letters")  # once the last transaction can be read
    async with open_box(settings) as box:
        spans = await box.spans(Choice())
        return await LetterReplay(settings, box, Choice()).survey(spans, lambda _: None)


def numbered(settings: Settings, count: int, keys: int = 50) -> list[OutRecord]:
    """Return letters whose values number them, of some keys, each key in its partition."""
    place = Keys(settings.partitions).place
    made = []
    for number in range(count):
        key = b"agent-%d" % (number % keys)
        record = key, b"%d" % number
        made.append(a_letter(settings, Reason.UNKNOWN_SCHEMA, record, partition=place(key)))
    return made


async def assert_each_once_and_in_order(settings: Settings, count: int) -> None:
    """Check that `tasks` holds exactly the numbered records, each key's in their order."""
    by_key: dict[bytes, list[int]] = defaultdict(list)
    places = Keys(settings.partitions)
    for record in await read_all(settings, "tasks"):
        by_key[record.key].append(int(record.value))
        assert record.partition == places.place(record.key)
    assert sorted(number for numbers in by_key.values() for number in numbers) == [*range(count)]
    assert all(numbers == sorted(numbers) for numbers in by_key.values())


async def test_a_record_comes_back_as_it_was_with_the_letter_it_was(topics: Settings) -> None:
    own = [("traceparent", b"00-1"), ("replayed-from", b"older"), ("x", None), ("x", b"\xff")]
    record = (b"acme/claims", b"\x00value")
    letter = a_letter(topics, Reason.UNKNOWN_SCHEMA, record, own, partition=2, offset=41)
    await write(topics, [letter])

    done = await replay(topics)

    (found,) = await read_all(topics, "tasks")
    assert (found.key, found.value, found.partition) == (*record, 2)
    kept = [one for one in own if one[0] != "replayed-from"]
    mark = ("replayed-from", topics.topic("dead-letters").encode() + b"/2@0")
    assert list(found.headers) == [*kept, mark]
    assert found.timestamp > AT  # the time of production is now, not that of the first time
    assert done.reasons(LetterFate.REPLAYED) == {"UNKNOWN_SCHEMA": 1}


async def test_a_second_replay_does_nothing(topics: Settings) -> None:
    await write(topics, numbered(topics, 30))

    first, second = await replay(topics), await replay(topics)

    assert (first.of(LetterFate.REPLAYED), second.of(LetterFate.REPLAYED)) == (30, 0)
    assert second.of(LetterFate.BEFORE) == 30
    await assert_each_once_and_in_order(topics, 30)


async def test_a_survey_says_what_a_replay_would_do_and_does_nothing(topics: Settings) -> None:
    await write(topics, numbered(topics, 30))

    found = await survey(topics)

    assert found.reasons(LetterFate.REPLAYED) == {"UNKNOWN_SCHEMA": 30}
    assert await read_all(topics, "tasks") == []
    assert len(await read_all(topics, "dead-letters")) == 30


async def test_two_replays_at_the_same_time_send_each_record_once(topics: Settings) -> None:
    count = 3 * BATCH_LETTERS
    await write(topics, numbered(topics, count))

    done = await asyncio.gather(replay(topics), replay(topics), return_exceptions=True)

    for error in (one for one in done if isinstance(one, BaseException)):
        assert isinstance(error, ReplayError), error
        assert "Another replay" in str(error)
    await replay(topics)
    await assert_each_once_and_in_order(topics, count)


async def test_a_replay_waits_for_markers_behind_a_transaction_that_is_open(
    topics: Settings,
) -> None:
    await write(topics, numbered(topics, 20))
    letters = topics.topic("dead-letters")
    async with producer(topics, transactional_id=f"{topics.app_id}-worker") as worker:
        await worker.begin_transaction()
        for number in range(topics.partitions):
            await worker.send_and_wait(letters, b"v", b"k", number, headers=[("reason", b"X")])
        # Another replay that began before; its markers cannot be read until the worker commits.
        marks = [OutRecord(letters, *one) for one in markers(topics, 20)]
        await write(topics, marks, settled=False)
        waiting = asyncio.create_task(replay(topics))
        await asyncio.wait([waiting], timeout=1)
        assert not waiting.done()
        await worker.commit_transaction()
        done = await waiting

    assert done.of(LetterFate.BEFORE) == 20
    assert await read_all(topics, "tasks") == []


def markers(settings: Settings, count: int) -> list[tuple[int, bytes, None, list[Header]]]:
    """Return the markers of the first numbered letters."""
    offsets: Counter[int] = Counter()
    made: list[tuple[int, bytes, None, list[Header]]] = []
    for letter in numbered(settings, count):
        mark = ("replayed", b"%d" % offsets[letter.partition])
        offsets[letter.partition] += 1
        made.append((letter.partition, letter.key or b"", None, [mark]))
    return made


async def test_a_replay_killed_in_a_transaction_leaves_nothing_twice(topics: Settings) -> None:
    count = 3 * BATCH_LETTERS
    await write(topics, numbered(topics, count))

    # Killed with the second transaction written and not committed.
    killed = await command(topics, AGENTOPS_FAILPOINTS="epoch.before_commit=kill@2")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    letters = await read_all(topics, "dead-letters", settled=False)
    sent = await read_all(topics, "tasks", settled=False)
    assert len([one for one in letters if marked(one) is not None]) == len(sent) == BATCH_LETTERS
    again = await command(topics)

    assert again.returncode == 0, again.stderr
    assert f"Replayed {count - BATCH_LETTERS:,} letters (UNKNOWN_SCHEMA" in again.stdout
    await assert_each_once_and_in_order(topics, count)


async def command(settings: Settings, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `dead-letters replay --yes`."""
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "streams.cli", "dead-letters", "replay", "--yes"],
        env=Workers(settings)._env | env,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


async def test_a_stray_record_goes_to_the_partition_of_its_key(topics: Settings) -> None:
    home = Keys(topics.partitions).place(b"guard")
    astray = (home + 1) % topics.partitions
    letters = [
        a_letter(topics, Reason.STRAY_PARTITION, (b"guard", b"s"), partition=astray),
        a_letter(topics, Reason.FUTURE, (b"guard", b"f"), partition=astray),
    ]
    await write(topics, letters)

    await replay(topics)

    found = {one.value: one.partition for one in await read_all(topics, "tasks")}
    assert found == {b"s": home, b"f": astray}


async def test_what_cannot_be_sent_again_is_left_with_the_reason(topics: Settings) -> None:
    elsewhere = a_letter(topics, Reason.UNKNOWN_SCHEMA, (b"k", b"v"), topic="payments")
    nowhere = a_letter(topics, Reason.UNKNOWN_SCHEMA, (b"k", b"v"))
    headers = [(name, b"99" if name == "partition" else each) for name, each in nowhere.headers]
    letters = [
        a_letter(topics, Reason.OVERSIZE, (b"k", b"beginning"), oversize=2_000_000),
        a_letter(topics, Reason.UNKNOWN_SCHEMA, (b"k", b"x" * 1_048_576)),
        elsewhere,
        type(nowhere)(nowhere.topic, 0, b"k", b"v", headers),
        type(nowhere)(nowhere.topic, 0, b"k", b"written by hand"),
        a_letter(topics, Reason.NULL_VALUE, (None, None)),
    ]
    await write(topics, letters)

    done = await replay(topics)

    assert done.reasons(LetterFate.CUT) == {"OVERSIZE": 1}
    assert done.reasons(LetterFate.TOO_LARGE) == {"UNKNOWN_SCHEMA": 1}
    assert done.reasons(LetterFate.NO_ORIGIN) == {"": 1, "UNKNOWN_SCHEMA": 2}
    (found,) = await read_all(topics, "tasks")
    assert (found.key, found.value) == (None, None)
    assert (await survey(topics)).of(LetterFate.REPLAYED) == 0


async def test_letters_that_came_after_the_choice_wait_for_the_next_replay(
    topics: Settings,
) -> None:
    await write(topics, numbered(topics, 10))
    async with open_box(topics) as box:
        spans = await box.spans(Choice())
        await write(topics, numbered(topics, 10))
        done = await LetterReplay(topics, box, Choice()).run(spans, lambda _: None)

    assert done.of(LetterFate.REPLAYED) == 10
    assert (await survey(topics)).of(LetterFate.REPLAYED) == 10


# -- with workers --------------------------------------------------------------------------------


async def letters_of(
    settings: Settings, enough: Callable[[list[Letter]], bool], seconds: float = 60
) -> list[Letter]:
    """Return the letters once there are enough."""
    async with asyncio.timeout(seconds):
        while True:
            read = [
                letter_of(one) for one in await read_all(settings, "dead-letters", settled=False)
            ]
            found = [letter for letter in read if letter is not None]
            if enough(found):
                return found
            await asyncio.sleep(0.1)


def foreign(value: bytes) -> bytes:
    """Return a value under a fingerprint that nobody knows."""
    return schemas.MARKER + b"\x01\x02\x03\x04\x05\x06\x07\x08" + value[schemas.FRAME :]


async def test_a_record_that_is_refused_again_becomes_one_new_letter_that_says_so(
    topics: Settings, tmp_path: Path
) -> None:
    workers = Workers(topics, REAL)
    try:
        workers.start(tmp_path)
        key, place = b"agent", Keys(topics.partitions).place(b"agent")
        tasks: Any = topics.topic("tasks")
        async with producer(topics) as made:
            # A record of neither key nor value must not stop its partition.
            batch = made.create_batch()
            batch.append(key=None, value=None, timestamp=None)
            await made.send_batch(batch, tasks, partition=place)
            for number in range(20):
                own = [("n", b"%d" % number)]
                await made.send(tasks, foreign(b"%d" % number * 9), key, place, headers=own)
            await made.flush()
        await letters_of(topics, lambda found: len(found) == 21)

        chosen = Choice(reasons=frozenset({"UNKNOWN_SCHEMA"}))
        done = await replay(topics, chosen)
        letters = await letters_of(topics, lambda found: len(found) >= 41)
    finally:
        workers.close()

    assert done.reasons(LetterFate.REPLAYED) == {"UNKNOWN_SCHEMA": 20}
    first = [one for one in letters if one.reason == "UNKNOWN_SCHEMA" and not one.replayed_from]
    again = [one for one in letters if one.replayed_from]
    assert [one.value for one in again] == [one.value for one in first]
    topic = topics.topic("dead-letters")
    assert [one.replayed_from for one in again] == [f"{topic}/{one.place}" for one in first]
    assert [dict(one.headers)["n"] for one in again] == [b"%d" % n for n in range(20)]
    assert len(letters) == 41
    assert [(one.key, one.value) for one in letters if one.reason == "NULL_VALUE"] == [(None, None)]


async def test_once_the_schema_is_published_a_replay_makes_the_windows_of_who_never_missed_it(
    topics: Settings, tmp_path: Path
) -> None:
    newer = schemas.build(with_field(schemas.schema("TaskFinished"), "region"))
    begin = (time.time_ns() // 1_000_000 // HOUR - 12) * HOUR
    workers = Workers(topics, REAL)
    try:
        workers.start(tmp_path)
        async with producer(topics) as made:

            async def send(number: int, at: int, missed: Collection[str] = ()) -> None:
                for agent in ("steady", "late"):
                    record = task(number, begin + at) | {"agent_id": agent}
                    known = schemas.encode("TaskFinished", record)
                    value = newer.write(record) if agent in missed else known
                    await made.send(topics.topic("tasks"), value, agent.encode())

            for number in range(60):
                await send(number, number * HOUR // 20, () if number % 3 else ("late",))
            await send(60, 5 * HOUR)  # closes the hours of those before it
            await letters_of(topics, lambda found: len(found) == 20)
            made_known = entry(json.dumps(newer.raw))
            await publish(topics, {made_known.key: made_known.value})
            done = await replay(topics)
            # Revised windows come at the next tick of event time.
            await send(61, 5 * HOUR + 2 * MINUTE)
        async with asyncio.timeout(30):
            while await windows(topics, "late") != (steady := await windows(topics, "steady")):
                await asyncio.sleep(0.1)
    finally:
        workers.close()

    assert done.reasons(LetterFate.REPLAYED) == {"UNKNOWN_SCHEMA": 20}
    assert sum(sums["automated"] + sums["failed"] for sums in steady.values()) == 60


def with_field(raw: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a schema with one more field."""
    field = {"name": name, "type": ["null", "string"], "default": None}
    return {**raw, "fields": [*raw["fields"], field]}


def task(number: int, at: int) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "occurred_at": at,
        "task_type": "invoice",
        "outcome": "FAILED" if number % 5 == 0 else "AUTOMATED",
        "duration_ms": 1.5 * number,
        "cost_usd": 0.001 * number,
        "input_tokens": number,
        "output_tokens": 2 * number,
    }


async def windows(settings: Settings, agent: str) -> dict[int, dict[str, Any]]:
    """Return the sums of an agent's hours, of the highest revision each."""
    found: dict[int, dict[str, Any]] = {}
    for record in await read_all(settings, "windows", settled=False):
        _, window = schemas.decode(record.value)
        if window["agent_id"] == agent:
            found[window["window_start"]] = {
                name: value for name, value in window.items() if name not in BESIDE
            }
    return found
