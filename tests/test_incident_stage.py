"""The stage incidents: bytes of findings and controls in, bytes of alerts out."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from streams import schemas, state
from streams.batch import FetchedBatch
from streams.catalog import SchemaCatalog
from streams.events import Control
from streams.incident_stage import FindingDesk, IncidentsCore
from streams.rules import RuleSet
from streams.settings import Settings
from tests.incident_rig import AT, agent, control

if TYPE_CHECKING:
    from streams.epoch import OutRecord
    from streams.findings import Finding
    from streams.state import Stored

SETTINGS = Settings()
FINDINGS, CONTROLS = "agentops.findings", "agentops.controls"


def core(desk: FindingDesk | None = None) -> IncidentsCore:
    return IncidentsCore(SETTINGS, RuleSet.default(), 0, SchemaCatalog(SETTINGS), desk)


def batch(*events: Finding | Control, junk: bytes | None = None) -> FetchedBatch:
    controls = any(isinstance(one, Control) for one in events)
    values = [
        schemas.encode("Control", asdict(one))
        if isinstance(one, Control)
        else schemas.encode("Finding", one.to_record())
        for one in events
    ]
    values += [] if junk is None else [junk]
    keys = [one.control_id.encode() if isinstance(one, Control) else b"k" for one in events]
    count = len(values)
    return FetchedBatch(
        topic=CONTROLS if controls else FINDINGS,
        partition=0,
        incarnation=1,
        fetch_from=0,
        next_offset=count,
        offsets=np.arange(count),
        timestamps=np.full(count, AT + 3_600_000),
        keys=[*keys, b"junk"][:count],
        values=values,
        headers=[()] * count,
        fetched_at=AT / 1000,
    )


def written(one: IncidentsCore) -> dict[str, list[tuple[bytes | None, bytes | None]]]:
    found: dict[str, list[tuple[bytes | None, bytes | None]]] = {}
    for record in one.drain()[0]:
        found.setdefault(record.topic, []).append((record.key, record.value))
    return found


def status(value: bytes | None) -> str:
    assert value is not None
    return str(schemas.decode(value)[1]["status"])


def test_each_step_is_an_alert_and_the_newest_of_each_open_one_can_be_read_whole() -> None:
    one = core()
    one.fold(batch(agent("a"), agent("a", "UPDATED", since=0, at=2)))
    assert one.urgent
    found = written(one)
    alert = agent("a").alert_id.encode()
    assert [(key, status(value)) for key, value in found["agentops.alerts"]] == [
        (alert, "FIRING"),
        (alert, "UPDATED"),
    ]
    assert found["agentops.open-alerts"] == found["agentops.alerts"][1:]
    one.fold(batch(agent("a", "RESOLVED", since=0, at=3)))
    assert written(one)["agentops.open-alerts"] == [(alert, None)]
    assert not one.dirty


def test_controls_are_read_from_their_own_topic() -> None:
    one = core()
    one.fold(batch(control("SILENCE", until_at=60)))
    one.fold(batch(agent("a", at=1)))
    ((_, value),) = written(one)["agentops.alerts"]
    assert status(value) == "WITHHELD"


def test_findings_wait_until_the_controls_are_read_to_their_end() -> None:
    one, findings = core(), batch(agent("a"))
    assert not one.ready(findings, {FINDINGS: 1.0})
    assert one.ready(findings, {CONTROLS: 1.0})
    assert one.ready(batch(control("EXPIRE")), {})


def test_what_cannot_be_read_is_set_aside() -> None:
    one = core()
    one.fold(batch(agent("a"), junk=b"junk"))
    one.fold(batch(control("EXPIRE"), junk=b""))
    assert len(written(one)["agentops.dead-letters"]) == 2


def test_when_nothing_comes_the_clock_follows_the_wall() -> None:
    one = core()
    one.fold(batch(agent("a")))
    written(one)
    ends, later = {FINDINGS: 1.0, CONTROLS: 1.0}, AT / 1000 + 3600 + 45
    one.settle({FINDINGS: 1.0}, later)
    assert not one.urgent
    one.settle(ends, later)
    ((_, value),) = written(one)["agentops.alerts"]
    assert value is not None
    assert schemas.decode(value)[1]["page"] is True


def test_a_stored_state_is_taken_over() -> None:
    first, second = core(), core()
    first.fold(batch(agent("a")))
    changes = first.drain()[1]
    second.restore({key: value for key, value in changes if value is not None})
    for one in (first, second):
        one.fold(batch(agent("a", "RESOLVED", since=0, at=50)))
    assert first.drain() == second.drain()


class Echo:
    """A desk that asks for a retraining at each finding."""

    def __init__(self) -> None:
        self.restored: list[bytes] = []

    def fold(self, finding: Finding) -> list[dict[str, Any]]:
        names = [field["name"] for field in schemas.schema("RetrainingRequest")["fields"]]
        values = dict.fromkeys(names, None) | {"request_id": finding.alert_id, "magnitude": 1.0}
        values |= dict.fromkeys(("agent_id", "reason", "signal", "summary"), "x")
        values |= {"cause": "SCHEDULE", "action": "PROMPT", "status": "REQUESTED"}
        values |= {"direction": "UP", "signals": [], "members": [], "priority": 1.0}
        values |= {"reference_count": 0, "current_count": 0, "evidence_partition": 0}
        values |= {"evidence_topic": "t", "first_offset": 0, "last_offset": 0}
        return [values | {"first_seen_at": finding.at, "updated_at": finding.at}]

    def changes(self) -> list[tuple[bytes, bytes | None]]:
        return [(b"mine", state.encode("LimitState", LIMIT))]

    def restore(self, stored: Stored) -> bool:
        self.restored += [stored.key] * (stored.key == b"mine")
        return stored.key == b"mine"

    def settle(self) -> None:
        self.restored.append(b"settled")


LIMIT = dict.fromkeys(("started_at", "last_seen", "events", "last_offset"), 0)


def test_a_desk_sees_every_finding_and_keeps_its_own_state() -> None:
    desk = Echo()
    one = core(desk)
    one.fold(batch(agent("a")))
    records, changes = one.drain()
    requests = [record for record in records if record.topic == "agentops.retraining"]
    assert [key_of(record) for record in requests] == [agent("a").alert_id]
    core(desk).restore({key: value for key, value in changes if value is not None})
    assert desk.restored == [b"mine", b"settled"]


def key_of(record: OutRecord) -> str:
    return (record.key or b"").decode()
