"""Faust's Kafka transport, with one message per (partition, fetch) instead of one per record.

Faust spends 80 to 100 µs of plumbing per message. Here a message is everything that one fetch
brought from one partition, so that cost is paid once for thousands of records; groups, agents,
flow control, timers and the command line stay Faust's. A fetch that unpacks to more than a message
should hold comes as several, some at a time, and other partitions in between.

Positions are not Faust's: a unit seeks its partitions when it opens (`BatchConsumer.open_flow`),
and every batch says which seek it follows. This module uses private parts of aiokafka 0.14
(`Fetcher._records`, `FetchResult`); `tests/test_transport.py` holds the contract it relies on.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import structlog
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import ConsumerStoppedError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from streams.connection import connection
from streams.consumer import BoundedConsumer
from streams.portions import Cursor, Portion, PortionBuilder
from streams.rows import Limits

if TYPE_CHECKING:
    from streams.batch import FetchedBatch
    from streams.settings import Settings

log = structlog.get_logger(__name__)

#: Bytes taken at once, of all partitions; the rest stays where it is until the next time.
DRAIN_BYTES = 32 << 20

FetchErrorHandler = Callable[[TopicPartition, Exception], None]


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a partition has been read.

    Attributes:
        position: offset of the next fetch.
        end: last stable offset as of the newest fetch answer, None before the first.
        answered_at: wall-clock seconds of that answer.
    """

    position: int
    end: int | None
    answered_at: float


class PassThrough(Schema[Any, Any]):
    """A Faust schema that leaves key and value as they are: the value is a `FetchedBatch`."""

    def compile(self, app: Any, **kwargs: Any) -> Any:
        """Return a decoder that wraps the message in an event and does nothing else."""
        del kwargs
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            del propagate
            return create_event(message.key, message.value, message.headers, message)

        return decode


class _NoReadOffset(defaultdict[Any, None]):
    """Faust's record of what was read, which here never knows anything.

    Faust drops a message below the highest offset it has seen; after a unit reopened, exactly
    those messages are wanted. The positions of the unit decide instead.
    """

    def __getitem__(self, key: Any) -> None:
        return None

    def __setitem__(self, key: Any, value: Any) -> None:
        return None


class BatchConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that owns the aiokafka consumer and turns its fetches into batches."""

    settings: Settings
    _cursors: dict[TopicPartition, Cursor]
    _missed: set[TopicPartition]
    _unfinished: bool
    on_fetch_error: FetchErrorHandler | None = None

    def __post_init__(self) -> None:
        """Start without cursors: nothing flows before a unit opens."""
        super().__post_init__()
        self._cursors = {}
        self._missed, self._unfinished = set(), False

    def _create_worker_consumer(self, transport: Any) -> BoundedConsumer:  # noqa: ARG002 - Faust's
        """Make the group consumer: read-committed, never resetting an offset by itself."""
        conf, settings = self.app.conf, cast("Any", self.app).settings
        self._assignor = self.app.assignor
        return BoundedConsumer(
            limits=Limits.of(settings),
            client_id=conf.broker_client_id,
            group_id=conf.id,
            **connection(settings),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            max_poll_records=None,
            max_partition_fetch_bytes=settings.fetch_partition_bytes,
            fetch_max_bytes=settings.fetch_max_bytes,
            fetch_max_wait_ms=settings.fetch_wait_ms,
            check_crcs=True,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 300) * 1000),
            metadata_max_age_ms=settings.metadata_max_age_ms,
        )

    # -- positions: called on the main loop, run on this thread's loop -----------------------

    def hold(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Pause freshly assigned partitions at a placeholder position (on this thread)."""
        consumer = self._ensure_consumer()
        self._cursors.clear()
        for topic, partition in partitions:
            tp = TopicPartition(topic, partition)
            consumer._subscription.seek(tp, 0)  # noqa: SLF001 - a valid position asks for no committed one
            consumer._subscription.pause(tp)  # noqa: SLF001

    async def open_flow(self, positions: Mapping[TopicPartition, int], incarnation: int) -> bool:
        """Seek to `positions` and let batches of `incarnation` flow; False if not assigned."""
        return cast("bool", await self.call_thread(self._open_flow, positions, incarnation))

    async def _open_flow(self, positions: Mapping[TopicPartition, int], incarnation: int) -> bool:
        consumer = self._ensure_consumer()
        if not positions.keys() <= consumer.assignment():
            return False
        for tp, offset in positions.items():
            consumer.seek(tp, offset)
            self._cursors[tp] = Cursor(incarnation, offset)
            consumer.resume(tp)
        return True

    async def close_flow(self, partitions: Iterable[TopicPartition]) -> None:
        """Stop fetching `partitions`, where still assigned."""
        await self.call_thread(self._close_flow, list(partitions))

    async def _close_flow(self, partitions: list[TopicPartition]) -> None:
        consumer = self._ensure_consumer()
        for tp in partitions:
            self._cursors.pop(tp, None)
            if tp in consumer.assignment():
                consumer.pause(tp)

    async def pause(self, partitions: Iterable[TopicPartition]) -> None:
        """Fetch no more of `partitions`, where their flow is open."""
        await self.call_thread(self._switch, list(partitions), False)

    async def resume(self, partitions: Iterable[TopicPartition]) -> None:
        """Go on fetching `partitions`, where their flow is open."""
        await self.call_thread(self._switch, list(partitions), True)

    async def _switch(self, partitions: list[TopicPartition], on: bool) -> None:
        consumer = self._ensure_consumer()
        for tp in partitions:
            if tp in self._cursors and tp in consumer.assignment():
                (consumer.resume if on else consumer.pause)(tp)

    async def committed(self, tp: TopicPartition) -> int | None:
        """Return the offset the group has committed for `tp`, if any."""
        return cast("int | None", await self.call_thread(self._ensure_consumer().committed, tp))

    async def commit_positions(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit offsets for lag tools; the truth is in the state topic."""
        offsets = {tp: OffsetAndMetadata(offset, "") for tp, offset in positions.items()}
        await self.call_thread(self._ensure_consumer().commit, offsets)

    async def bounds(
        self, partitions: Iterable[TopicPartition]
    ) -> tuple[dict[TopicPartition, int], dict[TopicPartition, int]]:
        """Return (first, end) offsets of `partitions` as the broker has them now."""
        tps, consumer = list(partitions), self._ensure_consumer()
        first = await self.call_thread(consumer.beginning_offsets, tps)
        end = await self.call_thread(consumer.end_offsets, tps)
        return first, end

    def reach(self, tp: TopicPartition) -> Reach | None:
        """Return how far `tp` was fetched, or None when it is not assigned or has no position."""
        consumer = self._ensure_consumer()
        subscription = consumer._subscription.subscription  # noqa: SLF001
        assignment = subscription.assignment if subscription else None
        state = assignment.state_value(tp) if assignment else None
        if state is None or not state.has_valid_position:
            return None
        return Reach(state.position, state.lso, (state.timestamp or 0) / 1000.0)

    # -- fetching --------------------------------------------------------------------------

    async def fetch(self, timeout: float) -> list[FetchedBatch]:  # noqa: ASYNC109 - Faust's name
        """Return what has been fetched; wait up to `timeout` seconds for it."""
        return cast("list[FetchedBatch]", await self.call_thread(self._fetch, timeout))

    async def _fetch(self, timeout: float) -> list[FetchedBatch]:  # noqa: ASYNC109
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher  # noqa: SLF001
        if consumer._closed or fetcher._closed:  # noqa: SLF001
            raise ConsumerStoppedError
        if consumer._subscription.reassignment_in_progress:  # noqa: SLF001
            await asyncio.sleep(min(timeout, 0.05))
            return []
        with consumer._subscription.fetch_context():  # noqa: SLF001 - keeps max.poll.interval content
            if (batches := self._drain(fetcher)) or self._unfinished:
                return batches
            waiter = fetcher._create_fetch_waiter()  # noqa: SLF001
            _, pending = await asyncio.wait([waiter], timeout=timeout)
            if pending:
                waiter.cancel()
                return []
            return self._drain(fetcher)

    def _drain(self, fetcher: Any) -> list[FetchedBatch]:
        """Take what is fetched: who was left out last time comes first, then what is small.

        A security event or a finding must not wait behind a megabyte of tasks. What is not taken
        to its end stays with the fetcher, which asks for more of a partition once it is gone.
        """
        fetched = fetcher._records  # noqa: SLF001
        batches: list[FetchedBatch] = []
        room, missed = DRAIN_BYTES, self._missed
        self._missed, self._unfinished = set(), False
        for tp in sorted(fetched, key=lambda at: (at not in missed, _size(fetched[at]))):
            if room <= 0:
                self._missed.add(tp)
                self._unfinished = True
                continue
            portion = self._take(tp, fetched[tp])
            batches += portion.batches
            room -= portion.size
            if portion.last:
                del fetched[tp]
                fetcher._notify(fetcher._wait_consume_future)  # noqa: SLF001
            else:
                self._unfinished = True
        return batches

    def _take(self, tp: TopicPartition, result: Any) -> Portion:
        """Take some of one fetch of one partition, all of it in nearly every case."""
        if not isinstance(result, FetchResult):
            self._report(tp, result._error)  # noqa: SLF001
            return Portion()
        cursor = self._cursors.get(tp)
        if cursor is None or not result.check_assignment(tp) or not result.has_more():
            return Portion()
        builder, broken = PortionBuilder(tp, cursor, time.time()), False
        try:
            builder.take(result._partition_records)  # noqa: SLF001
        except Exception as error:  # noqa: BLE001 - whatever it is concerns this partition only
            self._report(tp, error)
            broken = True
        portion = builder.done(broken=broken)
        result._update_position()  # noqa: SLF001
        self._cursors[tp] = builder.cursor
        return portion

    def _report(self, tp: TopicPartition, error: Exception) -> None:
        if self.on_fetch_error is not None:
            self.app.loop.call_soon_threadsafe(self.on_fetch_error, tp, error)


def _size(result: Any) -> int:
    """Return the bytes of a fetch not yet taken, 0 for an error."""
    records = getattr(result, "_partition_records", None)
    return 0 if records is None else int(records.size)


class BatchConsumer(driver.Consumer):
    """Faust's consumer, yielding batches and leaving positions to the units."""

    _thread: BatchConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Forget offsets as soon as they are read: see `_NoReadOffset`."""
        super().__init__(*args, **kwargs)
        self._read_offset = cast("Any", _NoReadOffset())

    @property
    def thread(self) -> BatchConsumerThread:
        """The thread that owns the aiokafka consumer."""
        return self._thread

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def hold(self, partitions: Iterable[tuple[str, int]]) -> None:
        """See `BatchConsumerThread.hold`."""
        self._thread.hold(partitions)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe to every input topic there is, also those no agent reads yet.

        So all versions of the service have the same subscription, and a rolling upgrade does not
        split a partition number between two workers.
        """
        await super().subscribe({*topics, *cast("Any", self.app).subscription})

    async def perform_seek(self) -> None:
        """Do nothing: a unit seeks when it opens, and nobody else does."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Do nothing, for the same reason."""
        return {}

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109
        """Yield one message per fetched batch while the flow is on.

        An error that escaped here in a rebalance would end the worker, so none does.
        """
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]
        if self.should_stop:
            return
        try:
            batches = await self._thread.fetch(timeout)
        except ConsumerStoppedError:
            raise
        except Exception:
            log.exception("fetch.failed")
            await self.sleep(0.2)
            return
        for batch in batches:
            if not self.flow_active:
                return
            tp = TP(batch.topic, batch.partition)
            yield tp, _message(tp, batch, self.app.consumer_generation_id)


def _message(tp: TP, batch: FetchedBatch, generation: int) -> ConsumerMessage:
    return ConsumerMessage(
        topic=tp.topic,
        partition=tp.partition,
        offset=batch.fetch_from,
        timestamp=batch.fetched_at,
        timestamp_type=0,
        headers=None,
        key=None,
        value=cast("Any", batch),
        checksum=None,
        tp=tp,
        generation_id=generation,
    )


class IdleProducer(driver.Producer):
    """Faust's own producer: it connects as all clients do, and nobody writes with it."""

    def _settings_auth(self) -> dict[str, Any]:
        return connection(cast("Any", self.app).settings)


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with the consumer above."""

    Consumer: ClassVar[type[BatchConsumer]] = BatchConsumer
    Producer: ClassVar[type[IdleProducer]] = IdleProducer
