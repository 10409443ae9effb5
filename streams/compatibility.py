"""Whether values of one version of a schema can be read as another, field by field.

The rules are those of "Schema Resolution" of the Apache Avro 1.12 specification without aliases,
as fields are found by name, plus some for changes that Avro allows and that still lose something.

Apache's own package judges the same way (the tests hold both against each other) but says
"/fields/3/type" and a kind of error where a person needs a field and a cure; it also trusts its
input, which here can be anyone's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from streams.schema_tree import short, type_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_PROMOTED = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}
"""What a type may be read as beside itself."""
_BELOW = {"items", "values"}
"""Keys of a type under which there is another."""
_KEEP_TYPE = "types never change: keep it, and add a field of another name"


class Problem(NamedTuple):
    """Something that stands between two versions of a schema.

    Attributes:
        field: where, with dots; the record's name for the record itself.
        what: what is wrong.
        cure: what to do.
    """

    field: str
    what: str
    cure: str

    def __str__(self) -> str:
        """Return it as a sentence."""
        return f"{self.field}: {self.what}; {self.cure}"


def obstacles(
    writer: Mapping[str, Any], reader: Mapping[str, Any], wanted: Collection[str] | None = None
) -> list[Problem]:
    """Return why values of one record cannot be read as another; empty where all can.

    Args:
        writer: tree of the schema that wrote them.
        reader: tree of the schema to read them as.
        wanted: fields to look at; None = all.
    """
    if short(writer["name"]) != short(reader["name"]):
        what = f"the record is called {short(writer['name'])}"
        return [Problem(short(reader["name"]), what, "another name is another record")]
    found = [
        problem
        for field in reader["fields"]
        if wanted is None or field["name"] in wanted
        for problem in _field(field, writer, "")
    ]
    return list(dict.fromkeys(found))


def side_by_side(
    writer: Mapping[str, Any], reader: Mapping[str, Any], wanted: Collection[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what to give fastavro to read some fields of a writer's values as a reader's.

    All fields of the writer are read, those not wanted with their texts as bytes: fastavro skips
    what a reader leaves out without looking for the end, and an array that claims 2^62 items
    would keep it busy for ever.

    Returns:
        The writer's schema, and the one to resolve to: the reader's wanted fields, and the others.
    """
    fields = [
        field if field["name"] in wanted else _as_bytes(field, f"other{number}")
        for number, field in enumerate(writer["fields"])
    ]
    others = [field for field in fields if field["name"] not in wanted]
    ours = [field for field in reader["fields"] if field["name"] in wanted]
    return {**writer, "fields": fields}, {**writer, "fields": [*ours, *others]}


def changes_that_lose(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Problem]:
    """Return what a new version of a record must not change although Avro would allow it.

    Args:
        old: tree of a released version.
        new: tree of the version to be.
    """
    now = {field["name"]: field for field in new["fields"]}
    found: list[Problem] = []
    for field in old["fields"]:
        name = field["name"]
        if name not in now:
            continue
        if "default" in field and "default" not in now[name]:
            what = "the default is gone, and writers may leave the field out"
            found.append(Problem(name, what, f"keep {field['default']!r}"))
        found += _loss(field["type"], now[name]["type"], name)
    return found


def weaknesses(raw: Mapping[str, Any]) -> list[Problem]:
    """Return what in a schema of ours would make later versions of it unreadable here.

    Args:
        raw: the schema as in its file, with all attributes.
    """
    return list(_weak(raw, str(raw["name"])))


def _as_bytes(field: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    return {"name": field["name"], "type": _raw(field["type"], namespace)}


def _raw(kind: Any, namespace: str) -> Any:
    """Return a type of the same encoding that takes any text, its names kept apart from ours."""
    if isinstance(kind, list):
        return [_raw(branch, namespace) for branch in kind]
    if not isinstance(kind, dict):
        return "bytes" if kind == "string" else kind
    copy = {below: _raw(kind[below], namespace) for below in _BELOW & kind.keys()}
    if "name" in kind:
        copy["name"] = f"{namespace}.{kind['name']}"
    if "fields" in kind:
        copy["fields"] = [_as_bytes(field, namespace) for field in kind["fields"]]
    return {**kind, **copy}


def _field(field: Mapping[str, Any], writer: Mapping[str, Any], path: str) -> Iterator[Problem]:
    name = f"{path}{field['name']}"
    given = {each["name"]: each["type"] for each in writer["fields"]}
    if field["name"] in given:
        yield from _resolve(given[field["name"]], field["type"], name)
    elif "default" not in field:
        yield Problem(name, "the writer has no such field and it has no default", "write the field")


def _resolve(writer: Any, reader: Any, path: str) -> Iterator[Problem]:
    """Yield why a writer's type cannot be read as the reader's."""
    if isinstance(writer, list):
        for branch in writer:
            yield from _resolve(branch, reader, path)
        return
    if isinstance(reader, list):
        if all(any(_resolve(writer, branch, path)) for branch in reader):
            yield _mismatch(writer, reader, path)
        return
    sort = type_of(writer)
    if sort != type_of(reader):
        if type_of(reader) not in _PROMOTED.get(sort, ()):
            yield _mismatch(writer, reader, path)
        return
    if sort in ("array", "map"):
        below = "items" if sort == "array" else "values"
        yield from _resolve(writer[below], reader[below], path)
    elif sort in ("record", "enum", "fixed"):
        yield from _resolve_named(writer, reader, path)


def _resolve_named(
    writer: Mapping[str, Any], reader: Mapping[str, Any], path: str
) -> Iterator[Problem]:
    sort = writer["type"]
    theirs, ours = short(writer["name"]), short(reader["name"])
    if theirs != ours:
        what = f"the {sort} is called {theirs} instead of {ours}"
        yield Problem(path, what, f"call it {ours}, in any namespace")
    elif sort == "fixed" and writer["size"] != reader["size"]:
        yield _mismatch(writer, reader, path)
    elif sort == "enum" and "default" not in reader:
        new = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
        if new:
            what = f"{', '.join(new)} cannot be read, as {ours} has no default to read it as"
            yield Problem(path, what, "give the enum a default, or leave the symbol out")
    elif sort == "record":
        for field in reader["fields"]:
            yield from _field(field, writer, f"{path}.")


def _mismatch(writer: Any, reader: Any, path: str) -> Problem:
    return Problem(path, f"{type_text(writer)} cannot be read as {type_text(reader)}", _KEEP_TYPE)


def _loss(old: Any, new: Any, path: str) -> Iterator[Problem]:
    """Yield what changed between two types without making one unreadable."""
    was, now = _logical(old), _logical(new)
    if was != now:
        what = f"the logical type was {was or 'none'} and is {now or 'none'}"
        yield Problem(path, what, "add a field of another name: the numbers would mean another")
    if {"string", "bytes"} <= _sorts(old) ^ _sorts(new):
        yield Problem(path, "texts became bytes, or bytes texts", _KEEP_TYPE)
    for one in _enums(old):
        other = next(
            (each for each in _enums(new) if short(each["name"]) == short(one["name"])), {}
        )
        gone = [symbol for symbol in one["symbols"] if symbol not in other.get("symbols", [])]
        if other and gone:
            what = f"without {', '.join(gone)} older values read as {other.get('default')}"
            yield Problem(path, what, "symbols may only be added")
        if other and one.get("default") != other.get("default"):
            what = f"the default symbol was {one.get('default')} and is {other.get('default')}"
            yield Problem(path, what, "keep it: it is what unknown symbols are read as")


def _weak(node: Any, path: str) -> Iterator[Problem]:
    if isinstance(node, list):
        for each in node:
            yield from _weak(each, path)
    if not isinstance(node, dict):
        return
    if node.get("aliases"):
        yield Problem(path, "it has aliases, which columns are not read by", "add a new field")
    if node.get("type") == "enum" and "default" not in node:
        what = f"{node['name']} has no default, so that a symbol of a newer writer is refused"
        yield Problem(path, what, "give it one, such as UNKNOWN")
    for field in node.get("fields", ()):
        yield from _weak(field, str(field["name"]))
    for below in ("type", "items", "values"):
        yield from _weak(node.get(below), path)


def type_text(kind: Any) -> str:
    """Return a type as a person would write it: `double or null`, `[string]`, `enum Outcome`."""
    if isinstance(kind, list):
        return " or ".join(map(type_text, sorted(kind, key=lambda branch: branch == "null")))
    sort = type_of(kind)
    match sort:
        case "array":
            return f"[{type_text(kind['items'])}]"
        case "map":
            return f"map of {type_text(kind['values'])}"
        case "enum" | "record":
            return f"{sort} {short(kind['name'])}"
        case "fixed":
            return f"fixed of {kind['size']} bytes"
    return f"{_logical(kind)} {sort}".lstrip()


def _logical(kind: Any) -> str:
    """Return the logical type of a type or of the branches of a union, empty for none."""
    if isinstance(kind, list):
        return " ".join(filter(None, map(_logical, kind)))
    return str(kind.get("logicalType", "")) if isinstance(kind, dict) else ""


def _sorts(kind: Any) -> set[str]:
    """Return the sorts of a type and its branches and items."""
    if isinstance(kind, list):
        return {sort for branch in kind for sort in _sorts(branch)}
    below = kind.get("items", kind.get("values")) if isinstance(kind, dict) else None
    return {type_of(kind)} | (set() if below is None else _sorts(below))


def _enums(kind: Any) -> list[Mapping[str, Any]]:
    """Return the enums in the type of a field; records in it are left out, as we write none."""
    if isinstance(kind, list):
        return [enum for branch in kind for enum in _enums(branch)]
    if not isinstance(kind, dict):
        return []
    if kind["type"] == "enum":
        return [kind]
    return _enums(kind.get("items", kind.get("values")))
