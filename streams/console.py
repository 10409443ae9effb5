"""What every command shares: options, exit codes, a progress bar, errors as one sentence."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streams.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

USAGE_ERROR, FAILED, INTERRUPTED = 2, 1, 130

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Bootstrap = Annotated[
    str | None,
    typer.Option(
        "--bootstrap", "-b", metavar="HOST:PORT", help="Brokers, instead of bootstrap_servers."
    ),
]


def examples(*lines: str) -> str:
    """Return the examples of a command's help, one a line."""
    return "\n".join(("Examples:\n\n\b", *(f"  agentops-streams {line}" for line in lines)))


def settings_of(bootstrap: str | None = None) -> Settings:
    """Return the settings of this process; a wrong one ends it with exit code 2."""
    try:
        return load(bootstrap_servers=bootstrap)
    except SettingsError as error:
        stop(str(error), USAGE_ERROR)


def progress_bar() -> Progress:
    """Return a progress bar on stderr; a pipe there sees none."""
    console = Console(stderr=True)
    hidden = not console.is_terminal
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=console, disable=hidden)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; Ctrl-C and a reader that goes away end it quietly."""
    # What goes wrong is said once, in our words; a worker's lines are no part of an output.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return asyncio.run(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        stop("Interrupted.", INTERRUPTED)
    except SettingsError as error:  # a certificate that cannot be used shows when it is
        stop(str(error), USAGE_ERROR)
    except BrokenPipeError:
        # `tail … | head`: nothing is wrong. Python would complain again when it flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    finally:
        structlog.configure(wrapper_class=before)


def stop(message: str, code: int) -> NoReturn:
    """End the command with a sentence on stderr and an exit code."""
    print(message, file=sys.stderr)
    raise typer.Exit(code)
