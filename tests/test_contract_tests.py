"""Contract tests: the first failure is reported at once, and so is it that none comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams import state
from streams.calls import CALLS
from streams.contract_tests import ContractWatch
from streams.durations import DAY, HOUR, MINUTE, WEEK
from streams.ledger import Ledger
from streams.operations import SEPARATOR, Source
from streams.reasons import EntityKind, TransitionReason
from streams.rules import RuleSet
from streams.series import Agent

if TYPE_CHECKING:
    from streams.findings import Finding

NOW = 2_900 * WEEK
RULES = RuleSet.default()
OK, ERROR = "contract-test OK", "contract-test ERROR SCHEMA"


def watch() -> ContractWatch:
    ledger = Ledger([], 100, CALLS)
    ledger.series.add(Agent("acme", f"sap{SEPARATOR}post"), "")
    return ContractWatch(RULES.contract_test, ledger, Source("partials", 3))


def mark(one: ContractWatch, at: int, text: str = OK) -> list[Finding]:
    return one.mark(0, at // MINUTE * MINUTE + MINUTE, at, text)


def told(findings: list[Finding]) -> list[tuple[str, str | None]]:
    return [(str(one.transition), one.kind) for one in findings]


def hours(one: ContractWatch, first: int, last: int) -> list[Finding]:
    return [found for tick in range(first, last + HOUR, HOUR) for found in one.hour(tick)]


def test_the_first_failure_fires_at_once() -> None:
    (found,) = mark(watch(), NOW + 7, ERROR)
    assert told([found]) == [("FIRING", "FAILED")]
    assert found.at == NOW + MINUTE
    assert (found.entity_kind, found.entity_id) == (EntityKind.INTEGRATION, "sap")
    assert (found.operation, found.tenant, found.page) == ("post", "acme", True)
    assert found.detail == "the contract test failed: SCHEMA"


def test_a_test_that_passes_is_no_finding() -> None:
    assert mark(watch(), NOW) == []


def test_further_failures_are_the_same_alert() -> None:
    one = watch()
    mark(one, NOW, ERROR)
    assert mark(one, NOW + HOUR, ERROR) == []


def test_it_resolves_at_the_first_success_after_it() -> None:
    one = watch()
    (fired,) = mark(one, NOW, ERROR)
    mark(one, NOW + HOUR, ERROR)
    assert mark(one, NOW + 30 * MINUTE) == []  # of before the newest failure, and late
    (found,) = mark(one, NOW + 2 * HOUR)
    assert told([found]) == [("RESOLVED", "FAILED")]
    assert (found.alert_id, found.value) == (fired.alert_id, 2.0)


def test_two_failures_in_one_minute_are_two_alerts_when_it_passed_between() -> None:
    one = watch()
    found = [
        *mark(one, NOW + 1, ERROR),
        *mark(one, NOW + 2),
        *mark(one, NOW + 3, ERROR),
    ]
    assert len({each.finding_id for each in found}) == 3


def test_none_for_26_hours_where_they_are_usual_fires() -> None:
    one = watch()
    for at in (NOW - 2 * DAY, NOW - DAY, NOW):
        mark(one, at)
    (found,) = hours(one, NOW + HOUR, NOW + 30 * HOUR)
    assert told([found]) == [("FIRING", "MISSING")]
    assert found.at == NOW + 26 * HOUR
    assert found.detail == "no contract test for 26 h"


def test_25_hours_without_any_are_within_5_percent_below_and_do_not() -> None:
    one = watch()
    for at in (NOW - 2 * DAY, NOW - DAY, NOW):
        mark(one, at)
    assert hours(one, NOW + HOUR, NOW + 25 * HOUR) == []


def test_where_they_are_not_usual_none_are_missing() -> None:
    few, bunched = watch(), watch()
    for at in (NOW - DAY, NOW):
        mark(few, at)
    for at in (NOW, NOW + HOUR, NOW + 2 * HOUR):
        mark(bunched, at)
    assert hours(few, NOW, NOW + 3 * DAY) == []
    assert hours(bunched, NOW, NOW + 3 * DAY) == []


def test_missing_tests_resolve_when_one_comes_even_one_that_fails() -> None:
    one = watch()
    for at in (NOW - 2 * DAY, NOW - DAY, NOW):
        mark(one, at)
    hours(one, NOW, NOW + 30 * HOUR)
    found = mark(one, NOW + 31 * HOUR, ERROR)
    assert told(found) == [("RESOLVED", "MISSING"), ("FIRING", "FAILED")]


def test_tests_missing_for_a_week_are_no_longer_usual() -> None:
    one = watch()
    for at in (NOW - 2 * DAY, NOW - DAY, NOW):
        mark(one, at)
    found = hours(one, NOW, NOW + 20 * DAY)
    assert told(found) == [("FIRING", "MISSING"), ("RESOLVED", "MISSING")]
    assert found[1].reason is TransitionReason.REBASELINED
    assert not one.busy()


def test_a_failure_of_which_nothing_more_was_heard_for_36_days_is_over() -> None:
    one = watch()
    mark(one, NOW, ERROR)
    found = hours(one, NOW + DAY, NOW + 40 * DAY)
    assert [str(each.reason) for each in found] == ["ENTITY_GONE"]
    assert not one.holds(0)


def test_a_change_of_the_last_6_hours_is_named() -> None:
    one = watch()
    assert mark(one, NOW - 9 * MINUTE, "change TOOL_SCHEMA v1 v2") == []
    (found,) = mark(one, NOW + 1, ERROR)
    assert found.change_ref == "TOOL_SCHEMA v1 to v2, 9 min before"
    assert one.change_ref(0, NOW + DAY) is None
    assert one.change_ref(7, NOW) is None


def test_a_row_with_tests_is_held() -> None:
    one = watch()
    mark(one, NOW)
    assert one.holds(0)
    assert not one.holds(1)
    one.forget([0])
    assert not one.holds(0)


def test_a_restart_changes_nothing() -> None:
    plain, again, stored = watch(), watch(), dict[bytes, bytes]()
    marks = {
        0: OK,
        20: OK,
        40: ERROR,
        41: "change CONFIG a b",
        45: ERROR,
        47: OK,
        120: ERROR,
        121: OK,
    }
    seen: list[Finding] = []
    for hour in range(400):
        for key, value in again.changes():
            if value is None:
                stored.pop(key, None)
            else:
                stored[key] = value
        again = watch()
        assert all(again.restore(one) for one in state.decode(stored.items()))
        again.settle()
        for one in (plain, again):
            found = mark(one, NOW + hour * HOUR, marks[hour]) if hour in marks else []
            found += one.hour(NOW + hour * HOUR + HOUR)
            seen += found if one is plain else []
            if one is again:
                assert seen[len(seen) - len(found) :] == found
        assert again.busy() == plain.busy()
    assert len(seen) == 8
