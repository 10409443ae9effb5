"""The trace an event belongs to, where its producer says so in the headers.

Sources: W3C Trace Context (`traceparent`), and the CloudEvents distributed tracing extension, which
carries the same text as `ce_traceparent` in the Kafka protocol binding's binary mode.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADERS = ("traceparent", "ce_traceparent")
"""Where to look, the first one that is right counts."""
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


def trace_id(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """Return the trace id of a record's headers: 32 lower-case hex digits, None where none is."""
    given = {name: value for name, value in headers if name in HEADERS and value}
    for name in HEADERS:
        match = _TRACEPARENT.fullmatch(given.get(name) or b"")
        # All zeros is how the specification writes "none", and version ff is forbidden.
        if match and match[1].strip(b"0") and not match[0].startswith(b"ff"):
            return match[1].decode()
    return None
