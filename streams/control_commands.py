"""The commands `controls silence`, `maintenance`, `acknowledge`, `accept`, `expire` and `list`."""

# ruff: noqa: PLC0415 - each command imports what it needs: --help must not wait for Kafka clients
# ruff: noqa: PLR0913, PLR0917 - each argument is an option

from __future__ import annotations

import json
import re
import sys
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from uuid import uuid4

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
from streams.durations import DAY, parse_duration
from streams.reasons import EntityKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from streams.settings import Settings

app = typer.Typer(
    help="Tell the service what a person knows: be silent, seen, maintenance, normal now.",
    no_args_is_help=True,
)

Alert = Annotated[str | None, typer.Option("--alert", metavar="ID", help="Only this alert.")]
Rule = Annotated[str | None, typer.Option("--rule", metavar="NAME", help="Only of this rule.")]
Kind = Annotated[
    str | None,
    typer.Option("--kind", metavar="KIND", help="Only on entities such as AGENT or INTEGRATION."),
]
Tenant = Annotated[str | None, typer.Option(metavar="TENANT", help="Only of this tenant.")]
EntityId = Annotated[
    str | None, typer.Option("--entity", metavar="ID", help="Only on this agent, integration …")
]
Begin = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", help="From then on: 30m, 2h (ahead) or ISO 8601, UTC."),
]
End = Annotated[str, typer.Option("--until", metavar="TIME", help="Until then: the same.")]
By = Annotated[str, typer.Option(metavar="ROLE", help="Who says so: a role, no person's name.")]
Why = Annotated[str, typer.Option(metavar="TEXT", help="Why; people will ask.")]
Name = Annotated[
    str | None, typer.Option("--id", metavar="ID", help="Its id; a control with the same is ended.")
]

MATCHERS = ("alert_id", "rule", "entity_kind", "tenant", "entity_id")


class Said(NamedTuple):
    """Who says something and why, under which id."""

    by: str
    why: str
    name: str | None


@app.command(
    "silence",
    epilog=examples(
        "controls silence --entity claims-agent --until 2h --why 'known, fix on its way'",
        "controls silence --rule security --entity test-agent --until 1h --why 'red team'",
    ),
)
def silence(
    until: End,
    why: Why,
    begin: Begin = None,
    alert: Alert = None,
    rule: Rule = None,
    kind: Kind = None,
    tenant: Tenant = None,
    entity: EntityId = None,
    by: By = "on-call",
    name: Name = None,
    as_json: JsonFlag = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Withhold pages of alerts for a while; what is still open then pages.

    Security and CRITICAL alerts are withheld only where --rule or --alert names them.
    """
    settings, span = settings_of(bootstrap), (begin, until)
    matchers = _matchers(alert, rule, kind, tenant, entity)
    _say(settings, _record("SILENCE", Said(by, why, name), matchers, span), as_json=as_json)


@app.command(
    "maintenance",
    epilog=examples(
        "controls maintenance --kind INTEGRATION --entity ledger-api --until 4h --why x"
    ),
)
def maintenance(
    until: End,
    why: Why,
    begin: Begin = None,
    alert: Alert = None,
    rule: Rule = None,
    kind: Kind = None,
    tenant: Tenant = None,
    entity: EntityId = None,
    by: By = "on-call",
    name: Name = None,
    as_json: JsonFlag = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Withhold pages during planned work, as `silence` does; the alerts say MAINTENANCE."""
    settings, span = settings_of(bootstrap), (begin, until)
    matchers = _matchers(alert, rule, kind, tenant, entity)
    _say(settings, _record("MAINTENANCE", Said(by, why, name), matchers, span), as_json=as_json)


@app.command("acknowledge", epilog=examples("controls acknowledge e736160964950384-1767225600000"))
def acknowledge(
    alert: Annotated[str, typer.Argument(metavar="ALERT_ID", help="As on the page.")],
    why: Why = "seen",
    by: By = "on-call",
    name: Name = None,
    as_json: JsonFlag = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Say that a person has seen an alert: its incident pages again only when there is news."""
    matchers = _matchers(alert, None, None, None, None)
    said = Said(by, why, name)
    _say(settings_of(bootstrap), _record("ACKNOWLEDGE", said, matchers), as_json=as_json)


@app.command("accept", epilog=examples("controls accept --alert ID --why 'the new contract'"))
def accept(
    why: Why,
    alert: Alert = None,
    rule: Rule = None,
    kind: Kind = None,
    tenant: Tenant = None,
    entity: EntityId = None,
    by: By = "on-call",
    name: Name = None,
    as_json: JsonFlag = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Say that the level of alerts is the usual from now on."""
    matchers = _matchers(alert, rule, kind, tenant, entity)
    said = Said(by, why, name)
    _say(settings_of(bootstrap), _record("ACCEPT_NORMAL", said, matchers), as_json=as_json)


@app.command("expire", epilog=examples("controls expire night-shift"))
def expire(
    control: Annotated[str, typer.Argument(metavar="ID", help="As `list` prints it.")],
    why: Why = "over",
    by: By = "on-call",
    as_json: JsonFlag = False,
    bootstrap: Bootstrap = None,
) -> None:
    """End a silence, a maintenance or an acknowledgement now."""
    record = _record("EXPIRE", Said(by, why, control), {})
    _say(settings_of(bootstrap), record, as_json=as_json)


@app.command("list", epilog=examples("controls list", "controls list --all --json"))
def list_controls(
    everything: Annotated[
        bool, typer.Option("--all", help="All that was ever said, in order.")
    ] = False,
    as_json: JsonFlag = False,
    bootstrap: Bootstrap = None,
) -> None:
    """Print what is in force: the newest control of each id that is not over."""
    settings = settings_of(bootstrap)
    found = _guarded(_read(settings))
    if not everything:
        found = in_force(found, _now())
    for one in found:
        print(json.dumps(one, ensure_ascii=False) if as_json else line(one))
    if not found and not as_json:
        print("Nothing is in force.", file=sys.stderr)


def in_force(records: Iterable[Mapping[str, Any]], now: int) -> list[Mapping[str, Any]]:
    """Return the controls that are neither ended, replaced nor over, in the order of their ids.

    An acknowledgement ends with its incident, which is not known here: those of a day are shown.

    Args:
        records: Control records in the order of their topic.
        now: ms.
    """
    newest = {str(one["control_id"]): one for one in records}
    return [one for _, one in sorted(newest.items()) if _lasts(one, now)]


def _lasts(one: Mapping[str, Any], now: int) -> bool:
    if one["kind"] == "ACKNOWLEDGE":
        return bool(one["occurred_at"] > now - DAY)
    return one["kind"] != "EXPIRE" and (one["until_at"] is None or one["until_at"] > now)


def line(one: Mapping[str, Any]) -> str:
    """Return a control as one line for people."""
    named = [f"{name}={one[f'match_{name}']}" for name in MATCHERS if one[f"match_{name}"]]
    until = "" if one["until_at"] is None else f" until {_clock(one['until_at'])}"
    begin = "" if one["from_at"] is None else f" from {_clock(one['from_at'])}"
    what = " ".join(named) or ("" if one["kind"] in {"EXPIRE", "RULES"} else "everything")
    words = f"{one['control_id']}  {one['kind']} {what}".rstrip()
    return f"{words}{begin}{until}  ({one['by']}: {one['why']})"


def ahead(text: str, now: int) -> int:
    """Return a time to come, ms: `2h` is in two hours, else ISO 8601 in UTC.

    Raises:
        ValueError: it is none.
    """
    if re.fullmatch(r"\d+[smhd]", text):
        return now + parse_duration(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write 30m, 2h or 1d for a time ahead, or 2026-01-31T18:00"
        ) from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return round(when.timestamp() * 1000)


def _matchers(
    alert: str | None, rule: str | None, kind: str | None, tenant: str | None, entity: str | None
) -> dict[str, str | None]:
    """Return what to match; nothing at all ends the command, as does a kind that is none."""
    if kind is not None and kind not in set(EntityKind):
        stop(f"--kind {kind} is none of {', '.join(EntityKind)}.", USAGE_ERROR)
    values = dict(zip(MATCHERS, (alert, rule, kind, tenant, entity), strict=True))
    if not any(values.values()):
        stop(
            "This would be about every alert there is: give --alert, --rule, --kind, --tenant or "
            "--entity.",
            USAGE_ERROR,
        )
    return {f"match_{name}": value for name, value in values.items()}


def _record(
    kind: str,
    said: Said,
    matchers: Mapping[str, str | None],
    span: tuple[str | None, str | None] = (None, None),
) -> dict[str, Any]:
    """Return a Control record; times that are none or are over end the command."""
    now = _now()
    try:
        begin, until = (None if text is None else ahead(text, now) for text in span)
    except ValueError as error:
        stop(str(error), USAGE_ERROR)
    if until is not None and until <= (begin or now):
        stop(
            f"--until {span[1]} is not after the beginning: nothing would be withheld.", USAGE_ERROR
        )
    return {
        "event_id": str(uuid4()),
        "occurred_at": now,
        "control_id": said.name or f"{kind.lower().replace('_', '-')}-{uuid4().hex[:8]}",
        "kind": kind,
        **dict.fromkeys([f"match_{name}" for name in MATCHERS]),
        **matchers,
        "from_at": begin,
        "until_at": until,
        "by": said.by,
        "why": said.why,
        "rules": None,
    }


def _say(settings: Settings, record: Mapping[str, Any], *, as_json: bool) -> None:
    from streams.limits import broken

    if (problem := broken(record)) is not None:
        stop(f"{problem}.", USAGE_ERROR)
    _guarded(_send(settings, record))
    print(json.dumps(record, ensure_ascii=False) if as_json else line(record))


async def _send(settings: Settings, record: Mapping[str, Any]) -> None:
    from streams import schemas
    from streams.sender import Outgoing, Sender

    async with Sender(settings) as sender:
        value = schemas.encode("Control", record)
        await sender.send([Outgoing("controls", record["control_id"].encode(), value)])
        await sender.flush()


async def _read(settings: Settings) -> list[Mapping[str, Any]]:
    from streams.tail import Selection, tail

    async with aclosing(tail(settings, Selection(["controls"]))) as records:
        return [one.record async for one in records if one.schema == "Control"]


def _guarded(work: Any) -> Any:
    """Run it; a broker that does not answer and a topic that is missing end the command."""
    from streams.sender import SendError
    from streams.tail import TailError

    try:
        return run(work)
    except (SendError, TailError) as error:
        stop(str(error), FAILED)


def _now() -> int:
    return round(datetime.now(UTC).timestamp() * 1000)


def _clock(at_ms: int) -> str:
    from streams.tail import clock

    return clock(at_ms)
