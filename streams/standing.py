"""A standing life: it begins at once and stays while its condition holds, and some quiet more."""

from __future__ import annotations

from dataclasses import dataclass

from streams.life import Turn
from streams.reasons import Transition, TransitionReason


@dataclass(slots=True)
class Standing:
    """The life of something that is said once and stands until it is no longer so.

    Attributes:
        started_at: since when it is open, ms; None while it is not.
        quiet_since: since when it is open without its condition; None while that holds.
    """

    started_at: int | None = None
    quiet_since: int | None = None

    @property
    def open(self) -> bool:
        """Whether it is open."""
        return self.started_at is not None

    def step(
        self, at: int, quiet_ms: int, *, holds: bool, reasons: tuple[TransitionReason, ...]
    ) -> Turn | None:
        """Take whether the condition holds at a tick.

        Args:
            at: the tick, ms.
            quiet_ms: it ends when the condition did not hold for so long.
            holds: whether the condition holds.
            reasons: of its beginning and of its end.
        """
        begun, ended = reasons
        if self.started_at is None:
            if not holds:
                return None
            self.started_at = at
            return Turn(Transition.FIRING, begun, 0, at)
        if holds:
            self.quiet_since = None
            return None
        if self.quiet_since is None:
            self.quiet_since = at
        return self.end(ended) if at - self.quiet_since >= quiet_ms else None

    def end(self, reason: TransitionReason) -> Turn | None:
        """End it at once; None where it is not open."""
        started, self.started_at, self.quiet_since = self.started_at, None, None
        return None if started is None else Turn(Transition.RESOLVED, reason, 0, started)
