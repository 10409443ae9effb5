"""The dead letters on a broker, read in order and in bounded memory, however many there are.

A letter and the marker that it was replayed stand on the same partition, the marker later. So the
markers are read first, all of them, as one bit an offset; the letters are streamed afterwards.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streams.connection import connection
from streams.dead_letters import Letter, letter_of, marked

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

    from streams.settings import Settings

    Advance = Callable[[int], None]

FETCH_BYTES = 256 * 1024
"""Of one partition at once: letters compress well, and are held unpacked."""
FETCH_RECORDS = 1_000
POLL_MS = 250

_PLACE = re.compile(r"(\d{1,9})@(\d{1,18})")


class LettersError(RuntimeError):
    """The dead letters cannot be read, or one that was named is not there."""


class Place(NamedTuple):
    """Where a letter stands."""

    partition: int
    offset: int

    def __str__(self) -> str:
        """Return it as the commands take it."""
        return f"{self.partition}@{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read PARTITION@OFFSET.

        Raises:
            ValueError: it is something else.
        """
        found = _PLACE.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text!r} names no letter. Write PARTITION@OFFSET as `dead-letters list` prints "
                "it, such as 3@1042."
            )
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant; what is None or empty chooses all.

    Attributes:
        reasons: their reasons.
        topics: names on the broker of the topics they were on.
        since_ms, until_ms: when they were set aside; the second is not included.
        only: these alone.
    """

    reasons: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    since_ms: int | None = None
    until_ms: int | None = None
    only: frozenset[Place] = field(default_factory=frozenset)

    def fits(self, letter: Letter) -> bool:
        """Return whether a letter is meant."""
        return (
            (not self.only or (letter.partition, letter.offset) in self.only)
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.topics or letter.topic in self.topics)
            and (self.since_ms is None or letter.timestamp >= self.since_ms)
            and (self.until_ms is None or letter.timestamp < self.until_ms)
        )


class Span(NamedTuple):
    """What to read of a partition: letters of [first, stop), markers of [first, end)."""

    first: int
    stop: int
    end: int


class Marks:
    """The offsets of one partition that are marked as replayed; one bit an offset."""

    def __init__(self, first: int) -> None:
        self._first = first
        self._bits = bytearray()

    def add(self, offset: int) -> None:
        """Take in an offset; one below the first is of no concern."""
        place, bit = divmod(offset - self._first, 8)
        if place < 0:
            return
        if place >= len(self._bits):
            self._bits.extend(bytes(max(place + 1 - len(self._bits), 4096)))
        self._bits[place] |= 1 << bit

    def __contains__(self, offset: int) -> bool:
        place, bit = divmod(offset - self._first, 8)
        return 0 <= place < len(self._bits) and bool(self._bits[place] >> bit & 1)


class LetterBox:
    """Reads the dead-letters topic, committed records only; made by `open_box`.

    Attributes:
        topic: its name on the broker.
        counts: topic on the broker → number of its partitions.
    """

    def __init__(self, settings: Settings, consumer: Any, counts: Mapping[str, int]) -> None:
        self.topic = settings.topic("dead-letters")
        self.counts = counts
        self._settings = settings
        self._consumer = consumer

    async def spans(self, choice: Choice) -> dict[int, Span]:
        """Return what has to be read for a choice, as the topic is now.

        Raises:
            LettersError: a letter is named on a partition that is not there.
        """
        count = self.counts[self.topic]
        named = sorted({place.partition for place in choice.only})
        if named and named[-1] >= count:
            raise LettersError(
                f"{self.topic} has no partition {named[-1]}; they are 0 to {count - 1}."
            )
        places = [TopicPartition(self.topic, number) for number in named or range(count)]
        firsts = await self._consumer.beginning_offsets(places)
        ends = await self._consumer.end_offsets(places)
        if choice.since_ms is not None:
            # Record times rise but for the clocks of different workers.
            asked = dict.fromkeys(places, max(0, choice.since_ms))
            for place, found in (await self._consumer.offsets_for_times(asked)).items():
                firsts[place] = ends[place] if found is None else found.offset
        spans = {}
        for place in places:
            first, end = firsts[place], ends[place]
            offsets = [one.offset for one in choice.only if one.partition == place.partition]
            first = max(first, min(offsets, default=first))
            stop = min(end, max(offsets, default=end) + 1)
            spans[place.partition] = Span(first, stop, end)
        return spans

    async def with_all_marks(self, spans: Mapping[int, Span]) -> dict[int, Span]:
        """Return the same letters, with the markers of all transactions that have ended by now.

        While a worker's transaction is open on a partition, what was committed behind its first
        record cannot be read yet, and a marker may be there. So the spans go to the end of all that
        is written, and `marks` waits there until those transactions have ended.
        """
        consumer = _consumer(self._settings, "read_uncommitted")
        try:
            await consumer.start()
            places = [TopicPartition(self.topic, number) for number in spans]
            ends = await consumer.end_offsets(places)
        finally:
            await consumer.stop()
        return {place.partition: spans[place.partition]._replace(end=ends[place]) for place in ends}

    async def marks(self, spans: Mapping[int, Span], advance: Advance) -> dict[int, Marks]:
        """Return which letters of the spans have been replayed.

        Args:
            spans: what to read.
            advance: told how many offsets more are read.
        """
        found = {partition: Marks(span.first) for partition, span in spans.items()}
        whole = {partition: (span.first, span.end) for partition, span in spans.items()}
        async for record in self._records(whole, advance):
            offset = marked(record)
            # A marker is about a letter before it; whatever else it claims would cost memory.
            if offset is not None and offset < record.offset:
                found[record.partition].add(offset)
        return found

    async def letters(
        self, spans: Mapping[int, Span], choice: Choice, advance: Advance
    ) -> AsyncGenerator[Letter, None]:
        """Yield the letters chosen, one partition after the other, in the order of each.

        Args:
            spans: what to read.
            choice: which letters of it.
            advance: told how many offsets more are read.
        """
        parts = {partition: (span.first, span.stop) for partition, span in spans.items()}
        async for record in self._records(parts, advance):
            letter = letter_of(record)
            if letter is not None and choice.fits(letter):
                yield letter

    async def follow(
        self, spans: Mapping[int, Span], choice: Choice
    ) -> AsyncGenerator[Letter, None]:
        """Yield the letters chosen that come after the spans, for ever."""
        places = {TopicPartition(self.topic, number): span for number, span in spans.items()}
        self._consumer.assign(list(places))
        for place, span in places.items():
            self._consumer.seek(place, span.end)
        while True:
            fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=FETCH_RECORDS)
            for records in fetched.values():
                for record in records:
                    letter = letter_of(record)
                    if letter is not None and choice.fits(letter):
                        yield letter

    async def _records(
        self, parts: Mapping[int, tuple[int, int]], advance: Advance
    ) -> AsyncGenerator[Any, None]:
        """Yield the records of partition → [first, end), a partition after the other."""
        for partition, (first, end) in parts.items():
            place, position = TopicPartition(self.topic, partition), first
            if first >= end:
                continue
            self._consumer.assign([place])
            self._consumer.seek(place, first)
            while position < end:
                fetched = await self._consumer.getmany(
                    place, timeout_ms=POLL_MS, max_records=FETCH_RECORDS
                )
                for record in fetched.get(place, ()):
                    if record.offset < end:
                        yield record
                before, position = position, await self._consumer.position(place)
                advance(min(position, end) - before)


@asynccontextmanager
async def open_box(settings: Settings) -> AsyncIterator[LetterBox]:
    """Connect to the dead letters.

    Raises:
        LettersError: no broker answers, it has no such topic, or it fails meanwhile.
    """
    consumer = _consumer(settings, "read_committed")
    try:
        await consumer.start()
    except (KafkaError, OSError) as error:
        await consumer.stop()
        raise LettersError(
            f"No Kafka broker answers at {settings.bootstrap_servers}: {error}. Set "
            "AGENTOPS_BOOTSTRAP_SERVERS, or start one here with `agentops-streams local up`."
        ) from error
    try:
        counts = await _counts(settings)
        topic = settings.topic("dead-letters")
        if topic not in counts:
            raise LettersError(
                f"There is no topic {topic} at {settings.bootstrap_servers}. Check "
                "AGENTOPS_TOPIC_PREFIX, or run `agentops-streams topics create`."
            )
        yield LetterBox(settings, consumer, counts)
    except KafkaError as error:
        raise LettersError(
            f"The broker at {settings.bootstrap_servers} failed: {error!r}. Try again."
        ) from error
    finally:
        await consumer.stop()


def _consumer(settings: Settings, isolation: str) -> Any:
    return AIOKafkaConsumer(
        **connection(settings),
        client_id=f"{settings.app_id}-dead-letters",
        isolation_level=isolation,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        request_timeout_ms=int(settings.request_timeout * 1000),
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=100,
    )


async def _counts(settings: Settings) -> dict[str, int]:
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        await admin.start()
        described = await admin.describe_topics()
    finally:
        await admin.close()
    return {one["topic"]: len(one["partitions"]) for one in described}
