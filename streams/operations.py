"""What the watches on operations of integrations share: names, where records lie, stored lives.

An operation of an integration is a row of a ledger, as if it were an agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams.durations import HOUR
from streams.findings import Entity, Evidence
from streams.reasons import EntityKind
from streams.series import MISSING
from streams.watch import Subject

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.ledger import Ledger
    from streams.series import Agent
    from streams.watch import KeyedLives

    I64 = NDArray[np.int64]

SEPARATOR = "\x1f"
"""Between integration and operation in the id of a row."""


class Source(NamedTuple):
    """Where the records behind findings lie."""

    topic: str
    partition: int

    def evidence(self) -> Evidence:
        """Return it as the evidence of a finding; sums have no offsets."""
        return Evidence(self.topic, self.partition, -1, -1)


def subject(agent: Agent, part: str | None = None) -> Subject:
    """Return what a finding on a row is about.

    Args:
        agent: as the ledger names the row.
        part: what of the rule.
    """
    integration, _, operation = agent.agent_id.partition(SEPARATOR)
    entity = Entity(agent.tenant, integration)
    return Subject(EntityKind.INTEGRATION, entity, part=part, operation=operation)


def calls(ledger: Ledger, rows: I64, first: int, number: int) -> I64:
    """Return int64[rows, number]: calls in consecutive hours, `first` the number of the first."""
    found: I64 = ledger.agent_hours.counts(rows, first, number).sum(axis=-1, dtype=np.int64)
    return found


def totals(ledger: Ledger, row: int, start: int, end: int) -> dict[str, float]:
    """Return the tries and time-outs of the calls of whole hours, by the name in findings."""
    _, task = ledger.series.rows(ledger.series.agents[row], "")
    if task == MISSING:
        return {}
    hours = start // HOUR, (end - start) // HOUR
    sums = ledger.task_hours.sums(np.full(1, task, np.int64), *hours)[0].sum(axis=0)
    names = ledger.layout.sums
    return {name: float(sums[names.index(name)]) for name in ("attempts", "timeouts")}


def life_key(row: int, part: str = "") -> bytes:
    """Return the key of a life of a row: fixed width first, so that rows sort as numbers."""
    return row.to_bytes(4, "big") + part.encode()


def life_row(key: bytes) -> tuple[int, str]:
    """Return what `life_key` was given."""
    return int.from_bytes(key[:4], "big"), key[4:].decode()


def drop_rows(lives: KeyedLives, rows: Sequence[int], keys: Iterable[bytes]) -> None:
    """Forget the lives of freed rows among `keys`."""
    gone = set(rows)
    for key in list(keys):
        if life_row(key)[0] in gone:
            lives.drop(key)
