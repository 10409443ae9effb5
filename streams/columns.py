"""Events as the core takes them: tasks in columns, security events one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

AUTOMATED, ESCALATED, FAILED, UNKNOWN = range(4)
"""Codes in `TaskColumns.outcome`, which are also the order of the counts in a pane."""

CONFIDENCE_EDGES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
"""Bin i of confidence holds [edge i, edge i + 1), the last one its upper edge too."""

BINS = len(CONFIDENCE_EDGES) - 1
"""Number of bins of confidence."""


@dataclass(frozen=True, slots=True, eq=False)
class DictColumn:
    """Strings as codes into a short list of distinct values.

    Attributes:
        codes: int32[n], each in [0, len(values)).
        values: the distinct values; may hold None, and some that no code points to.
    """

    codes: NDArray[np.int32]
    values: list[str | None]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.codes)

    def take(self, indices: NDArray[np.int64]) -> DictColumn:
        """Return the rows at `indices`; the values are shared."""
        return DictColumn(self.codes[indices], self.values)

    def to_list(self) -> list[str | None]:
        """Return the rows as strings, for tests and messages."""
        return [self.values[code] for code in self.codes.tolist()]

    @classmethod
    def of(cls, rows: Sequence[str | None]) -> DictColumn:
        """Build the column of `rows`, with codes by first appearance."""
        index: dict[str | None, int] = {}
        codes = [index.setdefault(row, len(index)) for row in rows]
        return cls(np.array(codes, np.int32), list(index))

    @classmethod
    def join(cls, parts: Sequence[DictColumn]) -> DictColumn:
        """Put columns one behind the other, with one list of the distinct values in use."""
        index: dict[str | None, int] = {}
        codes = [np.empty(0, np.int32)]
        for part in parts:
            used = np.flatnonzero(np.bincount(part.codes, minlength=len(part.values)))
            table = np.zeros(len(part.values), np.int32)
            table[used] = [index.setdefault(part.values[i], len(index)) for i in used.tolist()]
            codes.append(table[part.codes])
        return cls(np.concatenate(codes), list(index))


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """Lists of numbers of any length, one a row.

    Attributes:
        values: float64[m], those of all rows one behind the other.
        starts: int64[n + 1], ascending from 0 to m: row i is values[starts[i]:starts[i + 1]].
    """

    values: NDArray[np.float64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The length of each row, int64[n]."""
        found: NDArray[np.int64] = np.diff(self.starts)
        return found

    def take(self, indices: NDArray[np.int64]) -> Ragged:
        """Return the rows at `indices`, in that order."""
        if not len(self.values):
            return Ragged(self.values, np.zeros(len(indices) + 1, np.int64))
        lengths = self.lengths[indices]
        starts = _starts(lengths)
        places = np.arange(starts[-1]) + np.repeat(self.starts[indices] - starts[:-1], lengths)
        return Ragged(self.values[places], starts)

    def to_list(self) -> list[list[float]]:
        """Return the rows as lists, for tests and messages."""
        return [self.values[start:end].tolist() for start, end in pairwise(self.starts.tolist())]

    @classmethod
    def of(cls, rows: Sequence[Sequence[float]]) -> Ragged:
        """Build the column of `rows`."""
        lengths = np.array([len(row) for row in rows], np.int64)
        return cls(np.array([value for row in rows for value in row], np.float64), _starts(lengths))

    @classmethod
    def empty(cls, rows: int) -> Ragged:
        """Return that many empty rows."""
        return cls(np.empty(0), np.zeros(rows + 1, np.int64))

    @classmethod
    def join(cls, parts: Sequence[Ragged]) -> Ragged:
        """Put columns one behind the other."""
        lengths = [np.empty(0, np.int64), *(part.lengths for part in parts)]
        values = [np.empty(0), *(part.values for part in parts)]
        return cls(np.concatenate(values), _starts(np.concatenate(lengths)))


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return starts


@dataclass(frozen=True, slots=True, eq=False)
class TaskColumns:
    """Finished tasks in log order, one array a field.

    The last three may be left out, if no event has any.

    Attributes:
        occurred_at: int64[n], event time, ms.
        outcome: int8[n], AUTOMATED, ESCALATED, FAILED or UNKNOWN.
        cost_micro: int64[n], millionths of a US dollar.
        duration_us: int64[n], microseconds.
        input_tokens: int64[n].
        output_tokens: int64[n].
        cached_tokens: int64[n], 0 where the event has none.
        tenant: n tenants, None where the event has none.
        agent: n agent ids.
        task_type: n task types.
        model: n models, None where the event names none; never an empty text.
        confidence: float64[n], the agent's own, 0 to 1; NaN where the event has none.
        features: n lists of numbers that describe the input.
    """

    occurred_at: NDArray[np.int64]
    outcome: NDArray[np.int8]
    cost_micro: NDArray[np.int64]
    duration_us: NDArray[np.int64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    cached_tokens: NDArray[np.int64]
    tenant: DictColumn
    agent: DictColumn
    task_type: DictColumn
    model: DictColumn = field(default_factory=lambda: DictColumn.of([]))
    confidence: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    features: Ragged = field(default_factory=lambda: Ragged.empty(0))

    def __post_init__(self) -> None:
        """Fill in what was left out."""
        n = len(self.occurred_at)
        if len(self.model) != n:
            self._fill("model", len(self.model), DictColumn(np.zeros(n, np.int32), [None]))
        if len(self.confidence) != n:
            self._fill("confidence", len(self.confidence), np.full(n, np.nan))
        if len(self.features) != n:
            self._fill("features", len(self.features), Ragged.empty(n))

    def _fill(self, name: str, found: int, column: object) -> None:
        if found:
            raise ValueError(
                f"column {name} has {found} rows and occurred_at {len(self.occurred_at)}: "
                "give a column for all events, or leave it out"
            )
        object.__setattr__(self, name, column)  # what is frozen may still be completed at first

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.occurred_at)

    def take(self, indices: NDArray[np.int64]) -> TaskColumns:
        """Return the events at `indices`, in that order."""
        return TaskColumns(
            occurred_at=self.occurred_at[indices],
            outcome=self.outcome[indices],
            cost_micro=self.cost_micro[indices],
            duration_us=self.duration_us[indices],
            input_tokens=self.input_tokens[indices],
            output_tokens=self.output_tokens[indices],
            cached_tokens=self.cached_tokens[indices],
            tenant=self.tenant.take(indices),
            agent=self.agent.take(indices),
            task_type=self.task_type.take(indices),
            model=self.model.take(indices),
            confidence=self.confidence[indices],
            features=self.features.take(indices),
        )

    @classmethod
    def join(cls, parts: Sequence[TaskColumns]) -> TaskColumns:
        """Put the events of at least one part one behind the other."""
        return cls(
            occurred_at=np.concatenate([part.occurred_at for part in parts]),
            outcome=np.concatenate([part.outcome for part in parts]),
            cost_micro=np.concatenate([part.cost_micro for part in parts]),
            duration_us=np.concatenate([part.duration_us for part in parts]),
            input_tokens=np.concatenate([part.input_tokens for part in parts]),
            output_tokens=np.concatenate([part.output_tokens for part in parts]),
            cached_tokens=np.concatenate([part.cached_tokens for part in parts]),
            tenant=DictColumn.join([part.tenant for part in parts]),
            agent=DictColumn.join([part.agent for part in parts]),
            task_type=DictColumn.join([part.task_type for part in parts]),
            model=DictColumn.join([part.model for part in parts]),
            confidence=np.concatenate([part.confidence for part in parts]),
            features=Ragged.join([part.features for part in parts]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class CallColumns:
    """Calls of agents to integrations in log order, one array a field.

    Attributes:
        occurred_at: int64[n], event time, ms.
        outcome: int8[n], the codes of tasks, so that panes count both alike: AUTOMATED (0) for
            OK, FAILED (2) for ERROR and TIMEOUT, UNKNOWN (3) for UNKNOWN.
        timeout: bool[n], whether the outcome is TIMEOUT.
        duration_us: int64[n], microseconds.
        attempts: int64[n], tries the call took.
        contract_test: bool[n], whether its purpose is CONTRACT_TEST.
        tenant: n tenants, None where the event has none.
        agent: n agent ids.
        integration: n integrations.
        operation: n operations.
        error_type: n error types; None where the outcome is OK or UNKNOWN. Else the one given,
            else HTTP_401 and the like where there is a status code of at least 400, else TIMEOUT
            or ERROR. An empty text counts as none given.
    """

    occurred_at: NDArray[np.int64]
    outcome: NDArray[np.int8]
    timeout: NDArray[np.bool_]
    duration_us: NDArray[np.int64]
    attempts: NDArray[np.int64]
    contract_test: NDArray[np.bool_]
    tenant: DictColumn
    agent: DictColumn
    integration: DictColumn
    operation: DictColumn
    error_type: DictColumn

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.occurred_at)

    def take(self, indices: NDArray[np.int64]) -> CallColumns:
        """Return the events at `indices`, in that order."""
        return CallColumns(
            occurred_at=self.occurred_at[indices],
            outcome=self.outcome[indices],
            timeout=self.timeout[indices],
            duration_us=self.duration_us[indices],
            attempts=self.attempts[indices],
            contract_test=self.contract_test[indices],
            tenant=self.tenant.take(indices),
            agent=self.agent.take(indices),
            integration=self.integration.take(indices),
            operation=self.operation.take(indices),
            error_type=self.error_type.take(indices),
        )

    @classmethod
    def join(cls, parts: Sequence[CallColumns]) -> CallColumns:
        """Put the events of at least one part one behind the other."""
        return cls(
            occurred_at=np.concatenate([part.occurred_at for part in parts]),
            outcome=np.concatenate([part.outcome for part in parts]),
            timeout=np.concatenate([part.timeout for part in parts]),
            duration_us=np.concatenate([part.duration_us for part in parts]),
            attempts=np.concatenate([part.attempts for part in parts]),
            contract_test=np.concatenate([part.contract_test for part in parts]),
            tenant=DictColumn.join([part.tenant for part in parts]),
            agent=DictColumn.join([part.agent for part in parts]),
            integration=DictColumn.join([part.integration for part in parts]),
            operation=DictColumn.join([part.operation for part in parts]),
            error_type=DictColumn.join([part.error_type for part in parts]),
        )


def confidence_bins(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of each confidence, int64[n]; -1 for none (NaN)."""
    bins = np.isnan(confidence).view(np.int8)
    np.negative(bins, out=bins)
    above = np.empty(len(bins), np.bool_)
    for edge in CONFIDENCE_EDGES[1:-1]:  # a search among so few edges would take longer
        np.greater_equal(confidence, edge, out=above)
        bins += above
    return bins.astype(np.int64)


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """One security event; the fields of SecurityEvent.avsc, enums as their symbols.

    Attributes:
        event_id: unique id.
        occurred_at: event time, ms.
        tenant: tenant of the agent, if any.
        agent_id: the agent.
        trace_id: trace of the task, if any.
        kind: OTHER, INJECTION_ATTEMPT, TRUST_TIER_VIOLATION or ANOMALOUS_OUTPUT.
        severity: LOW, MEDIUM, HIGH or CRITICAL.
        blocked: whether the guard stopped the action.
        allowed_tier: trust tier the agent had.
        attempted_tier: trust tier the action needed.
        action: bounded code of the action tried.
        detail_code: bounded code with more detail.
        evidence_ref: pointer to the evidence.
    """

    event_id: str
    occurred_at: int
    tenant: str | None
    agent_id: str
    kind: str
    severity: str
    blocked: bool
    trace_id: str | None = None
    allowed_tier: str | None = None
    attempted_tier: str | None = None
    action: str | None = None
    detail_code: str | None = None
    evidence_ref: str | None = None
