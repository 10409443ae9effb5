"""That somebody should look at the prompt of an agent: its model changed, or it performs otherwise.

Open from the event that asks for it to the next change of the prompt, or until it is old.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams import state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.drift_rules import PromptReviewRule
    from streams.state import Stored
    from streams.watch import Change


@dataclass(slots=True)
class PromptReview:
    """The review of one agent's prompt.

    Attributes:
        started_at: since when it is open; None while it is not.
        why: MODEL or the signal that drifts.
        model_at: event time of the newest model change seen.
    """

    started_at: int | None = None
    why: str | None = None
    model_at: int | None = None


class PromptReviews:
    """All of a partition.

    Args:
        rule: the numbers.
        source: name in the state.
    """

    def __init__(self, rule: PromptReviewRule, source: str) -> None:
        self.rule = rule
        self._source = source
        self._reviews: dict[int, PromptReview] = {}
        self._dirty: set[int] = set()

    def __len__(self) -> int:
        """Return how many are open."""
        return sum(one.started_at is not None for one in self._reviews.values())

    def open(self, row: int, tick: int, why: str) -> bool:
        """Ask for a review; return whether none was open."""
        review = self._reviews.setdefault(row, PromptReview())
        if review.started_at is not None:
            return False
        review.started_at, review.why = tick, why
        self._dirty.add(row)
        return True

    def model(self, row: int, at: int) -> bool:
        """Note a change of the model; return whether it was not seen before."""
        review = self._reviews.setdefault(row, PromptReview())
        if review.model_at is not None and at <= review.model_at:
            return False
        review.model_at = at
        self._dirty.add(row)
        return True

    def close(self, row: int, changed_at: int | None = None) -> PromptReview | None:
        """End an open review; return what it was, None where none was open.

        Args:
            row: the agent.
            changed_at: event time of the change that ends it: one before it began does not.
        """
        review = self._reviews.get(row)
        if review is None or review.started_at is None:
            return None
        if changed_at is not None and changed_at <= review.started_at:
            return None
        ended = PromptReview(review.started_at, review.why, review.model_at)
        review.started_at = review.why = None
        self._dirty.add(row)
        return ended

    def old(self, tick: int) -> list[int]:
        """Return the rows whose review is open for too long, ascending."""
        latest = tick - self.rule.open_for_ms
        return sorted(
            row
            for row, one in self._reviews.items()
            if one.started_at is not None and one.started_at <= latest
        )

    def forget(self, row: int) -> None:
        """Drop all of a row."""
        if self._reviews.pop(row, None) is not None:
            self._dirty.add(row)

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        for row in sorted(self._dirty):
            one = self._reviews.get(row)
            key = state.prompt_review_key(self._source, row)
            if one is None:
                yield key, None
                continue
            fields = {"started_at": one.started_at, "why": one.why, "model_at": one.model_at}
            record = {"source": self._source, "row": row, **fields}
            yield key, state.encode("PromptReviewState", record)
        self._dirty.clear()

    def restore(self, stored: Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        fields = stored.fields
        if stored.kind != "PromptReviewState" or fields["source"] != self._source:
            return False
        times = fields["started_at"], fields["why"], fields["model_at"]
        self._reviews[fields["row"]] = PromptReview(*times)
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._dirty.clear()
