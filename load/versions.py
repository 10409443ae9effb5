"""Schemas that values are written with: the current one of a topic, an older and a newer one.

Each encodes by itself, field by field, from the JSON of its schema; nothing is imported from
`streams`. The event id and the event time are the first two fields of all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from load.mutations import double, optional, text, zigzag
from load.proof import SCHEMAS
from load.reference import DECODED, Record, frame_of

if TYPE_CHECKING:
    from collections.abc import Sequence

NEW_OUTCOME, NEW_SEVERITY = "DEFERRED", "EMERGENCY"
"""Symbols that only a newer version knows."""
_DROPPED = ("cached_tokens", "trust_tier", "evidence_ref", "attempts", "status_code")
"""Fields that the older version does not have."""


@dataclass(frozen=True)
class Version:
    """A writer's schema.

    Attributes:
        raw: the schema as JSON.
        frame: what its values begin with.
    """

    raw: Record
    frame: bytes

    @cached_property
    def kinds(self) -> list[str]:
        """The types of its fields, by their short names; `?` is a union with null."""
        return [_kind(field["type"]) for field in self.raw["fields"]]

    def pieces(self, record: Record) -> list[bytes]:
        """Encode the fields of a record that has them all, each for itself."""
        return [_encoded(field["type"], record[field["name"]]) for field in self.raw["fields"]]

    def framed(self, frame: bytes) -> Version:
        """Return the same schema under another frame."""
        return replace(self, frame=frame)


def current(stream: str) -> Version:
    """Return the schema in `schemas/` for a topic, by its name without the prefix."""
    return of(json.loads((SCHEMAS / f"{DECODED[stream]}.avsc").read_text("utf-8")))


def older(stream: str) -> Version:
    """Return what an older producer could write: fewer fields and symbols, smaller numbers."""
    fields = [
        {**field, "type": _older(field["type"])}
        for field in current(stream).raw["fields"]
        if field["name"] not in _DROPPED
    ]
    return of({**current(stream).raw, "fields": fields})


def newer(stream: str) -> Version:
    """Return what a newer producer could write: more fields and symbols."""
    fields = [{**field, "type": _newer(field["type"])} for field in current(stream).raw["fields"]]
    fields.insert(5, {"name": "region", "type": ["null", "string"], "default": None})
    fields.append({"name": "retries", "type": "long", "default": 0})
    return of({**current(stream).raw, "fields": fields})


def hostile(stream: str) -> Version:
    """Return a schema of the right name that cannot be read: the agent is missing."""
    fields = [field for field in current(stream).raw["fields"] if field["name"] != "agent_id"]
    return of({**current(stream).raw, "fields": fields})


def of(raw: Record) -> Version:
    """Return a schema with the frame of single objects."""
    return Version(raw, frame_of(raw))


def join(frame: bytes, pieces: Sequence[bytes]) -> bytes:
    """Return the value made of a frame and encoded fields."""
    return frame + b"".join(pieces)


def _older(kind: Any) -> Any:
    if kind == "long":
        return "int"
    if isinstance(kind, dict) and kind["type"] == "enum":
        return {**kind, "symbols": kind["symbols"][::-1]}
    return kind


def _newer(kind: Any) -> Any:
    if not isinstance(kind, dict) or kind["type"] != "enum":
        return kind
    more = {
        "TaskOutcome": [NEW_OUTCOME],
        "CallOutcome": [NEW_OUTCOME],
        "SecuritySeverity": [NEW_SEVERITY],
    }
    return {**kind, "symbols": [*more.get(kind["name"], []), *kind["symbols"]]}


def _kind(kind: Any) -> str:
    if isinstance(kind, list):
        return _kind(kind[1]) + "?"
    plain = str(kind["type"] if isinstance(kind, dict) else kind)
    return "long" if plain == "int" else plain


def _encoded(kind: Any, value: Any) -> bytes:
    """Encode one field; a union has null first."""
    if isinstance(kind, list):
        return optional(None if value is None else _encoded(kind[1], value))
    plain = kind["type"] if isinstance(kind, dict) else kind
    if plain == "enum":
        return zigzag(kind["symbols"].index(value))
    if plain == "array":
        items = b"".join(double(item) for item in value)
        return (zigzag(len(value)) + items if value else b"") + b"\0"
    if plain == "boolean":
        return bytes([value])
    if plain == "string":
        return text(value)
    return double(value) if plain == "double" else zigzag(value)
