from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from streams.cli import app
from streams.connection import connection
from streams.diagnosis import Check, Status
from streams.doctor import Doctor
from streams.provision import create_topics
from streams.settings import Settings, SettingsError, load
from tests.secured_broker import (
    ADMIN,
    DESCRIBE_CONFIGS,
    GROUP,
    LITERAL,
    PREFIXED,
    READ,
    TOPIC,
    TRANSACTIONAL_ID,
    WORKER,
    WORKER_PASSWORD,
    WRITE,
    allow,
)
from tests.worker_rig import REAL, Workers, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from streams.diagnosis import Diagnosis
    from tests.secured_broker import SecuredBroker


async def examined(settings: Settings) -> dict[Check, list[Diagnosis]]:
    found: dict[Check, list[Diagnosis]] = {}
    async for one in Doctor(settings, {}).examine():
        found.setdefault(one.check, []).append(one)
    return found


def environment(settings: Settings) -> dict[str, str]:
    return {
        "AGENTOPS_SECURITY_PROTOCOL": "SASL_SSL",
        "AGENTOPS_SASL_USERNAME": str(settings.sasl_username),
        "AGENTOPS_SASL_PASSWORD": WORKER_PASSWORD,
        "AGENTOPS_SSL_CAFILE": str(settings.ssl_cafile),
    }


def test_by_default_nothing_but_the_addresses_is_given() -> None:
    assert connection(Settings()) == {
        "bootstrap_servers": "127.0.0.1:9092",
        "security_protocol": "PLAINTEXT",
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SECURITY_PROTOCOL": "SASL_SSL"}, "AGENTOPS_SASL_USERNAME and AGENTOPS_SASL_PASSWORD"),
        ({"SASL_PASSWORD": "hunter2"}, "sasl_password is set, but.*PLAINTEXT does not use it"),
        ({"SSL_CAFILE": "here.pem"}, "ssl_cafile is set, but.*SSL or SASL_SSL"),
        ({"SECURITY_PROTOCOL": "SSL", "SSL_KEYFILE": "here.pem"}, "without ssl_certfile"),
        ({"SECURITY_PROTOCOL": "SSL", "SSL_CAFILE": "gone.pem"}, "ssl_cafile = 'gone.pem'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    given: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.pem").write_text("")

    with pytest.raises(SettingsError, match=said) as caught:
        load({f"AGENTOPS_{name}": value for name, value in given.items()})

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [({"ssl_cafile"}, "holds no certificates"), ({"ssl_certfile"}, "cannot be used")],
)
def test_files_that_are_no_certificates_are_named(
    given: set[str], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "no.pem"
    path.write_text("nothing")
    settings = Settings(security_protocol="SSL", **dict.fromkeys(given, path))

    with pytest.raises(SettingsError, match=said):
        connection(settings)


def test_a_certificate_that_cannot_be_used_is_one_sentence_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no.pem").write_text("nothing")
    env = {"AGENTOPS_SECURITY_PROTOCOL": "SSL", "AGENTOPS_SSL_CAFILE": "no.pem"}

    done = CliRunner().invoke(app, ["topics", "check"], env=env)

    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "ssl_cafile = no.pem" in done.stderr


@pytest.mark.broker
async def test_a_worker_with_just_the_rights_the_doctor_asks_for_works_over_tls(
    secured: SecuredBroker, prefix: str, tmp_path: Path
) -> None:
    admin = secured.settings(prefix)
    settings = secured.settings(prefix, WORKER, WORKER_PASSWORD)
    await create_topics(admin)
    bare = await examined(settings)
    app = settings.app_id
    await allow(
        admin,
        [
            (GROUP, app, LITERAL, READ),
            (TRANSACTIONAL_ID, f"{app}-", PREFIXED, WRITE),
            (TOPIC, prefix, PREFIXED, READ),
            (TOPIC, prefix, PREFIXED, DESCRIBE_CONFIGS),
        ],
    )
    some = await examined(settings)
    await allow(admin, [(TOPIC, prefix, PREFIXED, WRITE)])
    all_of_them = await examined(settings)
    workers = Workers(settings, REAL)
    try:
        workers.start(tmp_path, **environment(settings))
        units = settings.partitions + 1
        await wait_until(lambda: workers.log().count("unit.open ") == units, "units to open")
    finally:
        workers.close()

    missing = "\n".join(map(str, bare[Check.ACCESS]))
    for each in (f"READ on group {app}.", "WRITE on transactional-id", "READ on topic",
                 "WRITE on topic", "DESCRIBE_CONFIGS on topic"):  # fmt: skip
        assert f"No {each}" in missing
    assert "--operation Read --group" in missing
    assert "--resource-pattern-type prefixed" in missing
    assert bare[Check.TOPICS][0].status is Status.FAIL
    assert "may not see it" in bare[Check.TOPICS][0].found
    (left,) = some[Check.ACCESS]
    assert "No WRITE on topic" in left.found
    assert f"{prefix}tasks" not in left.found  # a worker never writes there
    assert [one.status for one in all_of_them[Check.ACCESS]] == [Status.OK]
    assert not [one for said in all_of_them.values() for one in said if one.status is Status.FAIL]


@pytest.mark.broker
async def test_a_wrong_password_is_one_line_without_it(secured: SecuredBroker, prefix: str) -> None:
    wrong = secured.settings(prefix, ADMIN, "hunter2")

    found = await examined(wrong)

    (line,) = found[Check.BROKER]
    assert "Authentication failed" in line.found
    assert "hunter2" not in repr(found)


@pytest.mark.broker
async def test_a_certificate_that_is_not_trusted_is_said_so(
    secured: SecuredBroker, prefix: str
) -> None:
    trusting = secured.settings(prefix).model_copy(update={"ssl_cafile": None})

    found = await examined(trusting)

    (line,) = found[Check.BROKER]
    assert "certificate" in line.found
    assert "ssl_cafile" in str(line)


def test_no_command_prints_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = {
        "AGENTOPS_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "AGENTOPS_REGISTRY_URL": "http://127.0.0.1:1",
        "AGENTOPS_REGISTRY_PASSWORD": "hunter2",
        "AGENTOPS_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "AGENTOPS_SASL_USERNAME": "me",
        "AGENTOPS_SASL_PASSWORD": "hunter3",
    }
    shown = {}
    for command in ("config show", "config show --json", "doctor", "doctor --json", "topics check"):
        done = CliRunner().invoke(app, command.split(), env=env)
        assert isinstance(done.exception, SystemExit | None)
        shown[command] = done.output

    assert "registry_password = **" in shown["config show"]
    assert shown["doctor"].count("clear text") == 2
    assert "hunter" not in str(shown)
