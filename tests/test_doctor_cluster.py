from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from streams import doctor_cluster
from streams.diagnosis import Status
from streams.doctor_cluster import (
    BrokerAwayError,
    Cluster,
    PartitionSeen,
    TopicSeen,
    connect,
    judge_brokers,
    judge_topics,
    release_of,
)
from streams.provision import ProblemKind, TopicProblem
from streams.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence


def cluster(*topics: TopicSeen, unreachable: Sequence[int] = ()) -> Cluster:
    named = {f"t{number}": topic for number, topic in enumerate(topics)}
    return Cluster(0.1, {1: "kafka:9092"}, unreachable, "4.1", named)


def topic(*partitions: tuple[int, int, int], min_in_sync: int = 1) -> TopicSeen:
    seen = {number: PartitionSeen(*one) for number, one in enumerate(partitions)}
    return TopicSeen(0, seen, 0, min_in_sync)


@pytest.mark.parametrize(
    ("level", "release"),
    [(7, "3.3"), (26, "4.1"), (27, "4.1"), (40, "later than 4.2"), (0, None), (-1, None)],
)
def test_the_release_is_derived_from_its_features(level: int, release: str | None) -> None:
    assert release_of({"metadata.version": (1, level)} if level >= 0 else {}) == release


def test_a_broker_that_is_not_where_it_says_is_named_with_advertised_listeners() -> None:
    (said,) = judge_brokers(cluster(unreachable=[1]), Settings())

    assert said.status is Status.FAIL
    assert "kafka:9092" in said.found
    assert "advertised.listeners" in str(said.cure)


@pytest.mark.parametrize(
    ("seen", "status", "words"),
    [
        (topic((1, 3, 3), min_in_sync=2), Status.OK, "All 1 exist"),
        (topic((-1, 3, 0), (1, 3, 3), min_in_sync=2), Status.FAIL, "partitions 0 have no leader"),
        (topic((1, 3, 1), min_in_sync=2), Status.FAIL, "fewer copies in sync"),
        (topic((1, 3, 2), min_in_sync=2), Status.WARN, "copies that are behind"),
        (topic((1, 3, 3), min_in_sync=4), Status.FAIL, "nobody can write"),
        (topic((1, 2, 2), min_in_sync=2), Status.WARN, "fewer than replication"),
        (topic((1, 3, 3), min_in_sync=1), Status.WARN, "answered by one copy"),
    ],
)
def test_copies_of_topics(seen: TopicSeen, status: Status, words: str) -> None:
    said = judge_topics(cluster(seen), [], Settings(replication=3))

    assert said[0].status is status
    assert words in said[0].found


def test_the_same_thing_about_many_topics_is_one_line() -> None:
    many = [topic((1, 3, 3), min_in_sync=1)] * 5

    (said,) = judge_topics(cluster(*many), [], Settings(replication=3))

    assert said.found.startswith("t0, t1, t2 and 2 more: ")


def test_a_topic_setting_is_odd_and_a_wrong_count_of_partitions_fails() -> None:
    problems = [
        TopicProblem("t0", kind, "x", "y", "Do it.")
        for kind in (ProblemKind.CONFIG, ProblemKind.PARTITIONS)
    ]

    said = judge_topics(cluster(topic((1, 1, 1))), problems, Settings())

    assert [one.status for one in said] == [Status.WARN, Status.FAIL]


async def test_a_server_that_never_answers_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_cluster, "CONNECT_SECONDS", 0.2)
    taken: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1")
    port = server.sockets[0].getsockname()[1]

    with pytest.raises(BrokerAwayError, match="does not answer in time"):
        await connect(Settings(bootstrap_servers=f"127.0.0.1:{port}"))

    server.close()
    for writer in taken:
        writer.close()
        await writer.wait_closed()


async def test_a_host_that_does_not_exist_is_said_so() -> None:
    with pytest.raises(BrokerAwayError, match=r"nowhere\.invalid:9092: "):
        await connect(Settings(bootstrap_servers="nowhere.invalid:9092"))
