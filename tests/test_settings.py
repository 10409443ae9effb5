from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

from streams.settings import Settings, SettingsError, load, origins

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_file_and_environment_the_defaults_hold() -> None:
    assert load({}) == Settings()


def test_environment_is_read_with_its_types() -> None:
    found = load({"AGENTOPS_PARTITIONS": "4", "AGENTOPS_LOG_JSON": "true", "HOME": "/x"})

    assert found.partitions == 4
    assert found.log_json is True


def test_argument_beats_environment_beats_file(elsewhere: Path) -> None:
    (elsewhere / "agentops.toml").write_text('partitions = 3\napp_id = "file"\nreplication = 3\n')
    env = {"AGENTOPS_PARTITIONS": "4", "AGENTOPS_APP_ID": "environment"}

    found = load(env, partitions=5, app_id=None)

    assert (found.partitions, found.app_id, found.replication) == (5, "environment", 3)


def test_unknown_name_in_the_environment_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(
        SettingsError, match=r"AGENTOPS_PARTITONS.*environment.*AGENTOPS_PARTITIONS"
    ):
        load({"AGENTOPS_PARTITONS": "4"})


def test_unknown_name_in_the_file_is_refused_with_the_nearest_one(elsewhere: Path) -> None:
    (elsewhere / "agentops.toml").write_text("idle_aftr = 3\n")

    with pytest.raises(SettingsError, match=r"idle_aftr \(from file agentops.toml\).*idle_after"):
        load({})


def test_names_that_are_read_elsewhere_are_no_settings() -> None:
    env = {"AGENTOPS_FAILPOINTS": "x", "AGENTOPS_LOCAL_CACHE": "y", "AGENTOPS_VENV": "z"}

    assert load(env) == Settings()


def test_refused_value_says_what_where_from_what_is_allowed_and_what_to_do() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"AGENTOPS_PARTITIONS": "many"})

    message = str(caught.value)
    assert "partitions = 'many'" in message
    assert "environment variable AGENTOPS_PARTITIONS" in message
    assert "1 to 1024" in message
    assert "default 12" in message


def test_named_file_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"AGENTOPS_CONFIG names nowhere\.toml"):
        load({"AGENTOPS_CONFIG": "nowhere.toml"})


def test_file_that_is_no_toml_is_an_error(elsewhere: Path) -> None:
    path = elsewhere / "other.toml"
    path.write_text("partitions: 3")

    with pytest.raises(SettingsError, match="cannot be read as TOML"):
        load({"AGENTOPS_CONFIG": str(path)})


@pytest.mark.parametrize("hosts", ["", "localhost", "a:1,,b:2", "a b:1"])
def test_bootstrap_servers_are_hosts_with_ports(hosts: str) -> None:
    with pytest.raises(SettingsError, match="host:port"):
        load({"AGENTOPS_BOOTSTRAP_SERVERS": hosts})


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_says_what_it_is(name: str) -> None:
    assert Settings.model_fields[name].description


def test_a_topic_that_is_not_in_the_table_has_no_name() -> None:
    assert Settings(topic_prefix="x.").topic("tasks") == "x.tasks"
    with pytest.raises(KeyError, match=r"task'.*tasks"):
        Settings().topic("task")


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@registry:8081",
        "http://me:hun?ter2@registry",
        "me:hunter2@registry:8081",
        "http://me:a/b@hunter2@registry",
        "http://registry:8081/?token=hunter2",
        "hunter2@",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_printed(url: str) -> None:
    with pytest.raises(SettingsError, match="registry_url") as caught:
        load({"AGENTOPS_REGISTRY_URL": url})

    assert "***" in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_refused_address_without_credentials_is_printed() -> None:
    with pytest.raises(SettingsError, match="'registry:8081'"):
        load({"AGENTOPS_REGISTRY_URL": "registry:8081"})


@pytest.mark.parametrize("line", ["registry_password = 5051", "registry_password = {a = '5051'}"])
def test_a_refused_secret_is_not_printed(elsewhere: Path, line: str) -> None:
    (elsewhere / "agentops.toml").write_text(f"{line}\nregistry_url = ['http://a:5051@b']\n")

    with pytest.raises(SettingsError, match=r"registry_password = \*\*\*") as caught:
        load({})

    assert "5051" not in "".join(traceback.format_exception(caught.value))


def test_the_origin_of_what_is_not_the_default_is_known(elsewhere: Path) -> None:
    (elsewhere / "agentops.toml").write_text('partitions = 3\napp_id = "file"\n')

    assert origins({"AGENTOPS_APP_ID": "environment"}, replication=3) == {
        "partitions": "file agentops.toml",
        "app_id": "environment variable AGENTOPS_APP_ID",
        "replication": "argument replication",
    }
