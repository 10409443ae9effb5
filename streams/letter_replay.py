"""Dead letters sent to their topics again: each once, whoever else tries and however it ends.

A letter and the marker that it was replayed are written in one transaction, under one transactional
id for all replays. The producer is started first, which ends another replay and aborts what that
one left open; the markers read afterwards are therefore final. A replay that is killed has replayed
whole transactions, and the next one goes on behind them.
"""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from aiokafka.errors import KafkaError

from streams.dead_letters import REPLAYED, REPLAYED_FROM, Letter
from streams.epoch import FENCED, EpochProducer, OutRecord
from streams.failpoints import Failpoint, Failpoints
from streams.keys import Keys
from streams.provision import TopicsError, size_limits
from streams.reasons import DeadLetterReason
from streams.topics import PRODUCED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from streams.letter_box import Advance, Choice, LetterBox, Span
    from streams.settings import Settings

BATCH_LETTERS = 2_000
"""Most letters of one transaction; at some 20 µs a record far within its time-out."""
BATCH_BYTES = 8 * 1024 * 1024

_TOPICS = (*PRODUCED, "findings", "controls")
"""What workers read, and so what can have letters. No letter makes a replay write elsewhere."""


class ReplayError(RuntimeError):
    """A replay did not come to its end; what it had committed stays, once."""


class LetterFate(StrEnum):
    """What a replay makes of a letter that was chosen."""

    REPLAYED = "REPLAYED"
    """It is on its topic again."""
    BEFORE = "BEFORE"
    """An earlier replay has done it."""
    CUT = "CUT"
    """Its key or value was cut to fit or could not be read: the record is not here any more."""
    NO_ORIGIN = "NO_ORIGIN"
    """Its headers name no partition of a topic that workers read."""
    TOO_LARGE = "TOO_LARGE"
    """With the header `replayed-from` it would exceed what its topic takes."""


@dataclass(slots=True)
class Tally:
    """Letters by topic, reason and what becomes of them."""

    counts: Counter[tuple[str, str, LetterFate]] = field(default_factory=Counter)

    def of(self, fate: LetterFate) -> int:
        """Return how many have this fate."""
        return sum(count for (_, _, other), count in self.counts.items() if other is fate)

    def reasons(self, fate: LetterFate) -> dict[str, int]:
        """Return how many of each reason have this fate."""
        found: Counter[str] = Counter()
        for (_, reason, other), count in self.counts.items():
            if other is fate:
                found[reason] += count
        return dict(sorted(found.items()))


class Way(NamedTuple):
    """What becomes of a letter, and the record to send where it is replayed."""

    fate: LetterFate
    record: OutRecord | None = None


class Returns:
    """Makes records of letters again.

    Args:
        settings: prefix and partitioner.
        counts: topic on the broker → number of partitions.
        limits: topic on the broker → max.message.bytes.
    """

    def __init__(
        self, settings: Settings, counts: Mapping[str, int], limits: Mapping[str, int]
    ) -> None:
        self._letters = settings.topic("dead-letters")
        self._limits = limits
        self._counts = {
            name: counts[name] for name in map(settings.topic, _TOPICS) if name in counts
        }
        self._keys = {
            count: Keys(count, settings.partitioner) for count in set(self._counts.values())
        }

    def partition(self, letter: Letter) -> int | None:
        """Return the partition of its topic where a letter's record belongs; None for nowhere."""
        count = self._counts.get(letter.topic, 0)
        origin = letter.origin_partition
        if origin is None or not 0 <= origin < count:
            return None
        if letter.reason == DeadLetterReason.STRAY_PARTITION and letter.key is not None:
            place = self._keys[count].place(letter.key)
            return origin if place < 0 else place
        return origin

    def way(self, letter: Letter) -> Way:
        """Return the record to send, or why none can be."""
        if not letter.whole:
            return Way(LetterFate.CUT)
        partition = self.partition(letter)
        if partition is None:
            return Way(LetterFate.NO_ORIGIN)
        mark = f"{self._letters}/{letter.place}".encode()
        own = [one for one in letter.headers if one[0] != REPLAYED_FROM]
        headers = [*own, (REPLAYED_FROM, mark)]
        record = OutRecord(letter.topic, partition, letter.key, letter.value, headers)
        if record.size() > self._limits[letter.topic]:
            return Way(LetterFate.TOO_LARGE)
        return Way(LetterFate.REPLAYED, record)

    def marker(self, letter: Letter) -> OutRecord:
        """Return the record that says that a letter has been replayed."""
        mark = (REPLAYED, str(letter.offset).encode())
        return OutRecord(self._letters, letter.partition, letter.key, None, [mark])


@dataclass(slots=True)
class _Batch:
    """What one transaction writes."""

    records: list[OutRecord] = field(default_factory=list)
    counts: Counter[tuple[str, str, LetterFate]] = field(default_factory=Counter)
    bytes: int = 0

    @property
    def full(self) -> bool:
        """Return whether the next letter belongs in the next transaction."""
        return len(self.records) >= 2 * BATCH_LETTERS or self.bytes >= BATCH_BYTES


class LetterReplay:
    """One replay of the letters of a choice, up to where their topic ended when it was made.

    Args:
        settings: of this process; partitioner and prefix must be those of the workers.
        box: the letters.
        choice: which of them.

    Raises (all methods):
        ReplayError: the broker failed, a topic is missing, or another replay has taken over.
    """

    def __init__(self, settings: Settings, box: LetterBox, choice: Choice) -> None:
        self._settings = settings
        self._box = box
        self._choice = choice
        self._failpoints = Failpoints.from_environment()

    async def returns(self) -> Returns:
        """Return what makes records of letters, for the topics as they are now."""
        try:
            limits = await size_limits(self._settings)
        except TopicsError as error:
            raise ReplayError(str(error)) from error
        return Returns(self._settings, self._box.counts, limits)

    async def survey(self, spans: Mapping[int, Span], advance: Advance) -> Tally:
        """Return what a replay would do now, and do nothing."""
        tally = Tally()
        async with aclosing(self._ways(spans, advance)) as ways:
            async for letter, way, _ in ways:
                tally.counts[letter.topic, letter.reason, way.fate] += 1
        return tally

    async def run(self, spans: Mapping[int, Span], advance: Advance) -> Tally:
        """Replay, a transaction for some thousand letters."""
        identity = f"{self._settings.app_id}-dead-letters-replay"
        producer = EpochProducer(self._settings, identity)
        try:
            await producer.start()
            try:
                # What another replay has marked up to the moment at which it was fenced.
                spans = await self._box.with_all_marks(spans)
                return await self._send(producer, spans, advance)
            finally:
                await producer.discard()
        except FENCED as error:
            raise ReplayError(
                "Another replay has been started and has taken over, or a transaction took too "
                "long. Nothing is replayed twice: run this again for what is left."
            ) from error
        except (KafkaError, TimeoutError) as error:
            raise ReplayError(
                f"The broker at {self._settings.bootstrap_servers} failed: {error!r}. What was "
                "replayed is marked: run this again, nothing is replayed twice."
            ) from error

    async def _send(
        self, producer: EpochProducer, spans: Mapping[int, Span], advance: Advance
    ) -> Tally:
        tally, batch = Tally(), _Batch()
        async with aclosing(self._ways(spans, advance)) as ways:
            async for letter, way, marker in ways:
                if way.record is None:
                    tally.counts[letter.topic, letter.reason, way.fate] += 1
                    continue
                if batch.full:
                    await self._commit(producer, batch, tally)
                    batch = _Batch()
                batch.records += [way.record, marker]
                batch.bytes += way.record.size()
                batch.counts[letter.topic, letter.reason, way.fate] += 1
        await self._commit(producer, batch, tally)
        return tally

    async def _commit(self, producer: EpochProducer, batch: _Batch, tally: Tally) -> None:
        if batch.records:
            points = self._failpoints
            await producer.commit(
                batch.records,
                before_commit=lambda: points.passage(Failpoint.EPOCH_BEFORE_COMMIT),
            )
            tally.counts += batch.counts

    async def _ways(
        self, spans: Mapping[int, Span], advance: Advance
    ) -> AsyncGenerator[tuple[Letter, Way, OutRecord], None]:
        """Yield each letter of the choice in order, what becomes of it, and its marker."""
        returns = await self.returns()
        marks = await self._box.marks(spans, advance)
        async with aclosing(self._box.letters(spans, self._choice, advance)) as letters:
            async for letter in letters:
                before = letter.offset in marks[letter.partition]
                way = Way(LetterFate.BEFORE) if before else returns.way(letter)
                yield letter, way, returns.marker(letter)
