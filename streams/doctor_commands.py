"""The command `doctor`."""

# ruff: noqa: PLC0415 - the command imports what it needs: --help must not wait for Kafka clients

from __future__ import annotations

import json
import logging
from contextlib import aclosing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from streams.console import FAILED, Bootstrap, JsonFlag, run
from streams.settings import Settings, SettingsError, load, origins

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streams.diagnosis import Diagnosis


EXAMPLES = ("doctor", "doctor --probe", "doctor --json | jq '.[] | select(.status == \"FAIL\")'")


def doctor(
    as_json: JsonFlag = False,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Write to a temporary topic as well, to ask the brokers for their time."
        ),
    ] = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Look at all that a worker stands on and name the cure of what does not fit.

    Settings, versions, brokers, topics, permissions, schemas, producers' clocks and partitioner,
    workers and their state. Reads only, but for --probe. Exit code 1 when anything FAILs.
    """
    from streams.doctor import failed, refused

    show = (lambda _: None) if as_json else print
    try:
        settings = load(bootstrap_servers=bootstrap)
    except SettingsError as error:
        found = refused(error)
        for one in found:
            show(one)
    else:
        told = origins(bootstrap_servers=bootstrap)
        with _quiet():
            found = run(_examine(settings, told, probe=probe, show=show))
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
    if failed(found):
        raise typer.Exit(FAILED)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep a worker's log lines out of the command's output."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(wrapper_class=before)


async def _examine(
    settings: Settings, told: dict[str, str], *, probe: bool, show: Callable[[Diagnosis], None]
) -> list[Diagnosis]:
    from streams.doctor import Doctor

    found = []
    async with aclosing(Doctor(settings, told, probe=probe).examine()) as examination:
        async for one in examination:
            show(one)
            found.append(one)
    return found
