"""The stored state of the incidents: all of it, in records of known kinds."""

from __future__ import annotations

import pytest

from streams import schemas, state
from streams.incidents import Incidents
from tests.incident_rig import Rig, agent, control, integration

KINDS = {"OpenAlert", "IncidentState", "PendingCause", "ControlState", "IncidentsClock"}


def full() -> Rig:
    rig = Rig()
    rig.play(
        control("SILENCE", at=0, until_at=9000, match_entity_id="b"),
        integration("PENDING", who="mail", at=0),
        integration(at=1),
        agent("a", at=2),
        agent("b", at=2),
        control("EXPIRE", at=5000),
    )
    return rig


def test_each_kind_of_record_is_stored() -> None:
    assert {one.kind for one in state.decode(full().state.items())} == KINDS


def test_what_was_restored_is_stored_no_second_time() -> None:
    rig = full()
    incidents = Incidents()
    incidents.restore(rig.state.items())
    assert not incidents.dirty
    assert incidents.drain() == ([], [])


def test_records_come_in_any_order() -> None:
    rig, other = full(), full()
    other.state = dict(reversed(other.state.items()))
    other.restart()
    for each in (rig, other):
        each.play(integration("RESOLVED", since=1, at=100), agent("c", at=120))
        each.until(10_000)
    assert rig.alerts == other.alerts


def test_a_record_of_another_version_is_refused() -> None:
    key, value = next(iter(full().state.items()))
    (stored,) = state.decode([(key, value)])
    newer = schemas.encode(stored.kind, stored.fields | {"version": 99})
    with pytest.raises(ValueError, match="99"):
        Incidents().restore([(key, newer)])
