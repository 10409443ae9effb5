from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import records
from streams.record_stream import HEADER, Scratch
from streams.records import BatchReader, SmallBatches, read_at_once
from streams.rows import KEPT, SMALL, Limits, Rows
from tests.kafka_batches import PACK, STAMP, batch, body, record, sized, varint

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streams.batch import Header

LIMITS = Limits()
IN_PIECES = Limits(unpacked=2048)
CODECS = pytest.mark.parametrize("pack", list(PACK))

Columns = tuple[list[int], list[int], list[Any], list[Any], list[Any]]


class InPython(BatchReader):
    """A reader that leaves nothing to aiokafka."""

    def _fast(self, records: bytes, count: int) -> None:
        del records, count


def stepwise(data: bytes, limits: Limits = LIMITS, reader: type[BatchReader] = BatchReader) -> Rows:
    rows = Rows()
    for some in reader(memoryview(data), Scratch(limits.unpacked), limits):
        rows.extend(some)
    return rows


def at_once(data: bytes, limits: Limits = LIMITS) -> Rows | None:
    view = memoryview(data)
    return read_at_once(view, DefaultRecordBatch(view), Scratch(limits.unpacked), limits)


def together(*batches: bytes) -> Rows | None:
    small = SmallBatches(Scratch(LIMITS.unpacked))
    for data in batches:
        view = memoryview(data)
        if not small.add(view, DefaultRecordBatch(view)):
            return None
    return small.rows()


def read(data: bytes, limits: Limits = LIMITS) -> Rows:
    """Read a batch as a consumer does."""
    rows = at_once(data, limits)
    return stepwise(data, limits) if rows is None else rows


def columns(rows: Rows | None) -> Columns:
    assert rows is not None
    found = [[*map(tuple, one)] for one in rows.headers]
    return [*rows.offsets], rows.timestamps, rows.keys, rows.values, found


def by_aiokafka(data: bytes) -> Columns:
    found = list(DefaultRecordBatch(memoryview(data)))
    return (
        [one.offset for one in found],
        [one.timestamp for one in found],
        [one.key for one in found],
        [one.value for one in found],
        [one.headers for one in found],
    )


texts = st.text(max_size=9).map(str.encode)
contents = st.none() | st.binary(max_size=40)
headers = st.lists(st.tuples(texts, contents), max_size=3)
entries = st.tuples(contents, contents, headers, st.integers(-(2**40), 2**40))
parts = st.lists(entries, min_size=1, max_size=30)


@settings(max_examples=25, deadline=None)
@given(
    parts=parts,
    gaps=st.lists(st.integers(1, 1000), min_size=30, max_size=30),
    pack=st.sampled_from(list(PACK)),
    first=st.integers(0, 2**50),
    attributes=st.sampled_from([0, 0x08, 0x10]),
    compacted=st.booleans(),
)
def test_every_way_of_reading_gives_what_aiokafka_gives(
    parts: list[Any], gaps: list[int], pack: str, first: int, attributes: int, *, compacted: bool
) -> None:
    deltas = [sum(gaps[: number + 1]) if compacted else number for number in range(len(parts))]
    made = [record(at, *one) for at, one in zip(deltas, parts, strict=True)]
    last = max(deltas, default=0)
    data = batch(made, first=first, last_delta=last, pack=pack, attributes=attributes)
    expected = by_aiokafka(data)
    assert columns(at_once(data)) == expected
    assert columns(stepwise(data)) == expected
    assert columns(stepwise(data, IN_PIECES)) == expected
    assert columns(stepwise(data, IN_PIECES, InPython)) == expected
    assert columns(stepwise(data, LIMITS, InPython)) == expected
    if parts and not compacted:
        assert columns(together(data)) == expected


@settings(max_examples=80, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    cut=st.none() | st.integers(0, 900),
    pack=st.sampled_from(["none", "zstd"]),
    claims=st.sampled_from(
        [(20, 19)] * 6 + [(0, 19), (5, 19), (-1, 19), (2**31 - 1, 19), (20, -5)]
    ),
)
def test_whatever_stands_in_a_batch_its_offsets_ascend_within_it(
    changes: list[tuple[int, int]], cut: int | None, pack: str, claims: tuple[int, int]
) -> None:
    made = bytearray()
    for number in range(20):
        made += record(number, b"key%d" % number, b"v" * (number % 7), [(b"h", b"x"), (b"n", None)])
    for at, byte in changes:
        made[at % len(made)] = byte
    data = batch(bytes(made[:cut]), claims[0], first=1000, last_delta=claims[1], pack=pack)
    rows = read(data)
    offsets = list(rows.offsets)
    assert offsets == sorted(set(offsets))
    assert all(1000 <= at <= 1000 + max(claims[1], 0) for at in offsets)
    assert {len(column) for column in columns(rows)} == {len(offsets)}
    assert rows.unreadable.keys() | rows.oversize.keys() <= set(offsets)
    assert columns(stepwise(data, IN_PIECES, InPython)) == columns(rows)
    if claims == (20, 19):
        given_up = [why for why in rows.unreadable.values() if "offsets" in why]
        assert len(offsets) == 20 or given_up


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (sized(body(1)[:-1]), "ends inside a number"),
        (sized(body(1) + b"rest"), "4 bytes are left over"),
        (sized(b"\0\0\x02" + varint(1000) + b"k"), "a field claims 1000 bytes, 1 are left"),
        (sized(b"\0\0\x02" + varint(2**62) + b"k"), "a field claims 4611686018427387904"),
        (sized(b"\0\0\x02\x01\x01" + varint(-2)), "claims -2 headers"),
        (sized(b"\0\0\x02\x01\x01" + varint(2**40) + b"\x02a\x01"), "ends inside a number"),
        (sized(b"\0\0\x02\x01\x01\x02\x01\x01"), "a header has no name"),
        (sized(b""), "a field claims 1 bytes"),
        (record(0), "claims offset 0, possible are 1 to 1"),
        (record(7), "claims offset 7, possible are 1 to 1"),
        (record(-1), "claims offset -1"),
        (record(2**62), "claims offset 4611686018427387904"),
    ],
)
@pytest.mark.parametrize("limits", [LIMITS, IN_PIECES])
@pytest.mark.parametrize("pack", ["none", "zstd"])
def test_a_record_that_is_wrong_inside_costs_its_neighbours_nothing(
    wrong: bytes, why: str, limits: Limits, pack: str
) -> None:
    rows = read(batch([record(0, b"a"), wrong, record(2, b"c")], pack=pack), limits)
    assert [*rows.offsets] == [0, 1, 2]
    assert (rows.keys[0], rows.keys[2]) == (b"a", b"c")
    assert rows.unreadable.keys() == {1}
    assert why in rows.unreadable[1]


def test_what_was_read_of_a_wrong_record_is_kept() -> None:
    wrong = sized(body(1, b"key", b"value") + b"rest")
    rows = read(batch([record(0), wrong]))
    assert (rows.keys[1], rows.values[1]) == (b"key", b"value")


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (varint(-1), "claims to have -1 bytes"),
        (varint(2**31), "claims to have 2147483648 bytes"),
        (
            varint(2**31 - 1) + b"\0\0\x04\x01" + varint(10**6) + b"v",
            "999999 bytes before a record",
        ),
        (b"\x80" * 12, "where a number should stand"),
        (b"", "where a number should stand"),
    ],
)
@pytest.mark.parametrize("limits", [LIMITS, IN_PIECES])
@pytest.mark.parametrize("pack", ["none", "lz4"])
def test_where_no_record_can_be_found_any_more_one_row_stands_for_the_rest(
    end: bytes, why: str, limits: Limits, pack: str
) -> None:
    made = record(0) + record(1) + end
    rows = read(batch(made, 9, first=100, last_delta=8, pack=pack), limits)
    assert [*rows.offsets] == [100, 101, 102]
    assert [*rows.unreadable] == [102]
    assert rows.unreadable[102].startswith("offsets 102 to 108: ")
    assert why in rows.unreadable[102]
    assert (rows.keys[2], rows.values[2], rows.timestamps[2]) == (None, None, STAMP + 9)


@CODECS
def test_a_batch_that_ends_early_gives_what_it_has(pack: str) -> None:
    made = [record(number, b"%032d" % (number * 7**9)) for number in range(20_000)]
    whole = PACK[pack](b"".join(made))
    data = batch(b"", len(made), packed=whole[: len(whole) // 2], pack=pack)
    rows = read(data)
    [why] = rows.unreadable.values()
    assert why.startswith(f"offsets {len(rows) - 1} to 19999: ")
    expected = [b"%032d" % (number * 7**9) for number in range(len(rows) - 1)]
    assert rows.keys == [*expected, None]
    if pack != "snappy":  # of which a block is all or nothing
        assert len(rows) > 5000


@pytest.mark.parametrize("codec", [5, 6, 7])
def test_an_unknown_compression_is_one_unreadable_row(codec: int) -> None:
    rows = read(batch([record(0), record(1)], attributes=codec))
    assert [*rows.offsets] == [0]
    assert f"offsets 0 to 1: compression type {codec} does not exist" in rows.unreadable[0]


def test_fewer_records_claimed_than_there_are_is_said() -> None:
    rows = read(batch([record(number) for number in range(5)], 2, last_delta=4))
    assert [*rows.offsets] == [0, 1, 2]
    assert rows.unreadable == {2: "offsets 2 to 4: it claims to have 2 records, and has more"}


def test_more_records_than_offsets_are_left() -> None:
    rows = read(batch([record(number) for number in range(5)], last_delta=2))
    assert [*rows.offsets] == [0, 1, 2]


def test_a_batch_without_records_gives_none() -> None:
    assert len(read(batch([], last_delta=6))) == 0


@CODECS
@pytest.mark.parametrize("limits", [LIMITS, IN_PIECES])
def test_a_batch_of_one_record_is_read(pack: str, limits: Limits) -> None:
    rows = read(batch([record(0, b"key", b"value", [(b"h", b"1")])], first=9, pack=pack), limits)
    assert columns(rows) == ([9], [STAMP], [b"key"], [b"value"], [[("h", b"1")]])


@CODECS
@pytest.mark.parametrize("limits", [LIMITS, IN_PIECES])
@pytest.mark.parametrize("size", [(1 << 20) - 3, (1 << 20) - 2, 5_000_000])
def test_a_record_larger_than_the_limit_is_cut_and_says_its_size(
    pack: str, limits: Limits, size: int
) -> None:
    made = [record(0), record(1, b"key", b"v" * size, [(b"h", b"x")]), record(2)]
    rows = read(batch(made, pack=pack), limits)
    cut = size + 3 > 1 << 20
    assert rows.oversize == ({1: size + 3} if cut else {})
    assert rows.values == [b"v", b"v" * (KEPT if cut else size), b"v"]
    assert rows.keys == [b"k", b"key", b"k"]
    assert rows.headers[1] == [("h", b"x")]
    assert not rows.unreadable


def test_a_key_larger_than_the_limit_is_cut_too() -> None:
    rows = read(
        batch([record(0, b"k" * 2_000_000, None), record(1, b"k" * 1_000_000, b"v" * SMALL)])
    )
    assert rows.oversize == {0: 2_000_000, 1: 1_065_536}
    assert rows.keys == [b"k" * KEPT, b"k" * KEPT]
    assert rows.values == [None, b"v" * KEPT]


@pytest.mark.parametrize("pack", ["none", "zstd"])
def test_header_names_that_are_not_utf_8_are_escaped(pack: str) -> None:
    rows = read(batch([record(0, headers=[(b"caf\xe9\xff", b"\xff"), (b"", None)])], pack=pack))
    assert rows.headers == [[("caf\\xe9\\xff", b"\xff"), ("", None)]]
    assert not rows.unreadable


@pytest.mark.parametrize("pack", ["none", "zstd"])
@pytest.mark.parametrize("count", [records.MAX_HEADERS, records.MAX_HEADERS + 1, 1_000_000])
def test_of_many_headers_the_first_are_kept(pack: str, count: int) -> None:
    many = sized(b"\0\0\0" + sized(b"k") + sized(b"v") + varint(count) + b"\x02a\x01" * count)
    rows = read(batch([many, record(1, b"next")], pack=pack))
    assert rows.headers[0] == [("a", None)] * records.MAX_HEADERS
    assert rows.keys[1] == b"next"
    assert not rows.unreadable


@pytest.mark.parametrize("wide", [SMALL - 100, SMALL, 3 << 20])
@pytest.mark.parametrize("limits", [LIMITS, IN_PIECES])
def test_large_headers_are_left_out_whatever_stands_beside_them(wide: int, limits: Limits) -> None:
    large = record(0, headers=[(b"a", b"1"), (b"b", b"x" * wide), (b"c", b"3")])
    kept: list[Header] = [("a", b"1")]
    if wide < SMALL:
        kept += [("b", b"x" * wide), ("c", b"3")]
    for neighbours in (0, 500):
        more = [record(1 + number, None, b"x" * 400) for number in range(neighbours)]
        rows = read(batch([large, *more], pack="zstd"), limits)
        assert rows.headers[0] == kept
        assert rows.values[0] == b"v"
        assert len(rows) == 1 + neighbours


def test_one_odd_record_among_thousands_is_found_without_reading_all_in_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow = 0

    def counting(self: BatchReader, stream: Any) -> Any:
        nonlocal slow
        slow += 1
        return original(self, stream)

    original: Callable[[BatchReader, Any], Any] = BatchReader._record
    monkeypatch.setattr(BatchReader, "_record", counting)
    made = [record(number, headers=[(b"\xff", b"")] * (number == 5000)) for number in range(9000)]
    rows = read(batch(made))
    assert rows.headers[5000] == [("\\xff", b"")]
    assert len(rows) == 9000
    assert 1 <= slow <= records.FEW


def test_small_batches_are_read_together() -> None:
    made = [
        batch([record(0, b"a", headers=[(b"h", None)]), record(1, b"b")], pack="zstd"),
        batch([record(0, b"c")], first=2),
        batch([record(0, b"d")], first=7, pack="gzip"),
    ]
    rows = together(*made)
    assert rows is not None
    assert [*rows.offsets] == [0, 1, 2, 7]
    assert rows.keys == [b"a", b"b", b"c", b"d"]
    assert rows.headers == [[("h", None)], [], [], []]


@pytest.mark.parametrize(
    "odd",
    [
        batch([record(1), record(0)]),
        batch([record(0), record(5)], last_delta=5),
        batch([record(0, headers=[(b"\xff", b"")])]),
        batch([record(0, b"k", b"v" * SMALL)]),
        batch([record(0, b"k", b"v" * SMALL)], pack="zstd"),
        batch([record(0)], attributes=7),
        batch([record(0)], last_delta=-3),
        batch([record(0)], -1, last_delta=0),
    ],
)
def test_an_odd_batch_is_not_read_together_with_others(odd: bytes) -> None:
    assert together(odd) is None


def test_two_batches_in_one_buffer_do_not_mix() -> None:
    scratch, made = (
        Scratch(LIMITS.unpacked),
        [[b"%d-%d" % (n, i) for i in range(9000)] for n in (1, 2)],
    )
    data = [batch([record(i, one) for i, one in enumerate(keys)], pack="lz4") for keys in made]
    readers = [iter(BatchReader(memoryview(one), scratch, LIMITS)) for one in data]
    found: Sequence[Rows] = [Rows(), Rows()]
    for _ in range(3):  # in turn, each time with the other's records in the buffer
        for rows, reader in zip(found, readers, strict=True):
            rows.extend(next(reader, Rows()))
    assert [rows.keys for rows in found] == made


def test_a_limit_below_what_is_never_looked_at_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 65536"):
        Limits(value=1000)


def test_the_header_of_a_batch_is_that_of_aiokafka() -> None:
    data = batch([record(0), record(1)], first=7, pack="zstd", attributes=0x18)
    ours, theirs = (
        BatchReader(memoryview(data), Scratch(9), LIMITS).header,
        DefaultRecordBatch(data),
    )
    for name in ("base_offset", "attributes", "last_offset_delta", "max_timestamp", "crc"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert (ours.records, HEADER.size) == (2, 61)
