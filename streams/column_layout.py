"""What is read of a record in columns, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

from streams import schemas
from streams.columns import DictColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from streams.columns import Ragged

_LONGS = frozenset(("int", "long"))
_DOUBLES = _LONGS | {"float", "double"}
_TEXTS = frozenset(("string", "bytes"))
IDS = ("event_id", "tenant", "agent_id")
"""Texts that every event of an agent has."""


class Columns(Protocol):
    """Events in columns."""

    def take(self, indices: NDArray[np.int64]) -> Self:
        """Return the events at `indices`, in that order."""

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Put the events of at least one part one behind the other."""


@dataclass(frozen=True)
class Layout:
    """What is read of a record, beside the ids of every event.

    Attributes:
        record: its name.
        longs: whole numbers.
        doubles: other numbers.
        codes: what stands for each symbol of an enum, by field; the schema's default symbol
            stands for all others.
        texts: texts from a bounded set.
        lists: lists of numbers.
        absent: the fields that may be null, and what number stands for it; of texts None does, for
            empty ones as well.
    """

    record: str
    longs: tuple[str, ...]
    doubles: tuple[str, ...]
    codes: Mapping[str, Mapping[str, int]]
    texts: tuple[str, ...]
    lists: tuple[str, ...] = ()
    absent: Mapping[str, float | None] = field(default_factory=dict)

    @cached_property
    def wanted(self) -> tuple[str, ...]:
        """The names of all fields that are read."""
        return (*IDS, *self.numbers, *self.codes, *self.texts, *self.lists)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The names of the numeric fields."""
        return (*self.longs, *self.doubles)

    @cached_property
    def columnar(self) -> dict[str, frozenset[str]]:
        """The types a writer may give a wanted field for it to be read in columns."""
        return {
            **dict.fromkeys((*IDS, *self.texts), _TEXTS),
            **dict.fromkeys(self.longs, _LONGS),
            **dict.fromkeys(self.doubles, _DOUBLES),
            **dict.fromkeys(self.codes, frozenset(("enum",))),
            **dict.fromkeys(self.lists, frozenset(("array",))),
        }

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """What a field is where its writer does not have it."""
        fields = schemas.get(self.record).raw["fields"]
        return {each["name"]: each["default"] for each in fields if "default" in each}

    @cached_property
    def symbols(self) -> dict[str, Callable[[str], int]]:
        """What gives the code of a symbol, by field."""
        fields = {each["name"]: each for each in schemas.get(self.record).raw["fields"]}

        def code_of(name: str) -> Callable[[str], int]:
            codes, other = self.codes[name], self.codes[name][fields[name]["type"]["default"]]
            return lambda symbol: codes.get(symbol, other)

        return {name: code_of(name) for name in self.codes}


class Fields(NamedTuple):
    """The good records of a batch, or some of them, field by field.

    Attributes:
        numbers: int64[m] or float64[m] by name, enums as their codes.
        texts: by name, the tenant and the agent among them.
        lists: by name.
    """

    numbers: dict[str, NDArray[Any]]
    texts: dict[str, DictColumn]
    lists: dict[str, Ragged]

    def take(self, rows: NDArray[np.int64]) -> Fields:
        """Return some of the records, without the texts that only others had."""
        return Fields(
            {name: column[rows] for name, column in self.numbers.items()},
            {name: DictColumn.join([text.take(rows)]) for name, text in self.texts.items()},
            {name: column.take(rows) for name, column in self.lists.items()},
        )
