"""Records of a fetched batch read one by one, or refused with a reason.

This alone decides what is refused and why; reading in columns gives the same, sooner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from streams import schemas
from streams.batch import Refusal
from streams.limits import broken
from streams.reasons import DeadLetterReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from streams.batch import FetchedBatch
    from streams.keys import Keys

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Decoded(Generic[T]):
    """What a batch gave.

    Attributes:
        rows: int64[m], the indices of the good records in the batch, ascending.
        value: the m good records.
        refused: the others, by index ascending.
        unknown: the frames of those refused as UNKNOWN_SCHEMA: worth a look-up.
    """

    rows: NDArray[np.int64]
    value: T
    refused: list[Refusal]
    unknown: frozenset[bytes] = frozenset()


def each(
    batch: FetchedBatch, rows: NDArray[np.int64], read: Callable[[int], T]
) -> Decoded[list[T]]:
    """Read the records of a batch at `rows` one by one; `read` raises DecodeError to refuse one."""
    found: list[T] = []
    kept: list[int] = []
    refused: list[Refusal] = []
    unknown: set[bytes] = set()
    for row in rows.tolist():
        try:
            found.append(read(row))
            kept.append(row)
        except schemas.DecodeError as error:
            refused.append(Refusal(row, error.reason, error.detail))
            if error.reason is DeadLetterReason.UNKNOWN_SCHEMA:
                unknown.add(schemas.frame_of(batch.values[row] or b""))
    return Decoded(np.array(kept, np.int64), found, refused, frozenset(unknown))


def fields_of(reader: schemas.Reader, batch: FetchedBatch, row: int) -> dict[str, Any]:
    """Return the fields of one event, each within its limits, or raise DecodeError."""
    record = reader.read(whole_value(batch, row))
    detail = broken(record)
    if detail is not None:
        raise schemas.DecodeError(DeadLetterReason.INVALID_FIELD, detail)
    return record


def event_of(reader: schemas.Reader, keys: Keys, batch: FetchedBatch, row: int) -> dict[str, Any]:
    """Return the fields of one event of an agent, or raise DecodeError, also for its key."""
    record = fields_of(reader, batch, row)
    problem = keys.problem(batch.keys[row], record["tenant"], record["agent_id"], batch.partition)
    if problem is not None:
        raise schemas.DecodeError(*problem)
    return record


def whole_value(batch: FetchedBatch, row: int) -> bytes | None:
    """Return a value, or raise DecodeError where not all of it is here."""
    if batch.oversize or batch.unreadable:
        offset = int(batch.offsets[row])
        if (why := batch.unreadable.get(offset)) is not None:
            raise schemas.DecodeError(DeadLetterReason.UNREADABLE_BATCH, why)
        if (size := batch.oversize.get(offset)) is not None:
            detail = f"key and value have {size} bytes, more than max_value_bytes allows"
            raise schemas.DecodeError(DeadLetterReason.OVERSIZE, detail)
    return batch.values[row]
