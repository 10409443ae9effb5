"""The command `agentops-streams`."""

# ruff: noqa: PLC0415 - each command imports what it needs: --help must not wait for Kafka clients

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from contextlib import aclosing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from streams import __version__
from streams.settings import DEFAULT_FILE, Settings, SettingsError, load

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from streams.local import LocalStatus
    from streams.tail import Tailed

T = TypeVar("T")

USAGE_ERROR, FAILED, INTERRUPTED = 2, 1, 130


def _examples(*lines: str) -> str:
    """Return the examples of a command's help, one a line."""
    return "\n".join(("Examples:\n\n\b", *(f"  agentops-streams {line}" for line in lines)))


app = typer.Typer(
    name="agentops-streams",
    help=f"""Rolling windows, rules and alerts over the events of AI agents, on Kafka.

    Settings come from {DEFAULT_FILE} (or the file AGENTOPS_CONFIG names), then from AGENTOPS_* in
    the environment; `config show` prints them all.

    Exit codes: 0 done, 1 it did not work, 2 a wrong argument or setting, 130 interrupted.""",
    epilog=_examples("demo", "local up", "topics create", "worker", "tail alerts --follow"),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
topics_app = typer.Typer(help="Create and check the topics.", no_args_is_help=True)
local_app = typer.Typer(
    help="A real Kafka on this machine, without Docker. For first steps and tests, not production.",
    no_args_is_help=True,
)
config_app = typer.Typer(help="Settings.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(local_app, name="local")
app.add_typer(config_app, name="config")

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Bootstrap = Annotated[
    str | None,
    typer.Option(
        "--bootstrap", "-b", metavar="HOST:PORT", help="Brokers, instead of bootstrap_servers."
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the broker; one in your data folder by default."),
]


def main() -> None:
    """Run the command; errors become one sentence and an exit code."""
    app()


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command(epilog=_examples("worker", "worker --bootstrap kafka-1:9092,kafka-2:9092"))
def worker(
    reset_state: Annotated[
        bool,
        typer.Option(
            "--reset-state", help="Begin anew where the state or the place it continues is gone."
        ),
    ] = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Run a worker: events in, windows and alerts out.

    Start the same command again, here or elsewhere, to share the work: each event counts exactly
    once, however many workers there are and however they end. A worker waits for a broker that is
    not there yet. Stop it with Ctrl-C or SIGTERM.
    """
    from streams.app import run_worker

    settings = _settings(bootstrap)
    if reset_state:
        settings = settings.model_copy(update={"reset_state": True})
    raise typer.Exit(run_worker(settings))


@app.command(
    epilog=_examples(
        "replay monday.avro --to-now",
        "replay tasks.avro security.avro --speed 60",
        "tail tasks --since 1h --where undecoded=null --json > hour.jsonl",
        "replay hour.jsonl --to-now",
    )
)
def replay(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE", help="Avro containers of input records, or .jsonl as of tail --json."
        ),
    ],
    speed: Annotated[
        float | None,
        typer.Option(min=0.001, help="Event seconds per second; without it as fast as possible."),
    ] = None,
    to_now: Annotated[
        bool, typer.Option("--to-now", help="Shift all times so that the last event lands at now.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Go on even when the broker is not on this machine.")
    ] = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Send recorded events to the broker again.

    Files are merged by event time; each keeps its own order. Without --to-now the events keep their
    times: what is older than 36 days than the newest is refused by the worker, with a reason.
    """
    from streams import replay as logic
    from streams.sender import SendError

    settings = _settings(bootstrap)
    try:
        logic.require_loopback(settings, yes=yes)
        with _progress() as progress:
            found = logic.survey(files)
            bar = progress.add_task("replay", total=found.count)
            sent = _run(
                logic.replay(
                    files,
                    settings,
                    logic.Pace(speed, to_now),
                    lambda n: progress.advance(bar, n),
                )
            )
    except (logic.ReplayError, SendError) as error:
        _stop(str(error), FAILED)
    if not sent.count:
        print("The files hold no events.")
        return
    first, last = tail_clock(sent.first_ms), tail_clock(sent.last_ms)
    print(f"Replayed {sent.count:,} events of {first} to {last}.")


@app.command(
    epilog=_examples(
        "tail alerts --follow",
        "tail findings --since 2h --where rule=error-rate",
        "tail windows --where agent_id=invoice-matching --where 'failed>0' --json",
        "tail tasks security --since 2026-03-01T08:00 --until 2026-03-01T09:00",
    )
)
def tail(  # noqa: PLR0913, PLR0917 - each argument is an option
    topics: Annotated[
        list[str], typer.Argument(metavar="TOPIC", help="Topics, with or without the prefix.")
    ],
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="From this event time on: 15m, 2h, 7d (ago) or ISO 8601, UTC."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Before this event time.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="field=value, !=, >, >=, < or <=; may be repeated, all must hold.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, with all fields.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on at the end; stop with Ctrl-C.")
    ] = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Print the committed records of topics, decoded.

    Times are event times. Order is kept within a partition. Dead letters show why they are there.
    """
    from streams import tail as logic

    try:
        now = datetime.now(UTC)
        selection = logic.Selection(
            topics=topics,
            since_ms=None if since is None else logic.moment(since, now),
            until_ms=None if until is None else logic.moment(until, now),
            where=[logic.condition(text) for text in where or ()],
            follow=follow,
        )
    except logic.TailError as error:
        _stop(str(error), USAGE_ERROR)
    try:
        line = logic.as_json if as_json else logic.as_line
        _run(_print_all(logic.tail(_settings(bootstrap), selection), line))
    except logic.TailError as error:
        _stop(str(error), FAILED)


@app.command()
def topology() -> None:
    """Print the dataflow: stages, topics, state."""
    from streams.app import rules_of, topology_text

    settings = _settings(None)
    try:
        print(topology_text(settings, rules_of(settings)))
    except ValueError as error:
        _stop(str(error), USAGE_ERROR)


@app.command(epilog=_examples("demo", "demo --keep", "demo --speed 0.25", "demo | grep FIRING"))
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave broker and worker running until Ctrl-C.")
    ] = False,
    speed: Annotated[
        float,
        typer.Option(min=0.05, max=20, help="How fast the last six days play; 1 is 50 seconds."),
    ] = 1.0,
    workers: Annotated[int, typer.Option(min=1, max=4, help="Workers that share the work.")] = 1,
) -> None:
    """Watch it work on five weeks of nine agents.

    Starts a broker and a worker and plays traffic with known troubles; what is in it, and what must
    be said about it, stands in load/demo_truth.json.

    Needs a checkout and the extra [local]. Everything runs on this machine and is removed at the
    end. Exit code 0 when every expected alert fired and was resolved and nothing else came.
    """
    from streams import demo as logic
    from streams.local import LocalError
    from streams.provision import TopicsError
    from streams.sender import SendError
    from streams.tail import TailError

    try:
        code = _run(logic.run(logic.Options(keep=keep, speed=speed, workers=workers)))
    except (logic.DemoError, LocalError, TopicsError, SendError, TailError) as error:
        _stop(str(error), FAILED)
    raise typer.Exit(code)


@topics_app.command(
    "create", epilog=_examples("topics create", "topics create --bootstrap kafka-1:9092")
)
def topics_create(as_json: JsonFlag = False, bootstrap: Bootstrap = None) -> None:
    """Create the topics that are missing, with the settings a worker needs.

    Topics that exist are never altered. How many partitions they get is the setting `partitions`,
    fixed for the life of a topic prefix.
    """
    from streams.provision import TopicsError, create_topics

    try:
        created = _run(create_topics(_settings(bootstrap)))
    except TopicsError as error:
        _stop(str(error), FAILED)
    if as_json:
        print(json.dumps({"created": created}))
    else:
        print("\n".join(f"created {name}" for name in created) or "All topics exist and fit.")


@topics_app.command("check")
def topics_check(as_json: JsonFlag = False, bootstrap: Bootstrap = None) -> None:
    """Compare the topics on the broker with what a worker needs; exit code 1 when they differ."""
    from streams.provision import TopicsError, check_topics

    try:
        problems = _run(check_topics(_settings(bootstrap)))
    except TopicsError as error:
        _stop(str(error), FAILED)
    if as_json:
        print(json.dumps([asdict(problem) for problem in problems]))
    else:
        print("\n".join(map(str, problems)) or "All topics exist and fit.")
    if problems:
        raise typer.Exit(FAILED)


@local_app.command("up", epilog=_examples("local up", "local up --port 19092 --data-dir ./kafka"))
def local_up(
    data_dir: Folder = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port for clients.")] = 9092,
    as_json: JsonFlag = False,
) -> None:
    """Start the broker and leave it running; one that runs already is left as it is.

    The first time fetches about 80 MB. It listens on 127.0.0.1 only.
    """
    from streams import local

    _local(lambda: local.up(data_dir, port), "runs", as_json)


@local_app.command("status")
def local_status(data_dir: Folder = None, as_json: JsonFlag = False) -> None:
    """Say whether the broker runs, and where; exit code 1 when it does not."""
    from streams import local

    if not _local(lambda: local.status(data_dir), "runs", as_json):
        raise typer.Exit(FAILED)


@local_app.command("down")
def local_down(data_dir: Folder = None, as_json: JsonFlag = False) -> None:
    """Stop the broker; its data stays in its folder."""
    from streams import local

    _local(lambda: local.down(data_dir), "has been stopped", as_json)


@config_app.command("show", epilog=_examples("config show", "config show --json | jq .partitions"))
def config_show(as_json: JsonFlag = False) -> None:
    """Print every setting as it holds now, with what it is; defaults unless changed."""
    settings = _settings(None)
    if as_json:
        print(settings.model_dump_json(indent=2))
        return
    for name, described in Settings.model_fields.items():
        value = getattr(settings, name)
        mark = "" if value == described.default else "  (changed)"
        print(f"{name} = {value}{mark}\n    {described.description}")


def tail_clock(at_ms: int) -> str:
    """Return a time as text."""
    from streams.tail import clock

    return clock(at_ms)


async def _print_all(records: AsyncGenerator[Tailed, None], line: Callable[[Tailed], str]) -> None:
    async with aclosing(records) as reading:
        async for one in reading:
            print(line(one), flush=True)


def _local(act: Callable[[], LocalStatus], verb: str, as_json: bool) -> bool:
    """Do something to the local broker and say what is there; return whether one is or was."""
    from streams.local import LocalError

    try:
        found = act()
    except LocalError as error:
        _stop(str(error), FAILED)
    if as_json:
        shown = {"running": found.running, "pid": found.pid, "bootstrap": found.bootstrap}
        print(json.dumps(shown | {"data_dir": str(found.data_dir)}))
    elif found.running:
        what = f"The broker at {found.bootstrap} (pid {found.pid}, data in {found.data_dir})"
        print(f"{what} {verb}.")
    else:
        print(f"No broker runs in {found.data_dir}.")
    return found.running


def _settings(bootstrap: str | None) -> Settings:
    try:
        return load(bootstrap_servers=bootstrap)
    except SettingsError as error:
        _stop(str(error), USAGE_ERROR)


def _progress() -> Progress:
    """Return a progress bar on stderr; a pipe there sees none."""
    console = Console(stderr=True)
    hidden = not console.is_terminal
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(TextColumn("{task.description}"), *columns, console=console, disable=hidden)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; Ctrl-C and a reader that goes away end it quietly."""
    # What goes wrong is said once, in our words.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return asyncio.run(work)
    except (KeyboardInterrupt, asyncio.CancelledError):
        _stop("Interrupted.", INTERRUPTED)
    except BrokenPipeError:
        # `tail … | head`: nothing is wrong. Python would complain again when it flushes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None


def _stop(message: str, code: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    main()
