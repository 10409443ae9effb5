"""The state of a partition's core as records: what changed of it, and taking it over again."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from streams import state
from streams.arms import LONG_STEP, SHORT_STEP
from streams.clock import UNSET
from streams.durations import HOUR
from streams.panes import BUCKET, PaneRows
from streams.series import Agent, Task

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streams.clock import Clock
    from streams.ledger import Ledger, Table
    from streams.security import SecurityLives, SeriesLimitLife

Change = tuple[bytes, bytes | None]


class Keeper(Protocol):
    """What stores itself, as watches and desks do."""

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""

    def settle(self) -> None:
        """Count all that was restored as stored."""


class Book(NamedTuple):
    """A ledger with its clock; both are stored under the ledger's table."""

    ledger: Ledger
    clock: Clock


@dataclass(frozen=True, slots=True)
class Parts:
    """What the state is made of.

    Attributes:
        books: the ledgers, each with another table; their watches are stored too.
        clocks: further clocks by stream.
        keepers: all else, in the order in which they are asked for a stored record.
    """

    books: Sequence[Book]
    clocks: Mapping[str, Clock]
    keepers: Sequence[Keeper]

    def all_keepers(self) -> list[Keeper]:
        """Return the watches of all ledgers and the other keepers."""
        watches = chain.from_iterable(book.ledger.watches for book in self.books)
        return [*watches, *self.keepers]


class ThreatKeeper:
    """Stores the lives of the security rule."""

    def __init__(self, threats: SecurityLives) -> None:
        self._threats = threats

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        for name in self._threats.take_dirty():
            yield state.threat_key(name), _encoded("ThreatState", self._threats.dump(name))

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        mine = stored.kind == "ThreatState"
        if mine:
            self._threats.load(state.threat_name(stored.key), stored.fields)
        return mine

    def settle(self) -> None:
        """Do nothing: what is loaded counts as stored."""


class LimitKeeper:
    """Stores the life of the rule on refused series."""

    def __init__(self, limit: SeriesLimitLife) -> None:
        self._limit = limit

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        if self._limit.dirty:
            yield state.limit_key(self._limit.part), _encoded("LimitState", self._limit.dump())

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        mine = stored.key == state.limit_key(self._limit.part)
        if mine:
            self._limit.load(stored.fields)
        return mine

    def settle(self) -> None:
        """Do nothing: what is loaded counts as stored."""


def take(parts: Parts) -> list[Change]:
    """Return the records that changed since the last call, None for one that is gone.

    A record forgotten and made again within one call is written once, with what it is now.
    """
    changes: dict[bytes, bytes | None] = {}
    for book in parts.books:
        changes.update(dict.fromkeys(book.ledger.gone))
        book.ledger.gone.clear()
    for stream, clock in parts.clocks.items():
        changes.update(_clock(stream, clock))
    for ledger, clock in parts.books:
        changes.update(_clock(ledger.layout.table, clock, ledger))
        changes.update(_evidence(ledger))
        changes.update(_series(ledger))
        for table in ledger.tables:
            changes.update(_panes(table))
        changes.update(_residuals(ledger))
        changes.update(_lives(ledger))
    for keeper in parts.all_keepers():
        changes.update(keeper.changes())
    return list(changes.items())


# -- taking ------------------------------------------------------------------------------------


def _clock(stream: str, clock: Clock, ledger: Ledger | None = None) -> Iterable[Change]:
    now = clock.now
    if now is None:
        return
    fields = {
        "topic": stream,
        "now": now,
        "lag": clock.lag,
        "last_offset": -1,
        "newest": UNSET,
        "touched_short": b"",
        "touched_long": b"",
    }
    if ledger is not None:
        touched = ledger.touched[: ledger.series.agent_rows]
        fields |= {
            "last_offset": ledger.last_offset,
            "newest": ledger.newest,
            "touched_short": state.pack_bits(touched >= now // SHORT_STEP * SHORT_STEP),
            "touched_long": state.pack_bits(touched >= now // LONG_STEP * LONG_STEP),
        }
    yield state.clock_key(stream), state.encode("ClockState", fields)


def _evidence(ledger: Ledger) -> Iterable[Change]:
    table, reached = ledger.layout.table, ledger.reached
    if reached.take_dirty():
        fields = {"topic": table, "hours": reached.hours, "offsets": reached.offsets}
        yield state.evidence_key(table), state.encode("EvidenceState", fields)


def _series(ledger: Ledger) -> Iterable[Change]:
    table, series = ledger.layout.table, ledger.series
    for bucket in _buckets(series.dirty_agents):
        agents = {
            row: (series.agents[row], int(series.born[row]))
            for row in range(bucket * BUCKET, (bucket + 1) * BUCKET)
            if row in series.agents
        }
        value = state.encode_agents(table, bucket, agents) if agents else None
        yield state.agents_key(table, bucket), value
    for bucket in _buckets(series.dirty_tasks):
        tasks = {
            row: series.tasks[row]
            for row in range(bucket * BUCKET, (bucket + 1) * BUCKET)
            if row in series.tasks
        }
        value = state.encode_series(table, bucket, tasks) if tasks else None
        yield state.series_key(table, bucket), value
    series.dirty_agents.clear()
    series.dirty_tasks.clear()


def _panes(table: Table) -> Iterable[Change]:
    name, panes, published = table
    for key in panes.take_dirty():
        value = state.encode_panes(name, panes.width, key, panes.dump(key), published=published)
        yield state.pane_key(name, panes.width, key), value


def _residuals(ledger: Ledger) -> Iterable[Change]:
    for rate in ledger.rates:
        for arm, residuals in rate.history.residuals.items():
            rule, name = rate.rule.name, rate.rule.arms[arm].name
            for bucket, day in residuals.take_dirty():
                rows, values = residuals.dump(bucket, day)
                fields = {
                    "rule": rule,
                    "arm": name,
                    "bucket": bucket,
                    "day": day,
                    "rows": state.pack_rows(rows),
                    "values": state.pack_residuals(values),
                }
                key = state.residual_key(rule, name, bucket, day)
                yield key, state.encode("ResidualState", fields)


def _lives(ledger: Ledger) -> Iterable[Change]:
    for rate in ledger.rates:
        rule = rate.rule.name
        for row in rate.lives.take_dirty():
            life = rate.lives.dump(row)
            if life is not None:
                life = {"rule": rule, "row": row, **life}
            yield state.life_key(rule, row), _encoded("LifeState", life)


def _encoded(kind: str, fields: Mapping[str, object] | None) -> bytes | None:
    return None if fields is None else state.encode(kind, fields)


def _buckets(rows: set[int]) -> list[int]:
    return sorted({row // BUCKET for row in rows})


# -- putting -----------------------------------------------------------------------------------


_ORDER = ("ClockState", "EvidenceState", "PaneState", "ResidualState", "LifeState")
"""In this order the records of a ledger are taken over, once its series are there."""


def put(parts: Parts, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Take over stored records into parts that are empty as yet.

    A record that is of no part, such as the life of a rule there is no more, is left alone.

    Raises:
        ValueError: a record does not fit the rules there are.
    """
    found = state.decode(records)
    by_kind: dict[str, list[state.Stored]] = {}
    for record in found:
        by_kind.setdefault(record.kind, []).append(record)
    for book in parts.books:
        _put_series(book.ledger, by_kind)
    rest = [record for record in found if record.kind not in (*_ORDER, "AgentState", "SeriesState")]
    for kind in _ORDER:
        rest += [record for record in by_kind.get(kind, []) if not _put(parts, record)]
    keepers = parts.all_keepers()
    for record in rest:
        any(keeper.restore(record) for keeper in keepers)
    for book in parts.books:
        book.ledger.agent_hours.settle()
        for table in book.ledger.tables:
            table.panes.settle()
    for keeper in keepers:
        keeper.settle()


def _put_series(ledger: Ledger, by_kind: dict[str, list[state.Stored]]) -> None:
    agents: dict[int, tuple[Agent, int]] = {}
    tasks: dict[int, Task] = {}
    for record in by_kind.get("AgentState", []):
        fields = record.fields
        if fields["table"] == ledger.layout.table:
            rows = state.unpack_rows(fields["bucket"], fields["rows"]).tolist()
            names = zip(fields["tenants"], fields["agent_ids"], fields["born"], strict=True)
            for row, (tenant, agent_id, born) in zip(rows, names, strict=True):
                agents[row] = Agent(tenant, agent_id), born
    for record in by_kind.get("SeriesState", []):
        fields = record.fields
        if fields["table"] == ledger.layout.table:
            rows = state.unpack_rows(fields["bucket"], fields["rows"]).tolist()
            names = zip(fields["agents"], fields["task_types"], fields["models"], strict=True)
            tasks |= {row: Task(*name) for row, name in zip(rows, names, strict=True)}
    ledger.series.restore(agents, tasks)
    ledger.reserve()


def _put(parts: Parts, record: state.Stored) -> bool:
    """Take over a record of a ledger, or of a clock; return whether it is one."""
    fields = record.fields
    match record.kind:
        case "ClockState":
            return _put_clock(parts, fields)
        case "EvidenceState":
            return any(_put_evidence(book.ledger, fields) for book in parts.books)
        case "PaneState":
            return any(_put_panes(book.ledger, fields) for book in parts.books)
        case "ResidualState":
            return any(_put_residuals(book.ledger, fields) for book in parts.books)
        case _:
            return any(_put_life(book.ledger, fields) for book in parts.books)


def _put_clock(parts: Parts, fields: Mapping[str, Any]) -> bool:
    stream, now = fields["topic"], fields["now"]
    clock = parts.clocks.get(stream)
    for book in parts.books:
        if book.ledger.layout.table == stream:
            clock, ledger = book.clock, book.ledger
            ledger.last_offset, ledger.newest = fields["last_offset"], fields["newest"]
            ledger.hour = now // HOUR * HOUR
            for step, bits in ((LONG_STEP, "touched_long"), (SHORT_STEP, "touched_short")):
                ledger.touched[state.unpack_bits(fields[bits])] = now // step * step
    if clock is not None:
        clock.now, clock.lag = now, fields["lag"]
    return clock is not None


def _put_evidence(ledger: Ledger, fields: Mapping[str, Any]) -> bool:
    mine = bool(fields["topic"] == ledger.layout.table)
    if mine:
        ledger.reached.hours = list(fields["hours"])
        ledger.reached.offsets = list(fields["offsets"])
    return mine


def _put_panes(ledger: Ledger, fields: Mapping[str, Any]) -> bool:
    for name, panes, published in ledger.tables:
        if (name, panes.width) == (fields["table"], fields["width"]):
            found = state.decode_panes(fields)
            panes.load(fields["start"], found)
            if published:
                _put_hours(ledger, fields["start"], found)
            return True
    return False


def _put_hours(ledger: Ledger, start: int, panes: PaneRows) -> None:
    """Derive from the panes of an hour what is not stored by itself."""
    if panes.changed.any():
        ledger.closing.restore(start // HOUR)
    agents = np.array([ledger.series.tasks[row].agent for row in panes.rows.tolist()], np.int64)
    rows, place = np.unique(agents, return_inverse=True)
    counts = np.zeros((len(rows), panes.counts.shape[1]), np.int64)
    np.add.at(counts, place, panes.counts)
    none = np.zeros(len(rows), np.int64)
    derived = PaneRows(rows, counts, panes.sums[:0, :0], none, none.astype(np.bool_))
    ledger.agent_hours.load(start, derived)


def _put_residuals(ledger: Ledger, fields: Mapping[str, Any]) -> bool:
    for rate in ledger.rates:
        for arm, residuals in rate.history.residuals.items():
            if (rate.rule.name, rate.rule.arms[arm].name) == (fields["rule"], fields["arm"]):
                rows = state.unpack_rows(fields["bucket"], fields["rows"])
                values = state.unpack_residuals(fields["values"], len(rows))
                residuals.load(fields["bucket"], fields["day"], rows, values)
                return True
    return False


def _put_life(ledger: Ledger, fields: Mapping[str, Any]) -> bool:
    for rate in ledger.rates:
        if rate.rule.name == fields["rule"]:
            rate.lives.load(fields["row"], fields)
            return True
    return False
