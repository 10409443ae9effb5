"""The findings of drift: what is told of a signal, of an agent's output, and of its prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from streams.durations import DAY
from streams.findings import Entity
from streams.reasons import EntityKind, RetrainingAction, RetrainingCause
from streams.watch import Happening, Measure, Subject, watch_finding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streams.drift_lives import DriftLife
    from streams.drift_rules import AnomalousOutputRule, DriftRule, PromptReviewRule
    from streams.findings import Evidence, Finding
    from streams.life import Turn
    from streams.series import Agent
    from streams.shifts import Distance

SIGNAL = "signal:"
"""Prefix of the name of a measure that is the magnitude of a signal, with its sign."""

DETECTOR = "detector:"
"""Prefix of the name of a measure that names the detector."""

_OUTPUT = "ANOMALOUS_OUTPUT"


class Told(NamedTuple):
    """What is told of one signal.

    Attributes:
        agent: whose.
        life: that it belongs to.
        signal: its name.
        now: how far it is from what was usual.
        reference_mean: mean before.
        current_mean: mean since.
        reference_count: values behind the mean before.
        window: from the onset to the tick, ms.
        action: what helps.
        volume: tasks a day, and their cost in US dollars.
        suffers: whether outcomes of the agent are worse than usual.
        signals: magnitude of every signal of the life, with its sign.
    """

    agent: Agent
    life: DriftLife
    signal: str
    now: Distance
    reference_mean: float
    current_mean: float
    reference_count: float
    window: tuple[int, int]
    action: RetrainingAction
    volume: tuple[float, float]
    suffers: bool
    signals: Mapping[str, float]


class DriftFindings:
    """Makes the findings.

    Args:
        drift: the rule on signals.
        output: the rule on output.
        prompt: the rule on prompts.
        evidence: where the records of a span of event time [start, end) lie.
    """

    def __init__(
        self,
        drift: DriftRule,
        output: AnomalousOutputRule,
        prompt: PromptReviewRule,
        evidence: Callable[[int, int], Evidence],
    ) -> None:
        self._drift, self._output, self._prompt = drift, output, prompt
        self._evidence = evidence

    def drift(self, told: Told, turn: Turn, tick: int) -> Finding:
        """Return the finding on a signal."""
        subject = Subject(EntityKind.AGENT, Entity(*told.agent), told.life.part)
        return watch_finding(
            self._drift,
            subject,
            Happening(turn, tick),
            self._measure(told),
            self._evidence(*told.window),
            retraining_cause=told.life.cause,
            retraining_action=told.action,
        )

    def output(self, told: Told, turn: Turn, tick: int) -> Finding:
        """Return the security finding on an agent's output."""
        subject = Subject(EntityKind.AGENT, Entity(*told.agent), _OUTPUT)
        evidence = self._evidence(*told.window)
        happening = Happening(turn, tick)
        return watch_finding(self._output, subject, happening, self._measure(told), evidence)

    def review(
        self, agent: Agent, turn: Turn, tick: int, why: str, volume: tuple[float, float]
    ) -> Finding:
        """Return the finding that a prompt should be looked at."""
        start = min(turn.started_at, tick - DAY)
        numbers = {"magnitude": 1.0, "tasks_per_day": volume[0], "cost_per_day": volume[1]}
        measure = Measure(
            value=1.0,
            threshold=1.0,
            sample_count=round(volume[0]),
            window_start=start,
            window_end=tick,
            detail=_WHY.get(why, f"{why} is not what it was"),
            numbers=numbers,
        )
        return watch_finding(
            self._prompt,
            Subject(EntityKind.AGENT, Entity(*agent), why),
            Happening(turn, tick),
            measure,
            self._evidence(start, tick),
            retraining_cause=RetrainingCause.PROMPT_REVIEW,
            retraining_action=RetrainingAction.PROMPT,
        )

    def _measure(self, told: Told) -> Measure:
        now = told.now
        magnitude = abs(now.magnitude)
        numbers = {
            "magnitude": magnitude,
            "direction": 1.0 if now.magnitude > 0 else -1.0,
            "reference_mean": told.reference_mean,
            "current_mean": told.current_mean,
            "reference_count": told.reference_count,
            "current_count": float(now.number),
            "tasks_per_day": told.volume[0],
            "cost_per_day": told.volume[1],
            "outcomes_suffer": float(told.suffers),
        }
        more = {SIGNAL + name: size for name, size in told.signals.items()}
        way = "up" if now.magnitude > 0 else "down"
        return Measure(
            value=magnitude,
            threshold=self._drift.min_magnitude,
            sample_count=now.number,
            window_start=told.window[0],
            window_end=told.window[1],
            baseline=told.reference_mean,
            detail=(
                f"{told.signal} {way} from {told.reference_mean:.4g} to {told.current_mean:.4g}, "
                f"{magnitude:.1f} standard deviations of a day"
            ),
            numbers=numbers | more | {DETECTOR + self._drift.detector.kind: 1.0},
        )


_WHY = {"MODEL": "the model was changed"}
