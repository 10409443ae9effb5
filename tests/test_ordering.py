from __future__ import annotations

import pytest

from streams.durations import HOUR
from streams.ordering import SLACK, Order, Role, Span

ROLES = {
    "tasks": Role.TASKS,
    "changes": Role.AROUND,
    "calls": Role.BESIDE,
    "reviews": Role.AFTER,
    "security": Role.FREE,
}
NOON = 12 * HOUR
HOUR_FROM_NOON = Span(NOON, NOON + HOUR)
EVERYTHING = set(ROLES)


def order() -> Order:
    return Order(ROLES)


@pytest.mark.parametrize("topic", ["security", "changes"])
def test_some_topics_wait_for_nobody(topic: str) -> None:
    assert order().may(topic, HOUR_FROM_NOON, {}, set())


def test_tasks_wait_for_what_stands_around_them() -> None:
    assert not order().may("tasks", HOUR_FROM_NOON, {"calls": NOON + HOUR}, set())


def test_tasks_go_on_where_all_clocks_have_passed_them() -> None:
    clocks = {"calls": NOON + HOUR, "changes": NOON + HOUR}

    assert order().may("tasks", HOUR_FROM_NOON, clocks, set())


def test_tasks_go_on_where_the_others_are_at_their_ends() -> None:
    assert order().may("tasks", HOUR_FROM_NOON, {}, {"calls", "changes"})


def test_reviews_wait_for_tasks_alone() -> None:
    assert not order().may("reviews", HOUR_FROM_NOON, {"tasks": NOON}, EVERYTHING - {"tasks"})
    assert order().may("reviews", HOUR_FROM_NOON, {"tasks": NOON + HOUR}, set())


def test_a_busy_topic_does_not_run_ahead_of_the_tasks() -> None:
    assert order().may("calls", HOUR_FROM_NOON, {"tasks": NOON - SLACK}, set())
    assert not order().may("calls", HOUR_FROM_NOON, {"tasks": NOON - SLACK - 1}, set())


def test_a_busy_topic_goes_on_where_no_task_is_to_come() -> None:
    assert order().may("calls", HOUR_FROM_NOON, {}, {"tasks"})


def test_before_the_first_task_a_busy_topic_waits() -> None:
    assert not order().may("calls", HOUR_FROM_NOON, {}, set())


def test_tasks_and_a_busy_topic_never_wait_for_each_other() -> None:
    both = order()
    far = Span(NOON + 5 * HOUR, NOON + 6 * HOUR)
    clocks = {"tasks": NOON, "calls": NOON + 10}

    assert not both.may("tasks", HOUR_FROM_NOON, clocks, {"changes"})
    assert both.may("calls", far, clocks, {"changes"})


def test_a_busy_topic_that_the_tasks_do_not_wait_for_stays_back() -> None:
    both = Order({**ROLES, "queues": Role.BESIDE})
    clocks = {"tasks": NOON, "calls": NOON, "queues": NOON + 2 * HOUR, "changes": NOON + HOUR}

    assert not both.may("tasks", HOUR_FROM_NOON, clocks, set())
    assert not both.may("queues", Span(NOON + 2 * HOUR, NOON + 3 * HOUR), clocks, set())
    assert both.may("calls", Span(NOON + 2 * HOUR, NOON + 3 * HOUR), clocks, set())


def test_who_was_let_go_waits_no_longer() -> None:
    both = order()
    both.may("tasks", HOUR_FROM_NOON, {}, set())
    assert both.waits("tasks")

    both.may("tasks", HOUR_FROM_NOON, {}, EVERYTHING)
    assert not both.waits("tasks")
