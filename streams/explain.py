"""Why the fields of a record, given by name, do not fit a schema: all of it at once.

An encoder stops at the first field it cannot write. No value of a text is ever repeated: what was
put into a wrong field may be anything.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from streams.schemas import Schema

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_INTEGERS = {"int": 31, "long": 63}
_WORDS = {
    "string": "a text",
    "long": "a whole number",
    "int": "a whole number",
    "double": "a number",
    "float": "a number",
    "boolean": "true or false",
    "null": "null",
    "bytes": "bytes (a text of characters up to U+00FF)",
    "fixed": "bytes (a text of characters up to U+00FF)",
    "array": "a list",
    "map": "an object",
    "record": "an object",
    "enum": "a symbol",
}
_MAX_TEXT = 256


class Explained(NamedTuple):
    """What was found.

    Attributes:
        record: the fields as an encoder can write them, if there are no problems.
        problems: why it cannot be written, one sentence a field.
        warnings: what is not as it was meant, probably.
    """

    record: dict[str, Any]
    problems: list[str]
    warnings: list[str]


class _MisfitError(ValueError):
    """A value does not fit a type; the message says what was expected."""


def explain(schema: Schema, given: Mapping[str, Any]) -> Explained:
    """Hold fields against a schema."""
    found = Explained({}, [], [])
    fields = {str(field["name"]): field for field in schema.raw["fields"]}
    strange = [name for name in given if name not in fields]
    meant = {name: _nearest(name, fields.keys() - given.keys()) for name in strange}
    for name, field in fields.items():
        if name in given:
            _take(found, name, field["type"], given[name])
        elif "default" not in field:
            others = [shown(other) for other, near in meant.items() if near == name]
            hint = f"; {' or '.join(others)} may be meant for it" if others else ""
            found.problems.append(f"{name} is missing, expected {_expected(field['type'])}{hint}")
    for name, near in meant.items():
        hint = f"; did you mean {near}?" if near else ""
        found.warnings.append(f"{shown(name)} is no field of {schema.name} and is not sent{hint}")
    return found


def shown(name: str) -> str:
    """Return a name as it may be printed: a text that is none can be anything."""
    return name if _NAME.fullmatch(name) else f"a name of {len(name)} characters"


def _take(found: Explained, name: str, kind: Any, value: Any) -> None:
    def warn(text: str) -> None:
        found.warnings.append(f"{name} {text}")

    try:
        found.record[name] = _fit(kind, value, warn)
    except _MisfitError as misfit:
        hint = ""
        if name.endswith("_at") and isinstance(value, str):
            hint = ": ms since 1970 UTC, as a number"
        found.problems.append(f"{name} is {misfit}, expected {_expected(kind)}{hint}")


def _fit(kind: Any, value: Any, warn: Callable[[str], None]) -> Any:
    """Return the value as an encoder takes it.

    Raises:
        _MisfitError: it does not fit.
    """
    if isinstance(kind, list):
        return _fit_union(kind, value, warn)
    name = kind["type"] if isinstance(kind, dict) else kind
    if isinstance(name, dict | list):
        return _fit(name, value, warn)
    if name in _SCALARS:
        return _SCALARS[name](value, name)
    if not isinstance(kind, dict):
        return value  # a type named elsewhere in the schema: the encoder knows it
    return _NESTED[name](kind, value, warn)


def _fit_union(kinds: list[Any], value: Any, warn: Callable[[str], None]) -> Any:
    if value is None:
        return _needed(value, "null" in kinds)
    kinds = [kind for kind in kinds if kind != "null"]
    if isinstance(value, dict) and len(value) == 1:  # Avro's own JSON: {"string": "…"}
        (branch,) = value
        named = [kind for kind in kinds if branch.rpartition(".")[2] in _names(kind)]
        if named:
            return _fit(named[0], value[branch], warn)
    for kind in kinds:
        try:
            return _fit(kind, value, warn)
        except _MisfitError as misfit:
            last = misfit
    raise last


def _names(kind: Any) -> set[str]:
    return {kind["type"], kind.get("name", "")} if isinstance(kind, dict) else {str(kind)}


def _needed(value: Any, holds: bool) -> Any:
    if not holds:
        raise _MisfitError(_what(value))
    return value


def _integer(value: Any, name: str) -> int:
    _needed(value, isinstance(value, int) and not isinstance(value, bool))
    if not -(1 << _INTEGERS[name]) <= value < 1 << _INTEGERS[name]:
        raise _MisfitError(f"a number of more than {_INTEGERS[name] + 1} bits")
    return int(value)


def _number(value: Any, _: str) -> float:
    _needed(value, isinstance(value, int | float) and not isinstance(value, bool))
    try:
        return float(value)
    except OverflowError:
        raise _MisfitError("a number beyond all doubles") from None


def _octets(value: Any, _: str) -> bytes:
    _needed(value, isinstance(value, str))
    try:
        return bytes(value, "latin-1")
    except UnicodeEncodeError:
        raise _MisfitError("a text with characters past U+00FF") from None


def _text(value: Any, _: str) -> str:
    _needed(value, isinstance(value, str))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _MisfitError("a text with half of a surrogate pair") from None
    return str(value)


_SCALARS: dict[str, Callable[[Any, str], Any]] = {
    "string": _text,
    "bytes": _octets,
    "int": _integer,
    "long": _integer,
    "float": _number,
    "double": _number,
    "boolean": lambda value, _: _needed(value, isinstance(value, bool)),
    "null": lambda value, _: _needed(value, value is None),
}


def _symbol(kind: dict[str, Any], value: Any, warn: Callable[[str], None]) -> str:
    _needed(value, isinstance(value, str))
    if value in kind["symbols"]:
        return str(value)
    if "default" not in kind:
        raise _MisfitError(f"{shown(value)}, which is none of {', '.join(kind['symbols'])}")
    near = _nearest(value.upper(), kind["symbols"])
    hint = f"; did you mean {near}?" if near else f"; there are {', '.join(kind['symbols'])}"
    warn(f"is {shown(value)}, which a worker reads as {kind['default']}{hint}")
    return str(kind["default"])


def _items(kind: dict[str, Any], value: Any, warn: Callable[[str], None]) -> list[Any]:
    _needed(value, isinstance(value, list))
    try:
        return [_fit(kind["items"], item, warn) for item in value]
    except _MisfitError as misfit:
        raise _MisfitError(f"a list with {misfit} in it") from None


def _values(kind: dict[str, Any], value: Any, warn: Callable[[str], None]) -> dict[str, Any]:
    _needed(value, isinstance(value, dict))
    return {name: _fit(kind["values"], item, warn) for name, item in value.items()}


def _record(kind: dict[str, Any], value: Any, warn: Callable[[str], None]) -> dict[str, Any]:
    _needed(value, isinstance(value, dict))
    missing = [f["name"] for f in kind["fields"] if f["name"] not in value and "default" not in f]
    if missing:
        raise _MisfitError(f"an object without {', '.join(missing)}")
    fields = [field for field in kind["fields"] if field["name"] in value]
    return {field["name"]: _fit(field["type"], value[field["name"]], warn) for field in fields}


_NESTED: dict[str, Callable[[dict[str, Any], Any, Callable[[str], None]], Any]] = {
    "enum": _symbol,
    "array": _items,
    "map": _values,
    "record": _record,
    "fixed": lambda _, value, __: _octets(value, "fixed"),
}


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the name that was probably meant: durationMs is duration_ms."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[:_MAX_TEXT])
    for like in (name[:_MAX_TEXT], snake.lower(), snake):
        if near := difflib.get_close_matches(like, list(known), n=1, cutoff=0.7):
            return near[0]
    return None


def _expected(kind: Any) -> str:
    """Return a type in words."""
    if isinstance(kind, list):
        kinds = [_expected(each) for each in kind if each != "null"]
        return " or ".join([*kinds, *(["null"] if "null" in kind else [])])
    if not isinstance(kind, dict):
        return _WORDS.get(str(kind), f"a {kind}")
    if kind["type"] == "enum":
        return f"one of {', '.join(kind['symbols'])}"
    return _expected(kind["type"])


def _what(value: Any) -> str:
    """Return what a JSON value is; of a text only that it is one."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value) if abs(value) < 1e30 else "a very large number"  # noqa: PLR2004
    return (
        "a text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"
    )
