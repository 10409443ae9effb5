"""The one sentence on a finding."""

from __future__ import annotations

import doctest
from dataclasses import replace
from typing import Any

import pytest

from streams import summaries
from streams.durations import DAY, HOUR
from streams.findings import Entity, Evidence, Finding, Sample, rate_finding
from streams.lives import Step
from streams.reasons import EntityKind, Severity, Transition, TransitionReason
from streams.rules import RuleSet
from streams.summaries import summary
from tests import incident_rig

DROP, ERRORS = RuleSet.default().rates[:2]
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


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(summaries).failed == 0


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


MEASURED: dict[str, Any] = {
    "value": 0.031,
    "threshold": 0.01,
    "baseline": 0.001,
    "arm": "5m",
    "sample_count": 900,
}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            incident_rig.integration(operation="post", tenant="acme", **MEASURED),
            ("acme/ledger post: error rate 3.1 % over 5 min, limit 1.0 % (usual 0.1 %, 900 calls)"),
        ),
        (
            incident_rig.finding(
                "fleet", "queue", entity_kind="FLEET", value=1200.0, threshold=900.0
            ),
            "the fleet: time to work off the queue 20.0 h, limit 15.0 h (40 depths)",
        ),
        (
            incident_rig.finding("invoices", "new-rule", entity_kind="TASK_TYPE", value=3.25),
            "task type invoices: new rule 3.25, limit 0.3 (40 records)",
        ),
        (
            incident_rig.finding("acme", "overrides", entity_kind="TENANT", tenant="acme"),
            "tenant acme: share of decisions overridden 50.0 %, limit 30.0 % (40 reviews)",
        ),
        (
            incident_rig.finding("a", "drift", kind="confidence", detail="confidence down by 3"),
            "a: drift, confidence down by 3",
        ),
        (incident_rig.finding("a", "drift", "RESOLVED", detail="x"), "a: drift, over"),
        (
            incident_rig.finding("a", "silence", kind="AGENT_DEAD", detail="17 wait"),
            "a: work waits and it finishes none; 17 wait",
        ),
        (
            incident_rig.finding("0", "silence", kind="SOURCE_LATE", entity_kind="PARTITION"),
            "partition 0: nothing comes from any of its agents: the source is late or down",
        ),
        (
            incident_rig.finding("a", "silence", "RESOLVED", kind="AGENT_IDLE"),
            "a: records come again",
        ),
    ],
)
def test_each_kind_of_rule_and_entity_has_its_words(given: Finding, expected: str) -> None:
    assert summary(given) == expected


def test_detail_and_the_change_before_it_are_told() -> None:
    given = incident_rig.finding(
        "a",
        "cost",
        value=0.02,
        detail="+31 % of it price",
        change_ref="PROMPT v17 to v18, 9 min before",
    )
    assert summary(given).endswith("; +31 % of it price, 9 min after PROMPT v17 to v18")
    dated = replace(given, change_ref=f"PROMPT v17 to v18 at {given.starts_at - 180_000}")
    assert summary(dated).endswith(", 3 min after PROMPT v17 to v18")
    assert "PROMPT" not in summary(replace(given, transition=Transition.RESOLVED))
