"""Stage *detect*: events in; findings, windows, partials, training signals and dead letters out.

What one partition computes is in `streams.workforce`; here bytes become columns and findings become
bytes, and batches wait until the topics around them were read as far.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams.batch import Refusal
from streams.codec import decoders
from streams.decoding import Decoded
from streams.durations import HOUR
from streams.ordering import Order, Role, Span
from streams.outputs import Outbox, Outputs
from streams.workforce import Scope, Workforce

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from numpy.typing import NDArray

    from streams.batch import FetchedBatch
    from streams.catalog import SchemaCatalog
    from streams.epoch import OutRecord
    from streams.outputs import StateChange
    from streams.rules import RuleSet
    from streams.settings import Settings
    from streams.stage import StopReason

    I64 = NDArray[np.int64]
    Fold = Callable[[Any, I64, I64], list[Refusal]]

ROLES = {
    "tasks": Role.TASKS,
    "calls": Role.BESIDE,
    "security": Role.FREE,
    "reviews": Role.AFTER,
    "changes": Role.AROUND,
    "queues": Role.BESIDE,
    "profiles": Role.AROUND,
}
"""What each input topic is to the tasks."""

STRIDE = 6 * HOUR
"""Event time that is folded in one go: rules are looked at each hour, which takes its time."""


class ClockSample(NamedTuple):
    """The tasks clock after a batch, and when that batch was fetched."""

    fetched_at: float
    clock: int


class _Waiting:
    """A batch that waits, decoded, and the event times in it.

    Args:
        batch: the batch, at least one record.
        decoded: what it says.
    """

    def __init__(self, batch: FetchedBatch, decoded: Decoded[Any]) -> None:
        self.batch, self.decoded = batch, decoded
        self._times = _times(decoded.value)
        self._seen = np.minimum(self._times, batch.timestamps[decoded.rows])

    def holds(self, batch: FetchedBatch) -> bool:
        """Return whether a batch is part of this one."""
        whole = self.batch
        inside = whole.fetch_from <= batch.fetch_from and batch.next_offset <= whole.next_offset
        return inside and batch.incarnation == whole.incarnation

    def end(self, batch: FetchedBatch, clock: int | None) -> int:
        """Return the offset before which the clock goes on by `STRIDE` at most, but one event.

        Args:
            batch: part of this one.
            clock: of its topic before it, ms; None before the first event.
        """
        low, high = self._range(batch)
        if low == high:
            return batch.next_offset
        clocks = np.maximum.accumulate(self._seen[low:high])
        begin = int(clocks[0]) if clock is None else clock
        end = max(1, int(np.searchsorted(clocks, begin + STRIDE)))
        if end >= len(clocks):
            return batch.next_offset
        return int(self.batch.offsets[self.decoded.rows[low + end]])

    def span(self, batch: FetchedBatch) -> Span | None:
        """Return the event times of a part; None where there is no event in it."""
        low, high = self._range(batch)
        if low == high:
            return None
        return Span(int(self._times[low:high].min()), int(self._seen[low:high].max()))

    def of(self, batch: FetchedBatch) -> Decoded[Any]:
        """Return what it says of a part."""
        decoded, whole = self.decoded, self.batch
        if len(batch) == len(whole):
            return decoded
        first = int(whole.offsets.searchsorted(batch.offsets[0]))
        low, high = self._range(batch)
        value = decoded.value
        part = value[low:high] if isinstance(value, list) else value.take(np.arange(low, high))
        refused = [
            Refusal(one.index - first, one.reason, one.detail)
            for one in decoded.refused
            if first <= one.index < first + len(batch)
        ]
        return Decoded(decoded.rows[low:high] - first, part, refused, decoded.unknown)

    def _range(self, batch: FetchedBatch) -> tuple[int, int]:
        """Return which of the events are in a part."""
        if len(batch) == len(self.batch):
            return 0, len(self.decoded.rows)
        first = int(self.batch.offsets.searchsorted(batch.offsets[0]))
        low, high = np.searchsorted(self.decoded.rows, (first, first + len(batch)))
        return int(low), int(high)


class DetectCore:
    """Stage *detect*, one partition."""

    def __init__(
        self, settings: Settings, rules: RuleSet, partition: int, catalog: SchemaCatalog
    ) -> None:
        """Make an empty core for `partition`."""
        name = settings.topic
        scope = Scope(partition, settings.partitions, settings.max_series, name)
        self._workforce = Workforce(rules, scope)
        self._decoders = decoders(settings, catalog.find)
        self._folds: dict[str, Fold] = {
            "tasks": self._workforce.fold_tasks,
            "security": self._workforce.fold_security,
            "calls": self._workforce.fold_calls,
            **{topic: self._few(topic) for topic in ("reviews", "changes", "queues", "profiles")},
        }
        self._suffix = {name(suffix): suffix for suffix in self._folds}
        self._order = Order(ROLES)
        self._waiting: dict[str, _Waiting] = {}
        self._outputs = Outputs(settings, catalog, partition)
        self._outbox = Outbox(settings, partition)
        self._partition = partition
        self._idle_after = settings.idle_after
        self._fetch_wait = settings.fetch_wait_ms / 1000.0
        self._samples: deque[ClockSample] = deque(maxlen=4096)
        self._folded_at = 0.0
        self._settled = False

    @property
    def urgent(self) -> bool:
        """Whether a finding waits."""
        return self._workforce.urgent

    @property
    def dirty(self) -> bool:
        """Whether there is anything to write."""
        return self._workforce.dirty or bool(self._outbox.records)

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        """Take over the stored state."""
        self._workforce.restore(records.items())

    def ready(self, batch: FetchedBatch, caught_up: Mapping[str, float]) -> bool:
        """Return whether the topics around this one were read as far as its next part needs."""
        topic = self._suffix[batch.topic]
        if ROLES[topic] in {Role.FREE, Role.AROUND} or not len(batch):
            return True
        waiting = self._decoded(topic, batch)
        span = waiting.span(self.part(batch))
        if waiting.decoded.unknown or span is None:
            return True
        ends = {self._suffix[name] for name in caught_up}
        return self._order.may(topic, span, self._workforce.clocks, ends)

    def part(self, batch: FetchedBatch) -> FetchedBatch:
        """Return what of a batch lets the clock go on by `STRIDE` at most, but one event."""
        if not len(batch):
            return batch
        topic = self._suffix[batch.topic]
        waiting = self._decoded(topic, batch)
        if waiting.decoded.unknown:
            return batch
        return batch.end_at(waiting.end(batch, self._workforce.clocks.get(topic)))

    def fold(self, batch: FetchedBatch, *, final: bool = False) -> Collection[bytes]:
        """Decode, admit, fold and evaluate one batch of any input topic."""
        if not len(batch):
            return ()
        topic = self._suffix[batch.topic]
        waiting = self._decoded(topic, batch, again=final)
        if waiting.decoded.unknown and not final:
            del self._waiting[topic]
            return waiting.decoded.unknown
        decoded = waiting.of(batch)
        if batch.next_offset >= waiting.batch.next_offset:
            del self._waiting[topic]
        self._outbox.refuse(batch, decoded.refused)
        rows = decoded.rows
        refused = self._folds[topic](decoded.value, batch.offsets[rows], batch.timestamps[rows])
        self._outbox.refuse(
            batch, [Refusal(int(rows[one.index]), one.reason, one.detail) for one in refused]
        )
        if topic == "tasks":
            self._sample(batch.fetched_at)
        self._folded_at = batch.fetched_at
        return ()

    def settle(self, caught_up: Mapping[str, float], wall: float) -> None:
        """Move quiet lives and idle clocks, where the topics' ends allow it.

        Security is known to be quiet up to a tasks clock when a fetch that began after that clock
        was set found the security partition at its end; a fetch lasts at most `fetch_wait_ms`.
        """
        if not self._settled:
            # The clock of a restored state was set by records fetched before now.
            self._settled = True
            self._folded_at = self._folded_at or wall
            self._sample(wall)
        ends = {self._suffix[name]: answered for name, answered in caught_up.items()}
        self._workforce.ended(ends)
        quiet: int | None = None
        answered = ends.get("security")
        while (
            answered and self._samples and self._samples[0].fetched_at + self._fetch_wait < answered
        ):
            quiet = self._samples.popleft().clock
        if quiet is not None:
            self._workforce.quiet(quiet)
        everything = len(ends) == len(self._folds)
        if self._idle_after and everything and wall - self._folded_at >= self._idle_after:
            self._workforce.idle(int(wall * 1000))

    def drain(self) -> tuple[list[OutRecord], list[StateChange]]:
        """Return findings, windows, partials, signals and dead letters, and the changed state."""
        said = self._workforce.drain()
        records = self._outbox.take()
        records += map(self._outputs.finding, said.findings)
        records += map(self._outputs.window, said.windows)
        records += [self._outputs.partial(home, one) for home, one in said.partials]
        records += map(self._outputs.training_signal, said.signals)
        return records, said.state

    def halted(self, reason: StopReason, since_ms: int, resumed_ms: int | None) -> list[OutRecord]:
        """Return the finding that this partition stands still, or goes on again."""
        return [self._outputs.stopped(str(reason), since_ms, resumed_ms)]

    # -- inside ------------------------------------------------------------------------------

    def _few(self, topic: str) -> Fold:
        return lambda events, offsets, stamps: self._workforce.fold_few(
            topic, events, offsets, stamps
        )

    def _decoded(self, topic: str, batch: FetchedBatch, *, again: bool = False) -> _Waiting:
        """Decode a batch, once for as long as it or a part of it waits."""
        waiting = self._waiting.get(topic)
        if again or waiting is None or not waiting.holds(batch):
            waiting = _Waiting(batch, self._decoders[topic].decode(batch))
            self._waiting[topic] = waiting
        return waiting

    def _sample(self, fetched_at: float) -> None:
        """Remember that the tasks clock stood where it stands by then."""
        if (clock := self._workforce.clocks.get("tasks")) is not None:
            self._samples.append(ClockSample(fetched_at, clock))


def _times(value: Any) -> I64:
    """Return the event times of decoded events, in columns or one by one."""
    if isinstance(value, list):
        return np.array([one.occurred_at for one in value], np.int64)
    times: I64 = value.occurred_at
    return times
