"""What goes with the fleet's tasks: calls, reviews, queue depths, changes and profiles.

All of it is synthetic and follows the tasks: a call belongs to a task, a review judges one, a queue
waits for the agent that works it off. Troubles come from the truth file. Deterministic: the same
seed gives the same records. Times go in as ms from the start of the data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from load import encoder, truth
from load.truth import HOUR_MS
from streams import schemas
from streams.sender import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from load.fleet import Tasks
    from load.truth import Truth

    I64 = NDArray[np.int64]
    Bool = NDArray[np.bool_]

MINUTE_MS = 60_000
DAY_MS = 24 * HOUR_MS


class Calls(NamedTuple):
    """What an agent calls, and how often: the share of its tasks with such a call."""

    integration: str
    operation: str
    share: float
    median_ms: float


CALLS: Mapping[str, tuple[Calls, ...]] = {
    "document-intake": (Calls("scan-service", "read", 0.05, 900.0),),
    "booking-assistant": (
        Calls("booking-api", "reserve", 0.15, 350.0),
        Calls("payments", "charge", 0.1, 220.0),
    ),
    "invoice-matching": (
        Calls("erp", "orders", 0.2, 120.0),
        Calls("erp", "receipts", 0.1, 140.0),
    ),
    "customs-classification": (Calls("tariff-db", "lookup", 0.6, 60.0),),
    "claims-triage": (Calls("crm", "read", 0.3, 90.0),),
    "supplier-mail": (Calls("mail", "send", 0.3, 180.0),),
    "travel-rebooking": (Calls("booking-api", "rebook", 0.5, 400.0),),
    "contract-extraction": (Calls("scan-service", "read", 0.3, 1100.0),),
    "dispute-replies": (Calls("crm", "read", 0.4, 90.0), Calls("mail", "send", 0.2, 180.0)),
}
"""Calls by agent."""

ERRORS = 0.001
"""Usual share of calls that fail, half of them in time-out."""
SPREAD = 0.6
"""Standard deviation of the logarithm of a call's duration."""
REVIEWED = {"claims-triage": 0.08, "document-intake": 0.01}
"""Share of automated tasks that a person looks at, of the agents that have reviewers."""
OVERRIDDEN = 0.06
"""Usual share of reviews that decide otherwise."""
DECISIONS = (("APPROVE", "REJECT"), ("ROUTE_A", "ROUTE_B"), ("ACCEPT", "ASK"))
REASONS = ("WRONG_AMOUNT", "MISSING_DOCUMENT", "POLICY", "OTHER")
QUEUED = ("document-intake",)
"""Agents with a queue, told every minute."""
QUEUE_DAYS = 4
"""How many of the last days have queue depths: the rule needs no history."""
CONTRACT_TESTS = (("tariff-db", "lookup"), ("erp", "orders"))
"""Operations that are tested every six hours, by the agent that calls them most."""

_OK, _ERROR, _TIMEOUT = 1, 2, 3


def records(
    tasks: Tasks, facts: Truth, origin_ms: int, seed: int = 36
) -> list[tuple[int, Outgoing]]:
    """Return everything that goes with the tasks, as (time, record), by time.

    Args:
        tasks: the tasks.
        facts: troubles to put in.
        origin_ms: event time of the start of the data, ms since 1970 UTC.
        seed: another seed, other records of the same kind.
    """
    rng = np.random.default_rng([seed, 5])
    found: list[tuple[int, Outgoing]] = []
    for number, agent in enumerate(tasks.agents):
        mine = np.flatnonzero(tasks.agent == number)
        at = tasks.occurred_at[mine]
        for calls in CALLS.get(agent.name, ()):
            found += _calls(agent.name, calls, at, facts, origin_ms, rng)
        if agent.name in REVIEWED:
            found += _reviews(tasks, mine, number, facts, origin_ms, rng)
        if agent.name in QUEUED:
            found += _queue(agent.name, at, facts, origin_ms, rng)
    found += _contract_tests(facts, origin_ms)
    found += _changes(facts, origin_ms)
    found += _profiles(tasks, facts, origin_ms)
    found.sort(key=lambda one: one[0])
    return found


def _cases(facts: Truth, what: str, **like: str) -> list[Mapping[str, Any]]:
    """Return the troubles that say something of `what`, about these entities."""
    return [
        case
        for case in facts.troubles
        if what in case and all(case.get(name) == value for name, value in like.items())
    ]


def _during(case: Mapping[str, Any], at: I64) -> Bool:
    inside: Bool = (at >= truth.start_ms(case)) & (at < truth.end_ms(case))
    return inside


# -- calls -------------------------------------------------------------------------------------


def _calls(
    agent: str, calls: Calls, at: I64, facts: Truth, origin_ms: int, rng: np.random.Generator
) -> Iterator[tuple[int, Outgoing]]:
    at = at[rng.random(len(at)) < calls.share]
    failed = np.full(len(at), ERRORS)
    kinds = ["HTTP_503"]
    kind = np.zeros(len(at), np.int64)
    draw = rng.random(len(at))
    for case in _cases(facts, "errors", integration=calls.integration):
        inside = _during(case, at)
        failed[inside] = case["errors"]
        kinds.append(case["error_type"])
        kind[inside] = len(kinds) - 1
    bad = draw < failed
    late = bad & (kind == 0) & (rng.random(len(at)) < 0.5)
    outcome = np.where(late, _TIMEOUT, np.where(bad, _ERROR, _OK))
    duration = calls.median_ms * np.exp(rng.normal(0.0, SPREAD, len(at)))
    duration = np.where(late, 30_000.0, duration)
    n = len(at)
    schema = schemas.get("IntegrationCall")
    none, zero = encoder.nulls(n), np.zeros(n, np.int64)
    error = np.where(bad & ~late, kind, len(kinds))
    fields = {
        "event_id": encoder.hex_texts(rng.integers(0, 2**63, n, np.uint64)),
        "occurred_at": encoder.longs(at + origin_ms),
        "tenant": none,
        "agent_id": encoder.texts(zero, [agent]),
        "trace_id": none,
        "integration": encoder.texts(zero, [calls.integration]),
        "operation": encoder.texts(zero, [calls.operation]),
        "outcome": encoder.longs(outcome),
        "error_type": encoder.optional_texts(error, [*kinds, None]),
        "status_code": none,
        "duration_ms": encoder.doubles(np.round(duration, 3)),
        "attempts": encoder.longs(1 + (outcome != _OK)),
        "purpose": encoder.longs(zero),
    }
    values = encoder.join(schema.frame, [fields[field["name"]] for field in schema.raw["fields"]])
    key = agent.encode()
    for time, value in zip(at.tolist(), values, strict=True):
        yield time, Outgoing("calls", key, value)


def _contract_tests(facts: Truth, origin_ms: int) -> Iterator[tuple[int, Outgoing]]:
    for integration, operation in CONTRACT_TESTS:
        agent = next(
            name
            for name, all_ in CALLS.items()
            if any(one[:2] == (integration, operation) for one in all_)
        )
        broken = _cases(facts, "errors", integration=integration)
        for at in range(HOUR_MS, facts.days * DAY_MS, 6 * HOUR_MS):
            wrong = [case for case in broken if _during(case, np.array([at]))[0]]
            record = {
                "event_id": f"demo-t-{integration}-{at}",
                "occurred_at": at + origin_ms,
                "agent_id": agent,
                "integration": integration,
                "operation": operation,
                "outcome": "ERROR" if wrong else "OK",
                "error_type": wrong[0]["error_type"] if wrong else None,
                "duration_ms": 80.0,
                "purpose": "CONTRACT_TEST",
            }
            yield at, _outgoing("calls", "IntegrationCall", agent, record)


# -- reviews and queues ------------------------------------------------------------------------


def _reviews(
    tasks: Tasks,
    mine: I64,
    number: int,
    facts: Truth,
    origin_ms: int,
    rng: np.random.Generator,
) -> Iterator[tuple[int, Outgoing]]:
    agent = tasks.agents[number]
    chosen = mine[(rng.random(len(mine)) < REVIEWED[agent.name]) & (tasks.outcome[mine] == 0)]
    at = tasks.occurred_at[chosen] + rng.integers(10 * MINUTE_MS, 8 * HOUR_MS, len(chosen))
    # A person looks at what is there already, and nobody looks after the end.
    keep = at < facts.days * DAY_MS
    chosen, at = chosen[keep], at[keep]
    draw = rng.random(len(chosen))
    wrong = draw < OVERRIDDEN
    which = rng.integers(0, len(DECISIONS), len(chosen))
    reason = rng.integers(0, len(REASONS), len(chosen))
    for case in _cases(facts, "overridden", agent=agent.name):
        more = _during(case, at) & ~wrong & (draw < case["overridden"])
        # All for one reason: something to learn from.
        wrong, which[more], reason[more] = wrong | more, 1, REASONS.index("POLICY")
    columns = zip(chosen.tolist(), at.tolist(), wrong.tolist(), which, reason, strict=True)
    for place, (row, time, is_wrong, decision, why) in enumerate(columns):
        ours, theirs = DECISIONS[decision]
        record = {
            "event_id": f"demo-r-{number}-{place}",
            "occurred_at": time + origin_ms,
            "agent_id": agent.name,
            "task_type": agent.task_types[tasks.task_type[row]],
            "task_event_id": f"{int(tasks.number[row]):016x}",
            "task_occurred_at": int(tasks.occurred_at[row]) + origin_ms,
            "task_outcome": "AUTOMATED",
            "verdict": "OVERRIDDEN" if is_wrong else "CONFIRMED",
            "agent_decision": ours,
            "human_decision": theirs if is_wrong else ours,
            "reason_code": REASONS[why] if is_wrong else "FINE",
            "agent_confidence": float(tasks.confidence[row]),
            "model": agent.model,
        }
        yield time, _outgoing("reviews", "HumanReview", agent.name, record)


def _queue(
    agent: str, at: I64, facts: Truth, origin_ms: int, rng: np.random.Generator
) -> Iterator[tuple[int, Outgoing]]:
    first = max(0, facts.days - QUEUE_DAYS) * DAY_MS
    times = np.arange(first, facts.days * DAY_MS, MINUTE_MS)
    done = np.searchsorted(np.sort(at), times)
    rate = np.diff(done, append=done[-1]).astype(np.float64)
    depth = rng.poisson(2.0 + 2.0 * rate)
    for case in _cases(facts, "backlog", agent=agent):
        minutes = (times - truth.start_ms(case)) / MINUTE_MS
        length = float(case["hours"]) * 60
        grown = np.minimum(minutes, length) * case["backlog"]
        # It is worked off four times as fast as it grew.
        left = grown - np.maximum(0.0, minutes - length) * 4.0 * case["backlog"]
        depth += np.rint(np.maximum(0.0, left)).astype(np.int64)
    for number, (time, waiting) in enumerate(zip(times.tolist(), depth.tolist(), strict=True)):
        record = {
            "event_id": f"demo-q-{agent}-{number}",
            "occurred_at": time + origin_ms,
            "agent_id": agent,
            "depth": waiting,
            "oldest_age_ms": 15_000 * waiting,
        }
        yield time, _outgoing("queues", "QueueDepth", agent, record)


# -- what is known around them -----------------------------------------------------------------


def _changes(facts: Truth, origin_ms: int) -> Iterator[tuple[int, Outgoing]]:
    for number, case in enumerate(facts.changes):
        at = truth.start_ms(case)
        record = {
            "event_id": f"demo-ch-{number}",
            "occurred_at": at + origin_ms,
            "agent_id": case["agent"],
            "integration": case.get("integration"),
            "kind": case["kind"],
            "from_version": case["from"],
            "to_version": case["to"],
        }
        yield at, _outgoing("changes", "Change", case["agent"], record)


def _profiles(tasks: Tasks, facts: Truth, origin_ms: int) -> Iterator[tuple[int, Outgoing]]:
    trained = {case["agent"]: case for case in facts.schedules}
    for agent in tasks.agents:
        case = trained.get(agent.name)
        integrations = sorted({one.integration for one in CALLS.get(agent.name, ())})
        record = {
            "event_id": f"demo-p-{agent.name}",
            "occurred_at": origin_ms,
            "agent_id": agent.name,
            "owner": "operations",
            "trust_tier": agent.tier,
            "retraining_interval_days": None if case is None else case["interval_days"],
            "last_trained_at": None
            if case is None
            else origin_ms - round(case["trained_days_before"] * DAY_MS),
            "feature_names": ["turns", "tool_calls"],
            "depends_on": integrations,
        }
        yield 0, _outgoing("profiles", "AgentProfile", agent.name, record)


def _outgoing(topic: str, name: str, agent: str, record: Mapping[str, Any]) -> Outgoing:
    return Outgoing(topic, agent.encode(), schemas.encode(name, dict(record)))


def kinds(found: Sequence[tuple[int, Outgoing]]) -> dict[str, int]:
    """Return how many records there are by topic."""
    topics = [one.topic for _, one in found]
    return {topic: topics.count(topic) for topic in sorted(set(topics))}
