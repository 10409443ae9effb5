"""One real Kafka broker in a child process, without Docker: a single KRaft node."""

from __future__ import annotations

import os
import subprocess
import uuid
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from streams.local_jars import LocalError, jars, java
from streams.local_server import HOST, START_SECONDS, Command, LocalServer, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

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


class LocalBroker(LocalServer):
    """One Kafka broker in a child process; it starts in about 2.5 s.

    Args:
        data_dir: see `LocalServer`.
        port: see `LocalServer`.
        tethered: see `LocalServer`.
        properties: the broker's settings beside ours, or instead of them; the values may name
            {host}, {port} and {controller_port}.
    """

    NAME = "broker"
    STARTED = "Kafka Server started"
    PORT_TAKEN = "Address already in use"

    def __init__(
        self,
        data_dir: Path | None = None,
        port: int | None = None,
        *,
        tethered: bool = True,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(data_dir, port, tethered=tethered)
        # Of a key that is written twice Java takes the later value.
        self._added = "".join(f"{key}={value}\n" for key, value in (properties or {}).items())

    @property
    def bootstrap(self) -> str:
        """Return `host:port` for clients.

        Raises:
            LocalError: the broker was never started, so its port is not known.
        """
        return f"{HOST}:{self.port}"

    @property
    def address(self) -> str:
        """Return `host:port` for clients."""
        return self.bootstrap

    @classmethod
    def _mark(cls, data_dir: Path) -> str:
        return str(data_dir / "server.properties")

    def _prepare(self) -> Command:
        class_path = os.pathsep.join(map(str, jars()))
        (self.data_dir / "tmp").mkdir(exist_ok=True)
        properties = self.data_dir / "server.properties"
        properties.write_text(
            (_PROPERTIES + self._added).format(
                host=HOST,
                port=self.port,
                controller_port=free_port(other_than=self.port),
                log_dir=self.data_dir / "log",
            )
        )
        # Native libraries are unpacked into our own folder, so that a kill leaves none behind.
        temporary = f"-Djava.io.tmpdir={self.data_dir / 'tmp'}"
        program = [str(java()), *_JVM, temporary, "-cp", class_path]
        self._format(program, properties)
        return Command([*program, "kafka.Kafka", str(properties)])

    def _format(self, program: list[str], properties: Path) -> None:
        if (self.data_dir / "log" / "meta.properties").exists():
            return
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # One id in 64 begins with a dash, which would be taken for another option.
        given = [f"--cluster-id={cluster}", f"--config={properties}"]
        tool = ["kafka.tools.StorageTool", "format", *given]
        # Short-lived: the quick compiler alone is faster here.
        run = subprocess.run(
            [program[0], "-XX:TieredStopAtLevel=1", *program[1:], *tool],
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
        if run.returncode != 0:
            last = (run.stderr or run.stdout).strip().splitlines()[-1:]
            raise LocalError(f"Kafka could not format {self.data_dir}: {' '.join(last)}")
