"""The state of a partition's core as records: what changed of it, and taking it over again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from streams import state
from streams.arms import LONG_STEP, SHORT_STEP
from streams.clock import UNSET
from streams.durations import HOUR, MINUTE
from streams.panes import BUCKET, PaneRows
from streams.series import Agent, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from streams.clock import Clock
    from streams.ledger import Ledger
    from streams.panes import Panes
    from streams.security import SecurityLives, SeriesLimitLife

Change = tuple[bytes, bytes | None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the state is made of.

    Attributes:
        ledger: of the task events.
        tasks: clock of the task events.
        security: clock of the security events.
        threats: lives of the security rule.
        limit: life of the rule on refused series.
    """

    ledger: Ledger
    tasks: Clock
    security: Clock
    threats: SecurityLives
    limit: SeriesLimitLife


def take(parts: Parts) -> list[Change]:
    """Return the records that changed since the last call, None for one that is gone.

    A record forgotten and made again within one call is written once, with what it is now.
    """
    ledger = parts.ledger
    changes: dict[bytes, bytes | None] = dict.fromkeys(ledger.gone)
    ledger.gone.clear()
    changes.update(_clocks(parts))
    changes.update(_series(ledger))
    changes.update(_panes(ledger.task_hours, published=True))
    changes.update(_panes(ledger.agent_minutes, published=False))
    changes.update(_residuals(ledger))
    changes.update(_lives(parts))
    return list(changes.items())


# -- taking ------------------------------------------------------------------------------------


def _clocks(parts: Parts) -> Iterable[Change]:
    ledger, now = parts.ledger, parts.tasks.now
    if now is not None:
        touched = ledger.touched[: ledger.series.agent_rows]
        yield (
            state.clock_key("tasks"),
            state.encode(
                "ClockState",
                {
                    "topic": "tasks",
                    "now": now,
                    "lag": parts.tasks.lag,
                    "last_offset": ledger.last_offset,
                    "newest": ledger.newest,
                    "touched_short": state.pack_bits(touched >= now // SHORT_STEP * SHORT_STEP),
                    "touched_long": state.pack_bits(touched >= now // LONG_STEP * LONG_STEP),
                },
            ),
        )
        if ledger.reached.take_dirty():
            hours, offsets = ledger.reached.hours, ledger.reached.offsets
            evidence = {"topic": "tasks", "hours": hours, "offsets": offsets}
            yield state.evidence_key("tasks"), state.encode("EvidenceState", evidence)
    if parts.security.now is not None:
        fields = {
            "topic": "security",
            "now": parts.security.now,
            "lag": parts.security.lag,
            "last_offset": -1,
            "newest": UNSET,
            "touched_short": b"",
            "touched_long": b"",
        }
        yield state.clock_key("security"), state.encode("ClockState", fields)


def _series(ledger: Ledger) -> Iterable[Change]:
    series = ledger.series
    for bucket in _buckets(series.dirty_agents):
        agents = {
            row: (series.agents[row], int(series.born[row]))
            for row in range(bucket * BUCKET, (bucket + 1) * BUCKET)
            if row in series.agents
        }
        value = state.encode_agents(bucket, agents) if agents else None
        yield state.agents_key(bucket), value
    for bucket in _buckets(series.dirty_tasks):
        tasks = {
            row: series.tasks[row]
            for row in range(bucket * BUCKET, (bucket + 1) * BUCKET)
            if row in series.tasks
        }
        yield state.series_key(bucket), state.encode_series(bucket, tasks) if tasks else None
    series.dirty_agents.clear()
    series.dirty_tasks.clear()


def _panes(panes: Panes, *, published: bool) -> Iterable[Change]:
    for key in panes.take_dirty():
        value = state.encode_panes(panes.width, key, panes.dump(key), published=published)
        yield state.pane_key(panes.width, key), value


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


def _lives(parts: Parts) -> Iterable[Change]:
    for rate in parts.ledger.rates:
        rule = rate.rule.name
        for row in rate.lives.take_dirty():
            life = rate.lives.dump(row)
            if life is not None:
                life = {"rule": rule, "row": row, **life}
            yield state.life_key(rule, row), _encoded("LifeState", life)
    for name in parts.threats.take_dirty():
        threat = parts.threats.dump(name)
        yield state.threat_key(name), _encoded("ThreatState", threat)
    if parts.limit.dirty:
        yield state.LIMIT_KEY, _encoded("LimitState", parts.limit.dump())


def _encoded(kind: str, fields: Mapping[str, object] | None) -> bytes | None:
    return None if fields is None else state.encode(kind, fields)


def _buckets(rows: set[int]) -> list[int]:
    return sorted({row // BUCKET for row in rows})


# -- putting -----------------------------------------------------------------------------------


def put(parts: Parts, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Take over stored records into parts that are empty as yet.

    Raises:
        ValueError: a record does not fit the rules there are.
    """
    by_kind: dict[str, list[state.Stored]] = {}
    for record in state.decode(records):
        by_kind.setdefault(record.kind, []).append(record)
    _put_series(parts.ledger, by_kind)
    putters: dict[str, Callable[[Parts, state.Stored], None]] = {
        "ClockState": _put_clock,
        "EvidenceState": _put_evidence,
        "PaneState": _put_panes,
        "ResidualState": _put_residuals,
        "LifeState": _put_life,
        "ThreatState": _put_threat,
        "LimitState": _put_limit,
    }
    for kind, putter in putters.items():
        for record in by_kind.get(kind, []):
            putter(parts, record)
    parts.ledger.task_hours.settle()
    parts.ledger.agent_hours.settle()
    parts.ledger.agent_minutes.settle()


def _put_series(ledger: Ledger, by_kind: dict[str, list[state.Stored]]) -> None:
    agents: dict[int, tuple[Agent, int]] = {}
    for record in by_kind.get("AgentState", []):
        fields = record.fields
        rows = state.unpack_rows(fields["bucket"], fields["rows"]).tolist()
        names = zip(fields["tenants"], fields["agent_ids"], fields["born"], strict=True)
        for row, (tenant, agent_id, born) in zip(rows, names, strict=True):
            agents[row] = Agent(tenant, agent_id), born
    tasks: dict[int, Task] = {}
    for record in by_kind.get("SeriesState", []):
        fields = record.fields
        rows = state.unpack_rows(fields["bucket"], fields["rows"]).tolist()
        kinds = zip(fields["agents"], fields["task_types"], strict=True)
        for row, (agent, task_type) in zip(rows, kinds, strict=True):
            tasks[row] = Task(agent, task_type)
    ledger.series.restore(agents, tasks)
    ledger.reserve()


def _put_clock(parts: Parts, record: state.Stored) -> None:
    fields = record.fields
    if fields["topic"] == "security":
        parts.security.now, parts.security.lag = fields["now"], fields["lag"]
        return
    now, ledger = fields["now"], parts.ledger
    parts.tasks.now, parts.tasks.lag = now, fields["lag"]
    ledger.last_offset, ledger.newest = fields["last_offset"], fields["newest"]
    ledger.hour = now // HOUR * HOUR
    for step, bits in ((LONG_STEP, "touched_long"), (SHORT_STEP, "touched_short")):
        ledger.touched[state.unpack_bits(fields[bits])] = now // step * step


def _put_evidence(parts: Parts, record: state.Stored) -> None:
    reached = parts.ledger.reached
    reached.hours = list(record.fields["hours"])
    reached.offsets = list(record.fields["offsets"])


def _put_panes(parts: Parts, record: state.Stored) -> None:
    fields, ledger = record.fields, parts.ledger
    panes = state.decode_panes(fields)
    if fields["width"] == MINUTE:
        ledger.agent_minutes.load(fields["start"], panes)
        return
    ledger.task_hours.load(fields["start"], panes)
    if panes.changed.any():
        ledger.closing.restore(fields["start"] // HOUR)
    agents = np.array([ledger.series.tasks[row].agent for row in panes.rows.tolist()], np.int64)
    rows, place = np.unique(agents, return_inverse=True)
    counts = np.zeros((len(rows), panes.counts.shape[1]), np.int64)
    np.add.at(counts, place, panes.counts)
    none = np.zeros(len(rows), np.int64)
    derived = PaneRows(rows, counts, panes.sums[:0, :0], none, none.astype(np.bool_))
    ledger.agent_hours.load(fields["start"], derived)


def _put_residuals(parts: Parts, record: state.Stored) -> None:
    fields = record.fields
    rows = state.unpack_rows(fields["bucket"], fields["rows"])
    values = state.unpack_residuals(fields["values"], len(rows))
    for rate in parts.ledger.rates:
        for arm, residuals in rate.history.residuals.items():
            if (rate.rule.name, rate.rule.arms[arm].name) == (fields["rule"], fields["arm"]):
                residuals.load(fields["bucket"], fields["day"], rows, values)


def _put_life(parts: Parts, record: state.Stored) -> None:
    for rate in parts.ledger.rates:
        if rate.rule.name == record.fields["rule"]:
            rate.lives.load(record.fields["row"], record.fields)


def _put_threat(parts: Parts, record: state.Stored) -> None:
    parts.threats.load(state.threat_name(record.key), record.fields)


def _put_limit(parts: Parts, record: state.Stored) -> None:
    parts.limit.load(record.fields)
