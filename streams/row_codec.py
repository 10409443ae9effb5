"""Events that are few, decoded one by one into objects, and the records of our own topics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np

from streams import schemas
from streams.columns import SecurityEvent
from streams.decoding import Decoded, each, event_of, fields_of, whole_value
from streams.events import AgentProfile, Change, Control, Deleted, HumanReview, QueueDepth
from streams.keys import Keys, Partitioner, mismatch, unnamed
from streams.reasons import DeadLetterReason
from streams.trace import trace_id

if TYPE_CHECKING:
    from streams.batch import FetchedBatch

E = TypeVar("E")

_CONTROLS = ("SILENCE", "ACKNOWLEDGE", "ACCEPT_NORMAL", "MAINTENANCE", "EXPIRE", "RULES")


class RowDecoder(ABC, Generic[E]):
    """Decodes batches of a topic keyed by agent.

    Args:
        partitions: number of partitions of the topic.
        partitioner: how producers choose a partition; see `Keys`.
        find: gives the schemas of other writers by frame; the built-in ones are always known.
    """

    record: ClassVar[str]
    """Name of the schema."""

    def __init__(
        self,
        *,
        partitions: int,
        partitioner: Partitioner = "murmur2",
        find: schemas.Find | None = None,
    ) -> None:
        self._keys = Keys(partitions, partitioner)
        self._reader = schemas.Reader(self.record, find)

    def decode(self, batch: FetchedBatch) -> Decoded[list[E]]:
        """Decode all records of a batch."""
        return each(batch, np.arange(len(batch)), lambda row: self._read(batch, row))

    def _read(self, batch: FetchedBatch, row: int) -> E:
        return self._made(event_of(self._reader, self._keys, batch, row), batch, row)

    @abstractmethod
    def _made(self, fields: dict[str, Any], batch: FetchedBatch, row: int) -> E:
        """Make the event of its fields."""


class SecurityDecoder(RowDecoder[SecurityEvent]):
    """Decodes batches of the security topic; the parameters are those of `RowDecoder`."""

    record = "SecurityEvent"

    def _made(self, fields: dict[str, Any], batch: FetchedBatch, row: int) -> SecurityEvent:
        """A trace id may also stand in the headers."""
        if fields["trace_id"] is None and batch.headers[row]:
            fields["trace_id"] = trace_id(batch.headers[row])
        return SecurityEvent(**fields)


class ReviewDecoder(RowDecoder[HumanReview]):
    """Decodes batches of the reviews topic; the other parameters are those of `RowDecoder`.

    Args:
        keep_reasons: whether the words of a review are kept; else `reason` is None.
    """

    record = "HumanReview"

    def __init__(
        self,
        *,
        partitions: int,
        partitioner: Partitioner = "murmur2",
        find: schemas.Find | None = None,
        keep_reasons: bool = False,
    ) -> None:
        super().__init__(partitions=partitions, partitioner=partitioner, find=find)
        self._keep_reasons = keep_reasons

    def _made(self, fields: dict[str, Any], batch: FetchedBatch, row: int) -> HumanReview:
        del batch, row
        if not self._keep_reasons:
            fields["reason"] = None
        return HumanReview(**fields)


class ChangeDecoder(RowDecoder[Change]):
    """Decodes batches of the changes topic; the parameters are those of `RowDecoder`."""

    record = "Change"

    def _made(self, fields: dict[str, Any], batch: FetchedBatch, row: int) -> Change:
        del batch, row
        return Change(**fields)


class QueueDecoder(RowDecoder[QueueDepth]):
    """Decodes batches of the queues topic; the parameters are those of `RowDecoder`."""

    record = "QueueDepth"

    def _made(self, fields: dict[str, Any], batch: FetchedBatch, row: int) -> QueueDepth:
        del batch, row
        return QueueDepth(**fields)


class ProfileDecoder(RowDecoder[AgentProfile | Deleted]):
    """Decodes batches of the profiles topic; the parameters are those of `RowDecoder`.

    A null value is no fault here: it deletes the profile with that key.
    """

    record = "AgentProfile"

    def _read(self, batch: FetchedBatch, row: int) -> AgentProfile | Deleted:
        if whole_value(batch, row) is not None:
            return super()._read(batch, row)
        key = batch.keys[row]
        problem = unnamed(key, "the agent") or self._keys.stray(key or b"", batch.partition)
        if problem is not None:
            raise schemas.DecodeError(*problem)
        return Deleted(key=(key or b"").decode(), occurred_at=max(0, int(batch.timestamps[row])))

    def _made(self, fields: dict[str, Any], batch: FetchedBatch, row: int) -> AgentProfile:
        del batch, row
        fields["feature_names"] = tuple(fields["feature_names"])
        fields["depends_on"] = tuple(fields["depends_on"])
        return AgentProfile(**fields)


class ControlDecoder:
    """Decodes batches of the controls topic, which has one partition and is keyed by control.

    Args:
        find: gives the schemas of other writers by frame; the built-in ones are always known.
    """

    def __init__(self, *, find: schemas.Find | None = None) -> None:
        self._reader = schemas.Reader("Control", find)

    def decode(self, batch: FetchedBatch) -> Decoded[list[Control]]:
        """Decode all records of a batch."""

        def control(row: int) -> Control:
            fields = fields_of(self._reader, batch, row)
            if (detail := _senseless(fields)) is not None:
                raise schemas.DecodeError(DeadLetterReason.INVALID_FIELD, detail)
            key = str(fields["control_id"]).encode()
            problem = mismatch(batch.keys[row], key, "control_id", "the control")
            if problem is not None:
                raise schemas.DecodeError(*problem)
            return Control(**fields)

        return each(batch, np.arange(len(batch)), control)


class RecordDecoder:
    """Decodes batches of a topic of ours, such as the findings: any key, any field values.

    Args:
        name: name of the schema.
        find: gives the schemas of other writers by frame.
    """

    def __init__(self, name: str, find: schemas.Find | None = None) -> None:
        self._reader = schemas.Reader(name, find)

    def decode(self, batch: FetchedBatch) -> Decoded[list[dict[str, Any]]]:
        """Decode all records of a batch."""
        rows = np.arange(len(batch))
        return each(batch, rows, lambda row: self._reader.read(whole_value(batch, row)))


def _senseless(fields: dict[str, Any]) -> str | None:
    """Return which field of a control does not go with its others, None where all do."""
    kind, begin, until = fields["kind"], fields["from_at"], fields["until_at"]
    if kind not in _CONTROLS:
        return f"kind is {kind}, allowed are {', '.join(_CONTROLS)}"
    if kind == "SILENCE" and until is None:
        return "until_at is null, and a SILENCE must have an end: ms since 1970 UTC"
    begin = fields["occurred_at"] if begin is None else begin
    if until is not None and until <= begin:
        return f"until_at is {until}, and must be after from_at, {begin}"
    if kind == "RULES" and not fields["rules"]:
        return "rules is null or empty, and RULES must bring the text of rules.yaml"
    if kind != "RULES" and fields["rules"] is not None:
        return f"rules is given, and only RULES brings any, not {kind}"
    return None
