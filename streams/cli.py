"""The command `agentops-streams`."""

# ruff: noqa: PLC0415 - each command imports what it needs: --help must not wait for Kafka clients

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from streams import (
    __version__,
    control_commands,
    doctor_commands,
    letter_commands,
    local_commands,
    schema_commands,
    validate_commands,
)
from streams.console import (
    FAILED,
    USAGE_ERROR,
    Bootstrap,
    JsonFlag,
    examples,
    progress_bar,
    run,
    settings_of,
    stop,
)
from streams.settings import DEFAULT_FILE, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from streams.tail import Tailed

app = typer.Typer(
    name="agentops-streams",
    help=f"""Rolling windows, rules and alerts over the events of AI agents, on Kafka.

    Settings come from {DEFAULT_FILE} (or the file AGENTOPS_CONFIG names), then from AGENTOPS_* in
    the environment; `config show` prints them all.

    Exit codes: 0 done, 1 it did not work, 2 a wrong argument or setting, 130 interrupted.""",
    epilog=examples("demo", "local up", "topics create", "worker", "tail alerts --follow"),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
topics_app = typer.Typer(help="Create and check the topics.", no_args_is_help=True)
config_app = typer.Typer(help="Settings.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(local_commands.app, name="local")
app.add_typer(config_app, name="config")
app.add_typer(letter_commands.app, name="dead-letters")
app.add_typer(control_commands.app, name="controls")
app.add_typer(schema_commands.app, name="schemas")
app.command("doctor", epilog=examples(*doctor_commands.EXAMPLES))(doctor_commands.doctor)
app.command("validate", epilog=examples(*validate_commands.EXAMPLES))(validate_commands.validate)


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


@app.command(epilog=examples("worker", "worker --bootstrap kafka-1:9092,kafka-2:9092"))
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

    settings = settings_of(bootstrap)
    if reset_state:
        settings = settings.model_copy(update={"reset_state": True})
    raise typer.Exit(run_worker(settings))


@app.command(
    epilog=examples(
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

    settings = settings_of(bootstrap)
    try:
        logic.require_loopback(settings, yes=yes)
        with progress_bar() as progress:
            found = logic.survey(files)
            bar = progress.add_task("replay", total=found.count)
            sent = run(
                logic.replay(
                    files,
                    settings,
                    logic.Pace(speed, to_now),
                    lambda n: progress.advance(bar, n),
                )
            )
    except (logic.ReplayError, SendError) as error:
        stop(str(error), FAILED)
    if not sent.count:
        print("The files hold no events.")
        return
    first, last = tail_clock(sent.first_ms), tail_clock(sent.last_ms)
    print(f"Replayed {sent.count:,} events of {first} to {last}.")


@app.command(
    epilog=examples(
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
        stop(str(error), USAGE_ERROR)
    try:
        line = logic.as_json if as_json else logic.as_line
        run(_print_all(logic.tail(settings_of(bootstrap), selection), line))
    except logic.TailError as error:
        stop(str(error), FAILED)


@app.command()
def topology() -> None:
    """Print the dataflow: stages, topics, state."""
    from streams.app import rules_of, topology_text

    settings = settings_of(None)
    try:
        print(topology_text(settings, rules_of(settings)))
    except ValueError as error:
        stop(str(error), USAGE_ERROR)


@app.command(epilog=examples("demo", "demo --keep", "demo --speed 0.25", "demo | grep FIRING"))
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
        code = run(logic.run(logic.Options(keep=keep, speed=speed, workers=workers)))
    except (logic.DemoError, LocalError, TopicsError, SendError, TailError) as error:
        stop(str(error), FAILED)
    raise typer.Exit(code)


@topics_app.command(
    "create", epilog=examples("topics create", "topics create --bootstrap kafka-1:9092")
)
def topics_create(as_json: JsonFlag = False, bootstrap: Bootstrap = None) -> None:
    """Create the topics that are missing, with the settings a worker needs.

    Topics that exist are never altered. How many partitions they get is the setting `partitions`,
    fixed for the life of a topic prefix.
    """
    from streams.provision import TopicsError, create_topics

    try:
        created = run(create_topics(settings_of(bootstrap)))
    except TopicsError as error:
        stop(str(error), FAILED)
    if as_json:
        print(json.dumps({"created": created}))
    else:
        print("\n".join(f"created {name}" for name in created) or "All topics exist and fit.")


@topics_app.command("check")
def topics_check(as_json: JsonFlag = False, bootstrap: Bootstrap = None) -> None:
    """Compare the topics on the broker with what a worker needs; exit code 1 when they differ."""
    from streams.provision import TopicsError, check_topics

    try:
        problems = run(check_topics(settings_of(bootstrap)))
    except TopicsError as error:
        stop(str(error), FAILED)
    if as_json:
        print(json.dumps([asdict(problem) for problem in problems]))
    else:
        print("\n".join(map(str, problems)) or "All topics exist and fit.")
    if problems:
        raise typer.Exit(FAILED)


@config_app.command("show", epilog=examples("config show", "config show --json | jq .partitions"))
def config_show(as_json: JsonFlag = False) -> None:
    """Print every setting as it holds now, with what it is; defaults unless changed."""
    settings = settings_of(None)
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


if __name__ == "__main__":
    main()
