"""How far the mix of an agent's task types is from what it usually is.

The distance is the share of tasks that would have to be of another type: half the sum of the
differences of all shares. The usual shares follow slowly, a bin at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams import state
from streams.durations import DAY, HOUR
from streams.panes import BUCKET

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from numpy.typing import NDArray

    from streams.ledger import Ledger
    from streams.state import Stored
    from streams.watch import Change

    I64 = NDArray[np.int64]
    F64 = NDArray[np.float64]

_MEMORY = 28 * DAY
"""Time in which the usual shares follow."""

_YOUNG = 7 * DAY
"""Time after which they are known well enough to measure a distance."""

_TINY = 1e-4
"""A share below this is forgotten, or a type that is gone would be kept for ever."""


class Mixes:
    """The usual shares of task types of all agents.

    Args:
        step: length of a bin, ms.
    """

    def __init__(self, step: int) -> None:
        self._hours = step // HOUR
        self._memory, self._young = _MEMORY // step, _YOUNG // step
        self._usual: dict[int, dict[str, float]] = {}
        self._bins: dict[int, int] = {}
        self._dirty: set[int] = set()
        self._stored: set[int] = set()

    def distances(
        self, ledger: Ledger, rows: I64, tick: int, held: Collection[int], *, into: I64
    ) -> F64:
        """Return float64[r]: the distance of each agent in the bin that ends at a tick.

        Args:
            ledger: of the task events.
            rows: agents with tasks enough.
            tick: a whole hour, ms.
            held: agents whose usual shares must not follow.
            into: int64[r], all agents asked for, ascending; NaN for those not in `rows`.
        """
        found = np.full(len(into), np.nan)
        counts = self._counts(ledger, rows, tick)
        for place, row in zip(np.searchsorted(into, rows).tolist(), rows.tolist(), strict=True):
            found[place] = self._distance(row, counts.get(row, {}), follow=row not in held)
        return found

    def _counts(self, ledger: Ledger, rows: I64, tick: int) -> dict[int, dict[str, int]]:
        """Return how many tasks of each type each agent had."""
        wanted = set(rows.tolist())
        tasks = ledger.series.tasks
        mine = np.array(sorted(at for at, task in tasks.items() if task.agent in wanted), np.int64)
        first = tick // HOUR - self._hours
        numbers = ledger.task_hours.counts(mine, first, self._hours).sum(axis=(1, 2))
        found: dict[int, dict[str, int]] = {}
        for at, number in zip(mine.tolist(), numbers.tolist(), strict=True):
            if number:
                agent, kind = tasks[at][:2]
                types = found.setdefault(agent, {})
                types[kind] = types.get(kind, 0) + number
        return found

    def _distance(self, row: int, counts: dict[str, int], *, follow: bool) -> float:
        total = sum(counts.values())
        if not total:
            return float("nan")
        usual = self._usual.setdefault(row, {})
        bins = self._bins.get(row, 0)
        rate = 1 / min(bins + 1, self._memory)
        distance = 0.0
        for kind in sorted(usual.keys() | counts.keys()):  # one order of adding, whatever the past
            share = counts.get(kind, 0) / total
            before = usual.get(kind, 0.0)
            distance += abs(share - before)
            if follow:
                usual[kind] = before + rate * (share - before)
        if follow:
            for kind in [kind for kind, share in usual.items() if share < _TINY]:
                del usual[kind]
            self._bins[row] = min(bins + 1, self._memory)
            self._dirty.add(row // BUCKET)
        return distance / 2 if bins >= self._young else float("nan")

    def restart(self, row: int) -> None:
        """Forget the usual shares of an agent."""
        if self._usual.pop(row, None) is not None:
            self._bins.pop(row, None)
            self._dirty.add(row // BUCKET)

    def forget(self, rows: Sequence[int]) -> None:
        """Forget the usual shares of agents."""
        for row in rows:
            self.restart(row)

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        for bucket in sorted(self._dirty):
            rows = [row for row in sorted(self._usual) if row // BUCKET == bucket]
            if not rows and bucket in self._stored:
                yield state.mix_key(bucket), None
                self._stored.discard(bucket)
            if rows:
                self._stored.add(bucket)
                yield state.mix_key(bucket), state.encode("MixState", self._fields(bucket, rows))
        self._dirty.clear()

    def _fields(self, bucket: int, rows: list[int]) -> dict[str, object]:
        shares = [sorted(self._usual[row].items()) for row in rows]
        return {
            "bucket": bucket,
            "rows": state.pack_rows(np.array(rows, np.int64)),
            "bins": [self._bins[row] for row in rows],
            "types": [len(one) for one in shares],
            "task_types": [kind for one in shares for kind, _ in one],
            "shares": [share for one in shares for _, share in one],
        }

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of the mixes."""
        if stored.kind != "MixState":
            return False
        fields = stored.fields
        pairs = iter(zip(fields["task_types"], fields["shares"], strict=True))
        rows = state.unpack_rows(fields["bucket"], fields["rows"]).tolist()
        for row, bins, types in zip(rows, fields["bins"], fields["types"], strict=True):
            self._bins[row] = bins
            self._usual[row] = dict(next(pairs) for _ in range(types))
        self._stored.add(fields["bucket"])
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._dirty.clear()
