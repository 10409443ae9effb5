"""How the producers of the exactly-once proof write their values: schema versions and frames.

Three versions of each record: an older one, today's and a newer one. The newer one gains a field
every day of event time, so that workers meet schemas they have not seen as long as events flow.
Half of the producers write single objects and publish their schemas on the topic for them; the
others write the ids of a schema registry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro

from load.proof import SCHEMAS, Writer, single_object_frame, writer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from random import Random

    from load.oracle import Record

OLDER, TODAY, NEWER = "older", "today", "newer"
LACKING, STRANGER, FOREIGN = "lacking", "stranger", "foreign"
_RECORDS = ("TaskFinished", "SecurityEvent")
DROPPED = frozenset(
    {
        "trace_id",
        "cached_tokens",
        "confidence",
        "model",
        "prompt_version",
        "agent_version",
        "trust_tier",
        "input_features",
        "detail_code",
        "evidence_ref",
    }
)
"""Fields that the older version does not have."""
NEW_SYMBOLS = {"UNKNOWN": "DELEGATED", "OTHER": "DATA_LEAK", "HIGH": "EMERGENCY"}
"""What only the newer version says, by the symbol as which others must read it."""
_OPTIONAL_TEXT = ["null", "string"]
FOREIGN_SCHEMA = {"type": "object", "properties": {"event_id": {"type": "string"}}}
"""A schema of another kind (JSON Schema), which no Avro value can be written with."""


@dataclass(frozen=True)
class Version:
    """A schema that some producers write with.

    Attributes:
        name: one of the words above, with the record and the day.
        raw: the schema as JSON.
        day: first day of event time on which it is used.
    """

    name: str
    raw: Record
    day: int = 0

    @property
    def text(self) -> str:
        """The schema as it is published."""
        return json.dumps(self.raw)

    @cached_property
    def frame(self) -> bytes:
        """What single objects of it start with."""
        return single_object_frame(self.raw)

    @cached_property
    def writer(self) -> Writer:
        """The schema for fastavro."""
        return writer_of(self.raw)

    def body(self, record: Record) -> bytes:
        """Encode a record of today, with what only this version has."""
        changed = dict(record)
        if self.name.startswith(OLDER) and "duration_ms" in record:
            changed["duration_ms"] = int(record["duration_ms"])
        if self.name.startswith(NEWER):
            for name in ("outcome", "kind", "severity"):
                if record.get(name) in NEW_SYMBOLS:
                    changed[name] = NEW_SYMBOLS[record[name]]
            changed |= {"region": "eu", "retries": 2, "labels": ["a", "b"], "revision": 7}
        stream = BytesIO()
        fastavro.schemaless_writer(stream, self.writer.parsed, changed)
        return stream.getvalue()


class Dialects:
    """All versions of a proof, and what their values start with.

    Args:
        days: days of event time.
        register: registers a schema under a subject and returns its id: (subject, text, kind).
    """

    def __init__(self, days: int, register: Callable[[str, str, str], int]) -> None:
        self.versions = [
            *(make(record) for record in _RECORDS for make in (older, today)),
            *(newer(record, day) for record in _RECORDS for day in range(days)),
            lacking(),
            stranger(),
        ]
        self._versions = {version.name: version for version in self.versions}
        self._ids = {
            version.name: register(f"proof-{version.name}", version.text, "AVRO")
            for version in self.versions
        }
        self._ids[FOREIGN] = register("proof-foreign", json.dumps(FOREIGN_SCHEMA), "JSON")

    def published(self, day: int) -> list[Version]:
        """Return what producers publish before the first event of a day."""
        return [version for version in self.versions if version.day == day]

    def write(
        self, random: Random, record: Record, day: int, *, registered: bool, word: str = ""
    ) -> bytes:
        """Return the value of a record in one of the three versions, or in the one named."""
        name = "TaskFinished" if "task_type" in record else "SecurityEvent"
        word = word or random.choice((OLDER, TODAY, NEWER))
        if word == FOREIGN:
            return self._id_frame(FOREIGN) + b"\x02a"
        version = self._versions[_named(word, name, day)]
        frame = self._id_frame(version.name) if registered else version.frame
        return frame + version.body(record)

    def _id_frame(self, name: str) -> bytes:
        return b"\0" + self._ids[name].to_bytes(4, "big")


def today(record: str) -> Version:
    """Return the version in `schemas/`."""
    text = (SCHEMAS / f"{record}.avsc").read_text(encoding="utf-8")
    return Version(_named(TODAY, record), json.loads(text))


def older(record: str) -> Version:
    """Return what an older producer writes: fewer fields, and durations in whole ms."""
    raw = today(record).raw
    fields = [
        {**field, "type": "long"} if field["name"] == "duration_ms" else field
        for field in raw["fields"]
        if field["name"] not in DROPPED
    ]
    return Version(_named(OLDER, record), {**raw, "fields": fields})


def newer(record: str, day: int) -> Version:
    """Return what a newer producer writes: more fields and symbols, in another order."""
    raw = today(record).raw
    first, second, *others = [_with_new_symbols(field) for field in raw["fields"]]
    fields = [
        {"name": "region", "type": _OPTIONAL_TEXT, "default": None},
        second,
        {"name": "retries", "type": "int", "default": 0},
        *others,
        {"name": "labels", "type": {"type": "array", "items": "string"}, "default": []},
        first,
        {"name": "revision", "type": "long", "default": 0},
        *({"name": f"day_{n}", "type": "long", "default": n} for n in range(1, day + 1)),
    ]
    return Version(_named(NEWER, record, day), {**raw, "fields": fields}, day)


def lacking() -> Version:
    """Return a version that cannot be read as a task: it has no cost."""
    raw = today("TaskFinished").raw
    fields = [field for field in raw["fields"] if field["name"] != "cost_usd"]
    return Version(_named(LACKING, "TaskFinished"), {**raw, "fields": fields})


def stranger() -> Version:
    """Return a schema with the fields of a task and another name."""
    return Version(
        _named(STRANGER, "TaskFinished"), {**today("TaskFinished").raw, "name": "Payment"}
    )


def _named(word: str, record: str, day: int = 0) -> str:
    return f"{word}-{record}-{day}" if word == NEWER else f"{word}-{record}"


def _with_new_symbols(field: Mapping[str, Any]) -> dict[str, Any]:
    kind = field["type"]
    if not isinstance(kind, dict) or kind["type"] != "enum":
        return dict(field)
    new = [NEW_SYMBOLS[symbol] for symbol in kind["symbols"] if symbol in NEW_SYMBOLS]
    return {**field, "type": {**kind, "symbols": [*new, *kind["symbols"]]}}
