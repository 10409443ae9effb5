"""`agentops-streams tail`: what is on a topic, decoded, committed records only.

Times of `--since` and `--until` are event times. The Kafka timestamp is the time of production and
an event is admitted at most five minutes ahead of it, which is where reading can begin.
"""

from __future__ import annotations

import json
import operator
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams import schemas
from streams.catalog_reader import CatalogReader
from streams.connection import connection
from streams.consumer import BoundedConsumer
from streams.rows import Limits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence

    from streams.settings import Settings

AHEAD_MS = 5 * 60_000
"""How far an admitted event can be ahead of its Kafka timestamp."""
POLL_MS = 250

_EVENT_TIMES = ("occurred_at", "at", "updated_at")
"""Fields that say when a record is about, the first one present counts."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_CONDITION = re.compile(r"^\s*([A-Za-z_]\w*)\s*(!=|>=|<=|=|>|<)\s*(.*?)\s*$")
_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


class TailError(ValueError):
    """A topic, time or condition cannot be used, or no broker answers."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One `--where`: field, comparison, value as written."""

    field: str
    test: str
    value: str

    def holds(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record fits; one without the field, or with null in it, fits no `>`.

        Numbers compare as numbers, `null`, `true` and `false` are what they say, the rest is text.
        """
        found = record.get(self.field)
        if self.test in ("=", "!="):
            return _TESTS[self.test](_same_kind(found, self.value), True)
        if isinstance(found, bool) or not isinstance(found, int | float):
            return isinstance(found, str) and _TESTS[self.test](found, self.value)
        try:
            return _TESTS[self.test](found, float(self.value))
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Tailed:
    """One record as read.

    Attributes:
        topic: name on the broker.
        partition, offset: where it stands.
        timestamp: Kafka timestamp, the time of production, ms.
        key: record key as text, None where null.
        schema: name of its Avro record; None where the value does not decode.
        record: its fields; for a value that does not decode, its size and its headers.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: str | None
    schema: str | None
    record: Mapping[str, Any]

    @property
    def at(self) -> int:
        """Return the event time, ms; the time of production where the record has none."""
        for name in _EVENT_TIMES:
            if self.record.get(name) is not None:
                return int(self.record[name])
        return self.timestamp


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records to show.

    Attributes:
        topics: names with or without the prefix.
        since_ms: smallest event time, None for all.
        until_ms: event time to stop before, None for all.
        where: conditions, all of which must hold.
        follow: go on at the end of the topics instead of stopping.
    """

    topics: Sequence[str]
    since_ms: int | None = None
    until_ms: int | None = None
    where: Sequence[Condition] = field(default_factory=tuple)
    follow: bool = False

    def fits(self, one: Tailed) -> bool:
        """Return whether a record is to be shown."""
        if self.since_ms is not None and one.at < self.since_ms:
            return False
        if self.until_ms is not None and one.at >= self.until_ms:
            return False
        return all(condition.holds(one.record) for condition in self.where)


def condition(text: str) -> Condition:
    """Read a `--where`.

    Raises:
        TailError: it is none.
    """
    match = _CONDITION.match(text)
    if match is None:
        raise TailError(
            f"--where {text!r} is no condition. Write field=value, field!=value, field>number, "
            "field>=number, field<number or field<=number."
        )
    return Condition(match[1], match[2], match[3])


def moment(text: str, now: datetime) -> int:
    """Read a time: 15m, 2h or 7d before `now`, `now`, or ISO 8601 (UTC unless it says otherwise).

    Returns:
        Milliseconds since 1970 UTC.

    Raises:
        TailError: it is none of these.
    """
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if ago:
        when = now - timedelta(seconds=float(ago[1]) * _UNITS[ago[2]])
    elif text == "now":
        when = now
    else:
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            raise TailError(
                f"{text!r} is no time. Write 15m, 2h or 7d (ago), now, or 2026-03-01T12:00."
            ) from None
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return round(when.timestamp() * 1000)


async def tail(settings: Settings, selection: Selection) -> AsyncGenerator[Tailed, None]:
    """Yield the committed records that are selected, in the order of each partition.

    Ends at what was the end of every partition when it began, unless it follows.

    Raises:
        TailError: a topic does not exist, or no broker answers.
    """
    async with _consumer(settings) as consumer, CatalogReader(settings) as known:
        partitions = await _partitions(settings, selection.topics)
        consumer.assign(partitions)
        await _seek(consumer, partitions, selection.since_ms)
        ends = {} if selection.follow else await consumer.end_offsets(partitions)
        while selection.follow or await _unfinished(consumer, ends):
            fetched = await consumer.getmany(timeout_ms=POLL_MS)
            for messages in fetched.values():
                for message in messages:
                    inside = selection.follow or message.offset < ends[_place(message)]
                    one = read(message, await known.find_for(message.value))
                    if inside and selection.fits(one):
                        yield one


def read(message: Any, find: schemas.Find | None = None) -> Tailed:
    """Decode a message of `aiokafka`; never fails, what does not decode says so."""
    try:
        name, record = schemas.decode(message.value or b"", find)
    except schemas.DecodeError as error:
        name, record = (
            None,
            {
                "undecoded": "null value" if message.value is None else str(error),
                "size": len(message.value or b""),
            },
        )
    # Dead letters keep their original bytes; why they are here stands in the headers.
    headers = {
        key: None if value is None else value.decode("utf-8", "replace")
        for key, value in message.headers
    }
    if headers:
        record = {**record, "headers": headers}
    key = None if message.key is None else message.key.decode("utf-8", "replace")
    place = (message.topic, message.partition, message.offset, message.timestamp)
    return Tailed(*place, key, name, record)


def as_json(one: Tailed) -> str:
    """Return a record as one line of JSON: where it stands, then its fields by their names."""
    beside = {
        "topic": one.topic,
        "partition": one.partition,
        "offset": one.offset,
        "timestamp": one.timestamp,
        "key": one.key,
    }
    return json.dumps(beside | dict(one.record), default=_json_value)


def as_line(one: Tailed) -> str:
    """Return a record as one line for people: time, place, then what matters about it."""
    words = _LINES.get(one.schema or "", _plain)(one.record)
    if one.schema in _LINES and "headers" in one.record:
        words += f"  {one.record['headers']}"
    place = f"{one.topic}/{one.partition}@{one.offset}"
    return f"{clock(one.at)}  {place}  {words}"


def clock(at_ms: int) -> str:
    """Return a time as text, UTC, to the second."""
    try:
        when = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (OverflowError, OSError, ValueError):
        return f"{at_ms} ms"  # a corrupt record may claim any time
    return when.strftime("%Y-%m-%d %H:%M:%SZ")


def _same_kind(found: Any, wanted: str) -> bool:
    if found is None or isinstance(found, bool):
        return wanted == {None: "null", True: "true", False: "false"}[found]
    if isinstance(found, int | float):
        try:
            return bool(found == float(wanted))
        except ValueError:
            return False
    return str(found) == wanted


def _json_value(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)


@asynccontextmanager
async def _consumer(settings: Settings) -> AsyncIterator[Any]:
    consumer = BoundedConsumer(
        limits=Limits.of(settings),
        **connection(settings),
        client_id=f"{settings.app_id}-tail",
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=settings.max_record_bytes,
    )
    try:
        await consumer.start()
    except (KafkaError, OSError) as error:
        await consumer.stop()
        raise TailError(
            f"No Kafka broker answers at {settings.bootstrap_servers}: {error}. Set "
            "AGENTOPS_BOOTSTRAP_SERVERS, or start one here with `agentops-streams local up`."
        ) from error
    try:
        yield consumer
    finally:
        await consumer.stop()


async def _partitions(settings: Settings, topics: Sequence[str]) -> list[TopicPartition]:
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        await admin.start()
        described = await admin.describe_topics()
    finally:
        await admin.close()
    existing = {one["topic"]: [p["partition"] for p in one["partitions"]] for one in described}
    prefix = settings.topic_prefix
    found = []
    for topic in topics:
        name = topic if topic in existing else prefix + topic
        if name not in existing:
            ours = sorted(one.removeprefix(prefix) for one in existing if one.startswith(prefix))
            there = f"There are {', '.join(ours)}." if ours else f"None begins with {prefix}."
            raise TailError(
                f"There is no topic {topic} nor {name} at {settings.bootstrap_servers}. {there}"
            )
        found += [TopicPartition(name, p) for p in sorted(existing[name])]
    return found


async def _seek(consumer: Any, partitions: list[TopicPartition], since_ms: int | None) -> None:
    """Go to where the first record of `since_ms` can stand."""
    if since_ms is None:
        await consumer.seek_to_beginning(*partitions)
        return
    asked = dict.fromkeys(partitions, max(0, since_ms - AHEAD_MS))
    offsets = await consumer.offsets_for_times(asked)
    ends = await consumer.end_offsets(partitions)
    for partition in partitions:
        found = offsets.get(partition)
        consumer.seek(partition, ends[partition] if found is None else found.offset)


async def _unfinished(consumer: Any, ends: Mapping[TopicPartition, int]) -> bool:
    """Return whether a partition is not read to the end it had."""
    done = [one for one, end in ends.items() if await consumer.position(one) >= end]
    consumer.pause(*done)
    return len(done) < len(ends)


def _place(message: Any) -> TopicPartition:
    return TopicPartition(message.topic, message.partition)


def _who(record: Mapping[str, Any]) -> str:
    who = record.get("agent_id") or record.get("entity_id") or "?"
    return f"{record['tenant']}/{who}" if record.get("tenant") else str(who)


def _task(r: Mapping[str, Any]) -> str:
    error = f" {r['error_type']}" if r.get("error_type") else ""
    tokens = f"{r['input_tokens']}+{r['output_tokens']} tokens"
    return (
        f"{r['outcome']:<9} {_who(r)} {r['task_type']}{error} "
        f"{r['duration_ms']:.0f} ms ${r['cost_usd']:.6f} {tokens}"
    )


def _security(r: Mapping[str, Any]) -> str:
    blocked = "blocked" if r["blocked"] else "NOT BLOCKED"
    detail = " ".join(str(r[name]) for name in ("action", "detail_code") if r.get(name))
    return f"{r['severity']:<8} {r['kind']} {_who(r)} {blocked} {detail}".rstrip()


def _review(r: Mapping[str, Any]) -> str:
    """Leave out the words of a person, should there be any."""
    return f"{r['verdict']:<10} {_who(r)} {r['task_type']} {r['reason_code']} {r['task_event_id']}"


def _finding(r: Mapping[str, Any]) -> str:
    arm = f"/{r['arm']}" if r.get("arm") else ""
    return (
        f"{r['transition']:<9} {r['rule']}{arm} {_who(r)} {r['reason']} value {r['value']:.4g} "
        f"threshold {r['threshold']:.4g} n {r['sample_count']}"
    )


def _alert(r: Mapping[str, Any]) -> str:
    page = "page" if r["page"] else "no page"
    return f"{r['status']:<8} {r['severity']} {page} {r['rule']} {_who(r)}: {r['summary']}"


def _window(r: Mapping[str, Any]) -> str:
    return (
        f"{clock(r['window_start'])[5:16]} +1h {_who(r)} {r['task_type']} rev {r['revision']}: "
        f"{r['automated']} automated {r['escalated']} escalated {r['failed']} failed "
        f"${r['cost_micro_usd'] / 1e6:.4f}"
    )


def _plain(record: Mapping[str, Any]) -> str:
    shown = (f"{name}={_short(value)}" for name, value in record.items() if value is not None)
    return " ".join(shown)


def _short(value: Any) -> str:
    return f"<{len(value)} bytes>" if isinstance(value, bytes) else str(value)


_LINES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "TaskFinished": _task,
    "SecurityEvent": _security,
    "HumanReview": _review,
    "Finding": _finding,
    "Alert": _alert,
    "Window": _window,
}
