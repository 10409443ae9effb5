"""Records of a fetched batch as columns, bounded in number and size."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.batch import Header
    from streams.settings import Settings

SMALL = 64 * 1024
"""Bytes of a record, with all it has, up to which nothing of it is ever cut."""
KEPT = 64 * 1024
"""Bytes kept of a key, and of a value, that are cut."""
HEADER_COST = 128
"""Bytes a header takes as objects, beside its own."""
ROWS_COST = 16 << 20
"""About the bytes that rows should cost at most before they are passed on."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the input is held in memory.

    Attributes:
        value: most bytes of key and value together; a larger record is given cut.
        unpacked: most bytes that a batch is unpacked to at once; a larger one in pieces.
    """

    value: int = 1 << 20
    unpacked: int = 64 << 20

    def __post_init__(self) -> None:
        """Refuse a limit below what is read without looking."""
        if self.value < SMALL:
            raise ValueError(f"the limit of a value is {self.value}, at least {SMALL} is needed")

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Return the limits that the settings name."""
        return cls(settings.max_value_bytes, settings.max_unpacked_bytes)


@dataclass(slots=True)
class Row:
    """One record; see `Rows`."""

    offset: int
    timestamp: int
    key: bytes | None = None
    value: bytes | None = None
    headers: list[Header] = field(default_factory=list)
    oversize: int | None = None
    unreadable: str | None = None

    def cut(self, size: int) -> Row:
        """Return this row as one that is too large: `size` bytes of key with value."""
        key, value = self.key and self.key[:KEPT], self.value and self.value[:KEPT]
        return replace(self, key=key, value=value, oversize=size)


@dataclass(slots=True)
class Rows:
    """Some records of a batch, by offset ascending.

    Attributes:
        offsets: of each record; a range where none is missing, as that is quick to make and join.
        timestamps: of each record, ms.
        keys: of each record, None where null.
        values: of each record, None where null.
        headers: of each record, as (name, value); bytes of a name that are not UTF-8 are escaped.
        oversize: true bytes of key with value, by the offset of each record that was cut.
        unreadable: why, by the offset of each record that could not be read; key and value are
            what was read of it, and None otherwise.
        cost: about how many bytes of memory all that takes.
    """

    offsets: list[int] | range = field(default_factory=list)
    timestamps: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[list[Header]] = field(default_factory=list)
    oversize: dict[int, int] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)
    cost: int = 0

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.offsets)

    def add(self, row: Row) -> None:
        """Append a record."""
        if isinstance(self.offsets, range):
            self.offsets = list(self.offsets)
        self.offsets.append(row.offset)
        self.timestamps.append(row.timestamp)
        self.keys.append(row.key)
        self.values.append(row.value)
        self.headers.append(row.headers)
        if row.oversize is not None:
            self.oversize[row.offset] = row.oversize
        if row.unreadable is not None:
            self.unreadable[row.offset] = row.unreadable
        self.cost += len(row.key or b"") + len(row.value or b"")
        self.cost += sum(HEADER_COST + len(name) + len(data or b"") for name, data in row.headers)

    def extend(self, other: Rows) -> None:
        """Append all of `other`."""
        mine, more = self.offsets, other.offsets
        if isinstance(mine, range) and isinstance(more, range) and mine.stop == more.start:
            self.offsets = range(mine.start, more.stop)
        else:
            self.offsets = [*mine, *more]
        self.timestamps += other.timestamps
        self.keys += other.keys
        self.values += other.values
        self.headers += other.headers
        self.oversize |= other.oversize
        self.unreadable |= other.unreadable
        self.cost += other.cost

    def split(self, count: int) -> Rows:
        """Keep all but the first `count` records, and return those."""
        first, total = Rows(), len(self)
        for name in _COLUMNS:
            column = getattr(self, name)
            setattr(first, name, column[:count])
            setattr(self, name, column[count:])
        border = first.offsets[-1] if first.offsets else -1
        for name in ("oversize", "unreadable"):
            marks = getattr(self, name)
            setattr(first, name, {at: mark for at, mark in marks.items() if at <= border})
            setattr(self, name, {at: mark for at, mark in marks.items() if at > border})
        first.cost = self.cost * count // max(total, 1)
        self.cost -= first.cost
        return first


_COLUMNS = ("offsets", "timestamps", "keys", "values", "headers")
