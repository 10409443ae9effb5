"""One server in a child process: what the local broker and the local registry have in common.

It is bound to 127.0.0.1 only, on a free port that it keeps, in a folder the user can name. It ends
with the process that started it, even when that process is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streams.local_jars import LocalError
from streams.tether import tethered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import IO, ClassVar, Self

HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 15.0
KILL_SECONDS = 10.0
_PORT_TRIES = 3


@dataclass(frozen=True, slots=True)
class Command:
    """What to run for a server.

    Attributes:
        words: the program and its arguments; one of them names the server's folder.
        folder: working folder; that of this process when None.
        environment: all variables it sees; those of this process when None.
    """

    words: list[str]
    folder: Path | None = None
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class LocalStatus:
    """Whether a server runs in a folder.

    Attributes:
        data_dir: the folder.
        pid: its process id, None when none runs.
        address: where clients reach it, None when none runs.
    """

    data_dir: Path
    pid: int | None = None
    address: str | None = None

    @property
    def running(self) -> bool:
        """Return whether there is one."""
        return self.pid is not None


class LocalServer(ABC):
    """One server in a child process.

    Args:
        data_dir: where it keeps its data; a temporary folder, removed by `stop`, when None.
        port: the port clients connect to; a free one when None. It stays the same over restarts.
        tethered: whether it ends with this process. Only `local up` wants it to outlive us.

    Starting is synchronous and takes seconds; from a coroutine use `asyncio.to_thread`.
    """

    NAME: ClassVar[str]
    """One word, also the first part of its files in the folder."""
    STARTED: ClassVar[str]
    """What its log says once it serves."""
    PORT_TAKEN: ClassVar[str]
    """What its log says when another process has the port."""

    def __init__(
        self, data_dir: Path | None = None, port: int | None = None, *, tethered: bool = True
    ) -> None:
        self._temporary = data_dir is None
        if data_dir is None:
            data_dir = Path(tempfile.mkdtemp(prefix="agentops-local-"))
        self.data_dir = data_dir.expanduser().resolve()
        self._fixed_port = port
        self._port = port
        self._tethered = tethered
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    @abstractmethod
    def address(self) -> str:
        """Return where clients reach it."""

    @abstractmethod
    def _prepare(self) -> Command:
        """Make its folder ready for `self.port` and return what to run."""

    @classmethod
    @abstractmethod
    def _mark(cls, data_dir: Path) -> str:
        """Return the part of the command line that tells this folder's server from others."""

    @classmethod
    def status(cls, data_dir: Path) -> LocalStatus:
        """Return whether a server of this kind runs in a folder, and where."""
        return cls._pid_file(data_dir).read()

    @classmethod
    def end(cls, data_dir: Path) -> LocalStatus:
        """End the server of a folder, by force after 15 s; return what ran there before.

        Raises:
            LocalError: it does not end.
        """
        pid_file = cls._pid_file(data_dir)
        found = pid_file.read()
        if found.pid is None:
            return found
        for how, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, how)
            deadline = time.monotonic() + seconds
            while pid_file.read().running and time.monotonic() < deadline:
                time.sleep(0.05)
            if not pid_file.read().running:
                pid_file.remove(found.pid)
                return found
        raise LocalError(f"The {cls.NAME} with pid {found.pid} in {data_dir} does not end.")

    @property
    def port(self) -> int:
        """Return the port for clients.

        Raises:
            LocalError: it was never started, so its port is not known.
        """
        if self._port is None:
            raise LocalError(f"The local {self.NAME} has no address yet: call start() first.")
        return self._port

    @property
    def pid(self) -> int | None:
        """Return the process id while the server runs, else None."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        """Return whether the server's process lives."""
        return self.pid is not None

    @property
    def log_file(self) -> Path:
        """Return the file with the server's own warnings."""
        return self.data_dir / f"{self.NAME}.log"

    def start(self) -> Self:
        """Start the server and return once it serves; does nothing when it runs.

        Raises:
            LocalError: files, Java, port or folder are not usable, or it did not come up.
        """
        if self.running:
            return self
        other = self.status(self.data_dir)
        if other.running:
            raise LocalError(
                f"A {self.NAME} (pid {other.pid}) already runs in {self.data_dir} at "
                f"{other.address}. Use that one, stop it, or name another folder."
            )
        for attempt in range(1, _PORT_TRIES + 1):
            if self._port is None:
                self._port = free_port()
            self.data_dir.mkdir(parents=True, exist_ok=True)
            command = self._prepare()
            try:
                self._launch(command)
            except LocalError:
                # Another process may take a port between our choosing and the server's binding it.
                if self._fixed_port or attempt == _PORT_TRIES or not self._port_was_taken():
                    raise
                self._port = None
            else:
                break
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """End the server cleanly, by force after 15 s; does nothing when it is down."""
        self._end(signal.SIGTERM, STOP_SECONDS)
        self.leave()
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def leave(self) -> None:
        """Let the server run on when this process ends; makes sense where it is not tethered."""
        atexit.unregister(self.stop)

    def kill(self) -> None:
        """End the server at once (SIGKILL) and keep its data: the crash of a chaos test."""
        self._end(signal.SIGKILL, KILL_SECONDS)

    def restart(self) -> Self:
        """Start again on the same port and data, after ending what still runs."""
        self._end(signal.SIGTERM, STOP_SECONDS)
        return self.start()

    def __enter__(self) -> Self:
        """Start the server."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()

    # -- how it starts and ends ------------------------------------------------------------

    @classmethod
    def _pid_file(cls, data_dir: Path) -> _PidFile:
        data_dir = data_dir.expanduser().resolve()
        return _PidFile(data_dir, data_dir / f"{cls.NAME}.json", cls._mark(data_dir))

    def _launch(self, command: Command) -> None:
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        with self.log_file.open("ab") as log:
            self._process = _spawn(command, log, keep=self._tethered)
        self._pid_file(self.data_dir).write(self._process.pid, self.address)
        deadline = time.monotonic() + START_SECONDS
        while self.STARTED not in self._log_since_start():
            if not self.running or time.monotonic() > deadline:
                self._end(signal.SIGKILL, KILL_SECONDS)
                raise LocalError(self._why_not())
            time.sleep(0.05)

    def _log_since_start(self) -> str:
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _port_was_taken(self) -> bool:
        return self.PORT_TAKEN in self._log_since_start()

    def _why_not(self) -> str:
        if self._port_was_taken():
            return (
                f"Port {self._port} is taken on {HOST}: name another one, or none for a free one."
            )
        tail = self._log_since_start().strip().splitlines()[-3:]
        return (
            f"The local {self.NAME} did not start within {START_SECONDS:.0f} s; its log "
            f"{self.log_file} ends with: {' | '.join(tail) or 'nothing'}"
        )

    def _end(self, how: signal.Signals, seconds: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(KILL_SECONDS)
        self._pid_file(self.data_dir).remove(process.pid)


def free_port(other_than: int | None = None) -> int:
    """Return a port of 127.0.0.1 that nobody listens on now."""
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port != other_than:
            return port


def _spawn(command: Command, log: IO[bytes], *, keep: bool) -> subprocess.Popen[bytes]:
    """Start a command in its own session, so that Ctrl-C ends the server through us, in order.

    The kernel sends the death signal when the *thread* that started the child ends. With `keep` a
    thread of its own starts it and stays until it ends, whichever thread called us.
    """

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            tethered(command.words) if keep else command.words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=command.folder,
            env=command.environment,
        )

    if not keep:
        return start()
    outcome: list[subprocess.Popen[bytes] | OSError] = []
    known = threading.Event()

    def keeper() -> None:
        try:
            process = start()
        except OSError as error:
            outcome.append(error)
        else:
            outcome.append(process)
        known.set()
        if isinstance(outcome[0], subprocess.Popen):
            outcome[0].wait()

    threading.Thread(target=keeper, name="local-server-keeper", daemon=True).start()
    known.wait()
    if isinstance(outcome[0], OSError):
        raise LocalError(f"Could not start {command.words[0]}: {outcome[0]}") from outcome[0]
    return outcome[0]


@dataclass(frozen=True, slots=True)
class _PidFile:
    """Who serves a folder: process id and address, believed only if that process is our server."""

    data_dir: Path
    path: Path
    mark: str

    def write(self, pid: int, address: str) -> None:
        """Name the process that serves the folder."""
        self.path.write_text(json.dumps({"pid": pid, "address": address}))

    def read(self) -> LocalStatus:
        """Return who serves the folder now."""
        try:
            known = json.loads(self.path.read_text())
            pid, address = int(known["pid"]), str(known["address"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return LocalStatus(self.data_dir)
        # Process ids are used again: a stranger's command line does not name our folder.
        if self.mark not in _command_line(pid):
            return LocalStatus(self.data_dir)
        return LocalStatus(self.data_dir, pid, address)

    def remove(self, pid: int) -> None:
        """Forget `pid`; another process that took over meanwhile stays named."""
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
            if json.loads(self.path.read_text())["pid"] == pid:
                self.path.unlink()


def _command_line(pid: int) -> str:
    """Return the command line of a live process, empty when there is none."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return ""
    ps = ["/bin/ps", "-ww", "-o", "args=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout
