"""Which integrations each agent called in the last day: what its alerts may have as their cause."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING

import numpy as np

from streams import state
from streams.durations import DAY, HOUR
from streams.series import Agent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.columns import CallColumns
    from streams.watch import Change

    I64 = NDArray[np.int64]

MOST = 32
"""Integrations that are named of one agent."""

KEPT = 2 * DAY
"""How long calls are remembered: alerts may be a day behind the calls."""

BOUND = 64
"""Integrations of one agent that are counted in one hour; further ones are not."""

_BUCKETS = 64

Counts = dict[str, int]


class Callers:
    """Calls by agent, hour and integration, for a day.

    Args:
        max_agents: most agents in an hour; the calls of further ones are not counted.
    """

    def __init__(self, max_agents: int) -> None:
        self._max_agents = max_agents
        self._hours: dict[int, dict[Agent, Counts]] = {}
        self._dirty: set[tuple[int, int]] = set()  # bucket and hour
        self._stored: set[tuple[int, int]] = set()

    def add(self, calls: CallColumns, clock: int) -> None:
        """Count admitted calls, in log order; contract tests and late calls are left out.

        Args:
            calls: n calls.
            clock: time that alerts are at by now, ms: what is two days older is forgotten.
        """
        hours = calls.occurred_at // HOUR * HOUR
        oldest = self._age(clock)
        some = np.flatnonzero((hours >= oldest) & ~calls.contract_test)
        sizes = len(calls.tenant.values), len(calls.agent.values), len(calls.integration.values)
        codes = calls.tenant.codes[some], calls.agent.codes[some], calls.integration.codes[some]
        keys = np.ravel_multi_index(codes, sizes) if len(some) else some
        pairs = np.stack((keys, hours[some]), axis=1)
        distinct, first, counts = np.unique(pairs, axis=0, return_index=True, return_counts=True)
        # In log order: which names a bound leaves out must not depend on the batch.
        for place in np.argsort(first).tolist():
            key, hour = distinct[place].tolist()
            tenant, agent, name = (int(code) for code in np.unravel_index(key, sizes))
            who = Agent(calls.tenant.values[tenant], str(calls.agent.values[agent]))
            self._count(hour, who, str(calls.integration.values[name]), int(counts[place]))

    def integrations_of(
        self, agent: Agent, at: int, depends_on: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Return the integrations of an agent, at most `MOST`.

        Args:
            agent: whose.
            at: event time, ms; calls of the 24 whole hours before it count.
            depends_on: of its profile; these come first, then the most used, then by name.
        """
        total: Counts = {}
        for hour, agents in self._hours.items():
            if at // HOUR * HOUR - DAY <= hour < at // HOUR * HOUR:
                for name, count in agents.get(agent, {}).items():
                    total[name] = total.get(name, 0) + count
        used = sorted(total, key=lambda name: (-total[name], name))
        return tuple(dict.fromkeys((*depends_on, *used)))[:MOST]

    # -- state -------------------------------------------------------------------------------

    def changes(self) -> Iterable[Change]:
        """Return the state records that changed since the last call, None for one that is gone."""
        for bucket, hour in sorted(self._dirty):
            agents = {
                agent: counts
                for agent, counts in self._hours.get(hour, {}).items()
                if _bucket(agent) == bucket
            }
            (self._stored.add if agents else self._stored.discard)((bucket, hour))
            value = state.encode("CallersState", _fields(bucket, hour, agents)) if agents else None
            yield state.callers_key(bucket, hour), value
        self._dirty.clear()

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        if stored.kind != "CallersState":
            return False
        fields = stored.fields
        names = [Agent(*one) for one in zip(fields["tenants"], fields["agent_ids"], strict=True)]
        hour = self._hours.setdefault(fields["hour"], {})
        for agent, name, count in zip(*(fields[one] for one in _PAIRS), strict=True):
            hour.setdefault(names[agent], {})[fields["names"][name]] = count
        self._stored.add((fields["bucket"], fields["hour"]))
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._dirty.clear()

    # -- inside ------------------------------------------------------------------------------

    def _count(self, hour: int, agent: Agent, name: str, count: int) -> None:
        agents = self._hours.setdefault(hour, {})
        if agent not in agents and len(agents) >= self._max_agents:
            return
        counts = agents.setdefault(agent, {})
        if name in counts or len(counts) < BOUND:
            counts[name] = counts.get(name, 0) + count
            self._dirty.add((_bucket(agent), hour))

    def _age(self, clock: int) -> int:
        """Forget what is too old; return the oldest hour that is kept."""
        oldest = clock // HOUR * HOUR - KEPT
        for hour in [hour for hour in self._hours if hour < oldest]:
            del self._hours[hour]
        self._dirty.update(place for place in self._stored if place[1] < oldest)
        return oldest


_PAIRS = ("agent", "name", "count")


def _bucket(agent: Agent) -> int:
    return zlib.crc32(json.dumps(agent).encode()) % _BUCKETS


def _fields(bucket: int, hour: int, agents: dict[Agent, Counts]) -> dict[str, object]:
    names = list(dict.fromkeys(name for counts in agents.values() for name in counts))
    number = {name: place for place, name in enumerate(names)}
    pairs = [
        (place, number[name], count)
        for place, counts in enumerate(agents.values())
        for name, count in counts.items()
    ]
    return {
        "bucket": bucket,
        "hour": hour,
        "tenants": [agent.tenant for agent in agents],
        "agent_ids": [agent.agent_id for agent in agents],
        "names": names,
        **{name: [pair[place] for pair in pairs] for place, name in enumerate(_PAIRS)},
    }
