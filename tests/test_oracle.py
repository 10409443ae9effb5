"""Small cases worked out by hand, which show that the oracle itself is right."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from load.judge import DAY, HOUR, MIN, SHORT, WEEK, Agent, _baseline, half, wilson_lower
from load.oracle import Oracle, alerts, fingerprint

D = 1_767_225_600_000 + 50 * DAY
"""A midnight, UTC."""
GOOD, BAD, FAILED = "AUTOMATED", "ESCALATED", "FAILED"


class Feed:
    """Gives an oracle events, offsets counted up, produced as they occur."""

    def __init__(self, **options: Any) -> None:
        self.oracle = Oracle(3, **options)
        self.offset = -1

    def tasks(
        self, at: int, outcome: str = GOOD, n: int = 1, agent: str = "a", **more: Any
    ) -> None:
        """Feed `n` tasks of one millisecond; `late` is production minus event time."""
        for _ in range(n):
            self.offset += 1
            record = {
                "occurred_at": at,
                "tenant": None,
                "agent_id": agent,
                "task_type": more.get("task_type", "t"),
                "outcome": outcome,
                "cost_usd": 0.5,
                "duration_ms": 1.5,
                "input_tokens": 10,
                "output_tokens": 2,
                "cached_tokens": None,
            }
            self.oracle.task(self.offset, at + more.get("late", 0), record)

    def clock(self, at: int) -> None:
        """Move the tasks clock by an event of an agent nobody looks at."""
        self.tasks(at, agent="clock")

    def security(
        self, at: int, severity: str = "LOW", *, blocked: bool = True, **more: Any
    ) -> None:
        """Feed one security event."""
        self.offset += 1
        record = {
            "occurred_at": at,
            "tenant": more.get("tenant"),
            "agent_id": "a",
            "kind": more.get("kind", "INJECTION_ATTEMPT"),
            "severity": severity,
            "blocked": blocked,
        }
        self.oracle.security(self.offset, at + more.get("late", 0), record)

    def weeks(self, n: int, *, tasks: int = 250, good: int = 225) -> None:
        """Feed the first hour of day D in each of the last `n` weeks, all else empty."""
        self.tasks(D - n * WEEK - 25 * HOUR)
        for j in range(n, 0, -1):
            self.tasks(D - j * WEEK + MIN, GOOD, good)
            self.tasks(D - j * WEEK + MIN, BAD, tasks - good)

    def said(self, *names: str) -> list[tuple[Any, ...]]:
        """Return fields of the findings so far, `at` as time since D."""
        return [
            tuple(f.get(n) - D if n in ("at", "starts_at") else f.get(n) for n in names)  # type: ignore[operator]
            for f in self.oracle.findings
        ]

    def steps(self) -> list[tuple[Any, ...]]:
        """Return arm, transition, reason and time since D of the findings so far."""
        return self.said("arm", "transition", "reason", "at")


def drop(feed: Feed) -> None:
    # 200 tasks, 60 % automated, usual 90 %: v = 1.25·0.9·0.1/200 = 0.0005625, τ² = 0.02²,
    # z = -0.3/√0.0009625 = -9.67. The first long tick that sees them is 02:01.
    feed.tasks(D + 2 * HOUR + 30_000, GOOD, 120)
    feed.tasks(D + 2 * HOUR + 30_000, BAD, 80)


def test_a_drop_is_pending_at_the_next_minute_and_fires_exactly_two_hours_later() -> None:
    feed = Feed()
    feed.weeks(4)
    drop(feed)
    last = feed.offset
    feed.clock(D + 4 * HOUR + MIN - 1)
    assert feed.steps() == [("24h", "PENDING", "CONDITION_TRUE", 2 * HOUR + MIN)]
    assert feed.oracle.findings[0]["last_offset"] == last
    feed.clock(D + 4 * HOUR + MIN)
    pending, firing = feed.oracle.findings
    assert feed.steps()[1] == ("24h", "FIRING", "FOR_ELAPSED", 4 * HOUR + MIN)
    assert firing["starts_at"] == pending["at"] == D + 2 * HOUR + MIN
    assert (pending["page"], firing["page"], firing["severity"]) == (False, True, "HIGH")
    assert firing["value"] == pytest.approx(0.6)
    assert firing["baseline"] == pytest.approx(0.9)
    assert firing["threshold"] == pytest.approx(0.855)
    assert (firing["sample_count"], firing["baseline_weeks"]) == (200, 4)
    assert firing["window_start"] == D - 19 * HOUR
    assert firing["window_end"] == D + 4 * HOUR + MIN
    assert firing["last_offset"] == last + 1  # the record that moved the clock is not folded yet
    name = fingerprint("automated-rate", "AGENT", None, "a", None)
    assert firing["finding_id"] == f"{name}-{pending['at']}-firing-{firing['at']}"


def test_evidence_begins_with_the_first_record_of_the_hour_in_which_the_window_begins() -> None:
    feed = Feed()
    feed.weeks(4)
    feed.clock(D - 23 * HOUR)  # before the window, which begins at D - 21 h
    feed.clock(D - 21 * HOUR + 1)
    first = feed.offset
    drop(feed)
    feed.clock(D + 2 * HOUR + MIN)
    assert feed.oracle.findings[0]["window_start"] == D - 21 * HOUR
    assert feed.oracle.findings[0]["first_offset"] == first


def test_a_drop_clears_when_the_rate_was_good_for_twelve_hours() -> None:
    feed = Feed()
    feed.weeks(4)
    drop(feed)
    feed.clock(D + 5 * HOUR)
    feed.tasks(D + 5 * HOUR + 30_000, GOOD, 2000)  # 2120 of 2200 = 0.964, clear from 0.8775
    feed.clock(D + 17 * HOUR + MIN - 1)
    assert len(feed.oracle.findings) == 2
    feed.clock(D + 17 * HOUR + MIN)
    assert feed.steps()[2:] == [("24h", "RESOLVED", "CLEAR_ELAPSED", 17 * HOUR + MIN)]
    assert feed.oracle.findings[2]["value"] == pytest.approx(2120 / 2200)


def test_a_sample_that_is_too_small_holds_the_timer() -> None:
    feed = Feed()
    feed.weeks(4)
    feed.tasks(D - DAY + 3 * HOUR + MIN, BAD, 40)  # leaves the window after 03:00
    feed.tasks(D + 2 * HOUR + 30_000, BAD, 20)  # 60 in the window: enough
    feed.tasks(D + 5 * HOUR + 30_000, BAD, 100)  # not enough from 03:01 to 05:00, 120 ticks
    feed.clock(D + 6 * HOUR + MIN - 1)
    assert feed.steps() == [("24h", "PENDING", "CONDITION_TRUE", 2 * HOUR + MIN)]
    feed.clock(D + 6 * HOUR + MIN)
    assert feed.steps()[1:] == [("24h", "FIRING", "FOR_ELAPSED", 6 * HOUR + MIN)]


def test_one_false_tick_cancels_what_is_pending() -> None:
    feed = Feed()
    feed.weeks(4)
    drop(feed)
    feed.tasks(D + 2 * HOUR + 30 * MIN + 1, GOOD, 1000)  # 1120 of 1200 = 0.933
    feed.clock(D + 5 * HOUR)
    assert feed.steps() == [
        ("24h", "PENDING", "CONDITION_TRUE", 2 * HOUR + MIN),
        ("24h", "CANCELLED", "CONDITION_FALSE", 2 * HOUR + 31 * MIN),
    ]
    assert alerts(feed.oracle.findings) == []


@pytest.mark.parametrize(("weeks", "pends"), [(4, True), (3, True), (2, False), (0, False)])
def test_a_young_baseline_demands_more(weeks: int, pends: bool) -> None:
    # 144 of 200 = 0.72: z = -0.18/0.031024 = -5.80, limits -4.4, -5.5, -6.6; none without a week.
    feed = Feed()
    feed.weeks(weeks)
    feed.tasks(D + 2 * HOUR + 30_000, GOOD, 144)
    feed.tasks(D + 2 * HOUR + 30_000, BAD, 56)
    feed.clock(D + 2 * HOUR + MIN)
    assert bool(feed.oracle.findings) is pends


def test_small_baseline_weeks_are_pooled_and_clamped() -> None:
    feed = Feed()
    feed.weeks(4, tasks=100, good=100)  # 400 of 400, clamped to 1 - 0.5/401
    drop(feed)
    feed.clock(D + 2 * HOUR + MIN)
    assert feed.oracle.findings[0]["baseline"] == pytest.approx(1 - 0.5 / 401)


def test_wilson_lower_bound_of_eight_of_a_hundred() -> None:
    # (0.08 + 0.0338 - 2.6·√(0.000736 + 0.000169)) / 1.0676, by hand
    assert wilson_lower(8, 100, 2.6) == pytest.approx(0.0333, abs=5e-5)


def test_half_precision_is_what_ieee_says() -> None:
    assert half(0.1) == 0.0999755859375


@pytest.mark.parametrize(("failed", "pends"), [(8, True), (7, False)])
def test_errors_without_baseline_need_eight_failures(failed: int, pends: bool) -> None:
    feed = Feed()
    feed.tasks(D, FAILED, failed)
    feed.tasks(D, GOOD, 100 - failed)
    feed.clock(D + 3 * HOUR)
    expected = [
        ("24h", "PENDING", "CONDITION_TRUE", MIN),
        ("24h", "FIRING", "FOR_ELAPSED", 2 * HOUR + MIN),
    ]
    assert feed.steps() == (expected if pends else [])


def test_a_second_arm_joins_the_finding_that_is_open() -> None:
    feed = Feed()
    for minutes in range(0, 4 * 60, 10):
        feed.tasks(D + minutes * MIN + 1, FAILED, 10)
        feed.tasks(D + minutes * MIN + 1, GOOD, 90)
    assert feed.steps() == [
        ("24h", "PENDING", "CONDITION_TRUE", MIN),
        ("24h", "FIRING", "FOR_ELAPSED", 2 * HOUR + MIN),
        ("1h", "UPDATED", "ARM_JOINED", 3 * HOUR + MIN),
    ]


def burst(feed: Feed, at: int) -> None:
    feed.tasks(at, FAILED, 8)
    feed.tasks(at, GOOD, 12)


def test_a_burst_fires_at_the_next_five_seconds_and_hands_over_to_a_pending_arm() -> None:
    feed = Feed()
    burst(feed, D + 10 * HOUR + 3000)
    feed.tasks(D + 10 * HOUR + 70_000, GOOD, 200)  # 8 of 220 = 3.6 %: clear from 10:01:15 on
    assert feed.steps() == [("5m", "FIRING", "AT_ONCE", 10 * HOUR + 5000)]
    for minute in range(2, 17):
        feed.tasks(D + 10 * HOUR + minute * MIN + 1)
    feed.clock(D + 10 * HOUR + 16 * MIN + 14_999)
    assert len(feed.oracle.findings) == 1
    feed.clock(D + 12 * HOUR + MIN)
    # The 24h arm (8 of 235, Wilson 1.4 % > 0.75·1.5 %) is pending since 10:01:00.
    resolved = 10 * HOUR + 16 * MIN + 15_000
    assert feed.steps()[1:] == [
        ("5m", "RESOLVED", "CLEAR_ELAPSED", resolved),
        ("24h", "PENDING", "CONDITION_TRUE", resolved),
        ("24h", "FIRING", "FOR_ELAPSED", 12 * HOUR + MIN),
    ]
    assert feed.said("starts_at")[1:] == [(10 * HOUR + 5000,), (resolved,), (resolved,)]


def test_a_burst_without_further_tasks_stays_open() -> None:
    feed = Feed()
    burst(feed, D + 3000)
    feed.clock(D + 90 * MIN)
    assert feed.steps() == [("5m", "FIRING", "AT_ONCE", 5000)]


def test_no_new_burst_within_fifteen_minutes_of_the_last_resolve() -> None:
    feed = Feed()
    feed.tasks(D - 10 * MIN, GOOD, 5000)  # so that the long arms stay silent
    burst(feed, D + 3000)
    feed.tasks(D + MIN + 10_000, GOOD, 200)
    for minute in range(2, 17):
        feed.tasks(D + minute * MIN + 1)
    feed.clock(D + 16 * MIN + 15_000)
    assert [step[1] for step in feed.steps()] == ["FIRING", "RESOLVED"]
    burst(feed, D + 31 * MIN + 9_000)  # 31:15 is the first tick at which it may fire
    feed.tasks(D + 31 * MIN + 13_000, FAILED)  # touched again in the step before
    feed.clock(D + 31 * MIN + 14_999)
    assert len(feed.oracle.findings) == 2
    feed.clock(D + 31 * MIN + 15_000)
    assert feed.steps()[2:] == [("5m", "FIRING", "AT_ONCE", 31 * MIN + 15_000)]


def test_after_seven_days_an_error_rate_is_the_new_normal() -> None:
    feed = Feed()
    for hour in range(10 * 24):
        feed.tasks(D + hour * HOUR + 1, FAILED, 10)
        feed.tasks(D + hour * HOUR + 1, GOOD, 90)
    fired = 2 * HOUR + MIN
    steps = [step for step in feed.steps() if step[1] != "UPDATED"]
    assert steps == [
        ("24h", "PENDING", "CONDITION_TRUE", MIN),
        ("24h", "FIRING", "FOR_ELAPSED", fired),
        ("24h", "RESOLVED", "REBASELINED", fired + 7 * DAY),
    ]


@pytest.mark.parametrize(
    ("first_day", "middle"),
    [
        (-14, 0.0),  # seven days as usual, six 0.1 below: the median is 0
        (-13, 0.0999755859375 / 2),  # six and six: the mean of both
        (-8, 0.0999755859375),  # one and six
    ],
)
def test_the_spread_is_the_median_residual_without_the_newest_day(
    first_day: int, middle: float
) -> None:
    agent = Agent(None, "a", 0, D - 6 * WEEK)
    for day in range(-42, 0):
        agent.hours[D + day * DAY + 6 * HOUR] = [100, 80 if day >= -7 else 90, 0]
    for day in range(first_day, 0):
        agent.close_day(D + day * DAY)
    v = half((1.25 * 0.9 * 0.1 / 100) ** 0.5) ** 2
    spread = agent.spread("automated-rate", "24h", D + 12 * HOUR)
    assert spread == pytest.approx(max(0.0, (1.4826 * middle) ** 2 - v))


def test_fewer_than_five_residuals_give_no_spread() -> None:
    agent = Agent(None, "a", 0, D - 6 * WEEK)
    for day in range(-42, 0):
        agent.hours[D + day * DAY + 6 * HOUR] = [100, 90, 0]
    for day in range(-5, 0):
        agent.close_day(D + day * DAY)
    assert agent.spread("automated-rate", "24h", D + 12 * HOUR) is None
    assert agent.spread("automated-rate", "24h", D - DAY + 12 * HOUR) is None


def test_hours_of_an_open_finding_are_left_out_of_the_baseline() -> None:
    feed = Feed()
    feed.weeks(4)
    drop(feed)  # fires at D+04:01, never clears, re-learns at D+7d04:01
    feed.tasks(D + WEEK + 3 * HOUR + 30_000, GOOD, 120)
    feed.tasks(D + WEEK + 3 * HOUR + 30_000, BAD, 80)
    agent = feed.oracle._agents[None, "a"]
    assert agent.baseline("automated-rate", D + WEEK + 3 * HOUR).weeks == 3
    feed.clock(D + WEEK + 5 * HOUR)
    assert feed.steps()[-1] == ("24h", "RESOLVED", "REBASELINED", WEEK + 4 * HOUR + MIN)
    assert agent.rules["automated-rate"].relearned_from == D + 2 * HOUR
    # Only windows from D+02:00 on count now, and none has begun then a week before D+7d05:00.
    assert agent.baseline("automated-rate", D + WEEK + 5 * HOUR).weeks == 0


def test_future_and_late_events_are_refused_and_touch_nothing() -> None:
    feed = Feed()
    feed.tasks(D, late=-5 * MIN - 1)
    feed.tasks(D, late=-5 * MIN)  # ahead, but within five minutes: the clock is at D - 5 min
    assert feed.oracle.clocks["tasks"] == D - 5 * MIN
    feed.tasks(D + 90 * MIN)
    feed.tasks(D + HOUR - 36 * DAY - 1, late=40 * DAY)
    feed.tasks(D + HOUR - 36 * DAY, late=40 * DAY)
    assert feed.oracle.refusals == [
        ("agentops.tasks", 0, "FUTURE"),
        ("agentops.tasks", 3, "TOO_LATE"),
    ]
    assert feed.oracle.clocks["tasks"] == D + 90 * MIN
    assert feed.oracle.sums[0] == 3


def test_an_hour_is_written_a_minute_after_its_end_and_again_when_it_changes() -> None:
    feed = Feed()
    feed.tasks(D + 1, n=3)
    feed.clock(D + HOUR + MIN - 1)
    assert feed.oracle.window_log == []
    feed.clock(D + HOUR + MIN)
    feed.tasks(D + 2, late=2 * HOUR)  # late: seen at the next whole minute of the clock
    feed.clock(D + 2 * HOUR)
    first, second = feed.oracle.window_log[:2]
    assert (first["revision"], first["at"], first["automated"]) == (1, D + HOUR + MIN, 3)
    assert (second["revision"], second["at"], second["automated"]) == (2, D + HOUR + 2 * MIN, 4)
    assert (second["cost_micro_usd"], second["duration_us"]) == (2_000_000, 6000)
    assert (second["input_tokens"], second["output_tokens"]) == (40, 8)
    assert feed.oracle.windows[None, "a", "t", None, D] == second


def test_a_series_past_the_limit_is_refused_and_reported_until_it_is_quiet() -> None:
    feed = Feed(max_series=4)
    feed.tasks(D)
    feed.tasks(D, task_type="u")
    feed.tasks(D + 1, agent="b")  # would be two more: the fourth and the fifth
    feed.tasks(D + 2, agent="b", late=10)
    feed.tasks(D + 3, task_type="v")
    feed.tasks(D + 6 * HOUR + 1)
    assert feed.steps() == [(None, "FIRING", "SERIES_LIMIT", 1)]
    feed.tasks(D + 6 * HOUR + 2)
    assert feed.steps()[1:] == [(None, "RESOLVED", "QUIET", 6 * HOUR + 2)]
    assert feed.said("severity", "page", "entity_kind", "entity_id", "value")[1:] == [
        ("WARNING", False, "PARTITION", "3", 2)
    ]
    assert feed.oracle.refused == {("agentops.tasks", "SERIES_LIMIT"): 2}


@pytest.mark.parametrize(
    ("event", "page", "severity"),
    [
        ({"severity": "LOW"}, False, "INFO"),
        ({"severity": "MEDIUM"}, False, "INFO"),
        ({"severity": "HIGH"}, True, "HIGH"),
        ({"severity": "CRITICAL"}, True, "CRITICAL"),
        ({"severity": "LOW", "blocked": False}, True, "WARNING"),
        ({"severity": "LOW", "kind": "TRUST_TIER_VIOLATION"}, True, "WARNING"),
    ],
)
def test_which_security_events_page(event: dict[str, Any], page: bool, severity: str) -> None:
    feed = Feed()
    feed.security(D, **event)
    assert feed.said("transition", "page", "severity") == [("FIRING", page, severity)]


def test_the_fourth_minor_event_within_an_hour_pages_and_the_life_keeps_paging() -> None:
    feed = Feed()
    for at in (0, 1, 2, HOUR):  # the first is not within (e - 1 h, e]
        feed.security(D + at)
    assert [page for (page,) in feed.said("page")] == [False] * 4
    feed.security(D + HOUR)
    feed.security(D + 3 * HOUR)
    feed.security(D + 3 * HOUR, "CRITICAL")
    feed.security(D + 3 * HOUR, "MEDIUM")
    assert feed.said("page", "severity")[4:] == [
        (True, "WARNING"),
        (True, "WARNING"),
        (True, "CRITICAL"),
        (True, "CRITICAL"),
    ]
    assert [value for (value,) in feed.said("value")] == list(range(1, 9))


def test_a_security_life_ends_after_six_quiet_hours_before_the_next_event_counts() -> None:
    feed = Feed()
    feed.security(D)
    feed.security(D + HOUR)
    feed.security(D + 7 * HOUR)
    assert feed.said("transition", "at", "starts_at") == [
        ("FIRING", 0, 0),
        ("UPDATED", HOUR, 0),
        ("RESOLVED", 7 * HOUR, 0),
        ("FIRING", 7 * HOUR, 7 * HOUR),
    ]
    name = fingerprint("security", "AGENT", None, "a", "INJECTION_ATTEMPT")
    ids = [finding["finding_id"] for finding in feed.oracle.findings]
    assert ids[1] == f"{name}-{D}-updated-{D + HOUR}-1"
    assert ids[2] == f"{name}-{D}-resolved-{D + 7 * HOUR}"


def test_quiet_by_another_clock_resolves_in_order_of_the_due_time() -> None:
    feed = Feed()
    feed.security(D + 2, tenant="x")
    feed.security(D + 1)
    feed.oracle.quiet(D + 6 * HOUR)
    assert len(feed.oracle.findings) == 2
    feed.oracle.quiet(D + 6 * HOUR + 2)
    assert feed.said("transition", "reason", "at")[2:] == [
        ("RESOLVED", "QUIET", 6 * HOUR + 1),
        ("RESOLVED", "QUIET", 6 * HOUR + 2),
    ]


def test_an_idle_clock_follows_the_wall_by_its_lag() -> None:
    feed = Feed()
    feed.tasks(D, FAILED, 8, late=HOUR)
    feed.security(D, late=-MIN)
    feed.oracle.idle(D + 3 * HOUR + MIN)
    assert feed.oracle.clocks == {"tasks": D + 2 * HOUR + MIN, "security": D + 3 * HOUR + MIN}
    assert feed.steps()[1:] == [
        ("24h", "PENDING", "IDLE", MIN),
        ("24h", "FIRING", "IDLE", 2 * HOUR + MIN),
    ]


def test_alerts_follow_the_findings_that_matter_one_to_one() -> None:
    feed = Feed()
    burst(feed, D + 10 * HOUR + 3000)
    feed.tasks(D + 10 * HOUR + 70_000, GOOD, 200)
    for minute in range(2, 17):
        feed.tasks(D + 10 * HOUR + minute * MIN + 1)
    feed.clock(D + 10 * HOUR + 17 * MIN)
    fired, resolved = alerts(feed.oracle.findings)
    start = D + 10 * HOUR + 5000
    name = fingerprint("error-rate", "AGENT", None, "a", None)
    assert fired["alert_id"] == resolved["alert_id"] == f"{name}-{start}"
    assert (fired["status"], fired["ends_at"]) == ("FIRING", None)
    assert (resolved["status"], resolved["ends_at"]) == ("RESOLVED", resolved["updated_at"])
    assert resolved["members"] == [feed.oracle.findings[1]["finding_id"]]


class Plodder(Oracle):
    """The oracle without its shortcut: every tick is visited."""

    def _next_tick(self, done: int) -> int:
        return done // SHORT * SHORT + SHORT


def random_days(oracle: Oracle, seed: int) -> None:
    """Feed nine days of three agents, with late events, errors, bursts and a silence."""
    random = Random(seed)
    now = D
    for offset in range(3000):
        day = (now - D) / DAY
        now += 4 * HOUR if random.random() < 0.002 else int(random.expovariate(1 / 250_000))
        agent = random.choice("abc")
        failed = 0.4 if agent == "a" and day % 2 > 1.8 else 0.01
        outcome = FAILED if random.random() < failed else GOOD if agent != "b" or day < 8 else BAD
        late = int(random.expovariate(1 / HOUR)) if random.random() < 0.05 else 0
        record = {
            "occurred_at": now - late,
            "tenant": None,
            "agent_id": agent,
            "task_type": random.choice("tu"),
            "outcome": outcome,
            "cost_usd": 0.1,
            "duration_ms": 1.0,
            "input_tokens": 1,
            "output_tokens": 1,
        }
        oracle.task(offset, now, record)


@pytest.mark.parametrize("seed", [1])
def test_visiting_every_tick_and_keeping_no_baseline_changes_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = Oracle(0)
    random_days(quick, seed)
    monkeypatch.setattr(Agent, "baseline", _baseline)
    slow = Plodder(0)
    random_days(slow, seed)
    assert len(quick.findings) >= 8
    assert quick.findings == slow.findings
    assert quick.window_log == slow.window_log
