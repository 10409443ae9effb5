"""What a stage is, what a unit of it computes with, and what it needs of its worker."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from streams.assignor import StageTopics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from aiokafka.structs import TopicPartition

    from streams.batch import FetchedBatch
    from streams.catalog import SchemaCatalog
    from streams.epoch import OutRecord
    from streams.failpoints import Failpoints
    from streams.metrics import Metrics
    from streams.refusals import RefusalLog
    from streams.right_of_way import RightOfWay
    from streams.settings import Settings
    from streams.transport import Reach


class StopReason(StrEnum):
    """Why a unit refuses to go on until a person has looked."""

    STATE_MISSING = "STATE_MISSING"
    POSITION_OUTSIDE = "POSITION_OUTSIDE"
    PARTITIONS_CHANGED = "PARTITIONS_CHANGED"
    OVERSIZE_RECORD = "OVERSIZE_RECORD"
    STATE_UNREADABLE = "STATE_UNREADABLE"


class Halt(NamedTuple):
    """Since when, and why, a unit stands still; written ``REASON@ms`` in the state."""

    reason: StopReason
    since_ms: int

    def __str__(self) -> str:
        """Return the stored form."""
        return f"{self.reason}@{self.since_ms}"

    @classmethod
    def parse(cls, text: str | None) -> Halt | None:
        """Read the stored form; None stays None."""
        if text is None:
            return None
        reason, _, since = text.partition("@")
        return cls(StopReason(reason), int(since))


class Core(Protocol):
    """The pure part of a unit. It is folded, drained and restored, and never waits."""

    @property
    def urgent(self) -> bool:
        """Whether an output waits that must not wait for the timer."""

    @property
    def dirty(self) -> bool:
        """Whether anything changed since the last drain."""

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        """Take over a stored state (newest value of each key)."""

    def ready(self, batch: FetchedBatch, caught_up: Mapping[str, float]) -> bool:
        """Return whether other topics were read as far as this batch needs.

        Args:
            batch: the next one of its topic.
            caught_up: topics read to their end, as of a fetch answered at that time.
        """

    def part(self, batch: FetchedBatch) -> FetchedBatch:
        """Return the first part of a batch that is ready: as much as is folded in one go.

        What waits for the loop, epochs above all, must not wait for long.
        """

    def fold(self, batch: FetchedBatch, *, final: bool = False) -> Collection[bytes]:
        """Fold one batch; refused records become outputs.

        Args:
            batch: the batch.
            final: refuse records whose schema is not known, as a look-up found nothing.

        Returns:
            Frames to look up first; then nothing was folded. Empty when the batch is folded.
        """

    def settle(self, caught_up: Mapping[str, float], wall: float) -> None:
        """Learn which topics are read to their end, as of a fetch answered at that time."""

    def drain(self) -> tuple[list[OutRecord], list[tuple[bytes, bytes | None]]]:
        """Return outputs and changed state since the last drain, serialised."""

    def halted(self, reason: StopReason, since_ms: int, resumed_ms: int | None) -> list[OutRecord]:
        """Return the records that tell the world that this unit stopped, or goes on again."""


class Flow(Protocol):
    """What a unit needs of the consumer thread."""

    async def open_flow(self, positions: Mapping[TopicPartition, int], incarnation: int) -> bool:
        """Seek and let batches flow."""

    async def close_flow(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop the flow of these partitions."""

    async def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch no more of these partitions; what is on its way still comes."""

    async def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Go on fetching partitions whose flow is open."""

    async def committed(self, tp: TopicPartition) -> int | None:
        """Return the group's committed offset."""

    async def commit_positions(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit offsets for lag tools."""

    def reach(self, tp: TopicPartition) -> Reach | None:
        """Return how far the partition was fetched."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A step of the dataflow.

    Attributes:
        name: stage name, part of the transactional ids.
        topics: input topics; all are assigned together.
        reads: those of `topics` that this version folds; the others wait at their position.
        writes: output topics, for people: `topology` prints them.
        state_topic: where the state of each unit lives, same partition number.
        partitions: how many units the stage has.
        make_core: partition → a new, empty core.
    """

    name: str
    topics: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    state_topic: str
    partitions: int
    make_core: Callable[[int], Core]

    def assignable(self) -> StageTopics:
        """Return what the assignor needs to know."""
        return StageTopics(self.name, self.topics, self.partitions)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every unit of a worker shares.

    Attributes:
        settings: the worker's settings.
        flow: the consumer thread.
        size_limits: topic → max.message.bytes.
        wall: the wall clock, s.
        leave: ends the worker, with the reason, when it cannot do its job.
        failpoints: faults that a test asked for.
        catalog: whom to ask for schemas.
        metrics: where the worker counts.
        refusals: what tells people of dead letters.
        right_of_way: what lets late commits go before folding.
    """

    settings: Settings
    flow: Flow
    size_limits: Mapping[str, int]
    wall: Callable[[], float]
    leave: Callable[[str], None]
    failpoints: Failpoints
    catalog: SchemaCatalog
    metrics: Metrics
    refusals: RefusalLog
    right_of_way: RightOfWay
