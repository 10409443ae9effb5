"""Security events and refused series: what opens, what pages, what goes quiet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.alerts import Alert
from streams.columns import SecurityEvent
from streams.durations import DAY, HOUR, MINUTE
from streams.rules import RuleSet
from streams.security import SecurityLives, SeriesLimitLife

if TYPE_CHECKING:
    from streams.findings import Finding

RULES = RuleSet.default()
START = 480_000 * HOUR + 10 * MINUTE


def event(at: int = START, **given: Any) -> SecurityEvent:
    values: dict[str, Any] = {
        "event_id": "e",
        "occurred_at": at,
        "tenant": None,
        "agent_id": "claims-agent",
        "kind": "INJECTION_ATTEMPT",
        "severity": "LOW",
        "blocked": True,
    }
    return SecurityEvent(**values | given)


def fresh() -> SecurityLives:
    return SecurityLives(RULES.security, "agentops.security", 3)


def handle(lives: SecurityLives, *events: SecurityEvent) -> list[Finding]:
    """Handle events in log order, the clock being the latest event time."""
    found: list[Finding] = []
    clock = 0
    for offset, one in enumerate(events):
        clock = max(clock, one.occurred_at)
        found += lives.handle(one, clock, offset)
    return found


def steps(findings: list[Finding]) -> list[tuple[str, str, int]]:
    return [(str(f.transition), str(f.reason), f.at) for f in findings]


def test_every_event_is_a_finding_the_first_fires_the_next_update() -> None:
    found = handle(fresh(), event(START), event(START + 5), event(START + 3))
    assert steps(found) == [
        ("FIRING", "SECURITY_EVENT", START),
        ("UPDATED", "SECURITY_EVENT", START + 5),
        ("UPDATED", "SECURITY_EVENT", START + 3),
    ]
    assert [f.value for f in found] == [1, 2, 3]
    assert {f.starts_at for f in found} == {START}


@pytest.mark.parametrize(
    ("given", "page", "severity"),
    [
        ({"severity": "LOW"}, False, "INFO"),
        ({"severity": "MEDIUM"}, False, "INFO"),
        ({"severity": "HIGH"}, True, "HIGH"),
        ({"severity": "CRITICAL"}, True, "CRITICAL"),
        ({"severity": "LOW", "blocked": False}, True, "WARNING"),
        ({"severity": "MEDIUM", "blocked": False}, True, "WARNING"),
        ({"severity": "CRITICAL", "blocked": False}, True, "CRITICAL"),
        ({"kind": "TRUST_TIER_VIOLATION", "severity": "LOW"}, True, "WARNING"),
        ({"kind": "ANOMALOUS_OUTPUT", "severity": "MEDIUM"}, False, "INFO"),
        ({"kind": "OTHER", "severity": "LOW"}, False, "INFO"),
    ],
)
def test_an_event_pages_by_kind_severity_or_not_being_blocked(
    given: dict[str, Any], page: bool, severity: str
) -> None:
    (finding,) = handle(fresh(), event(**given))
    assert (finding.page, finding.severity) == (page, severity)


def test_four_small_events_within_an_hour_page() -> None:
    times = [START, START + 1, START + 2, START + HOUR - 1]
    found = handle(fresh(), *(event(at) for at in times))
    assert [f.page for f in found] == [False, False, False, True]
    assert found[-1].severity == "WARNING"


def test_four_small_events_over_a_whole_hour_do_not() -> None:
    times = [START, START + 1, START + 2, START + HOUR]
    assert not any(f.page for f in handle(fresh(), *(event(at) for at in times)))


def test_later_events_do_not_count_for_an_earlier_one() -> None:
    times = [START + 9, START + 9, START + 9, START]
    assert not any(f.page for f in handle(fresh(), *(event(at) for at in times)))


def test_only_the_last_four_small_events_are_looked_at() -> None:
    times = [START + MINUTE] * 3 + [START + 3 * HOUR] * 2 + [START + 2 * MINUTE]
    assert not any(f.page for f in handle(fresh(), *(event(at) for at in times)))


def test_small_events_of_both_severities_count_together() -> None:
    found = handle(fresh(), *(event(severity=s) for s in ("LOW", "MEDIUM", "LOW", "MEDIUM")))
    assert [f.page for f in found] == [False, False, False, True]


@pytest.mark.parametrize("other", [{"kind": "OTHER"}, {"agent_id": "b"}, {"tenant": "acme"}])
def test_events_of_another_kind_agent_or_tenant_are_another_life(other: dict[str, Any]) -> None:
    found = handle(fresh(), *[event()] * 3, event(**other), event(**other))
    assert [str(f.transition) for f in found] == ["FIRING"] + ["UPDATED"] * 2 + [
        "FIRING",
        "UPDATED",
    ]
    assert len({f.fingerprint for f in found}) == 2
    assert not any(f.page for f in found)


def test_a_page_sticks_with_the_highest_severity_while_the_alert_is_open() -> None:
    severities = ("HIGH", "LOW", "CRITICAL", "HIGH", "MEDIUM")
    found = handle(fresh(), *(event(severity=one) for one in severities))
    assert [(f.page, str(f.severity)) for f in found] == [
        (True, "HIGH"),
        (True, "HIGH"),
        (True, "CRITICAL"),
        (True, "CRITICAL"),
        (True, "CRITICAL"),
    ]


def test_six_quiet_hours_resolve_at_their_end() -> None:
    lives = fresh()
    handle(lives, event(START), event(START + MINUTE))
    assert lives.quiet(START + MINUTE + 6 * HOUR - 1) == []
    (finding,) = lives.quiet(START + MINUTE + 6 * HOUR)
    assert steps([finding]) == [("RESOLVED", "QUIET", START + MINUTE + 6 * HOUR)]
    assert (finding.value, finding.starts_at) == (2, START)
    assert lives.quiet(START + DAY) == []


def test_a_resolve_carries_the_page_of_its_life() -> None:
    lives = fresh()
    handle(lives, event(severity="HIGH"))
    (finding,) = lives.quiet(START + DAY)
    assert (finding.page, finding.severity) == (True, "HIGH")


def test_a_page_does_not_stick_to_the_next_life() -> None:
    found = handle(fresh(), event(severity="HIGH"), event(START + 7 * HOUR))
    assert steps(found)[1:] == [
        ("RESOLVED", "QUIET", START + 6 * HOUR),
        ("FIRING", "SECURITY_EVENT", START + 7 * HOUR),
    ]
    assert (found[-1].page, found[-1].value) == (False, 1)


def test_lives_resolve_in_the_order_in_which_they_fall_due() -> None:
    lives = fresh()
    handle(lives, event(START + 2, agent_id="a"), event(START, agent_id="b"), event(START + 1))
    assert [f.at - START - 6 * HOUR for f in lives.quiet(START + DAY)] == [0, 1, 2]


def test_lives_due_at_once_resolve_in_the_order_of_their_fingerprints() -> None:
    lives = fresh()
    handle(lives, *(event(agent_id=name) for name in "abcdefgh"))
    marks = [f.fingerprint for f in lives.quiet(START + DAY)]
    assert len(marks) == 8
    assert marks == sorted(marks)


def test_an_earlier_event_does_not_shorten_the_quiet() -> None:
    lives = fresh()
    handle(lives, event(START + HOUR), event(START))
    assert lives.quiet(START + 7 * HOUR - 1) == []


def test_findings_of_one_moment_have_different_ids() -> None:
    found = handle(fresh(), event(), event(), event())
    assert len({f.finding_id for f in found}) == 3
    assert found[1].finding_id == f"{found[0].alert_id}-updated-{START}-1"


def test_a_resolve_has_an_id_without_an_offset() -> None:
    lives = fresh()
    handle(lives, event())
    (finding,) = lives.quiet(START + DAY)
    assert finding.finding_id == f"{finding.alert_id}-resolved-{START + 6 * HOUR}"


def test_the_evidence_is_the_event() -> None:
    finding = handle(fresh(), event(), event())[1]
    assert (finding.evidence_topic, finding.evidence_partition) == ("agentops.security", 3)
    assert (finding.first_offset, finding.last_offset) == (1, 1)
    assert (finding.rule, finding.kind, finding.threshold) == ("security", "INJECTION_ATTEMPT", 1)


def test_a_finding_carries_the_trace_of_the_event_that_caused_it_and_so_does_its_alert() -> None:
    lives = fresh()
    first, second = handle(lives, event(trace_id="a" * 32), event(START + 1))
    (resolved,) = lives.quiet(START + DAY)
    assert (first.trace_id, second.trace_id, resolved.trace_id) == ("a" * 32, None, None)
    assert Alert.of(first).to_record()["trace_id"] == "a" * 32


def test_a_closed_life_is_known_while_its_events_may_still_count() -> None:
    lives = fresh()
    handle(lives, event())
    lives.quiet(START + 36 * DAY)
    assert lives.knows(event())
    lives.quiet(START + 36 * DAY + 2 * HOUR)
    assert not lives.knows(event())
    assert len(lives) == 0


def test_a_closed_life_of_events_that_page_anyway_is_forgotten_at_once() -> None:
    lives = fresh()
    handle(lives, event(severity="HIGH"))
    lives.quiet(START + 6 * HOUR)
    assert len(lives) == 0


def test_what_changed_is_told_once() -> None:
    lives = fresh()
    handle(lives, event(), event(agent_id="b", tenant="ü/x"))
    first, second = lives.take_dirty()
    assert {first, second} == {
        '["ü/x","b","INJECTION_ATTEMPT"]'.encode(),
        b'[null,"claims-agent","INJECTION_ATTEMPT"]',
    }
    assert lives.take_dirty() == []


some_event = st.tuples(
    st.sampled_from([0, 1, 5, 30, 59, 60, 61, 359, 360, 400, 3 * 1440]),
    st.integers(0, 200),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["OTHER", "TRUST_TIER_VIOLATION"]),
    st.sampled_from(["LOW", "MEDIUM", "LOW", "HIGH"]),
    st.sampled_from([True, True, True, False]),
)


def naive(events: list[tuple[SecurityEvent, int]]) -> list[tuple[Any, ...]]:
    """Tell the findings as the specification does, from the whole past at each event."""
    found: list[tuple[Any, ...]] = []
    lives: dict[Any, dict[str, Any]] = {}
    small: dict[Any, list[int]] = {}
    for one, clock in events:
        due = [(life["last"] + 6 * HOUR, key) for key, life in lives.items()]
        for at, key in sorted(due):
            if at <= clock:
                found.append((at, key, "RESOLVED", lives[key]["n"], lives.pop(key)["page"]))
        key, e = (one.agent_id, one.kind), one.occurred_at
        name = "UPDATED" if key in lives else "FIRING"
        life = lives.setdefault(key, {"last": e, "n": 0, "page": False})
        life["last"], life["n"] = max(life["last"], e), life["n"] + 1
        page = one.kind == "TRUST_TIER_VIOLATION" or one.severity == "HIGH" or not one.blocked
        if one.severity in {"LOW", "MEDIUM"}:
            past = small.setdefault(key, [])
            past.append(e)
            page = page or sum(e - HOUR < t <= e for t in past[-4:]) >= 4
        life["page"] = life["page"] or page
        found.append((e, key, name, life["n"], life["page"]))
    return found


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.lists(some_event, max_size=60), st.randoms(use_true_random=False))
def test_lives_are_those_of_a_plain_telling_even_when_restored(
    given_events: list[Any], rng: Any
) -> None:
    lives, mine, log = fresh(), [], []
    clock = now = START
    for offset, (wait, late, agent, kind, severity, blocked) in enumerate(given_events):
        now += wait * MINUTE
        at = now - late * MINUTE
        one = event(at, agent_id=agent, kind=kind, severity=severity, blocked=blocked)
        clock = max(clock, at)
        log.append((one, clock))
        mine += [
            (f.at, (f.entity_id, f.kind), str(f.transition), f.sample_count, f.page)
            for f in lives.handle(one, clock, offset)
        ]
        if rng.random() < 0.2:
            lives = restored(lives)
    # Equal due times are ordered by fingerprint, which the telling does not know.
    assert sorted(mine) == sorted(naive(log))
    assert [one[0] for one in mine] == [one[0] for one in naive(log)]


def restored(lives: SecurityLives) -> SecurityLives:
    again = fresh()
    for agent in "ab":
        for kind in ("OTHER", "TRUST_TIER_VIOLATION"):
            key = f'[null,"{agent}","{kind}"]'.encode()
            record = lives.dump(key)
            if record is not None:
                again.load(key, record)
                assert again.dump(key) == record
    assert len(again) == len(lives)
    return again


def limit() -> SeriesLimitLife:
    return SeriesLimitLife(RULES.series_limit, "agentops.tasks", 3, 20_000)


def test_the_first_refused_series_is_a_finding_and_the_next_are_not() -> None:
    life = limit()
    (finding,) = life.refuse(START, 17)
    assert steps([finding]) == [("FIRING", "SERIES_LIMIT", START)]
    assert life.refuse(START + 5, 18) == []


def test_the_series_limit_is_about_its_partition_and_calls_nobody() -> None:
    (finding,) = limit().refuse(START, 17)
    assert (finding.entity_kind, finding.entity_id, finding.tenant) == ("PARTITION", "3", None)
    assert (finding.severity, finding.page) == ("WARNING", False)
    assert finding.finding_id == f"{finding.alert_id}-firing-{START}"
    assert (finding.first_offset, finding.last_offset) == (17, 17)


def test_six_hours_without_a_refusal_resolve_the_series_limit() -> None:
    life = limit()
    life.refuse(START, 17)
    life.refuse(START + HOUR, 18)
    life.refuse(START + MINUTE, 19)
    assert life.quiet(START + 7 * HOUR - 1) == []
    (finding,) = life.quiet(START + 7 * HOUR)
    assert steps([finding]) == [("RESOLVED", "QUIET", START + 7 * HOUR)]
    assert finding.value == 3
    assert life.quiet(START + DAY) == []


def test_a_stored_series_limit_is_the_same() -> None:
    life = limit()
    assert life.dump() is None
    life.refuse(START, 17)
    assert life.dirty
    record = life.dump()
    assert record is not None
    assert not life.dirty
    again = limit()
    again.load(record)
    assert again.quiet(START + DAY) == life.quiet(START + DAY)
    assert again.dump() is None


def test_it_is_known_when_the_series_limit_will_resolve() -> None:
    life = limit()
    assert life.due is None
    life.refuse(START, 17)
    assert life.due == START + 6 * HOUR
