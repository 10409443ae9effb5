"""The producer examples in each language: what they write is what a worker takes."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streams import schemas
from streams.batch import FetchedBatch
from streams.codec import END_OF_TIME, SecurityDecoder, TaskDecoder
from streams.keys import Keys, key_of
from streams.limits import MAX_ID
from streams.provision import create_topics
from streams.registry import RegistryClient
from streams.settings import LOCAL_PARTITIONS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streams.local import LocalBroker

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
RECORDS = {"tasks": "TaskFinished", "security": "SecurityEvent"}
PARTITIONS = LOCAL_PARTITIONS

pytestmark = [
    pytest.mark.broker,
    pytest.mark.timeout(600),  # what Maven and Go fetch the first time
]


# -- how each example is built and started ------------------------------------------------------


def python(name: str) -> Callable[[Path], list[str]]:
    return lambda _: [sys.executable, "-W", "error", str(EXAMPLES / "python" / name)]


def java(folder: Path) -> list[str]:
    if shutil.which("mvn") is None or shutil.which("javac") is None:
        pytest.skip("the Java example needs mvn and a JDK on PATH: one of them is missing")
    # A copy: two test runs never build in one folder, and nothing stale is tested.
    ignored = shutil.ignore_patterns("target")
    shutil.copytree(EXAMPLES / "java", folder / "examples" / "java", ignore=ignored)
    shutil.copytree(ROOT / "schemas", folder / "schemas")
    run(["mvn", "-q", "-B", "package"], folder / "examples" / "java")
    sooner = "-XX:TieredStopAtLevel=1"
    return ["java", sooner, "-jar", str(folder / "examples" / "java" / "target" / "produce.jar")]


def go(folder: Path) -> list[str]:
    if shutil.which("go") is None:
        pytest.skip("the Go example needs go on PATH: it is missing")
    run(["go", "build", "-o", str(folder / "produce"), "."], EXAMPLES / "go")
    return [str(folder / "produce"), "--schemas", str(ROOT / "schemas")]


BUILDS = {
    "aiokafka": python("produce_aiokafka.py"),
    "confluent-kafka": python("produce_confluent.py"),
    "java": java,
    "go": go,
}


def run(command: list[str], folder: Path = ROOT) -> str:
    """Run a command and return what it printed; what it says of a failure is shown."""
    done = subprocess.run(  # noqa: PLW1510 - the assertion shows more than check=True
        command, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=500
    )
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session", params=BUILDS)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return how to start the example of a language, built once."""
    return BUILDS[request.param](tmp_path_factory.mktemp(request.param))


# -- the events ---------------------------------------------------------------------------------

AGENTS = (
    "claims-agent",
    "a",
    "with space",
    'quote " and \\ slash',
    "with/slash",
    "tab\tand\u0000null",
    "Zollprüfung-ß",
    "e\u0301 combining \u2028",
    "通関エージェント",
    "\U0001f916",
    "a" * MAX_ID,
    "\U0001f916" * MAX_ID,
)
TENANTS = (None, "acme", "Ökonomie/Süd", "株式会社")
DOUBLES = (0, 0.0, -0.0, 5e-324, 0.1 + 0.2, 1e-6, 1, 123456.789, 1e9, 1e12)
FEATURES: tuple[list[float], ...] = (
    [],
    [0.0, -0.0, 1e308, -1e308, 5e-324, 1 / 3],
    [n / 7 for n in range(-128, 128)],
)
LONGS = {"occurred_at": (0, 1, 1_767_225_600_000, END_OF_TIME - 1)}
TOKENS = (0, 1, 63, 64, 2**31, 2**40)
TEXTS = ("", "code", "ü" * MAX_ID)


def values(kind: Any, name: str) -> tuple[Any, ...]:
    """Return what a field of a type may hold, all enum symbols among it."""
    if isinstance(kind, list):
        return (None, *values(kind[1], name))
    if isinstance(kind, dict):
        if kind["type"] == "enum":
            return tuple(kind["symbols"])
        return FEATURES if kind["type"] == "array" else values(kind["type"], name)
    if kind == "double":
        limit = {"cost_usd": 1e9, "confidence": 1.0}.get(name, 1e12)
        return tuple(number for number in DOUBLES if number <= limit)
    named = {"agent_id": AGENTS, "tenant": TENANTS[1:], "task_type": AGENTS}
    plain = {"string": TEXTS, "long": TOKENS, "boolean": (False, True)}
    return named.get(name) or LONGS.get(name) or plain[kind]


def made(topic: str, count: int) -> Iterator[dict[str, Any]]:
    """Yield events of a topic; each field goes through its values at a pace of its own."""
    fields = schemas.schema(RECORDS[topic])["fields"]
    kinds = [(field["name"], values(field["type"], field["name"])) for field in fields]
    for row in range(count):
        record = {
            name: choices[(row // (1 + place % 3) + place) % len(choices)]
            for place, (name, choices) in enumerate(kinds)
        }
        record["event_id"] = f"{topic}-{row}"
        if row % 3 == 0:  # left out altogether
            defaults = {field["name"] for field in fields if "default" in field}
            record = {name: value for name, value in record.items() if name not in defaults}
        event = {"topic": topic, "record": record}
        if row % 2:
            event["traceparent"] = f"00-{row + 1:032x}-{row + 1:016x}-01"
        yield event


WORKED = {
    "event_id": "e-1",
    "occurred_at": 1_767_225_600_000,
    "agent_id": "claims-agent",
    "kind": "INJECTION_ATTEMPT",
    "severity": "HIGH",
    "blocked": False,
}
"""The worked example of docs/producing.md."""
EVENTS = [
    *made("tasks", 150),
    *made("security", 60),
    {"topic": "security", "record": WORKED},
]


def complete(topic: str, record: dict[str, Any]) -> str:
    """Return a record with its defaults, as text: 0.0 and -0.0 are equal otherwise."""
    whole: dict[str, Any] = {}
    for field in schemas.schema(RECORDS[topic])["fields"]:
        value = record.get(field["name"], field.get("default"))
        if isinstance(value, list):
            value = [float(number) for number in value]
        elif value is not None and "double" in field["type"]:
            value = float(value)
        whole[field["name"]] = value
    return repr(whole)


# -- what came of it ----------------------------------------------------------------------------


class Produced(NamedTuple):
    """What an example printed, what the broker then had, and the schemas by their frame."""

    settings: Settings
    printed: list[str]
    batches: dict[str, list[FetchedBatch]]
    schemas: dict[bytes, schemas.Schema]

    def rows(self) -> Iterator[tuple[str, FetchedBatch, int]]:
        for topic, batches in self.batches.items():
            for batch in batches:
                for row in range(len(batch)):
                    yield topic, batch, row

    def decode(self, batch: FetchedBatch, row: int) -> tuple[str, dict[str, Any]]:
        return schemas.decode(batch.values[row] or b"", self.schemas.get)

    def refused(self) -> list[str]:
        """Return why workers refuse records; none is good."""
        find = self.schemas.get
        tasks = TaskDecoder(partitions=PARTITIONS, find=find)
        security = SecurityDecoder(partitions=PARTITIONS, find=find)
        found = [each for batch in self.batches["tasks"] for each in tasks.decode(batch).refused]
        for batch in self.batches["security"]:
            found += security.decode(batch).refused
        return [f"{each.reason}: {each.detail}" for each in found]


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of all events, every other line in plain ASCII."""
    lines = [json.dumps(event, ensure_ascii=n % 2 == 0) for n, event in enumerate(EVENTS)]
    path = tmp_path_factory.mktemp("events") / "events.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session", params=["single objects", "registry"])
def produced(
    request: pytest.FixtureRequest, example: list[str], broker: LocalBroker, file: Path
) -> Produced:
    """Return what came of the file, once without a schema registry and once with one."""
    if request.param == "single objects":
        return start(example, broker, None, "--verbose", str(file))
    registry = request.getfixturevalue("registry")
    return start(example, broker, registry.url, "--verbose", str(file))


def start(
    example: list[str], broker: LocalBroker, registry: str | None, *arguments: str
) -> Produced:
    """Run an example with topics of its own."""
    settings = Settings(
        bootstrap_servers=broker.bootstrap,
        topic_prefix=f"t{uuid.uuid4().hex[:10]}.",
        partitions=PARTITIONS,
        registry_url=registry,
    )
    asyncio.run(create_topics(settings))
    where = ["--bootstrap", broker.bootstrap, "--prefix", settings.topic_prefix]
    where += [] if registry is None else ["--registry", registry]
    printed = run([*example, *where, *arguments]).splitlines()
    return asyncio.run(outcome(settings, printed))


async def outcome(settings: Settings, printed: list[str]) -> Produced:
    batches = {topic: await fetched(settings, topic) for topic in RECORDS}
    if settings.registry_url is None:
        known = {schemas.get(name).frame: schemas.get(name) for name in RECORDS.values()}
        return Produced(settings, printed, batches, known)
    known = {}
    async with RegistryClient.of(settings) as registry:
        for topic in RECORDS:
            found = await registry.version(f"{settings.topic(topic)}-value", "latest")
            assert found is not None
            known[schemas.registry_frame(found.id)] = schemas.parse(found.schema)
    return Produced(settings, printed, batches, known)


async def fetched(settings: Settings, suffix: str) -> list[FetchedBatch]:
    """Return all that a topic holds, one batch a partition."""
    topic = settings.topic(suffix)
    places = [TopicPartition(topic, number) for number in range(settings.partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers)
    await consumer.start()
    try:
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        rows: dict[TopicPartition, list[Any]] = {place: [] for place in places}
        while any(len(rows[place]) < ends[place] for place in places):
            for place, found in (await consumer.getmany(timeout_ms=1000)).items():
                rows[place] += found
        return [batch_of(place, found) for place, found in rows.items()]
    finally:
        await consumer.stop()


def batch_of(place: TopicPartition, rows: list[Any]) -> FetchedBatch:
    return FetchedBatch(
        topic=place.topic,
        partition=place.partition,
        incarnation=0,
        fetch_from=0,
        next_offset=len(rows),
        offsets=np.array([row.offset for row in rows], np.int64),
        timestamps=np.array([row.timestamp for row in rows], np.int64),
        keys=[row.key for row in rows],
        values=[row.value for row in rows],
        headers=[row.headers for row in rows],
    )


def test_all_records_are_read_back_as_they_stand_in_the_file(produced: Produced) -> None:
    expected = {e["record"]["event_id"]: complete(e["topic"], e["record"]) for e in EVENTS}

    found = {}
    for topic, batch, row in produced.rows():
        name, record = produced.decode(batch, row)
        assert name == RECORDS[topic]
        found[record["event_id"]] = repr(record)

    assert sum(1 for _ in produced.rows()) == len(EVENTS)
    assert found == expected


def test_each_record_starts_with_the_frame_that_was_asked_for(produced: Produced) -> None:
    found = {schemas.frame_of(batch.values[row] or b"") for _, batch, row in produced.rows()}

    assert found == produced.schemas.keys()


def test_the_worked_example_is_written_with_exactly_the_bytes_of_the_page(
    produced: Produced,
) -> None:
    page = (ROOT / "docs" / "producing.md").read_text(encoding="utf-8")
    text = page.partition("### A worked example")[2].partition("\n#")[0]
    lines = re.findall(r"^((?:[0-9a-f]{2} )*[0-9a-f]{2})  ", text, re.MULTILINE)
    body = bytes.fromhex("".join(lines))[schemas.FRAME :]

    frames = [mark for mark, found in produced.schemas.items() if found.name == "SecurityEvent"]

    values = [batch.values[row] or b"" for _, batch, row in produced.rows()]

    assert [value for value in values if value.endswith(body)] == [frames[0] + body]


def test_a_worker_refuses_none_of_them(produced: Produced) -> None:
    assert produced.refused() == []


def test_each_key_names_its_agent_and_stands_in_its_partition(produced: Produced) -> None:
    keys = Keys(PARTITIONS)
    expected = {e["record"]["event_id"]: e["record"] for e in EVENTS}

    for _, batch, row in produced.rows():
        _, found = produced.decode(batch, row)
        record = expected[found["event_id"]]
        key = key_of(record.get("tenant"), record["agent_id"])
        assert (batch.keys[row], batch.partition) == (key, keys.place(key))


def test_the_trace_of_an_event_is_in_a_header_of_its_record(produced: Produced) -> None:
    expected = {e["record"]["event_id"]: e.get("traceparent") for e in EVENTS}

    found = {}
    for _, batch, row in produced.rows():
        _, record = produced.decode(batch, row)
        trace = dict(batch.headers[row]).get("traceparent")
        found[record["event_id"]] = trace and trace.decode()

    assert found == expected


def test_what_was_sent_is_printed_with_its_place(produced: Produced) -> None:
    places = [f"{b.topic} {b.partition} {b.offsets[row]}" for _, b, row in produced.rows()]

    assert sorted(produced.printed) == sorted([*places, f"sent {len(EVENTS)} records"])


def test_without_a_file_it_sends_a_task_and_a_security_event(
    example: list[str], broker: LocalBroker
) -> None:
    produced = start(example, broker, None)

    # One language also shows a call and a review; the others would only repeat it.
    count = 4 if example[-1].endswith("produce_aiokafka.py") else 2
    assert produced.printed == [f"sent {count} records"]
    assert sorted(topic for topic, _, _ in produced.rows()) == ["security", "tasks"]
    assert produced.refused() == []
