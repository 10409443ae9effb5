"""Avro values of one schema read in columns: one position in each of many values at once.

Each step of a plan reads one field of all values with a handful of numpy operations. As every
value keeps its own position and its own end, a broken one cannot shift its neighbours.

The reading is sound, not complete: a value it calls regular decodes exactly as any Avro reader
decodes it; whatever is odd (a long varint, an array in blocks, a text past 8 KiB, bytes left
over) is called irregular and left to a reader of single records.

Source of the encoding: Apache Avro 1.12 specification, "Binary Encoding".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

_MAX_FIELDS = 64
_STUCK = 16
"""Where positions that ran away are held: this far behind the last value, no value's end."""
_PAD = _STUCK + 9 * _MAX_FIELDS + 8
"""Zero bytes behind the last value: eight can be loaded wherever one field of at most nine
bytes after the other leads from where positions are held."""
_ZEROS = bytes(_PAD)
_HIGH = np.uint64(0x8080808080808080)
_ONE = np.uint64(1)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_DOUBLE = 8
"""Bytes of a double."""
_FEW = 8
"""Distinct texts that are told apart without sorting."""
_KEEP = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
"""Masks that keep the first n of eight bytes."""


class Text:
    """Bytes joined for random access by eight, little-endian."""

    __slots__ = ("data", "octets", "words")

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.data = b"".join((*pieces, _ZEROS))
        self.octets = np.frombuffer(self.data, np.uint8)
        # One word per byte position, overlapping: a load anywhere is one index.
        self.words: NDArray[np.uint64] = np.ndarray(
            (len(self.data) - 7,), np.dtype("<u8"), self.data, 0, (1,)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Where the texts of one field lie.

    Attributes:
        text: the bytes.
        start: int64[n].
        length: int64[n], bytes; 0 where absent.
        present: bool[n], False where the field is null.
    """

    text: Text
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    present: NDArray[np.bool_]

    def bytes_at(self, row: int) -> bytes:
        """Return the text of one row."""
        start = int(self.start[row])
        return self.text.data[start : start + int(self.length[row])]

    def where(self, kept: NDArray[np.bool_]) -> Spans:
        """Return the spans with empty texts, of no place, where not `kept`."""
        present = self.present & kept
        return Spans(self.text, self.start * present, self.length * present, present)

    def parts(self) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.uint64]]]:
        """Yield (first byte, rows that reach it, the eight bytes from it) along the texts."""
        rows = np.flatnonzero(self.length)
        at = 0
        while len(rows):
            left = self.length[rows] - at
            word = self.text.words[self.start[rows] + at] & _KEEP.take(left, mode="clip")
            yield at, rows, word
            at += 8
            rows = rows[left > 8]  # noqa: PLR2004 - eight bytes a word

    def ascii(self) -> NDArray[np.bool_]:
        """Return which texts are ASCII."""
        found = np.ones(len(self.start), np.bool_)
        for _, rows, word in self.parts():
            odd = rows[(word & _HIGH) != 0]
            found[odd] = False
        return found

    def same(self, text: Text, start: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which texts equal the bytes of `text` from `start` on, in their own length.

        These bytes must exist; take `where` to leave out the rows that have none.
        """
        found = np.ones(len(start), np.bool_)
        for at, rows, word in self.parts():
            keep = _KEEP.take(self.length[rows] - at, mode="clip")
            other = text.words[start[rows] + at] & keep
            found[rows[word != other]] = False
        return found

    def distinct(self) -> tuple[NDArray[np.int32], list[bytes]]:
        """Return codes int32[n] and the distinct texts they point to; exact, in any order."""
        mark = self.length.astype(np.uint64)
        parts = list(self.parts())
        for _, rows, word in parts:
            mixed = (mark[rows] ^ word) * _MIX
            mark[rows] = mixed ^ (mixed >> np.uint64(29))
        codes, first = _grouped(mark)
        # The mark is a hash: two texts may share it, by chance or by design.
        if self._same_as(first[codes], parts):
            return codes.astype(np.int32), [self.bytes_at(row) for row in first.tolist()]
        index: dict[bytes, int] = {}
        found = [index.setdefault(self.bytes_at(i), len(index)) for i in range(len(self.start))]
        return np.array(found, np.int32), list(index)

    def _same_as(
        self,
        other: NDArray[np.int64],
        parts: list[tuple[int, NDArray[np.int64], NDArray[np.uint64]]],
    ) -> bool:
        """Return whether each row's text equals that of row `other`."""
        if not np.array_equal(self.length, self.length[other]):
            return False
        full = np.zeros(len(other), np.uint64)
        for _, rows, word in parts:
            full[rows] = word
            if not np.array_equal(word, full[other[rows]]):
                return False
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """Where the numbers of one array field lie.

    Attributes:
        text: the bytes.
        start: int64[n], the first item.
        count: int64[n], items; 0 where the field is null.
        item: bytes of an item.
    """

    text: Text
    start: NDArray[np.int64]
    count: NDArray[np.int64]
    item: int

    def floats(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the items of `rows`, one list behind the other; they must be floats or doubles.

        These bytes must exist: rows that are not regular have none.
        """
        count = self.count[rows]
        behind = np.arange(int(count.sum())) - np.repeat(np.cumsum(count) - count, count)
        word = self.text.words[np.repeat(self.start[rows], count) + behind * self.item]
        raw = word.view("<f8") if self.item == _DOUBLE else word.astype("<u4").view("<f4")
        found: NDArray[np.float64] = raw.astype(np.float64, copy=False)
        return found


Column = Spans | Lists | tuple["NDArray[Any]", "NDArray[np.bool_] | None"]
"""What a field gives: texts, lists, or numbers with a mask of those present (None = all)."""


def _grouped(mark: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return codes int64[n] of equal marks, and a row of each code."""
    codes = np.zeros(len(mark), np.int64)
    rest = np.arange(len(mark))
    first: list[int] = []
    # A handful of values is usual, and found far sooner than by sorting.
    while len(rest) and len(first) < _FEW:
        others = rest[mark[rest] != mark[rest[0]]]
        first.append(int(rest[0]))
        codes[others] = len(first)
        rest, before = others, len(rest)
        if before - len(rest) < before // 32:
            break  # there are many
    if len(rest):
        _, found = np.unique(mark[rest], return_inverse=True)
        codes[rest] = found + len(first)
        more = np.zeros(int(found.max()) + 1, np.int64)
        more[found] = rest
        return codes, np.concatenate((first, more)).astype(np.int64)
    return codes, np.array(first, np.int64)


class Cursor:
    """A position in each of n values, and which of them were regular so far.

    Attributes:
        regular: bool[n]; what was read of the others is meaningless.
    """

    __slots__ = ("_at", "_end", "_limit", "_text", "regular")

    def __init__(self, text: Text, start: NDArray[np.int64], end: NDArray[np.int64]) -> None:
        self._text = text
        self._end = end
        self._limit = len(text.data) - _PAD + _STUCK
        self._at = np.minimum(start, self._limit)
        self.regular = end >= start

    def finish(self) -> NDArray[np.bool_]:
        """Return which values were regular and end where they should."""
        # Positions only rise, so whoever is at its end now has never been past it.
        self.regular &= self._at == self._end
        return self.regular

    def longs(self, present: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Read an int or a long of up to eight bytes; 0 where not `present`."""
        word = self._text.words[self._at]
        stop = ~word & _HIGH
        mask = stop ^ (stop - _ONE)
        size = np.bitwise_count(mask) >> 3
        ends = stop != 0
        if present is not None:
            mask *= present
            size *= present
            ends |= ~present
        self.regular &= ends
        self._at += size
        word &= mask & ~_HIGH
        # Eight groups of seven bits: join neighbours, then pairs, then fours.
        for low, high, by in _JOIN:
            word = (word & low) | ((word & high) >> by)
        return (word >> _ONE).view(np.int64) ^ -(word & _ONE).view(np.int64)

    def floats(self, dtype: str, present: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Read a float ("<f4") or a double ("<f8"); 0.0 where not `present`."""
        word = self._text.words[self._at]
        size = np.dtype(dtype).itemsize
        if present is not None:
            word *= present
            self._at += present * size
        else:
            self._at += size
        if size == _DOUBLE:
            return word.view("<f8")
        return word.astype("<u4").view("<f4").astype(np.float64)

    def octets(self, below: int, present: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
        """Read one byte that must be less than `below`; 0 where not `present`."""
        octet = self._text.octets.take(self._at)
        if present is not None:
            octet *= present
        self.regular &= octet < below
        self._at += 1 if present is None else present
        return octet

    def present(self, null: int) -> NDArray[np.bool_]:
        """Read the index of a union of two whose branch `null` is null."""
        octet = self.octets(3)
        self.regular &= octet != 1
        return np.equal(octet, 2 - 2 * null)

    def symbols(
        self, codes: NDArray[np.int64], present: NDArray[np.bool_] | None = None
    ) -> NDArray[np.int64]:
        """Read an enum of up to 64 symbols, as `codes` of their positions."""
        octet = self.octets(2 * len(codes), present)
        self.regular &= (octet & 1) == 0
        return codes.take(octet >> 1, mode="clip")

    def spans(self, present: NDArray[np.bool_] | None = None) -> Spans:
        """Read a string or bytes of up to 8,191 bytes."""
        length = self._counts(present)
        start = self._at.copy()
        self._leap(length)
        everywhere = np.ones(len(start), np.bool_) if present is None else present
        return Spans(self._text, start, length, everywhere)

    def arrays(self, item: int, present: NDArray[np.bool_] | None = None) -> Lists:
        """Read where an array lies in at most one block, its items of `item` bytes each."""
        count = self._counts(present)
        start = self._at.copy()
        self._leap(count * item)
        closing = self._text.octets.take(self._at)
        more = count != 0
        self.regular &= ~more | (closing == 0)
        self._at += more
        return Lists(self._text, start, count, item)

    def _counts(self, present: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """Read a count of one or two bytes that must not be negative."""
        octet = self._text.octets.take(self._at)
        if present is not None:
            octet *= present
        self._at += 1 if present is None else present
        count = octet.astype(np.int64)
        long = np.flatnonzero(octet >= 0x80)  # noqa: PLR2004 - more bytes follow
        if len(long):
            second = self._text.octets[self._at[long]].astype(np.int64)
            count[long] += (second << 7) - 0x80
            self.regular[long] &= second < 0x80  # noqa: PLR2004
            self._at[long] += 1
        self.regular &= (count & 1) == 0
        return count >> 1

    def _leap(self, by: NDArray[np.int64]) -> None:
        """Move on by what a value says, which can be anything."""
        self._at += by
        np.minimum(self._at, self._limit, out=self._at)


_JOIN = tuple(
    (np.uint64(low), np.uint64(high), np.uint64(by))
    for low, high, by in (
        (0x007F007F007F007F, 0x7F007F007F007F00, 1),
        (0x00003FFF00003FFF, 0x3FFF00003FFF0000, 2),
        (0x000000000FFFFFFF, 0x0FFFFFFF00000000, 4),
    )
)

_ITEM = {"double": 8, "float": 4, "boolean": 1}


class Plan:
    """The steps that read the values of one writer schema.

    Args:
        schema: a record schema, logical types or not.
        wanted: names of the fields to return; the others are skipped.
        enums: what gives the code of a symbol, by wanted field.

    Raises:
        NotImplementedError: a field is of a type that has no columns; read record by record.
    """

    def __init__(
        self,
        schema: Mapping[str, Any],
        wanted: Collection[str],
        enums: Mapping[str, Callable[[str], int]],
    ) -> None:
        if len(schema["fields"]) > _MAX_FIELDS:
            raise NotImplementedError(f"more than {_MAX_FIELDS} fields have no columns")
        self._steps = [
            (
                field["name"] if field["name"] in wanted else None,
                *_step(field["type"], enums.get(field["name"], len)),
            )
            for field in schema["fields"]
        ]

    def read(
        self, text: Text, start: NDArray[np.int64], end: NDArray[np.int64]
    ) -> tuple[dict[str, Column], NDArray[np.bool_]]:
        """Read the bodies text[start:end].

        Returns:
            The wanted columns by field name, and bool[n]: which values were regular.
        """
        cursor = Cursor(text, start, end)
        columns: dict[str, Column] = {}
        with np.errstate(all="ignore"):  # what a broken value holds can be any float
            for name, null, step in self._steps:
                present = None if null is None else cursor.present(null)
                found = step(cursor, present)
                if name is not None:
                    columns[name] = found if isinstance(found, Spans | Lists) else (found, present)
        return columns, cursor.finish()


def _step(kind: Any, code: Callable[[str], int]) -> tuple[int | None, Any]:
    """Return (branch of null or None, how to read the rest) for the type of a field."""
    if isinstance(kind, list):
        if len(kind) != 2 or "null" not in kind:  # noqa: PLR2004 - null and one type
            raise NotImplementedError(f"a union {kind} has no columns")
        null = kind.index("null")
        return null, _step(kind[1 - null], code)[1]
    plain = kind["type"] if isinstance(kind, dict) else kind
    if plain == "enum" and len(kind["symbols"]) <= 64:  # noqa: PLR2004 - one byte
        table = np.array([code(symbol) for symbol in kind["symbols"]], np.int64)
        return None, lambda cursor, present: cursor.symbols(table, present)
    if plain == "array" and kind["items"] in _ITEM:
        item = _ITEM[kind["items"]]
        return None, lambda cursor, present: cursor.arrays(item, present)
    simple: dict[str, Any] = {
        "int": Cursor.longs,
        "long": Cursor.longs,
        "string": Cursor.spans,
        "bytes": Cursor.spans,
        "float": lambda cursor, present: cursor.floats("<f4", present),
        "double": lambda cursor, present: cursor.floats("<f8", present),
        "boolean": lambda cursor, present: cursor.octets(2, present),
    }
    if plain not in simple:
        raise NotImplementedError(f"a field of type {kind} has no columns")
    return None, simple[plain]
