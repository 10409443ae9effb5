"""What is known around the tasks of a partition: profiles of agents, changes, and queue depths.

Three small topics, each with its desk. Rules on tasks ask `Context`; tasks are folded only as far
as these topics have been read, so that an answer does not depend on who was read first.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from streams import state
from streams.batch import Refusal
from streams.depths import KEPT, Depths, agent_order
from streams.desk import Desk
from streams.durations import DAY, HOUR, MINUTE
from streams.events import AgentProfile, Change, Deleted, QueueDepth
from streams.reasons import DeadLetterReason
from streams.series import Agent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streams import watch

    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]

CHANGES_FOR = 36 * DAY
"""How long a change is remembered: as long as the hour panes it divides."""

CHANGES_MOST = 32
"""Changes of one agent that are remembered, the newest."""

NEAR = 6 * HOUR
"""How long before an alert a change is still named in it."""

_PROFILE = tuple(one.name for one in fields(AgentProfile))
_CHANGE = tuple(one.name for one in fields(Change) if one.name not in {"tenant", "agent_id"})


class ProfileDesk(Desk[AgentProfile | Deleted]):
    """The profiles of a partition: the last one in the log of each record key.

    A profile says what is so, not what happened: an old one is taken whatever its event time, and
    what counts is its place in the log, which is also what compaction keeps.

    Args:
        bound: most profiles.

    Attributes:
        revision: rises with every profile taken.
    """

    keeps_late = True

    def __init__(self, bound: int) -> None:
        super().__init__()
        self._bound = bound
        self._profiles: dict[str, AgentProfile] = {}
        self.revision = 0
        self._dirty: set[str] = set()

    def get(self, agent: Agent) -> AgentProfile | None:
        """Return the profile of an agent, None where there is none."""
        found = self._profiles.get(_key(agent))
        # Where ids hold slashes two agents can share a key; only the newest has a profile then.
        return found if found is not None and _agent(found) == agent else None

    def all(self) -> list[AgentProfile]:
        """Return all profiles, by record key."""
        return [self._profiles[key] for key in sorted(self._profiles)]

    def take(self, event: AgentProfile | Deleted, offset: int) -> None:
        """Replace the profile, or forget it."""
        del offset
        if isinstance(event, Deleted):
            self._profiles.pop(event.key, None)
        else:
            self._profiles[event.key] = event
        self._dirty.add(event.key)
        self.revision += 1

    def over(self, event: AgentProfile | Deleted) -> str | None:
        """Return why the bound refuses a profile, None where it does not."""
        new = isinstance(event, AgentProfile) and event.key not in self._profiles
        return _over(len(self._profiles), self._bound, "a profile") if new else None

    def changes(self) -> Iterable[watch.Change]:
        """Return the profiles that changed since the last call."""
        for key in sorted(self._dirty):
            profile = self._profiles.get(key)
            value = None if profile is None else state.encode("ProfileState", _plain(profile))
            yield state.profile_key(key), value
        self._dirty.clear()

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        if stored.kind != "ProfileState":
            return False
        values = {name: stored.fields[name] for name in _PROFILE}
        for name in ("feature_names", "depends_on"):
            values[name] = tuple(values[name])
        profile = AgentProfile(**values)
        self._profiles[profile.key] = profile
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._dirty.clear()


class _Seen(NamedTuple):
    """A change, and the clock of its topic with it: which tick sees it first."""

    change: Change
    clock: int


class ChangeDesk(Desk[Change]):
    """The newest changes of each agent of a partition.

    Args:
        bound: most agents with any change.
    """

    def __init__(self, bound: int) -> None:
        super().__init__()
        self._bound = bound
        self._seen: dict[Agent, list[_Seen]] = {}  # ascending by event time, then by log
        self._dirty: set[Agent] = set()
        self._hour: int | None = None

    def between(
        self, agent: Agent, since: int, until: int, as_of: int | None = None
    ) -> list[Change]:
        """Return the changes with event time in (since, until], as of a tick; see `Context`."""
        seen = self._seen.get(agent, [])
        first, last = (bisect_right(seen, time, key=_time) for time in (since, until))
        return [one.change for one in seen[first:last] if as_of is None or one.clock < as_of]

    def take(self, event: Change, offset: int) -> None:
        """Remember the change, and forget the oldest."""
        del offset
        clock = self.clock.now or 0
        self._age(clock // HOUR * HOUR)
        agent = _agent(event)
        seen = self._seen.setdefault(agent, [])
        insort(seen, _Seen(event, clock), key=_time)
        del seen[:-CHANGES_MOST]
        self._dirty.add(agent)

    def over(self, event: Change) -> str | None:
        """Return why the bound refuses a change, None where it does not."""
        new = _agent(event) not in self._seen
        return _over(len(self._seen), self._bound, "a change") if new else None

    def changes(self) -> Iterable[watch.Change]:
        """Return the agents whose changes are others than at the last call."""
        for agent in sorted(self._dirty, key=agent_order):
            seen = self._seen.get(agent)
            value = None if seen is None else state.encode("ChangesState", _columns(agent, seen))
            yield state.changes_key(*agent), value
        self._dirty.clear()

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        if stored.kind != "ChangesState":
            return False
        agent = Agent(stored.fields["tenant"], stored.fields["agent_id"])
        rows = zip(*(stored.fields[name] for name in ("clock", *_CHANGE)), strict=True)
        self._seen[agent] = [
            _Seen(Change(**agent._asdict(), **dict(zip(_CHANGE, row, strict=True))), clock)
            for clock, *row in rows
        ]
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._dirty.clear()

    def _age(self, hour: int) -> None:
        if hour == self._hour:
            return
        self._hour = hour
        for agent, seen in list(self._seen.items()):
            old = bisect_right(seen, hour - CHANGES_FOR - 1, key=_time)
            if old:
                del seen[:old]
                self._dirty.add(agent)
            if not seen:
                del self._seen[agent]


class QueueDesk(Desk[QueueDepth]):
    """The queue depths of a partition; looked at every minute until its hours are published.

    Args:
        bound: most agents with a depth in the last day.

    Attributes:
        depths: what is known.
    """

    def __init__(self, bound: int) -> None:
        super().__init__(MINUTE)
        self.depths = Depths()
        self._bound = bound
        self._windows: list[dict[str, Any]] = []

    @property
    def dirty(self) -> bool:
        """Whether anything waits: windows, or a clock to be stored."""
        return bool(self._windows) or super().dirty

    def take(self, event: QueueDepth, offset: int) -> None:
        """Remember the depth."""
        del offset
        self.depths.add(event, self.clock.now or 0)

    def take_windows(self) -> list[dict[str, Any]]:
        """Return and forget the Window records made since the last call, by tick."""
        windows, self._windows = self._windows, []
        return windows

    def over(self, event: QueueDepth) -> str | None:
        """Return why the bound refuses a depth, None where it does not."""
        new = _agent(event) not in self.depths
        return _over(len(self.depths), self._bound, "a queue") if new else None

    def tick(self, at: int) -> None:
        """Publish the hours that ended or changed."""
        self._windows += self.depths.publish(at)

    def busy(self) -> bool:
        """Return whether an hour is still to be published."""
        return self.depths.waiting()

    def changes(self) -> Iterable[watch.Change]:
        """Return the state that changed since the last call."""
        return self.depths.changes()

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        return self.depths.restore(stored)

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self.depths.settle()

    def _refusal(self, place: int, event: QueueDepth, stamp: int) -> Refusal | None:
        refusal = super()._refusal(place, event, stamp)
        now, at = self.clock.now, event.occurred_at
        if refusal is None and now is not None and at < now // HOUR * HOUR - KEPT:
            oldest = now // HOUR * HOUR - KEPT
            detail = f"event time {at} is before {oldest}: of queues the last day is kept"
            return Refusal(place, DeadLetterReason.TOO_LATE, detail)
        return refusal


class Context:
    """What rules on tasks may ask about their agents.

    Each of the three topics is bounded by itself: were the bound on all three together, what it
    refuses would depend on which was read first.

    Args:
        max_series: most agents in each of the three.

    Attributes:
        profiles_desk: reads profiles.
        changes_desk: reads changes.
        queues_desk: reads queue depths.
    """

    def __init__(self, max_series: int) -> None:
        self.profiles_desk = ProfileDesk(max_series)
        self.changes_desk = ChangeDesk(max_series)
        self.queues_desk = QueueDesk(max_series)

    @property
    def queues(self) -> Depths:
        """The queue depths."""
        return self.queues_desk.depths

    def profile(self, agent: Agent) -> AgentProfile | None:
        """Return the profile of an agent, None where there is none."""
        return self.profiles_desk.get(agent)

    def profiles(self) -> list[AgentProfile]:
        """Return all profiles, by record key."""
        return self.profiles_desk.all()

    def changes(
        self, agent: Agent, since: int, until: int, as_of: int | None = None
    ) -> list[Change]:
        """Return the changes of an agent, ascending by event time.

        Args:
            agent: whose.
            since: ms, not included.
            until: ms, included.
            as_of: tick from whose point of view: it does not see what came when the clock of the
                changes had reached it. None for all that was read.
        """
        return self.changes_desk.between(agent, since, until, as_of)

    def change_ref(
        self,
        agent: Agent,
        starts_at: int,
        *,
        integration: str | None = None,
        as_of: int | None = None,
    ) -> tuple[str, int] | None:
        """Return the newest change in the `NEAR` before an alert, and how long before, ms.

        Args:
            agent: whose.
            starts_at: when the alert began, ms.
            integration: only changes of this integration; None for all changes of the agent.
            as_of: see `changes`.

        Returns:
            Such as ("PROMPT v17 to v18", 540000); None for no such change.
        """
        found = [
            change
            for change in self.changes(agent, starts_at - NEAR, starts_at, as_of)
            if integration is None or change.integration == integration
        ]
        return (change_text(found[-1]), starts_at - found[-1].occurred_at) if found else None

    def depth(self, agent: Agent, at: int) -> int | None:
        """Return the last queue depth before a tick, None for none in the last 15 min."""
        return self.queues.depth(agent, at)

    def depths(self, agents: Sequence[Agent], ticks: I64) -> F64:
        """Return float64[agents, ticks]: the same for many, NaN for none."""
        return self.queues.depths(agents, ticks)


def change_text(change: Change) -> str:
    """Return a change in few words.

    >>> change_text(Change(event_id="e", occurred_at=0, agent_id="a", kind="PROMPT",
    ...                    from_version="v17", to_version="v18"))
    'PROMPT v17 to v18'
    """
    of = "" if change.integration is None else f" of {change.integration}"
    before = "" if change.from_version is None else f" {change.from_version}"
    return f"{change.kind}{of}{before} to {change.to_version}"


def _time(seen: _Seen) -> int:
    return seen.change.occurred_at


def _agent(event: AgentProfile | Change | QueueDepth) -> Agent:
    return Agent(event.tenant, event.agent_id)


def _key(agent: Agent) -> str:
    return agent.agent_id if agent.tenant is None else f"{agent.tenant}/{agent.agent_id}"


def _over(known: int, bound: int, what: str) -> str | None:
    if known < bound:
        return None
    return f"{what} of a new agent, and there are {known} agents with one: max_series is {bound}"


def _plain(profile: AgentProfile) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(profile).items()
    }


def _columns(agent: Agent, seen: Sequence[_Seen]) -> dict[str, Any]:
    columns = {name: [getattr(one.change, name) for one in seen] for name in _CHANGE}
    return {**agent._asdict(), "clock": [one.clock for one in seen], **columns}
