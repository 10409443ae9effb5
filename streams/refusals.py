"""What a worker says of the dead letters it has written: enough to act on, never a flood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streams.epoch import OutRecord
    from streams.metrics import Metrics

log = structlog.get_logger(__name__)

QUIET_SECONDS = 60.0
"""Shortest time between two lines of one reason from one topic."""
_SHOWN = 200


@dataclass(slots=True)
class _Tally:
    """What has gathered for one line."""

    count: int = 0
    example: str = ""
    detail: str = ""
    told_at: float | None = None


class RefusalLog:
    """One line per topic and reason at once, then at most one a minute, with what has gathered.

    Args:
        metrics: where every dead letter is counted.
        clock: monotonic seconds.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._tallies: dict[tuple[str, str], _Tally] = {}

    def note(self, letters: Iterable[OutRecord]) -> None:
        """Count committed dead letters."""
        for letter in letters:
            headers = dict(letter.headers)
            text = {name: (headers.get(name) or b"").decode(errors="replace") for name in _NAMES}
            self._metrics.dead_letters.labels(text["reason"]).inc()
            tally = self._tallies.setdefault((text["topic"], text["reason"]), _Tally())
            if not tally.count:
                tally.example = f"{text['topic']}/{text['partition']}@{text['offset']}"
                tally.detail = text["detail"][:_SHOWN]
            tally.count += 1
        self.tell()

    def tell(self) -> None:
        """Write the lines that are due."""
        now = self._clock()
        for (topic, reason), tally in self._tallies.items():
            due = tally.told_at is None or now - tally.told_at >= QUIET_SECONDS
            if tally.count and due:
                log.warning(
                    "dead_letters.written",
                    topic=topic,
                    reason=reason,
                    count=tally.count,
                    example=tally.example,
                    detail=tally.detail,
                )
                tally.count, tally.told_at = 0, now


_NAMES = ("reason", "detail", "topic", "partition", "offset")
