"""`agentops-streams controls`: what is produced, what is in force, and what is refused."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from streams.cli import app
from streams.control_commands import ahead, in_force, line
from streams.durations import DAY, HOUR
from streams.provision import create_topics
from tests.incident_rig import AT, control

if TYPE_CHECKING:
    from pathlib import Path

    from streams.settings import Settings

WHY = ("--why", "a test")


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTOPS_BOOTSTRAP_SERVERS", "127.0.0.1:1")


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ("controls", *arguments))


def test_a_time_ahead_is_a_duration_or_a_date_in_utc() -> None:
    assert ahead("2h", AT) == AT + 2 * HOUR
    assert ahead("1970-01-02", AT) == DAY
    with pytest.raises(ValueError, match="no time: write 30m"):
        ahead("tomorrow", AT)


def test_in_force_is_the_newest_of_each_id_that_is_not_over() -> None:
    said = [
        control("SILENCE", "over", until_at=10),
        control("SILENCE", "ended", until_at=9000),
        control("EXPIRE", "ended", at=5),
        control("SILENCE", "replaced", until_at=9000),
        control("MAINTENANCE", "replaced", at=6, until_at=9000),
        control("ACKNOWLEDGE", "new", at=6),
        control("ACKNOWLEDGE", "old", at=-DAY),
    ]
    found = in_force(map(asdict, said), AT + 60_000)
    assert [(one["control_id"], one["kind"]) for one in found] == [
        ("new", "ACKNOWLEDGE"),
        ("replaced", "MAINTENANCE"),
    ]


def test_a_line_says_what_is_withheld_until_when_by_whom_and_why() -> None:
    given = control("SILENCE", "s", match_rule="cost", match_entity_id="a", until_at=0)
    assert line(asdict(given)).startswith("s  SILENCE rule=cost entity_id=a until 2024-")
    assert line(asdict(given)).endswith("Z  (on-call: a test)")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("silence", "--until", "2h", *WHY), "every alert there is"),
        (("silence", "--until", "2h", "--kind", "agent", *WHY), "none of AGENT, PARTITION"),
        (("silence", "--until", "soon", "--rule", "cost", *WHY), "no time"),
        (("silence", "--until", "2020-01-01", "--rule", "cost", *WHY), "not after the beginning"),
        (("acknowledge", "x" * 300), "match_alert_id has 300 characters"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(
    arguments: tuple[str, ...], words: str
) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_a_broker_that_is_away_is_one_sentence() -> None:
    result = call("expire", "s")
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.output
    assert "Traceback" not in result.output


async def test_what_is_said_is_on_the_topic_until_it_is_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await create_topics(settings)
    monkeypatch.setenv("AGENTOPS_BOOTSTRAP_SERVERS", settings.bootstrap_servers)
    monkeypatch.setenv("AGENTOPS_TOPIC_PREFIX", settings.topic_prefix)

    def ran(*arguments: str) -> list[dict[str, Any]]:
        result = CliRunner().invoke(app, ("controls", *arguments, "--json"))
        assert result.exit_code == 0, result.output
        return [json.loads(one) for one in result.stdout.splitlines()]

    def all_of_it() -> list[list[dict[str, Any]]]:
        (said,) = ran("silence", "--rule", "cost", "--until", "2h", "--id", "s", *WHY)
        kept = ran("list")
        ran("acknowledge", "alert-1")
        ran("accept", "--alert", "alert-1", *WHY)
        ran("maintenance", "--entity", "a", "--until", "1h", "--id", "m", *WHY)
        ran("expire", "s")
        return [[said], kept, ran("list"), ran("list", "--all")]

    # The commands run a loop of their own.
    said, kept, later, everything = await asyncio.to_thread(all_of_it)
    assert kept == said
    assert {one["kind"] for one in later} == {"ACKNOWLEDGE", "ACCEPT_NORMAL", "MAINTENANCE"}
    assert len(everything) == 5
