"""The alert record: what it takes from its finding."""

from __future__ import annotations

from dataclasses import fields

import pytest

from streams import schemas
from streams.alerts import Alert
from streams.reasons import AlertReason, AlertStatus, TransitionReason
from tests.incident_rig import AT, agent


def test_an_alert_has_exactly_the_fields_of_its_schema_in_their_order() -> None:
    names = [field["name"] for field in schemas.schema("Alert")["fields"]]
    assert [field.name for field in fields(Alert)] == names


def test_an_alert_carries_what_its_finding_says() -> None:
    given = agent("a", operation="post", task_type="t", detail="d", change_ref="c", kind="k")
    alert = Alert.of(given)
    for name in ("severity", "rule", "value", "operation", "task_type", "detail", "change_ref"):
        assert getattr(alert, name) == getattr(given, name)
    assert (alert.status, alert.reason, alert.page) == ("FIRING", "AT_ONCE", True)
    assert (alert.members, alert.affected, alert.signals) == (
        [given.finding_id],
        ["a"],
        [given.rule],
    )
    assert alert.incident_id == alert.alert_id


def test_an_alert_ends_when_it_is_resolved() -> None:
    ended = Alert.of(agent("a", "RESOLVED", since=0, at=4))
    assert (ended.ends_at, Alert.of(agent("a")).ends_at) == (AT + 4000, None)


def test_what_is_given_goes_before_what_the_finding_says() -> None:
    alert = Alert.of(
        agent("a"), status=AlertStatus.WITHHELD, reason=AlertReason.SILENCED, page=False
    )
    assert (alert.status, alert.reason, alert.page) == ("WITHHELD", "SILENCED", False)


def test_a_pending_finding_is_no_alert_by_itself() -> None:
    with pytest.raises(KeyError, match="PENDING"):
        Alert.of(agent("a", "PENDING"))


def test_an_alert_survives_avro() -> None:
    for step in ("FIRING", "UPDATED", "RESOLVED"):
        record = Alert.of(agent("a", step)).to_record()
        assert schemas.decode(schemas.encode("Alert", record)) == ("Alert", record)


def test_an_alert_knows_every_reason_of_a_finding() -> None:
    assert {str(one) for one in TransitionReason} < {str(one) for one in AlertReason}
    symbols = next(one for one in schemas.schema("Alert")["fields"] if one["name"] == "reason")
    assert symbols["type"]["symbols"] == ["UNKNOWN", *AlertReason]
