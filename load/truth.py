"""What is put into the demo's traffic, what must be said about it, and whether it was.

Pure: the file is load/demo_truth.json, alerts and retraining requests come as records of their
topics.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

TRUTH = Path(__file__).resolve().parent / "demo_truth.json"
HOUR_MS = 3_600_000


class Mark(NamedTuple):
    """A rule on an entity.

    Attributes:
        rule: name of the rule.
        entity: id of the entity: an agent, an integration, a task type.
        entity_kind: `AGENT`, `INTEGRATION`, `TASK_TYPE`, `TENANT` or `FLEET`.
        parts: what of it: operation, task type and kind, those that are there.
    """

    rule: str
    entity: str
    entity_kind: str = "AGENT"
    parts: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Return the first part of the alert's id: the rule on its entity, for ever the same."""
        text = f"{self.rule}|{self.entity_kind}||{self.entity}|" + "\x1f".join(self.parts)
        return sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Expected:
    """An alert that must come.

    Attributes:
        name: what was done, in words.
        mark: which rule fires on what.
        page: whether it calls a person; None where that depends on which of several alerts of
            one incident comes first.
        start_ms: start of the trouble, ms from the start of the data.
        fires_by_ms: latest event time of its FIRING record, likewise.
        resolved_by_ms: latest event time of its RESOLVED record, likewise; None for one that may
            be open at the end.
        change_ref: words that must be in the change it names, None for any.
    """

    name: str
    mark: Mark
    page: bool | None
    start_ms: int
    fires_by_ms: int
    resolved_by_ms: int | None
    change_ref: str | None = None

    @property
    def fingerprint(self) -> str:
        """Return the first part of the alert's id."""
        return self.mark.fingerprint


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be said about a trouble as well, without calling anybody.

    Attributes:
        rule: name of the rule; for a retraining request its cause.
        entity: id of the entity.
        entity_kind: its kind.
        start_ms, until_ms: when it may begin, ms from the start of the data.
    """

    rule: str
    entity: str
    entity_kind: str
    start_ms: int
    until_ms: int

    def covers(self, rule: str, entity: tuple[str, str], at: int) -> bool:
        """Return whether this is of this rule and (kind, id), and begins in time."""
        same = (rule, *entity) == (self.rule, self.entity_kind, self.entity)
        return same and self.start_ms <= at <= self.until_ms


@dataclass(frozen=True, slots=True)
class Request:
    """A retraining request that must come.

    Attributes:
        name: what was done, in words.
        agent: whom to train.
        cause: why.
        signal: what drifted, one of its signals; None for any.
        start_ms: earliest time, ms from the start of the data.
        by_ms: latest event time of its first record.
    """

    name: str
    agent: str
    cause: str
    signal: str | None
    start_ms: int
    by_ms: int


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth file.

    Attributes:
        days: length of the data.
        troubles: troubles and decoys: where, when and what is changed.
        security: security events: where, when and what.
        changes: what was changed, and when.
        schedules: how often agents are to be trained.
        expected: the alerts that must come, in order of start.
        allowed: what may come as well.
        requests: the retraining requests that must come.
        dead_letters: how many records must be refused, by reason.
    """

    days: int
    troubles: list[dict[str, Any]]
    security: list[dict[str, Any]]
    expected: list[Expected]
    dead_letters: dict[str, int]
    changes: list[dict[str, Any]] = field(default_factory=list)
    schedules: list[dict[str, Any]] = field(default_factory=list)
    allowed: list[Allowed] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)


@dataclass(slots=True)
class Verdict:
    """What was expected and what came.

    Attributes:
        found: expected alerts that fired and were resolved in time, with page as expected, and
            expected retraining requests.
        wrong: a sentence for each that is missing, extra, unresolved, late or repeated.
        waiting: how many expected ones are missing or not resolved yet.
        withheld: pages that were not sent, because another one showed the trouble.
        also: how many came that are allowed.
    """

    found: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    waiting: int = 0
    withheld: int = 0
    also: int = 0


def load(path: Path = TRUTH) -> Truth:
    """Read the truth file.

    Raises:
        FileNotFoundError, ValueError, KeyError: it is not there or not complete.
    """
    raw = json.loads(path.read_text(encoding="utf-8"))
    cases = [*raw["troubles"], *raw["schedules"], *raw["security"]]
    expected = [_expected(case, alert) for case in cases for alert in case.get("alerts", ())]
    days = int(raw["days"])
    return Truth(
        days=days,
        troubles=[*raw["troubles"], *raw["decoys"]],
        security=raw["security"],
        changes=raw["changes"],
        schedules=raw["schedules"],
        expected=sorted(expected, key=lambda one: one.start_ms),
        allowed=[one for case in cases for one in _allowed(case, days)],
        requests=[_request(case, one) for case in cases for one in case.get("requests", ())],
        dead_letters=raw["dead_letters"],
    )


def start_ms(case: Mapping[str, Any]) -> int:
    """Return when a trouble starts, ms from the start of the data; days count from 1."""
    return round(((float(case["day"]) - 1) * 24 + float(case["hour"])) * HOUR_MS)


def end_ms(case: Mapping[str, Any]) -> int:
    """Return when a trouble ends, ms from the start of the data, not included."""
    return start_ms(case) + round(float(case["hours"]) * HOUR_MS)


def compare(
    truth: Truth,
    alerts: Iterable[Mapping[str, Any]],
    origin_ms: int,
    requests: Iterable[Mapping[str, Any]] = (),
) -> Verdict:
    """Compare the records of the alerts and retraining topics, in order, with the truth.

    Args:
        truth: what must come.
        alerts: records of the alerts topic, all of them.
        origin_ms: event time of the start of the data, ms since 1970 UTC.
        requests: records of the retraining topic, all of them.
    """
    verdict = Verdict()
    _compare_alerts(truth, _lives(alerts, "alert_id"), origin_ms, verdict)
    _compare_requests(truth, _lives(requests, "request_id"), origin_ms, verdict)
    return verdict


# -- reading -----------------------------------------------------------------------------------


def _expected(case: Mapping[str, Any], alert: Mapping[str, Any]) -> Expected:
    start = start_ms(case)
    entity, kind = _entity(case, alert)
    security = case.get("kind") if alert["rule"] == "security" else None
    parts = (alert.get("operation"), alert.get("task_type"), alert.get("kind", security))
    resolved = alert["resolved_within_h"]
    return Expected(
        name=case["name"],
        mark=Mark(alert["rule"], entity, kind, tuple(part for part in parts if part)),
        page=alert["page"],
        start_ms=start,
        fires_by_ms=start + round(alert["fires_within_h"] * HOUR_MS),
        resolved_by_ms=None if resolved is None else start + round(resolved * HOUR_MS),
        change_ref=alert.get("change_ref"),
    )


def _allowed(case: Mapping[str, Any], days: int) -> list[Allowed]:
    """Return what may come too, from the start of the trouble to the end of the data."""
    found = []
    for one in case.get("also", ()):
        entity, kind = _entity(case, one)
        until = days * 24 * HOUR_MS
        found.append(Allowed(one["rule"], entity, kind, start_ms(case), until))
    return found


def _entity(case: Mapping[str, Any], said: Mapping[str, Any]) -> tuple[str, str]:
    """Return id and kind of what is said something about: the agent of the trouble by default."""
    if "integration" in said:
        return said["integration"], "INTEGRATION"
    if "entity" in said:
        return said["entity"], said["entity_kind"]
    return said.get("agent", case.get("agent", "")), "AGENT"


def _request(case: Mapping[str, Any], one: Mapping[str, Any]) -> Request:
    start = start_ms(case)
    return Request(
        name=case["name"],
        agent=one.get("agent", case["agent"]),
        cause=one["cause"],
        signal=one.get("signal"),
        start_ms=start,
        by_ms=start + round(one["within_h"] * HOUR_MS),
    )


# -- comparing ---------------------------------------------------------------------------------


def _lives(records: Iterable[Mapping[str, Any]], key: str) -> dict[str, list[Mapping[str, Any]]]:
    lives: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        lives.setdefault(str(record[key]), []).append(record)
    return lives


def _compare_alerts(
    truth: Truth, lives: dict[str, list[Mapping[str, Any]]], origin_ms: int, verdict: Verdict
) -> None:
    for expected in truth.expected:
        alert_id = _match(expected, lives, origin_ms)
        if alert_id is None:
            mark = expected.mark
            verdict.waiting += 1
            verdict.wrong.append(f"missing: {mark.rule} of {mark.entity} ({expected.name})")
            continue
        records = lives.pop(alert_id)
        faults = _faults(expected, records, origin_ms)
        verdict.waiting += _is_open(records) and expected.resolved_by_ms is not None
        verdict.withheld += _withheld(records)
        verdict.wrong += [f"{fault}: {_words(records[0])} ({expected.name})" for fault in faults]
        if not faults:
            verdict.found.append(f"{expected.mark.rule} ({expected.name})")
    for records in lives.values():
        first = records[0]
        entity = str(first["entity_kind"]), str(first["entity_id"])
        at = int(first["starts_at"]) - origin_ms
        paged = any(one["page"] for one in records)
        if not paged and any(one.covers(first["rule"], entity, at) for one in truth.allowed):
            verdict.also += 1
            verdict.withheld += _withheld(records)
        else:
            verdict.wrong.append(f"extra: {_words(first)}{', it paged' if paged else ''}")


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
    # What is withheld from the start to the end never fires.
    begins = status[0] in {"FIRING", "WITHHELD"}
    if not begins or status.count("FIRING") > 1 or status.count("RESOLVED") > 1:
        faults.append(f"odd order {status}")
    if times[0] > expected.fires_by_ms:
        faults.append("fired late")
    if expected.resolved_by_ms is not None:
        if _is_open(records):
            faults.append("unresolved")
        elif times[-1] > expected.resolved_by_ms:
            faults.append("resolved late")
    if expected.page is not None and not _pages(records, expected.page):
        faults.append(f"page is not {expected.page}")
    change = str(records[0].get("change_ref"))
    if expected.change_ref is not None and expected.change_ref not in change:
        faults.append(f"names as change {change}")
    return faults


def _pages(records: Sequence[Mapping[str, Any]], expected: bool) -> bool:
    """Return whether a person was called as expected, or is told why it was not done.

    Days go by in seconds here: an alert may be over before its page has waited for its group.
    """
    paged = any(record["page"] for record in records)
    explained = any(str(record["status"]) == "WITHHELD" for record in records)
    return paged is expected or (expected and explained)


def _compare_requests(
    truth: Truth, lives: dict[str, list[Mapping[str, Any]]], origin_ms: int, verdict: Verdict
) -> None:
    for one in truth.requests:
        found = next((key for key, told in lives.items() if _fits(one, told, origin_ms)), None)
        if found is None:
            verdict.waiting += 1
            verdict.wrong.append(f"missing: request {one.cause} of {one.agent} ({one.name})")
            continue
        del lives[found]
        verdict.found.append(f"request {one.cause} ({one.name})")
    for told in lives.values():
        first = told[0]
        agent, cause = str(first["agent_id"]), str(first["cause"])
        at = int(first["updated_at"]) - origin_ms
        if any(one.covers(cause, ("AGENT", agent), at) for one in truth.allowed):
            verdict.also += 1
        else:
            verdict.wrong.append(f"extra: request {cause} of {agent}, {first['signal']}")


def _fits(one: Request, told: Sequence[Mapping[str, Any]], origin_ms: int) -> bool:
    first = told[0]
    at = int(first["updated_at"]) - origin_ms
    signals = {name for record in told for name in record["signals"]}
    same = (first["agent_id"], first["cause"]) == (one.agent, one.cause)
    in_time = one.start_ms <= at <= one.by_ms
    return same and in_time and (one.signal is None or one.signal in signals)


def _withheld(records: Sequence[Mapping[str, Any]]) -> bool:
    told = any(str(record["status"]) == "WITHHELD" for record in records)
    return told and not any(record["page"] for record in records)


def _is_open(records: Sequence[Mapping[str, Any]]) -> bool:
    return str(records[-1]["status"]) != "RESOLVED"


def _words(record: Mapping[str, Any]) -> str:
    paging = "page" if record["page"] else "no page"
    return f"{record['rule']} of {record['entity_id']}, {paging}, {record['alert_id']}"
