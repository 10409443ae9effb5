"""All topics and stages together: what is said depends on the logs, not on how they are read."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition

from streams import schemas
from streams.durations import DAY
from streams.provision import create_topics
from tests.worker_rig import REAL, Workers, producer
from tests.workforce_rig import Run, workforce

if TYPE_CHECKING:
    from pathlib import Path

    from streams.settings import Settings
    from tests.workforce_rig import Log

DAYS = 7


@pytest.fixture(scope="module")
def logs() -> dict[str, Log]:
    return workforce(1, DAYS)


@pytest.fixture(scope="module")
def plain(logs: dict[str, Log]) -> Run:
    run = Run()
    run.play(logs, lambda: 2_000, lambda: False)
    return run


def by_id(records: list[dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    found = {record[name]: record for record in records}
    assert len(found) == len(records), f"{name} twice"
    return found


def newest(run: Run) -> dict[bytes | None, bytes | None]:
    """Return the last record of each window."""
    return dict(run.outputs["windows"])


@pytest.mark.parametrize("seed", range(1))
def test_cuts_order_and_restarts_change_nothing(
    logs: dict[str, Log], plain: Run, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    run = Run()
    run.play(logs, lambda: int(rng.integers(1, 3_000)), lambda: bool(rng.random() < 0.1))

    assert by_id(run.decoded("findings"), "finding_id") == by_id(
        plain.decoded("findings"), "finding_id"
    )
    assert newest(run) == newest(plain)
    assert by_id(run.decoded("training-signals"), "review_event_id") == by_id(
        plain.decoded("training-signals"), "review_event_id"
    )


def test_every_topic_has_its_say(plain: Run) -> None:
    rules = {record["rule"] for record in plain.decoded("findings")}

    assert {"error-rate", "security", "integration-errors", "queue"} <= rules
    assert {record["series"] for record in plain.decoded("windows")} >= {
        "TASKS",
        "CALLS",
        "REVIEWS",
        "QUEUE",
        "INTEGRATION",
        "TASK_TYPE",
        "FLEET",
    }
    assert plain.decoded("retraining")


def test_a_finding_names_the_change_before_it_and_what_the_agent_calls(plain: Run) -> None:
    fired = [
        record
        for record in plain.decoded("findings")
        if record["rule"] == "error-rate" and record["transition"] == "FIRING"
    ]

    assert fired
    assert {record["entity_id"] for record in fired} == {"a"}
    assert fired[0]["change_ref"] is not None
    assert "PROMPT v17 to v18" in fired[0]["change_ref"]
    assert fired[0]["integrations"] == ["erp"]


def test_task_types_add_up_to_the_same_as_agents(plain: Run) -> None:
    totals: dict[tuple[str, int], int] = {}
    newest = zip(plain.outputs["windows"], plain.decoded("windows"), strict=True)
    for record in {key: record for (key, _), record in newest}.values():
        if record["series"] in {"TASKS", "TASK_TYPE", "FLEET"}:
            place = record["series"], record["window_start"]
            totals[place] = totals.get(place, 0) + record["automated"] + record["failed"]
    hours = {hour for series, hour in totals if series == "FLEET"}
    last = max(hours)

    assert len(hours) > 150
    for hour in hours - {last}:
        assert totals["TASKS", hour] == totals["TASK_TYPE", hour] == totals["FLEET", hour]


BESIDE = frozenset({"first_offset", "last_offset"})
"""Fields that say where in the partials the numbers lie: these are cut anew in each run."""


@pytest.mark.broker
@pytest.mark.slow
async def test_a_killed_worker_says_of_every_topic_what_one_says_that_never_was(
    settings: Settings, tmp_path: Path
) -> None:
    one = settings.model_copy(update={"partitions": 1})
    await create_topics(one)
    # Records of long ago would be deleted by the broker, whose retention counts from their time.
    logs = workforce(2, 6, int(time.time() * 1000) // DAY * DAY - 6 * DAY)
    plain = Run(one.model_copy(update={"partitioner": "unchecked"}))
    plain.play(logs, lambda: 1_000, lambda: False)
    workers = Workers(one, REAL)
    try:
        async with producer(one) as made:
            for topic, log in logs.items():
                for stamp, key, value in log:
                    await made.send(one.topic(topic), value, key, timestamp_ms=stamp)
        first = workers.start(tmp_path, AGENTOPS_IDLE_AFTER="0")
        while len(await said(one, "windows")) < 20:
            assert first.poll() is None
        first.kill()
        workers.start(tmp_path, AGENTOPS_IDLE_AFTER="0")
        windows = newest(plain)
        deadline = time.monotonic() + 60
        while dict(await said(one, "windows")) != windows:
            assert time.monotonic() < deadline, "the windows are not those of the log"
        found = by_id(decoded(await said(one, "findings")), "finding_id")
        signals = by_id(decoded(await said(one, "training-signals")), "review_event_id")
        alerts = decoded(await said(one, "alerts"))
    finally:
        workers.close()

    expected = by_id(plain.decoded("findings"), "finding_id")
    assert found.keys() == expected.keys()
    for name, finding in found.items():
        assert {key: finding[key] for key in finding.keys() - BESIDE} == {
            key: expected[name][key] for key in finding.keys() - BESIDE
        }
    assert signals == by_id(plain.decoded("training-signals"), "review_event_id")
    resolved = Counter(one["alert_id"] for one in alerts if one["status"] == "RESOLVED")
    assert set(resolved.values()) == {1}


def decoded(records: list[tuple[bytes, bytes]]) -> list[dict[str, Any]]:
    return [schemas.decode(value)[1] for _, value in records]


async def said(settings: Settings, topic: str) -> list[tuple[bytes, bytes]]:
    """Return the committed records of a topic of one partition."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers, isolation_level="read_committed"
    )
    await consumer.start()
    try:
        place = TopicPartition(settings.topic(topic), 0)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end = (await consumer.end_offsets([place]))[place]
        found: list[tuple[bytes, bytes]] = []
        while await consumer.position(place) < end:
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += [(one.key, one.value) for one in batch]
        return found
    finally:
        await consumer.stop()
