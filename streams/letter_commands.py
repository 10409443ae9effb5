"""The commands `dead-letters list`, `show` and `replay`."""

# ruff: noqa: PLC0415 - each command imports what it needs: --help must not wait for Kafka clients

from __future__ import annotations

import asyncio
import difflib
import json
import sys
import time
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
from streams.reasons import DeadLetterReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streams.dead_letters import Letter
    from streams.letter_box import Advance, Choice, LetterBox, Span
    from streams.settings import Settings

app = typer.Typer(
    help="Records that were refused: look at them, and send them to their topics again.",
    no_args_is_help=True,
)

Reasons = Annotated[
    list[str] | None,
    typer.Option("--reason", metavar="REASON", help="Of this reason; may be repeated."),
]
Topics = Annotated[
    list[str] | None,
    typer.Option(
        "--topic", metavar="TOPIC", help="Of this topic, with or without prefix; may be repeated."
    ),
]
Since = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Set aside since: 15m, 2h, 7d (ago) or ISO 8601, UTC."),
]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="Set aside before.")]
LETTER = "PARTITION@OFFSET"


@app.command(
    "list",
    epilog=examples(
        "dead-letters list --summary",
        "dead-letters list --reason UNKNOWN_SCHEMA --since 2h",
        "dead-letters list --topic tasks --follow",
        "dead-letters list --all --json | jq .detail",
    ),
)
def list_letters(  # noqa: PLR0913, PLR0917 - each argument is an option
    reason: Reasons = None,
    topic: Topics = None,
    since: Since = None,
    until: Until = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Counts by topic and reason, each with its cure.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Those that have been replayed as well.")
    ] = False,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on at the end; stop with Ctrl-C.")
    ] = False,
    as_json: JsonFlag = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Print dead letters, or count them; those that have been replayed are left out.

    In order within a partition, one partition after the other. PARTITION@OFFSET at the beginning of
    a line is what `show` and `replay --only` take.
    """
    if summary and follow:
        stop("--summary counts what is there, --follow never ends: choose one.", USAGE_ERROR)
    settings = settings_of(bootstrap)
    choice = _choice(settings, (reason, topic), (since, until), None)
    _run(_list(settings, choice, _Listing(summary, everything, follow, as_json)))


@app.command("show", epilog=examples("dead-letters show 3@1042", "dead-letters show 3@1042 --json"))
def show_letter(
    letter: Annotated[str, typer.Argument(metavar=LETTER, help="As `list` prints it.")],
    as_json: JsonFlag = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Print everything of one letter, and whether its record would be taken now."""
    settings = settings_of(bootstrap)
    choice = _choice(settings, (None, None), (None, None), [letter])
    _run(_show(settings, choice, as_json))


@app.command(
    "replay",
    epilog=examples(
        "dead-letters replay --dry-run",
        "dead-letters replay --reason UNKNOWN_SCHEMA --since 2h",
        "dead-letters replay --only 3@1042 --only 3@1043 --yes",
    ),
)
def replay_letters(  # noqa: PLR0913, PLR0917 - each argument is an option
    reason: Reasons = None,
    topic: Topics = None,
    since: Since = None,
    until: Until = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar=LETTER, help="This letter alone; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be replayed, and do nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Send the records of dead letters to their topics again, each exactly once.

    Without --reason and --only: those whose reason can be cured without changing the record. What
    is refused again becomes a new letter. After an interruption run it again: nothing comes twice.
    """
    from streams.dead_letters import CURES

    if not (yes or dry_run or sys.stdin.isatty()):
        stop("There is nobody to ask: add --yes, or look with --dry-run first.", USAGE_ERROR)
    settings = settings_of(bootstrap)
    choice = _choice(settings, (reason, topic), (since, until), only)
    if not choice.reasons and not choice.only:
        curable = frozenset(str(each) for each, cure in CURES.items() if cure.retry)
        choice = replace(choice, reasons=curable)
    _run(_replay(settings, choice, _Asking(dry_run, yes, as_json)))


def _choice(
    settings: Settings,
    what: tuple[Sequence[str] | None, Sequence[str] | None],
    when: tuple[str | None, str | None],
    only: Sequence[str] | None,
) -> Choice:
    """Read the options that choose letters; a wrong one ends the command."""
    from streams.letter_box import Choice, Place
    from streams.tail import TailError, moment

    reasons, topics = what
    now = datetime.now(UTC)
    prefix = settings.topic_prefix
    try:
        since_ms, until_ms = (None if text is None else moment(text, now) for text in when)
        return Choice(
            reasons=frozenset(map(_reason, reasons or ())),
            topics=frozenset(prefix + name.removeprefix(prefix) for name in topics or ()),
            since_ms=since_ms,
            until_ms=until_ms,
            only=frozenset(map(Place.parse, only or ())),
        )
    except (TailError, ValueError) as error:
        stop(str(error), USAGE_ERROR)


def _reason(text: str) -> str:
    """Return a reason as the letters write it.

    Raises:
        ValueError: there is none of that name.
    """
    name = text.upper().replace("-", "_")
    if name not in DeadLetterReason.__members__:
        near = difflib.get_close_matches(name, DeadLetterReason.__members__, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"They are {', '.join(DeadLetterReason)}."
        raise ValueError(f"--reason {text!r} is no reason of this version. {hint}")
    return name


def _run(work: Any) -> None:
    from streams.letter_box import LettersError
    from streams.letter_replay import ReplayError

    try:
        run(work)
    except (LettersError, ReplayError) as error:
        stop(str(error), FAILED)


@dataclass(frozen=True, slots=True)
class _Listing:
    """How to list."""

    summary: bool
    everything: bool
    follow: bool
    as_json: bool


async def _list(settings: Settings, choice: Choice, how: _Listing) -> None:
    from streams.letter_box import open_box
    from streams.letter_view import Summary, as_dict, as_line

    summary = Summary()

    def tell(letter: Letter, replayed: bool) -> None:
        if replayed and not how.everything:
            return
        if how.summary:
            summary.add(letter, replayed)
        else:
            as_json = how.as_json
            shown = json.dumps(as_dict(letter, replayed)) if as_json else as_line(letter, replayed)
            print(shown, flush=how.follow)

    async with open_box(settings) as box:
        spans = await box.spans(choice)
        with _progress("markers", sum(span.end - span.first for span in spans.values())) as more:
            marks = await box.marks(spans, more)
        total = sum(span.stop - span.first for span in spans.values())
        # A bar on the terminal to which the letters are printed would be torn apart.
        with _progress("letters", total, how.summary or not sys.stdout.isatty()) as more:
            async with aclosing(box.letters(spans, choice, more)) as letters:
                async for letter in letters:
                    tell(letter, letter.offset in marks[letter.partition])
        if how.summary:
            print(summary.as_json() if how.as_json else summary.as_text())
        if how.follow:
            async with aclosing(box.follow(spans, choice)) as letters:
                async for letter in letters:
                    tell(letter, False)


async def _show(settings: Settings, choice: Choice, as_json: bool) -> None:
    from streams import letter_view
    from streams.letter_box import open_box
    from streams.letter_replay import LetterReplay
    from streams.letter_trial import Target, try_letter

    async with open_box(settings) as box:
        spans = await box.spans(choice)
        with _progress("markers", sum(span.end - span.first for span in spans.values())) as more:
            letter, replayed = await _one(box, choice, spans, more)
        returns = await LetterReplay(settings, box, choice).returns()
        way, trial = returns.way(letter), None
        if way.record is not None:
            suffix = letter.topic.removeprefix(settings.topic_prefix)
            target = Target(suffix, way.record.partition, box.counts[letter.topic])
            trial = await try_letter(letter, target, settings, time.time_ns() // 1_000_000)
    verdict = letter_view.verdict_text(way.fate, trial)
    view = letter_view.show_json if as_json else letter_view.show
    print(view(letter, replayed, verdict, trial))


async def _one(
    box: LetterBox, choice: Choice, spans: Mapping[int, Span], more: Advance
) -> tuple[Letter, bool]:
    """Return the one letter chosen, and whether it has been replayed."""
    from streams.letter_box import LettersError

    async with aclosing(box.letters(spans, choice, lambda _: None)) as letters:
        async for letter in letters:
            marks = await box.marks(spans, more)
            return letter, letter.offset in marks[letter.partition]
    (place,) = choice.only
    raise LettersError(f"There is no letter at {place}; `dead-letters list --all` prints all.")


@dataclass(frozen=True, slots=True)
class _Asking:
    """What a replay may do, and how it says what it did."""

    dry_run: bool
    yes: bool
    as_json: bool


async def _replay(settings: Settings, choice: Choice, how: _Asking) -> None:
    from streams.letter_box import open_box
    from streams.letter_replay import LetterFate, LetterReplay
    from streams.letter_view import tally_json, tally_text

    # Where another replay takes over, aiokafka leaves futures that nobody can look at: what
    # happened is said once, in our words.
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    say = tally_json if how.as_json else tally_text
    async with open_box(settings) as box:
        spans = await box.spans(choice)
        total = sum(span.stop + span.end - 2 * span.first for span in spans.values())
        replay = LetterReplay(settings, box, choice)
        if how.dry_run or not how.yes:
            with _progress("letters", total) as more:
                found = await replay.survey(spans, more)
            if how.dry_run or not found.of(LetterFate.REPLAYED):
                print(say(found, done=False))
                return
            print(tally_text(found, done=False), file=sys.stderr)
            typer.confirm("Go on?", abort=True, err=True)
        with _progress("replay", total) as more:
            done = await replay.run(spans, more)
        print(say(done, done=True))


@contextmanager
def _progress(name: str, total: int, shown: bool = True) -> Iterator[Advance]:
    """Show how far something is, and give what moves it."""
    if not shown:
        yield lambda _: None
        return
    with progress_bar() as progress:
        bar = progress.add_task(name, total=total)
        yield lambda count: progress.advance(bar, count)
