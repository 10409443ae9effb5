"""How the producers of the exactly-once proof write."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from load.dialects import (
    FOREIGN,
    LACKING,
    NEWER,
    OLDER,
    STRANGER,
    TODAY,
    Dialects,
    Version,
    newer,
    older,
    today,
)
from load.proof import UNUSABLE, RefusedError, Writer, decode, writer_of

TASK = {
    "event_id": "e",
    "occurred_at": 1_767_225_600_000,
    "tenant": None,
    "agent_id": "a",
    "task_type": "t",
    "outcome": "UNKNOWN",
    "duration_ms": 7.5,
    "cost_usd": 0.25,
    "input_tokens": 3,
    "output_tokens": 4,
    "cached_tokens": 2,
}
THREAT = {
    "event_id": "e",
    "occurred_at": 1_767_225_600_000,
    "tenant": None,
    "agent_id": "a",
    "kind": "OTHER",
    "severity": "HIGH",
    "blocked": True,
}


class Registry:
    """Gives ids, as a registry does."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def register(self, subject: str, _text: str, _kind: str) -> int:
        return self.ids.setdefault(subject, len(self.ids) + 1)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def dialects(registry: Registry) -> Dialects:
    return Dialects(3, registry.register)


def writers(dialects: Dialects, registry: Registry) -> dict[bytes, Writer]:
    found = {version.frame: writer_of(version.raw) for version in dialects.versions}
    for version in dialects.versions:
        number = registry.ids[f"proof-{version.name}"]
        found[b"\0" + number.to_bytes(4, "big")] = writer_of(version.raw)
    found[b"\0" + registry.ids["proof-foreign"].to_bytes(4, "big")] = UNUSABLE
    return found


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize("word", [OLDER, TODAY, NEWER])
@pytest.mark.parametrize("record", [TASK, THREAT])
def test_every_version_in_either_frame_is_read_as_the_record_of_today(
    record: dict[str, Any], word: str, registered: bool, dialects: Dialects, registry: Registry
) -> None:
    name = "TaskFinished" if record is TASK else "SecurityEvent"
    value = dialects.write(Random(1), record, 2, registered=registered, word=word)

    found = decode(value, name, writers(dialects, registry))

    lost = {"duration_ms": 7.0, "cached_tokens": None} if word == OLDER else {}
    assert found.items() >= {k: lost.get(k, v) for k, v in record.items()}.items()
    assert value.startswith(b"\0" if registered else b"\xc3\x01")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (LACKING, "INCOMPATIBLE_SCHEMA"),
        (STRANGER, "WRONG_SCHEMA"),
        (FOREIGN, "INCOMPATIBLE_SCHEMA"),
    ],
)
def test_other_schemas_are_refused(
    word: str, reason: str, dialects: Dialects, registry: Registry
) -> None:
    value = dialects.write(Random(1), TASK, 0, registered=True, word=word)

    with pytest.raises(RefusedError, match=reason):
        decode(value, "TaskFinished", writers(dialects, registry))


def test_the_newer_version_is_another_one_every_day() -> None:
    frames = {newer("TaskFinished", day).frame for day in range(5)}

    assert len(frames | {today("TaskFinished").frame, older("TaskFinished").frame}) == 7


def test_versions_are_published_on_the_first_day_they_are_used(dialects: Dialects) -> None:
    published: list[Version] = []
    for day in range(3):
        published += dialects.published(day)
        known = {version.frame for version in published}
        for word in (OLDER, TODAY, NEWER):
            assert dialects.write(Random(1), TASK, day, registered=False, word=word)[:10] in known
    assert published == sorted(dialects.versions, key=lambda version: version.day)
