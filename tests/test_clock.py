from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.clock import AHEAD, RETENTION, UNSET, Clock, Reached, ticks
from streams.durations import DAY, HOUR, MINUTE, SECOND

EXAMPLES = settings(max_examples=500, derandomize=True, deadline=None)
BEGIN = 20_000 * DAY

AGES = st.sampled_from(
    [
        *(0, 1, HOUR, RETENTION - 1, RETENTION, RETENTION + HOUR - 1, RETENTION + HOUR, 40 * DAY),
        *(-1, -AHEAD, -AHEAD - 1, -AHEAD + 1),
    ]
)
RECORDS = st.lists(st.tuples(st.integers(0, 3 * HOUR), AGES), min_size=1, max_size=30)


@EXAMPLES
@given(RECORDS, st.one_of(st.none(), st.integers(0, 2 * HOUR)))
def test_admission_is_that_of_one_record_after_the_other(
    records: list[tuple[int, int]], now: int | None
) -> None:
    clock = Clock(None if now is None else BEGIN + now)
    stamps = [BEGIN + time for time, _ in records]
    events = [stamp - age for stamp, (_, age) in zip(stamps, records, strict=True)]

    admission = clock.admit(np.array(events), np.array(stamps))

    at = clock.now
    for place, (event, stamp) in enumerate(zip(events, stamps, strict=True)):
        future = event > stamp + AHEAD
        late = not future and at is not None and event < at // HOUR * HOUR - RETENTION
        assert (admission.future[place], admission.late[place]) == (future, late)
        if not (future or late):
            at = min(event, stamp) if at is None else max(at, min(event, stamp))
        assert admission.clocks[place] == (UNSET if at is None else at)
    assert admission.good == (not (admission.future.any() or admission.late.any()))


def test_the_lag_is_that_of_the_record_that_set_the_clock() -> None:
    clock = Clock()
    clock.move(BEGIN, event=BEGIN, stamp=BEGIN + 7)
    clock.move(BEGIN, event=BEGIN - 5, stamp=BEGIN + 9)  # admitted, but did not set it
    assert clock.lag == 7

    clock.move(BEGIN + 1, event=BEGIN + 3, stamp=BEGIN + 1)  # ahead of its timestamp

    assert clock.lag == 0


@pytest.mark.parametrize(
    ("after", "until", "expected"),
    [
        (BEGIN, BEGIN + 5 * SECOND, [BEGIN + 5 * SECOND]),
        (BEGIN - 1, BEGIN, [BEGIN]),
        (BEGIN, BEGIN + 5 * SECOND - 1, []),
        (BEGIN, BEGIN, []),
    ],
)
def test_ticks_are_after_the_one_and_up_to_the_other(
    after: int, until: int, expected: list[int]
) -> None:
    assert ticks(after, until, 5 * SECOND).tolist() == expected


def test_evidence_begins_where_the_clock_came_into_the_hour() -> None:
    reached = Reached()
    clocks = np.array([BEGIN + MINUTE, BEGIN + HOUR, BEGIN + HOUR + 1, BEGIN + 5 * HOUR])
    reached.note(clocks[:2], np.array([10, 11]))
    reached.note(clocks[2:], np.array([12, 15]))

    assert reached.first(BEGIN - DAY, 15) == 10
    assert reached.first(BEGIN + 59 * MINUTE, 15) == 10
    assert reached.first(BEGIN + HOUR + MINUTE, 15) == 11
    assert reached.first(BEGIN + 3 * HOUR, 15) == 15
    # What no record up to there reached has the oldest known for evidence.
    assert reached.first(BEGIN + 3 * HOUR, 12) == 10

    reached.prune(BEGIN + HOUR + RETENTION)
    assert reached.first(BEGIN, 15) == 11
    assert Reached().first(BEGIN, 15) == -1
