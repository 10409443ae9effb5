from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console

from streams.demo_view import DAY_MS, Totals, View

ORIGIN = 1_700_000_000_000
HOUR_MS = 3_600_000


def alert(status: str, at: int = 30 * DAY_MS) -> dict[str, Any]:
    return {
        "status": status,
        "reason": "CONDITION_TRUE",
        "page": True,
        "rule": "error-rate",
        "entity_id": "document-intake",
        "summary": "a sentence of any length: " + "long " * 60,
        "updated_at": ORIGIN + at,
    }


def window(hour: int, **counts: int) -> dict[str, Any]:
    zero = {"automated": 0, "escalated": 0, "failed": 0, "unknown": 0, "cost_micro_usd": 0}
    start = ORIGIN + hour * HOUR_MS
    fixed = {"agent_id": "a", "task_type": "t", "window_start": start, "at": start + HOUR_MS}
    fixed |= {"series": "TASKS"}
    return fixed | zero | counts


def view(*, terminal: bool) -> tuple[View, Totals, StringIO]:
    out, totals = StringIO(), Totals()
    shown = View(Console(file=out, force_terminal=terminal, width=120), totals)
    shown.origin_ms = ORIGIN
    return shown, totals, out


def test_a_pipe_gets_one_line_a_transition_with_its_word_however_long() -> None:
    shown, totals, out = view(terminal=False)
    with shown:
        for status in ("FIRING", "UPDATED", "RESOLVED"):
            shown.alert(alert(status))

    lines = out.getvalue().splitlines()
    assert all(status in line for status, line in zip(totals.transitions, lines, strict=True))
    assert "day 31 00:00  FIRING" in lines[0]
    assert totals.transitions == {"FIRING": 1, "UPDATED": 1, "RESOLVED": 1}
    assert totals.first_firing is not None


def test_a_page_is_counted_when_it_calls_and_not_when_it_ends() -> None:
    shown, totals, out = view(terminal=False)
    with shown:
        shown.alert(alert("FIRING") | {"page": False})
        shown.alert(alert("UPDATED") | {"reason": "GROUP_WAIT"})
        shown.alert(alert("RESOLVED"))

    assert totals.pages == 1
    assert [line.split()[5:7] for line in out.getvalue().splitlines()] == [
        ["FIRING", "no"],
        ["UPDATED", "PAGE"],
        ["RESOLVED", "PAGE"],
    ]
    assert "(GROUP_WAIT)" in out.getvalue()


def test_a_retraining_request_is_a_line_of_its_own_kind() -> None:
    shown, totals, out = view(terminal=False)
    with shown:
        shown.request(
            {
                "status": "REQUESTED",
                "cause": "INPUT_DRIFT",
                "action": "FINE_TUNE",
                "summary": "a: input drift: turns up",
                "updated_at": ORIGIN,
            }
        )

    assert "REQUESTED  retrain" in out.getvalue()
    assert "INPUT_DRIFT: a: input drift: turns up" in out.getvalue()
    assert totals.requests == {"REQUESTED": 1}
    assert totals.transitions == {}


def test_windows_of_other_series_are_not_tasks() -> None:
    shown, _, out = view(terminal=True)
    with shown:
        shown.window(window(24, automated=1))
        shown.window(window(25, automated=50) | {"series": "CALLS", "agent_id": "caller"})

    assert "caller" not in out.getvalue()


def test_a_pipe_gets_phases_and_progress() -> None:
    shown, totals, out = view(terminal=False)
    with shown:
        shown.phase("days 1 to 30")
        totals.produced = 5_000
        shown.window(window(24))
        shown.consumed(4_000)
        shown.consumed(4_500)

    lines = out.getvalue().splitlines()
    assert lines[0].endswith("days 1 to 30")
    assert "event time day  2 01:00" in lines[1]
    assert "produced 5,000  consumed 4,000" in lines[1]
    assert len(lines) == 2


def test_a_terminal_shows_the_last_hour_of_each_agent_and_the_alerts() -> None:
    shown, _, out = view(terminal=True)
    with shown:
        shown.window(window(24, automated=1))
        shown.window(window(25, automated=90, escalated=8, failed=2, cost_micro_usd=1_000_000))
        shown.window(window(24, automated=7))
        shown.alert(alert("FIRING"))

    picture = out.getvalue()
    for words in ("01:00", "100", "90.0 %", "8.0 %", "2.0 %", "0.01000", "FIRING", "PAGE"):
        assert words in picture
