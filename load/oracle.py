"""The expected findings and windows of one partition, record by record and tick by tick.

An independent reading of the semantics, to judge the service by: plain Python, no columns, no
batches, no state to restore, nothing imported from `streams`. Where a shortcut is taken (a tick
at which nothing can change is not visited) it cannot change a result.

All times are integer milliseconds since 1970 UTC; S1 to S13 are the sections of the semantics.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from load.judge import ARMS, DAY, FIRING, HOUR, IDLE, MIN, SHORT, Agent, Step, evaluate

if TYPE_CHECKING:
    from collections.abc import Iterable

OUTCOMES = ("AUTOMATED", "ESCALATED", "FAILED", "UNKNOWN")
SUMS = (
    "automated",
    "escalated",
    "failed",
    "unknown",
    "cost_micro_usd",
    "duration_us",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
)
"""Columns of a pane, in order."""

QUIET = 6 * HOUR
SEVERITIES = ("INFO", "WARNING", "HIGH", "CRITICAL")
COPIED = (
    "reason",
    "severity",
    "rule",
    "entity_kind",
    "tenant",
    "entity_id",
    "trace_id",
    "value",
    "threshold",
    "baseline",
    "sample_count",
    "evidence_topic",
    "evidence_partition",
    "first_offset",
    "last_offset",
)
"""Fields that an alert has from its finding."""

Record = dict[str, Any]
SeriesKey = tuple[str | None, str, str, str | None]
WindowKey = tuple[str | None, str, str, str | None, int]


@dataclass(slots=True)
class Life:
    """An open alert that ends by quiet: a security kind of an agent, or the series limit."""

    fingerprint: str
    entity: Record
    started_at: int
    last_seen: int
    events: int = 0
    page: bool = False
    severity: str = "INFO"


class Clock:
    """Admission by time and the clock of one topic-partition (S1)."""

    def __init__(self) -> None:
        self.now: int | None = None
        self.lag = 0

    def refuses(self, occurred_at: int, timestamp: int) -> str | None:
        """Return why the record is refused for its time, or None."""
        if occurred_at > timestamp + 5 * MIN:
            return "FUTURE"
        if self.now is not None and occurred_at < self.now // HOUR * HOUR - 36 * DAY:
            return "TOO_LATE"
        return None

    def after(self, occurred_at: int, timestamp: int) -> int:
        """Return where an admitted record moves the clock; the caller moves it."""
        seen = min(occurred_at, timestamp)
        return seen if self.now is None else max(self.now, seen)

    def move(self, to: int, lag: int | None = None) -> None:
        """Move the clock; `lag` is production minus event time of the record that moves it."""
        if lag is not None and (self.now is None or to > self.now):
            self.lag = max(0, lag)
        self.now = to


class Oracle:
    """What one partition of the service must say about its logs.

    Args:
        partition: number of the partition.
        max_series: bound of task series plus agent series (S1).
        prefix: topic prefix.

    Attributes:
        findings: findings so far; only the fields that the semantics determine.
        windows: last Window record per (tenant, agent, task type, model, hour).
        window_log: every Window record, in order.
        refused: refused records by (topic, reason).
        refusals: the same one by one, as (topic, offset, reason).
        sums: totals of all admitted tasks, in the order of SUMS.
        admitted: admitted records by stream, `tasks` or `security`.
    """

    def __init__(
        self, partition: int, *, max_series: int = 1 << 60, prefix: str = "agentops."
    ) -> None:
        self.partition = partition
        self.findings: list[Record] = []
        self.windows: dict[WindowKey, Record] = {}
        self.window_log: list[Record] = []
        self.refused: Counter[tuple[str, str]] = Counter()
        self.refusals: list[tuple[str, int, str]] = []
        self.sums = [0] * len(SUMS)
        self.admitted: Counter[str] = Counter()
        self._max_series = max_series
        self._tasks_topic, self._security_topic = prefix + "tasks", prefix + "security"
        self._tasks, self._security = Clock(), Clock()
        self._idle = False
        self._series: dict[SeriesKey, dict[int, list[int]]] = {}
        self._agents: dict[tuple[str | None, str], Agent] = {}
        self._by_number: list[Agent] = []
        self._touched: dict[int, tuple[int, set[int]]] = {SHORT: (0, set()), MIN: (0, set())}
        self._active: dict[int, set[int]] = {SHORT: set(), MIN: set()}
        self._relearn_due: dict[tuple[int, str], int] = {}
        self._window_due: dict[int, list[WindowKey]] = {}
        self._window_ticks: list[int] = []
        self._window_dirty: set[WindowKey] = set()
        self._hours_seen: list[int] = []
        self._hours_offset: list[int] = []
        self._last_offset = -1
        self._lives: dict[str, Life] = {}
        self._recent: dict[str, deque[int]] = {}
        self._limit: Life | None = None

    @property
    def clocks(self) -> dict[str, int | None]:
        """The clocks by stream, None where none is defined."""
        return {"tasks": self._tasks.now, "security": self._security.now}

    def task(self, offset: int, timestamp: int, record: Record) -> None:
        """Take the next decoded record of the tasks topic."""
        at = record["occurred_at"]
        who = (record["tenant"], record["agent_id"], record["task_type"])
        series = (*who, record.get("model") or None)
        reason = self._tasks.refuses(at, timestamp) or self._over_limit(series)
        if reason is not None:
            self._refuse(self._tasks_topic, offset, reason)
            if reason == "SERIES_LIMIT":
                self._limit_seen(at)
            return
        now = self._tasks.after(at, timestamp)
        self._advance(now)
        self._tasks.move(now, timestamp - at)
        self.admitted["tasks"] += 1
        self._fold(series, at, now, sums_of(record))
        hour = now // HOUR * HOUR
        if not self._hours_seen or hour > self._hours_seen[-1]:
            self._hours_seen.append(hour)
            self._hours_offset.append(offset)
        self._last_offset = offset

    def security(self, offset: int, timestamp: int, record: Record) -> None:
        """Take the next decoded record of the security topic (S9)."""
        at = record["occurred_at"]
        reason = self._security.refuses(at, timestamp)
        if reason is not None:
            self._refuse(self._security_topic, offset, reason)
            return
        now = self._security.after(at, timestamp)
        self.quiet(now)
        self._security.move(now, timestamp - at)
        self.admitted["security"] += 1
        tenant, agent_id, kind = record["tenant"], record["agent_id"], record["kind"]
        name = fingerprint("security", "AGENT", tenant, agent_id, kind)
        transition = "UPDATED" if name in self._lives else "FIRING"
        entity = _entity("security", "AGENT", tenant, agent_id, kind)
        life = self._lives.setdefault(name, Life(name, entity, at, at))
        life.last_seen = max(life.last_seen, at)
        life.events += 1
        self._page(life, record)
        finding = self._life_finding(life, transition, "SECURITY_EVENT", at)
        finding["finding_id"] += f"-{offset}"
        finding["first_offset"] = finding["last_offset"] = offset
        finding["trace_id"] = record.get("trace_id")
        self.findings.append(finding)

    def quiet(self, clock: int) -> None:
        """Resolve the security lives that were quiet for six hours by `clock` (S9)."""
        due = [life for life in self._lives.values() if life.last_seen + QUIET <= clock]
        for life in sorted(due, key=lambda life: (life.last_seen, life.fingerprint)):
            self._resolve_quiet(life)
            del self._lives[life.fingerprint]

    def idle(self, wall_ms: int) -> None:
        """Let the clocks follow the wall, each by its lag (S11)."""
        self._idle = True
        if self._tasks.now is not None:
            target = max(self._tasks.now, wall_ms - self._tasks.lag)
            self._advance(target)
            self._tasks.move(target)
        if self._security.now is not None:
            target = max(self._security.now, wall_ms - self._security.lag)
            self.quiet(target)
            self._security.move(target)
        self._idle = False

    # ---- admission and folding

    def _refuse(self, topic: str, offset: int, reason: str) -> None:
        self.refused[topic, reason] += 1
        self.refusals.append((topic, offset, reason))

    def _over_limit(self, series: SeriesKey) -> str | None:
        new = int(series not in self._series) + int(series[:2] not in self._agents)
        if new and len(self._series) + len(self._agents) + new > self._max_series:
            return "SERIES_LIMIT"
        return None

    def _fold(self, series: SeriesKey, at: int, now: int, adds: list[int]) -> None:
        """Fold an admitted task into its panes (S3); the clock has been moved to `now`."""
        hour = at // HOUR * HOUR
        pane = self._series.setdefault(series, {}).setdefault(hour, [0] * len(SUMS))
        for index, value in enumerate(adds):
            pane[index] += value
            self.sums[index] += value
        agent = self._agents.get(series[:2])
        if agent is None:
            agent = Agent(series[0], series[1], len(self._by_number), hour)
            self._agents[series[:2]] = agent
            self._by_number.append(agent)
        agent.fold(at, now, (1, adds[0], adds[2]))
        for step in (SHORT, MIN):
            tick = now // step * step + step
            if self._touched[step][0] != tick:
                self._touched[step] = (tick, set())
            self._touched[step][1].add(agent.number)
        key = (*series, hour)
        if key not in self._window_dirty:
            self._window_dirty.add(key)
            due = max(hour + HOUR + MIN, now // MIN * MIN + MIN)
            if due not in self._window_due:
                heapq.heappush(self._window_ticks, due)
            self._window_due.setdefault(due, []).append(key)

    # ---- ticks

    def _advance(self, to: int) -> None:
        """Evaluate all ticks past the clock up to `to` (S2), then what quiet resolves (S10)."""
        done = self._tasks.now
        if done is not None and to // SHORT > done // SHORT:
            tick = self._next_tick(done)
            while tick <= to:
                self._tick(tick)
                tick = self._next_tick(tick)
        if self._limit is not None and self._limit.last_seen + QUIET <= to:
            self._resolve_quiet(self._limit)
            self._limit = None

    def _next_tick(self, done: int) -> int:
        """Return the first tick after `done` at which anything can change."""
        due = [done // DAY * DAY + DAY]
        due += [tick for tick, agents in self._touched.values() if agents and tick > done]
        due += [done // step * step + step for step, active in self._active.items() if active]
        due += self._window_ticks[:1]
        due += self._relearn_due.values()
        return min(due)

    def _tick(self, tick: int) -> None:
        if tick % DAY == 0:
            for agent in self._by_number:
                agent.close_day(tick - DAY)
        touched = {
            step: agents if at == tick else set() for step, (at, agents) in self._touched.items()
        }
        numbers = {number for number, _ in self._relearn_due}
        numbers = numbers.union(*touched.values(), *self._active.values())
        for rule, arms in ARMS.items():
            for number in sorted(numbers):
                agent = self._by_number[number]
                states = agent.rules[rule].arms
                due = [
                    arm
                    for arm in arms
                    if tick % arm.step == 0
                    and (number in touched[arm.step] or states[arm.name].phase != IDLE)
                ]
                for step in evaluate(agent, rule, tick, due):
                    self._find(agent, rule, tick, step)
                if agent.rules[rule].phase == FIRING:
                    self._relearn_due[number, rule] = agent.rules[rule].fired_at + 7 * DAY
                else:
                    self._relearn_due.pop((number, rule), None)
        for step_ms, active in self._active.items():
            active.difference_update(numbers)
            active.update(n for n in numbers if self._by_number[n].active(step_ms))
        self._emit_windows(tick)

    def _emit_windows(self, tick: int) -> None:
        """Write the hours that are closed and changed (S12)."""
        while self._window_ticks and self._window_ticks[0] <= tick:
            for key in self._window_due.pop(heapq.heappop(self._window_ticks)):
                self._window_dirty.discard(key)
                last = self.windows.get(key)
                window = {
                    "tenant": key[0],
                    "agent_id": key[1],
                    "task_type": key[2],
                    "series": "TASKS",
                    "model": key[3],
                    "window_start": key[4],
                    "window_end": key[4] + HOUR,
                    "revision": last["revision"] + 1 if last else 1,
                    "at": tick,
                    **dict(zip(SUMS, self._series[key[:4]][key[4]], strict=True)),
                }
                self.windows[key] = window
                self.window_log.append(window)

    def _find(self, agent: Agent, rule: str, tick: int, step: Step) -> None:
        name = fingerprint(rule, "AGENT", agent.tenant, agent.agent_id, None)
        transition = step.transition
        finding: Record = {
            "finding_id": f"{name}-{step.starts_at}-{transition.lower()}-{tick}",
            "fingerprint": name,
            **_entity(rule, "AGENT", agent.tenant, agent.agent_id, None),
            "arm": step.arm,
            "transition": transition,
            "reason": "IDLE" if self._idle else step.reason,
            "severity": "HIGH",
            "page": transition not in ("PENDING", "CANCELLED"),
            "at": tick,
            "starts_at": step.starts_at,
            **step.fields,
            "evidence_topic": self._tasks_topic,
            "evidence_partition": self.partition,
            "last_offset": self._last_offset,
        }
        first = bisect_left(self._hours_seen, step.fields["window_start"] // HOUR * HOUR)
        if first < len(self._hours_seen):
            finding["first_offset"] = self._hours_offset[first]
        self.findings.append(finding)

    # ---- lives that end by quiet

    def _page(self, life: Life, record: Record) -> None:
        """Decide whether the event pages, and how severe the life is by now (S9)."""
        at, severity = record["occurred_at"], record["severity"]
        minor, many = severity in ("LOW", "MEDIUM"), False
        if minor:
            recent = self._recent.setdefault(life.fingerprint, deque(maxlen=4))
            recent.append(at)
            many = len(recent) == 4 and all(at - HOUR < other <= at for other in recent)
        violation = record["kind"] == "TRUST_TIER_VIOLATION"
        if violation or not minor or not record["blocked"] or many or life.page:
            own = "WARNING" if minor else severity
            life.severity = max(life.severity, own, key=SEVERITIES.index)
            life.page = True

    def _life_finding(self, life: Life, transition: str, reason: str, at: int) -> Record:
        security = life.entity["rule"] == "security"
        return {
            "finding_id": f"{life.fingerprint}-{life.started_at}-{transition.lower()}-{at}",
            "fingerprint": life.fingerprint,
            **life.entity,
            "arm": None,
            "transition": transition,
            "reason": reason,
            "severity": life.severity,
            "page": life.page,
            "at": at,
            "starts_at": life.started_at,
            "value": life.events,
            **({"threshold": 1} if security else {}),
            "baseline": None,
            "baseline_weeks": None,
            "evidence_topic": self._security_topic if security else self._tasks_topic,
            "evidence_partition": self.partition,
        }

    def _resolve_quiet(self, life: Life) -> None:
        reason = "IDLE" if self._idle else "QUIET"
        due = life.last_seen + QUIET
        self.findings.append(self._life_finding(life, "RESOLVED", reason, due))

    def _limit_seen(self, at: int) -> None:
        """Open or extend the finding on the series limit (S10)."""
        if self._limit is None:
            entity = _entity("series-limit", "PARTITION", None, str(self.partition), None)
            name = fingerprint("series-limit", "PARTITION", None, str(self.partition), None)
            self._limit = Life(name, entity, at, at, 1, severity="WARNING")
            self.findings.append(self._life_finding(self._limit, "FIRING", "SERIES_LIMIT", at))
            return
        self._limit.events += 1
        self._limit.last_seen = max(self._limit.last_seen, at)


def fingerprint(rule: str, kind: str, tenant: str | None, entity: str, slot: str | None) -> str:
    """Return the 16 hex digits that name a rule on an entity (S8)."""
    text = f"{rule}|{kind}|{tenant or ''}|{entity}|{slot or ''}"
    return sha256(text.encode()).hexdigest()[:16]


def _entity(rule: str, kind: str, tenant: str | None, entity_id: str, event: str | None) -> Record:
    return {
        "rule": rule,
        "entity_kind": kind,
        "tenant": tenant,
        "entity_id": entity_id,
        "task_type": None,
        "kind": event,
    }


def sums_of(record: Record) -> list[int]:
    """Return what one task adds to a pane, in the order of SUMS."""
    return [
        *(int(record["outcome"] == name) for name in OUTCOMES),
        math.floor(record["cost_usd"] * 1e6 + 0.5),
        math.floor(record["duration_ms"] * 1e3 + 0.5),
        record["input_tokens"],
        record["output_tokens"],
        record.get("cached_tokens") or 0,
    ]


def alerts(findings: Iterable[Record]) -> list[Record]:
    """Return the alert records that follow from findings in their order, one to one (S13).

    What depends on other alerts and on time is left out: whether it pages, and what else a page
    shows. An alert that is withheld, or stays open as the page of others, has another status.
    """
    found: list[Record] = []
    opened: set[str] = set()
    for finding in findings:
        status = finding["transition"]
        alert_id = f"{finding['fingerprint']}-{finding['starts_at']}"
        if status in ("PENDING", "CANCELLED") or (status == "RESOLVED" and alert_id not in opened):
            continue
        (opened.discard if status == "RESOLVED" else opened.add)(alert_id)
        found.append(
            {
                "alert_id": alert_id,
                "status": status,
                **{name: finding[name] for name in COPIED if name in finding},
                "members": [finding["finding_id"]],
                "starts_at": finding["starts_at"],
                "updated_at": finding["at"],
                "ends_at": finding["at"] if status == "RESOLVED" else None,
            }
        )
    return found
