"""A shift of a signal: since when, how far, and what was usual before."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streams.seasons import Season


class Frozen(NamedTuple):
    """What was usual of one signal when it was found to drift.

    Attributes:
        numbers: base by bin on weekdays, then on weekends, then what each day of the week is above
            that, then the spread, the level and the number of its values.
    """

    numbers: tuple[float, ...]

    def season(self, bins: int) -> Season:
        """Return it as the season of one series with so many bins a day."""
        flat = np.array(self.numbers, np.float64)
        end = 2 * bins + 7
        return Season(
            flat[: 2 * bins].reshape(1, 2, bins),
            flat[2 * bins : end].reshape(1, 7),
            flat[end : end + 1],
            flat[end + 1 : end + 2],
            flat[end + 2 : end + 3].astype(np.int64),
        )


class Distance(NamedTuple):
    """How far some bins are from what was usual.

    Attributes:
        magnitude: mean of what they are above it, in standard deviations of a day's mean.
        mean: of the values.
        number: how many have a value.
    """

    magnitude: float
    mean: float
    number: int


class Shift(NamedTuple):
    """A detector found something on a signal of an agent.

    Attributes:
        row: the agent.
        signal: column of the signal.
        onset: first bin of the shift.
        usual: what was usual of the signal.
        now: how far it is from that since.
    """

    row: int
    signal: int
    onset: int
    usual: Frozen
    now: Distance
