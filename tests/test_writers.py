"""Where a proof has its schemas from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from load.dialects import FOREIGN_SCHEMA, newer
from load.proof import UNUSABLE, LogRecord, schemas
from load.writers import collect, register

if TYPE_CHECKING:
    from streams.local import LocalRegistry


def log(key: bytes | None, value: bytes | None) -> LogRecord:
    return LogRecord("agentops.schemas", 0, 0, 0, key, value)


def test_what_the_topic_says_counts_only_under_its_own_fingerprint() -> None:
    one, other = newer("TaskFinished", 1), newer("TaskFinished", 2)
    own = one.frame[2:].hex().encode()
    published = [
        log(own, one.text.encode()),
        log(own, other.text.encode()),
        log(own, None),
        log(None, b"{"),
        log(b"\xff", b"[]"),
    ]

    found = collect(published, [], None)

    assert found.keys() - schemas().keys() == {one.frame}


@pytest.mark.broker
def test_ids_are_asked_of_the_registry(registry: LocalRegistry, prefix: str) -> None:
    version = newer("TaskFinished", 1)
    known = register(registry.url, f"{prefix}one", version.text)
    foreign = register(registry.url, f"{prefix}two", json.dumps(FOREIGN_SCHEMA), "JSON")
    frames = [b"\0" + n.to_bytes(4, "big") for n in (known, foreign, 2**30)]
    values: list[Any] = [*frames, b"\0\0", None, b"\xc3\x01"]

    found = collect([], [log(None, value) for value in values], registry.url)

    assert found.keys() - schemas().keys() == set(frames[:2])
    assert found[frames[0]].name == "TaskFinished"
    assert found[frames[1]] == UNUSABLE
