"""Drift detectors: river's, which answer only yes or no, wrapped to say what drifted and how far.

A wrapped detector is its inputs: it keeps those since it was reset, the last few weeks of them, and
river's object is built by feeding them again. So nothing opaque is ever stored, a newer river reads
what an older one left, and a restored detector is the same as one that was never stopped.
"""

from __future__ import annotations

from array import array
from functools import cache
from importlib import import_module
from math import sqrt
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import Field

from streams.arms import Part

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIDE = 3
"""Fewest inputs on either side of the point where a signal is taken to have shifted."""


class PageHinkleySpec(Part):
    """A cumulative sum of what each input exceeds the mean of all by; finds small lasting shifts.

    Attributes:
        delta: what an input may exceed the mean by without being counted, for one input a day.
            Raising it leaves smaller shifts alone, and finds larger ones as soon.
        threshold: the sum that is a drift. Raising it makes false alarms rarer and finding slower.

    Source: E. S. Page (1954), "Continuous inspection schemes", Biometrika 41, 100-115.
    """

    kind: Literal["page-hinkley"]
    delta: float = Field(ge=0)
    threshold: float = Field(gt=0)

    def per(self, bins: int) -> PageHinkleySpec:
        """Return it for inputs that are so many a day, each a part of the day's sum.

        A day's mean that strays by one standard deviation is bins inputs that stray by 1 / √bins.
        """
        root = sqrt(bins)
        return self.model_copy(
            update={"delta": self.delta / root, "threshold": self.threshold * root}
        )

    def build(self) -> Any:
        """Return river's detector."""
        return _river().PageHinkley(
            min_instances=1, delta=self.delta, threshold=self.threshold, alpha=1.0
        )


class AdwinSpec(Part):
    """A window that is cut where its two parts have different means.

    Attributes:
        delta: chance of a cut that river allows, for independent inputs in [0, 1]; ours are
            neither, so that it is a number to calibrate. Lowering it makes false alarms rarer and
            finding slower.

    Source: A. Bifet and R. Gavaldà (2007), "Learning from time-changing data with adaptive
    windowing", SIAM international conference on data mining, 443-448.
    """

    kind: Literal["adwin"]
    delta: float = Field(gt=0, lt=1)

    def per(self, bins: int) -> AdwinSpec:
        """Return it for inputs that are so many a day: it needs no other numbers."""
        del bins
        return self

    def build(self) -> Any:
        """Return river's detector."""
        return _river().ADWIN(delta=self.delta, clock=1)


class KswinSpec(Part):
    """Whether the newest inputs have another distribution than a draw of those before.

    Attributes:
        alpha: significance of the Kolmogorov-Smirnov test. Lowering it makes false alarms rarer.
        window: days of inputs kept.
        recent: days of the newest inputs, that are compared with as many of the others.
        seed: of the draw.

    Source: C. Raab, M. Heusinger and F.-M. Schleif (2020), "Reactive soft prototype computing for
    concept drift streams", Neurocomputing 416, 340-351.
    """

    kind: Literal["kswin"]
    alpha: float = Field(gt=0, lt=1)
    window: int = Field(ge=2)
    recent: int = Field(ge=1)
    seed: int = 0

    def per(self, bins: int) -> KswinSpec:
        """Return it for inputs that are so many a day: its windows are days."""
        return self.model_copy(update={"window": self.window * bins, "recent": self.recent * bins})

    def build(self) -> Any:
        """Return river's detector."""
        return _river().KSWIN(
            alpha=self.alpha, window_size=self.window, stat_size=self.recent, seed=self.seed
        )


DetectorSpec = Annotated[PageHinkleySpec | AdwinSpec | KswinSpec, Field(discriminator="kind")]
"""Which detector, with its numbers."""


class Stretch(NamedTuple):
    """What a stretch of inputs was like.

    Attributes:
        mean: of the inputs.
        number: how many.
    """

    mean: float
    number: int


class Drift(NamedTuple):
    """A detector found that its inputs have shifted.

    Attributes:
        detector: its kind.
        direction: 1 for up, -1 for down.
        magnitude: how far the mean went, in standard deviations of the reference.
        reference: the inputs before the shift.
        current: the inputs since.
    """

    detector: str
    direction: int
    magnitude: float
    reference: Stretch
    current: Stretch


class Detector:
    """One detector on one signal.

    Args:
        spec: which, with its numbers.
        warm_up: inputs it takes after a reset before it can find anything.
        kept: inputs it is built from again when it has `bound` of them.
        bound: most inputs kept, above `kept`. Detectors with different bounds are not all built
            again at once.
        sd: standard deviation that a magnitude counts in; None for that of the reference.

    >>> spec = PageHinkleySpec(kind="page-hinkley", delta=0.2, threshold=8)
    >>> detector = Detector(spec, warm_up=5)
    >>> found = [detector.update(x) for x in [0.0, 0.5, -0.5] * 10 + [2.0] * 6]
    >>> [at for at, one in enumerate(found) if one]
    [34]
    >>> found[34].direction, found[34].reference.number, found[34].current
    (1, 30, Stretch(mean=2.0, number=5))
    """

    def __init__(
        self,
        spec: DetectorSpec,
        warm_up: int,
        kept: int = 168,
        bound: int = 336,
        sd: float | None = None,
    ) -> None:
        if not warm_up <= kept < bound:
            raise ValueError(
                f"warm_up={warm_up}, kept={kept}, bound={bound}: they must ascend, as a detector "
                "built again from what is kept must be past its warm-up"
            )
        self._spec = spec
        self._warm_up, self._kept, self._bound, self._sd = warm_up, kept, bound, sd
        self._inputs = array("f")
        self._river = spec.build()

    def __len__(self) -> int:
        """Return how many inputs it keeps."""
        return len(self._inputs)

    @property
    def inputs(self) -> array[float]:
        """Those it keeps, the oldest first: all that it is."""
        return self._inputs

    def update(self, x: float) -> Drift | None:
        """Take the next input; return what it found, None for nothing."""
        inputs = self._inputs
        if len(inputs) >= self._bound:
            self.load(inputs[-self._kept :])
            inputs = self._inputs
        inputs.append(x)
        self._river.update(inputs[-1])  # as it is kept: single precision
        if self._river.drift_detected and len(inputs) > self._warm_up:
            return self._drift()
        return None

    def reset(self) -> None:
        """Forget all inputs; it warms up again."""
        self.load(())

    def load(self, inputs: Iterable[float]) -> None:
        """Become the detector that keeps these inputs."""
        self._inputs = array("f", inputs)
        self._river = self._spec.build()
        for x in self._inputs:
            self._river.update(x)

    def _drift(self) -> Drift:
        values = np.frombuffer(self._inputs, np.float32).astype(np.float64)
        split = shifted_at(values)
        before, after = values[:split], values[split:]
        step = float(after.mean() - before.mean())
        sd = self._sd if self._sd is not None else float(before.std())
        return Drift(
            detector=self._spec.kind,
            direction=1 if step > 0 else -1,
            magnitude=abs(step) / max(sd, 1e-9),
            reference=Stretch(float(before.mean()), len(before)),
            current=Stretch(float(after.mean()), len(after)),
        )


def shifted_at(values: np.ndarray[Any, np.dtype[np.float64]]) -> int:
    """Return where the mean of a series most likely shifted: the first index after it.

    The largest cumulative sum of deviations from the mean, weighted as in a test of two means.

    Args:
        values: float64[n], n at least 2.

    >>> shifted_at(np.array([0.0] * 9 + [1.0] * 5))
    9
    """
    n = len(values)
    side = min(_SIDE, n // 2)
    before = np.arange(side, n - side + 1)
    sums = np.cumsum(values - values.mean())[before - 1]
    return int(before[np.argmax(np.abs(sums) / np.sqrt(before * (n - before)))])


@cache
def _river() -> Any:
    """Return river's detectors, imported late: it brings scipy, which takes a second to load."""
    return import_module("river.drift")
