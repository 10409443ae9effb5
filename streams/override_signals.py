"""How often people override an agent, as a signal: reviews, counted by agent and hour.

Reviews come on a topic of their own, with a clock of its own, and may be of agents whose tasks are
not known here. So it has rows of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams import state
from streams.durations import DAY, HOUR
from streams.reasons import RetrainingAction, RetrainingCause
from streams.series import Agent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from streams.drift_rules import DriftRule
    from streams.events import AgentProfile
    from streams.state import Stored
    from streams.watch import Change

    I64 = NDArray[np.int64]
    F64 = NDArray[np.float64]

_WEEK = 7
_KEPT = (_WEEK + 1) * DAY
"""How long hours are kept: the volume of a finding is that of a week."""


class OverrideSignals:
    """Values of bins from reviews.

    Args:
        rule: the numbers.
        bound: most agents; the reviews of further ones are not counted here.

    Attributes:
        name: of this source in the state.
        step: length of a bin, ms.
        agents: by row.
        refused: reviews of agents past the bound.
    """

    name = "reviews"
    output: int | None = None
    width = 1

    def __init__(self, rule: DriftRule, bound: int = 10_000) -> None:
        self.step = rule.review_step_ms
        self.agents: dict[int, Agent] = {}
        self.refused = 0
        self._min_n, self._bound = rule.review_min_n, bound
        self._rows: dict[Agent, int] = {}
        self._hours: dict[int, dict[int, tuple[int, int]]] = {}  # by row: reviews, overridden
        self._dirty: set[int] = set()
        self._new: list[int] = []
        self._gone: list[int] = []
        self._newest = 0

    def note(self, agent: Agent, clock: int, *, overridden: bool) -> None:
        """Count a review.

        Args:
            agent: who was reviewed.
            clock: clock of the reviews with it, ms.
            overridden: whether the decision was changed.
        """
        row = self._rows.get(agent)
        if row is None:
            if len(self._rows) >= self._bound:
                self.refused += 1
                return
            row = self._rows[agent] = len(self._rows)
            self.agents[row] = agent
            self._new.append(row)
        hour = clock // HOUR * HOUR
        counts = self._hours.setdefault(hour, {})
        total, changed = counts.get(row, (0, 0))
        counts[row] = total + 1, changed + overridden
        self._dirty.add(hour)
        self._newest = max(self._newest, hour)

    # -- as a source of signals --------------------------------------------------------------

    def names(self, profile: AgentProfile | None) -> list[str]:
        """Return the names of an agent's signals."""
        del profile
        return ["override_rate"]

    def cause(self, signal: int) -> RetrainingCause:
        """Return what a shift of a signal means."""
        del signal
        return RetrainingCause.PERFORMANCE_DRIFT

    def action(self, signal: int) -> RetrainingAction:
        """Return what helps against a shift of a signal."""
        del signal
        return RetrainingAction.FINE_TUNE

    def suffers(self, signal: int, direction: int) -> bool:
        """Return whether a shift means worse outcomes."""
        del signal
        return direction > 0

    def plain(self, signal: int, mean: float) -> float:
        """Return a mean of a signal as a person would say it."""
        del signal
        return mean

    def volume(self, row: int, tick: int) -> tuple[float, float]:
        """Return the reviews a day over the seven days before a tick, and no cost."""
        first = tick - _WEEK * DAY
        counts = (
            hours.get(row, (0, 0))[0] for at, hours in self._hours.items() if first <= at < tick
        )
        return sum(counts) / _WEEK, 0.0

    def hour(self, tick: int) -> None:
        """Forget the hours too old to matter."""
        for hour in [one for one in self._hours if one < tick - _KEPT]:
            del self._hours[hour]
            self._dirty.discard(hour)
            self._gone.append(hour)

    def values(self, rows: I64, tick: int, frozen: Collection[tuple[int, int]]) -> F64:
        """Return float64[r, 1]: the override rates in the bin that ends at a tick."""
        del frozen
        found = np.full((len(rows), 1), np.nan)
        hours: list[Mapping[int, tuple[int, int]]] = [
            self._hours[at] for at in range(tick - self.step, tick, HOUR) if at in self._hours
        ]
        for place, row in enumerate(rows.tolist()):
            counts = [one[row] for one in hours if row in one]
            total = sum(number for number, _ in counts)
            if total >= self._min_n:
                found[place, 0] = sum(number for _, number in counts) / total
        return found

    def restart(self, row: int) -> None:
        """Begin anew with an agent: nothing is kept of it here."""

    def widen(self, width: int) -> None:
        """There is one signal, always."""

    # -- state -------------------------------------------------------------------------------

    def pending(self, looked: int) -> bool:
        """Return whether a bin with reviews ends after a tick."""
        return bool(self._hours) and self._newest + self.step > looked

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        for row in self._new:
            fields = {"row": row, **self.agents[row]._asdict()}
            yield state.override_agent_key(row), state.encode("OverrideAgentState", fields)
        for hour in self._gone:
            yield state.override_key(hour), None
        for hour in sorted(self._dirty):
            counts = self._hours[hour]
            record = {
                "hour": hour,
                "rows": list(counts),
                "total": [total for total, _ in counts.values()],
                "overridden": [changed for _, changed in counts.values()],
            }
            yield state.override_key(hour), state.encode("OverrideState", record)
        self._new.clear()
        self._gone.clear()
        self._dirty.clear()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of these signals."""
        fields = stored.fields
        if stored.kind == "OverrideAgentState":
            agent = Agent(fields["tenant"], fields["agent_id"])
            self.agents[fields["row"]] = agent
            self._rows[agent] = fields["row"]
            return True
        if stored.kind != "OverrideState":
            return False
        counts = zip(fields["total"], fields["overridden"], strict=True)
        self._hours[fields["hour"]] = dict(zip(fields["rows"], counts, strict=True))
        self._newest = max(self._newest, fields["hour"])
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._new.clear()
        self._dirty.clear()

    def forget(self, agents: Sequence[int]) -> None:
        """Rows here are its own: those of the tasks mean nothing to it."""
