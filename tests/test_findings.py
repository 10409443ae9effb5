"""Findings: their ids, their Avro record, and what a step of a rate rule becomes."""

from __future__ import annotations

import doctest
import hashlib
from dataclasses import fields, replace

import pytest

from streams import findings, schemas
from streams.durations import HOUR
from streams.findings import Entity, Evidence, Finding, Sample, fingerprint, rate_finding
from streams.lives import Step
from streams.reasons import EntityKind, Transition, TransitionReason
from streams.rules import RuleSet
from streams.stats import wilson_lower, wilson_upper

RULE = RuleSet.default().rates[1]
AT = 480_000 * HOUR
STEP = Step(4, 1, 0, AT, Transition.FIRING, TransitionReason.FOR_ELAPSED, AT - HOUR)
SAMPLE = Sample(2310, 95, 0.015, 0.005, 4, AT - HOUR, AT)
EVIDENCE = Evidence("agentops.tasks", 2, 100, 900)
ENTITY = Entity("acme", "claims-agent")


def finding(step: Step = STEP, sample: Sample = SAMPLE) -> Finding:
    return rate_finding(RULE, step, ENTITY, sample, EVIDENCE)


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(findings).failed == 0


def test_a_finding_has_exactly_the_fields_of_its_schema_in_their_order() -> None:
    names = [field["name"] for field in schemas.schema("Finding")["fields"]]
    assert [field.name for field in fields(Finding)] == names


def test_a_finding_survives_avro() -> None:
    name, record = schemas.decode(schemas.encode("Finding", finding().to_record()))
    assert name == "Finding"
    assert Finding.from_record(record) == finding()


def test_a_symbol_of_a_newer_writer_is_refused() -> None:
    with pytest.raises(ValueError, match="UNKNOWN"):
        Finding.from_record(finding().to_record() | {"transition": "UNKNOWN"})


def test_a_fingerprint_is_of_rule_kind_tenant_entity_and_part() -> None:
    text = b"security|AGENT|acme|claims-agent|OTHER"
    found = fingerprint("security", EntityKind.AGENT, ENTITY, "OTHER")
    assert found == hashlib.sha256(text).hexdigest()[:16]


def test_ids_are_made_of_fingerprint_start_transition_and_time() -> None:
    mark = fingerprint("error-rate", EntityKind.AGENT, ENTITY)
    assert finding().alert_id == f"{mark}-{AT - HOUR}"
    assert finding().finding_id == f"{mark}-{AT - HOUR}-firing-{AT}"


@pytest.mark.parametrize(
    ("transition", "page"),
    [
        ("PENDING", False),
        ("FIRING", True),
        ("UPDATED", True),
        ("RESOLVED", True),
        ("CANCELLED", False),
    ],
)
def test_what_is_pending_or_cancelled_pages_nobody(transition: str, page: bool) -> None:
    assert finding(replace(STEP, transition=Transition(transition))).page is page


def test_the_value_is_a_rate_within_its_interval() -> None:
    found = finding()
    assert found.value == 95 / 2310
    assert found.interval_low == wilson_lower(95, 2310, 1.96)
    assert found.interval_high == wilson_upper(95, 2310, 1.96)
    assert (found.threshold, found.baseline, found.baseline_weeks) == (0.015, 0.005, 4)


def test_a_window_without_tasks_has_no_interval() -> None:
    found = finding(sample=SAMPLE._replace(n=0, k=0))
    assert (found.value, found.interval_low, found.interval_high) == (0.0, None, None)


def test_a_finding_names_its_arm_entity_and_evidence() -> None:
    found = finding()
    assert (found.rule, found.arm, found.rule_version) == ("error-rate", "1h", 1)
    assert (found.tenant, found.entity_id, found.entity_kind) == ("acme", "claims-agent", "AGENT")
    assert (found.evidence_topic, found.evidence_partition) == ("agentops.tasks", 2)
    assert (found.first_offset, found.last_offset) == (100, 900)
    assert (found.window_start, found.window_end) == (AT - HOUR, AT)


def test_another_reason_changes_nothing_else() -> None:
    idle = finding().because(TransitionReason.IDLE)
    assert idle.because(TransitionReason.FOR_ELAPSED) == finding()
    assert idle.reason is TransitionReason.IDLE


def test_a_stopped_partition_calls_a_person_and_says_why() -> None:
    found = Finding.partition_stopped(3, "STATE_MISSING", AT)
    assert (found.page, found.severity, found.kind) == (True, "CRITICAL", "STATE_MISSING")
    assert Finding.from_record(found.to_record()) == found
