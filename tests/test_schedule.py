"""What the exactly-once proof does to workers and broker."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from load.schedule import POINTS, QUICK, Size, schedule


def test_the_full_proof_breaks_enough() -> None:
    steps = schedule(1, Size.full(5))
    done = Counter(step.verb for step in steps)
    assert done["kill"] >= 10
    assert done["pause"] >= 3
    assert done["leave"] >= 3
    assert done["broker"] == 1
    assert {step.argument.split("=")[0] for step in steps if step.verb == "point"} == set(POINTS)
    assert Size.full(5).tasks >= 300_000
    assert Size.full(5).agents >= 40


def test_steps_come_in_order_and_the_last_is_a_kill_after_the_last_event() -> None:
    for size in (QUICK, Size.full(5), Size.full(20)):
        times = [step.at for step in schedule(3, size)]
        assert times == sorted(times)
        assert times[-2] < size.seconds < times[-1]
        assert schedule(3, size)[-1].verb == "kill"


def test_a_seed_fixes_the_schedule() -> None:
    assert schedule(7, QUICK) == schedule(7, QUICK)
    assert schedule(7, QUICK) != schedule(8, QUICK)


def test_with_a_registry_it_dies_while_events_flow_and_all_else_happens_too() -> None:
    for size, deaths in ((QUICK.with_registry(), 1), (Size.full(5).with_registry(), 2)):
        steps = schedule(1, size)
        times = [step.at for step in steps if step.verb == "registry"]
        assert len(times) == deaths
        assert all(0 < at < size.seconds for at in times)
        others = Counter(step.verb for step in steps if step.verb != "registry")
        assert others == Counter(step.verb for step in schedule(1, replace(size, registry_kills=0)))
