"""Places where a fault test can stop, delay or weaken a worker.

``AGENTOPS_FAILPOINTS`` holds a comma-separated list. ``NAME=kill@N`` ends the process with
SIGKILL at the N-th passage of that point, ``NAME=sleep@S`` waits S seconds at each passage, and
a bare switch (``no-fencing``, ``no-positions``, ``no-incarnations``) turns one guard of the
exactly-once scheme off, so that a fault test can show that it would notice. Unset, and it is
always unset outside a fault test, a passage costs one dictionary look-up.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from enum import StrEnum

ENVIRONMENT_VARIABLE = "AGENTOPS_FAILPOINTS"


class Failpoint(StrEnum):
    """A place in the life of a unit."""

    OPEN_BEFORE_READ = "open.before_read"
    EPOCH_BEFORE_PRODUCE = "epoch.before_produce"
    EPOCH_BEFORE_COMMIT = "epoch.before_commit"
    EPOCH_AFTER_COMMIT = "epoch.after_commit"
    BATCH_BEFORE_ACCEPT = "batch.before_accept"


class Guard(StrEnum):
    """A guard that a self-test can switch off."""

    FENCING = "no-fencing"
    POSITIONS = "no-positions"
    INCARNATIONS = "no-incarnations"


@dataclass(slots=True)
class Failpoints:
    """The fail points of one worker.

    Attributes:
        kill_at: point → the passage (1 is the first) that ends the process.
        sleep_at: point → seconds to wait at each passage.
        off: guards that are switched off.
    """

    kill_at: dict[Failpoint, int] = field(default_factory=dict)
    sleep_at: dict[Failpoint, float] = field(default_factory=dict)
    off: frozenset[Guard] = frozenset()
    _passages: dict[Failpoint, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Failpoints:
        """Read the list described in the module docstring.

        Raises:
            ValueError: an item is neither a known switch nor ``POINT=kill@N`` / ``POINT=sleep@S``.
        """
        points = cls()
        off: set[Guard] = set()
        for item in filter(None, (part.strip() for part in text.split(","))):
            name, _, action = item.partition("=")
            verb, _, amount = action.partition("@")
            try:
                if not action:
                    off.add(Guard(name))
                elif verb == "kill":
                    points.kill_at[Failpoint(name)] = int(amount)
                elif verb == "sleep":
                    points.sleep_at[Failpoint(name)] = float(amount)
                else:
                    raise _unknown(item)
            except ValueError:
                raise _unknown(item) from None
        points.off = frozenset(off)
        return points

    @classmethod
    def from_environment(cls) -> Failpoints:
        """Read the fail points of this process."""
        return cls.parse(os.environ.get(ENVIRONMENT_VARIABLE, ""))

    def guards(self, guard: Guard) -> bool:
        """Say whether `guard` is on."""
        return guard not in self.off

    async def passage(self, point: Failpoint) -> None:
        """Pass `point`: wait or end the process if a test asked for it."""
        if point in self.sleep_at:
            await asyncio.sleep(self.sleep_at[point])
        if point in self.kill_at:
            self._passages[point] = self._passages.get(point, 0) + 1
            if self._passages[point] == self.kill_at[point]:
                os.kill(os.getpid(), signal.SIGKILL)


def _unknown(item: str) -> ValueError:
    known = ", ".join([*Guard, *(f"{point}=kill@N" for point in Failpoint)])
    return ValueError(f"{ENVIRONMENT_VARIABLE}: {item!r} is not a fail point; known: {known}")
