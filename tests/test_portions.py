from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from aiokafka.structs import TopicPartition

from streams.portions import PORTION_RECORDS, Cursor, PortionBuilder
from streams.rows import ROWS_COST, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

TP = TopicPartition("tasks", 3)


def rows(first: int, count: int, cost: int = 0) -> Rows:
    nothing: list[None] = [None] * count
    return Rows(
        range(first, first + count), [7] * count, [*nothing], [*nothing], [[]] * count, cost=cost
    )


class Fetched:
    """Records that a portion is taken of."""

    def __init__(self, *pieces: tuple[Rows, int]) -> None:
        self.pieces: Iterator[tuple[Rows, int]] = iter(pieces)
        self.next_fetch_offset = 0


def take(records: Any, start: int = 0) -> Any:
    builder = PortionBuilder(TP, Cursor(1, start), 0.0)
    builder.take(records)
    return SimpleNamespace(portion=builder.done(broken=False), cursor=builder.cursor)


def edges(portion: Any) -> list[tuple[int, int]]:
    return [(one.fetch_from, one.next_offset) for one in portion.batches]


def test_a_portion_ends_with_what_makes_it_large_enough() -> None:
    records = Fetched(*((rows(at, 10, ROWS_COST // 2), at + 10) for at in (0, 10, 20)))
    first = take(records)
    assert (edges(first.portion), first.portion.last) == ([(0, 20)], False)
    assert (first.cursor, records.next_fetch_offset) == (Cursor(1, 20), 20)
    rest = take(records, 20)
    assert (edges(rest.portion), rest.portion.last) == ([(20, 30)], True)


def test_a_portion_ends_after_many_records_too() -> None:
    records = Fetched((rows(0, PORTION_RECORDS), PORTION_RECORDS), (Rows(), PORTION_RECORDS + 1))
    assert not take(records).portion.last
    assert edges(take(records, PORTION_RECORDS).portion) == [(PORTION_RECORDS, PORTION_RECORDS + 1)]


def test_work_without_records_ends_a_portion_and_moves_nothing() -> None:
    records = Fetched((Rows(cost=ROWS_COST), 0), (rows(0, 1), 1))
    first = take(records)
    assert (first.portion.batches, first.portion.last, first.cursor.offset) == ([], False, 0)
    assert edges(take(records).portion) == [(0, 1)]


def test_costly_rows_are_cut_into_batches_that_join_up() -> None:
    portion = take(Fetched((rows(5, 100, 4 * ROWS_COST), 120)), 5).portion
    assert edges(portion) == [(5, 30), (30, 55), (55, 80), (80, 120)]
    offsets = np.concatenate([one.offsets for one in portion.batches])
    np.testing.assert_array_equal(offsets, np.arange(5, 105))


def test_a_position_never_goes_back() -> None:
    records = Fetched((rows(5, 3), 8), (Rows(), 2))
    assert edges(take(records).portion) == [(0, 8)]
    assert records.next_fetch_offset == 8
