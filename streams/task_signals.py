"""The signals of tasks: how sure, how long, how often, of which kind, and what the inputs are like.

Rates and the mix of task types are counted from hour panes. Single values come from the sampler:
each hour's means are kept until all bins that hold the hour have ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams import state
from streams.columns import AUTOMATED, ESCALATED, FAILED
from streams.durations import DAY, HOUR
from streams.mixes import Mixes
from streams.reasons import RetrainingAction, RetrainingCause
from streams.sampling import TOKENS, Means, Sampler

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from streams.drift_rules import DriftRule
    from streams.events import AgentProfile
    from streams.ledger import Ledger
    from streams.state import Stored
    from streams.watch import Change

    I64 = NDArray[np.int64]
    F64 = NDArray[np.float64]

_OUTCOMES = (AUTOMATED, FAILED, ESCALATED)
_CONFIDENCE, _INPUT, OUTPUT, _AUTOMATED, _FAILED, _ESCALATED, MIX = range(7)
_FIXED = (
    "confidence",
    "input_tokens",
    "output_tokens",
    "automated_rate",
    "failed_rate",
    "escalated_rate",
    "task_mix",
)
_ACTIONS = {
    _CONFIDENCE: RetrainingAction.THRESHOLD,
    OUTPUT: RetrainingAction.PROMPT,
    _ESCALATED: RetrainingAction.ESCALATION,
}
_PERFORMANCE = frozenset({_CONFIDENCE, OUTPUT, _AUTOMATED, _FAILED, _ESCALATED})
_BAD = {_AUTOMATED: -1, _FAILED: 1, _ESCALATED: 1}
_COST = 0
"""Column of the cost among the sums of a task pane."""


class TaskSignals:
    """Values of bins from the ledger of the tasks and the sampler.

    Args:
        ledger: of the task events.
        rule: the numbers.

    Attributes:
        name: of this source in the state.
        step: length of a bin, ms.
        sampler: to be fed with every batch.
        output: the signal that is a security finding as well.
    """

    name = "tasks"
    output: int | None = OUTPUT

    def __init__(self, ledger: Ledger, rule: DriftRule) -> None:
        self.step = rule.step_ms
        self.sampler = Sampler()
        self._ledger, self._min_n = ledger, rule.min_n
        self._mixes = Mixes(rule.step_ms)
        self._width = len(_FIXED)
        self._hours: dict[int, Means] = {}
        self._state: dict[bytes, bytes | None] = {}

    @property
    def width(self) -> int:
        """Number of signals."""
        return self._width

    def names(self, profile: AgentProfile | None) -> list[str]:
        """Return the names of an agent's signals."""
        features = list(profile.feature_names) if profile is not None else []
        more = self._width - len(_FIXED)
        known = [name or f"feature_{at}" for at, name in enumerate(features[:more])]
        return [*_FIXED, *known, *(f"feature_{at}" for at in range(len(known), more))]

    def cause(self, signal: int) -> RetrainingCause:
        """Return what a shift of a signal means."""
        performs = signal in _PERFORMANCE
        return RetrainingCause.PERFORMANCE_DRIFT if performs else RetrainingCause.INPUT_DRIFT

    def action(self, signal: int) -> RetrainingAction:
        """Return what helps against a shift of a signal."""
        return _ACTIONS.get(signal, RetrainingAction.FINE_TUNE)

    def suffers(self, signal: int, direction: int) -> bool:
        """Return whether a shift means worse outcomes."""
        return _BAD.get(signal) == direction

    def plain(self, signal: int, mean: float) -> float:
        """Return a mean of a signal as a person would say it."""
        return float(np.expm1(mean)) if signal in {_INPUT, OUTPUT} else mean

    def volume(self, row: int, tick: int) -> tuple[float, float]:
        """Return the tasks a day and their cost in US dollars, of the seven days before a tick."""
        days = 7
        first, number = tick // HOUR - days * DAY // HOUR, days * DAY // HOUR
        count = int(self._ledger.agent_hours.counts(np.array([row]), first, number).sum())
        tasks = self._ledger.series.tasks
        rows = np.array(sorted(at for at, task in tasks.items() if task.agent == row), np.int64)
        cost = int(self._ledger.task_hours.sums(rows, first, number)[..., _COST].sum())
        return count / days, cost / days / 1e6

    # -- values ------------------------------------------------------------------------------

    def hour(self, tick: int) -> None:
        """Take what the sampler has of the hour before a tick."""
        for hour in [one for one in self._hours if one + self.step < tick]:
            del self._hours[hour]
            self._state[state.means_key(hour)] = None
        means = self.sampler.close(tick)
        if len(means.rows):
            self._hours[tick - HOUR] = means
            self._state[state.means_key(tick - HOUR)] = _encoded(tick - HOUR, means)
            self._width = max(self._width, len(_FIXED) + means.means.shape[1] - TOKENS)

    def values(self, rows: I64, tick: int, frozen: Collection[tuple[int, int]]) -> F64:
        """Return float64[r, signals] of the bin that ends at a tick, NaN for none.

        Args:
            rows: int64[r].
            tick: a whole hour, ms; `hour` was called for it.
            frozen: (row, signal) that are known to drift, whose usual mix must not follow.
        """
        found = np.full((len(rows), self._width), np.nan)
        means = self._sampled(rows, tick)
        found[:, :TOKENS] = means[:, :TOKENS]
        found[:, len(_FIXED) : len(_FIXED) + means.shape[1] - TOKENS] = means[:, TOKENS:]
        first, number = (tick - self.step) // HOUR, self.step // HOUR
        counts = self._ledger.agent_hours.counts(rows, first, number).sum(axis=1)
        total = counts.sum(axis=1)
        enough = total >= self._min_n
        with np.errstate(invalid="ignore", divide="ignore"):
            rates = counts[:, _OUTCOMES] / total[:, None]
        found[:, _AUTOMATED : _ESCALATED + 1] = np.where(enough[:, None], rates, np.nan)
        held = {row for row, signal in frozen if signal == MIX}
        found[:, MIX] = self._mixes.distances(self._ledger, rows[enough], tick, held, into=rows)
        return found

    def _sampled(self, rows: I64, tick: int) -> F64:
        """Return float64[r, columns]: the means of the hours of a bin, weighed by their values."""
        columns = TOKENS + self._width - len(_FIXED)
        total, weight = np.zeros((len(rows), columns)), np.zeros((len(rows), columns))
        for hour in sorted(self._hours):
            if not tick - self.step <= hour < tick:
                continue
            means = self._hours[hour]
            place = np.searchsorted(means.rows, rows)
            place[place == len(means.rows)] = 0
            mine = np.flatnonzero(means.rows[place] == rows)
            width = means.means.shape[1]
            counts = means.counts[place[mine]]
            total[mine, :width] += np.nan_to_num(means.means[place[mine]]) * counts
            weight[mine, :width] += counts
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(weight >= self._min_n, total / weight, np.nan)

    def restart(self, row: int) -> None:
        """Begin anew with what is usual of an agent."""
        self._mixes.restart(row)

    # -- state -------------------------------------------------------------------------------

    def pending(self, looked: int) -> bool:
        """Return whether a bin with values ends after a tick."""
        return bool(len(self.sampler)) or any(hour + self.step > looked for hour in self._hours)

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        changed, self._state = list(self._state.items()), {}
        return [*self.sampler.changes(), *changed, *self._mixes.changes()]

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of these signals."""
        if stored.kind != "MeansState":
            return self.sampler.restore(stored) or self._mixes.restore(stored)
        fields = stored.fields
        rows = np.frombuffer(fields["agents"], "<i4").astype(np.int64)
        shape = len(rows), fields["columns"]
        counts = np.frombuffer(fields["counts"], "<u2").astype(np.int64).reshape(shape)
        means = np.frombuffer(fields["means"], "<f8").astype(np.float64).reshape(shape)
        self._hours[fields["hour"]] = Means(rows, counts, means)
        return True

    def widen(self, width: int) -> None:
        """Have at least so many signals: those of a restored history."""
        self._width = max(self._width, width)

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self.sampler.settle()
        self._mixes.settle()

    def forget(self, agents: Sequence[int]) -> None:
        """Drop what is known of agent rows that were freed."""
        self.sampler.forget(agents)
        self._mixes.forget(agents)


def _encoded(hour: int, means: Means) -> bytes:
    fields = {
        "hour": hour,
        "columns": means.means.shape[1],
        "agents": means.rows.astype("<i4").tobytes(),
        "counts": means.counts.astype("<u2").tobytes(),
        "means": means.means.astype("<f8").tobytes(),
    }
    return state.encode("MeansState", fields)
