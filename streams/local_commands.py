"""The commands `agentops-streams local ...`: servers of your own on this machine."""

# ruff: noqa: PLC0415 - each command imports what it needs: --help must not wait for it

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.console import FAILED, JsonFlag, examples, stop

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.local import LocalServers

app = typer.Typer(
    help="A real Kafka on this machine, without Docker, and a schema registry. For first steps and "
    "tests, not production.",
    no_args_is_help=True,
)

Folder = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the servers; one in your data folder by default."),
]
Port = typer.Option(min=1, max=65535, help="Port for clients.")


@app.command(
    "up",
    epilog=examples("local up", "local up --registry", "local up --port 19092 --data-dir ./kafka"),
)
def up(
    data_dir: Folder = None,
    port: Annotated[int, Port] = 9092,
    registry: Annotated[
        bool, typer.Option("--registry", help="Start a schema registry as well.")
    ] = False,
    registry_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, help="Start a schema registry as well, at this port; 8081 by default."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Start the broker and leave it running; what runs already is left as it is.

    The first time fetches about 80 MB, and 160 MB for the registry, which is an Apicurio. All of it
    listens on 127.0.0.1 only.
    """
    from streams import local

    if registry and registry_port is None:
        registry_port = local.DEFAULT_REGISTRY_PORT
    _do(lambda: local.up(data_dir, port, registry_port), "runs", as_json)


@app.command("status")
def status(data_dir: Folder = None, as_json: JsonFlag = False) -> None:
    """Say whether broker and registry run, and where; exit code 1 when the broker does not."""
    from streams import local

    if not _do(lambda: local.status(data_dir), "runs", as_json).broker.running:
        raise typer.Exit(FAILED)


@app.command("down")
def down(data_dir: Folder = None, as_json: JsonFlag = False) -> None:
    """Stop broker and registry; their data stays in its folder."""
    from streams import local

    _do(lambda: local.down(data_dir), "has been stopped", as_json)


def _do(act: Callable[[], LocalServers], verb: str, as_json: bool) -> LocalServers:
    """Do something to the local servers and say which there are, or were."""
    from streams.local import LocalError

    try:
        found = act()
    except LocalError as error:
        stop(str(error), FAILED)
    if as_json:
        print(json.dumps(_as_json(found)))
        return found
    broker, registry = found.broker, found.registry
    if broker.running:
        where = f"{broker.address} (pid {broker.pid}, data in {broker.data_dir})"
        print(f"The broker at {where} {verb}.")
    else:
        print(f"No broker runs in {broker.data_dir}.")
    if registry.running:
        print(f"The schema registry at {registry.address} (pid {registry.pid}) {verb}.")
        if verb == "runs":
            print(f"  export AGENTOPS_REGISTRY_URL={registry.address}")
    return found


def _as_json(found: LocalServers) -> dict[str, object]:
    broker, registry = found.broker, found.registry
    return {
        "running": broker.running,
        "pid": broker.pid,
        "bootstrap": broker.address,
        "data_dir": str(broker.data_dir),
        "registry": {
            "running": registry.running,
            "pid": registry.pid,
            "url": registry.address,
        },
    }
