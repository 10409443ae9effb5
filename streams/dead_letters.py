"""Dead letters: the records that set refused ones aside, with the reason in the headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streams.batch import FetchedBatch, Header, Refusal

_MAX_DETAIL = 512
_ENVELOPE = 256
"""Bytes of a record batch and a record around key, value and headers, with room for the cuts."""


def dead_letter(
    batch: FetchedBatch, refusal: Refusal, max_bytes: int
) -> tuple[bytes | None, bytes | None, list[Header]]:
    """Build the record that sets a refused one aside: its own bytes, and why in the headers.

    Where key and value do not fit, the value is cut, then the key; the headers `cut` and
    `key-cut` then give the original size.

    Args:
        batch: the batch the record came in.
        refusal: which record, and why.
        max_bytes: largest record the dead-letter topic takes, with all that surrounds it.

    Returns:
        Key, value and headers; a null key or value stays null.

    Raises:
        ValueError: `max_bytes` is too small for the headers alone.
    """
    row = refusal.index
    key, value = batch.keys[row], batch.values[row]
    headers: list[Header] = [
        ("reason", refusal.reason.value.encode()),
        ("detail", refusal.detail.encode(errors="replace")[:_MAX_DETAIL]),
        ("topic", batch.topic.encode()),
        ("partition", str(batch.partition).encode()),
        ("offset", str(int(batch.offsets[row])).encode()),
        ("timestamp", str(int(batch.timestamps[row])).encode()),
    ]
    room = max_bytes - _ENVELOPE - sum(len(name) + len(text or b"") + 10 for name, text in headers)
    if room < 0:
        raise ValueError(f"max_bytes={max_bytes} leaves no room beside the headers")
    if key is not None and len(key) > room:
        headers.append(("key-cut", str(len(key)).encode()))
        key = key[:room]
    room -= len(key or b"")
    if value is not None and len(value) > room:
        headers.append(("cut", str(len(value)).encode()))
        value = value[:room]
    return key, value, headers
