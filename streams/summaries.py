"""One plain sentence on a finding, with its numbers: what a person reads first.

Each kind of rule has a way to say what was measured. A rule that is not in the table says its name
and its numbers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from streams.durations import DAY, MINUTE
from streams.reasons import EntityKind, Transition, TransitionReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from streams.findings import Finding

_ARM = re.compile(r"(\d+)([smhd])")
_BEFORE = re.compile(r"(.+), (\d+ \w+) before")
_AT = re.compile(r"(.+) at (\d{12,14})")
_WINDOWS = {"s": "s", "m": "min", "h": "h", "d": "d"}


def summary(finding: Finding) -> str:
    """Return one plain sentence on a finding, with its numbers."""
    said = f"{_subject(finding)}: {_say(finding)}"
    if finding.detail and finding.rule not in _DETAILED:
        said += f"; {finding.detail}"
    if finding.change_ref and finding.transition is not Transition.RESOLVED:
        said += f", {_after(finding.change_ref, finding.starts_at)}"
    return said


def _after(change: str, starts_at: int) -> str:
    """Return how long after a change it started.

    >>> _after("PROMPT v17 to v18, 9 min before", 0)
    '9 min after PROMPT v17 to v18'
    """
    if found := _BEFORE.fullmatch(change):
        return f"{found[2]} after {found[1]}"
    if found := _AT.fullmatch(change):
        minutes = max(0, starts_at - int(found[2])) // MINUTE
        ago = f"{minutes // 60} h" if minutes >= 120 else f"{minutes} min"  # noqa: PLR2004
        return f"{ago} after {found[1]}"
    return f"after {change}"


def _subject(finding: Finding) -> str:
    if finding.entity_kind is EntityKind.PARTITION:
        return f"partition {finding.entity_id}"
    name = finding.entity_id
    if finding.entity_kind is EntityKind.TENANT:
        name = f"tenant {name}"
    elif finding.entity_kind is EntityKind.TASK_TYPE:
        name = f"task type {name}"
    elif finding.entity_kind is EntityKind.FLEET:
        return "the fleet"
    if finding.tenant not in {None, finding.entity_id}:
        name = f"{finding.tenant}/{name}"
    return " ".join(filter(None, (name, finding.operation or finding.task_type)))


def _say(finding: Finding) -> str:
    special = _SPECIAL.get(finding.rule)
    return special(finding) if special else _measured(finding, _measure(finding.rule))


class Measure(NamedTuple):
    """How a rule's value is told.

    Attributes:
        words: what it is; None for the rule's name.
        unit: share, ratio, ms, count, usd, minutes, or number.
        records: what the window holds.
    """

    words: str | None = None
    unit: str = "number"
    records: str = "records"


MEASURES: dict[str, Measure] = {
    "automated-rate": Measure(unit="share", records="tasks"),
    "error-rate": Measure(unit="share", records="tasks"),
    "fleet-automated-rate": Measure("automated rate", "share", "tasks"),
    "fleet-error-rate": Measure("error rate", "share", "tasks"),
    "low-confidence": Measure("share of tasks of low confidence", "share", "tasks"),
    "overrides": Measure("share of decisions overridden", "share", "reviews"),
    "override-pattern": Measure("overrides of one pattern", "count", "overrides"),
    "cost": Measure("cost per task", "usd", "tasks"),
    "price-step": Measure("price", "usd", "tasks"),
    "cost-plan": Measure("cost of the day", "usd", "tasks"),
    "queue": Measure("time to work off the queue", "minutes", "depths"),
    "integration-errors": Measure("error rate", "share", "calls"),
    "integration-error-type": Measure("errors", "count", "errors"),
    "integration-latency": Measure("share of slow calls", "share", "calls"),
}
"""How the value of each rule is told, by rule; others by the end of their name, or plainly."""

_ENDINGS = (
    ("-rate", "share"),
    ("-errors", "share"),
    ("-share", "share"),
    ("-ms", "ms"),
    ("-minutes", "minutes"),
    ("-cost", "usd"),
    ("-usd", "usd"),
)


def _measure(rule: str) -> Measure:
    found = MEASURES.get(rule)
    if found is None:
        unit = next((unit for end, unit in _ENDINGS if rule.endswith(end)), "number")
        found = Measure(unit=unit)
    return found


def _measured(finding: Finding, measure: Measure) -> str:
    name = measure.words or finding.rule.replace("-", " ")
    if finding.kind:
        name = f"{name} ({finding.kind})"
    value = quantity(finding.value, measure.unit)
    over = f" over {_ARM.sub(_window, finding.arm)}" if finding.arm else ""
    behind = f"({_usual(finding, measure.unit)}, {finding.sample_count:,} {measure.records})"
    if finding.arm is None and finding.baseline is None:
        behind = f"({finding.sample_count:,} {measure.records})"
    if finding.reason is TransitionReason.REBASELINED:
        days = (finding.at - finding.starts_at) // DAY
        return f"{name} {value}{over}, taken as the new usual after {days} days {behind}"
    if finding.transition is Transition.RESOLVED:
        return f"{name} back at {value}{over} {behind}"
    return f"{name} {value}{over}, limit {quantity(finding.threshold, measure.unit)} {behind}"


def _window(found: re.Match[str]) -> str:
    return f"{found[1]} {_WINDOWS[found[2]]}"


def _usual(finding: Finding, unit: str) -> str:
    if finding.baseline is None:
        return "no usual rate known yet" if unit == "share" else "no usual value known yet"
    weeks = finding.baseline_weeks
    young = f" from {weeks} week{'s' * (weeks > 1)}" if weeks in {1, 2, 3} else ""
    return f"usual {quantity(finding.baseline, unit)}{young}"


def quantity(value: float, unit: str) -> str:
    """Return a value with its unit, for people.

    >>> quantity(0.041, "share"), quantity(1.26, "ratio"), quantity(95.0, "minutes")
    ('4.1 %', '1.26 times', '1.6 h')
    """
    if unit == "share":
        percent = 100 * value
        text = f"{percent:.1f}" if percent >= 1 else f"{percent:.2f}".rstrip("0").rstrip(".")
        return f"{text} %"
    if unit == "ms":
        return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms"  # noqa: PLR2004
    if unit == "minutes":
        return f"{value / 60:.1f} h" if value >= 90 else f"{value:.0f} min"  # noqa: PLR2004
    if unit == "usd":
        return f"{value:,.2f} USD" if value >= 1 else f"{value:.4f} USD"
    if unit == "ratio":
        return f"{value:.2f} times"
    return f"{value:,.0f}" if unit == "count" else f"{value:,.4g}"


def _security(finding: Finding) -> str:
    count = f"{finding.sample_count:,} security event{'s' * (finding.sample_count > 1)}"
    quiet = finding.transition is Transition.RESOLVED
    return f"{finding.kind}, quiet after {count}" if quiet else f"{finding.kind}, {count} so far"


def _series_limit(finding: Finding) -> str:
    count = f"{finding.sample_count:,} record{'s' * (finding.sample_count > 1)}"
    if finding.transition is Transition.RESOLVED:
        return f"no record refused any more, after {count}"
    return f"{count} refused, its bound of {finding.threshold:,.0f} series is reached"


def _stopped(finding: Finding) -> str:
    again = "goes on again, it had stopped: " if finding.transition is Transition.RESOLVED else ""
    return f"{again}partition stopped, {finding.kind or finding.reason}"


_SILENT = {
    "SOURCE_LATE": "nothing comes from any of its agents: the source is late or down",
    "AGENT_DEAD": "work waits and it finishes none",
    "AGENT_IDLE": "it finishes nothing, and no work is known to wait",
}


def _silence(finding: Finding) -> str:
    kind = finding.kind or str(finding.reason)
    if finding.transition is Transition.RESOLVED:
        return "records come again"
    said = _SILENT.get(kind, "it is silent")
    return f"{said}; {finding.detail}" if finding.detail else said


def _told(finding: Finding) -> str:
    """Tell a finding whose detail says it all."""
    name = finding.rule.replace("-", " ")
    if finding.transition is Transition.RESOLVED:
        return f"{name}, over"
    if finding.detail:
        return f"{name}, {finding.detail}"
    return _measured(finding, _measure(finding.rule))


_SPECIAL: dict[str, Callable[[Finding], str]] = {
    "security": _security,
    "series-limit": _series_limit,
    "partition-stopped": _stopped,
    "silence": _silence,
    "anomalous-output": _told,
    "contract-test": _told,
    "drift": _told,
    "prompt-review": _told,
    "retraining-schedule": _told,
    "threshold-recommendation": _told,
}
"""Rules whose findings are told in their own way."""
_DETAILED = {rule for rule, said in _SPECIAL.items() if said in {_silence, _told}}
