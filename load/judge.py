"""The rules on one agent, tick by tick: baselines, arms and lives as plain Python says them.

The part of the oracle that knows S5 to S8 of the semantics; `load.oracle` feeds it. Shortcuts
are only such that cannot change a result: a baseline is kept while the panes below it stand still.
All times are integer milliseconds since 1970 UTC.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN = 60_000
HOUR = 60 * MIN
DAY = 24 * HOUR
WEEK = 7 * DAY
SHORT = 5_000

AUTOMATED_RATE = "automated-rate"
ERROR_RATE = "error-rate"
IDLE, PENDING, FIRING = "IDLE", "PENDING", "FIRING"
"""Phases of an arm, and of a rule (there IDLE stands for INACTIVE)."""


class Arm(NamedTuple):
    """One window of a rule (S7), its tick step, and how long fire and clear must hold, all ms."""

    name: str
    window: int
    step: int
    hold: int
    clear_hold: int


ARMS: dict[str, tuple[Arm, ...]] = {
    AUTOMATED_RATE: (Arm("24h", DAY, MIN, 2 * HOUR, 12 * HOUR),),
    ERROR_RATE: (
        Arm("24h", DAY, MIN, 2 * HOUR, 6 * HOUR),
        Arm("1h", HOUR, MIN, 3 * HOUR, 6 * HOUR),
        Arm("5m", 5 * MIN, SHORT, 0, 15 * MIN),
    ),
}
RESIDUALS = ((AUTOMATED_RATE, "24h", DAY), (ERROR_RATE, "24h", DAY), (ERROR_RATE, "1h", HOUR))
"""Arms that keep daily residuals (S6), with the window of these."""

Fields = dict[str, Any]


class Baseline(NamedTuple):
    """What is usual for an agent and a rule as of an hour (S5); p0 is None without any."""

    weeks: int
    p0: float | None
    known: bool
    multiplier: float


class Judgement(NamedTuple):
    """One arm at one tick: what it says, and what was measured."""

    enough: bool
    fire: bool
    judgeable: bool
    clear: bool
    fields: Fields


class Step(NamedTuple):
    """A transition of a rule (S8): its reason, the arm that caused it and what that measured."""

    transition: str
    reason: str
    starts_at: int
    arm: str
    fields: Fields


@dataclass(slots=True)
class ArmState:
    """Where one arm stands (S7)."""

    phase: str = IDLE
    since: int = 0
    clear_since: int | None = None


@dataclass(slots=True)
class RuleState:
    """The life of a rule on an agent (S8); `taints` are closed ranges of hours."""

    arms: dict[str, ArmState]
    phase: str = IDLE
    started_at: int = 0
    fired_at: int = 0
    last_resolved: int | None = None
    relearned_from: int | None = None
    taints: list[tuple[int, int]] = field(default_factory=list)

    def tainted(self, start: int, end: int) -> bool:
        """Return whether an hour of [start, end) is tainted."""
        return bool(self.taints_in(start, end))

    def taints_in(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the tainted ranges of hours, both ends included, that reach into [start, end)."""
        taints = self.taints
        if self.phase == FIRING:
            taints = [*taints, (self.started_at // HOUR * HOUR, end)]
        return [(first, last) for first, last in taints if first < end and start <= last]


class Agent:
    """One agent series: panes of (all, automated, failed), rules and residuals.

    Args:
        tenant: tenant of the agent, or None.
        agent_id: the agent.
        number: order of appearance in its partition.
        born: hour of its oldest admitted event.
    """

    def __init__(self, tenant: str | None, agent_id: str, number: int, born: int) -> None:
        self.tenant, self.agent_id, self.number, self.born = tenant, agent_id, number, born
        self.hours: dict[int, list[int]] = {}
        self.minutes: dict[int, list[int]] = {}
        self.rules = {
            rule: RuleState({arm.name: ArmState() for arm in arms}) for rule, arms in ARMS.items()
        }
        self._residuals: dict[tuple[str, str], dict[int, tuple[float, float]]] = {
            (rule, arm): {} for rule, arm, _ in RESIDUALS
        }
        self._version = 0
        self._baselines: dict[tuple[str, int], tuple[int, Baseline]] = {}
        self._spreads: dict[tuple[str, str, int], float | None] = {}

    def fold(self, at: int, now: int, counts: tuple[int, int, int]) -> None:
        """Add a task to its panes (S3); `now` is the clock after it."""
        hour = at // HOUR * HOUR
        self.born = min(self.born, hour)
        _add(self.hours, hour, counts)
        if at // MIN >= now // MIN - 180:
            _add(self.minutes, at // MIN * MIN, counts)
        if hour < now // HOUR * HOUR - 20 * HOUR:
            self._version += 1  # may lie below a baseline: these end 24 h before the tick's hour

    def counts(self, start: int, end: int, width: int) -> list[int]:
        """Return (all, automated, failed) over the panes of `width` in [start, end)."""
        panes = self.minutes if width == MIN else self.hours
        total = [0, 0, 0]
        for at in range(start, end, width):
            pane = panes.get(at)
            if pane is not None:
                total[0] += pane[0]
                total[1] += pane[1]
                total[2] += pane[2]
        return total

    def active(self, step: int) -> bool:
        """Return whether an arm of this tick step is not IDLE."""
        return any(
            arm.step == step and self.rules[rule].arms[arm.name].phase != IDLE
            for rule, arms in ARMS.items()
            for arm in arms
        )

    def taint_changed(self) -> None:
        """Forget kept baselines after a change of taint or of what was relearned."""
        self._version += 1

    def baseline(self, rule: str, hour: int) -> Baseline:
        """Return the baseline as of an hour, from the panes as they are now (S5)."""
        found = self._baselines.get((rule, hour))
        if found is None or found[0] != self._version:
            if len(self._baselines) > 64:
                self._baselines.clear()
            found = self._version, _baseline(self, rule, hour)
            self._baselines[rule, hour] = found
        return found[1]

    def close_day(self, day: int) -> None:
        """Store the residuals of a day that has ended (S6)."""
        for rule, arm_name, width in RESIDUALS:
            for hour in range(day, day + DAY, HOUR):
                n, automated, failed = self.counts(hour - width, hour, HOUR)
                if n < 20 or self.rules[rule].tainted(hour - width, hour):
                    continue
                baseline = self.baseline(rule, hour)
                if not baseline.known or baseline.p0 is None:
                    continue
                r = (automated if rule == AUTOMATED_RATE else failed) / n
                residual = half(r - baseline.p0), half(math.sqrt(variance(baseline.p0, n)))
                self._residuals[rule, arm_name][hour] = residual
        self._spreads.clear()

    def spread(self, rule: str, arm: str, hour: int) -> float | None:
        """Return τ² of the same hour on earlier days (S6), None with fewer than five."""
        if (rule, arm, hour) not in self._spreads:
            stored = self._residuals[rule, arm]
            entries = [stored.get(hour - day * DAY) for day in range(2, 183)]
            known = [entry for entry in entries if entry is not None]
            spread = None
            if len(known) >= 5:
                middle = 1.4826 * median([abs(residual) for residual, _ in known])
                spread = max(0.0, middle**2 - median([root**2 for _, root in known]))
            self._spreads[rule, arm, hour] = spread
        return self._spreads[rule, arm, hour]


def wilson_lower(k: int, n: int, z: float) -> float:
    """Return the lower Wilson score bound of k of n (S7)."""
    p = k / n
    root = math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return (p + z**2 / (2 * n) - z * root) / (1 + z**2 / n)


def median(values: Sequence[float]) -> float:
    """Return the median; of an even count the mean of the middle two."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def half(value: float) -> float:
    """Return `value` rounded to IEEE half precision."""
    rounded: float = struct.unpack("<e", struct.pack("<e", value))[0]
    return rounded


def variance(p0: float, n: int) -> float:
    """Return the binomial variance of a rate over n, widened by a quarter (S7)."""
    return 1.25 * p0 * (1 - p0) / n


def _add(panes: dict[int, list[int]], at: int, counts: tuple[int, int, int]) -> None:
    pane = panes.setdefault(at, [0, 0, 0])
    for index, value in enumerate(counts):
        pane[index] += value


def _baseline(agent: Agent, rule: str, hour: int) -> Baseline:
    state = agent.rules[rule]
    relearned = state.relearned_from is not None
    earliest = max(agent.born, state.relearned_from or agent.born)
    column = 1 if rule == AUTOMATED_RATE else 2
    windows: list[tuple[int, int]] = []
    for end in (hour - j * WEEK for j in (1, 2, 3, 4)):
        if end - DAY >= earliest and not state.tainted(end - DAY, end):
            counts = agent.counts(end - DAY, end, HOUR)
            if counts[0] >= 1:
                windows.append((counts[column], counts[0]))
    weeks = len(windows)
    multiplier = {4: 1.0, 3: 1.25}.get(weeks, 1.5)
    p = _usual_rate(windows) if windows else None
    if rule == AUTOMATED_RATE:
        return Baseline(weeks, p, weeks >= 1, multiplier)
    pooled = _pooled(agent, state, hour, earliest) if weeks or relearned else None
    p0 = max(rate for rate in (p, pooled, 0.0005) if rate is not None)
    return Baseline(weeks, p0, weeks >= 1 or pooled is not None, multiplier)


def _usual_rate(windows: list[tuple[int, int]]) -> float:
    """Return the clamped usual rate of windows of (k, n) (S5)."""
    total = sum(n for _, n in windows)
    if all(n >= 200 for _, n in windows):
        p = median([k / n for k, n in windows])
    else:
        p = sum(k for k, _ in windows) / total
    return min(max(p, 0.5 / (total + 1)), 1 - 0.5 / (total + 1))


def _pooled(agent: Agent, state: RuleState, hour: int, earliest: int) -> float | None:
    """Return the error rate of the 28 days before yesterday, None below 200 tasks (S5)."""
    start, end = max(earliest, hour - DAY - 28 * DAY), hour - DAY
    taints = state.taints_in(start, end)
    n = failed = 0
    for at in range(start, end, HOUR):
        pane = agent.hours.get(at)
        if pane is not None and not any(first <= at <= last for first, last in taints):
            n += pane[0]
            failed += pane[2]
    return failed / n if n >= 200 else None


def judge(agent: Agent, rule: str, arm: Arm, tick: int) -> Judgement:
    """Measure one arm at a tick and hold it against its conditions (S7)."""
    width = MIN if arm.window <= 3 * HOUR else HOUR
    start = -(-(tick - arm.window) // width) * width
    n, automated, failed = agent.counts(start, tick, width)
    baseline = agent.baseline(rule, tick // HOUR * HOUR)
    k = automated if rule == AUTOMATED_RATE else failed
    fields: Fields = {
        "sample_count": n,
        "window_start": start,
        "window_end": tick,
        "baseline": baseline.p0 if baseline.known else None,
        "baseline_weeks": baseline.weeks,
    }
    if n:
        fields["value"] = k / n
    if rule == AUTOMATED_RATE:
        return _judge_drop(agent, k, tick, (baseline, fields))
    if arm.name == "5m":
        return _judge_burst(agent, k, tick, (baseline, fields))
    return _judge_errors(agent, k, (arm.name, tick), (baseline, fields))


def _z(agent: Agent, which: tuple[str, str, int], r: float, p0: float, n: int) -> float:
    rule, arm, tick = which
    spread = agent.spread(rule, arm, tick // HOUR * HOUR)
    if spread is None:
        spread = (0.02 if rule == AUTOMATED_RATE else p0) ** 2
    return (r - p0) / math.sqrt(variance(p0, n) + spread)


def _nothing(fields: Fields) -> Judgement:
    return Judgement(enough=False, fire=False, judgeable=False, clear=False, fields=fields)


def _judge_drop(agent: Agent, k: int, tick: int, known: tuple[Baseline, Fields]) -> Judgement:
    baseline, fields = known
    n, p0 = fields["sample_count"], baseline.p0
    if p0 is None:
        return _nothing(fields)
    fields["threshold"] = 0.95 * p0
    if n == 0:
        return _nothing(fields)
    r = k / n
    fire = r < 0.95 * p0
    if fire:
        z = _z(agent, (AUTOMATED_RATE, "24h", tick), r, p0, n)
        fire = z < -4.4 * baseline.multiplier
    clear = r >= 0.975 * p0
    return Judgement(enough=n >= 50, fire=fire, judgeable=True, clear=clear, fields=fields)


def _judge_errors(
    agent: Agent, k: int, which: tuple[str, int], known: tuple[Baseline, Fields]
) -> Judgement:
    (arm, tick), (baseline, fields) = which, known
    n, p0 = fields["sample_count"], baseline.p0 if baseline.known else None
    factor, z_limit = (2.0, 4.5) if arm == "24h" else (2.2, 4.0)
    limit = 0.015 if p0 is None else max(0.015, factor * p0)
    fields["threshold"] = limit
    if n == 0:
        return _nothing(fields)
    r = k / n
    fire = r > limit and k >= 8 and wilson_lower(k, n, 2.6) > 0.75 * limit
    if fire and p0 is not None:
        fire = _z(agent, (ERROR_RATE, arm, tick), r, p0, n) > z_limit * baseline.multiplier
    clear = r <= 0.7 * limit
    return Judgement(enough=True, fire=fire, judgeable=True, clear=clear, fields=fields)


def _judge_burst(agent: Agent, k: int, tick: int, known: tuple[Baseline, Fields]) -> Judgement:
    baseline, fields = known
    n, p0 = fields["sample_count"], baseline.p0 if baseline.known else None
    limit = 0.30 if p0 is None else max(0.30, 5 * p0)
    fields["threshold"] = limit
    if n == 0:
        return _nothing(fields)
    r = k / n
    resolved = agent.rules[ERROR_RATE].last_resolved
    rested = resolved is None or tick - resolved >= 15 * MIN
    fire = r > limit and k >= 8 and rested
    return Judgement(enough=n >= 20, fire=fire, judgeable=True, clear=r <= 0.05, fields=fields)


def _advance_arm(state: ArmState, arm: Arm, judged: Judgement, tick: int) -> None:
    """Advance one arm at a tick (S7)."""
    if state.phase == FIRING:
        _advance_firing(state, arm, judged, tick)
    elif state.phase == IDLE:
        if judged.enough and judged.fire:
            state.phase, state.since = (PENDING if arm.hold else FIRING), tick
    elif not judged.enough:
        state.since += arm.step
    elif not judged.fire:
        state.phase = IDLE
    elif tick - state.since >= arm.hold:
        state.phase = FIRING


def _advance_firing(state: ArmState, arm: Arm, judged: Judgement, tick: int) -> None:
    if not judged.judgeable:
        if state.clear_since is not None:
            state.clear_since += arm.step
    elif not judged.clear:
        state.clear_since = None
    else:
        if state.clear_since is None:
            state.clear_since = tick
        if tick - state.clear_since >= arm.clear_hold:
            state.phase, state.clear_since = IDLE, None


def evaluate(agent: Agent, rule: str, tick: int, due: list[Arm]) -> list[Step]:
    """Advance the arms that are due at a tick, then the life of the rule (S8)."""
    state, arms = agent.rules[rule], ARMS[rule]
    relearn = state.phase == FIRING and tick - state.fired_at >= 7 * DAY
    if not due and not relearn:
        return []
    before = {name: arm.phase for name, arm in state.arms.items()}
    judged: dict[str, Judgement] = {}
    for arm in due:
        judged[arm.name] = judge(agent, rule, arm, tick)
        _advance_arm(state.arms[arm.name], arm, judged[arm.name], tick)
    if relearn:
        cause = next(arm for arm in arms if before[arm.name] == FIRING)
        fields = (judged.get(cause.name) or judge(agent, rule, cause, tick)).fields
        step = Step("RESOLVED", "REBASELINED", state.started_at, cause.name, fields)
        state.relearned_from = state.started_at // HOUR * HOUR
        state.arms = {arm.name: ArmState() for arm in arms}
        _resolved(agent, state, tick)
        return [step]
    moved = {name: (was, state.arms[name].phase) for name, was in before.items()}
    if FIRING in (after for _, after in moved.values()):
        return _fire(agent, rule, tick, (moved, judged))
    return _rest(agent, rule, tick, (moved, judged))


Moves = tuple[dict[str, tuple[str, str]], dict[str, Judgement]]


def _fire(agent: Agent, rule: str, tick: int, moves: Moves) -> list[Step]:
    """Go on with a rule of which an arm fires after this tick."""
    state, (moved, judged) = agent.rules[rule], moves
    fired = [arm for arm in ARMS[rule] if moved[arm.name][1] == FIRING != moved[arm.name][0]]
    if not fired:
        return []
    fields = judged[fired[0].name].fields
    if state.phase == FIRING:
        return [Step("UPDATED", "ARM_JOINED", state.started_at, fired[0].name, fields)]
    state.started_at = tick if state.phase == IDLE else state.started_at
    state.phase, state.fired_at = FIRING, tick
    agent.taint_changed()
    reason = "FOR_ELAPSED" if fired[0].hold else "AT_ONCE"
    return [Step("FIRING", reason, state.started_at, fired[0].name, fields)]


def _rest(agent: Agent, rule: str, tick: int, moves: Moves) -> list[Step]:
    """Go on with a rule of which no arm fires after this tick."""
    state, (moved, judged) = agent.rules[rule], moves
    steps: list[Step] = []
    if state.phase == FIRING:
        name = next(name for name, move in moved.items() if move == (FIRING, IDLE))
        fields = judged[name].fields
        steps.append(Step("RESOLVED", "CLEAR_ELAPSED", state.started_at, name, fields))
        state.taints.append((state.started_at // HOUR * HOUR, tick // HOUR * HOUR))
        _resolved(agent, state, tick)
    pending = [arm for arm in ARMS[rule] if moved[arm.name][1] == PENDING]
    if pending and state.phase == IDLE:
        fields = (judged.get(pending[0].name) or judge(agent, rule, pending[0], tick)).fields
        state.phase, state.started_at = PENDING, tick
        steps.append(Step("PENDING", "CONDITION_TRUE", tick, pending[0].name, fields))
    elif not pending and state.phase == PENDING:
        name = next(name for name, move in moved.items() if move == (PENDING, IDLE))
        fields = judged[name].fields
        steps.append(Step("CANCELLED", "CONDITION_FALSE", state.started_at, name, fields))
        state.phase = IDLE
    return steps


def _resolved(agent: Agent, state: RuleState, tick: int) -> None:
    state.phase, state.last_resolved = IDLE, tick
    agent.taint_changed()
