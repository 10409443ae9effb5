"""Events as the core takes them: tasks in columns, security events one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

AUTOMATED, ESCALATED, FAILED, UNKNOWN = range(4)
"""Codes in `TaskColumns.outcome`, which are also the order of the counts in a pane."""


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
class TaskColumns:
    """Finished tasks in log order, one array a field.

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
        )


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
