from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from streams.local import down, status, up
from streams.local_server import free_port

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.broker


def test_up_stays_after_its_process_until_down(tmp_path: Path) -> None:
    port, registry_port = free_port(), free_port()
    script = (
        "import sys; from pathlib import Path; from streams.local import up\n"
        "up(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))\n"
    )
    arguments = [str(tmp_path), str(port), str(registry_port)]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True)
    try:
        found = status(tmp_path)
        assert found.broker.address == f"127.0.0.1:{port}"
        assert found.registry.address == f"http://127.0.0.1:{registry_port}/apis/ccompat/v7"
        assert up(tmp_path, port, registry_port) == found
    finally:
        ended = down(tmp_path)

    assert ended == found
    assert not status(tmp_path).running
    assert not down(tmp_path).running


@pytest.mark.parametrize("server", ["broker", "registry"])
def test_a_stranger_with_the_noted_process_id_is_not_taken_for_ours(
    tmp_path: Path, server: str
) -> None:
    note = f'{{"pid": {os.getpid()}, "address": "127.0.0.1:1"}}'
    (tmp_path / f"{server}.json").write_text(note)

    assert not status(tmp_path).running
    down(tmp_path)
