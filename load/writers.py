"""The writers' schemas that a proof reads logs with: the repository's, the topic's, the registry's.

Plain HTTP and fastavro, nothing of the service's own registry client or catalog, so that it cannot
share their mistakes.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from load.proof import UNUSABLE, Writer, schemas, single_object_frame, writer_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from load.proof import LogRecord

SECONDS = 15.0
"""Longest wait for one answer of the registry."""
_HEADERS = {"Content-Type": "application/vnd.schemaregistry.v1+json"}


def register(url: str, subject: str, text: str, kind: str = "AVRO") -> int:
    """Register a schema; return its id."""
    body = {"schema": text} if kind == "AVRO" else {"schema": text, "schemaType": kind}
    return int(_ask(f"{url}/subjects/{subject}/versions", body)["id"])


def collect(
    published: Iterable[LogRecord], valued: Iterable[LogRecord], url: str | None
) -> dict[bytes, Writer]:
    """Return all schemas by what a value starts with.

    Args:
        published: the topic of schemas.
        valued: records whose ids are asked for.
        url: of the registry; None where there is none.
    """
    found = dict(schemas())
    for log in published:
        frame, writer = _published(log)
        if writer is not None:
            found[frame] = writer
    if url is not None:
        values = (log.value for log in valued if log.value is not None)
        for frame in {value[:5] for value in values if len(value) >= 5 and value[0] == 0}:
            writer = _registered(url, int.from_bytes(frame[1:], "big"))
            if writer is not None:
                found[frame] = writer
    return found


def _published(log: LogRecord) -> tuple[bytes, Writer | None]:
    """Return what a record of the topic says; it counts only under its own fingerprint."""
    try:
        raw = json.loads(log.value or b"")
        frame = single_object_frame(raw)
    except (ValueError, KeyError, TypeError, AttributeError):
        return b"", None
    named = log.key == frame[2:].hex().encode()
    return frame, writer_of(raw) if named else None


def _registered(url: str, number: int) -> Writer | None:
    try:
        found = _ask(f"{url}/schemas/ids/{number}")
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return None
    if found.get("schemaType", "AVRO") != "AVRO":
        return UNUSABLE
    return writer_of(json.loads(found["schema"]))


def _ask(url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, _HEADERS)  # noqa: S310 - http to a server of ours
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
        found: dict[str, Any] = json.load(answer)
    return found
