"""The records of `agentops.schemas`: writer schemas by fingerprint, for producers without a registry.

The key is the fingerprint as it stands in the frame of a value, as 16 hex digits; the value is the
schema as JSON. A null value deletes.
"""

from __future__ import annotations

import json

from streams import schemas

MAX_BYTES = 256 * 1024
"""Largest schema that is read."""


class SchemaTopicError(ValueError):
    """A record of the topic is no usable schema; the message says which and why."""


def parse(key: bytes | None, value: bytes) -> schemas.Schema:
    """Return the schema of a record.

    Raises:
        SchemaTopicError: it is none, or not the one its key names.
    """
    name = (key or b"").decode("ascii", "replace")[:40]
    if len(value) > MAX_BYTES:
        raise SchemaTopicError(f"schema {name}: {len(value)} bytes, at most {MAX_BYTES} are read")
    try:
        found = schemas.build(json.loads(value))
    # Anybody may write there, and neither parser says which errors it raises.
    except Exception as error:
        raise SchemaTopicError(f"schema {name}: no Avro record: {error}"[:300]) from error
    if found.fingerprint.hex() != name:
        raise SchemaTopicError(f"schema {name}: its fingerprint is {found.fingerprint.hex()}")
    return found
