"""`agentops-streams replay`: recorded events go to a broker again, at any speed.

Files are Avro object containers of our input records, or lines of JSON with a `topic` beside the
record's fields (what `tail --json` prints). Files are merged by event time, each keeping its own
order; memory holds one record a file and the open batches.
"""

from __future__ import annotations

import asyncio
import heapq
import ipaddress
import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import fastavro

from streams import schemas
from streams.sender import Outgoing, Sender
from streams.topics import PRODUCED, TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from streams.settings import Settings

CHUNK = 2_000
PACE_SECONDS = 0.02
"""Records due within this time go out together when a speed is given."""

_RECORDS = {spec.suffix: spec.record for spec in TOPICS if spec.suffix in PRODUCED and spec.record}
_SUFFIXES = {record: suffix for suffix, record in _RECORDS.items()}
_BESIDE = ("topic", "partition", "offset", "timestamp", "key")
"""Names that `tail --json` puts beside the fields of a record."""


class ReplayError(ValueError):
    """A file cannot be replayed, or the broker is not one to replay to without being asked."""


class Event(NamedTuple):
    """One recorded event: event time (ms), topic without the prefix, fields."""

    at: int
    topic: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Survey:
    """What is in the files.

    Attributes:
        count: number of events.
        first_ms: smallest event time; 0 when there are none.
        last_ms: largest event time; 0 when there are none.
    """

    count: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How times and sending are changed.

    Attributes:
        speed: event seconds per second; None is as fast as the broker takes them.
        to_now: shift all times so that the last event lands at now.
    """

    speed: float | None = None
    to_now: bool = False

    def shift_ms(self, survey: Survey, now_ms: int) -> int:
        """Return what to add to every event time.

        With a speed of 1 or more the last event lands at the moment it is produced.
        """
        if not self.to_now:
            return 0
        ahead = 0
        if self.speed is not None and self.speed >= 1:
            ahead = round((survey.last_ms - survey.first_ms) / self.speed)
        return now_ms + ahead - survey.last_ms


def require_loopback(settings: Settings, *, yes: bool) -> None:
    """Refuse a broker that is not on this machine, unless asked to go on.

    Raises:
        ReplayError: one of the brokers is elsewhere and `yes` is not set.
    """
    far = [one for one in settings.bootstrap_servers.split(",") if not _is_loopback(one)]
    if far and not yes:
        raise ReplayError(
            f"{', '.join(far)} is not on this machine. Replayed events would mix with what is real "
            "there and could page somebody. Add --yes if that is what you want, or set "
            "AGENTOPS_BOOTSTRAP_SERVERS to a local broker."
        )


def survey(paths: Sequence[Path]) -> Survey:
    """Read the files once and count.

    Raises:
        ReplayError: a file is missing or holds something else.
    """
    count, first, last = 0, 0, 0
    for event in events(paths):
        first = event.at if count == 0 else min(first, event.at)
        last = event.at if count == 0 else max(last, event.at)
        count += 1
    return Survey(count, first, last)


def events(paths: Sequence[Path]) -> Iterator[Event]:
    """Yield the events of all files, merged by event time.

    Raises:
        ReplayError: a file is missing or holds something else.
    """
    return heapq.merge(*(_file_events(path) for path in paths), key=lambda event: event.at)


def shifted(event: Event, shift_ms: int) -> Outgoing:
    """Encode an event with all its times moved by `shift_ms`, keyed by its agent.

    Raises:
        ReplayError: a field is missing, unknown or of a wrong type.
    """
    name = _RECORDS[event.topic]
    record = dict(event.record)
    for field in _time_fields(name):
        if record.get(field) is not None:
            record[field] += shift_ms
    tenant, agent = record.get("tenant"), record.get("agent_id")
    try:
        value = schemas.encode(name, record)
    except (ValueError, TypeError, AttributeError) as error:
        identity = record.get("event_id", "without event_id")
        raise ReplayError(f"Event {identity} is no {name}: {error}") from error
    key = f"{tenant}/{agent}" if tenant else str(agent)
    return Outgoing(event.topic, key.encode(), value)


async def replay(
    paths: Sequence[Path],
    settings: Settings,
    pace: Pace,
    advance: Callable[[int], None] | None = None,
) -> Survey:
    """Send the events of the files; return what was sent.

    Args:
        paths: the files.
        settings: broker and prefix.
        pace: how times and sending are changed.
        advance: called with the number of records handed over since the last call.

    Raises:
        ReplayError, SendError: a file or the broker is not usable.
    """
    found = await asyncio.to_thread(survey, paths)
    shift = pace.shift_ms(found, time.time_ns() // 1_000_000)
    async with Sender(settings) as sender:
        started = time.monotonic()
        chunk: list[Outgoing] = []
        for event in events(paths):
            wait = 0.0
            if pace.speed is not None:
                due = (event.at - found.first_ms) / 1000 / pace.speed
                wait = due - (time.monotonic() - started)
            if chunk and (len(chunk) >= CHUNK or wait > PACE_SECONDS):
                await _hand_over(sender, chunk, advance)
            if wait > PACE_SECONDS:
                await sender.push()
                await asyncio.sleep(wait)
            chunk.append(shifted(event, shift))
        await _hand_over(sender, chunk, advance)
    return Survey(found.count, found.first_ms + shift, found.last_ms + shift)


async def _hand_over(
    sender: Sender, chunk: list[Outgoing], advance: Callable[[int], None] | None
) -> None:
    await sender.send(chunk)
    if advance:
        advance(len(chunk))
    chunk.clear()


def _file_events(path: Path) -> Iterator[Event]:
    if path.suffix == ".jsonl":
        return _json_events(path)
    return _avro_events(path)


def _avro_events(path: Path) -> Iterator[Event]:
    with _readable(path), path.open("rb") as file:
        reader = fastavro.reader(file)
        writer = reader.writer_schema
        full = writer.get("name", "") if isinstance(writer, dict) else ""
        name = str(full).rpartition(".")[2]
        if name not in _SUFFIXES:
            raise ReplayError(
                f"{path} holds {name or 'no records'}; records to replay are "
                f"{', '.join(sorted(_SUFFIXES))}."
            )
        times = _time_fields(name)
        for record in fastavro.reader(_rewound(file), reader_schema=schemas.schema(name)):
            if not isinstance(record, dict):
                raise ReplayError(f"{path} holds something else than records.")
            for field in times:
                record[field] = _ms(record[field])
            yield Event(int(record["occurred_at"]), _SUFFIXES[name], record)


def _json_events(path: Path) -> Iterator[Event]:
    with _readable(path), path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                raw = json.loads(line)
                topic = str(raw["topic"]).rpartition(".")[2]
                if "undecoded" not in raw:
                    at = int(raw["occurred_at"])
            except (ValueError, TypeError, KeyError) as error:
                raise ReplayError(
                    f"{where}: expected a JSON object with topic, occurred_at (ms) and the fields "
                    f"of the record: {error!r}"
                ) from error
            if "undecoded" in raw:
                raise ReplayError(
                    f"{where}: a record that `tail` could not decode has no fields to replay. "
                    "Leave such records out: tail --json --where undecoded=null."
                )
            if topic not in _RECORDS:
                known = ", ".join(_RECORDS)
                raise ReplayError(f"{where}: topic {topic!r} is not replayed; it can be {known}.")
            yield Event(at, topic, {k: v for k, v in raw.items() if k not in _BESIDE})


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except ReplayError:
        raise
    except OSError as error:
        raise ReplayError(f"{path} cannot be read: {error.strerror}.") from error
    # What fastavro raises on bytes that are no container depends on where they break.
    except (ValueError, EOFError, KeyError, IndexError, TypeError) as error:
        raise ReplayError(
            f"{path} cannot be read as an Avro object container (or .jsonl): {error}"
        ) from error


def _rewound(file: Any) -> Any:
    file.seek(0)
    return file


def _ms(value: Any) -> Any:
    """Return a time as ms since 1970: fastavro makes a datetime of one."""
    return round(value.timestamp() * 1000) if isinstance(value, datetime) else value


@cache
def _time_fields(name: str) -> tuple[str, ...]:
    return tuple(
        field["name"]
        for field in schemas.schema(name)["fields"]
        if "timestamp-millis" in json.dumps(field["type"])
    )


def _is_loopback(server: str) -> bool:
    host = server.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
