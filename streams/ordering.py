"""In which order the topics of a partition are folded, so that rules can look from one at another.

Tasks are judged by what is known around them: profiles, changes, queue depths, calls. So these are
read first, up to the event time of the tasks; and reviews, which learn from the window of their
task, come last. A topic that is read to its end holds nobody back. Topics with much traffic must
not run far ahead either: what is ahead of the tasks has to be remembered until they are there.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from streams.durations import HOUR

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

SLACK = HOUR
"""How far a topic with much traffic may be read ahead of the tasks."""


class Role(Enum):
    """What a topic is to the tasks."""

    FREE = "free"
    """Nobody looks at it from elsewhere, nor does it look."""
    AROUND = "around"
    """Tasks look at it: it is read first, as far as there is any."""
    BESIDE = "beside"
    """Tasks look at it, and it must not run far ahead of them."""
    TASKS = "tasks"
    AFTER = "after"
    """It looks at tasks: they are read first."""


class Span(NamedTuple):
    """Event times of a batch: that of its first event, and the clock after its last, ms."""

    first: int
    last: int


class Order:
    """Says which batch may be folded now.

    Args:
        roles: of each topic.
    """

    def __init__(self, roles: Mapping[str, Role]) -> None:
        self._roles = dict(roles)
        self._waiting: dict[str, Span] = {}

    def waits(self, topic: str) -> bool:
        """Return whether a batch of the topic was told to wait, and has not been folded since."""
        return topic in self._waiting

    def may(
        self,
        topic: str,
        span: Span,
        clocks: Mapping[str, int],
        caught_up: Collection[str],
    ) -> bool:
        """Return whether the next batch of a topic may be folded; if not, ask again later.

        Args:
            topic: of the batch.
            span: of the batch.
            clocks: of the topics, ms; those without an event are left out.
            caught_up: topics read to their end.
        """
        role = self._roles[topic]
        if role in {Role.FREE, Role.AROUND}:
            allowed = True
        elif role is Role.BESIDE:
            allowed = self._beside(topic, span, clocks, caught_up)
        else:
            ahead = {Role.AROUND, Role.BESIDE} if role is Role.TASKS else {Role.TASKS}
            allowed = all(
                other in caught_up or clocks.get(other, span.last - 1) >= span.last
                for other, its in self._roles.items()
                if its in ahead
            )
        if allowed:
            self._waiting.pop(topic, None)
        else:
            self._waiting[topic] = span
        return allowed

    def reset(self) -> None:
        """Forget who waits."""
        self._waiting.clear()

    def _beside(
        self, topic: str, span: Span, clocks: Mapping[str, int], caught_up: Collection[str]
    ) -> bool:
        """Return whether a topic with much traffic may go on: tasks are near, or wait for it."""
        tasks = next(other for other, role in self._roles.items() if role is Role.TASKS)
        waiting = self._waiting.get(tasks)
        if waiting is not None:
            return clocks.get(topic, waiting.last - 1) < waiting.last
        near = clocks.get(tasks)
        return tasks in caught_up or (near is not None and span.first <= near + SLACK)
