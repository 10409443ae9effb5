from __future__ import annotations

import pytest

from streams.trace import trace_id

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01".encode()


def test_the_w3c_header_gives_the_trace_id() -> None:
    assert trace_id([("x", b"1"), ("traceparent", PARENT)]) == TRACE


def test_the_header_of_cloud_events_gives_it_too() -> None:
    assert trace_id([("ce_id", b"1"), ("ce_traceparent", PARENT)]) == TRACE


def test_the_w3c_header_comes_first_where_it_is_right() -> None:
    other = PARENT.replace(b"4bf9", b"aaaa")

    assert trace_id([("ce_traceparent", other), ("traceparent", PARENT)]) == TRACE
    assert trace_id([("ce_traceparent", PARENT), ("traceparent", b"nonsense")]) == TRACE


def test_a_later_version_may_add_parts() -> None:
    assert trace_id([("traceparent", PARENT.replace(b"00-4", b"01-4") + b"-more")]) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"\xff\xfe",
        PARENT.upper(),
        PARENT[:-1],
        PARENT.replace(TRACE.encode(), b"0" * 32),
        PARENT.replace(b"00-4", b"ff-4"),
    ],
)
def test_what_is_no_trace_gives_none(value: bytes | None) -> None:
    assert trace_id([("traceparent", value)]) is None
