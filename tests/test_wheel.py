from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_schemas_the_rules_and_the_list_of_jars(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())

    schemas = {f"streams/_{path.relative_to(ROOT)}" for path in ROOT.glob("schemas/**/*.avsc")}
    assert schemas
    assert schemas <= names
    assert "streams/_schemas/history/Alert/1.avsc" in schemas
    assert {
        "streams/_schemas/history/SUMS",
        "streams/rules.yaml",
        "streams/local_jars.sha256",
        "streams/local_registry.sha256",
    } <= names


def test_the_wheel_brings_nothing_but_the_package(wheel: Path) -> None:
    roots = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}

    assert {root for root in roots if not root.endswith(".dist-info")} == {"streams"}


def test_schemas_and_rules_load_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    script = (
        "import streams; from streams import rules, schemas\n"
        "print(streams.__file__); print(*schemas.names()); rules.RuleSet.default()\n"
    )

    run = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(tmp_path)},
    )

    origin, names = run.stdout.splitlines()
    assert Path(origin).is_relative_to(tmp_path)
    assert "TaskFinished" in names.split()
