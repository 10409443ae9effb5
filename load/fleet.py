"""The demo's fleet: nine agents over 36 days, made from recorded traces and a truth file.

Recorded: token pairs and their spacing within the hour (Azure traces), error types and turns
(tau-bench runs). Synthetic: names, volumes and their hour and weekday profile, outcome rates, cost,
duration, confidence, versions, lateness, every trouble and decoy, security events, corrupt records.
Deterministic: the same seed gives the same records, times counted from the start of the data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from load import traces, truth
from load.truth import HOUR_MS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from load.traces import Requests, Run
    from load.truth import Truth

MINUTE_MS = 60_000
DAY_MS = 24 * HOUR_MS
HOURS = (
    *(12, 10, 9, 9, 11, 18, 32, 50, 62, 66, 67, 65),
    *(58, 63, 67, 66, 62, 56, 50, 45, 38, 30, 22, 16),
)  # fmt: skip
"""Tasks by hour of the demo's own day, in shares of their sum."""
WEEKDAYS = (1.05, 1.02, 1.0, 1.0, 0.93, 0.6, 0.5)
"""Tasks by day of the demo's own week against the agent's daily volume; day 1 is a Monday."""
LATE_SHARE, LATE_MEAN_MS = 0.002, 20 * MINUTE_MS
GOLDEN = 0.6180339887498949
"""Steps of this length, modulo 1, fill the unit interval evenly at any length."""
VERY_LATE = 60
"""Records that come three hours to two days late: past the minute panes, within the hours."""


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent of the demo.

    Attributes:
        name: agent id.
        trace: whose rows it takes, round-robin: `code` or `conv`.
        daily: tasks on a middle weekday.
        task_types: what it does, the first twice as often as each of the others.
        model: key of PRICES.
        tier: trust tier of its tasks.
        failed: usual share of FAILED; ESCALATED is 7.5 %, the rest AUTOMATED.
    """

    name: str
    trace: str
    daily: int
    task_types: tuple[str, ...]
    model: str
    tier: str
    failed: float = 0.005


AGENTS = (
    Agent("document-intake", "code", 10_000, ("classify", "header", "lines"), "small", "T1"),
    Agent("booking-assistant", "conv", 4_000, ("book", "rebook", "cancel"), "large", "T3", 0.004),
    Agent("invoice-matching", "code", 3_600, ("match-order", "match-receipt"), "small", "T2"),
    Agent("customs-classification", "code", 3_200, ("extract", "check"), "large", "T2"),
    Agent("claims-triage", "conv", 2_600, ("triage", "ask-for-documents"), "large", "T2"),
    Agent("supplier-mail", "conv", 2_000, ("reply", "route"), "small", "T1"),
    Agent("travel-rebooking", "conv", 1_600, ("rebook", "refund"), "large", "T3"),
    Agent("contract-extraction", "code", 1_300, ("extract", "check"), "large", "T1"),
    Agent("dispute-replies", "conv", 1_000, ("draft", "send"), "large", "T2"),
)
PRICES = {"small": (0.15e-6, 0.60e-6), "large": (2.50e-6, 10.00e-6)}
"""US dollars per input and per output token."""
CONFIDENCE = ((18.0, 2.0), (6.0, 5.0), (9.0, 5.0))
"""Beta distribution of the confidence for AUTOMATED, ESCALATED, FAILED."""


@dataclass(frozen=True, slots=True, eq=False)
class Tasks:
    """Task records in the order they arrive; n rows, times in ms from the start of the data.

    Attributes:
        arrives_at: int64[n], ascending: when the record is produced.
        occurred_at: int64[n].
        number: uint64[n], unique.
        agent: int16[n], index into `agents`.
        task_type: int16[n], index into the agent's task types.
        outcome: int8[n], index into traces.CLASSES.
        run: int16[n], index into `runs`.
        input_tokens, output_tokens: int64[n].
        duration_ms, cost_usd, confidence: float64[n].
        version: int16[n], index into `versions`.
        agents: the fleet.
        runs: the recorded runs.
        versions: pairs of agent version and prompt version.
    """

    arrives_at: NDArray[np.int64]
    occurred_at: NDArray[np.int64]
    number: NDArray[np.uint64]
    agent: NDArray[np.int16]
    task_type: NDArray[np.int16]
    outcome: NDArray[np.int8]
    run: NDArray[np.int16]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    duration_ms: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    confidence: NDArray[np.float64]
    turns: NDArray[np.float64]
    version: NDArray[np.int16]
    agents: Sequence[Agent]
    runs: Sequence[Run]
    versions: Sequence[tuple[str, str]]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.arrives_at)


def generate(facts: Truth, seed: int = 36, agents: Sequence[Agent] = AGENTS) -> Tasks:
    """Make the task records of the whole fleet; corrupt ones are made in load/messages.py.

    Args:
        facts: troubles and decoys to put in, and the number of days.
        seed: another seed, other records of the same kind.
        agents: the fleet, in the order of volume.
    """
    recorded = traces.runs()
    versions = _versions(facts)
    shares = _shares(agents)
    seeds = np.random.SeedSequence(seed).spawn(len(agents) + 1)
    parts = [
        _agent_columns(facts, agent, rows, recorded, versions, np.random.default_rng(own))
        for agent, rows, own in zip(agents, shares, seeds, strict=False)
    ]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns["agent"] = np.repeat(
        np.arange(len(agents), dtype=np.int16), [len(part["run"]) for part in parts]
    )
    columns["arrives_at"] = _arrivals(columns["occurred_at"], np.random.default_rng(seeds[-1]))
    order = np.argsort(columns["arrives_at"], kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    number = _mix(np.arange(len(order), dtype=np.uint64) + np.uint64(seed << 32))
    return Tasks(number=number, agents=agents, runs=recorded, versions=versions, **columns)


def _shares(agents: Sequence[Agent]) -> list[Requests]:
    """Give each agent every k-th row of its trace, k being the agents on that trace."""
    found = {name: traces.requests(name) for name in {agent.trace for agent in agents}}
    ranks: dict[str, int] = dict.fromkeys(found, 0)
    sizes = {name: sum(agent.trace == name for agent in agents) for name in found}
    shares = []
    for agent in agents:
        shares.append(found[agent.trace].share(ranks[agent.trace], sizes[agent.trace]))
        ranks[agent.trace] += 1
    return shares


def _versions(facts: Truth) -> list[tuple[str, str]]:
    cases = [case for case in facts.troubles if "agent_version" in case]
    return [("2.3.1", "v17"), *((case["agent_version"], case["prompt_version"]) for case in cases)]


def _agent_columns(
    facts: Truth,
    agent: Agent,
    rows: Requests,
    recorded: Sequence[Run],
    versions: Sequence[tuple[str, str]],
    rng: np.random.Generator,
) -> dict[str, NDArray[Any]]:
    """Make one agent's records, by event time, without arrival and number."""
    cases = [case for case in facts.troubles if case.get("agent") == agent.name]
    hour, row = _thin(rows, _hourly(agent, facts.days, cases), rng)
    at = hour * HOUR_MS + rows.offset_ms[row]
    outcome = _outcomes(agent, at, cases, rng)
    tokens_in, tokens_out = rows.input_tokens[row], rows.output_tokens[row]
    version = np.zeros(len(at), dtype=np.int16)
    run = _draw_runs(recorded, outcome, rng)
    turns = np.array([one.turns for one in recorded], dtype=np.float64)[run]
    for case in cases:
        inside = _inside(case, at)
        tokens_in = _larger(tokens_in, inside, case.get("input_size", 1.0))
        tokens_out = _larger(tokens_out, inside, case.get("size", 1.0))
        turns[inside] = np.rint(turns[inside] * case.get("turns", 1.0))
        if "agent_version" in case:
            version[inside] = versions.index((case["agent_version"], case["prompt_version"]))
    price_in, price_out = PRICES[agent.model]
    kinds = len(agent.task_types)
    return {
        "occurred_at": at,
        "task_type": np.maximum(rng.integers(-1, kinds, len(at)), 0).astype(np.int16),
        "outcome": outcome,
        "run": run,
        "turns": turns,
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "duration_ms": 150.0 + 0.4 * tokens_in + 25.0 * tokens_out,
        "cost_usd": price_in * tokens_in + price_out * tokens_out,
        "confidence": _confidence(outcome, rng),
        "version": version,
    }


def _larger(
    tokens: NDArray[np.int64], inside: NDArray[np.bool_], factor: float
) -> NDArray[np.int64]:
    return np.where(inside, np.rint(tokens * factor).astype(np.int64), tokens)


def _hourly(agent: Agent, days: int, cases: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """Return the expected tasks of each hour of the data, float64[24 · days]."""
    hours = np.array(HOURS, dtype=np.float64) / sum(HOURS)
    week = np.resize(np.array(WEEKDAYS), days)
    expected = agent.daily * (week[:, None] * hours).reshape(-1)
    for case in cases:
        if "volume" in case:
            first = truth.start_ms(case) // HOUR_MS
            expected[first : truth.end_ms(case) // HOUR_MS] *= case["volume"]
    return expected


def _thin(
    rows: Requests, expected: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tile the traced hour over all hours, each thinned or stacked to its expected tasks.

    Returns:
        The hour and the trace's row of each record, by time.
    """
    each = expected / len(rows)
    whole = np.floor(each)
    draws = rng.random((len(expected), len(rows)), dtype=np.float32)
    copies = (draws < (each - whole)[:, None]).astype(np.int64) + whole[:, None].astype(np.int64)
    flat = np.repeat(np.arange(copies.size), copies.reshape(-1))
    return flat // len(rows), flat % len(rows)


def _outcomes(
    agent: Agent,
    at: NDArray[np.int64],
    cases: Sequence[Mapping[str, Any]],
    rng: np.random.Generator,
) -> NDArray[np.int8]:
    """Draw the class of each record at the agent's rate, or a trouble's during a trouble."""
    escalated = np.full(len(at), 0.075)
    failed = np.full(len(at), agent.failed)
    draw = rng.random(len(at))
    for case in cases:
        if "outcomes" in case:
            inside = np.flatnonzero(_inside(case, at))
            escalated[inside] = case["outcomes"]["ESCALATED"]
            failed[inside] = case["outcomes"]["FAILED"]
            # Spread evenly: 4 % is 4 % in each hour of the trouble, not by luck of the draw.
            draw[inside] = (draw[inside[:1]] + np.arange(len(inside)) * GOLDEN) % 1.0
    return np.where(draw < failed, 2, np.where(draw < failed + escalated, 1, 0)).astype(np.int8)


def _inside(case: Mapping[str, Any], at: NDArray[np.int64]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (at >= truth.start_ms(case)) & (at < truth.end_ms(case))
    return inside


def _draw_runs(
    recorded: Sequence[Run], outcome: NDArray[np.int8], rng: np.random.Generator
) -> NDArray[np.int16]:
    """Draw for each record a recorded run of its class."""
    drawn = np.zeros(len(outcome), dtype=np.int16)
    for code, name in enumerate(traces.CLASSES):
        pool = np.array([i for i, run in enumerate(recorded) if run.outcome == name])
        mine = outcome == code
        drawn[mine] = pool[rng.integers(0, len(pool), int(mine.sum()))]
    return drawn


def _confidence(outcome: NDArray[np.int8], rng: np.random.Generator) -> NDArray[np.float64]:
    a, b = np.array(CONFIDENCE).T
    drawn: NDArray[np.float64] = np.round(rng.beta(a[outcome], b[outcome]), 4)
    return drawn


def _arrivals(occurred_at: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Let a few records come late; none comes after the last event."""
    n = len(occurred_at)
    late = np.zeros(n, dtype=np.int64)
    some = rng.random(n) < LATE_SHARE
    late[some] = rng.exponential(LATE_MEAN_MS, int(some.sum())).astype(np.int64)
    late[rng.choice(n, min(n, VERY_LATE), replace=False)] = rng.integers(
        3 * HOUR_MS, 2 * DAY_MS, min(n, VERY_LATE)
    )
    arrives = occurred_at + late
    return np.where(arrives <= int(occurred_at.max()), arrives, occurred_at)


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter consecutive numbers over 64 bits, each to its own (splitmix64)."""
    z = numbers * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed
