"""Local servers for tests, the demo and the first run, and what `agentops-streams local` does.

`LocalBroker` and `LocalRegistry` end with their process; `up` starts some that stay until `down`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from streams.local_broker import LocalBroker
from streams.local_jars import LocalError
from streams.local_registry import LocalRegistry
from streams.local_server import LocalServer, LocalStatus

__all__ = [
    "LocalBroker",
    "LocalError",
    "LocalRegistry",
    "LocalServers",
    "LocalStatus",
    "default_data_dir",
    "down",
    "status",
    "up",
]

DEFAULT_PORT = 9092
DEFAULT_REGISTRY_PORT = 8081


@dataclass(frozen=True, slots=True)
class LocalServers:
    """Which servers run in a folder.

    Attributes:
        broker: the Kafka broker; its address is `host:port`.
        registry: the schema registry; its address is a URL.
    """

    broker: LocalStatus
    registry: LocalStatus

    @property
    def running(self) -> bool:
        """Return whether any runs."""
        return self.broker.running or self.registry.running


def default_data_dir() -> Path:
    """Return the folder of `local up`: `agentops-streams` in the user's data folder."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "agentops-streams"


def up(
    data_dir: Path | None = None, port: int = DEFAULT_PORT, registry_port: int | None = None
) -> LocalServers:
    """Start a broker that outlives this process, and a registry where a port is named for it.

    What already runs there is left as it is.

    Raises:
        LocalError: as `LocalServer.start`.
    """
    data_dir = data_dir or default_data_dir()
    wanted: list[LocalServer] = [LocalBroker(data_dir, port, tethered=False)]
    if registry_port is not None:
        wanted.append(LocalRegistry(data_dir, registry_port, tethered=False))
    for server in wanted:
        if not server.status(data_dir).running:
            server.start().leave()
    return status(data_dir)


def status(data_dir: Path | None = None) -> LocalServers:
    """Return which servers run in `data_dir`, and where."""
    data_dir = data_dir or default_data_dir()
    return LocalServers(LocalBroker.status(data_dir), LocalRegistry.status(data_dir))


def down(data_dir: Path | None = None) -> LocalServers:
    """End the servers of `data_dir`, by force after 15 s; return what ran there before.

    Raises:
        LocalError: one does not end.
    """
    data_dir = data_dir or default_data_dir()
    # Who asks goes before who answers.
    registry = LocalRegistry.end(data_dir)
    return LocalServers(LocalBroker.end(data_dir), registry)
