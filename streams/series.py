"""Which series there are: agents, the task types they run and the models, as dense row numbers.

Panes, lives and residuals are arrays over rows. Rows are given in log order, the smallest free one
first, so that the same log makes the same rows however it was cut into batches.
"""

from __future__ import annotations

import heapq
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from streams.columns import DictColumn

    I64 = NDArray[np.int64]

_Kind = tuple[str | None, str | None]  # task type with model

MISSING = -1
"""Row of a series that does not exist."""

UNBORN = int(np.iinfo(np.int64).max)
"""First hour of an agent without an event."""

_DENSE = 1 << 20  # a table of so many flags is cheaper than sorting
_KINDS = 1 << 31  # numbers of task type with model fit below, agent rows above


class Agent(NamedTuple):
    """Who an agent row is."""

    tenant: str | None
    agent_id: str


class Task(NamedTuple):
    """Which series a task row is."""

    agent: int
    task_type: str
    model: str | None = None


class Named(Protocol):
    """Columns that name the series of events."""

    @property
    def tenant(self) -> DictColumn:
        """Tenant of each event."""

    @property
    def agent(self) -> DictColumn:
        """Agent of each."""

    @property
    def task_type(self) -> DictColumn:
        """Task type of each."""

    @property
    def model(self) -> DictColumn:
        """Model of each."""


class Rows(NamedTuple):
    """The rows of events; MISSING where there is none yet.

    Attributes:
        agent: int64[n].
        task: int64[n].
    """

    agent: I64
    task: I64


class Slots:
    """Row numbers in use, the smallest free one given first."""

    def __init__(self) -> None:
        self.end = 0
        self._free: list[int] = []

    def __len__(self) -> int:
        return self.end - len(self._free)

    def take(self) -> int:
        """Return a free row."""
        if self._free:
            return heapq.heappop(self._free)
        self.end += 1
        return self.end - 1

    def give(self, row: int) -> None:
        """Take a row back."""
        heapq.heappush(self._free, row)

    def fill(self, rows: Iterable[int]) -> None:
        """Become the table with just these rows in use."""
        used = set(rows)
        self.end = max(used, default=-1) + 1
        self._free = [row for row in range(self.end) if row not in used]


class Series:
    """The series of one partition.

    Args:
        bound: most rows of agents and tasks together.
    """

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.agents: dict[int, Agent] = {}
        self.tasks: dict[int, Task] = {}
        self.born = np.empty(0, np.int64)
        self.dirty_agents: set[int] = set()
        self.dirty_tasks: set[int] = set()
        self._agent_slots, self._task_slots = Slots(), Slots()
        self._by_tenant: dict[str | None, dict[str | None, int]] = {}
        self._kinds: dict[_Kind, int] = {}
        self._youngest = 0  # no agent was born later
        self._pairs = _Pairs()

    def __len__(self) -> int:
        return len(self.agents) + len(self.tasks)

    @property
    def agent_rows(self) -> int:
        """Number past the last agent row."""
        return self._agent_slots.end

    @property
    def task_rows(self) -> int:
        """Number past the last task row."""
        return self._task_slots.end

    # -- finding -----------------------------------------------------------------------------

    def find(self, events: Named) -> Rows:
        """Return the rows of events, MISSING where the series is new."""
        agent = self._find_agents(events.tenant, events.agent)
        kinds = self._find_kinds(events.task_type, events.model)
        # A missing agent or kind makes a key that is negative or of another agent's last kind,
        # a number far beyond all that exist.
        return Rows(agent, self._pairs.find(agent * _KINDS + kinds))

    def _find_kinds(self, types: DictColumn, models: DictColumn) -> I64:
        """Return the number of each event's task type with its model."""
        if len(models.values) == 1:
            model = models.values[0]
            kinds = {name: self._kinds.get((name, model), MISSING) for name in types.values}
            return _codes(types, kinds)
        pairs = types.codes.astype(np.int64) * len(models.values) + models.codes
        distinct, inverse = _distinct(pairs, len(types.values) * len(models.values))
        whats, whichs = divmod(distinct, max(1, len(models.values)))
        numbers = [
            self._kinds.get((types.values[what], models.values[which]), MISSING)
            for what, which in zip(whats.tolist(), whichs.tolist(), strict=True)
        ]
        return np.array(numbers, np.int64)[inverse]

    def _find_agents(self, tenant: DictColumn, agent: DictColumn) -> I64:
        if len(tenant.values) == 1:
            return _codes(agent, self._by_tenant.get(tenant.values[0], {}))
        pairs = tenant.codes.astype(np.int64) * len(agent.values) + agent.codes
        distinct, inverse = _distinct(pairs, len(tenant.values) * len(agent.values))
        owners, names = divmod(distinct, len(agent.values))
        rows = [
            self._by_tenant.get(tenant.values[owner], {}).get(agent.values[name], MISSING)
            for owner, name in zip(owners.tolist(), names.tolist(), strict=True)
        ]
        return np.array(rows, np.int64)[inverse]

    def row(self, agent: Agent) -> int:
        """Return the row of an agent, MISSING where it has none."""
        return self._by_tenant.get(agent.tenant, {}).get(agent.agent_id, MISSING)

    def needed(self, agent: Agent, task_type: str, model: str | None = None) -> int:
        """Return how many rows an event would add: 0, 1 or 2."""
        row = self._by_tenant.get(agent.tenant, {}).get(agent.agent_id, MISSING)
        if row == MISSING:
            return 2
        kind = self._kinds.get((task_type, model), MISSING)
        return int(kind == MISSING or self._pairs.get(row * _KINDS + kind) == MISSING)

    def rows(self, agent: Agent, task_type: str, model: str | None = None) -> tuple[int, int]:
        """Return the rows of an agent and of its series, MISSING where there is none."""
        row = self._by_tenant.get(agent.tenant, {}).get(agent.agent_id, MISSING)
        kind = self._kinds.get((task_type, model), MISSING)
        known = MISSING not in {row, kind}
        return row, self._pairs.get(row * _KINDS + kind) if known else MISSING

    def fits(self, series: Iterable[tuple[Agent, str, str | None]]) -> bool:
        """Return whether there is room for distinct series, all of them new."""
        added = list(series)
        agents = {
            agent
            for agent, *_ in added
            if agent.agent_id not in self._by_tenant.get(agent.tenant, {})
        }
        return len(self) + len(added) + len(agents) <= self.bound

    # -- adding and releasing ----------------------------------------------------------------

    def add(self, agent: Agent, task_type: str, model: str | None = None) -> None:
        """Make the rows of a series where they are missing."""
        row = self._by_tenant.get(agent.tenant, {}).get(agent.agent_id, MISSING)
        if row == MISSING:
            row = self._agent_slots.take()
            self._put_agent(row, agent, UNBORN)
            self.dirty_agents.add(row)
        kind = self._kinds.setdefault((task_type, model), len(self._kinds))
        if self._pairs.get(row * _KINDS + kind) == MISSING:
            task = self._task_slots.take()
            self._put_task(task, Task(row, task_type, model))
            self.dirty_tasks.add(task)

    def bear(self, rows: I64, hours: I64) -> None:
        """Let agents begin no later than at these hours (int64[n] each)."""
        if int(hours.min()) >= self._youngest:
            return
        earlier = hours < self.born[rows]
        np.minimum.at(self.born, rows[earlier], hours[earlier])
        self.dirty_agents.update(np.unique(rows[earlier]).tolist())
        self._youngest = int(self.born.max(initial=0, where=self.born < UNBORN))
        if len(self.agents) > np.count_nonzero(self.born < UNBORN):
            self._youngest = UNBORN

    def release(self, agents: Sequence[int], tasks: Sequence[int]) -> None:
        """Free rows; those of the tasks of a released agent must be among them."""
        for row in tasks:
            del self.tasks[row]
            self._task_slots.give(row)
        for row in agents:
            gone = self.agents.pop(row)
            names = self._by_tenant[gone.tenant]
            del names[gone.agent_id]
            if not names:
                del self._by_tenant[gone.tenant]
            self._agent_slots.give(row)
            self.born[row] = UNBORN
        self.dirty_agents.update(agents)
        self.dirty_tasks.update(tasks)
        if tasks:
            self._index_tasks()

    def restore(self, agents: dict[int, tuple[Agent, int]], tasks: dict[int, Task]) -> None:
        """Become the table with these rows; an agent comes with the hour it was born."""
        self._agent_slots.fill(agents)
        self._task_slots.fill(tasks)
        for row, (agent, born) in sorted(agents.items()):
            self._put_agent(row, agent, born)
        self.tasks = dict(sorted(tasks.items()))
        self._index_tasks()

    def _put_agent(self, row: int, agent: Agent, born: int) -> None:
        self.agents[row] = agent
        self._by_tenant.setdefault(agent.tenant, {})[agent.agent_id] = row
        if row >= len(self.born):
            longer = np.full(max(64, 2 * row), UNBORN, np.int64)
            longer[: len(self.born)] = self.born
            self.born = longer
        self.born[row] = born
        self._youngest = max(self._youngest, born)

    def _put_task(self, row: int, task: Task) -> None:
        self.tasks[row] = task
        kind = self._kinds.setdefault((task.task_type, task.model), len(self._kinds))
        self._pairs.put(task.agent * _KINDS + kind, row)

    def _index_tasks(self) -> None:
        """Build the index anew: a hash table with linear probing does not forget."""
        self._kinds, self._pairs = {}, _Pairs()
        for row, task in self.tasks.items():
            self._put_task(row, task)


class _Pairs:
    """A map from int64 keys ≥ 0 to rows, looked up by the thousand: open addressing in arrays."""

    def __init__(self) -> None:
        self._keys = np.full(1 << 10, MISSING, np.int64)
        self._rows = np.full(1 << 10, MISSING, np.int64)
        self._exact: dict[int, int] = {}

    def get(self, key: int) -> int:
        return self._exact.get(key, MISSING)

    def put(self, key: int, row: int) -> None:
        self._exact[key] = row
        if 4 * len(self._exact) > len(self._keys):
            size = 4 * len(self._keys)
            self._keys, self._rows = np.full(size, MISSING), np.full(size, MISSING)
            for known, place in self._exact.items():
                self._insert(known, place)
        else:
            self._insert(key, row)

    def find(self, keys: I64) -> I64:
        """Return the rows of keys; a negative key has none."""
        places = self._hash(keys)
        seen = self._keys[places]
        if (seen == keys).all():  # the usual case: all known, none displaced
            return self._rows[places]
        open_ = np.flatnonzero((seen != keys) & (seen != MISSING))
        while len(open_):
            places[open_] = (places[open_] + 1) & (len(self._keys) - 1)
            seen = self._keys[places[open_]]
            open_ = open_[(seen != keys[open_]) & (seen != MISSING)]
        found: I64 = np.where(self._keys[places] == keys, self._rows[places], MISSING)
        return found

    def _insert(self, key: int, row: int) -> None:
        place = int(self._hash(np.array([key]))[0])
        while self._keys[place] not in (MISSING, key):
            place = (place + 1) & (len(self._keys) - 1)
        self._keys[place], self._rows[place] = key, row

    def _hash(self, keys: I64) -> I64:
        # Fibonacci hashing: the high bits of a product with 2^64 / golden ratio.
        mixed = keys.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        shift = 64 - (len(self._keys).bit_length() - 1)
        return (mixed >> np.uint64(shift)).view(np.int64)


def _codes(column: DictColumn, numbers: dict[str | None, int]) -> I64:
    """Return the number of each event's value, MISSING where it has none."""
    found = np.fromiter(
        map(numbers.get, column.values, repeat(MISSING)), np.int64, len(column.values)
    )
    return found[column.codes]


def _distinct(codes: I64, size: int) -> tuple[I64, I64]:
    """Return the distinct codes, ascending, and for each code its place among them."""
    if size > _DENSE:
        distinct, inverse = np.unique(codes, return_inverse=True)
        return distinct, inverse
    seen = np.zeros(size, np.bool_)
    seen[codes] = True
    distinct = np.flatnonzero(seen)
    place = np.empty(size, np.int64)
    place[distinct] = np.arange(len(distinct))
    return distinct, place[codes]
