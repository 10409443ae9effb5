"""The doctor on the state of units: which stand still, and which would once a worker opens them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aiokafka.structs import TopicPartition

from streams import schemas
from streams.assignor import UnitId
from streams.diagnosis import Check, Diagnosis, bad, good, listed, odd, skipped
from streams.doctor_samples import Span, read, spans
from streams.stage import Halt, StopReason
from streams.units import UNIT_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from streams.consumer import BoundedConsumer
    from streams.stage import Stage

CURES: dict[StopReason, str] = {
    StopReason.STATE_MISSING: "Restore the state topic (was it deleted, or is topic_prefix or the "
    "cluster the wrong one?), or begin anew with `agentops-streams worker --reset-state`.",
    StopReason.POSITION_OUTSIDE: "Restore the input topic, or go on at its first offset with "
    "`agentops-streams worker --reset-state`; what is missing is lost to the counts.",
    StopReason.PARTITIONS_CHANGED: "Set AGENTOPS_PARTITIONS back; to grow, use a new "
    "AGENTOPS_TOPIC_PREFIX.",
    StopReason.OVERSIZE_RECORD: "The line unit.stopped names record and topic: raise "
    "max.message.bytes of that topic and restart the worker.",
    StopReason.STATE_UNREADABLE: "Run the version and rules that wrote the state, or use a new "
    "AGENTOPS_TOPIC_PREFIX.",
}
# Each epoch ends with the unit's record, so the newest stands near the end; what aborted
# transactions left may stand after it.
_BACK = (20, 2_000, 1 << 62)


@dataclass(frozen=True, slots=True)
class UnitSeen:
    """What is stored of one unit.

    Attributes:
        unit: which.
        stored: its newest record, None where there is none.
        halt: why it stands still, None where it does not.
        readable: whether this version understands the record.
    """

    unit: UnitId
    stored: Mapping[str, Any] | None = None
    halt: Halt | None = None
    readable: bool = True


async def observe(
    reader: BoundedConsumer, stages: Sequence[Stage], present: Sequence[TopicPartition]
) -> list[UnitSeen]:
    """Read the newest unit record of each state partition that is present.

    Raises:
        TimeoutError: they could not be read in time.
    """
    units = {
        TopicPartition(stage.state_topic, partition): UnitId(stage.name, partition)
        for stage in stages
        for partition in range(stage.partitions)
    }
    left = await spans(reader, [one for one in units if one in set(present)])
    values: dict[TopicPartition, bytes] = {}
    ends = {one: span.end for one, span in left.items()}
    for back in _BACK:
        ranges = {
            one: Span(max(span.first, span.end - back), ends[one])
            for one, span in left.items()
            if one not in values and span.first < ends[one]
        }
        for record in await read(reader, ranges):
            if record.key == UNIT_KEY and record.value is not None:
                values[TopicPartition(record.topic, record.partition)] = record.value
        ends.update({one: span.first for one, span in ranges.items()})
    return [_seen(units[one], values.get(one)) for one in left]


def _seen(unit: UnitId, value: bytes | None) -> UnitSeen:
    if value is None:
        return UnitSeen(unit)
    try:
        _, stored = schemas.decode(value)
        return UnitSeen(unit, stored, Halt.parse(stored["stopped"]))
    except (schemas.DecodeError, ValueError, KeyError):
        return UnitSeen(unit, readable=False)


def judge(
    seen: Sequence[UnitSeen],
    stages: Sequence[Stage],
    held: Mapping[TopicPartition, Span],
    committed: Mapping[TopicPartition, int],
) -> list[Diagnosis]:
    """Say which units stand still, and which would.

    Args:
        seen: what is stored.
        stages: of the dataflow.
        held: the offsets that input partitions hold.
        committed: what the group has committed.
    """
    if not seen:
        return [skipped(Check.STATE, "It cannot be read; see TOPICS and ACCESS.")]
    by_name = {stage.name: stage for stage in stages}
    said: dict[tuple[bool, StopReason], list[str]] = defaultdict(list)
    since: dict[StopReason, int] = {}
    for one in seen:
        stage = by_name[one.unit.stage]
        if one.halt is not None:
            reason, at = one.halt
            said[True, reason].append(str(one.unit))
            since[reason] = min(at, since.get(reason, at))
        elif reasons := list(_would_stop(one, stage, held, committed)):
            said[False, reasons[0]].append(str(one.unit))
    found = []
    for (stands, reason), units in said.items():
        how = f"stand still since {_at(since[reason])}" if stands else "would stop once opened"
        what = f"{listed(units, 5)} {how}: {reason}."
        after = " Then restart its worker." if stands else ""
        found.append(bad(Check.STATE, what, CURES[reason] + after))
    return found or [_well(seen)]


def _well(seen: Sequence[UnitSeen]) -> Diagnosis:
    begun = [one for one in seen if one.stored is not None]
    if not begun:
        return good(Check.STATE, "No unit has worked yet.")
    if len(begun) < len(seen):
        new = [str(one.unit) for one in seen if one.stored is None]
        what = f"{listed(new, 5)} have not worked yet, others have."
        return odd(Check.STATE, what, "They do once a worker opens them.")
    return good(Check.STATE, f"All {len(seen)} units have a state that can be continued.")


def _would_stop(
    one: UnitSeen,
    stage: Stage,
    held: Mapping[TopicPartition, Span],
    committed: Mapping[TopicPartition, int],
) -> Iterator[StopReason]:
    """Yield why a worker would stop a unit once it opens it (see `Unit._open`)."""
    number = one.unit.partition
    if not one.readable:
        yield StopReason.STATE_UNREADABLE
    elif one.stored is None:
        if any(committed.get(TopicPartition(topic, number)) for topic in stage.reads):
            yield StopReason.STATE_MISSING
    elif one.stored["partitions"] != stage.partitions:
        yield StopReason.PARTITIONS_CHANGED
    else:
        positions = zip(one.stored["topics"], one.stored["positions"], strict=True)
        for topic, position in positions:
            span = held.get(TopicPartition(topic, number))
            if span is not None and not span.first <= position <= span.end:
                yield StopReason.POSITION_OUTSIDE


def _at(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
