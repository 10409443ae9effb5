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
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streams import schemas
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
from streams.failpoints import Failpoint, Guard
from streams.hold import Hold
from streams.stage import Core, Halt, Stage, StopReason, Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from aiokafka import AIOKafkaConsumer

    from streams.assignor import UnitId
    from streams.batch import FetchedBatch

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


class BatchVerdict(StrEnum):
    """What became of a fetched batch."""

    FOLDED = "FOLDED"
    HELD = "HELD"
    NOT_OPEN = "NOT_OPEN"
    STALE = "STALE"
    DUPLICATE = "DUPLICATE"
    GAP = "GAP"
    FAILED = "FAILED"


class Taken(NamedTuple):
    """What became of a batch that was offered.

    Attributes:
        verdict: on it, or on its first part.
        missing: frames to look up first.
        rest: what is still to be folded of it; None for nothing.
        more: whether the rest can be folded at once, when others had their turn.
    """

    verdict: BatchVerdict
    missing: Collection[bytes] = ()
    rest: FetchedBatch | None = None
    more: bool = False


class UnitStoppedError(Exception):
    """The unit must not go on; `reason` says why, the message what to do."""

    def __init__(self, reason: StopReason, detail: str) -> None:
        """Keep the reason beside the message."""
        super().__init__(detail)
        self.reason = reason


class StaleOpenError(Exception):
    """The group has moved on since this opening began."""


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
        self._committed: dict[str, Any] | None = None
        self._halt: Halt | None = None
        self._failure: str | None = None
        self._holds = {
            tp.topic: Hold(tp, around, self._fold_held, self._fail) for tp in self.partitions()
        }
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
            for topic, offset in self._stored_positions().items()
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
        self._around.metrics.reopenings.inc()
        self._log.warning("unit.reopening", error=f"{type(error).__name__}: {error}")

    async def _throw_away(self) -> None:
        """Forget producer, state and incarnation; what was not committed is read again."""
        self.incarnation += 1
        self._core = None
        await self._drop_held()
        self._state_end = None
        with suppress(Exception):
            await self._around.flow.close_flow(self.partitions())
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.discard()

    async def _drop_held(self) -> None:
        await asyncio.gather(*(hold.drop() for hold in self._holds.values()))

    async def _stop(self, stop: UnitStoppedError) -> None:
        """Stand still, visibly: one finding, and no reset of anything."""
        self.status, self.stop_reason = UnitStatus.STOPPED, stop.reason
        self._log.error("unit.stopped", reason=stop.reason, detail=str(stop))
        if self._halt is None and self._producer is not None:
            self._halt = Halt(stop.reason, int(self._around.wall() * 1000))
            core = self._core or self._stage.make_core(self.id.partition)
            records = core.halted(*self._halt, None)
            # What is stored stays as it was, but for the mark: nothing of this epoch is in it.
            stored = self._committed or self._unit_state(0, {})
            try:
                await self._producer.commit([*records, self._unit_record(stored)])
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
        if not self._around.failpoints.guards(Guard.POSITIONS):
            for tp in self.partitions():
                self.positions[tp.topic] = await self._around.flow.committed(tp) or 0
        at = {TopicPartition(t, self.id.partition): o for t, o in self.positions.items()}
        self.status = UnitStatus.OPEN
        if not await self._around.flow.open_flow(at, self.incarnation):
            raise StaleOpenError
        self._log.info(
            "unit.open", epoch=self.epoch, incarnation=self.incarnation, positions=self.positions
        )

    def _transactional_id(self) -> str:
        base = f"{self._around.settings.app_id}-{self.id.stage}-{self.id.partition}"
        if self._around.failpoints.guards(Guard.FENCING):
            return base
        return f"{base}-{id(self)}-{self._around.wall()}"

    async def _restore(self, latest: dict[bytes, bytes]) -> None:
        """Make a core from the stored state, or an empty one where there is none."""
        core = self._stage.make_core(self.id.partition)
        stored = latest.pop(UNIT_KEY, None)
        self.positions, self.epoch, self._halt, self._committed = {}, 0, None, None
        if stored is None:
            await self._refuse_lost_state()
        else:
            _, unit = schemas.decode(stored)
            self._committed = unit
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
            _restore_or_stop(core, latest)
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
                    f"{self.state_partition.topic} holds no state for partition {tp.partition}, "
                    f"but the group has consumed {tp.topic} up to {offset}; restore the state "
                    "topic, or begin anew with --reset-state",
                )

    async def _check_positions(self, reader: AIOKafkaConsumer) -> None:
        """Fill in positions of new topics; refuse those outside of what the broker holds."""
        partitions = self.partitions()
        first = await reader.beginning_offsets(partitions)
        end = await reader.end_offsets(partitions)
        for tp in partitions:
            position = self.positions.setdefault(tp.topic, first[tp])
            if not first[tp] <= position <= end[tp]:
                if self._around.settings.reset_state:
                    self.positions[tp.topic] = first[tp]
                    continue
                raise UnitStoppedError(
                    StopReason.POSITION_OUTSIDE,
                    f"the state continues {tp.topic}[{tp.partition}] at offset {position}, but the "
                    f"broker holds {first[tp]} to {end[tp]}: the topic was recreated or its "
                    "retention is too short; restore it, or begin anew with --reset-state",
                )

    # -- folding ----------------------------------------------------------------------------

    def accept(self, batch: FetchedBatch) -> BatchVerdict:
        """Fold `batch` if it continues this unit's position, else say why not."""
        hold = self._holds[batch.topic]
        if hold.waiting and self.status is UnitStatus.OPEN:
            hold.put(batch)
            return BatchVerdict.HELD
        taken = self._take(batch, final=False)
        if taken.rest is not None:
            hold.put(taken.rest, taken.missing)
        return taken.verdict

    def _fold_held(self, batch: FetchedBatch, final: bool) -> Taken:
        return self._take(batch, final=final)

    def _take(self, batch: FetchedBatch, *, final: bool) -> Taken:
        """Fold `batch`, or its first part, if it continues this unit's position."""
        core = self._core
        if self.status is not UnitStatus.OPEN or core is None:
            return Taken(BatchVerdict.NOT_OPEN)
        if self._around.failpoints.guards(Guard.INCARNATIONS):
            if (verdict := self._misfit(batch)) is not None:
                return Taken(verdict)
            batch = batch.start_at(self.positions[batch.topic])
        try:
            if not core.ready(batch, self._caught_up()):
                return Taken(BatchVerdict.HELD, rest=batch)
            part = core.part(batch)
            missing = core.fold(part, final=final)
        except Exception as error:  # noqa: BLE001 - a half folded core is thrown away
            self._log.exception("unit.fold_failed")
            self._fail(f"{type(error).__name__}: {error}")
            return Taken(BatchVerdict.FAILED)
        if missing:
            return Taken(BatchVerdict.HELD, missing, batch)
        self.positions[batch.topic] = part.next_offset
        self._go_on()
        more = part.next_offset < batch.next_offset
        rest = batch.start_at(part.next_offset) if more else None
        return Taken(BatchVerdict.FOLDED, rest=rest, more=more)

    def _misfit(self, batch: FetchedBatch) -> BatchVerdict | None:
        """Return why `batch` does not continue this unit's position, None where it does."""
        position = self.positions[batch.topic]
        if batch.incarnation != self.incarnation:
            return BatchVerdict.STALE
        if batch.next_offset <= position:
            return BatchVerdict.DUPLICATE
        if batch.fetch_from > position:
            self._fail(f"gap: {batch.topic} continues at {batch.fetch_from}, position {position}")
            return BatchVerdict.GAP
        return None

    def settle(self) -> None:
        """Tell the core which topics are read to their end."""
        if self.status is not UnitStatus.OPEN or self._core is None:
            return
        self._core.settle(self._caught_up(), self._around.wall())
        self._go_on()

    def _caught_up(self) -> dict[str, float]:
        """Return the topics read to their end, and when the fetch was answered that found it."""
        found = {}
        for tp in self.partitions():
            reach = self._around.flow.reach(tp)
            if reach and reach.position == reach.end == self.positions[tp.topic]:
                found[tp.topic] = reach.answered_at
        return found

    def _go_on(self) -> None:
        """Have done what may now be possible: commit, or fold what waited for another topic."""
        if self._core is not None and self._core.urgent:
            self._wake.set()
        for hold in self._holds.values():
            hold.nudge()

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
            unchanged = self.positions == self._stored_positions() and self._halt is None
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
            with self._around.right_of_way.commit():
                last = await producer.commit(records, before_commit=pause)
            await points.passage(Failpoint.EPOCH_AFTER_COMMIT)
            self._count(records)
            # The commit marker takes the offset after the last record.
            self._state_end = last[self.state_partition] + 2
            self._committed = self._unit_state(self.epoch, positions)
            self._log.debug(
                "unit.epoch", epoch=self.epoch, records=len(records), positions=positions
            )

    def _count(self, records: Collection[OutRecord]) -> None:
        """Count what an epoch has committed."""
        self._around.metrics.epochs.inc()
        topic = self._around.settings.topic("dead-letters")
        letters = [record for record in records if record.topic == topic]
        if letters:
            self._around.refusals.note(letters)

    def _cut(self, core: Core, positions: Mapping[str, int]) -> list[OutRecord]:
        """Return everything an epoch writes; afterwards `core` may be folded further."""
        outputs, changes = core.drain()
        if self._halt is not None:
            outputs = [*core.halted(*self._halt, int(self._around.wall() * 1000)), *outputs]
            self._halt = None
        self.epoch += 1
        topic, partition = self.state_partition
        state = [OutRecord(topic, partition, key, value) for key, value in changes]
        return [*outputs, *state, self._unit_record(self._unit_state(self.epoch, positions))]

    def _unit_state(self, epoch: int, positions: Mapping[str, int]) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "epoch": epoch,
            "partitions": self._stage.partitions,
            "topics": list(positions),
            "positions": list(positions.values()),
        }

    def _stored_positions(self) -> dict[str, int]:
        """Return the positions of the newest committed epoch."""
        stored = self._committed or {"topics": [], "positions": []}
        return dict(zip(stored["topics"], stored["positions"], strict=True))

    def _unit_record(self, state: Mapping[str, Any]) -> OutRecord:
        stopped = None if self._halt is None else str(self._halt)
        topic, partition = self.state_partition
        value = schemas.encode("UnitState", {**state, "stopped": stopped})
        return OutRecord(topic, partition, UNIT_KEY, value)

    # -- closing ----------------------------------------------------------------------------

    async def close(self) -> None:
        """Commit what is folded, release the producer, keep the state warm.

        Call with the flow stopped. Errors only cost the warm state.
        """
        was_open = self.status is UnitStatus.OPEN
        self.status = UnitStatus.CLOSED if self.status is not UnitStatus.STOPPED else self.status
        await self._drop_held()
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


def _restore_or_stop(core: Core, records: Mapping[bytes, bytes]) -> None:
    """Restore `core`; a state that it does not understand must not be retried for ever."""
    try:
        core.restore(records)
    except (ValueError, KeyError) as error:
        raise UnitStoppedError(
            StopReason.STATE_UNREADABLE,
            f"the stored state does not fit this version and its rules ({error}); run the version "
            "and rules that wrote it, or use a new topic prefix",
        ) from error
