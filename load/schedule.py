"""How large an exactly-once proof is, and what is done to workers and broker when."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import NamedTuple

POINTS = ("epoch.before_produce", "epoch.before_commit", "epoch.after_commit")
"""Fail points at which a worker must be able to die without a trace."""
CALM_SECONDS = 25.0
"""Length of two stretches of a long proof in which nothing breaks and nothing may stand still."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large a proof is.

    Attributes:
        seconds: how long events flow and things break.
        tasks: about how many tasks.
        agents: number of agents.
        days: days of event time.
        kills: SIGKILLs from outside.
        pauses: SIGSTOPs longer than the session.
        leaves: workers sent home with SIGTERM.
        joins: additional workers that come and stay until somebody leaves.
        broker_kills: SIGKILLs of the broker.
        points: fail points that end a worker.
        burst: all events at once, so that workers are behind while things break.
        registry_kills: SIGKILLs of the schema registry; 0 is a proof without one.
    """

    seconds: float
    tasks: int
    agents: int
    days: int
    kills: int
    pauses: int
    leaves: int
    joins: int
    broker_kills: int
    points: tuple[str, ...] = POINTS
    burst: bool = False
    registry_kills: int = 0

    def with_registry(self) -> Size:
        """Return the same size with a schema registry, which dies every two and a half minutes."""
        return replace(self, registry_kills=max(1, round(self.seconds / 150)))

    @classmethod
    def full(cls, minutes: float) -> Size:
        """Return the size of the proof proper."""
        more = max(1.0, minutes / 5)
        return cls(
            seconds=minutes * 60,
            tasks=int(300_000 * more),
            agents=48,
            days=35,
            kills=int(10 * more),
            pauses=int(3 * more),
            leaves=int(3 * more),
            joins=int(2 * more),
            broker_kills=1,
        )


QUICK = Size(35, 40_000, 40, 12, kills=3, pauses=1, leaves=1, joins=1, broker_kills=1)
WEAK = Size(40, 60_000, 40, 10, kills=3, pauses=4, leaves=2, joins=3, broker_kills=0, points=())
"""Size of the runs of the self-test, in which a guard is off."""


class Step(NamedTuple):
    """Something to do to the workers or the broker, at seconds after the start."""

    at: float
    verb: str
    argument: str = ""


def schedule(seed: int, size: Size) -> list[Step]:
    """Return what is done when; the last kill comes after the last event."""
    random = Random(seed)
    steps = [("kill", "")] * (size.kills - 1) + [("pause", "")] * size.pauses
    steps += [("leave", "")] * size.leaves + [("join", "")] * size.joins
    steps += [("broker", "")] * size.broker_kills + [("registry", "")] * size.registry_kills
    steps += [("point", f"{point}=kill@{random.randint(1, 5)}") for point in size.points]
    random.shuffle(steps)
    third = -(-len(steps) // 3)
    calm = CALM_SECONDS if size.seconds > 6 * CALM_SECONDS else 0.0
    gap = (size.seconds - 4 - 2 * calm) / len(steps)
    timed = [
        Step(3 + gap * (number + random.uniform(0, 0.6)) + calm * (number // third), *step)
        for number, step in enumerate(steps)
    ]
    return [*timed, Step(size.seconds + 1, "kill")]
