"""One value through the decoders, alone and among good neighbours, against the reference.

No broker: this is what guided fuzzing calls thousands of times a second, and what keeps the values
that were once read wrongly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from load import versions
from load.echo_worker import columns_of, events_of
from load.lanes import BEGIN, Lane
from load.reference import DECODED, Reference, Verdict
from load.strict_avro import StrictError, StrictReader
from streams import schemas
from streams.batch import FetchedBatch
from streams.codec import CallDecoder, SecurityDecoder, TaskDecoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from load.versions import Version

NEIGHBOURS = 25
"""Enough for the columns path."""
PLACE = 13
"""Where the value stands among them."""
_EMPTY = b"agent-1"


class MismatchError(AssertionError):
    """A decoder and the reference disagree, or a neighbour changed; the message has the bytes."""


class Outcome(NamedTuple):
    """What became of a checked value.

    Attributes:
        verdict: as the reference and the decoders agree.
        lenient: the rule of the Avro specification that it breaks and is read nevertheless.
    """

    verdict: Verdict
    lenient: str | None


class DecoderCheck:
    """The decoders with three versions of each record, and neighbours for a value."""

    def __init__(self) -> None:
        makers = versions.current, versions.older, versions.newer
        self._versions = {stream: [make(stream) for make in makers] for stream in DECODED}
        every = [version for some in self._versions.values() for version in some]
        self._by_frame = {version.frame: version for version in every}
        known = {version.frame: schemas.build(version.raw) for version in every}
        self._reference = Reference(1, 1 << 30, [(each.frame, each.raw) for each in every])
        self._decoders: dict[str, Any] = {
            "tasks": TaskDecoder(partitions=1, find=known.get),
            "security": SecurityDecoder(partitions=1, find=known.get),
            "calls": CallDecoder(partitions=1, find=known.get),
        }
        self._neighbours = {stream: self._good(stream) for stream in DECODED}

    def frames(self, stream: str) -> list[bytes]:
        """Return the frames that values of a topic may have."""
        return [version.frame for version in self._versions[stream]]

    def check(self, stream: str, value: bytes | None, key: bytes | None = None) -> Outcome:
        """Decode a value in both ways; the key is the one its fields ask for if None is given.

        Raises:
            MismatchError: something is not as it must be.
        """
        if key is None:
            key = self._reference.key_of(stream, value) or _EMPTY
        verdict = self._reference.judge(stream, 0, key, value)
        expected: Any = verdict.reason if verdict.row is None else verdict.row
        alone = self._decoded(stream, [(key, value)])
        if alone != [expected]:
            raise self._mismatch(stream, value, "alone", alone, [expected])
        pairs, rows = self._neighbours[stream]
        among = self._decoded(stream, [*pairs[:PLACE], (key, value), *pairs[PLACE:]])
        demanded = [*rows[:PLACE], expected, *rows[PLACE:]]
        if among != demanded:
            wrong = [i for i, said in enumerate(among) if said != demanded[i]]
            shown = [(among[i], demanded[i]) for i in wrong[:3]]
            raise self._mismatch(stream, value, f"among neighbours, rows {wrong}", shown, "equal")
        return Outcome(verdict, None if verdict.row is None else self._lenient(value))

    def _decoded(
        self, stream: str, pairs: Sequence[tuple[bytes | None, bytes | None]]
    ) -> list[Any]:
        """Return, for each record, its row or the reason it is refused for."""
        batch = _batch(stream, pairs)
        decoded = self._decoders[stream].decode(batch)
        found: list[Any] = [None] * len(pairs)
        rows = events_of(decoded.value) if stream == "security" else columns_of(decoded.value)
        for place, row in zip(decoded.rows.tolist(), rows, strict=True):
            found[place] = row
        for refusal in decoded.refused:
            found[refusal.index] = str(refusal.reason)
        return found

    def _good(self, stream: str) -> tuple[list[tuple[bytes | None, bytes | None]], list[Any]]:
        """Return good records as (key, value), and their rows."""
        lane = Lane(7, stream, 0, 1, 0, NEIGHBOURS, tuple(self._versions[stream]))
        records = [record for batch in lane.batches() for record in batch.records][-NEIGHBOURS:]
        return [(each.key, each.value) for each in records], [each.row for each in records]

    def _lenient(self, value: bytes | None) -> str | None:
        """Return the rule that a value breaks which the reference reads nevertheless."""
        version: Version = self._by_frame[(value or b"")[:10]]
        try:
            StrictReader((value or b"")[10:]).record(version.raw["fields"])
        except StrictError as error:
            # Of a text that nobody uses, only the length is judged: that is the contract.
            return None if "UTF-8" in str(error) else str(error)
        return None

    def _mismatch(
        self, stream: str, value: bytes | None, how: str, found: Any, expected: Any
    ) -> MismatchError:
        shown = "null" if value is None else value.hex()
        return MismatchError(f"{stream}, {how}: {found!r}, expected {expected!r}, value {shown}")


def _batch(stream: str, pairs: Sequence[tuple[bytes | None, bytes | None]]) -> FetchedBatch:
    count = len(pairs)
    return FetchedBatch(
        topic=f"agentops.{stream}",
        partition=0,
        incarnation=0,
        fetch_from=0,
        next_offset=count,
        offsets=np.arange(count, dtype=np.int64),
        timestamps=np.full(count, BEGIN, np.int64),
        keys=[key for key, _ in pairs],
        values=[value for _, value in pairs],
        headers=[()] * count,
    )
