from __future__ import annotations

from streams.rows import HEADER_COST, KEPT, Row, Rows


def rows(*offsets: int) -> Rows:
    made = Rows()
    for offset in offsets:
        made.add(Row(offset, 7, b"k%d" % offset, b"v"))
    return made


def test_rows_that_follow_each_other_stay_a_range() -> None:
    first = Rows(range(3), [1] * 3, [None] * 3, [None] * 3, [[]] * 3, cost=30)
    first.extend(Rows(range(3, 5), [1] * 2, [None] * 2, [None] * 2, [[]] * 2, cost=20))
    assert first.offsets == range(5)
    assert (len(first.headers), first.cost) == (5, 50)
    first.extend(rows(9))
    assert [*first.offsets] == [0, 1, 2, 3, 4, 9]


def test_a_split_keeps_all_and_marks_stay_with_their_records() -> None:
    made = rows(1, 5, 9)
    made.add(Row(12, 7, oversize=99, unreadable="why"))
    made.oversize[5] = 77
    first = made.split(2)
    assert ([*first.offsets], [*made.offsets]) == ([1, 5], [9, 12])
    assert (first.keys, made.keys) == ([b"k1", b"k5"], [b"k9", None])
    assert (first.oversize, made.oversize) == ({5: 77}, {12: 99})
    assert (first.unreadable, made.unreadable) == ({}, {12: "why"})


def test_headers_cost_more_than_their_bytes() -> None:
    made = Rows()
    made.add(Row(0, 7, b"key", b"value", [("name", b"data"), ("none", None)]))
    assert made.cost == 8 + 2 * HEADER_COST + 12


def test_a_cut_row_keeps_the_beginnings_and_says_its_size() -> None:
    row = Row(3, 7, None, b"v" * (KEPT + 5), [("h", b"")]).cut(KEPT + 5)
    assert (row.key, row.value, row.oversize) == (None, b"v" * KEPT, KEPT + 5)
    assert (row.offset, row.headers) == (3, [("h", b"")])
