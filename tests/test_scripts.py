from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = ["scripts/lint", "scripts/test", "scripts/demo", ".ci/run"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_executable_and_stop_at_the_first_error(script: str) -> None:
    path = ROOT / script

    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in path.read_text()


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()

    assert [
        line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+]+", line)
    ] == []


def run_env(tmp_path: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", "set -euo pipefail; . scripts/_env"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "AGENTOPS_VENV": str(tmp_path / "v"), "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_python_that_cannot_make_environments_is_one_clear_sentence(tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in *ensurepip*|*venv*) exit 1;; esac\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)

    run = run_env(tmp_path, str(python))

    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "install python3-venv" in run.stderr


def test_a_missing_python_is_one_clear_sentence(tmp_path: Path) -> None:
    run = run_env(tmp_path, str(tmp_path / "nothing"))

    assert run.returncode == 1
    assert run.stderr.count("\n") == 1
    assert "older than 3.11" in run.stderr
