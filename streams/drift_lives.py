"""Open drifts: which signals of an agent are no more what they were, since when, and how far.

Signals of one agent and one cause are one life, which ends when all of them are back or when the
agent was changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streams import state
from streams.reasons import RetrainingCause
from streams.shifts import Frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.state import Stored
    from streams.watch import Change


@dataclass(slots=True)
class Drifting:
    """One signal that drifts.

    Attributes:
        onset: first bin of the shift.
        opened_at: when it was found, ms.
        told: the magnitude last told, with its sign.
        usual: what was usual of it.
    """

    onset: int
    opened_at: int
    told: float
    usual: Frozen


@dataclass(slots=True)
class DriftLife:
    """The signals of one agent and cause that drift.

    Attributes:
        row: the agent.
        cause: what they mean.
        part: name of the first signal; the kind of the findings.
        started_at: when the first was found, ms.
        last_data: when any of them last had a value, ms.
        signals: by column.
    """

    row: int
    cause: RetrainingCause
    part: str
    started_at: int
    last_data: int
    signals: dict[int, Drifting] = field(default_factory=dict)

    def largest(self) -> int:
        """Return the signal that is furthest from what was usual."""
        return max(self.signals, key=lambda signal: (abs(self.signals[signal].told), -signal))


class DriftLives:
    """All open drifts of one source.

    Args:
        source: its name in the state.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._lives: dict[tuple[int, RetrainingCause], DriftLife] = {}
        self._dirty: set[tuple[int, RetrainingCause]] = set()

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._lives)

    def of(self, row: int) -> list[DriftLife]:
        """Return the lives of an agent, by cause."""
        return [life for (at, _), life in sorted(self._lives.items()) if at == row]

    def all(self) -> list[DriftLife]:
        """Return all lives, by agent and cause."""
        return [life for _, life in sorted(self._lives.items())]

    def get(self, row: int, cause: RetrainingCause) -> DriftLife | None:
        """Return the life of an agent and cause, None where nothing drifts."""
        return self._lives.get((row, cause))

    def frozen(self) -> list[tuple[int, int]]:
        """Return the (row, signal) that drift."""
        return [(life.row, signal) for life in self.all() for signal in life.signals]

    def keep(self, life: DriftLife) -> None:
        """File a life that began or changed; one without signals is over."""
        key = life.row, life.cause
        if life.signals:
            self._lives[key] = life
        else:
            self._lives.pop(key, None)
        self._dirty.add(key)

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        for key in sorted(self._dirty):
            life = self._lives.get(key)
            name = state.drift_life_key(self._source, *key)
            yield name, None if life is None else _encoded(self._source, life)
        self._dirty.clear()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        fields = stored.fields
        if stored.kind != "DriftLifeState" or fields["source"] != self._source:
            return False
        size = len(fields["usual"]) // max(1, len(fields["signals"]))
        columns = (fields[name] for name in ("signals", "onset", "opened_at", "told"))
        signals = {
            signal: Drifting(
                onset, opened, told, Frozen(tuple(fields["usual"][at * size : (at + 1) * size]))
            )
            for at, (signal, onset, opened, told) in enumerate(zip(*columns, strict=True))
        }
        names = ("row", "part", "started_at", "last_data")
        life = DriftLife(
            cause=RetrainingCause(fields["cause"]),
            signals=signals,
            **{name: fields[name] for name in names},
        )
        self._lives[life.row, life.cause] = life
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._dirty.clear()


def _encoded(source: str, life: DriftLife) -> bytes:
    signals = list(life.signals.values())
    fields = {
        "source": source,
        "row": life.row,
        "cause": str(life.cause),
        "part": life.part,
        "started_at": life.started_at,
        "last_data": life.last_data,
        "signals": list(life.signals),
        "onset": [one.onset for one in signals],
        "opened_at": [one.opened_at for one in signals],
        "told": [one.told for one in signals],
        "usual": [x for one in signals for x in one.usual.numbers],
    }
    return state.encode("DriftLifeState", fields)
