"""A record schema as a tree: checked, within bounds, and without references between its types.

Writer schemas come from a topic or a registry, so from strangers, and a schema can do harm: one of
a kilobyte can stand for 2^30 fields, an array of nulls claims 2^62 items in nine bytes, a few bytes
can fill a gigabyte of records. What passes here is safe to decode any value of its size with.

Sources: Apache Avro 1.12 specification, "Schema Declaration" and "Parsing Canonical Form for
Schemas". What goes beyond it is the bounds.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_TEXT = 256 * 1024
"""Bytes of a schema as JSON."""
MAX_DEPTH = 32
"""Types within types."""
MAX_FIELDS = 256
"""Fields of one record, and branches of one union."""
MAX_TYPES = 4096
"""Types in all, references counted as what they stand for."""
MAX_FIXED = 1024 * 1024
"""Bytes of a fixed."""
MEMORY_PER_BYTE = 256
"""Bytes of memory that each byte of a value may turn into; an array of records with one boolean
takes about that many."""

PRIMITIVES = frozenset(
    ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FULL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_LEAST = {"null": 0, "float": 4, "double": 8}
"""Fewest bytes of a primitive; one of the others."""
_SLOT, _NUMBER, _TEXT, _LIST, _DICT, _ENTRY = 10, 32, 64, 64, 150, 60
"""Bytes of memory in CPython: a place in a list, an int or float, a short text, an empty list, an
empty dict, a key with its place in a dict; rounded up."""
_MEMORY = {"null": 0, "boolean": 0, "bytes": _TEXT, "string": _TEXT}


class Tree(NamedTuple):
    """A schema, checked.

    Attributes:
        root: the record as JSON with every reference replaced by what it stands for. Full names,
            made unique; docs and aliases are left out.
        canonical: its parsing canonical form, of which the fingerprint is taken.
    """

    root: dict[str, Any]
    canonical: str


def from_text(text: str | bytes) -> Tree:
    """Check a schema given as JSON text.

    Raises:
        ValueError: it is no JSON, no record schema, or outside the bounds; the message says why.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"the schema has {len(text)} bytes, allowed are {MAX_TEXT}")
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the schema is no JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("the schema is nested too deeply") from error
    return expand(raw)


def expand(raw: Any) -> Tree:
    """Check a schema given as parsed JSON.

    Raises:
        ValueError: it is no record schema or outside the bounds; the message says why.
    """
    if not isinstance(raw, dict) or raw.get("type") != "record":
        raise ValueError("the schema is no record")
    part = _Expansion().part(raw, _Place("", 1, ""))
    return Tree(part.kind, part.canonical)


def short(name: str) -> str:
    """Return a name without its namespace."""
    return name.rpartition(".")[2]


def type_of(kind: Any) -> str:
    """Return what sort of type a node of a tree is; `union` for a list."""
    if isinstance(kind, list):
        return "union"
    return str(kind["type"] if isinstance(kind, dict) else kind)


class _Place(NamedTuple):
    namespace: str
    depth: int
    path: str
    """Fields that lead here, with dots."""

    def inside(self, namespace: str | None = None, field: str | None = None) -> _Place:
        path = self.path if field is None else f"{self.path}.{field}".lstrip(".")
        return _Place(self.namespace if namespace is None else namespace, self.depth + 1, path)

    def refuse(self, why: str) -> ValueError:
        return ValueError(f"{self.path}: {why}" if self.path else why)


class _Part(NamedTuple):
    kind: Any
    canonical: str
    types: int = 1
    depth: int = 1
    """Types within types from here on."""
    least: int = 0
    """Fewest bytes of a value."""
    surplus: int = 0
    """Most memory of a value beyond MEMORY_PER_BYTE for each byte it takes."""


class _Expansion:
    """One walk over a schema."""

    def __init__(self) -> None:
        self._named: dict[str, _Part] = {}
        self._open: set[str] = set()
        self._types = 0
        self._copies = 0
        self._complex: Mapping[str, Callable[[Mapping[str, Any], _Place], _Part]] = {
            "record": self._record,
            "enum": self._enum,
            "fixed": self._fixed,
            "array": self._collection,
            "map": self._collection,
        }

    def part(self, kind: Any, place: _Place) -> _Part:
        """Check a type and what is in it."""
        self._count(1, place.depth, place)
        if isinstance(kind, list):
            return self._union(kind, place)
        if not isinstance(kind, dict):
            return self._reference(kind, place)
        sort = kind.get("type")
        check = self._complex.get(sort) if isinstance(sort, str) else None
        if check is not None:
            return check(kind, place)
        found = self._reference(sort, place)
        logical = kind.get("logicalType")
        if sort in PRIMITIVES and isinstance(logical, str):
            return found._replace(kind={"type": sort, "logicalType": logical})
        return found

    def _count(self, types: int, depth: int, place: _Place) -> None:
        self._types += types
        if self._types > MAX_TYPES:
            raise place.refuse(f"the schema stands for more than {MAX_TYPES} types")
        if depth > MAX_DEPTH:
            raise place.refuse(f"types are nested deeper than {MAX_DEPTH}")

    def _reference(self, name: Any, place: _Place) -> _Part:
        if not isinstance(name, str):
            raise place.refuse(f"{_shown(name)} is no type")
        if name in PRIMITIVES:
            least = _LEAST.get(name, 1)
            surplus = _MEMORY.get(name, _NUMBER) - MEMORY_PER_BYTE * least
            return _Part(name, f'"{name}"', least=least, surplus=surplus)
        full = name if "." in name or not place.namespace else f"{place.namespace}.{name}"
        if full in self._open:
            raise place.refuse(f"{_shown(full)} contains itself")
        found = self._named.get(full)
        if found is None:
            raise place.refuse(f"{_shown(name)} is no type")
        self._count(found.types - 1, place.depth + found.depth - 1, place)
        self._copies += 1
        copy = _renamed(found.kind, f"copy{self._copies}")
        return found._replace(kind=copy, canonical=f'"{full}"')

    def _define(self, kind: Mapping[str, Any], place: _Place) -> str:
        """Return the full name of a type that is defined here."""
        name, namespace = kind.get("name"), kind.get("namespace", place.namespace)
        if not isinstance(name, str) or not _FULL_NAME.fullmatch(name) or short(name) in PRIMITIVES:
            raise place.refuse(f"{_shown(name)} is no name of a {kind['type']}")
        full = name
        if "." not in name and namespace:
            full = f"{namespace}.{name}"
            if not isinstance(namespace, str) or not _FULL_NAME.fullmatch(full):
                raise place.refuse(f"{_shown(namespace)} is no namespace")
        if full in self._named or full in self._open:
            raise place.refuse(f"{full} is defined twice")
        return full

    def _record(self, kind: Mapping[str, Any], place: _Place) -> _Part:
        name = self._define(kind, place)
        fields = kind.get("fields")
        if not isinstance(fields, list) or not all(isinstance(field, dict) for field in fields):
            raise place.refuse(f"{name} has no list of fields")
        if len(fields) > MAX_FIELDS:
            raise place.refuse(f"{name} has {len(fields)} fields, allowed are {MAX_FIELDS}")
        self._open.add(name)
        found: dict[str, tuple[dict[str, Any], _Part]] = {}
        for field in fields:
            label = field.get("name")
            if not isinstance(label, str) or not _NAME.fullmatch(label) or label in found:
                raise place.refuse(f"{name} has two fields of a name, or one without")
            part = self.part(field.get("type"), place.inside(name.rpartition(".")[0], label))
            default = {"default": field["default"]} if "default" in field else {}
            found[label] = {"name": label, "type": part.kind, **default}, part
        self._open.discard(name)
        parts = [part for _, part in found.values()]
        inner = ",".join(
            f'{{"name":"{label}","type":{part.canonical}}}' for label, (_, part) in found.items()
        )
        self._named[name] = done = _Part(
            {"type": "record", "name": name, "fields": [field for field, _ in found.values()]},
            f'{{"name":"{name}","type":"record","fields":[{inner}]}}',
            types=1 + sum(part.types for part in parts),
            depth=1 + max((part.depth for part in parts), default=0),
            least=sum(part.least for part in parts),
            surplus=_DICT + sum(_ENTRY + part.surplus for part in parts),
        )
        return done

    def _enum(self, kind: Mapping[str, Any], place: _Place) -> _Part:
        name = self._define(kind, place)
        symbols = kind.get("symbols")
        if (
            not isinstance(symbols, list)
            or not symbols
            or not all(isinstance(each, str) and _NAME.fullmatch(each) for each in symbols)
            or len(set(symbols)) < len(symbols)
        ):
            raise place.refuse(f"{name} has no list of different symbols")
        default = kind.get("default")
        if default is not None and default not in symbols:
            raise place.refuse(f"the default {_shown(default)} is no symbol of {name}")
        given = {} if default is None else {"default": default}
        listed = ",".join(f'"{symbol}"' for symbol in symbols)
        self._named[name] = done = _Part(
            {"type": "enum", "name": name, "symbols": symbols, **given},
            f'{{"name":"{name}","type":"enum","symbols":[{listed}]}}',
            least=1,
            surplus=-MEMORY_PER_BYTE,
        )
        return done

    def _fixed(self, kind: Mapping[str, Any], place: _Place) -> _Part:
        name = self._define(kind, place)
        size = kind.get("size")
        if type(size) is not int or not 0 <= size <= MAX_FIXED:
            raise place.refuse(f"{name} has size {_shown(size)}, allowed is 0 to {MAX_FIXED}")
        self._named[name] = done = _Part(
            {"type": "fixed", "name": name, "size": size},
            f'{{"name":"{name}","type":"fixed","size":{size}}}',
            least=size,
            surplus=_TEXT - MEMORY_PER_BYTE * size,
        )
        return done

    def _collection(self, kind: Mapping[str, Any], place: _Place) -> _Part:
        sort = kind["type"]
        below = "items" if sort == "array" else "values"
        item = self.part(kind.get(below), place.inside())
        # The key of a map's entry takes a byte at least.
        surplus = item.surplus + (_SLOT if sort == "array" else _ENTRY + _TEXT - MEMORY_PER_BYTE)
        if surplus > 0:
            raise place.refuse(
                f"{sort} {below} may take as little as {item.least} bytes each but more than "
                f"{MEMORY_PER_BYTE} times that in memory, so a short value could claim any number"
            )
        return _Part(
            {"type": sort, below: item.kind},
            f'{{"type":"{sort}","{below}":{item.canonical}}}',
            types=1 + item.types,
            depth=1 + item.depth,
            least=1,
            surplus=_LIST + _DICT - MEMORY_PER_BYTE,
        )

    def _union(self, branches: list[Any], place: _Place) -> _Part:
        if not 0 < len(branches) <= MAX_FIELDS:
            raise place.refuse(f"a union has {len(branches)} branches, allowed is 1 to 256")
        parts = [self.part(branch, place.inside()) for branch in branches]
        if any(isinstance(part.kind, list) for part in parts):
            raise place.refuse("a union lies directly in another")
        return _Part(
            [part.kind for part in parts],
            f"[{','.join(part.canonical for part in parts)}]",
            types=1 + sum(part.types for part in parts),
            depth=1 + max(part.depth for part in parts),
            least=1 + min(part.least for part in parts),
            surplus=max(part.surplus for part in parts) - MEMORY_PER_BYTE,
        )


def _renamed(kind: Any, namespace: str) -> Any:
    """Copy a type with its names in another namespace: a name may be defined once only."""
    if isinstance(kind, list):
        return [_renamed(branch, namespace) for branch in kind]
    if not isinstance(kind, dict):
        return kind
    copy = dict(kind)
    if "name" in kind:
        copy["name"] = f"{namespace}.{kind['name']}"
    if kind["type"] == "record":
        copy["fields"] = [
            {**field, "type": _renamed(field["type"], namespace)} for field in kind["fields"]
        ]
    for below in ("items", "values"):
        if below in kind:
            copy[below] = _renamed(kind[below], namespace)
    return copy


def _shown(given: Any) -> str:
    if isinstance(given, dict | list):
        return f"a JSON {'object' if isinstance(given, dict) else 'array'}"
    text = json.dumps(given)
    return text if len(text) <= 60 else f"{text[:60]} ..."  # noqa: PLR2004 - enough to find it
