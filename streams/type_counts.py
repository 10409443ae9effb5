"""Errors of each operation by type and hour, for 36 days, bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from streams import state
from streams.durations import DAY, HOUR

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.watch import Change

    I32 = NDArray[np.int32]
    I64 = NDArray[np.int64]

TYPES_MOST = 32
"""Types of one operation that are told apart; further ones are counted as `OTHER`."""

OTHER = "OTHER"

KEPT_DAYS = 36
"""Days before today that are kept: 28 of the usual, and a window of seven."""

_HOURS = DAY // HOUR
_RING = (KEPT_DAYS + 3) * _HOURS


class TypeCounts:
    """Counts by row, type and hour.

    A row takes 3.7 kB for each of at most 33 types. A type is forgotten, and makes room for
    another, when nothing of it is left.
    """

    def __init__(self) -> None:
        self._counts: dict[int, dict[str, I32]] = {}
        self._days: dict[int, set[int]] = {}  # of a row: days with any error
        self._dirty: set[tuple[int, int]] = set()
        self._today: int | None = None

    def fold(self, rows: I64, hours: I64, names: Sequence[str], counts: I64) -> None:
        """Add errors, in log order: the types that come first are told apart.

        Args:
            rows: int64[k].
            hours: int64[k], starts of hours, ms; those not kept any more are left out.
            names: k types.
            counts: int64[k].
        """
        oldest = 0 if self._today is None else self._today - KEPT_DAYS
        each = zip(rows.tolist(), hours.tolist(), names, counts.tolist(), strict=True)
        for row, hour, name, count in each:
            if hour // DAY >= oldest:
                self._types(row, name)[hour // HOUR % _RING] += count
                self._days.setdefault(row, set()).add(hour // DAY)
                self._dirty.add((row, hour // DAY))

    def enter(self, day: int) -> None:
        """Forget what is too old as of a day, days since 1970."""
        if self._today is not None and day <= self._today:
            return
        self._today = day
        for row in list(self._days):
            old = {one for one in self._days[row] if one < day - KEPT_DAYS}
            if old:
                self._expire(row, old)

    def rows(self, since: int) -> list[int]:
        """Return the rows with any error from a day on, days since 1970, ascending."""
        return sorted(row for row, days in self._days.items() if max(days) >= since)

    def names(self, row: int) -> list[str]:
        """Return the types of a row, ascending."""
        return sorted(self._counts.get(row, {}))

    def read(self, row: int, first: int, number: int) -> I64:
        """Return int64[types, number]: errors by type, as of `names`, in consecutive hours.

        Args:
            row: the row.
            first: number of the first hour.
            number: how many hours, at most 36 days.
        """
        places = np.arange(first, first + number) % _RING
        types = self._counts.get(row, {})
        rows = [types[name][places] for name in sorted(types)]
        return np.array(rows, np.int64).reshape(len(rows), number)

    def top(self, row: int, first: int, number: int) -> list[tuple[str, int]]:
        """Return (type, errors) in consecutive hours, the most frequent first, none without any."""
        totals = self.read(row, first, number).sum(axis=1).tolist()
        found = [pair for pair in zip(self.names(row), totals, strict=True) if pair[1]]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))

    def forget(self, row: int) -> None:
        """Forget a row."""
        for day in self._days.pop(row, ()):
            self._dirty.add((row, day))
        self._counts.pop(row, None)

    def changes(self) -> Iterable[Change]:
        """Return the state records that changed since the last call, None for one that is gone."""
        dirty = sorted(self._dirty)
        self._dirty.clear()
        for row, day in dirty:
            here = day in self._days.get(row, ())
            yield state.error_types_key(row, day), self._encoded(row, day) if here else None

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        if stored.kind != "ErrorTypesState":
            return False
        row, day = stored.fields["row"], stored.fields["day"]
        types = self._counts.setdefault(row, {})
        for name, data in zip(stored.fields["types"], stored.fields["counts"], strict=True):
            counts = types.setdefault(name, np.zeros(_RING, np.int32))
            counts[_hours_of(day)] = state.unpack_values(data, _HOURS)
        self._days.setdefault(row, set()).add(day)
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._dirty.clear()

    @property
    def nbytes(self) -> int:
        """Memory of all arrays."""
        return sum(one.nbytes for types in self._counts.values() for one in types.values())

    def _types(self, row: int, name: str) -> I32:
        """Return the hours of a type, or of `OTHER` where the row has no room for it."""
        types = self._counts.setdefault(row, {})
        if name not in types and len(types.keys() - {OTHER}) >= TYPES_MOST:
            name = OTHER
        if name not in types:
            types[name] = np.zeros(_RING, np.int32)
        return types[name]

    def _expire(self, row: int, days: set[int]) -> None:
        types = self._counts[row]
        for day in days:
            for counts in types.values():
                counts[_hours_of(day)] = 0
            self._dirty.add((row, day))
        self._days[row] -= days
        for name in [name for name, counts in types.items() if not counts.any()]:
            del types[name]
        if not self._days[row]:
            del self._days[row], self._counts[row]

    def _encoded(self, row: int, day: int) -> bytes:
        hours, types = _hours_of(day), self._counts[row]
        some = [name for name in sorted(types) if types[name][hours].any()]
        counts = [state.pack_values(types[name][hours].astype(np.int64)) for name in some]
        fields = {"row": row, "day": day, "types": some, "counts": counts}
        return state.encode("ErrorTypesState", fields)


def _hours_of(day: int) -> slice:
    """Return the places of a day in the ring, which holds whole days."""
    start = day * _HOURS % _RING
    return slice(start, start + _HOURS)
