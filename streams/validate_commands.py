"""`agentops-streams validate`: the command."""

# ruff: noqa: PLC0415 - --help must not wait for numpy and Kafka clients

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from streams.console import FAILED, USAGE_ERROR, JsonFlag, progress_bar, settings_of, stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streams.schemas import Schema
    from streams.validate import Validator, Verdict

EXAMPLES = (
    "validate record.json",
    "validate value.bin --topic tasks --key acme/claims-agent",
    "validate events.avro --quiet",
    "tail tasks --since 1h --json | agentops-streams validate - --strict",
)


def validate(  # noqa: PLR0913, PLR0917 - each argument is an option
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file, or - for stdin.")],
    topic: Annotated[
        str | None, typer.Option(metavar="TOPIC", help="Such as tasks; else as it says itself.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Key of the records; else the one in them.")
    ] = None,
    form: Annotated[
        Literal["raw", "hex", "json", "avro"] | None,
        typer.Option("--format", help="How records are given; else by the first bytes."),
    ] = None,
    schema: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Schema (.avsc) of values that no built-in one wrote."),
    ] = None,
    partitions: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Partitions of the topic, instead of the setting."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 1 also for a warning.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print only what is not ok, and the summary.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Say whether a worker would take records, and if not, why and what to do.

    FILE is one value as it is produced (bytes), hex text of values, JSON of records (one object a
    line: the fields, what `tail --json` prints, or topic, key and record), or an Avro container.
    Nothing is sent and no broker or registry is asked. Exit code 0 when all would be taken, 1 when
    some would be refused, 2 when there is nothing to judge.
    """
    from streams.samples import Format, SampleError, detect, samples
    from streams.validate import RECORDS, Given, Validator

    named = topic.rpartition(".")[2] if topic else None
    if named is not None and named not in RECORDS:
        stop(f"--topic {topic}: records are judged for {', '.join(RECORDS)}.", USAGE_ERROR)
    settings = settings_of()
    if partitions:
        settings = settings.model_copy(update={"partitions": partitions})
    given = Given(named, None if key is None else key.encode(), _schema(schema))
    judge = Validator(settings, given, lambda: time.time_ns() // 1_000_000)
    try:
        with _source(file) as (source, size), progress_bar() as progress:
            bar = progress.add_task("validate", total=size, visible=not sys.stdout.isatty())
            for sample in samples(source, Format(form) if form else detect(source)):
                verdict = judge.judge(sample)
                if not quiet or verdict.word != "ok":
                    print(
                        json.dumps(verdict.as_dict())
                        if as_json
                        else line(verdict, settings.partitions)
                    )
                if size:
                    progress.update(bar, completed=source.tell())
    except SampleError as error:
        stop(str(error), USAGE_ERROR)
    _end(judge, as_json=as_json, strict=strict)


def line(verdict: Verdict, partitions: int) -> str:
    """Return a verdict as one line for people."""
    from streams.validate_view import words as in_words

    words = f"{verdict.word:<7} {verdict.where}"
    if verdict.reason:
        words += f" {verdict.reason}: {'; '.join(verdict.problems)}. To do: {verdict.cure}."
    elif verdict.read is not None:
        there = 1 if verdict.topic == "controls" else partitions
        place = "" if verdict.partition == -1 else f", partition {verdict.partition} of {there}"
        words += f": {in_words(verdict.topic or '', verdict.read)}"
        if verdict.schema is not None:
            words += f"; key {verdict.key}{place}; schema {verdict.schema}; {verdict.size} bytes"
    words += "".join(f"\n        ! {warning}" for warning in verdict.warnings)
    # Ids come from outside: none may steer the terminal.
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in words)


def _schema(path: Path | None) -> Schema | None:
    from streams import schemas

    if path is None:
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return schemas.build(raw)
    except OSError as error:
        stop(f"--schema {path} cannot be read: {error.strerror}.", USAGE_ERROR)
    # fastavro documents no set of errors for what is no schema.
    except Exception as error:  # noqa: BLE001
        stop(f"--schema {path} is no Avro schema of a record: {error}.", USAGE_ERROR)


@contextmanager
def _source(file: str) -> Iterator[tuple[BufferedReader, int | None]]:
    """Open a file or stdin; give its size where it has one."""
    if file == "-":
        stdin: Any = sys.stdin.buffer
        yield stdin if isinstance(stdin, BufferedReader) else BufferedReader(stdin), None
        return
    path = Path(file)
    try:
        with path.open("rb") as source:
            yield source, path.stat().st_size
    except OSError as error:
        stop(f"{file} cannot be read: {error.strerror}.", USAGE_ERROR)


def _end(judge: Validator, *, as_json: bool, strict: bool) -> None:
    """Print the summary and end with the exit code."""
    total = judge.counts.total()
    if not total:
        stop("There are no records in it.", USAGE_ERROR)
    names = {"ok": "ok", "warning": "warnings", "REFUSED": "refused"}
    counts = {shown: judge.counts[word] for word, shown in names.items()}
    if as_json:
        more = {"reasons": dict(judge.reasons), "schemas_not_built_in": dict(judge.foreign)}
        print(json.dumps({"summary": {"records": total, **counts, **more}}))
    else:
        reasons = ", ".join(f"{reason} {n}" for reason, n in judge.reasons.most_common())
        print(
            f"{total:,} records: {counts['ok']:,} ok, {counts['warnings']:,} with warnings, "
            f"{counts['refused']:,} refused" + (f" ({reasons})" if reasons else "")
        )
        for schema, n in judge.foreign.items():
            print(
                f"{n:,} are written with schema {schema}, which is not built in: publish it on the "
                "topic `schemas` or in the registry before the first record."
            )
    bad = counts["refused"] or (strict and counts["warnings"])
    raise typer.Exit(FAILED if bad else 0)
