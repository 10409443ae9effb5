"""What is not wrong with a record and yet probably not meant: warnings of `validate`.

No text of a record is repeated but its symbols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from streams.limits import faults
from streams.reasons import EntityKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Record = Mapping[str, Any]

SECONDS = range(10**8, 10**11)
"""Numbers that are a time of our days in seconds, and none in milliseconds."""
_FIRST_ERROR = 400
_MATCHES = ("match_alert_id", "match_rule", "match_entity_kind", "match_tenant", "match_entity_id")


def advice(topic: str, record: Record) -> list[str]:
    """Return what is odd about a good record of a topic, one sentence each."""
    own = _OF_TOPICS.get(topic)
    return [*faults(record), *_units(record), *(own(record) if own else ())]


def _units(record: Record) -> Iterator[str]:
    """Yield where seconds may stand for milliseconds."""
    duration = record.get("duration_ms")
    if duration is not None and 0 < duration < 1:
        yield f"duration_ms is {duration:g}; it looks like seconds, ms are expected"
    for name, value in record.items():
        is_time = name.endswith("_at") and name != "occurred_at" and isinstance(value, int)
        if is_time and value in SECONDS:
            yield f"{name} is {value}; it looks like seconds, ms are expected"


def _call(record: Record) -> Iterator[str]:
    status = record["status_code"] or 0
    if record["outcome"] == "OK" and (record["error_type"] or status >= _FIRST_ERROR):
        yield "outcome is OK, so error_type and status_code are not looked at"
    if record["outcome"] in {"ERROR", "TIMEOUT"} and not record["error_type"] and not status:
        yield f"error_type and status_code are missing: its error type is {record['outcome']}"


def _review(record: Record) -> Iterator[str]:
    same = record["agent_decision"] == record["human_decision"]
    if (record["verdict"] == "OVERRIDDEN" and same) or (
        record["verdict"] == "CONFIRMED" and not same
    ):
        yield f"verdict is {record['verdict']}, and the decisions are {'' if same else 'not '}equal"
    happened = record["task_occurred_at"]
    if happened is None:
        yield "task_occurred_at is null: the window of its task cannot be found"
    elif happened > record["occurred_at"]:
        yield "task_occurred_at is after occurred_at"
    if record["reason"]:
        yield "reason is words of a person: workers drop it unless keep_review_reasons is on"


def _change(record: Record) -> Iterator[str]:
    if record["from_version"] == record["to_version"]:
        yield "from_version and to_version are equal"


def _queue(record: Record) -> Iterator[str]:
    if record["oldest_age_ms"] and not record["depth"]:
        yield f"oldest_age_ms is {record['oldest_age_ms']}, and nothing waits"


def _profile(record: Record) -> Iterator[str]:
    if not _is_zone(record["time_zone"]):
        yield "time_zone is no zone known here, and counts as UTC"
    for name in ("feature_names", "depends_on"):
        if len(set(record[name])) < len(record[name]):
            yield f"{name} holds a name twice"
    if record["sunset_at"] is not None and record["lifecycle"] == "ACTIVE":
        yield "sunset_at is given, and lifecycle is ACTIVE"


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    # A name can be a folder, a file that is no zone, or not even a path.
    except (KeyError, ValueError, OSError):
        return False
    return True


def _control(record: Record) -> Iterator[str]:
    withholds = record["kind"] in {"SILENCE", "MAINTENANCE", "ACKNOWLEDGE", "ACCEPT_NORMAL"}
    if withholds and not any(record[name] for name in _MATCHES):
        yield f"{record['kind']} matches every alert: give one of {', '.join(_MATCHES)}"
    kind = record["match_entity_kind"]
    if kind and kind not in set(EntityKind):
        yield f"match_entity_kind matches nothing; there are {', '.join(EntityKind)}"


_OF_TOPICS: Mapping[str, Callable[[Record], Iterator[str]]] = {
    "calls": _call,
    "reviews": _review,
    "changes": _change,
    "queues": _queue,
    "profiles": _profile,
    "controls": _control,
}
