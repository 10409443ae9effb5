"""What is put into the demo's traffic, what must be said about it, and whether it was.

Pure: the file is load/demo_truth.json, alerts come as records of the alerts topic.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TRUTH = Path(__file__).resolve().parent / "demo_truth.json"
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Expected:
    """An alert that must come.

    Attributes:
        name: what was done, in words.
        rule: name of the rule.
        agent: its entity.
        kind: kind of the security event, None for other rules.
        page: whether it calls a person.
        start_ms: start of the trouble, ms from the start of the data.
        fires_by_ms: latest event time of its FIRING record, likewise.
        resolved_by_ms: latest event time of its RESOLVED record, likewise.
    """

    name: str
    rule: str
    agent: str
    kind: str | None
    page: bool
    start_ms: int
    fires_by_ms: int
    resolved_by_ms: int

    @property
    def fingerprint(self) -> str:
        """Return the first part of the alert's id: the rule on its entity, for ever the same."""
        slot = self.kind or ""
        return sha256(f"{self.rule}|AGENT||{self.agent}|{slot}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth file.

    Attributes:
        days: length of the data.
        troubles: troubles and decoys of tasks: where, when and what is changed.
        security: security events: where, when and what.
        expected: the alerts that must come, in order of start.
        dead_letters: how many records must be refused, by reason.
    """

    days: int
    troubles: list[dict[str, Any]]
    security: list[dict[str, Any]]
    expected: list[Expected]
    dead_letters: dict[str, int]


@dataclass(slots=True)
class Verdict:
    """What was expected and what came.

    Attributes:
        found: expected alerts that fired and were resolved in time, with page as expected.
        wrong: a sentence for each alert missing, extra, unresolved, late or repeated.
        waiting: how many expected alerts are missing or not resolved yet.
    """

    found: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    waiting: int = 0


def load(path: Path = TRUTH) -> Truth:
    """Read the truth file.

    Raises:
        FileNotFoundError, ValueError, KeyError: it is not there or not complete.
    """
    raw = json.loads(path.read_text(encoding="utf-8"))
    cases = [*raw["troubles"], *raw["security"]]
    expected = [_expected(case) for case in cases]
    return Truth(
        days=raw["days"],
        troubles=[*raw["troubles"], *raw["decoys"]],
        security=raw["security"],
        expected=sorted(expected, key=lambda one: one.start_ms),
        dead_letters=raw["dead_letters"],
    )


def start_ms(case: Mapping[str, Any]) -> int:
    """Return when a trouble starts, ms from the start of the data; days count from 1."""
    return round(((float(case["day"]) - 1) * 24 + float(case["hour"])) * HOUR_MS)


def end_ms(case: Mapping[str, Any]) -> int:
    """Return when a trouble ends, ms from the start of the data, not included."""
    return start_ms(case) + round(float(case["hours"]) * HOUR_MS)


def compare(truth: Truth, alerts: Iterable[Mapping[str, Any]], origin_ms: int) -> Verdict:
    """Compare the records of the alerts topic, in order, with the truth.

    Args:
        truth: what must come.
        alerts: records of the alerts topic, all of them.
        origin_ms: event time of the start of the data, ms since 1970 UTC.
    """
    verdict = Verdict()
    lives: dict[str, list[Mapping[str, Any]]] = {}
    for record in alerts:
        lives.setdefault(str(record["alert_id"]), []).append(record)
    for expected in truth.expected:
        alert_id = _match(expected, lives, origin_ms)
        if alert_id is None:
            verdict.waiting += 1
            verdict.wrong.append(f"missing: {expected.rule} of {expected.agent} ({expected.name})")
            continue
        records = lives.pop(alert_id)
        faults = _faults(expected, records, origin_ms)
        verdict.waiting += _is_open(records)
        verdict.wrong += [f"{fault}: {_words(records[0])} ({expected.name})" for fault in faults]
        if not faults:
            verdict.found.append(expected.name)
    verdict.wrong += [f"extra: {_words(records[0])}" for records in lives.values()]
    return verdict


def _expected(case: Mapping[str, Any]) -> Expected:
    alert, start = case["alert"], start_ms(case)
    return Expected(
        name=case["name"],
        rule=alert["rule"],
        agent=case["agent"],
        kind=case.get("kind"),
        page=alert["page"],
        start_ms=start,
        fires_by_ms=start + round(alert["fires_within_h"] * HOUR_MS),
        resolved_by_ms=start + round(alert["resolved_within_h"] * HOUR_MS),
    )


def _match(
    expected: Expected, lives: Mapping[str, list[Mapping[str, Any]]], origin_ms: int
) -> str | None:
    """Return the first alert of this rule and entity that began during the trouble."""
    for alert_id, records in lives.items():
        start = int(records[0]["starts_at"]) - origin_ms
        ours = alert_id.startswith(expected.fingerprint)
        if ours and expected.start_ms <= start <= expected.fires_by_ms:
            return alert_id
    return None


def _faults(expected: Expected, records: list[Mapping[str, Any]], origin_ms: int) -> list[str]:
    faults = []
    status = [str(record["status"]) for record in records]
    times = [int(record["updated_at"]) - origin_ms for record in records]
    if status[0] != "FIRING" or status.count("FIRING") != 1 or status.count("RESOLVED") > 1:
        faults.append(f"odd order {status}")
    if times[0] > expected.fires_by_ms:
        faults.append("fired late")
    if _is_open(records):
        faults.append("unresolved")
    elif times[-1] > expected.resolved_by_ms:
        faults.append("resolved late")
    if any(record["page"] is not expected.page for record in records):
        faults.append(f"page is not {expected.page}")
    return faults


def _is_open(records: list[Mapping[str, Any]]) -> bool:
    return str(records[-1]["status"]) != "RESOLVED"


def _words(record: Mapping[str, Any]) -> str:
    paging = "page" if record["page"] else "no page"
    return f"{record['rule']} of {record['entity_id']}, {paging}, {record['alert_id']}"
