"""The commands `schemas list`, `check`, `register`, `diff` and `publish`."""

# ruff: noqa: PLC0415 - each command imports what it needs: --help must not wait for fastavro

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.console import (
    FAILED,
    USAGE_ERROR,
    Bootstrap,
    JsonFlag,
    examples,
    run,
    settings_of,
    stop,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streams.releases import Fault
    from streams.schemas import Schema
    from streams.settings import Settings

app = typer.Typer(
    help="Schemas of the records: versions, evolution, schema registry.", no_args_is_help=True
)


@app.command("list")
def list_schemas(as_json: JsonFlag = False) -> None:
    """Print every record with its topic, fingerprint and released versions."""
    from streams import releases, schemas
    from streams.topics import TOPICS

    topics = {spec.record: spec.suffix for spec in reversed(TOPICS) if spec.record}
    rows = []
    for name in schemas.names():
        current, versions = schemas.get(name), schemas.versions(name)
        row: dict[str, Any] = {"name": name, "topic": topics.get(name)}
        row |= {"fingerprint": current.fingerprint.hex()}
        row |= {"version": releases.released(current, versions)}
        row |= {"versions": {n: one.fingerprint.hex() for n, one in enumerate(versions, 1)}}
        rows.append(row)
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        known = "unreleased" if row["version"] is None else f"version {row['version']}"
        where = row["topic"] or "(state)"
        print(f"{row['name']:<17} {where:<16} {row['fingerprint']}  {known}")


@app.command("check", epilog=examples("schemas check", "schemas check --json"))
def check(as_json: JsonFlag = False) -> None:
    """Check that the schemas can follow all released versions; exit code 1 when one cannot.

    Everything that was released must stay readable (BACKWARD_TRANSITIVE), and released files must
    never change. With registry_url set, also that the registry takes them. Needs no broker.
    """
    from streams import releases

    settings = settings_of()
    faults = releases.faults()
    if settings.registry_url is not None:
        faults += run(_at_registry(settings))
    if as_json:
        print(json.dumps([fault._asdict() for fault in faults]))
    else:
        print("\n".join(map(str, faults)) or "All schemas fit what was released.")
    if faults:
        raise typer.Exit(FAILED)


@app.command("register", epilog=examples("schemas register --dry-run", "schemas register"))
def register(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Register the schema of every topic with a record as TOPIC-value at the schema registry.

    What is registered already stays as it is, so this can be repeated. A subject without a level of
    compatibility gets BACKWARD_TRANSITIVE.
    """
    run(_register(settings_of(), dry_run, as_json))


@app.command(
    "diff",
    epilog=examples(
        "schemas diff",
        "schemas diff TaskFinished --version 1",
        "schemas diff --file theirs.avsc",
    ),
)
def diff(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Record; all without it.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="Compare with this released version.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare with the schema in this file.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Print field by field how the schemas differ from others.

    Others are the latest ones at the schema registry, or without registry_url the newest released
    ones. A line says how the other became the one here: + added, - removed, ~ changed.
    """
    from streams import schemas
    from streams.schema_diff import differences

    if name is not None and name not in schemas.names():
        stop(f"No record {name}; there are {', '.join(schemas.names())}.", USAGE_ERROR)
    if version is not None and file is not None:
        stop("Give --version or --file, not both.", USAGE_ERROR)
    others = _others(name, version, file)
    found = {
        label: differences(other.tree, schemas.get(other.name).tree)
        for label, other in others.items()
    }
    if as_json:
        print(json.dumps({key: [one._asdict() for one in each] for key, each in found.items()}))
        return
    for label, each in found.items():
        print(label if each else f"{label}: no difference")
        for one in each:
            print(f"  {one}")


@app.command(
    "publish", epilog=examples("schemas publish TaskFinished-2.avsc", "schemas publish --list")
)
def publish(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="FILE", help="Writer schemas, as .avsc files.")
    ] = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="Print what the topic holds instead.")
    ] = False,
    as_json: JsonFlag = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Make writer schemas known to workers by the topic `schemas`, without a schema registry.

    Do it before the first record is written with one. What is there already is left as it is.
    """
    from streams import schema_topic

    if bool(files) == list_all:
        stop("Give FILEs to publish, or --list.", USAGE_ERROR)
    settings = settings_of(bootstrap)
    try:
        if list_all:
            _print_published(run(schema_topic.published(settings)), as_json)
            return
        entries = dict(_entry(path) for path in files or ())
        new = run(schema_topic.publish(settings, entries))
    except schema_topic.PublishError as error:
        stop(str(error), FAILED)
    if as_json:
        print(json.dumps({key.decode(): key in new for key in entries}))
        return
    for key in entries:
        print(f"{key.decode()}  {'published' if key in new else 'was there already'}")


async def _at_registry(settings: Settings) -> list[Fault]:
    from streams.registry import RegistryClient, RegistryError
    from streams.subjects import incompatible

    async with RegistryClient.of(settings) as client:
        try:
            return await incompatible(client, settings)
        except RegistryError as error:
            stop(str(error), FAILED)


async def _register(settings: Settings, dry_run: bool, as_json: bool) -> None:
    from streams import subjects
    from streams.registry import RegistryClient, RegistryError

    try:
        client = RegistryClient.of(settings)
    except ValueError as error:
        stop(str(error), USAGE_ERROR)
    done = []
    try:
        async with client, aclosing(subjects.register(client, settings, dry_run=dry_run)) as each:
            async for one in each:
                done.append(one._asdict())
                if not as_json:
                    print(_registered_text(one, dry_run))
    except (RegistryError, subjects.RefusedError) as error:
        stop(str(error), FAILED)
    if as_json:
        print(json.dumps(done))


def _registered_text(one: Any, dry_run: bool) -> str:
    level = one.level or "the registry's own level"
    if one.version is None:
        return f"{one.subject}  would be registered, {level}"
    did = "is there" if not one.new or dry_run else "registered"
    return f"{one.subject}  {did}: version {one.version}, id {one.id}, {level}"


def _others(name: str | None, version: int | None, file: Path | None) -> Mapping[str, Schema]:
    """Return what to compare with, by a label for people."""
    from streams import schemas

    if file is not None:
        return _from_file(file, name)
    settings = settings_of()
    if version is None and settings.registry_url is not None:
        return run(_latest(settings, name))
    found = {}
    for one in [name] if name else schemas.names():
        versions = schemas.versions(one)
        number = version or len(versions)
        if 0 < number <= len(versions):
            found[f"{one} since version {number}"] = versions[number - 1]
        elif name:
            stop(f"{one} has {len(versions)} released versions, no {number}.", USAGE_ERROR)
    return found


def _from_file(file: Path, name: str | None) -> Mapping[str, Schema]:
    from streams import schemas

    other = _parsed(file)
    if name not in (None, other.name) or other.name not in schemas.names():
        stop(f"{file} is a {other.name}, no {name or 'record of ours'}.", USAGE_ERROR)
    return {f"{other.name} since {file}": other}


async def _latest(settings: Settings, name: str | None) -> Mapping[str, Schema]:
    from streams import schemas
    from streams.registry import RegistryClient, RegistryError
    from streams.subjects import subjects

    found = {}
    async with RegistryClient.of(settings) as client:
        for subject in subjects(settings):
            if name not in (None, subject.record):
                continue
            try:
                latest = await client.version(subject.name, "latest")
                if latest is not None:
                    other = schemas.parse(latest.schema)
            except (RegistryError, ValueError) as error:
                stop(f"{subject.name}: {error}", FAILED)
            if latest is None:
                stop(f"{subject.name} is not registered: run `schemas register`.", FAILED)
            if other.name != subject.record:
                stop(f"{subject.name} is a {other.name}, no {subject.record}.", FAILED)
            found[f"{other.name} since {subject.name} version {latest.version}"] = other
    return found


def _parsed(file: Path) -> Schema:
    from streams import schemas

    try:
        return schemas.parse(file.read_bytes())
    except OSError as error:
        stop(f"{file} cannot be read: {error.strerror}.", USAGE_ERROR)
    except ValueError as error:
        stop(f"{file} is no schema that can be used: {error}.", USAGE_ERROR)


def _entry(file: Path) -> tuple[bytes, bytes]:
    from streams import schema_topic

    try:
        return schema_topic.entry(file.read_bytes())
    except OSError as error:
        stop(f"{file} cannot be read: {error.strerror}.", USAGE_ERROR)
    except ValueError as error:
        stop(f"{file} cannot be published: {error}.", FAILED)


def _print_published(held: Mapping[bytes, bytes], as_json: bool) -> None:
    from streams import schema_topic

    rows = []
    for key, value in held.items():
        row: dict[str, Any] = {"key": key.decode(errors="replace"), "name": None, "problem": None}
        try:
            row["name"] = schema_topic.parse(key, value).name
            schema_topic.entry(value)
        except ValueError as error:
            row["problem"] = str(error)
        rows.append(row)
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['key']}  {row['name'] or '?'}  {row['problem'] or 'usable'}")
    if not rows:
        print("The topic holds no schema.")
