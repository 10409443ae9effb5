"""Units: opening, folding, committing and closing one partition number of one stage.

The life of a unit, within one assignment (generation) of the group:

    assigned ─► opening ─► open ─► (epochs) ─► closing ─► closed, state kept warm
                   ▲         │
                   └ retrying ◄── any error: producer, state and incarnation are thrown away

Nothing here knows what a stage computes; a `Core` does. Everything runs on one event loop, and
folding has no `await` inside, so a core is never seen half folded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

import structlog
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streams import schemas
from streams.assignor import StageTopics, UnitId, complete_units
from streams.epoch import (
    FENCED,
    EpochProducer,
    OutRecord,
    OversizeRecordError,
    check_sizes,
    committed_reader,
    end_of,
    read_state,
)
from streams.failpoints import Failpoint, Failpoints, Guard

if TYPE_CHECKING:
    from streams.batch import FetchedBatch
    from streams.settings import Settings
    from streams.transport import Reach

log = structlog.get_logger(__name__)

UNIT_KEY = b"unit"
STATE_VERSION = 1

#: Waits before the n-th reopening in one generation, s.
BACKOFF = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)

#: Fences in one generation after which a unit is reported as contended.
CONTENDED_AFTER = 3


class UnitStatus(StrEnum):
    """Where a unit is in its life."""

    CLOSED = "CLOSED"
    OPENING = "OPENING"
    OPEN = "OPEN"
    RETRYING = "RETRYING"
    STOPPED = "STOPPED"


class StopReason(StrEnum):
    """Why a unit refuses to go on until a person has looked."""

    STATE_MISSING = "STATE_MISSING"
    POSITION_OUTSIDE = "POSITION_OUTSIDE"
    PARTITIONS_CHANGED = "PARTITIONS_CHANGED"
    OVERSIZE_RECORD = "OVERSIZE_RECORD"


class BatchVerdict(StrEnum):
    """What became of a fetched batch."""

    FOLDED = "FOLDED"
    NOT_OPEN = "NOT_OPEN"
    STALE = "STALE"
    DUPLICATE = "DUPLICATE"
    GAP = "GAP"
    FAILED = "FAILED"


class UnitStoppedError(Exception):
    """The unit must not go on; `reason` says why, the message what to do."""

    def __init__(self, reason: StopReason, detail: str) -> None:
        """Keep the reason beside the message."""
        super().__init__(detail)
        self.reason = reason


class StaleOpenError(Exception):
    """The group has moved on since this opening began."""


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

    def fold(self, batch: FetchedBatch) -> None:
        """Fold one batch; refused records become outputs."""

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
    """

    settings: Settings
    flow: Flow
    size_limits: Mapping[str, int]
    wall: Callable[[], float]
    leave: Callable[[str], None]
    failpoints: Failpoints = field(default_factory=Failpoints)


class Unit:
    """One partition number of one stage; see the module docstring for its life."""

    def __init__(self, unit_id: UnitId, stage: Stage, around: Surroundings) -> None:
        """Make a closed unit."""
        self.id = unit_id
        self.status = UnitStatus.CLOSED
        self.stop_reason: StopReason | None = None
        self.incarnation = 0
        self.fences = 0
        self.epoch = 0
        self.positions: dict[str, int] = {}
        self._stage = stage
        self._around = around
        self._core: Core | None = None
        self._producer: EpochProducer | None = None
        self._state_end: int | None = None
        self._committed_positions: dict[str, int] = {}
        self._halt: Halt | None = None
        self._failure: str | None = None
        self._wake = asyncio.Event()
        self._committing = asyncio.Lock()
        self._life: asyncio.Task[None] | None = None
        self._log = log.bind(unit=str(unit_id))

    # -- what the outside may ask --------------------------------------------------------

    def partitions(self) -> list[TopicPartition]:
        """Return the input partitions that this unit reads."""
        return [TopicPartition(topic, self.id.partition) for topic in self._stage.reads]

    @property
    def state_partition(self) -> TopicPartition:
        """The partition that holds this unit's state."""
        return TopicPartition(self._stage.state_topic, self.id.partition)

    def committed_positions(self) -> dict[TopicPartition, int]:
        """Return the positions of the newest committed epoch."""
        return {
            TopicPartition(topic, self.id.partition): offset
            for topic, offset in self._committed_positions.items()
        }

    # -- life ------------------------------------------------------------------------------

    def start(self, current: Callable[[], bool]) -> None:
        """Begin this unit's life in a generation; `current` says whether it still lasts."""
        if self._life is None or self._life.done():
            self.fences = 0
            self._life = asyncio.create_task(self._live(current), name=f"unit {self.id}")

    async def _live(self, current: Callable[[], bool]) -> None:
        """Open, commit epochs, and open again after an error, while the generation lasts."""
        attempt = 0
        while current():
            try:
                await self._open_in_time(current)
                attempt = 0
                await self._commit_epochs()
            except StaleOpenError:
                await self._throw_away()
                self.status = UnitStatus.CLOSED
                return
            except UnitStoppedError as stop:
                await self._stop(stop)
                return
            except OversizeRecordError as error:
                await self._stop(UnitStoppedError(StopReason.OVERSIZE_RECORD, str(error)))
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, the cure is a fresh start
                self._report(error)
                self.status = UnitStatus.RETRYING
                await self._throw_away()
                await asyncio.sleep(BACKOFF[min(attempt, len(BACKOFF) - 1)])
                attempt += 1

    def _report(self, error: Exception) -> None:
        if isinstance(error, FENCED):
            self.fences += 1
            if self.fences >= CONTENDED_AFTER:
                self._log.error("unit.contended", fences=self.fences)
        self._log.warning("unit.reopening", error=f"{type(error).__name__}: {error}")

    async def _throw_away(self) -> None:
        """Forget producer, state and incarnation; what was not committed is read again."""
        self.incarnation += 1
        self._core = None
        self._state_end = None
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.discard()

    async def _stop(self, stop: UnitStoppedError) -> None:
        """Stand still, visibly: one finding, and no reset of anything."""
        self.status, self.stop_reason = UnitStatus.STOPPED, stop.reason
        self._log.error("unit.stopped", reason=stop.reason, detail=str(stop))
        if self._halt is None and self._producer is not None:
            self._halt = Halt(stop.reason, int(self._around.wall() * 1000))
            core = self._core or self._stage.make_core(self.id.partition)
            records = core.halted(*self._halt, None)
            try:
                await self._producer.commit([*records, self._unit_record(self.positions)])
            except Exception as error:  # noqa: BLE001 - the log line above has told it already
                self._log.warning("unit.stop_not_published", error=str(error))
        await self._throw_away()

    # -- opening ---------------------------------------------------------------------------

    async def _open_in_time(self, current: Callable[[], bool]) -> None:
        """Open, or leave the group: a member that is alive and idle keeps others from the work."""
        deadline = asyncio.timeout(self._around.settings.opening_deadline)
        try:
            async with deadline:
                await self._open(current)
        except TimeoutError:
            if deadline.expired():
                self._around.leave(f"{self.id} did not open within its deadline")
            raise

    async def _open(self, current: Callable[[], bool]) -> None:
        """Fence, read the state, check the positions, seek. In this order, for good reasons.

        The producer comes first: it fences an older owner and ends its open transaction, so that
        what is read afterwards is final.
        """
        self.status = UnitStatus.OPENING
        settings = self._around.settings
        producer = EpochProducer(settings, self._transactional_id())
        self._producer, warm_end = producer, self._state_end
        await producer.start()
        _require(current)
        await self._around.failpoints.passage(Failpoint.OPEN_BEFORE_READ)
        async with committed_reader(settings) as reader:
            if self._core is None or warm_end != await end_of(reader, self.state_partition):
                _require(current)
                latest, self._state_end = await read_state(reader, self.state_partition)
                _require(current)
                await self._restore(latest)
            await self._check_positions(reader)
        _require(current)
        self.incarnation += 1
        at = {TopicPartition(t, self.id.partition): o for t, o in self.positions.items()}
        if not self._around.failpoints.guards(Guard.POSITIONS):
            at = {tp: await self._around.flow.committed(tp) or 0 for tp in at}
        self._committed_positions = dict(self.positions)
        self.status = UnitStatus.OPEN
        if not await self._around.flow.open_flow(at, self.incarnation):
            raise StaleOpenError
        self._log.info("unit.open", epoch=self.epoch, incarnation=self.incarnation, positions=self.positions)

    def _transactional_id(self) -> str:
        base = f"{self._around.settings.app_id}-{self.id.stage}-{self.id.partition}"
        if self._around.failpoints.guards(Guard.FENCING):
            return base
        return f"{base}-{id(self)}-{self._around.wall()}"

    async def _restore(self, latest: dict[bytes, bytes]) -> None:
        """Make a core from the stored state, or an empty one where there is none."""
        core = self._stage.make_core(self.id.partition)
        stored = latest.pop(UNIT_KEY, None)
        self.positions, self.epoch, self._halt = {}, 0, None
        if stored is None:
            await self._refuse_lost_state()
        else:
            _, unit = schemas.decode(stored)
            self._halt = Halt.parse(unit["stopped"])
            if self._halt and self._halt.reason is StopReason.STATE_MISSING:
                await self._refuse_lost_state()
            if unit["partitions"] != self._stage.partitions:
                raise UnitStoppedError(
                    StopReason.PARTITIONS_CHANGED,
                    f"the state was begun with {unit['partitions']} partitions, the setting says "
                    f"{self._stage.partitions}; the count is fixed for the life of a topic prefix",
                )
            self.positions = dict(zip(unit["topics"], unit["positions"], strict=True))
            self.epoch = unit["epoch"]
            core.restore(latest)
        self._core = core

    async def _refuse_lost_state(self) -> None:
        """Refuse to begin at nothing where the group has already consumed something."""
        if self._around.settings.reset_state:
            return
        for tp in self.partitions():
            offset = await self._around.flow.committed(tp)
            if offset:
                raise UnitStoppedError(
                    StopReason.STATE_MISSING,
                    f"{self.state_partition.topic} holds no state for partition {tp.partition}, but the "
                    f"group has consumed {tp.topic} up to {offset}; restore the state topic, or begin "
                    "anew with --reset-state",
                )

    async def _check_positions(self, reader: object) -> None:
        """Fill in positions of new topics; refuse those outside of what the broker holds."""
        partitions = self.partitions()
        first = await reader.beginning_offsets(partitions)  # type: ignore[attr-defined]
        end = await reader.end_offsets(partitions)  # type: ignore[attr-defined]
        for tp in partitions:
            position = self.positions.setdefault(tp.topic, first[tp])
            if not first[tp] <= position <= end[tp]:
                if self._around.settings.reset_state:
                    self.positions[tp.topic] = first[tp]
                    continue
                raise UnitStoppedError(
                    StopReason.POSITION_OUTSIDE,
                    f"the state continues {tp.topic}[{tp.partition}] at offset {position}, but the broker "
                    f"holds {first[tp]} to {end[tp]}: the topic was recreated or its retention is too "
                    "short; restore it, or begin anew with --reset-state",
                )

    # -- folding ----------------------------------------------------------------------------

    def accept(self, batch: FetchedBatch) -> BatchVerdict:
        """Fold `batch` if it continues this unit's position, else say why not."""
        core = self._core
        if self.status is not UnitStatus.OPEN or core is None:
            return BatchVerdict.NOT_OPEN
        if self._around.failpoints.guards(Guard.INCARNATIONS):
            position = self.positions[batch.topic]
            if batch.incarnation != self.incarnation:
                return BatchVerdict.STALE
            if batch.next_offset <= position:
                return BatchVerdict.DUPLICATE
            if batch.fetch_from > position:
                self._fail(f"gap: {batch.topic} continues at {batch.fetch_from}, position {position}")
                return BatchVerdict.GAP
            batch = batch.start_at(position)
        try:
            core.fold(batch)
        except Exception as error:  # noqa: BLE001 - a half folded core is thrown away
            self._log.exception("unit.fold_failed")
            self._fail(f"{type(error).__name__}: {error}")
            return BatchVerdict.FAILED
        self.positions[batch.topic] = batch.next_offset
        if core.urgent:
            self._wake.set()
        return BatchVerdict.FOLDED

    def settle(self) -> None:
        """Tell the core which topics are read to their end."""
        if self.status is not UnitStatus.OPEN or self._core is None:
            return
        caught_up = {}
        for tp in self.partitions():
            reach = self._around.flow.reach(tp)
            if reach and reach.position == reach.end == self.positions[tp.topic]:
                caught_up[tp.topic] = reach.answered_at
        self._core.settle(caught_up, self._around.wall())
        if self._core.urgent:
            self._wake.set()

    def fetch_failed(self, tp: TopicPartition, error: Exception) -> None:
        """A fetch of one of this unit's partitions failed: open again, or stop if data is gone."""
        if self.status is UnitStatus.OPEN:
            self._log.warning("unit.fetch_failed", topic=tp.topic, error=repr(error))
            if isinstance(error, OffsetOutOfRangeError):
                self._fail("the position left what the broker holds")
            else:
                self._fail(repr(error))

    def _fail(self, why: str) -> None:
        """Have the unit's own task throw everything away and open again."""
        self._failure = why
        self.status = UnitStatus.RETRYING
        self._wake.set()

    # -- epochs -----------------------------------------------------------------------------

    async def _commit_epochs(self) -> None:
        interval = self._around.settings.epoch_interval
        while self.status is UnitStatus.OPEN:
            with suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._wake.wait()
            self._wake.clear()
            if self.status is UnitStatus.OPEN:
                await self._commit_epoch()
        if self._failure is not None:
            why, self._failure = self._failure, None
            raise RuntimeError(why)

    async def _commit_epoch(self) -> None:
        """Write what changed since the last epoch; serialised before the first await."""
        async with self._committing:
            core, producer = self._core, self._producer
            if core is None or producer is None:
                return
            unchanged = self.positions == self._committed_positions and self._halt is None
            if unchanged and not core.dirty:
                return
            positions = dict(self.positions)
            records = self._cut(core, positions)
            check_sizes(records, self._around.size_limits)
            points = self._around.failpoints
            await points.passage(Failpoint.EPOCH_BEFORE_PRODUCE)
            pause = None
            if Failpoint.EPOCH_BEFORE_COMMIT in (points.kill_at | points.sleep_at):
                pause = lambda: points.passage(Failpoint.EPOCH_BEFORE_COMMIT)  # noqa: E731
            last = await producer.commit(records, before_commit=pause)
            await points.passage(Failpoint.EPOCH_AFTER_COMMIT)
            # The commit marker takes the offset after the last record.
            self._state_end = last[self.state_partition] + 2
            self._committed_positions = positions
            self._log.debug("unit.epoch", epoch=self.epoch, records=len(records), positions=positions)

    def _cut(self, core: Core, positions: Mapping[str, int]) -> list[OutRecord]:
        """Return everything an epoch writes; afterwards `core` may be folded further."""
        outputs, changes = core.drain()
        if self._halt is not None:
            outputs = [*core.halted(*self._halt, int(self._around.wall() * 1000)), *outputs]
            self._halt = None
        self.epoch += 1
        topic, partition = self.state_partition
        state = [OutRecord(topic, partition, key, value) for key, value in changes]
        return [*outputs, *state, self._unit_record(positions)]

    def _unit_record(self, positions: Mapping[str, int]) -> OutRecord:
        value = schemas.encode(
            "UnitState",
            {
                "version": STATE_VERSION,
                "epoch": self.epoch,
                "partitions": self._stage.partitions,
                "topics": list(positions),
                "positions": list(positions.values()),
                "stopped": None if self._halt is None else str(self._halt),
            },
        )
        return OutRecord(*self.state_partition, UNIT_KEY, value)

    # -- closing ----------------------------------------------------------------------------

    async def close(self) -> None:
        """Commit what is folded, release the producer, keep the state warm.

        Call with the flow stopped. Errors only cost the warm state.
        """
        was_open = self.status is UnitStatus.OPEN
        self.status = UnitStatus.CLOSED if self.status is not UnitStatus.STOPPED else self.status
        life, self._life = self._life, None
        if was_open:
            try:
                await self._commit_epoch()
            except Exception as error:  # noqa: BLE001 - the next owner reads it again
                self._report(error)
                self._core = None
        if life is not None:
            self._wake.set()
            if not was_open:
                life.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await life
        if not was_open:
            self._core = None
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.discard()


def _require(current: Callable[[], bool]) -> None:
    if not current():
        raise StaleOpenError


class UnitManager:
    """The units of one worker, following the assignments of the group."""

    def __init__(self, stages: Sequence[Stage], around: Surroundings) -> None:
        """Make all units, closed."""
        self._around = around
        self._generation: int | None = None
        self.units: dict[UnitId, Unit] = {
            unit_id: Unit(unit_id, stage, around)
            for stage in stages
            for unit_id in stage.assignable().units()
        }
        self._stages = tuple(stages)
        self._by_partition = {
            tp: unit for unit in self.units.values() for tp in unit.partitions()
        }
        self._owned: list[Unit] = []
        self._last_group_commit = 0.0

    def assigned(self, generation: int, held: Iterable[tuple[str, int]]) -> None:
        """Open every unit of which all topics are held; complain about the others."""
        held = set(held)
        self._generation = generation
        complete = complete_units([stage.assignable() for stage in self._stages], held)
        self._owned = [self.units[unit_id] for unit_id in complete]
        split = {partition for _, partition in held} - {unit.partition for unit in complete}
        if split:
            log.error("assignment.split", partitions=sorted(split), cure="all workers need one version")
        for unit in self._owned:
            unit.start(lambda: self._generation == generation)

    async def revoked(self) -> None:
        """Commit and close every unit; nothing is owned afterwards."""
        self._generation = None
        owned, self._owned = self._owned, []
        await asyncio.gather(*(unit.close() for unit in owned))

    def accept(self, batch: FetchedBatch) -> BatchVerdict:
        """Hand a batch to its unit."""
        unit = self._by_partition.get(TopicPartition(batch.topic, batch.partition))
        return BatchVerdict.NOT_OPEN if unit is None else unit.accept(batch)

    def fetch_failed(self, tp: TopicPartition, error: Exception) -> None:
        """Hand a fetch error to its unit."""
        if unit := self._by_partition.get(tp):
            unit.fetch_failed(tp, error)

    async def housekeeping(self) -> None:
        """Tell cores about ends of topics; now and then commit offsets for lag tools."""
        for unit in self._owned:
            unit.settle()
        now = self._around.wall()
        if now - self._last_group_commit >= self._around.settings.group_commit_interval:
            self._last_group_commit = now
            positions: dict[TopicPartition, int] = {}
            for unit in self._owned:
                if unit.status is UnitStatus.OPEN:
                    positions |= unit.committed_positions()
            if positions:
                with suppress(Exception):
                    await self._around.flow.commit_positions(positions)

    def statuses(self) -> dict[str, UnitStatus]:
        """Return the status of every owned unit."""
        return {str(unit.id): unit.status for unit in self._owned}
