from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from load import truth
from streams import demo

FACTS = truth.load()
ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "streams.cli", "demo"]

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def started(tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    """Start a demo whose output goes to a pipe and whose temporary files to `tmp_path`."""
    return subprocess.Popen(
        [*COMMAND, *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )


def descendants(pid: int) -> set[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(stat.parent.name)] = int(fields[1])
    found, grown = {pid}, True
    while grown:
        more = {child for child, parent in parents.items() if parent in found} - found
        found |= more
        grown = bool(more)
    return found - {pid}


def living(pids: set[int]) -> set[int]:
    deadline = time.monotonic() + 5
    left = pids
    while left and time.monotonic() < deadline:
        left = {pid for pid in left if Path(f"/proc/{pid}").exists()}
        time.sleep(0.05)
    return left


@pytest.mark.timeout(400)
def test_the_demo_says_what_the_truth_says_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with started(tmp_path, "--speed", "4") as process:
        assert process.stdout is not None
        output = process.stdout.read()
        process.wait()

    assert process.returncode == 0, output
    lines = output.splitlines()
    told = [line.split()[5] for line in lines if " day " in line and " retrain " not in line]
    assert told.count("FIRING") >= sum(one.page is not None for one in FACTS.expected)
    assert told.count("RESOLVED") >= sum(one.resolved_by_ms is not None for one in FACTS.expected)
    assert sum("  retrain  " in line for line in lines) >= len(FACTS.requests)
    assert "Every expected alert and request came, each at its time, and nothing else." in output
    assert "as expected: error-rate (60 % error burst for 10 min)" in output
    assert "after PROMPT v17 to v18" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(200)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["starting Kafka", "at full speed"])
def test_an_interrupted_demo_ends_every_child(
    tmp_path: Path, how: signal.Signals, when: str
) -> None:
    with started(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if when in line:
                break
        time.sleep(2)
        children = descendants(process.pid)
        process.send_signal(how)
        rest = process.stdout.read()
        process.wait(60)

    assert children
    assert living(children) == set()
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(200)
def test_a_killed_demo_takes_its_children_with_it(tmp_path: Path) -> None:
    with started(tmp_path) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "at full speed" in line:
                break
        children = descendants(process.pid)
        process.kill()
        process.wait()

    assert len(children) >= 2
    assert living(children) == set()


async def test_without_the_checkout_it_says_where_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "__file__", str(tmp_path / "streams" / "demo.py"))

    with pytest.raises(demo.DemoError, match="Clone the repository and run scripts/demo"):
        await demo.run(demo.Options())
