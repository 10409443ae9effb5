"""The recorded traces that the demo's traffic is made from; sources in load/traces/README.md."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

TRACES = Path(__file__).resolve().parent / "traces"
CLASSES = ("AUTOMATED", "ESCALATED", "FAILED")
"""Outcomes a run can have, in the order of the fleet's outcome rates."""

_ERROR_CODES = (
    ("payment amount does not add up", "PAYMENT_MISMATCH"),
    ("not enough seats", "SEATS_UNAVAILABLE"),
    ("not available on date", "FLIGHT_UNAVAILABLE"),
    ("gift card balance is not enough", "BALANCE_TOO_LOW"),
    ("not enough balance", "BALANCE_TOO_LOW"),
    ("certificate cannot be used", "METHOD_NOT_ALLOWED"),
    ("not found", "NOT_FOUND"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """One hour of requests of a language model, in the order they came.

    Attributes:
        offset_ms: int64[n], ms since the first request of the trace, below one hour.
        input_tokens: int64[n].
        output_tokens: int64[n].
    """

    offset_ms: NDArray[np.int64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.offset_ms)

    def share(self, first: int, of: int) -> Requests:
        """Return every `of`-th row from row `first` on (round-robin)."""
        rows = slice(first, None, of)
        return Requests(self.offset_ms[rows], self.input_tokens[rows], self.output_tokens[rows])


@dataclass(frozen=True, slots=True)
class Run:
    """What is kept of one recorded run of a tool-calling agent: codes and counts, no text."""

    outcome: str
    error_type: str | None
    turns: int
    tool_calls: int


def requests(name: str) -> Requests:
    """Read the trace `code` or `conv`.

    Raises:
        FileNotFoundError: the traces are not in load/traces.
    """
    path = TRACES / "azure-llm-2023" / f"AzureLLMInferenceTrace_{name}.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [
            (row["TIMESTAMP"], int(row["ContextTokens"]), int(row["GeneratedTokens"]))
            for row in csv.DictReader(lines)
        ]
    times = np.array([np.datetime64(row[0].replace(" ", "T"), "ns") for row in rows])
    offsets = (times - times[0]).astype("timedelta64[ms]").astype(np.int64)
    tokens = np.array([row[1:] for row in rows], dtype=np.int64)
    return Requests(offsets, tokens[:, 0].copy(), tokens[:, 1].copy())


def runs() -> list[Run]:
    """Read the tau-bench runs, each with its class.

    A run that calls `transfer_to_human_agents` was ESCALATED; of the others, reward 1.0 is
    AUTOMATED and anything else FAILED.
    """
    path = TRACES / "tau-bench" / "airline-gpt-4o.jsonl"
    return [_run(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def by_class(recorded: Iterable[Run]) -> dict[str, list[Run]]:
    """Group runs by their class, in the order they were recorded."""
    found: dict[str, list[Run]] = {name: [] for name in CLASSES}
    for run in recorded:
        found[run.outcome].append(run)
    return found


def _run(raw: dict[str, object]) -> Run:
    calls = raw["tool_calls"]
    if not isinstance(calls, list):
        raise TypeError(f"tool_calls is no list: {calls!r}")
    if any(call["tool"] == "transfer_to_human_agents" for call in calls):
        outcome = "ESCALATED"
    else:
        outcome = "AUTOMATED" if raw["reward"] == 1.0 else "FAILED"
    errors = [call["error"] for call in calls if call["error"]]
    code = None
    if outcome == "FAILED":
        # Most failed runs saw no tool error: the result was wrong.
        code = _code(errors[-1]) if errors else "WRONG_RESULT"
    return Run(outcome, code, int(str(raw["turns"])), len(calls))


def _code(message: str) -> str:
    for part, code in _ERROR_CODES:
        if part in message:
            return code
    return "TOOL_ERROR"
