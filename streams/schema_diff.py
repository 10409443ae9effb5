"""How two versions of a record differ, field by field."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from streams.compatibility import type_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_NONE = "none"


class Change(StrEnum):
    """What happened to a field."""

    ADDED = "ADDED"
    REMOVED = "REMOVED"
    TYPE = "TYPE"
    DEFAULT = "DEFAULT"
    SYMBOLS = "SYMBOLS"
    MOVED = "MOVED"


class Difference(NamedTuple):
    """One way in which two versions differ.

    Attributes:
        field: name of the field.
        change: what happened.
        before: how it was, empty for a field that was not there.
        after: how it is, empty for a field that is gone.
    """

    field: str
    change: Change
    before: str
    after: str

    def __str__(self) -> str:
        """Return a line such as `+ retries  int, default 0`."""
        match self.change:
            case Change.ADDED:
                return f"+ {self.field}  {self.after}"
            case Change.REMOVED:
                return f"- {self.field}  {self.before}"
        return f"~ {self.field}  {self.change.lower()}: {self.before} → {self.after}"


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """Return how one version of a record became another; both are trees."""
    was = {field["name"]: field for field in old["fields"]}
    now = {field["name"]: field for field in new["fields"]}
    found = [
        Difference(name, Change.REMOVED, _field(field), "")
        for name, field in was.items()
        if name not in now
    ]
    for name, field in now.items():
        if name not in was:
            found.append(Difference(name, Change.ADDED, "", _field(field)))
        else:
            found += _changes(name, was[name], field)
    kept_before = [name for name in was if name in now]
    kept_now = [name for name in now if name in was]
    if kept_before != kept_now:
        first = next(b for a, b in zip(kept_before, kept_now, strict=True) if a != b)
        places = (f"place {list(fields).index(first) + 1}" for fields in (was, now))
        found.append(Difference(first, Change.MOVED, *places))
    return found


def _changes(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    before, after = type_text(old["type"]), type_text(new["type"])
    if before != after:
        yield Difference(name, Change.TYPE, before, after)
    before, after = _default(old), _default(new)
    if before != after:
        yield Difference(name, Change.DEFAULT, before, after)
    before, after = _symbols(old["type"]), _symbols(new["type"])
    if before != after:
        yield Difference(name, Change.SYMBOLS, before or _NONE, after or _NONE)


def _field(field: Mapping[str, Any]) -> str:
    default = f", default {_default(field)}" if "default" in field else ""
    return type_text(field["type"]) + default


def _default(field: Mapping[str, Any]) -> str:
    if "default" not in field:
        return _NONE
    return "null" if field["default"] is None else str(field["default"])


def _symbols(kind: Any) -> str:
    """Return the symbols of the enums in a type, each with its default in brackets."""
    if isinstance(kind, list):
        return "; ".join(filter(None, map(_symbols, kind)))
    if not isinstance(kind, dict):
        return ""
    if kind["type"] != "enum":
        return _symbols(kind.get("items", kind.get("values")))
    default = kind.get("default")
    return " ".join(f"[{each}]" if each == default else each for each in kind["symbols"])
