"""How much work waited for each agent: by the minute for rules, by the hour for analysts.

Rules follow the clock of another topic, and queues are read ahead of it. So a depth stands at the
minute in which its own clock was when it came, not at its event time: what a tick sees then does
not depend on how far ahead the queues were read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from streams import state
from streams.durations import DAY, HOUR, MINUTE
from streams.series import Agent, Slots

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.events import QueueDepth
    from streams.watch import Change

    F64 = NDArray[np.float64]
    I64 = NDArray[np.int64]

FRESH = 15 * MINUTE
"""A depth is known for so long; then the queue may have any length."""

KEPT = DAY
"""How late a depth may be, and how long an agent without one is remembered."""

RING = 1024
"""Minutes that are remembered, 17 h: how far queues may be read ahead of a tick that asks back."""

_HOURS = RING * MINUTE // HOUR + 1
_NEVER = int(np.iinfo(np.int64).min) // 2


@dataclass(slots=True)
class HourDepth:
    """The depths of one agent whose event times lie in one hour.

    Attributes:
        last_at: latest event time, ms.
        last: depth then; of several at one time the last in the log.
        most: the largest.
        revision: how often it was published.
        changed: whether it changed since.
    """

    last_at: int
    last: int
    most: int
    revision: int = 0
    changed: bool = True


class Depths:
    """The queue depths of one partition, by agent."""

    def __init__(self) -> None:
        self._rows: dict[Agent, int] = {}
        self._slots = Slots()
        self._minutes = np.empty((0, RING), np.int64)
        self._depths = np.empty((0, RING), np.int64)
        self._latest: dict[Agent, int] = {}
        self._cells: dict[Agent, dict[int, HourDepth]] = {}
        self._changed: dict[int, set[Agent]] = {}
        self._active: list[int] = []  # minutes with any depth, ascending
        self._dirty: set[tuple[Agent, int]] = set()
        self._stored: dict[Agent, set[int]] = {}
        self._hour: int | None = None

    def __len__(self) -> int:
        """Return the number of agents."""
        return len(self._rows)

    def __contains__(self, agent: Agent) -> bool:
        """Return whether a depth of the agent is remembered."""
        return agent in self._rows

    # -- adding ------------------------------------------------------------------------------

    def add(self, event: QueueDepth, clock: int) -> None:
        """Take an admitted depth.

        Args:
            event: the depth, no more than `KEPT` before the hour of the clock.
            clock: of its topic and partition with it, ms.
        """
        self._age(clock // HOUR * HOUR)
        agent, at = Agent(event.tenant, event.agent_id), event.occurred_at
        if agent not in self._rows:
            self._open(agent)
        self._count(agent, at, event.depth)
        latest = self._latest.get(agent, _NEVER)
        self._latest[agent] = max(latest, at)
        # A rule wants to know what waits now: what came out of order says nothing about that.
        if at >= latest and at > clock - FRESH:
            self._put(agent, clock // MINUTE, event.depth)
            self._dirty.add((agent, clock // HOUR * HOUR))

    def _open(self, agent: Agent) -> None:
        row = self._rows[agent] = self._slots.take()
        self._cells[agent] = {}
        if row >= len(self._minutes):
            shape = (max(16, 2 * row), RING)
            minutes, depths = np.full(shape, _NEVER), np.zeros(shape, np.int64)
            minutes[: len(self._minutes)] = self._minutes
            depths[: len(self._depths)] = self._depths
            self._minutes, self._depths = minutes, depths
        self._minutes[row] = _NEVER

    def _put(self, agent: Agent, minute: int, depth: int) -> None:
        row = self._rows[agent]
        self._minutes[row, minute % RING] = minute
        self._depths[row, minute % RING] = depth
        place = bisect_left(self._active, minute)
        if place == len(self._active) or self._active[place] != minute:
            self._active.insert(place, minute)

    def _count(self, agent: Agent, at: int, depth: int) -> None:
        hour = at // HOUR * HOUR
        cell = self._cells[agent].get(hour)
        if cell is None:
            self._cells[agent][hour] = HourDepth(at, depth, depth)
        else:
            if at >= cell.last_at:
                cell.last_at, cell.last = at, depth
            cell.most = max(cell.most, depth)
            cell.changed = True
        self._changed.setdefault(hour, set()).add(agent)
        self._dirty.add((agent, hour))

    # -- asking ------------------------------------------------------------------------------

    def depth(self, agent: Agent, at: int) -> int | None:
        """Return the last depth known at a time, None where there is none within `FRESH`.

        Args:
            agent: whose.
            at: event time, ms; what came in its own minute does not count yet, as at a tick.
        """
        row = self._rows.get(agent)
        if row is None:
            return None
        found = self.window(np.array([row]), at)[0]
        known = found[~np.isnan(found)]
        return int(known[-1]) if len(known) else None

    def depths(self, agents: Sequence[Agent], ticks: I64) -> F64:
        """Return float64[agents, ticks], the last depth known at each minute tick, NaN for none."""
        rows = np.array([self._rows.get(agent, -1) for agent in agents], np.int64)
        found = np.full((len(agents), len(ticks)), np.nan)
        known = np.flatnonzero(rows >= 0)
        for column, tick in enumerate(ticks.tolist()):
            if len(known):
                found[known, column] = _last(self.window(rows[known], tick))
        return found

    def rows(self, agents: Sequence[Agent]) -> I64:
        """Return int64[agents], their rows; each must be known."""
        return np.array([self._rows[agent] for agent in agents], np.int64)

    def window(self, rows: I64, at: int, minutes: int = FRESH // MINUTE) -> F64:
        """Return float64[rows, minutes], the last depth of each minute before `at`, NaN for none.

        Args:
            rows: int64[r], rows of agents.
            at: event time, ms.
            minutes: how many minutes end with the last whole one before `at`.
        """
        wanted = at // MINUTE - minutes + np.arange(minutes)
        places = wanted % RING
        there = self._minutes[rows[:, None], places] == wanted
        return np.where(there, self._depths[rows[:, None], places].astype(np.float64), np.nan)

    def reporting(self, tick: int, span: int = FRESH) -> list[Agent]:
        """Return the agents with a depth in [tick - span, tick), by tenant and id."""
        if not self.any_between(tick - span, tick):
            return []
        rows = np.arange(self._slots.end)
        found = self.window(rows, tick, span // MINUTE)
        live = set(np.flatnonzero(~np.isnan(found).all(axis=1)).tolist())
        return sorted((agent for agent, row in self._rows.items() if row in live), key=agent_order)

    def any_between(self, start: int, end: int) -> bool:
        """Return whether any agent has a depth in whole minutes of [start, end)."""
        place = bisect_left(self._active, start // MINUTE)
        return place < len(self._active) and self._active[place] < end // MINUTE

    def next_tick(self, after: int) -> int | None:
        """Return the first minute tick past `after` at which a known depth is not yet stale.

        The minute in which the last one becomes stale counts too. None where there is none.
        """
        tick = after // MINUTE * MINUTE + MINUTE
        place = bisect_left(self._active, (tick - FRESH - MINUTE) // MINUTE)
        if place == len(self._active):
            return None
        return max(tick, self._active[place] * MINUTE + MINUTE)

    def newest(self, tick: int) -> int | None:
        """Return the end of the last minute before a tick with any depth, ms; None for none."""
        place = bisect_left(self._active, tick // MINUTE)
        return self._active[place - 1] * MINUTE + MINUTE if place else None

    # -- publishing --------------------------------------------------------------------------

    def waiting(self) -> bool:
        """Return whether any hour changed since it was published."""
        return bool(self._changed)

    def publish(self, tick: int) -> list[dict[str, Any]]:
        """Return Window records of the hours that ended a minute before the tick and changed."""
        records: list[dict[str, Any]] = []
        for hour in sorted(hour for hour in self._changed if hour + HOUR + MINUTE <= tick):
            for agent in sorted(self._changed.pop(hour), key=agent_order):
                cell = self._cells[agent][hour]
                cell.revision, cell.changed = cell.revision + 1, False
                self._dirty.add((agent, hour))
                records.append(_window(agent, hour, cell, tick))
        return records

    # -- ageing ------------------------------------------------------------------------------

    def _age(self, hour: int) -> None:
        """Forget what is too old once the clock is in this hour."""
        if hour == self._hour:
            return
        self._hour = hour
        del self._active[: bisect_right(self._active, hour // MINUTE - RING)]
        for agent, cells in list(self._cells.items()):
            for old in [one for one in cells if one < hour - KEPT]:
                del cells[old]
                self._changed.get(old, set()).discard(agent)
                self._dirty.add((agent, old))
            stale = [one for one in self._stored.get(agent, ()) if one < hour - KEPT]
            self._dirty.update((agent, one) for one in stale)
            if not cells:
                self._close(agent)
        self._changed = {old: agents for old, agents in self._changed.items() if agents}

    def _close(self, agent: Agent) -> None:
        self._dirty.update((agent, one) for one in self._stored.get(agent, ()))
        self._slots.give(self._rows.pop(agent))
        del self._cells[agent], self._latest[agent]

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the state records that changed since the last call, None for one that is gone."""
        for agent, hour in sorted(self._dirty, key=lambda one: (agent_order(one[0]), one[1])):
            fields = self._dump(agent, hour)
            stored = self._stored.setdefault(agent, set())
            (stored.add if fields else stored.discard)(hour)
            if not stored:
                del self._stored[agent]
            value = None if fields is None else state.encode("QueueState", fields)
            yield state.queue_key(agent.tenant, agent.agent_id, hour), value
        self._dirty.clear()

    def _dump(self, agent: Agent, hour: int) -> dict[str, Any] | None:
        row = self._rows.get(agent)
        if row is None:
            return None
        wanted = hour // MINUTE + np.arange(HOUR // MINUTE)
        there = self._minutes[row, wanted % RING] == wanted
        cell = self._cells[agent].get(hour)
        if cell is None and (hour < (self._hour or 0) - _HOURS * HOUR or not there.any()):
            return None
        return {
            "tenant": agent.tenant,
            "agent_id": agent.agent_id,
            "hour": hour,
            "minutes": np.flatnonzero(there).tolist(),
            "depths": self._depths[row, wanted[there] % RING].tolist(),
            "last_at": None if cell is None else cell.last_at,
            "last": cell.last if cell else 0,
            "most": cell.most if cell else 0,
            "revision": cell.revision if cell else 0,
            "changed": bool(cell and cell.changed),
        }

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        if stored.kind != "QueueState":
            return False
        fields = stored.fields
        agent, hour = Agent(fields["tenant"], fields["agent_id"]), fields["hour"]
        if agent not in self._rows:
            self._open(agent)
        for minute, depth in zip(fields["minutes"], fields["depths"], strict=True):
            self._restore_minute(agent, hour // MINUTE + minute, depth)
        self._stored.setdefault(agent, set()).add(hour)
        if fields["last_at"] is not None:
            names = ("last_at", "last", "most", "revision", "changed")
            self._cells[agent][hour] = HourDepth(**{name: fields[name] for name in names})
            self._latest[agent] = max(self._latest.get(agent, _NEVER), fields["last_at"])
            if fields["changed"]:
                self._changed.setdefault(hour, set()).add(agent)
        return True

    def _restore_minute(self, agent: Agent, minute: int, depth: int) -> None:
        """Put a depth, unless a later one stands in its place: records come in any order."""
        if self._minutes[self._rows[agent], minute % RING] < minute:
            self._put(agent, minute, depth)

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._dirty.clear()


def _last(known: F64) -> F64:
    """Return the last number of each row, NaN where a row has none."""
    last = known.shape[1] - 1 - np.argmax(~np.isnan(known[:, ::-1]), axis=1)
    found: F64 = known[np.arange(len(known)), last]
    return found


def agent_order(agent: Agent) -> tuple[str, str, bool]:
    """Return what agents are sorted by; a missing tenant comes before all others."""
    return agent.tenant or "", agent.agent_id, agent.tenant is not None


def _window(agent: Agent, hour: int, cell: HourDepth, tick: int) -> dict[str, Any]:
    sums = ("automated", "escalated", "failed", "unknown", "cost_micro_usd", "duration_us")
    return {
        "tenant": agent.tenant,
        "agent_id": agent.agent_id,
        "task_type": "",
        "window_start": hour,
        "window_end": hour + HOUR,
        "revision": cell.revision,
        "at": tick,
        **dict.fromkeys((*sums, "input_tokens", "output_tokens", "cached_tokens"), 0),
        "series": "QUEUE",
        "depth_last": cell.last,
        "depth_max": cell.most,
    }
