"""The lives of the rules on cost remember who was called, and outlive a restart."""

from __future__ import annotations

from streams import state
from streams.arms import CLEAR, ENOUGH, FIRE, JUDGEABLE, WAKES
from streams.cost_lives import CostLives, Of
from streams.durations import HOUR
from streams.reasons import EntityKind
from tests.cost_rig import RULES

KEY = Of(EntityKind.AGENT, None, "claims", "invoice").key
UP, CALM = ENOUGH | JUDGEABLE | FIRE | WAKES, ENOUGH | JUDGEABLE | CLEAR


def fired(*, wanted: bool) -> tuple[CostLives, list[bool]]:
    """Return lives of which one fires, and whether its steps called a person."""
    lives, pages = CostLives(RULES.cost_plan), []
    for hour in range(2):
        turns = lives.step(KEY, hour * HOUR, [UP])
        pages += [lives.pages(KEY, turn, wanted=wanted) for turn in turns]
    return lives, pages


def copied(lives: CostLives) -> CostLives:
    """Return what is restored of the state that lives wrote."""
    other = CostLives(RULES.cost_plan)
    records = [(key, value) for key, value in lives.changes() if value is not None]
    for stored in state.decode(records):
        assert not CostLives(RULES.cost).restore(stored)
        assert other.restore(stored)
    other.settle()
    return other


def test_what_fired_with_a_page_pages_to_its_end_also_after_a_restart() -> None:
    lives, pages = fired(wanted=True)

    lives = copied(lives)

    assert pages == [False, True]
    assert lives.busy()
    assert list(lives.changes()) == []
    (turn,) = lives.step(KEY, 2 * HOUR, [CALM])
    assert lives.pages(KEY, turn, wanted=False)
    assert lives.paged == set()


def test_what_fired_without_a_page_never_pages() -> None:
    lives, pages = fired(wanted=False)

    lives = copied(lives)

    assert pages == [False, False]
    (turn,) = lives.step(KEY, 2 * HOUR, [CALM])
    assert not lives.pages(KEY, turn, wanted=True)


def test_a_life_that_is_dropped_leaves_a_record_that_is_gone() -> None:
    lives, _ = fired(wanted=True)
    lives.settle()

    lives.drop(KEY)

    assert list(lives.changes()) == [(state.cost_life_key("cost-plan", KEY), None)]
    assert lives.paged == set()


def test_keys_tell_subjects_apart() -> None:
    keys = {
        Of(EntityKind.AGENT, tenant, entity, part).key
        for tenant in (None, "", "a")
        for entity in ("a", "a,b", 'a"')
        for part in (None, "", "a")
    }

    assert len(keys) == 27
