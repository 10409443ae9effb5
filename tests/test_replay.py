from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import fastavro
import pytest

from streams import replay, schemas
from streams.provision import create_topics
from streams.replay import Pace, ReplayError, Survey
from streams.settings import Settings
from streams.tail import Selection, tail

if TYPE_CHECKING:
    from pathlib import Path

START = 1_700_000_000_000


def task(number: int, at: int, **others: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "occurred_at": at,
        "tenant": None,
        "agent_id": f"agent-{number % 3}",
        "trace_id": None,
        "task_type": "one",
        "outcome": "AUTOMATED",
        "error_type": None,
        "duration_ms": 1.0,
        "cost_usd": 0.5,
        "input_tokens": 1,
        "output_tokens": 2,
        "cached_tokens": None,
        "confidence": None,
        "model": None,
        "prompt_version": None,
        "agent_version": None,
        "trust_tier": None,
        "input_features": [],
    } | others


def avro_file(path: Path, name: str, records: list[dict[str, Any]]) -> Path:
    with path.open("wb") as out:
        fastavro.writer(out, schemas.schema(name), records)
    return path


def json_file(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def security(at: int) -> dict[str, Any]:
    return {
        "topic": "agentops.security",
        "offset": 7,
        "event_id": "s",
        "occurred_at": at,
        "tenant": "acme",
        "agent_id": "guard",
        "kind": "OTHER",
        "severity": "LOW",
        "blocked": True,
    }


def test_files_are_merged_by_event_time_each_in_its_own_order(tmp_path: Path) -> None:
    late = [task(1, START + 10), task(2, START + 5), task(3, START + 30)]
    one = avro_file(tmp_path / "a.avro", "TaskFinished", late)
    two = json_file(tmp_path / "b.jsonl", [security(START + 7), security(START + 20)])

    found = list(replay.events([one, two]))

    assert [event.at - START for event in found] == [7, 10, 5, 20, 30]
    assert replay.survey([one, two]) == Survey(5, START + 5, START + 30)


def test_an_event_is_shifted_keyed_by_agent_and_keeps_its_fields(tmp_path: Path) -> None:
    path = json_file(tmp_path / "a.jsonl", [security(START)])
    (event,) = replay.events([path])

    out = replay.shifted(event, 500)

    assert (out.topic, out.key) == ("security", b"acme/guard")
    name, record = schemas.decode(out.value or b"")
    assert name == "SecurityEvent"
    assert record["occurred_at"] == START + 500
    assert record["tenant"] == "acme"


def test_a_container_of_an_older_writer_gets_the_defaults(tmp_path: Path) -> None:
    old = schemas.schema("TaskFinished")
    old = old | {"fields": [field for field in old["fields"] if field["name"] != "model"]}
    path = tmp_path / "old.avro"
    with path.open("wb") as out:
        fastavro.writer(out, old, [task(1, START)])

    (event,) = replay.events([path])

    assert event.record["model"] is None
    assert event.at == START


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not json\n", "line 1: expected a JSON object"),
        ('{"topic": "tasks"}\n', "line 1: expected a JSON object with topic, occurred_at"),
        ('{"topic": "tasks", "undecoded": "null value"}\n', "line 1: .* --where undecoded=null"),
        ('\n{"topic": "alerts", "occurred_at": 1}\n', "line 2: topic 'alerts' is not replayed"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)

    with pytest.raises(ReplayError, match=words):
        list(replay.events([path]))


def test_a_missing_file_other_bytes_and_other_records_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b.avro").write_bytes(b"no container at all")
    other = {"type": "record", "name": "Other", "fields": [{"name": "a", "type": "long"}]}
    with (tmp_path / "c.avro").open("wb") as out:
        fastavro.writer(out, other, [{"a": 1}])

    with pytest.raises(ReplayError, match=r"a\.avro cannot be read: No such file"):
        replay.survey([tmp_path / "a.avro"])
    with pytest.raises(ReplayError, match="cannot be read as an Avro object container"):
        replay.survey([tmp_path / "b.avro"])
    with pytest.raises(ReplayError, match="holds Other; records to replay are AgentProfile"):
        replay.survey([tmp_path / "c.avro"])


def test_a_record_with_a_wrong_field_is_named_by_its_event_id(tmp_path: Path) -> None:
    path = json_file(tmp_path / "a.jsonl", [security(START) | {"blocked": "yes", "extra": 1}])
    (event,) = replay.events([path])

    with pytest.raises(ReplayError, match="Event s is no SecurityEvent"):
        replay.shifted(event, 0)


def test_to_now_lands_the_last_event_at_the_moment_it_is_produced() -> None:
    hour = Survey(2, START, START + 3_600_000)
    now = START + 999_000_000

    assert Pace().shift_ms(hour, now) == 0
    assert START + 3_600_000 + Pace(to_now=True).shift_ms(hour, now) == now
    paced = Pace(speed=60, to_now=True).shift_ms(hour, now)
    assert START + 3_600_000 + paced == now + 60_000


@pytest.mark.parametrize("servers", ["127.0.0.1:9092", "localhost:1,127.9.9.9:2", "[::1]:9092"])
def test_a_broker_on_this_machine_is_accepted(servers: str) -> None:
    replay.require_loopback(Settings.model_construct(bootstrap_servers=servers), yes=False)


@pytest.mark.parametrize("servers", ["kafka-1:9092", "127.0.0.1:1,10.0.0.1:2", "localhost.evil:1"])
def test_a_broker_elsewhere_is_refused_unless_wanted(servers: str) -> None:
    settings = Settings.model_construct(bootstrap_servers=servers)

    with pytest.raises(ReplayError, match="is not on this machine"):
        replay.require_loopback(settings, yes=False)
    replay.require_loopback(settings, yes=True)


@pytest.mark.broker
async def test_replayed_events_arrive_shifted_and_in_order(
    settings: Settings, tmp_path: Path
) -> None:
    await create_topics(settings)
    records = [task(number, START + 10 * number) for number in range(5_000)]
    path = avro_file(tmp_path / "a.avro", "TaskFinished", records)
    advanced: list[int] = []

    sent = await replay.replay([path], settings, Pace(to_now=True), advanced.append)

    assert sent.count == sum(advanced) == 5_000
    seen = [one async for one in tail(settings, Selection(["tasks"]))]
    by_partition: dict[int, list[int]] = {}
    for one in seen:
        by_partition.setdefault(one.partition, []).append(one.at)
        # The Kafka timestamp is the time of production, which the last event is shifted to.
        assert 0 <= one.timestamp - sent.last_ms < 60_000
    assert sum(map(len, by_partition.values())) == 5_000
    assert all(times == sorted(times) for times in by_partition.values())
    assert {one.key for one in seen} == {"agent-0", "agent-1", "agent-2"}


@pytest.mark.broker
async def test_a_speed_spreads_the_events_over_time(settings: Settings, tmp_path: Path) -> None:
    await create_topics(settings)
    path = avro_file(
        tmp_path / "a.avro", "TaskFinished", [task(n, START + 600 * n) for n in range(11)]
    )

    await replay.replay([path], settings, Pace(speed=4.0))

    stamps = sorted([one.timestamp async for one in tail(settings, Selection(["tasks"]))])
    assert 1_300 < stamps[-1] - stamps[0] < 4_000
    assert len(set(stamps)) > 8


@pytest.mark.broker
async def test_a_missing_topic_is_named_with_its_cure(settings: Settings, tmp_path: Path) -> None:
    path = avro_file(tmp_path / "a.avro", "TaskFinished", [task(1, START)])

    with pytest.raises(RuntimeError, match=r"There is no topic .*tasks .*topics create"):
        await replay.replay([path], settings, Pace())


async def test_no_broker_is_one_clear_sentence(tmp_path: Path) -> None:
    path = avro_file(tmp_path / "a.avro", "TaskFinished", [task(1, START)])

    with pytest.raises(RuntimeError, match=r"No Kafka broker answers at 127\.0\.0\.1:1"):
        await replay.replay([path], Settings(bootstrap_servers="127.0.0.1:1"), Pace())
