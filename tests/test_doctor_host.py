from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streams.diagnosis import Diagnosis, Status
from streams.doctor_host import (
    Limits,
    judge_limits,
    judge_settings,
    judge_versions,
    observe_limits,
)
from streams.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = ["aiokafka==0.14.*", "numpy>=2.2", "zstd>=1; python_version < '3.14'"]
HIDDEN = "hunter2"


def statuses(found: list[Diagnosis]) -> list[Status]:
    return [one.status for one in found]


def test_names_of_settings_and_their_sources_are_told_and_no_values() -> None:
    settings = Settings.model_validate({"app_id": "mine", "registry_password": HIDDEN})
    told = {"app_id": "file agentops.toml", "registry_password": "environment variable X"}

    (found,) = judge_settings(settings, told, {})

    assert found.status is Status.OK
    assert "app_id from file agentops.toml" in found.found
    assert "registry_password from environment" in found.found
    assert "mine" not in found.found
    assert HIDDEN not in found.found


def test_settings_that_should_not_stay_are_named(tmp_path: Path) -> None:
    settings = Settings(reset_state=True, partitioner="unchecked", rules_file=tmp_path / "no.yaml")

    found = judge_settings(settings, {}, {"AGENTOPS_FAILPOINTS": "x"})

    assert statuses(found) == [Status.FAIL, Status.WARN, Status.WARN, Status.FAIL]


@pytest.mark.parametrize(
    ("versions", "status"),
    [
        ({"aiokafka": "0.14.0", "numpy": "2.10.1"}, Status.OK),
        ({"aiokafka": "0.15.0", "numpy": "2.2"}, Status.FAIL),
        ({"aiokafka": "0.14.3", "numpy": "2.1.9"}, Status.FAIL),
        ({"aiokafka": "0.14.3"}, Status.FAIL),
    ],
)
def test_what_is_installed_is_held_against_what_was_tested(
    versions: dict[str, str], status: Status
) -> None:
    assert statuses(judge_versions(NEEDED, versions)) == [status]


def test_without_metadata_nothing_is_claimed() -> None:
    assert statuses(judge_versions([], {})) == [Status.WARN]


def test_limits_of_this_machine_are_known() -> None:
    found = observe_limits()

    assert found.files is None or found.files > 0
    assert found.memory is None or found.memory > 2**20


def test_few_files_and_little_memory_are_odd_with_numbers_that_would_do() -> None:
    files, memory = judge_limits(Limits(100, 2**30), Settings())

    assert (files.status, memory.status) == (Status.WARN, Status.WARN)
    assert "ulimit -n" in str(files.cure)
    least = int(str(memory.cure).rpartition(" ")[2].rstrip("."))
    better = Settings(max_series=least)
    assert statuses(judge_limits(Limits(None, 2**30), better)) == [Status.OK]
