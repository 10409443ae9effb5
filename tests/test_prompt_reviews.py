"""Reviews of prompts: asked for once, over when the prompt changes or nobody looked."""

from __future__ import annotations

from streams import state
from streams.durations import DAY
from streams.prompt_reviews import PromptReviews
from streams.rules import RuleSet

RULE = RuleSet.default().prompt_review
T0 = 20_000 * DAY


def test_a_review_is_asked_for_once() -> None:
    reviews = PromptReviews(RULE, "tasks")

    assert reviews.open(3, T0, "MODEL")
    assert not reviews.open(3, T0 + 1, "confidence")
    assert len(reviews) == 1


def test_only_a_later_change_ends_it() -> None:
    reviews = PromptReviews(RULE, "tasks")
    reviews.open(3, T0, "MODEL")

    assert reviews.close(3, T0 - 1) is None
    ended = reviews.close(3, T0 + 1)
    assert ended is not None
    assert (ended.started_at, ended.why) == (T0, "MODEL")
    assert len(reviews) == 0


def test_it_is_old_after_its_time_and_not_a_moment_before() -> None:
    reviews = PromptReviews(RULE, "tasks")
    reviews.open(3, T0, "MODEL")

    assert reviews.old(T0 + 30 * DAY - 1) == []
    assert reviews.old(T0 + 30 * DAY) == [3]


def test_a_change_of_the_model_is_seen_once() -> None:
    reviews = PromptReviews(RULE, "tasks")

    assert [reviews.model(3, at) for at in (T0, T0, T0 - 5, T0 + 5)] == [True, False, False, True]


def test_it_is_the_same_after_a_restart() -> None:
    reviews = PromptReviews(RULE, "tasks")
    reviews.open(3, T0, "MODEL")
    reviews.model(3, T0)
    again = PromptReviews(RULE, "tasks")
    other = PromptReviews(RULE, "reviews")
    for stored in state.decode([(key, value) for key, value in reviews.changes() if value]):
        assert not other.restore(stored)
        assert again.restore(stored)
    again.settle()

    assert list(again.changes()) == []
    assert again.old(T0 + 30 * DAY) == [3]
    assert not again.model(3, T0)


def test_a_freed_row_is_forgotten() -> None:
    reviews = PromptReviews(RULE, "tasks")
    reviews.open(3, T0, "MODEL")
    reviews.forget(3)

    assert [value for _, value in reviews.changes()] == [None]
