"""Dead letters: the records that set refused ones aside, with the reason in the headers.

A letter is the refused record itself, key and value as they were, behind headers that say why it
was refused and where it stood. A record of no value with the header `replayed` is a marker: the
letter whose offset it names has been sent to its topic again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.reasons import DeadLetterReason as Reason

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.batch import FetchedBatch, Header, Refusal

CARRIED_BYTES = 16 * 1024
"""Most bytes of a record's own headers that a letter carries."""
CARRIED = "header."
"""What stands before the names of the record's own headers."""
REPLAYED = "replayed"
"""Header of a marker: the offset of the letter that was replayed."""
REPLAYED_FROM = "replayed-from"
"""Header of a replayed record: the letter it was."""

_MAX_DETAIL = 512
_ENVELOPE = 256
"""Bytes of a record batch and a record around key, value and headers, with room for the cuts."""
_SMALLEST = len(CARRIED) + 9
"""Room in which no header fits: a record may have a hundred thousand."""
_NUMBER = re.compile(rb"-?\d{1,18}")


class Cure(NamedTuple):
    """What a reason means to people.

    Attributes:
        why: what was wrong with the record.
        cure: what to do.
        retry: whether the same record can be taken later; such letters are replayed by default.
    """

    why: str
    cure: str
    retry: bool


CURES: Mapping[Reason, Cure] = MappingProxyType(
    {
        Reason.NULL_VALUE: Cure(
            "the record has no value",
            "these topics are not compacted: do not send tombstones",
            retry=False,
        ),
        Reason.BAD_FRAMING: Cure(
            "the value begins with neither known framing",
            "write single objects or registry framing, not containers, JSON or bare Avro",
            retry=False,
        ),
        Reason.UNKNOWN_SCHEMA: Cure(
            "no schema with this fingerprint or id is known to the workers",
            "publish the schema or set registry_url, then replay",
            retry=True,
        ),
        Reason.WRONG_SCHEMA: Cure(
            "the schema is known, but belongs on another topic",
            "check the topic the producer sends to",
            retry=False,
        ),
        Reason.INCOMPATIBLE_SCHEMA: Cure(
            "the writer's schema is known but cannot be read as this topic's record",
            "keep every field without a default, and its type; replay after an upgrade of the "
            "workers that reads it",
            retry=True,
        ),
        Reason.OVERSIZE: Cure(
            "key and value together exceed max_value_bytes once unpacked",
            "send pointers, not content; only the beginning is kept, so send it again yourself",
            retry=False,
        ),
        Reason.UNREADABLE_BATCH: Cure(
            "the Kafka batch itself is damaged; the detail says from where, and which offsets this "
            "letter stands for",
            "look at the producer's client: no producer we know writes such a batch",
            retry=False,
        ),
        Reason.BAD_BODY: Cure(
            "the body does not decode, or bytes are left over",
            "encode with exactly the schema that the framing names",
            retry=False,
        ),
        Reason.INVALID_FIELD: Cure(
            "a field is outside its limits; the detail says which and how",
            "see the limits in producing; send a corrected record",
            retry=False,
        ),
        Reason.KEY_MISSING: Cure(
            "the key is null or not UTF-8", "set the key, and send the record again", retry=False
        ),
        Reason.KEY_MISMATCH: Cure(
            "the key is not that of the fields",
            "make the key of the value's own fields: agent_id, or tenant/agent_id; of a control "
            "control_id",
            retry=False,
        ),
        Reason.STRAY_PARTITION: Cure(
            "the key does not belong in this partition",
            "partition by murmur2 (the setting partitioner), then replay: it goes where it belongs",
            retry=True,
        ),
        Reason.FUTURE: Cure(
            "the event is over 5 min ahead of its Kafka timestamp",
            "set the producer's clock; replay when that time has come",
            retry=True,
        ),
        Reason.TOO_LATE: Cure(
            "the event is over 36 days behind", "nothing counts it any more", retry=False
        ),
        Reason.SERIES_LIMIT: Cure(
            "it would start a series past max_series of its partition",
            "stop the agent id or task type that varies without bound; else raise max_series, then "
            "replay",
            retry=True,
        ),
    }
)
"""Every reason; the pages and `dead-letters list --summary` say the same."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it stands on its topic; what it lacks, or garbles, is None or empty.

    Attributes:
        partition, offset: where it stands.
        timestamp: when it was set aside, ms.
        reason, detail: why; a later version may have other reasons.
        topic: the topic the record was on, as on the broker.
        origin_partition, origin_offset, origin_timestamp: its place and Kafka timestamp there.
        key, value: as they were, or their beginnings.
        headers: the record's own headers.
        key_size, value_size: original bytes of what was cut; None where nothing was.
        headers_cut: how many of its own headers did not fit.
    """

    partition: int
    offset: int
    timestamp: int
    reason: str
    detail: str
    topic: str
    origin_partition: int | None
    origin_offset: int | None
    origin_timestamp: int | None
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]
    key_size: int | None
    value_size: int | None
    headers_cut: int

    @property
    def place(self) -> str:
        """Return where it stands, as PARTITION@OFFSET."""
        return f"{self.partition}@{self.offset}"

    @property
    def whole(self) -> bool:
        """Return whether key and value are all there is of the record."""
        uncut = self.key_size is None and self.value_size is None
        return uncut and self.reason != Reason.UNREADABLE_BATCH

    @property
    def replayed_from(self) -> str | None:
        """Return the older letter of which this is another failure, as TOPIC/PARTITION@OFFSET."""
        found = [value for name, value in self.headers if name == REPLAYED_FROM and value]
        return found[-1].decode(errors="replace") if found else None


def dead_letter(
    batch: FetchedBatch, refusal: Refusal, max_bytes: int
) -> tuple[bytes | None, bytes | None, list[Header]]:
    """Build the record that sets a refused one aside: its own bytes, and why in the headers.

    Its own headers follow under `header.NAME`, as far as they fit beside key and value and within
    CARRIED_BYTES; `headers-cut` says how many did not. Where key and value do not fit, the value is
    cut, then the key; the headers `cut` and `key-cut` then give the original size.

    Args:
        batch: the batch the record came in.
        refusal: which record, and why.
        max_bytes: largest record the dead-letter topic takes, with all that surrounds it.

    Returns:
        Key, value and headers; a null key or value stays null.

    Raises:
        ValueError: `max_bytes` is too small for the headers that say why.
    """
    row = refusal.index
    key, value = batch.keys[row], batch.values[row]
    headers: list[Header] = [
        ("reason", refusal.reason.value.encode()),
        ("detail", refusal.detail.encode(errors="replace")[:_MAX_DETAIL]),
        ("topic", batch.topic.encode()),
        ("partition", str(batch.partition).encode()),
        ("offset", str(int(batch.offsets[row])).encode()),
        ("timestamp", str(int(batch.timestamps[row])).encode()),
    ]
    room = max_bytes - _ENVELOPE - sum(map(_size, headers))
    if room < 0:
        raise ValueError(f"max_bytes={max_bytes} leaves no room beside the headers")
    here = len(key or b"") + len(value or b"")
    carried = _carried(batch.headers[row], room - here if here <= room else room // 2)
    room -= sum(map(_size, carried))
    # Of a record over `max_value_bytes` only the beginning came in: the rest is cut as well.
    beyond = max(0, batch.oversize.get(int(batch.offsets[row]), here) - here)
    key, cuts = _cut("key-cut", key, room, beyond if value is None else 0)
    value, more = _cut("cut", value, room - len(key or b""), beyond)
    return key, value, headers + cuts + more + carried


def _cut(
    name: str, content: bytes | None, room: int, beyond: int
) -> tuple[bytes | None, list[Header]]:
    """Return what fits of a key or value, and the header that gives its size where it was cut."""
    if content is None or (len(content) <= room and not beyond):
        return content, []
    return content[:room], [(name, str(len(content) + beyond).encode())]


def _carried(own: Sequence[Header], room: int) -> list[Header]:
    """Return the record's own headers as a letter carries them, as many as fit."""
    room = min(room, CARRIED_BYTES)
    # A replay that failed again must be known as one, whatever else its record carries.
    newest = [n for n, (name, _) in enumerate(own) if name == REPLAYED_FROM][-1:]
    kept: dict[int, Header] = {}
    for n in (*newest, *range(len(own))):
        if room <= _SMALLEST:
            break
        carried = (CARRIED + own[n][0]).encode(errors="replace").decode(), own[n][1]
        if n not in kept and _size(carried) <= room:
            kept[n] = carried
            room -= _size(carried)
    left = len(own) - len(kept)
    cut: list[Header] = [("headers-cut", str(left).encode())] if left else []
    return [kept[n] for n in sorted(kept)] + cut


def _size(header: Header) -> int:
    """Return the bytes of a header on the wire, at most."""
    return len(header[0].encode()) + len(header[1] or b"") + 10


def marked(record: Any) -> int | None:
    """Return the offset of the letter that a record marks as replayed; None for a letter.

    Args:
        record: a message of the dead-letters topic as aiokafka gives it.
    """
    if record.value is not None:
        return None
    found: int | None = None
    for name, value in record.headers:
        if name == "reason":
            return None
        if name == REPLAYED and found is None:
            found = _number(value)
    return found


def letter_of(record: Any) -> Letter | None:
    """Read a dead letter; None for a marker.

    Whatever its headers are, this does not fail: other versions and people write letters too.

    Args:
        record: a message of the dead-letters topic as aiokafka gives it.
    """
    if marked(record) is not None:
        return None
    own = tuple((n.removeprefix(CARRIED), v) for n, v in record.headers if n.startswith(CARRIED))
    said: dict[str, bytes | None] = {}
    for name, value in record.headers:
        said.setdefault(name, value)
    return Letter(
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        reason=_text(said.get("reason")),
        detail=_text(said.get("detail")),
        topic=_text(said.get("topic")),
        origin_partition=_number(said.get("partition")),
        origin_offset=_number(said.get("offset")),
        origin_timestamp=_number(said.get("timestamp")),
        key=record.key,
        value=record.value,
        headers=own,
        key_size=_size_said(said, "key-cut"),
        value_size=_size_said(said, "cut"),
        headers_cut=_number(said.get("headers-cut")) or 0,
    )


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and _NUMBER.fullmatch(value) else None


def _size_said(said: Mapping[str, bytes | None], name: str) -> int | None:
    """Return the size that a cut gives; 0 where there was a cut but its size is garbled."""
    return (_number(said[name]) or 0) if name in said else None
