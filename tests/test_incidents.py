"""Incidents: which findings become alerts, what the alerts say, and that open ones are known."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from streams import schemas
from streams.durations import DAY, HOUR
from streams.findings import Entity, Evidence, Finding, Sample, rate_finding
from streams.incidents import Alert, Incidents, Outcome, summary
from streams.lives import Step
from streams.reasons import EntityKind, Severity, Transition, TransitionReason
from streams.rules import RuleSet

DROP, ERRORS = RuleSet.default().rates
AT = 480_000 * HOUR
SAMPLE = Sample(2310, 95, 0.015, 0.005, 4, AT - HOUR, AT)
EVIDENCE = Evidence("agentops.tasks", 2, 100, 900)


def finding(
    transition: str = "FIRING",
    reason: str = "FOR_ELAPSED",
    at: int = AT,
    sample: Sample = SAMPLE,
    arm: int = 1,
) -> Finding:
    step = Step(0, arm, 0, at, Transition(transition), TransitionReason(reason), AT)
    return rate_finding(ERRORS, step, Entity(None, "claims-agent"), sample, EVIDENCE)


def fold(*findings: Finding) -> list[Alert]:
    incidents = Incidents()
    incidents.fold(findings)
    return incidents.drain()[0]


LIFE = (
    finding("PENDING", "CONDITION_TRUE"),
    finding("FIRING", "FOR_ELAPSED", AT + 2),
    finding("UPDATED", "ARM_JOINED", AT + 3),
    finding("RESOLVED", "CLEAR_ELAPSED", AT + 4),
)


def test_each_step_that_concerns_anyone_is_one_alert_record_in_order() -> None:
    alerts = fold(*LIFE)
    assert [str(alert.status) for alert in alerts] == ["FIRING", "UPDATED", "RESOLVED"]
    assert [alert.members for alert in alerts] == [[one.finding_id] for one in LIFE[1:]]
    assert len({alert.alert_id for alert in alerts}) == 1


@pytest.mark.parametrize("step", [("PENDING", "CONDITION_TRUE"), ("CANCELLED", "CONDITION_FALSE")])
def test_pending_and_cancelled_concern_nobody(step: tuple[str, str]) -> None:
    assert fold(finding(*step)) == []


def test_an_alert_carries_what_its_finding_says() -> None:
    (alert,) = fold(finding())
    assert (alert.severity, alert.page, alert.reason) == ("HIGH", True, "FOR_ELAPSED")
    assert (alert.value, alert.threshold, alert.baseline) == (95 / 2310, 0.015, 0.005)
    assert (alert.affected, alert.sample_count) == (["claims-agent"], 2310)
    assert (alert.evidence_topic, alert.evidence_partition) == ("agentops.tasks", 2)
    assert (alert.first_offset, alert.last_offset) == (100, 900)
    assert alert.incident_id == alert.alert_id


def test_an_alert_ends_when_it_is_resolved() -> None:
    assert [alert.ends_at for alert in fold(*LIFE)] == [None, None, AT + 4]


def test_a_resolve_of_what_is_not_open_is_dropped_and_counted() -> None:
    incidents = Incidents()
    incidents.fold([LIFE[3]])
    assert incidents.drain() == ([], [])
    assert incidents.outcomes[Outcome.NOT_OPEN] == 1


def test_an_update_of_what_is_not_open_still_reaches_a_person() -> None:
    assert [alert.page for alert in fold(LIFE[2], LIFE[3])] == [True, True]


def test_every_outcome_is_counted_from_the_start() -> None:
    incidents = Incidents()
    assert incidents.outcomes == dict.fromkeys(Outcome, 0)
    incidents.fold(LIFE)
    assert [incidents.outcomes[one] for one in Outcome] == [1, 1, 1, 1, 0]


def test_an_alert_has_exactly_the_fields_of_its_schema_in_their_order() -> None:
    names = [field["name"] for field in schemas.schema("Alert")["fields"]]
    assert [field.name for field in fields(Alert)] == names


def test_an_alert_survives_avro() -> None:
    for alert in fold(*LIFE):
        name, record = schemas.decode(schemas.encode("Alert", alert.to_record()))
        assert (name, record) == ("Alert", alert.to_record())


def test_a_resolved_alert_leaves_a_tombstone() -> None:
    incidents = Incidents()
    incidents.fold(LIFE[:3])
    ((key, value),) = incidents.drain()[1]
    assert key == f"alert/{LIFE[0].alert_id}".encode()
    assert value is not None
    incidents.fold(LIFE[3:])
    assert incidents.drain()[1] == [(key, None)]
    assert len(incidents) == 0


def test_a_restored_incidents_knows_what_is_open() -> None:
    first, second = Incidents(), Incidents()
    first.fold(LIFE[:2])
    second.restore((key, value) for key, value in first.drain()[1] if value is not None)
    for incidents in (first, second):
        incidents.fold(LIFE[2:])
    assert first.drain() == second.drain()


def test_a_state_record_of_another_kind_is_refused() -> None:
    value = schemas.encode("Finding", finding().to_record())
    with pytest.raises(ValueError, match="holds Finding"):
        Incidents().restore([(b"alert/x", value)])


def test_what_was_drained_does_not_come_again() -> None:
    incidents = Incidents()
    incidents.fold(LIFE)
    incidents.drain()
    assert incidents.drain() == ([], [])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            finding(),
            "claims-agent: error rate 4.1 % over 1 h, limit 1.5 % (usual 0.5 %, 2,310 tasks)",
        ),
        (
            finding(arm=2, sample=SAMPLE._replace(n=40, k=20, limit=0.3, baseline=None, weeks=0)),
            (
                "claims-agent: error rate 50.0 % over 5 min, limit 30.0 % "
                "(no usual rate known yet, 40 tasks)"
            ),
        ),
        (
            finding(sample=SAMPLE._replace(weeks=2)),
            (
                "claims-agent: error rate 4.1 % over 1 h, limit 1.5 % (usual 0.5 % from 2 weeks, "
                "2,310 tasks)"
            ),
        ),
        (
            finding("RESOLVED", "CLEAR_ELAPSED", sample=SAMPLE._replace(k=1)),
            "claims-agent: error rate back at 0.04 % over 1 h (usual 0.5 %, 2,310 tasks)",
        ),
        (
            finding("RESOLVED", "REBASELINED", AT + 7 * DAY),
            (
                "claims-agent: error rate 4.1 % over 1 h, taken as the new usual after 7 days "
                "(usual 0.5 %, 2,310 tasks)"
            ),
        ),
        (
            Finding.partition_stopped(3, "STATE_MISSING", AT),
            "partition 3: partition stopped, STATE_MISSING",
        ),
    ],
)
def test_a_summary_is_one_sentence_with_the_numbers(given: Finding, expected: str) -> None:
    assert summary(given) == expected


def quiet(rule: str, transition: str, **given: object) -> Finding:
    base = replace(finding(transition, "QUIET"), rule=rule, arm=None)
    return replace(base, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("transition", "count", "expected"),
    [
        ("FIRING", 1, "acme/claims-agent: OTHER, 1 security event so far"),
        ("UPDATED", 3, "acme/claims-agent: OTHER, 3 security events so far"),
        ("RESOLVED", 3, "acme/claims-agent: OTHER, quiet after 3 security events"),
    ],
)
def test_a_summary_of_security_names_agent_kind_and_count(
    transition: str, count: int, expected: str
) -> None:
    given = quiet("security", transition, tenant="acme", kind="OTHER", sample_count=count)
    assert summary(given) == expected


@pytest.mark.parametrize(
    ("transition", "expected"),
    [
        ("FIRING", "partition 3: 17 records refused, its bound of 20,000 series is reached"),
        ("RESOLVED", "partition 3: no record refused any more, after 17 records"),
    ],
)
def test_a_summary_of_the_series_limit_names_partition_and_bound(
    transition: str, expected: str
) -> None:
    given = quiet(
        "series-limit",
        transition,
        entity_kind=EntityKind.PARTITION,
        entity_id="3",
        sample_count=17,
        threshold=20_000.0,
        severity=Severity.WARNING,
    )
    assert summary(given) == expected
