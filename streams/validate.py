"""`agentops-streams validate`: what a worker would make of a record, and what to do about it.

The verdict is that of a worker's own decoder, given a batch of one record. Around it stands what
helps a producer's author: all that is wrong with fields given by name, the key and partition the
record must have, and whether its time would be taken now.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from streams import dead_letters, schemas
from streams.admission import future_detail, late_detail
from streams.advice import SECONDS, advice
from streams.batch import FetchedBatch
from streams.clock import AHEAD, RETENTION
from streams.codec import decoders
from streams.durations import HOUR
from streams.explain import explain, shown
from streams.keys import Keys, key_of
from streams.limits import faults
from streams.reasons import DeadLetterReason
from streams.topics import PRODUCED, TOPICS
from streams.validate_view import held

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streams.samples import Sample
    from streams.settings import Settings

RECORDS = {
    spec.suffix: spec.record
    for spec in TOPICS
    if spec.suffix in (*PRODUCED, "controls") and spec.record
}
"""Topics whose records can be judged, without prefix, and the names of their schemas."""
_TOPICS = {record: suffix for suffix, record in RECORDS.items()}
_TIME = re.compile(r"(\w+_at) is \d")


class Unfit(StrEnum):
    """Why there is nothing that a worker could judge."""

    NOT_READABLE = "NOT_READABLE"
    """There is no record at this place of the input."""
    UNKNOWN_TOPIC = "UNKNOWN_TOPIC"
    """Nothing says which topic the record is for."""
    NOT_ENCODABLE = "NOT_ENCODABLE"
    """Its fields do not fit the schema: a producer could not write it."""


CURES: Mapping[DeadLetterReason | Unfit, str] = {
    **{reason: one.cure for reason, one in dead_letters.CURES.items()},
    Unfit.NOT_READABLE: "mend the input",
    Unfit.UNKNOWN_TOPIC: f"name it: --topic {' or --topic '.join(RECORDS)}",
    Unfit.NOT_ENCODABLE: "write the fields as the schema has them",
    # Here nobody replays, and the schema may not be published yet.
    DeadLetterReason.UNKNOWN_SCHEMA: "give its schema here with --schema; workers must find it "
    "on the topic `schemas` or in the registry",
}


@dataclass(slots=True)
class Verdict:
    """What becomes of one record.

    Attributes:
        where: its place in the input.
        reason: why it would be refused; None where it would be taken.
        problems: all that is wrong with it, one sentence each.
        cure: what to do.
        warnings: what is not wrong and yet probably not meant.
        topic: topic without prefix.
        read: what a worker would read, by name.
        key: the key it must have.
        partition: the partition of that key; -1 where partitions are not checked.
        schema: the schema its value names: a fingerprint, or `id` and a registry's number.
        size: bytes of the value.
    """

    where: str
    reason: DeadLetterReason | Unfit | None = None
    problems: list[str] = field(default_factory=list)
    cure: str | None = None
    warnings: list[str] = field(default_factory=list)
    topic: str | None = None
    read: dict[str, Any] | None = None
    key: str | None = None
    partition: int | None = None
    schema: str | None = None
    size: int | None = None

    @property
    def word(self) -> str:
        """The verdict in a word."""
        return "REFUSED" if self.reason else "warning" if self.warnings else "ok"

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"verdict": self.word, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller said about all records.

    Attributes:
        topic: their topic without prefix; None takes what each says of itself.
        key: their key; None takes the one beside each.
        schema: what values are written with that no built-in schema wrote, and what fields given
            by name are held against.
    """

    topic: str | None = None
    key: bytes | None = None
    schema: schemas.Schema | None = None


class Validator:
    """Judges records one by one.

    Args:
        settings: partitions, partitioner and size limits of the workers.
        given: what the caller said about all records.
        clock: wall clock, ms since 1970.

    Attributes:
        counts: verdicts so far by word.
        reasons: refusals so far by reason.
        foreign: records so far by schema, where that is not built in.
    """

    def __init__(self, settings: Settings, given: Given, clock: Callable[[], int]) -> None:
        self._settings, self._given, self._clock = settings, given, clock
        self._keys = Keys(settings.partitions, settings.partitioner)
        self._schema: schemas.Schema | None = None
        self._decoders = decoders(settings, self._find)
        self._readers = {
            topic: schemas.Reader(record, self._find) for topic, record in RECORDS.items()
        }
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.foreign: Counter[str] = Counter()

    def judge(self, sample: Sample) -> Verdict:
        """Return what becomes of a record."""
        self._schema = sample.schema or self._given.schema
        verdict = Verdict(sample.where)
        self._judge(sample, verdict)
        if verdict.reason is not None:
            verdict.cure = verdict.cure or CURES[verdict.reason]
            self.reasons[verdict.reason] += 1
        self.counts[verdict.word] += 1
        return verdict

    def _judge(self, sample: Sample, verdict: Verdict) -> None:
        if sample.unreadable is not None:
            _refuse(verdict, Unfit.NOT_READABLE, sample.unreadable)
            return
        topic = verdict.topic = self._topic(sample)
        if topic not in self._decoders:
            what = f"records of {shown(topic)} are not judged" if topic else "no topic is named"
            _refuse(verdict, Unfit.UNKNOWN_TOPIC, what)
            return
        value, record = sample.value, None
        if sample.record is not None:
            value = self._encoded(sample.record, topic, verdict)
            if value is None:
                return
        with_frame = value or b""
        verdict.size = sample.size or len(with_frame)
        try:
            frame = schemas.frame_of(with_frame)
            number = schemas.registry_id(frame)
            verdict.schema = frame[2:].hex() if number is None else f"id {number}"
            record = self._readers[topic].read(value)
        except schemas.DecodeError:
            pass  # what the decoder says about it is the verdict
        self._decode(sample, value, record, verdict)

    # ---- what the record is

    def _topic(self, sample: Sample) -> str | None:
        """Return the topic: as the caller says, else the input, else the record itself."""
        said = self._given.topic or sample.topic
        if said is not None:
            return said.rpartition(".")[2]
        if sample.record is not None:
            return _topic_of_fields(sample.record)
        try:
            found = schemas.find_by(schemas.frame_of(sample.value or b""), self._find)
        except schemas.DecodeError:
            found = None
        if found is None:
            return next(iter(RECORDS))  # refused for its frame on every topic alike
        return _TOPICS.get(found.name, found.name)

    def _find(self, frame: bytes) -> schemas.Schema | None:
        """Return the schema that was given, where the frame can mean it."""
        schema = self._schema
        if schema is None or schemas.registry_id(frame) is not None:
            return schema
        return schema if schema.frame == frame else None

    def _encoded(self, record: Mapping[str, Any], topic: str, verdict: Verdict) -> bytes | None:
        schema = self._schema or schemas.get(RECORDS[topic])
        found = explain(schema, record)
        verdict.warnings += found.warnings
        if found.problems:
            _refuse(verdict, Unfit.NOT_ENCODABLE, *found.problems, *faults(found.record))
            return None
        try:
            return schema.write(found.record)
        except Exception as error:  # noqa: BLE001 - fastavro's messages repeat what was in a field
            _refuse(verdict, Unfit.NOT_ENCODABLE, f"{type(error).__name__} while encoding it")
            return None

    # ---- what a worker makes of it

    def _decode(
        self, sample: Sample, value: bytes | None, record: dict[str, Any] | None, verdict: Verdict
    ) -> None:
        key, has_key = sample.key, sample.has_key
        if self._given.key is not None:
            key, has_key = self._given.key, True
        if record is not None:
            needed = _key_of(record)
            verdict.key, verdict.partition = needed.decode(), self._place(needed, verdict)
            key = key if has_key else needed
        now = self._clock()
        stamp = now if sample.timestamp is None else sample.timestamp
        own = max(0, self._place(key or b"", verdict))
        partition = own if sample.partition is None else sample.partition
        size = (verdict.size or 0) + len(key or b"")
        oversize = {0: size} if size > self._settings.max_value_bytes else {}
        batch = _batch_of(stamp, partition, (key, value), oversize)
        done = self._decoders[verdict.topic or ""].decode(batch)
        if done.refused:
            refusal = done.refused[0]
            details = [refusal.detail]
            if refusal.reason is DeadLetterReason.INVALID_FIELD and record is not None:
                details = list(dict.fromkeys((*faults(record), refusal.detail)))
                if "agent_id" in record:
                    ids = record["tenant"], record["agent_id"]
                    problem = self._keys.problem(key, *ids, partition)
                    details += [problem[1]] if problem else []
            _refuse(verdict, refusal.reason, *details)
            return
        verdict.read = held(done.value)
        verdict.warnings += _times(verdict.read["occurred_at"], sample.timestamp, now)
        if record is not None:
            self._note_schema(verdict)
            verdict.warnings += advice(verdict.topic or "", record)

    def _place(self, key: bytes, verdict: Verdict) -> int:
        """Return the partition of a key; -1 where that is not checked."""
        return 0 if verdict.topic == "controls" else self._keys.place(key)

    def _note_schema(self, verdict: Verdict) -> None:
        if self._schema is None or verdict.schema is None:
            return
        if schemas.by_fingerprint(self._schema.fingerprint) is None:
            self.foreign[self._schema.fingerprint.hex()] += 1


def _refuse(verdict: Verdict, reason: DeadLetterReason | Unfit, *problems: str) -> None:
    verdict.reason = reason
    verdict.problems += problems
    if found := next(filter(None, map(_TIME.match, problems)), None):
        verdict.cure = f"{CURES[reason]}; {found[1]} is ms since 1970 UTC, not s, us or ns"


def _key_of(record: Mapping[str, Any]) -> bytes:
    """Return the key a record must have."""
    if "control_id" in record:
        return str(record["control_id"]).encode()
    return key_of(record["tenant"], record["agent_id"])


def _topic_of_fields(record: Mapping[str, Any]) -> str | None:
    """Return the topic whose schema has most of these fields, None where two have as many."""
    scores = {
        topic: len({str(each["name"]) for each in schemas.schema(name)["fields"]} & record.keys())
        for topic, name in RECORDS.items()
    }
    best = max(scores.values())
    found = [topic for topic, score in scores.items() if score == best]
    return found[0] if len(found) == 1 else None


def _batch_of(
    stamp: int,
    partition: int,
    record: tuple[bytes | None, bytes | None],
    oversize: Mapping[int, int],
) -> FetchedBatch:
    """Return a batch of one record, given as its key and value."""
    return FetchedBatch(
        topic="",
        partition=partition,
        incarnation=0,
        fetch_from=0,
        next_offset=1,
        offsets=np.zeros(1, np.int64),
        timestamps=np.array([stamp], np.int64),
        keys=record[:1],
        values=record[1:],
        headers=[()],
        oversize=oversize,
    )


def _times(at: int, stamp: int | None, now: int) -> list[str]:
    """Return why a time would be refused: produced at its Kafka timestamp, else now."""
    produced, when = (now, "produced now") if stamp is None else (stamp, "produced when it was")
    if at > produced + AHEAD:
        return [f"would be refused as FUTURE if {when}: {future_detail(at, produced)}"]
    if at >= produced // HOUR * HOUR - RETENTION:
        return []
    hint = "; it looks like seconds, ms are expected" if at in SECONDS else ""
    detail = late_detail(at, produced)
    return [f"would be refused as TOO_LATE beside newer events if {when}: {detail}{hint}"]
