from __future__ import annotations

from streams.durations import DAY
from streams.reasons import Transition, TransitionReason
from streams.standing import Standing

REASONS = (TransitionReason.PATTERN, TransitionReason.QUIET)


def steps(*holds: bool) -> list[str]:
    """Return what each day does to a life that ends after two quiet days."""
    life = Standing()
    found = []
    for day, one in enumerate(holds):
        turn = life.step(day * DAY, 2 * DAY, holds=one, reasons=REASONS)
        found.append("" if turn is None else f"{turn.transition} {turn.reason} {turn.started_at}")
    return found


def test_it_begins_at_once_and_ends_after_some_quiet() -> None:
    assert steps(False, True, True, False, False, False) == [
        "",
        f"FIRING PATTERN {DAY}",
        "",
        "",
        "",
        f"RESOLVED QUIET {DAY}",
    ]


def test_a_day_on_which_it_holds_restarts_the_quiet() -> None:
    assert steps(True, False, False, True, False, False)[1:] == ["", "", "", "", ""]


def test_it_can_be_ended_at_once() -> None:
    life = Standing(5, 7)
    turn = life.end(TransitionReason.CHANGED)

    assert turn is not None
    assert (turn.transition, turn.started_at) == (Transition.RESOLVED, 5)
    assert not life.open
    assert life.end(TransitionReason.CHANGED) is None
