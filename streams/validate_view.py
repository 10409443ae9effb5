"""What a worker has in its hands of a good record, by name and in words.

No texts but ids, symbols and versions: neither the words of a person nor the text of rules.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from streams.columns import AUTOMATED, ESCALATED, FAILED, CallColumns, SecurityEvent, TaskColumns
from streams.events import AgentProfile, Change, Control, Deleted, HumanReview, QueueDepth
from streams.tail import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

_IDS = ("occurred_at", "tenant", "agent_id")
_SHOWN: Mapping[type, tuple[str, ...]] = {
    SecurityEvent: (*_IDS, "kind", "severity", "blocked"),
    HumanReview: (*_IDS, "task_type", "task_event_id", "task_occurred_at", "verdict"),
    Change: (*_IDS, "integration", "kind", "from_version", "to_version", "planned"),
    QueueDepth: (*_IDS, "depth", "oldest_age_ms"),
    AgentProfile: (*_IDS, "owner", "lifecycle", "daily_cost_plan_usd", "time_zone", "depends_on"),
    Deleted: ("occurred_at", "key"),
    Control: ("occurred_at", "control_id", "kind", "from_at", "until_at"),
}
_OUTCOMES = {AUTOMATED: "AUTOMATED", ESCALATED: "ESCALATED", FAILED: "FAILED"}


def held(found: Any) -> dict[str, Any]:
    """Return what a decoder made of one record, by name."""
    if isinstance(found, TaskColumns):
        return _task(found)
    if isinstance(found, CallColumns):
        return _call(found)
    (event,) = found
    return {name: getattr(event, name) for name in _SHOWN[type(event)]}


def words(topic: str, read: Mapping[str, Any]) -> str:
    """Return the same as a line for people."""
    who = read.get("agent_id") or read.get("control_id") or read.get("key")
    who = f"{read['tenant']}/{who}" if read.get("tenant") else who
    return f"{clock(read['occurred_at'])} {who} {_WORDS[topic](read)}"


def _task(found: TaskColumns) -> dict[str, Any]:
    texts = {"tenant": found.tenant, "agent_id": found.agent, "task_type": found.task_type}
    numbers: dict[str, NDArray[Any]] = {
        "cost_micro_usd": found.cost_micro,
        "duration_us": found.duration_us,
        "input_tokens": found.input_tokens,
        "output_tokens": found.output_tokens,
        "cached_tokens": found.cached_tokens,
    }
    confidence = float(found.confidence[0])
    return {
        "occurred_at": int(found.occurred_at[0]),
        **{name: column.to_list()[0] for name, column in texts.items()},
        "outcome": _OUTCOMES.get(int(found.outcome[0]), "UNKNOWN"),
        **{name: int(column[0]) for name, column in numbers.items()},
        "model": found.model.to_list()[0],
        "confidence": None if math.isnan(confidence) else confidence,
        "features": int(found.features.lengths[0]),
    }


def _call(found: CallColumns) -> dict[str, Any]:
    outcome = {AUTOMATED: "OK", FAILED: "ERROR"}.get(int(found.outcome[0]), "UNKNOWN")
    return {
        "occurred_at": int(found.occurred_at[0]),
        "tenant": found.tenant.to_list()[0],
        "agent_id": found.agent.to_list()[0],
        "integration": found.integration.to_list()[0],
        "operation": found.operation.to_list()[0],
        "outcome": "TIMEOUT" if found.timeout[0] else outcome,
        "error_type": found.error_type.to_list()[0],
        "duration_us": int(found.duration_us[0]),
        "attempts": int(found.attempts[0]),
        "contract_test": bool(found.contract_test[0]),
    }


def _task_words(read: Mapping[str, Any]) -> str:
    cost, duration = read["cost_micro_usd"] / 1e6, read["duration_us"] / 1e3
    tokens = f"{read['input_tokens']}+{read['output_tokens']} tokens"
    return f"{read['task_type']} {read['outcome']} {duration:g} ms ${cost:.6f} {tokens}"


def _call_words(read: Mapping[str, Any]) -> str:
    error = f" {read['error_type']}" if read["error_type"] else ""
    test = " contract test" if read["contract_test"] else ""
    what = f"{read['integration']} {read['operation']} {read['outcome']}{error}"
    return f"{what} {read['duration_us'] / 1e3:g} ms, attempts {read['attempts']}{test}"


def _security_words(read: Mapping[str, Any]) -> str:
    blocked = "blocked" if read["blocked"] else "not blocked"
    return f"{read['kind']} {read['severity']} {blocked}"


def _change_words(read: Mapping[str, Any]) -> str:
    what = f" of {read['integration']}" if read["integration"] else ""
    before = f" {read['from_version']}" if read["from_version"] else ""
    planned = "planned" if read["planned"] else "not planned"
    return f"{read['kind']}{what}{before} to {read['to_version']} {planned}"


def _profile_words(read: Mapping[str, Any]) -> str:
    if "owner" not in read:
        return "deleted"
    return f"{read['lifecycle']} of {read['owner']}, {read['time_zone']}"


def _control_words(read: Mapping[str, Any]) -> str:
    until = "" if read["until_at"] is None else f" until {clock(read['until_at'])}"
    return f"{read['kind']}{until}"


_WORDS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "tasks": _task_words,
    "calls": _call_words,
    "security": _security_words,
    "reviews": lambda read: f"{read['task_type']} {read['verdict']}",
    "changes": _change_words,
    "queues": lambda read: f"{read['depth']} waiting, oldest {read['oldest_age_ms']} ms",
    "profiles": _profile_words,
    "controls": _control_words,
}
