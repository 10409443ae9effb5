"""Avro schemas and values made up at random.

All is drawn from a `Random`, whose seed hypothesis gives: its own strategies for nested schemas
take a hundred times as long.
"""

from __future__ import annotations

import copy
import json
import struct
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro

if TYPE_CHECKING:
    from random import Random

SYMBOLS = ("A", "B", "C", "D")
PRIMITIVES = ("boolean", "int", "long", "float", "double", "bytes", "string")
FIELDS = ("f0", "f1", "f2", "f3", "f4")
TEXTS = ("", "a", "é", "x" * 70, "\U0001f600")


def kind(random: Random, depth: int = 3) -> Any:  # noqa: PLR0911 - a return a type
    """A type; several may define the same name, which `numbered` sorts out."""
    sort = random.randrange(12 if depth else 8)
    if sort < 5:
        return random.choice(PRIMITIVES)
    if sort < 7:
        symbols = random.sample(SYMBOLS, random.randint(1, 4))
        default = {"default": random.choice(symbols)} if random.random() < 0.5 else {}
        return {"type": "enum", "name": random.choice("EF"), "symbols": symbols, **default}
    if sort < 8:
        return {"type": "fixed", "name": random.choice("XY"), "size": random.randint(1, 3)}
    if sort == 8:
        inner = [kind(random, depth - 1) for _ in range(random.randint(1, 2))]
        fields = [{"name": f"r{number}", "type": each} for number, each in enumerate(inner)]
        return {"type": "record", "name": "R", "fields": fields}
    inner = kind(random, depth - 1)
    if sort == 9:
        return {"type": "array", "items": inner}
    if sort == 10:
        return {"type": "map", "values": inner}
    branches = ["null", "int" if isinstance(inner, list) else inner]
    return branches if random.random() < 0.7 else branches[::-1]


def record(random: Random) -> dict[str, Any]:
    """A record schema; nullable fields may have a default."""
    fields = []
    for name in random.sample(FIELDS, random.randint(0, 4)):
        found = kind(random)
        nullable = isinstance(found, list) and found[0] == "null"
        default = {"default": None} if nullable and random.random() < 0.7 else {}
        fields.append({"name": name, "type": found, **default})
    return numbered({"type": "record", "name": "Made", "fields": fields})


def later(random: Random, old: dict[str, Any]) -> dict[str, Any]:
    """The schema with some fields gone, of another type, changed a little, moved or new."""
    new: dict[str, Any] = copy.deepcopy(old)
    fields = new["fields"]
    for field in list(fields):
        match random.randrange(8):
            case 0:
                fields.remove(field)
            case 1:
                field["type"] = kind(random)
                field.pop("default", None)
            case 2 | 3:
                field["type"] = _changed(random, field["type"])
    random.shuffle(fields)
    taken = {field["name"] for field in fields}
    if random.random() < 0.5:
        fields += [field for field in record(random)["fields"] if field["name"] not in taken]
    return numbered(new)


def _changed(random: Random, node: Any) -> Any:
    """A type near another: promoted or narrowed, other symbols, another size, changed within."""
    if isinstance(node, list):
        return [branch if branch == "null" else _changed(random, branch) for branch in node]
    if not isinstance(node, dict):
        near = {"int": ["long", "double"], "long": ["int", "float"], "float": ["double", "long"]}
        near |= {"string": ["bytes"], "bytes": ["string"]}
        return random.choice(near.get(node, [node]))
    match node["type"]:
        case "enum":
            symbols = random.sample(SYMBOLS, random.randint(1, 4))
            default = {"default": random.choice(symbols)} if random.random() < 0.6 else {}
            return {"type": "enum", "name": node["name"], "symbols": symbols, **default}
        case "fixed":
            return node | {"size": random.randint(1, 3)}
        case "record":
            fields = [field | {"type": _changed(random, field["type"])} for field in node["fields"]]
            return node | {"fields": fields}
    below = "items" if node["type"] == "array" else "values"
    return node | {below: _changed(random, node[below])}


def numbered(schema: dict[str, Any]) -> dict[str, Any]:
    """Put each named type into a namespace of its own, as a name may be defined once only."""
    count = 0

    def walk(node: Any) -> Any:
        nonlocal count
        if isinstance(node, list):
            return [walk(each) for each in node]
        if not isinstance(node, dict):
            return node
        done = {key: walk(value) for key, value in node.items() if key != "namespace"}
        if node.get("type") in ("enum", "fixed", "record") and node["name"] != "Made":
            count += 1
            done["namespace"] = f"n{count}"
        return done

    walked: dict[str, Any] = walk(schema)
    return walked


def value(random: Random, node: Any) -> Any:  # noqa: PLR0911 - a return a type
    """A value of a type."""
    if isinstance(node, list):
        return value(random, random.choice(node))
    sort = node["type"] if isinstance(node, dict) else node
    match sort:
        case "fixed":
            return random.randbytes(node["size"])
        case "enum":
            return random.choice(node["symbols"])
        case "array":
            return [value(random, node["items"]) for _ in range(random.randrange(3))]
        case "map":
            return {text: value(random, node["values"]) for text in random.sample(TEXTS, 2)}
        case "record":
            return {field["name"]: value(random, field["type"]) for field in node["fields"]}
    bits = random.choice((2, 31, 63))
    return {
        "null": None,
        "boolean": random.random() < 0.5,
        "int": random.randrange(-(2**31), 2**31),
        "long": random.randrange(-(2**bits), 2**bits),
        "float": struct.unpack("<f", struct.pack("<f", random.gauss(0, 1e6)))[0],
        "double": random.gauss(0, 1e6),
        "bytes": random.choice(TEXTS).encode(),
        "string": random.choice(TEXTS),
    }[sort]


def encoded(schema: dict[str, Any], fields: dict[str, Any]) -> bytes:
    """Encode a record, by fastavro."""
    stream = BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema, named_schemas={}), fields)
    return stream.getvalue()


def text(schema: dict[str, Any]) -> str:
    """Return a schema as JSON text."""
    return json.dumps(schema)
