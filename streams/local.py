"""A local Kafka for tests, the demo and the first run, and what `agentops-streams local` does.

`LocalBroker` ends with its process; `up` starts one that stays until `down`.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import time
from pathlib import Path

from streams.local_broker import KILL_SECONDS, STOP_SECONDS, LocalBroker, LocalStatus, PidFile
from streams.local_jars import LocalError

__all__ = ["LocalBroker", "LocalError", "LocalStatus", "default_data_dir", "down", "status", "up"]

DEFAULT_PORT = 9092


def default_data_dir() -> Path:
    """Return the folder of `local up`: `agentops-streams` in the user's data folder."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "agentops-streams"


def up(data_dir: Path | None = None, port: int = DEFAULT_PORT) -> LocalStatus:
    """Start a broker that outlives this process; one that already runs there is returned.

    Raises:
        LocalError: as `LocalBroker.start`.
    """
    data_dir = data_dir or default_data_dir()
    found = status(data_dir)
    if found.running:
        return found
    broker = LocalBroker(data_dir, port, tethered=False)
    broker.start()
    atexit.unregister(broker.stop)
    return status(data_dir)


def status(data_dir: Path | None = None) -> LocalStatus:
    """Return whether a broker runs in `data_dir`, and where."""
    data_dir = (data_dir or default_data_dir()).expanduser().resolve()
    return PidFile(data_dir).read()


def down(data_dir: Path | None = None) -> LocalStatus:
    """End the broker of `data_dir`, by force after 15 s; return what ran there before."""
    found = status(data_dir)
    if found.pid is None:
        return found
    pid_file = PidFile(found.data_dir)
    for how, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(found.pid, how)
        deadline = time.monotonic() + seconds
        while pid_file.read().running and time.monotonic() < deadline:
            time.sleep(0.05)
        if not pid_file.read().running:
            break
    else:
        raise LocalError(f"The broker with pid {found.pid} in {found.data_dir} does not end.")
    pid_file.remove(found.pid)
    return found
