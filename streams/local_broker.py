"""One real Kafka broker in a child process, without Docker.

A single KRaft node, bound to 127.0.0.1 only, on free ports, in a folder the user can name. It
ends with the process that started it, even when that process is killed.
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
import uuid
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streams.local_jars import LocalError, jars, java
from streams.tether import tethered

if TYPE_CHECKING:
    from types import TracebackType
    from typing import IO, Self

HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 15.0
KILL_SECONDS = 10.0
_STARTED = "Kafka Server started"
_PORT_TAKEN = "Address already in use"
_PORT_TRIES = 3

# One node on a laptop: every replication factor is 1, internal topics are small, a group starts
# at once, short sessions are allowed, and nothing is deleted by age. A broker that comes back from
# a kill may register only when its old session has run out: hence the short one.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={log_dir}
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=5
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
log.retention.ms=-1
log.retention.bytes=-1
log.cleaner.dedupe.buffer.size=16777216
log.cleaner.backoff.ms=5000
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
num.network.threads=2
num.io.threads=4
"""

_JVM = (
    "-Xms64m",
    "-Xmx448m",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-Djava.net.preferIPv4Stack=true",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
)


@dataclass(frozen=True, slots=True)
class LocalStatus:
    """Whether a broker runs in a folder.

    Attributes:
        data_dir: the folder.
        pid: its process id, None when none runs.
        bootstrap: `host:port`, None when none runs.
    """

    data_dir: Path
    pid: int | None = None
    bootstrap: str | None = None

    @property
    def running(self) -> bool:
        """Return whether there is one."""
        return self.pid is not None


class LocalBroker:
    """One Kafka broker in a child process.

    Args:
        data_dir: where it keeps its data; a temporary folder, removed by `stop`, when None.
        port: the port clients connect to; a free one when None. It stays the same over restarts.
        tethered: whether it ends with this process. Only `up` wants it to outlive us.

    Starting is synchronous and takes about 2.5 s; from a coroutine use `asyncio.to_thread`.
    """

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

    @property
    def bootstrap(self) -> str:
        """Return `host:port` for clients.

        Raises:
            LocalError: the broker was never started, so its port is not known.
        """
        if self._port is None:
            raise LocalError("The local broker has no address yet: call start() first.")
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """Return the process id while the broker runs, else None."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def running(self) -> bool:
        """Return whether the broker's process lives."""
        return self.pid is not None

    @property
    def log_file(self) -> Path:
        """Return the file with the broker's own warnings."""
        return self.data_dir / "broker.log"

    def start(self) -> Self:
        """Start the broker and return once it serves; does nothing when it runs.

        Raises:
            LocalError: jars, Java, port or folder are not usable, or it did not come up.
        """
        if self.running:
            return self
        other = PidFile(self.data_dir).read()
        if other.running:
            raise LocalError(
                f"A broker (pid {other.pid}) already runs in {self.data_dir} at "
                f"{other.bootstrap}. Use that one, stop it, or name another folder."
            )
        class_path = os.pathsep.join(map(str, jars()))
        for attempt in range(1, _PORT_TRIES + 1):
            self._configure()
            command = self._command(class_path)
            self._format(command)
            try:
                self._launch(command)
            except LocalError:
                # Another process may take a port between our choosing and Kafka's binding it.
                if self._fixed_port or attempt == _PORT_TRIES or not self._port_was_taken():
                    raise
                self._port = None
            else:
                break
        atexit.register(self.stop)
        return self

    def stop(self) -> None:
        """End the broker cleanly, by force after 15 s; does nothing when it is down."""
        self._end(signal.SIGTERM, STOP_SECONDS)
        atexit.unregister(self.stop)
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def kill(self) -> None:
        """End the broker at once (SIGKILL) and keep its data: the crash of a chaos test."""
        self._end(signal.SIGKILL, KILL_SECONDS)

    def restart(self) -> Self:
        """Start again on the same port and data, after ending what still runs."""
        self._end(signal.SIGTERM, STOP_SECONDS)
        return self.start()

    def __enter__(self) -> Self:
        """Start the broker."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the broker."""
        self.stop()

    # -- how it starts ---------------------------------------------------------------------

    @property
    def _properties(self) -> Path:
        return self.data_dir / "server.properties"

    def _configure(self) -> None:
        for folder in (self.data_dir, self.data_dir / "tmp"):
            folder.mkdir(parents=True, exist_ok=True)
        if self._port is None:
            self._port, controller_port = _free_ports(2)
        else:
            (controller_port,) = _free_ports(1)
        self._properties.write_text(
            _PROPERTIES.format(
                host=HOST,
                port=self._port,
                controller_port=controller_port,
                log_dir=self.data_dir / "log",
            )
        )

    def _command(self, class_path: str) -> list[str]:
        # Native libraries are unpacked into our own folder, so that a kill leaves none behind.
        temporary = f"-Djava.io.tmpdir={self.data_dir / 'tmp'}"
        return [str(java()), *_JVM, temporary, "-cp", class_path]

    def _format(self, command: list[str]) -> None:
        if (self.data_dir / "log" / "meta.properties").exists():
            return
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(self._properties)]
        # Short-lived: the quick compiler alone is faster here.
        run = subprocess.run(
            [command[0], "-XX:TieredStopAtLevel=1", *command[1:], *tool],
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        if run.returncode != 0:
            last = (run.stderr or run.stdout).strip().splitlines()[-1:]
            raise LocalError(f"Kafka could not format {self.data_dir}: {' '.join(last)}")

    def _launch(self, command: list[str]) -> None:
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
        command = [*command, "kafka.Kafka", str(self._properties)]
        if self._tethered:
            command = tethered(command)
        with self.log_file.open("ab") as log:
            self._process = _spawn(command, log, keep=self._tethered)
        PidFile(self.data_dir).write(self._process.pid, self.bootstrap)
        deadline = time.monotonic() + START_SECONDS
        while _STARTED not in self._log_since_start():
            if not self.running or time.monotonic() > deadline:
                self._end(signal.SIGKILL, KILL_SECONDS)
                raise LocalError(self._why_not())
            time.sleep(0.05)

    def _log_since_start(self) -> str:
        with self.log_file.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _port_was_taken(self) -> bool:
        return _PORT_TAKEN in self._log_since_start()

    def _why_not(self) -> str:
        if self._port_was_taken():
            return (
                f"Port {self._port} is taken on {HOST}: name another one, or none for a free one."
            )
        tail = self._log_since_start().strip().splitlines()[-3:]
        return (
            f"The local broker did not start within {START_SECONDS:.0f} s; its log {self.log_file} "
            f"ends with: {' | '.join(tail) or 'nothing'}"
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
        PidFile(self.data_dir).remove(process.pid)


def _spawn(command: list[str], log: IO[bytes], *, keep: bool) -> subprocess.Popen[bytes]:
    """Start `command` in its own session, so that Ctrl-C ends the broker through us, in order.

    The kernel sends the death signal when the *thread* that started the child ends. With `keep` a
    thread of its own starts it and stays until it ends, whichever thread called us.
    """

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
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

    threading.Thread(target=keeper, name="local-broker-keeper", daemon=True).start()
    known.wait()
    if isinstance(outcome[0], OSError):
        raise LocalError(f"Could not start {command[0]}: {outcome[0]}") from outcome[0]
    return outcome[0]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


class PidFile:
    """Who serves a folder: process id and address, believed only if that process is our broker."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._path = data_dir / "broker.json"

    def write(self, pid: int, bootstrap: str) -> None:
        """Name the process that serves the folder."""
        self._path.write_text(json.dumps({"pid": pid, "bootstrap": bootstrap}))

    def read(self) -> LocalStatus:
        """Return who serves the folder now."""
        try:
            known = json.loads(self._path.read_text())
            pid, bootstrap = int(known["pid"]), str(known["bootstrap"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return LocalStatus(self._data_dir)
        # Process ids are used again: a stranger's command line does not name our folder.
        if str(self._data_dir / "server.properties") not in _command_line(pid):
            return LocalStatus(self._data_dir)
        return LocalStatus(self._data_dir, pid, bootstrap)

    def remove(self, pid: int) -> None:
        """Forget `pid`; another process that took over meanwhile stays named."""
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
            if json.loads(self._path.read_text())["pid"] == pid:
                self._path.unlink()


def _command_line(pid: int) -> str:
    """Return the command line of a live process, empty when there is none."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return ""
    ps = ["/bin/ps", "-ww", "-o", "args=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout
