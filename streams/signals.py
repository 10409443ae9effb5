"""The signals of many agents, bin by bin: their past, what is usual of them, and their detectors.

A bin is a few hours of one agent. Its value becomes the next input of the signal's detector: what
it is above its season, in spreads. All of it follows from the values of bins that are closed, which
never change, so that a restored history is the same as one that was never stopped.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import numpy as np

from streams import seasons, state
from streams.detectors import Detector
from streams.durations import DAY, HOUR
from streams.panes import BUCKET
from streams.shifts import Distance, Frozen, Shift

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.detectors import Drift
    from streams.drift_rules import DriftRule
    from streams.series import Agent
    from streams.state import Stored
    from streams.watch import Change

    I64 = NDArray[np.int64]
    F32 = NDArray[np.float32]
    F64 = NDArray[np.float64]
    Taint = tuple[int, int, int]  # signal, first bin, bin after the last

_KEPT_DAYS = 25  # inputs a detector is built from again; the ring holds twice as many
_NO_DAY = -1
_UNKNOWN = -1


class _Restored(NamedTuple):
    """A stored bin whose inputs are not yet given to detectors."""

    number: int
    phase: int
    bucket: int
    rows: I64
    inputs: F32
    kept: NDArray[np.uint16]


class SignalHistory:
    """The past of all signals of one kind of input.

    Args:
        source: name in the state: `tasks` or `reviews`.
        rule: the numbers.
        step: length of a bin, ms, whole hours that divide a day.
        width: signals at first.
    """

    def __init__(self, source: str, rule: DriftRule, step: int, width: int) -> None:
        self._source, self._rule = source, rule
        self.hours = step // HOUR
        self.bins = DAY // step
        past = rule.reference
        self._days = past.days + past.gap
        self._ring = (max(self._days, 2 * _KEPT_DAYS) + 2) * self.bins
        self._values = np.full((0, width, self._ring), np.nan, np.float32)
        self._since = np.zeros((0, width), np.int64)
        self._mark = np.full(0, _UNKNOWN, np.int64)  # of the agent's name: when it is its turn
        self._learned = np.full(0, _NO_DAY, np.int64)
        self._season = seasons.blank(0, width, self.bins)
        self._young = np.zeros((0, width), np.bool_)
        self._last = [_UNKNOWN] * self.hours
        self._detectors: dict[tuple[int, int], Detector] = {}
        self._waiting: dict[tuple[int, int], list[float]] = {}  # inputs of detectors to be built
        self._taint: dict[int, list[Taint]] = {}
        self._frozen: dict[tuple[int, int], Frozen] = {}
        self._state: dict[bytes, bytes | None] = {}
        self._bins_stored: dict[tuple[int, int], deque[int]] = {}
        self._restored: list[_Restored] = []
        self._spec = rule.detector.per(self.bins)

    # -- rows --------------------------------------------------------------------------------

    @property
    def width(self) -> int:
        """Number of signals."""
        return self._values.shape[1]

    def reserve(self, rows: int, width: int) -> None:
        """Make room for rows 0 … rows - 1 and so many signals."""
        have, columns = self._since.shape
        if rows <= have and width <= columns:
            return
        rows = max(have, 2 * rows if rows > have else rows)
        width = max(width, columns)
        values = np.full((rows, width, self._ring), np.nan, np.float32)
        values[:have, :columns] = self._values
        since, young = np.zeros((rows, width), np.int64), np.zeros((rows, width), np.bool_)
        since[:have, :columns], young[:have, :columns] = self._since, self._young
        mark = np.full(rows, _UNKNOWN, np.int64)
        mark[:have] = self._mark
        self._values, self._since, self._young, self._mark = values, since, young, mark
        # Whatever was learned is learned again: it follows from the values.
        self._learned = np.full(rows, _NO_DAY, np.int64)
        self._season = seasons.blank(rows, width, self.bins)

    def unnamed(self, rows: int) -> list[int]:
        """Return the rows below `rows` that `name` was not told yet."""
        return np.flatnonzero(self._mark[:rows] == _UNKNOWN).tolist()

    def name(self, row: int, agent: Agent) -> None:
        """Say who a row is; from the name follows when its bins end: not all end at once."""
        text = "\x1f".join((agent.tenant or "", agent.agent_id))
        self._mark[row] = crc32(text.encode())
        for signal in range(self.width if self._waiting else 0):
            inputs = self._waiting.pop((row, signal), None)
            if inputs is not None:
                self._detectors[row, signal] = self._new(row)
                self._detectors[row, signal].load(inputs)

    def due(self, tick: int, rows: int) -> tuple[int, I64]:
        """Return the bin that ends at a tick and the rows of which it does.

        Args:
            tick: a whole hour, ms.
            rows: number of rows.
        """
        hour = tick // HOUR
        phase = hour % self.hours
        mark = self._mark[:rows]
        found = np.flatnonzero((mark != _UNKNOWN) & (mark % self.hours == phase))
        return (hour - phase) // self.hours - 1, found

    def start(self, number: int, row: int) -> int:
        """Return when a bin of a row begins, ms."""
        phase = int(self._mark[row]) % self.hours
        return (number * self.hours + phase) * HOUR

    def bin_at(self, time: int, row: int) -> int:
        """Return the bin of a row that a time lies in."""
        phase = int(self._mark[row]) % self.hours
        return (time // HOUR - phase) // self.hours

    # -- closing -----------------------------------------------------------------------------

    def close(self, number: int, rows: I64, values: F64) -> list[Shift]:
        """Take the values of a bin; return what the detectors found.

        Args:
            number: of the bin.
            rows: int64[r], all rows of which the bin ends now, ascending.
            values: float64[r, signals], NaN for none.
        """
        if not len(rows):
            return []
        self._skip(number, rows)
        self._values[rows, :, number % self._ring] = values
        self._learn(number, rows)
        inputs = self._inputs(number, rows)
        found = self._detect(number, rows, inputs)
        self._store(number, rows, inputs)
        return found

    def _skip(self, number: int, rows: I64) -> None:
        """Empty the bins of these rows that nothing was told of."""
        phase = int(self._mark[rows[0]]) % self.hours
        last = self._last[phase]
        self._last[phase] = number
        first = max(number - self._ring, last) + 1
        for slot in {one % self._ring for one in range(first, number)} if last >= 0 else ():
            self._values[rows, :, slot] = np.nan

    def _learn(self, number: int, rows: I64) -> None:
        """Learn what is usual of the rows that begin another day, each at a bin of its own."""
        days = (number - self._mark[rows] // self.hours % self.bins) // self.bins
        stale = rows[self._learned[rows] != days]
        if not len(stale):
            return
        for day in np.unique(days[self._learned[rows] != days]).tolist():
            some = rows[(days == day) & (self._learned[rows] != day)]
            self._learn_day(day, some)
            self._learned[some] = day

    def _learn_day(self, day: int, rows: I64) -> None:
        past = self._rule.reference
        days = np.arange(day - self._days, day - past.min_gap)
        values = self._past(rows, days)
        flat = values.reshape(-1, len(days), self.bins)
        there = np.count_nonzero(~np.isnan(flat), axis=2) > 0
        first = np.where(there.any(axis=1), days[there.argmax(axis=1)], day)
        end = np.maximum(day - past.gap, np.minimum(day - past.min_gap, first + past.min_days))
        late = days >= end[:, None]
        flat[late] = np.nan
        known = np.count_nonzero(there & ~late, axis=1)
        season = seasons.learn(flat, days, past.min_days)
        shape = (len(rows), self.width)
        for mine, new in zip(self._season, season, strict=True):
            mine[rows] = new.reshape(shape + new.shape[1:])
        self._young[rows] = (known < seasons.WEEKS * 7).reshape(shape)

    def _past(self, rows: I64, days: I64) -> F64:
        """Return float64[r, signals, days, bins] without what does not count."""
        first = int(days[0]) * self.bins
        numbers = np.arange(first, first + len(days) * self.bins)
        found = self._values[rows][:, :, numbers % self._ring].astype(np.float64)
        found[numbers < self._since[rows][:, :, None]] = np.nan
        for place, row in enumerate(rows.tolist()):
            for signal, start, end in self._taint.get(row, ()):
                found[place, signal, (numbers >= start) & (numbers < end)] = np.nan
        return found.reshape(len(rows), self.width, len(days), self.bins)

    def _inputs(self, number: int, rows: I64) -> F32:
        """Return float32[r, signals]: what the values are above their season, NaN for none."""
        day, at = divmod(number, self.bins)
        season = self._season
        weekday = int(seasons.weekdays(np.array([day]))[0])
        usual = season.base[rows][:, :, int(weekday >= seasons.SATURDAY), at]
        usual = usual + season.weekly[rows][:, :, weekday]
        past = self._rule.reference
        margin = np.where(self._young[rows], past.young_margin, past.margin)
        unit = margin * season.spread[rows] * np.sqrt(self.bins)
        above = (self._values[rows, :, number % self._ring] - usual) / unit
        cut: F32 = np.clip(above, -past.clip, past.clip).astype(np.float32)
        return cut

    def _detect(self, number: int, rows: I64, inputs: F32) -> list[Shift]:
        found: list[Shift] = []
        places, signals = np.nonzero(~np.isnan(inputs) & (self._since[rows] <= number))
        values = inputs[places, signals].tolist()
        for row, signal, x in zip(rows[places].tolist(), signals.tolist(), values, strict=True):
            key = row, signal
            detector = self._detectors.get(key)
            if detector is None:
                if key in self._frozen:
                    continue
                detector = self._detectors[key] = self._new(row)
            drift = detector.update(x)
            if drift is not None:
                shift = self._shift(number, key, drift)
                del self._detectors[key]
                if abs(shift.now.magnitude) >= self._rule.min_magnitude:
                    self._frozen[key] = shift.usual
                    found.append(shift)
        return found

    def _new(self, row: int) -> Detector:
        kept = _KEPT_DAYS * self.bins
        return Detector(
            self._spec,
            warm_up=min(self._rule.warm_up, kept),
            kept=kept,
            bound=2 * kept - int(self._mark[row]) % (kept // 2),
        )

    def _shift(self, number: int, key: tuple[int, int], drift: Drift) -> Shift:
        row, signal = key
        numbers = np.arange(max(number - self._ring + 1, int(self._since[key])), number + 1)
        there = numbers[~np.isnan(self._values[row, signal, numbers % self._ring])]
        onset = int(there[-min(drift.current.number, len(there))])
        one = self._season
        parts = (one.base, one.weekly, one.spread, one.level, one.number)
        flat = [np.ravel(part[row, signal]).tolist() for part in parts]
        usual = Frozen(tuple(float(x) for part in flat for x in part))
        return Shift(row, signal, onset, usual, self.distance(key, usual, onset, number + 1))

    # -- what was found ----------------------------------------------------------------------

    def distance(self, key: tuple[int, int], usual: Frozen, first: int, end: int) -> Distance:
        """Return how far bins [first, end) of a signal are from what was usual."""
        row, signal = key
        numbers = np.arange(max(first, end - self._ring), end)
        values = self._values[row, signal, numbers % self._ring].astype(np.float64)
        there = ~np.isnan(values)
        if not there.any():
            return Distance(0.0, float("nan"), 0)
        season = usual.season(self.bins)
        above = values - season.usual(numbers // self.bins, numbers % self.bins)[0]
        magnitude = float(above[there].mean()) / float(season.spread[0])
        return Distance(magnitude, float(values[there].mean()), int(there.sum()))

    def freeze(self, key: tuple[int, int], usual: Frozen) -> None:
        """Keep a signal from its detector until `thaw`, as `close` does where it finds a shift."""
        self._frozen[key] = usual

    def thaw(self, key: tuple[int, int], taint: tuple[int, int] | None = None) -> None:
        """Begin anew with the detector of a signal.

        Args:
            key: row and signal.
            taint: bins [first, end) that are never usual.
        """
        row, signal = key
        self._frozen.pop(key, None)
        self._detectors.pop(key, None)
        if taint is not None:
            spans = [one for one in self._taint.get(row, ()) if one[2] > taint[1] - self._ring]
            self._taint[row] = [*spans, (signal, *taint)]
            self._learned[row] = _NO_DAY
            self._store_row(row)

    def restart(self, row: int, number: int) -> bool:
        """Forget all signals of an agent before a bin; return whether that is news.

        Signals that are known to drift go on to be compared with what was usual of them.
        """
        if not (self._since[row] < number).any():
            return False
        self._since[row] = np.maximum(self._since[row], number)
        for signal in range(self.width):
            self._detectors.pop((row, signal), None)
        self._learned[row] = _NO_DAY
        self._store_row(row)
        return True

    def forget(self, rows: Sequence[int]) -> None:
        """Drop all of rows that were freed; their next agents begin with the next bin."""
        for row in rows:
            if row >= len(self._mark) or self._mark[row] == _UNKNOWN:
                continue
            for signal in range(self.width):
                self.thaw((row, signal))
            self._taint.pop(row, None)
            self.restart(row, max(self._last) + 1)
            self._mark[row] = _UNKNOWN

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        changed, self._state = list(self._state.items()), {}
        return changed

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of this history."""
        fields = stored.fields
        if stored.kind not in {"DriftBinState", "DriftRowState"}:
            return False
        if fields["source"] != self._source:
            return False
        if stored.kind == "DriftRowState":
            row, since = fields["row"], fields["since"]
            self.reserve(row + 1, len(since))
            self._since[row, : len(since)] = since
            flat = fields["taint"]
            self._taint[row] = list(zip(flat[::3], flat[1::3], flat[2::3], strict=True))
            return True
        number, phase, bucket = fields["bin"], fields["phase"], fields["bucket"]
        rows = state.unpack_rows(bucket, fields["rows"])
        shape = len(rows), fields["signals"]
        self.reserve(int(rows.max()) + 1, shape[1])
        values = np.frombuffer(fields["values"], "<f4").reshape(shape)
        self._values[rows, : shape[1], number % self._ring] = values
        self._last[phase] = max(self._last[phase], number)
        inputs = np.frombuffer(fields["inputs"], "<f4").reshape(shape)
        kept = np.frombuffer(fields["kept"], "<u2").reshape(shape)
        self._restored.append(_Restored(number, phase, bucket, rows, inputs, kept))
        return True

    def settle(self) -> None:
        """Build what follows from the records restored; all of it counts as stored."""
        past: dict[tuple[int, int], list[float]] = {}
        kept: dict[tuple[int, int], int] = {}
        for number, phase, bucket, rows, inputs, lengths in sorted(self._restored, key=_place):
            self._bins_stored.setdefault((phase, bucket), deque()).append(number)
            there = ~np.isnan(inputs) & (number >= self._since[rows, : inputs.shape[1]])
            for place, signal in np.argwhere(there).tolist():
                key = int(rows[place]), signal
                past.setdefault(key, []).append(float(inputs[place, signal]))
            for place, signal in np.argwhere(lengths >= 0).tolist():
                kept[int(rows[place]), signal] = int(lengths[place, signal])
        for key, number in kept.items():
            if number and key in past and key not in self._frozen:
                self._waiting[key] = past[key][-number:]
        self._restored.clear()
        self._state.clear()

    def _store(self, number: int, rows: I64, inputs: F32) -> None:
        """Write what a bin said of rows with any value, and forget one that is too old."""
        phase = int(self._mark[rows[0]]) % self.hours
        values = self._values[rows, :, number % self._ring]
        there = ~np.isnan(values).all(axis=1)
        for bucket in np.unique(rows[there] // BUCKET).tolist():
            some = there & (rows // BUCKET == bucket)
            key = state.drift_bin_key(self._source, bucket, phase, number)
            self._bins_stored.setdefault((phase, bucket), deque()).append(number)
            self._state[key] = state.encode(
                "DriftBinState",
                {
                    "source": self._source,
                    "bucket": bucket,
                    "phase": phase,
                    "bin": number,
                    "signals": self.width,
                    "rows": state.pack_rows(rows[some]),
                    "values": values[some].astype("<f4").tobytes(),
                    "inputs": inputs[some].astype("<f4").tobytes(),
                    "kept": self._lengths(rows[some]).astype("<u2").tobytes(),
                },
            )
        for (turn, bucket), stored in self._bins_stored.items():
            while turn == phase and stored and stored[0] <= number - self._ring:
                old = stored.popleft()
                self._state[state.drift_bin_key(self._source, bucket, phase, old)] = None

    def _lengths(self, rows: I64) -> I64:
        """Return int64[r, signals]: how many inputs each detector keeps."""
        get = self._detectors.get
        signals = range(self.width)
        flat = [len(get((row, signal)) or ()) for row in rows.tolist() for signal in signals]
        return np.array(flat, np.int64).reshape(len(rows), self.width)

    def _store_row(self, row: int) -> None:
        self._state[state.drift_row_key(self._source, row)] = state.encode(
            "DriftRowState",
            {
                "source": self._source,
                "row": row,
                "since": self._since[row].tolist(),
                "taint": [x for span in self._taint.get(row, ()) for x in span],
            },
        )


def _place(one: _Restored) -> tuple[int, int, int]:
    return one.number, one.phase, one.bucket
