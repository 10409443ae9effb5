"""The doctor on clocks: those of producers by their records, those of brokers by asking them."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code

from streams.clock import AHEAD
from streams.connection import connection
from streams.diagnosis import Check, Diagnosis, bad, good, listed, odd, skipped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streams.doctor_samples import Sampled
    from streams.settings import Settings

ODD_MS = 5_000
"""A clock that is off by more is worth a look: rules are evaluated every 5 s of event time."""
BAD_MS = AHEAD
"""A clock that is off by more costs records: events further ahead are refused."""
_TRIES = 3
_CURE = "Synchronise the clocks (NTP) of these producers, or of this machine."


@dataclass(frozen=True, slots=True)
class BrokerClock:
    """How far a broker's clock is ahead of the one here, ms, give or take `within`."""

    ahead: float
    within: float


def judge_producers(samples: Sequence[Sampled], now_ms: int) -> list[Diagnosis]:
    """Compare producers' clocks and event times with each other and with the clock here.

    Args:
        samples: newest records, in the order of each partition.
        now_ms: this machine's clock, read after the records.
    """
    check = Check.CLOCKS
    if not samples:
        return [skipped(check, "No records could be read from the input topics.")]
    said = []
    ahead = [one for one in samples if one.timestamp > now_ms + ODD_MS]
    if ahead:
        most = max(one.timestamp for one in ahead) - now_ms
        what = f"{_who(ahead)} sent records up to {_span(most)} ahead of the clock here."
        said.append((bad if most > BAD_MS else odd)(check, what, _CURE))
    behind, most = _behind(samples)
    if behind:
        what = f"{_who(behind)} sent records up to {_span(most)} older than those before them."
        cure = f"{_CURE} Replays and long retries look the same, and need nothing."
        said.append(odd(check, what, cure))
    future = [one for one in samples if _lead(one) > AHEAD]
    if future:
        what = f"{_who(future)} sent events up to {_span(max(map(_lead, future)))} ahead of the "
        what += "time they were sent."
        cure = "Set occurred_at to the time it happened, in ms since 1970 UTC: these are dead "
        said.append(bad(check, what, f"{cure}letters FUTURE."))
    if said:
        return said
    age = _span(max(0, now_ms - max(one.timestamp for one in samples)))
    leads = [-_lead(one) for one in samples if one.occurred_at is not None]
    sent = f", sent {_span(median(leads))} after the event (median)" if leads else ""
    return [
        good(check, f"No clock is ahead in {len(samples)} records; the newest is {age} old{sent}.")
    ]


def _behind(samples: Sequence[Sampled]) -> tuple[list[Sampled], int]:
    """Return records far older than one before them in their partition, and by how much, ms."""
    newest: dict[tuple[str, int], int] = {}
    behind, most = [], 0
    for one in samples:
        place = (one.topic, one.partition)
        lag = newest.get(place, one.timestamp) - one.timestamp
        newest[place] = max(newest.get(place, one.timestamp), one.timestamp)
        if lag > BAD_MS:
            behind.append(one)
            most = max(most, lag)
    return behind, most


def _lead(one: Sampled) -> int:
    """Return how far the event time is ahead of the time of sending, ms."""
    return 0 if one.occurred_at is None else one.occurred_at - one.timestamp


def judge_brokers(clocks: Mapping[int, BrokerClock]) -> list[Diagnosis]:
    """Say how far brokers' clocks are off."""
    said = []
    for node, clock in clocks.items():
        off = abs(clock.ahead) - clock.within
        if off > ODD_MS:
            way = "ahead of" if clock.ahead > 0 else "behind"
            what = f"Broker {node} is {_span(abs(clock.ahead))} {way} the clock here."
            cure = "Synchronise the clocks (NTP) of that broker, or of this machine."
            said.append((bad if off > BAD_MS else odd)(Check.BROKER_CLOCK, what, cure))
    worst = max((abs(clock.ahead) + clock.within for clock in clocks.values()), default=0)
    told = f"The clocks of {len(clocks)} of the brokers are within {_span(worst)} of the one here."
    return said or [good(Check.BROKER_CLOCK, told)]


async def probe(settings: Settings, brokers: int) -> dict[int, BrokerClock]:
    """Ask brokers for their time: write to a topic of our own that stamps records itself.

    The topic has a partition for each broker and is deleted afterwards.

    Raises:
        KafkaError: the topic could not be made or written.
    """
    name = f"{settings.topic_prefix}doctor-{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(**connection(settings), client_id=f"{settings.app_id}-doctor")
    await admin.start()
    try:
        stamped = {"message.timestamp.type": "LogAppendTime", "retention.ms": "3600000"}
        answer = await admin.create_topics([NewTopic(name, brokers, 1, topic_configs=stamped)])
        for _, code, *message in answer.topic_errors:
            if code:
                raise for_code(code)(message[0] if message else name)
        try:
            return await _ask_times(settings, name, brokers)
        finally:
            await admin.delete_topics([name])
    finally:
        await admin.close()


async def _ask_times(settings: Settings, topic: str, partitions: int) -> dict[int, BrokerClock]:
    producer = AIOKafkaProducer(**connection(settings), client_id=f"{settings.app_id}-doctor")
    await producer.start()
    try:
        found: dict[int, BrokerClock] = {}
        for partition in range(partitions):
            for _ in range(_TRIES):  # the first one also waits for the topic and a connection
                before = time.time()
                sent = await producer.send_and_wait(topic, b"time", partition=partition)
                after = time.time()
                half = (after - before) * 500
                # Kafka's stamp is a whole millisecond.
                clock = BrokerClock(sent.timestamp - (before + after) * 500, half + 1)
                node = producer.client.cluster.leader_for_partition(sent.topic_partition)
                if node not in found or clock.within < found[node].within:
                    found[node] = clock
        return found
    finally:
        await producer.stop()


def _who(samples: Iterable[Sampled]) -> str:
    """Return whose records these are."""
    keys = dict.fromkeys((one.topic, one.key) for one in samples)
    shown = [
        f"{'a record without a key' if key is None else repr(key.decode(errors='replace')[:80])} "
        f"on {topic}"
        for topic, key in keys
    ]
    return listed(shown)


def _span(ms: float) -> str:
    """Return a time span as people say it."""
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")):
        if abs(ms) >= size:
            return f"{ms / size:.1f} {unit}"
    return f"{ms:.0f} ms"
