from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from streams import __version__, schemas
from streams.cli import app
from streams.settings import LOCAL_PARTITIONS, Settings

if TYPE_CHECKING:
    from streams.local import LocalBroker

COMMANDS = (
    "worker",
    "replay",
    "tail",
    "validate",
    "topology",
    "demo",
    "topics",
    "local",
    "config",
    "dead-letters",
)
ROOT = Path(__file__).parent.parent
NOBODY = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTOPS_BOOTSTRAP_SERVERS", NOBODY)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_help_names_every_command_and_each_command_has_help_of_its_own() -> None:
    shown = call("--help").stdout

    for command in COMMANDS:
        assert command in shown
        assert call(command, "--help").exit_code == 0


@pytest.mark.parametrize(
    "command",
    [("worker",), ("replay",), ("tail",), ("demo",), ("topics", "create"), ("local", "up")],
)
def test_help_has_examples(command: tuple[str, ...]) -> None:
    assert f"agentops-streams {' '.join(command)}" in call(*command, "--help").stdout


def test_help_loads_no_kafka_client() -> None:
    code = (
        "import sys, streams.cli; sys.exit(bool({'aiokafka', 'faust', 'numpy'} & {*sys.modules}))"
    )

    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT)

    assert done.returncode == 0


def test_version() -> None:
    assert call("--version").stdout == f"{__version__}\n"


def test_config_show_prints_every_setting_and_marks_what_is_changed() -> None:
    lines = call("config", "show").stdout.splitlines()

    for name in Settings.model_fields:
        assert any(line.startswith(f"{name} = ") for line in lines)
    assert f"bootstrap_servers = {NOBODY}  (changed)" in lines
    assert json.loads(call("config", "show", "--json").stdout)["bootstrap_servers"] == NOBODY


def test_a_misspelt_setting_is_exit_code_2_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AGENTOPS_PARTITONS", "3")

    found = call("config", "show")

    assert found.exit_code == 2
    assert "Did you mean AGENTOPS_PARTITIONS?" in found.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("tail", "alerts", "--where", "page"), 2, "is no condition"),
        (("tail", "alerts", "--since", "soon"), 2, "is no time"),
        (("tail", "alerts"), 1, f"No Kafka broker answers at {NOBODY}"),
        (("topics", "create"), 1, f"No Kafka broker answers at {NOBODY}"),
        (("topics", "check"), 1, f"No Kafka broker answers at {NOBODY}"),
        (("replay", "a.avro"), 1, "a.avro cannot be read: No such file"),
        (("replay", "a.avro", "-b", "kafka-1:9092"), 1, "Add --yes"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_an_exit_code(
    arguments: tuple[str, ...], code: int, words: str
) -> None:
    found = call(*arguments)

    assert found.exit_code == code
    assert words in found.stderr
    assert "Traceback" not in found.output


def test_local_status_of_an_empty_folder_is_exit_code_1(tmp_path: Path) -> None:
    text = call("local", "status", "--data-dir", str(tmp_path))
    as_json = call("local", "status", "--data-dir", str(tmp_path), "--json")

    assert text.exit_code == as_json.exit_code == 1
    assert "No broker runs in" in text.stdout
    assert json.loads(as_json.stdout)["running"] is False


def test_topology_prints_stages_and_topics() -> None:
    shown = call("topology").stdout

    for word in ("detect", "incidents", "agentops.tasks", "agentops.alerts"):
        assert word in shown


@pytest.mark.broker
def test_topics_replay_and_tail_work_together(
    broker: LocalBroker, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_BOOTSTRAP_SERVERS", broker.bootstrap)
    monkeypatch.setenv("AGENTOPS_TOPIC_PREFIX", prefix)
    monkeypatch.setenv("AGENTOPS_PARTITIONS", str(LOCAL_PARTITIONS))
    record = {
        "topic": "security",
        "event_id": "e1",
        "occurred_at": 1_700_000_000_000,
        "agent_id": "guard",
        "kind": "OTHER",
        "severity": "LOW",
        "blocked": True,
    }
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(record) + "\n")

    assert call("topics", "check").exit_code == 1
    assert f"created {prefix}security" in call("topics", "create").stdout
    assert call("topics", "create").stdout == "All topics exist and fit.\n"
    assert json.loads(call("topics", "check", "--json").stdout) == []
    assert "Replayed 1 events of 2023-11-14" in call("replay", str(path)).stdout
    line = call("tail", "security", "--where", "agent_id=guard", "--json").stdout
    found = json.loads(line)
    assert found["topic"] == f"{prefix}security"
    assert {name: found[name] for name in record if name != "topic"} == {
        name: record[name] for name in record if name != "topic"
    }
    again = tmp_path / "again.jsonl"
    again.write_text(line)
    assert call("replay", str(again), "--to-now").exit_code == 0
    assert len(call("tail", "security").stdout.splitlines()) == 2
    assert len(call("tail", "security", "--since", "1h").stdout.splitlines()) == 1
    assert schemas.names()
