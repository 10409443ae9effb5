"""The commands about schemas, as a person calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from streams import releases, schemas
from streams.cli import app
from streams.releases import Fault
from streams.schema_topic import entry
from streams.topics import TOPICS

if TYPE_CHECKING:
    from streams.local import LocalRegistry
    from streams.settings import Settings

NOBODY = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AGENTOPS_BOOTSTRAP_SERVERS", NOBODY)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, ("schemas", *arguments))


def written(name: str, **field: Any) -> Path:
    """Write a current schema with one field more into a file."""
    raw = schemas.schema(name)
    more = {"name": "region", "type": ["null", "string"], "default": None} | field
    path = Path(f"{name}.avsc")
    path.write_text(json.dumps(raw | {"fields": [*raw["fields"], more]}), encoding="utf-8")
    return path


# -- without a broker --------------------------------------------------------------------------


def test_list_names_every_record_with_its_topic_and_versions() -> None:
    rows = {row["name"]: row for row in json.loads(call("list", "--json").stdout)}

    assert set(rows) == set(schemas.names())
    assert {name: row["topic"] for name, row in rows.items() if row["topic"]} == {
        spec.record: spec.suffix for spec in reversed(TOPICS) if spec.record
    }
    alert = rows["Alert"]
    assert alert["versions"][str(alert["version"])] == alert["fingerprint"]
    line = next(line for line in call("list").stdout.splitlines() if line.startswith("Alert "))
    said = line.split()
    assert said == ["Alert", "alerts", alert["fingerprint"], "version", str(alert["version"])]


def test_check_passes_and_says_so() -> None:
    assert call("check").stdout == "All schemas fit what was released.\n"
    assert json.loads(call("check", "--json").stdout) == []


def test_check_prints_what_must_not_be_released(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = Fault("Alert", "version 1", "page", "boolean cannot be read as int", "keep it")
    monkeypatch.setattr(releases, "faults", lambda: [fault])

    done = call("check")

    assert done.exit_code == 1
    assert done.stdout == f"{fault}\n"
    assert json.loads(call("check", "--json").stdout) == [fault._asdict()]


@pytest.mark.parametrize("command", ["check", "register", "diff"])
def test_a_registry_that_is_away_is_one_sentence(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_REGISTRY_URL", f"http://{NOBODY}")

    done = call(command)

    assert done.exit_code == 1
    assert NOBODY in done.stderr
    assert "registry_url" in done.stderr


def test_register_without_a_registry_says_which_setting_is_missing() -> None:
    done = call("register")

    assert done.exit_code == 2
    assert "AGENTOPS_REGISTRY_URL" in done.stderr


def test_diff_shows_what_became_of_a_released_version() -> None:
    done = call("diff", "Alert", "--version", "1")

    title, *lines = done.stdout.splitlines()
    assert title == "Alert since version 1"
    assert "  + trace_id  string or null, default null" in lines
    assert call("diff", "Alert").stdout.endswith("no difference\n")


def test_diff_compares_with_a_file() -> None:
    path = written("TaskFinished")

    found = json.loads(call("diff", "--file", str(path), "--json").stdout)

    assert found == {
        "TaskFinished since TaskFinished.avsc": [
            {
                "field": "region",
                "change": "REMOVED",
                "before": "string or null, default null",
                "after": "",
            }
        ]
    }


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("diff", "Tasks"), "No record Tasks; there are"),
        (("diff", "Alert", "--version", "99"), "released versions, no 99"),
        (("diff", "--file", "missing.avsc"), "missing.avsc cannot be read"),
        (("diff", "--version", "1", "--file", "x"), "not both"),
        (("publish",), "FILEs to publish, or --list"),
        (("publish", "missing.avsc"), "missing.avsc cannot be read"),
    ],
)
def test_a_wrong_argument_is_said_with_what_is_allowed(
    arguments: tuple[str, ...], why: str
) -> None:
    done = call(*arguments)

    assert done.exit_code == 2
    assert why in done.stderr


def test_a_schema_that_no_worker_could_read_is_not_published() -> None:
    path = written("TaskFinished", type={"type": "array", "items": "null"})

    done = call("publish", str(path))

    assert done.exit_code == 1
    assert "TaskFinished.avsc cannot be published: region: array items" in done.stderr


def test_publish_without_a_broker_says_so() -> None:
    done = call("publish", str(written("TaskFinished")))

    assert done.exit_code == 1
    assert f"{NOBODY} cannot be used" in done.stderr


# -- with one ----------------------------------------------------------------------------------


@pytest.fixture
def here(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Point the commands at the broker and the prefix of the test, where topics are made."""
    monkeypatch.setenv("AGENTOPS_BOOTSTRAP_SERVERS", settings.bootstrap_servers)
    monkeypatch.setenv("AGENTOPS_TOPIC_PREFIX", settings.topic_prefix)
    monkeypatch.setenv("AGENTOPS_PARTITIONS", str(settings.partitions))
    assert CliRunner().invoke(app, ("topics", "create")).exit_code == 0
    return settings


@pytest.mark.broker
@pytest.mark.usefixtures("here")
def test_published_schemas_are_listed_and_published_once() -> None:
    path = written("TaskFinished")
    key = entry(path.read_bytes()).key.decode()

    assert call("publish", "--list").stdout == "The topic holds no schema.\n"
    assert call("publish", str(path)).stdout == f"{key}  published\n"
    assert json.loads(call("publish", str(path), "--json").stdout) == {key: False}
    assert call("publish", "--list").stdout == f"{key}  TaskFinished  usable\n"
    assert json.loads(call("publish", "--list", "--json").stdout) == [
        {"key": key, "name": "TaskFinished", "problem": None}
    ]


@pytest.mark.broker
def test_register_then_check_and_diff_against_a_registry(
    registry: LocalRegistry, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_REGISTRY_URL", registry.url)
    monkeypatch.setenv("AGENTOPS_TOPIC_PREFIX", prefix)
    monkeypatch.setenv("AGENTOPS_REGISTRY_TIMEOUT", "30")
    subject = f"{prefix}tasks-value"

    assert f"{subject} is not registered" in call("diff").stderr
    planned = call("register", "--dry-run").stdout
    assert f"{subject}  would be registered, the registry's own level\n" in planned
    done = json.loads(call("register", "--json").stdout)
    assert [(one["new"], one["version"]) for one in done] == [(True, 1)] * len(done)
    again = call("register").stdout
    assert f"{subject}  is there: version 1, id {done[0]['id']}, BACKWARD_TRANSITIVE\n" in again
    assert call("check").exit_code == 0
    same = f"Alert since {prefix}alerts-value version 1: no difference"
    assert same in call("diff", "Alert").stdout.splitlines()
