from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from streams.local import down, status, up

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.broker


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_up_stays_after_its_process_until_down(tmp_path: Path) -> None:
    port = free_port()
    script = (
        "import sys; from pathlib import Path; from streams.local import up\n"
        "print(up(Path(sys.argv[1]), int(sys.argv[2])).bootstrap)\n"
    )
    started = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(port)],
        capture_output=True,
        text=True,
        check=True,
    )
    try:
        found = status(tmp_path)
        assert started.stdout.strip() == found.bootstrap == f"127.0.0.1:{port}"
        assert up(tmp_path, port) == found
    finally:
        ended = down(tmp_path)

    assert ended == found
    assert not status(tmp_path).running
    assert not down(tmp_path).running


def test_a_stranger_with_the_noted_process_id_is_not_taken_for_the_broker(tmp_path: Path) -> None:
    (tmp_path / "broker.json").write_text(f'{{"pid": {os.getpid()}, "bootstrap": "127.0.0.1:1"}}')

    assert not status(tmp_path).running
    down(tmp_path)
