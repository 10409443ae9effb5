from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from streams import schemas
from streams.cli import app
from streams.dead_letters import CURES
from streams.keys import Keys
from streams.provision import create_topics
from streams.reasons import DeadLetterReason as Reason
from tests.letter_rig import a_letter, read_all, write

if TYPE_CHECKING:
    from streams.settings import Settings

NOBODY = "127.0.0.1:1"
STRAY = "STRAY_PARTITION"
ROOT = Path(__file__).parent.parent
LEFT_OUT = {Reason.FUTURE, Reason.OVERSIZE, Reason.UNREADABLE_BATCH}


WRITTEN = len(set(Reason) - LEFT_OUT) + 2


def call(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(app, ("dead-letters", *arguments), **options)


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTOPS_BOOTSTRAP_SERVERS", NOBODY)


def event() -> bytes:
    record = {
        "event_id": "e",
        "occurred_at": 1_767_225_600_000,
        "agent_id": "guard",
        "kind": "OTHER",
        "severity": "LOW",
        "blocked": True,
    }
    return schemas.encode("SecurityEvent", record)


@pytest.fixture
def box(settings: Settings, monkeypatch: pytest.MonkeyPatch, nowhere: None) -> Settings:
    """Write a letter of each reason but those left out, two of a stray, one cut, to partition 0."""
    del nowhere
    monkeypatch.setenv("AGENTOPS_BOOTSTRAP_SERVERS", settings.bootstrap_servers)
    monkeypatch.setenv("AGENTOPS_TOPIC_PREFIX", settings.topic_prefix)
    monkeypatch.setenv("AGENTOPS_APP_ID", settings.app_id)
    monkeypatch.setenv("AGENTOPS_PARTITIONS", str(settings.partitions))
    letters = [
        a_letter(settings, reason, (b"guard", event()), topic=settings.topic("security"))
        for reason in (Reason.STRAY_PARTITION, *(each for each in Reason if each not in LEFT_OUT))
    ]
    letters.append(a_letter(settings, Reason.OVERSIZE, (b"k", b"v"), oversize=2_000_000))

    async def prepare() -> None:
        await create_topics(settings)
        await write(settings, letters)

    asyncio.run(prepare())
    return settings


def listed(*arguments: str) -> list[dict[str, Any]]:
    found = call("list", "--json", *arguments)
    assert found.exit_code == 0, found.output
    return [json.loads(line) for line in found.stdout.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("list",), 1, f"No Kafka broker answers at {NOBODY}"),
        (("list", "--since", "soon"), 2, "is no time"),
        (("list", "--summary", "--follow"), 2, "choose one"),
        (("list", "--reason", "bad-bodies"), 2, "Did you mean BAD_BODY?"),
        (("list", "--reason", "nonsense"), 2, "They are NULL_VALUE, BAD_FRAMING, "),
        (("show", "17"), 2, "Write PARTITION@OFFSET"),
        (("replay",), 2, "add --yes"),
        (("replay", "--yes"), 1, f"No Kafka broker answers at {NOBODY}"),
        (("replay", "--yes", "--only", "x"), 2, "Write PARTITION@OFFSET"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_an_exit_code(
    arguments: tuple[str, ...], code: int, words: str
) -> None:
    found = call(*arguments)

    assert found.exit_code == code
    assert words in found.stderr
    assert "Traceback" not in found.output


@pytest.mark.broker
def test_list_shows_what_is_chosen_and_the_summary_counts_it(box: Settings) -> None:
    everything = listed()

    assert len(everything) == WRITTEN
    assert [one["reason"] for one in listed("--reason", "stray-partition")] == [STRAY, STRAY]
    assert [one["reason"] for one in listed("--topic", "tasks")] == ["OVERSIZE"]
    assert listed("--topic", box.topic("tasks"), "--since", "1h", "--until", "30m") == []
    text = call("list").stdout.splitlines()
    assert [line.split()[0] for line in text] == [one["letter"] for one in everything]
    rows = json.loads(call("list", "--summary", "--json").stdout)
    assert {row["reason"]: row["letters"] for row in rows}["STRAY_PARTITION"] == 2
    assert sum(row["letters"] for row in rows) == WRITTEN
    assert CURES[Reason.TOO_LATE].cure in call("list", "--summary").stdout


@pytest.mark.broker
def test_show_says_all_of_a_letter_and_whether_it_would_be_taken_now(box: Settings) -> None:
    del box
    stray = call("show", "0@0")
    oversize = listed("--reason", "OVERSIZE")[0]["letter"]

    assert stray.exit_code == 0, stray.output
    assert "decodes   as SecurityEvent" in stray.stdout
    assert "now       would be taken, unless" in stray.stdout
    found = json.loads(call("show", "0@0", "--json").stdout)
    assert bytes.fromhex(found["value_hex"]) == event()
    assert found["record"]["agent_id"] == "guard"
    assert "cannot be replayed: not all of the record is here" in call("show", oversize).stdout
    missing = call("show", "0@999")
    assert missing.exit_code == 1
    assert "There is no letter at 0@999" in missing.stderr


@pytest.mark.broker
def test_replay_takes_what_a_retry_can_cure(box: Settings) -> None:
    curable = sum(cure.retry for reason, cure in CURES.items() if reason not in LEFT_OUT) + 1
    dry = json.loads(call("replay", "--dry-run", "--json").stdout)
    nothing = call("replay", "--yes", "--only", "0@999")
    done = call("replay", "--yes")

    assert (dry["done"], dry["letters"]) == (False, curable)
    assert "Replayed 0 letters" in nothing.stdout
    assert f"Replayed {curable} letters (INCOMPATIBLE_SCHEMA 1, " in done.stdout
    places = Keys(box.partitions)
    found = asyncio.run(read_all(box, "security"))
    assert {one.partition for one in found} == {0, places.place(b"guard")}
    assert len(found) == curable
    asyncio.run(read_all(box, "dead-letters"))
    assert len(listed()) == WRITTEN - curable
    assert sum(one["replayed"] for one in listed("--all")) == curable


@pytest.mark.broker
def test_replay_asks_on_a_terminal_and_takes_no_for_an_answer(box: Settings) -> None:
    terminal, its_end = pty.openpty()
    try:
        os.write(terminal, b"n\n")
        done = subprocess.run(
            [sys.executable, "-m", "streams.cli", "dead-letters", "replay", "--only", "0@0"],
            stdin=its_end,
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
    finally:
        os.close(terminal)
        os.close(its_end)

    assert done.returncode == 1, done.stderr
    assert "Would replay 1 letter (STRAY_PARTITION 1)." in done.stderr
    assert "Go on?" in done.stderr
    assert asyncio.run(read_all(box, "security")) == []


@pytest.mark.broker
def test_replay_of_named_letters_and_reasons_needs_no_retry_to_cure_them(box: Settings) -> None:
    del box
    late = listed("--reason", "TOO_LATE")[0]["letter"]

    first = call("replay", "--yes", "--only", late)
    second = call("replay", "--yes", "--reason", "OVERSIZE", "--reason", "NULL_VALUE")
    again = json.loads(call("replay", "--yes", "--only", late, "--json").stdout)

    assert "Replayed 1 letter (TOO_LATE 1)." in first.stdout
    assert "Replayed 1 letter (NULL_VALUE 1)." in second.stdout
    assert "Left 1 letter (OVERSIZE 1): not all of the record" in second.stdout
    assert again["reasons"]["before"] == {"TOO_LATE": 1}
