from __future__ import annotations

import numpy as np
import pytest

from streams.batch import FetchedBatch, Refusal
from streams.dead_letters import dead_letter
from streams.reasons import DeadLetterReason as Reason

AT = 1_767_225_600_000


def a_batch(
    values: list[bytes | None], keys: list[bytes | None], partition: int = 0
) -> FetchedBatch:
    count = len(values)
    return FetchedBatch(
        topic="agentops.tasks",
        partition=partition,
        incarnation=0,
        fetch_from=100,
        next_offset=100 + count,
        offsets=np.arange(100, 100 + count, dtype=np.int64),
        timestamps=np.full(count, AT, np.int64),
        keys=keys,
        values=values,
        headers=[()] * count,
    )


def test_a_dead_letter_keeps_the_bytes_and_says_where_they_came_from() -> None:
    batch = a_batch([b"one", b"two"], [b"k1", b"k2"], partition=3)
    key, value, headers = dead_letter(batch, Refusal(1, Reason.BAD_FRAMING, "détail"), 10_000)
    assert (key, value) == (b"k2", b"two")
    assert headers == [
        ("reason", b"BAD_FRAMING"),
        ("detail", "détail".encode()),
        ("topic", b"agentops.tasks"),
        ("partition", b"3"),
        ("offset", b"101"),
        ("timestamp", str(AT).encode()),
    ]


def test_a_dead_letter_of_nulls_is_a_record_of_nulls() -> None:
    key, value, _ = dead_letter(a_batch([None], [None]), Refusal(0, Reason.NULL_VALUE, ""), 1_000)
    assert (key, value) == (None, None)


@pytest.mark.parametrize(("key", "value"), [(b"k", b"v" * 5_000), (b"k" * 5_000, b"v" * 5_000)])
def test_an_oversize_dead_letter_is_cut_and_says_so(key: bytes, value: bytes) -> None:
    refusal = Refusal(0, Reason.BAD_BODY, "x" * 5_000)
    kept_key, kept, headers = dead_letter(a_batch([value], [key]), refusal, 2_000)
    assert value.startswith(kept or b"")
    assert key.startswith(kept_key or b"")
    size = len(kept or b"") + len(kept_key or b"")
    assert size + sum(len(name) + len(text or b"") for name, text in headers) <= 2_000
    assert dict(headers)["cut"] == b"5000"
    assert ("key-cut" in dict(headers)) == (len(key) > 2_000)


def test_a_dead_letter_needs_room_for_its_headers() -> None:
    with pytest.raises(ValueError, match="max_bytes=100"):
        dead_letter(a_batch([b"v"], [b"k"]), Refusal(0, Reason.BAD_BODY, ""), 100)
