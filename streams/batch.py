"""What one fetch brought from one partition, and how a record of it is refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streams.reasons import DeadLetterReason

Header = tuple[str, bytes | None]


@dataclass(frozen=True, slots=True, eq=False)
class FetchedBatch:
    """The records of one (partition, fetch), with the range of offsets the fetch covered.

    The range matters beside the records: compaction and transaction markers leave gaps, and
    only a gap inside ``[fetch_from, next_offset)`` is a legal one.

    Attributes:
        topic: topic name as on the broker.
        partition: partition number.
        incarnation: the seek this fetch follows; a batch of an older one is stale.
        fetch_from: first offset the fetch could have returned.
        next_offset: offset the next fetch starts from.
        offsets: int64[n], ascending.
        timestamps: int64[n], Kafka record timestamps, ms.
        keys: n keys, None where null.
        values: n values, None where null.
        headers: n sequences of (name, value).
        fetched_at: wall-clock seconds at which the fetch came in.
        oversize: true size in bytes of key with value, by the offset of each record of which
            only the beginning is here, as it exceeds `max_value_bytes`.
        unreadable: why, by the offset of each record that could not be read, or of the first of
            several that could not; key and value are None, or what was read of it.
    """

    topic: str
    partition: int
    incarnation: int
    fetch_from: int
    next_offset: int
    offsets: NDArray[np.int64]
    timestamps: NDArray[np.int64]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Sequence[Header]]
    fetched_at: float = 0.0
    oversize: Mapping[int, int] = field(default_factory=dict)
    unreadable: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.values)

    def start_at(self, offset: int) -> FetchedBatch:
        """Return this batch without the records below `offset`."""
        if offset <= self.fetch_from:
            return self
        first = int(self.offsets.searchsorted(offset))
        return replace(
            self,
            fetch_from=offset,
            offsets=self.offsets[first:],
            timestamps=self.timestamps[first:],
            keys=self.keys[first:],
            values=self.values[first:],
            headers=self.headers[first:],
        )

    def end_at(self, offset: int) -> FetchedBatch:
        """Return this batch without the records from `offset` on."""
        if offset >= self.next_offset:
            return self
        last = int(self.offsets.searchsorted(offset))
        return replace(
            self,
            next_offset=offset,
            offsets=self.offsets[:last],
            timestamps=self.timestamps[:last],
            keys=self.keys[:last],
            values=self.values[:last],
            headers=self.headers[:last],
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """One record that goes to the dead letters: its index in the batch, and why."""

    index: int
    reason: DeadLetterReason
    detail: str
