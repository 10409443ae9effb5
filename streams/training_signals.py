"""Training signals: every review with what the hour of its task looked like.

The hour is taken as it was when it was closed, a minute past its end by the clock of the tasks. A
signal is made once that clock is there; so its content depends on the logs alone, however far each
topic had been read when the review came.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from streams import schemas, state
from streams.clock import AHEAD
from streams.closing import GRACE
from streams.durations import DAY, HOUR
from streams.reasons import JoinStatus
from streams.series import Agent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from streams.events import HumanReview
    from streams.late_tasks import ClosedTasks
    from streams.state import Stored
    from streams.watch import Change

JOINED_WITHIN = 14 * DAY
"""How long before its review a task may lie. Panes last longer: tasks may be read far ahead."""

_COPIED = (
    "occurred_at",
    "tenant",
    "agent_id",
    "trace_id",
    "task_type",
    "task_event_id",
    "task_occurred_at",
    "task_outcome",
    "verdict",
    "agent_decision",
    "human_decision",
    "reason_code",
    "reason",
    "agent_confidence",
    "model",
    "prompt_version",
    "input_ref",
)
_WINDOW = (
    "window_start",
    "window_tasks",
    "window_automated",
    "window_escalated",
    "window_failed",
    "window_cost_micro_usd",
    "window_output_tokens",
)


class _Waiting(NamedTuple):
    """A signal whose hour is not closed.

    Attributes:
        due: when it is, by the clock of the tasks, ms.
        record: the signal without its window.
    """

    due: int
    record: dict[str, Any]


class TrainingSignals:
    """Makes the training signals of a partition.

    Args:
        tasks: closed hours of tasks.
        clock: gives the clock of the tasks, ms; None before the first.
    """

    def __init__(self, tasks: ClosedTasks, clock: Callable[[], int | None]) -> None:
        self._tasks, self._clock = tasks, clock
        self._waiting: dict[int, _Waiting] = {}
        self._ready: list[dict[str, Any]] = []
        self._dirty: set[int] = set()

    def __len__(self) -> int:
        """Return how many wait for their hour to close."""
        return len(self._waiting)

    @property
    def ready(self) -> bool:
        """Whether there are signals to take."""
        return bool(self._ready)

    def add(self, review: HumanReview, offset: int) -> None:
        """Take an admitted review."""
        record: dict[str, Any] = {"review_event_id": review.event_id}
        record |= {name: getattr(review, name) for name in _COPIED}
        record |= {"join_status": str(JoinStatus.JOINED)} | dict.fromkeys(_WINDOW)
        status = _without_window(review)
        if status is not None:
            self._ready.append(record | {"join_status": str(status)})
            return
        due = _hour(record) * HOUR + HOUR + GRACE
        self._waiting[offset] = _Waiting(due, record)
        self._dirty.add(offset)
        self.flush()

    def flush(self) -> None:
        """Make the signals whose hour is closed by now, in log order."""
        now = self._clock()
        if now is None or not self._waiting:
            return
        due = [offset for offset, one in self._waiting.items() if one.due <= now]
        for offset in sorted(due):
            self._ready.append(self._joined(self._waiting.pop(offset).record))
            self._dirty.add(offset)

    def take(self) -> list[dict[str, Any]]:
        """Return and forget the records of TrainingSignal.avsc made since the last call."""
        self.flush()
        ready, self._ready = self._ready, []
        return ready

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the waiting signals that changed since the last call."""
        for offset in sorted(self._dirty):
            one = self._waiting.get(offset)
            value = None
            if one is not None:
                signal = schemas.encode("TrainingSignal", one.record)
                value = state.encode(
                    "SignalState", {"offset": offset, "due": one.due, "signal": signal}
                )
            yield state.signal_key(offset), value
        self._dirty.clear()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored signal; return whether it is one."""
        if stored.kind != "SignalState":
            return False
        _, record = schemas.decode(stored.fields["signal"])
        self._waiting[stored.fields["offset"]] = _Waiting(stored.fields["due"], record)
        return True

    # -- inside ------------------------------------------------------------------------------

    def _joined(self, record: dict[str, Any]) -> dict[str, Any]:
        hour = _hour(record)
        agent = Agent(record["tenant"], record["agent_id"])
        found = self._tasks.hour(agent, record["task_type"], hour)
        if not found.tasks:
            return record | {"join_status": str(JoinStatus.NO_WINDOW)}
        return record | {
            "window_start": hour * HOUR,
            "window_tasks": found.tasks,
            "window_automated": found.automated,
            "window_escalated": found.escalated,
            "window_failed": found.failed,
            "window_cost_micro_usd": found.cost_micro_usd,
            "window_output_tokens": found.output_tokens,
        }


def _without_window(review: HumanReview) -> JoinStatus | None:
    """Return why a review can have no window whatever the tasks were, None if it may have one."""
    at = review.task_occurred_at
    if at is None:
        return JoinStatus.NO_TASK_TIME
    if at > review.occurred_at + AHEAD:  # reviewed before it happened: a wrong date
        return JoinStatus.NO_WINDOW
    if at // HOUR * HOUR < review.occurred_at // HOUR * HOUR - JOINED_WITHIN:
        return JoinStatus.WINDOW_EXPIRED
    return None


def _hour(record: dict[str, Any]) -> int:
    at: int = record["task_occurred_at"]
    return at // HOUR
