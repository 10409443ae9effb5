from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from streams.tether import tethered


def test_the_command_runs_with_its_arguments_and_exit_code() -> None:
    command = [sys.executable, "-c", "import sys; print(sys.argv[1]); sys.exit(3)", "a b"]

    done = subprocess.run(tethered(command), check=False, capture_output=True, text=True)

    assert (done.stdout, done.returncode) == ("a b\n", 3)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the death signal")
def test_a_child_ends_when_its_parent_is_killed() -> None:
    code = (
        "import subprocess, sys, time\n"
        "from streams.tether import tethered\n"
        "sleeper = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "print(subprocess.Popen(tethered(sleeper)).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 5
    while lives(child) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not lives(child)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
