"""Whatever happens in whatever order: what must hold of all alerts of many random stories."""

from __future__ import annotations

from collections import Counter
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from streams.events import Control
from streams.reasons import AlertReason, AlertStatus, Severity
from tests.incident_rig import Rig, agent, control, finding, integration, pages

if TYPE_CHECKING:
    from streams.alerts import Alert
    from streams.findings import Finding

SEEDS = range(8)
DAY = 86_400.0
WITHHOLDING = {
    AlertReason.GROUPED,
    AlertReason.INHIBITED,
    AlertReason.SILENCED,
    AlertReason.MAINTENANCE,
    AlertReason.ACKNOWLEDGED,
    AlertReason.ROOT_FOUND,
    AlertReason.GROUP_WAIT,
}


def life(random: Random, start: float) -> list[Finding]:
    """Return the findings of one life of a rule on something."""
    end = start + random.choice([20, 200, 2000, 20_000, 2 * DAY])
    which = random.random()
    name = f"agent-{random.randrange(7)}"
    if which < 0.2:
        who = random.choice(["ledger", "mail"])
        steps = [integration(at=start, who=who, since=start - 30)]
        if random.random() < 0.7:
            steps.insert(0, integration("PENDING", who=who, at=start - 30))
        return [*steps, integration("RESOLVED", who=who, since=start - 30, at=end)]
    if which < 0.35:
        given: dict[str, Any] = {
            "rule": "security",
            "kind": random.choice(["OTHER", "INJECTION_ATTEMPT"]),
        }
        given |= {"page": random.random() < 0.7}
    elif which < 0.45:
        given = {"severity": Severity.CRITICAL}
    elif which < 0.5:
        given = {"page": False}
    else:
        given = {}
    used = random.sample(["ledger", "mail", "maps"], random.randrange(3))
    given |= {"integrations": tuple(used)}
    given.setdefault("rule", random.choice(["error-rate", "automated-rate", "drift"]))
    steps = [agent(name, at=start, **given)]
    if random.random() < 0.4:
        steps.append(agent(name, "UPDATED", since=start, at=(start + end) / 2, **given))
    return [*steps, agent(name, "RESOLVED", since=start, at=end, **given)]


def story(seed: int) -> list[Finding]:
    """Return the findings of some days, roughly in the order of their times."""
    random = Random(seed)
    lives: dict[str, list[tuple[float, list[Finding]]]] = {}
    start = 0.0
    for _ in range(60):
        start += random.choice([0, 1, 10, 60, 600, 20_000])
        found = life(random, start)
        earlier = lives.setdefault(found[0].fingerprint, [])
        if not earlier or earlier[-1][1][-1].at < found[0].at:
            earlier.append((start, found))
    steps = [one for each in lives.values() for _, found in each for one in found]
    jitter = {one.finding_id: one.at + random.uniform(-30_000, 30_000) for one in steps}
    # A life keeps its own order, partitions are up to a minute apart.
    place: dict[str, float] = {}
    for one in sorted(steps, key=lambda one: one.at):
        place[one.fingerprint] = max(place.get(one.fingerprint, -9e15), jitter[one.finding_id])
        jitter[one.finding_id] = place[one.fingerprint]
    return sorted(steps, key=lambda one: jitter[one.finding_id])


def said(seed: int) -> list[Control]:
    """Return some controls, by time."""
    random = Random(seed + 1000)
    found = []
    for number in range(8):
        at = random.uniform(0, 3 * DAY)
        kind = random.choice(["SILENCE", "MAINTENANCE", "ACKNOWLEDGE", "EXPIRE"])
        matchers: dict[str, Any] = random.choice(
            [
                {"match_rule": "error-rate"},
                {"match_entity_id": "agent-1"},
                {"match_entity_kind": "INTEGRATION"},
                {"match_rule": "security"},
            ]
        )
        if kind in {"SILENCE", "MAINTENANCE"}:
            matchers = {**matchers, "until_at": at + random.choice([60, 3600, DAY])}
        found.append(control(kind, f"c{number % 3}", at, **matchers))
    return sorted(found, key=lambda one: one.occurred_at)


@cache
def played(seed: int) -> tuple[Rig, list[Alert]]:
    rig = Rig()
    rig.play(*said(seed), *story(seed))
    rig.until(30 * DAY)
    return rig, rig.alerts


@pytest.mark.parametrize("seed", SEEDS)
def test_every_alert_is_resolved_exactly_once_and_nothing_stays(seed: int) -> None:
    rig, alerts = played(seed)
    resolved = Counter(one.alert_id for one in alerts if one.status is AlertStatus.RESOLVED)
    assert resolved == dict.fromkeys({one.alert_id for one in alerts}, 1)
    last = {one.alert_id: one for one in alerts}
    assert {one.status for one in last.values()} == {AlertStatus.RESOLVED}
    assert len(rig.incidents) == 0
    assert [key for key in rig.state if not key.startswith((b"clock/", b"waiting/"))] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_urgent_is_swallowed_unless_a_control_names_it(seed: int) -> None:
    _, alerts = played(seed)
    by_finding = {one.members[0]: one for one in reversed(alerts)}
    for one in story(seed):
        if not one.page or one.transition != "FIRING":
            continue
        if one.rule == "security" or one.severity is Severity.CRITICAL:
            first = by_finding[one.finding_id]
            assert first.page or first.suppressed_by is not None


@pytest.mark.parametrize("seed", SEEDS)
def test_each_page_that_is_not_sent_is_explained(seed: int) -> None:
    _, alerts = played(seed)
    paged = {one.alert_id for one in pages(alerts)}
    withheld = [one for one in alerts if one.status is AlertStatus.WITHHELD]
    assert {one.reason for one in withheld} <= WITHHOLDING
    assert not any(one.page for one in withheld)
    explained = {one.alert_id for one in withheld}
    wanted = {one.alert_id for one in story(seed) if one.page and one.transition == "FIRING"}
    assert wanted <= paged | explained


@pytest.mark.parametrize("seed", SEEDS)
def test_no_page_comes_while_that_of_its_incident_is_open(seed: int) -> None:
    _, alerts = played(seed)
    open_pages: dict[str, set[str]] = {}
    for one in alerts:
        ours = open_pages.setdefault(one.incident_id, set())
        if one.status is AlertStatus.RESOLVED:
            for each in open_pages.values():
                each.discard(one.alert_id)
        elif one.page and one.severity is not Severity.CRITICAL:
            assert ours <= {one.alert_id} or one.caused_by is not None
            ours.add(one.alert_id)


@pytest.mark.parametrize("seed", SEEDS)
def test_stored_and_restored_at_any_point_it_says_the_same(seed: int) -> None:
    random = Random(seed)
    whole, cut = Rig(), Rig()
    steps: list[Finding | Control] = [*story(seed), *said(seed)]
    steps.sort(key=lambda one: one.occurred_at if isinstance(one, Control) else one.at)
    whole.play(*steps)
    for step in steps:
        cut.play(step)
        if random.random() < 0.3:
            cut.restart()
    for rig in (whole, cut):
        rig.until(30 * DAY)
    assert cut.alerts == whole.alerts
    assert cut.state == whole.state


@pytest.mark.parametrize("seed", SEEDS)
def test_how_early_controls_are_read_makes_no_difference(seed: int) -> None:
    early, late = Rig(), Rig()
    findings, controls = story(seed), said(seed)
    early.play(*controls, *findings)
    for one in findings:
        # As the gate has it: before a finding all controls said by then.
        while controls and controls[0].occurred_at <= one.at:
            late.play(controls.pop(0))
        late.play(one)
    late.play(*controls)
    for rig in (early, late):
        rig.until(30 * DAY)
    assert early.alerts == late.alerts


@pytest.mark.parametrize("gap", [0, 1, 40, 200])
def test_a_page_without_relatives_waits_for_the_group_wait_alone(gap: int) -> None:
    rig = Rig()
    for number in range(4):
        rig.play(finding(f"loner-{number}", at=number * gap))
    rig.until(900)
    assert [one.updated_at - one.starts_at for one in pages(rig.alerts)] == [45_000] * 4
