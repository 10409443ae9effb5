from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from streams.cli import app

if TYPE_CHECKING:
    from streams.local import LocalRegistry

pytestmark = pytest.mark.broker


def test_status_says_where_the_registry_is_and_how_to_use_it(registry: LocalRegistry) -> None:
    arguments = ["local", "status", "--data-dir", str(registry.data_dir)]

    text = CliRunner().invoke(app, arguments)
    as_json = CliRunner().invoke(app, [*arguments, "--json"])

    assert text.stdout.splitlines() == [
        f"No broker runs in {registry.data_dir}.",
        f"The schema registry at {registry.url} (pid {registry.pid}) runs.",
        f"  export AGENTOPS_REGISTRY_URL={registry.url}",
    ]
    found = json.loads(as_json.stdout)
    assert found["registry"] == {"running": True, "pid": registry.pid, "url": registry.url}
    assert found["running"] is False
    assert text.exit_code == as_json.exit_code == 1
