"""State records of the core: their keys, and arrays as bytes inside them.

A key names one block that is written whole, so that compaction keeps just the newest. Few and
large records: a send costs more than its bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams import schemas
from streams.panes import BUCKET, OUTCOMES, PaneKey, PaneRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from streams.series import Agent, Task

    I64 = NDArray[np.int64]
    F16 = NDArray[np.float16]

VERSION = 1

_WIDTHS = {3_600_000: "1h", 60_000: "1m"}
_INTEGERS = (np.dtype("<i1"), np.dtype("<i2"), np.dtype("<i4"), np.dtype("<i8"))
_BY_SIZE = {kind.itemsize: kind for kind in _INTEGERS}


class Stored(NamedTuple):
    """A state record, decoded.

    Attributes:
        kind: name of its schema.
        key: where it stands.
        fields: its fields.
    """

    kind: str
    key: bytes
    fields: dict[str, Any]


def clock_key(topic: str) -> bytes:
    """Return where the clock of an input topic stands."""
    return f"clock/{topic}".encode()


def evidence_key(topic: str) -> bytes:
    """Return where the hours that a topic's clock reached stand."""
    return f"evidence/{topic}".encode()


def agents_key(bucket: int) -> bytes:
    """Return where 256 agents stand."""
    return f"agents/{bucket}".encode()


def series_key(bucket: int) -> bytes:
    """Return where 256 task series stand."""
    return f"series/{bucket}".encode()


def pane_key(width: int, key: PaneKey) -> bytes:
    """Return where the panes of 256 rows and one start stand."""
    return f"pane/{_WIDTHS[width]}/{key.bucket}/{key.start}".encode()


def residual_key(rule: str, arm: str, bucket: int, day: int) -> bytes:
    """Return where the residuals of 256 agents and one day stand."""
    return f"residual/{rule}/{arm}/{bucket}/{day}".encode()


def life_key(rule: str, row: int) -> bytes:
    """Return where the life of a rule on an agent stands."""
    return f"life/{rule}/{row}".encode()


def threat_key(name: bytes) -> bytes:
    """Return where what is known of a kind of security event of an agent stands."""
    return b"threat/" + name


def threat_name(key: bytes) -> bytes:
    """Return the name that `threat_key` was given."""
    return key.removeprefix(b"threat/")


LIMIT_KEY = b"limit"
"""Where the open life of the series limit stands."""


def encode(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Encode a state record of the newest version."""
    return schemas.encode(kind, {"version": VERSION, **fields})


def decode(records: Iterable[tuple[bytes, bytes]]) -> list[Stored]:
    """Decode state records; those of an epoch, which are not the core's, are left out.

    Raises:
        ValueError: a record is of another version; this worker is too old for it, or too new.
        streams.schemas.DecodeError: a record does not decode.
    """
    found: list[Stored] = []
    for key, value in records:
        kind, fields = schemas.decode(value)
        if fields["version"] != VERSION:
            raise ValueError(
                f"state record {key.decode()!r} has version {fields['version']}, this worker reads "
                f"{VERSION}: run the version that wrote it, or begin anew with --reset-state"
            )
        found.append(Stored(kind, key, fields))
    return found


# -- panes -------------------------------------------------------------------------------------


def encode_panes(width: int, key: PaneKey, panes: PaneRows, *, published: bool) -> bytes:
    """Encode the panes of up to 256 rows."""
    values = np.concatenate([panes.counts, panes.sums], axis=1)
    return encode(
        "PaneState",
        {
            "width": width,
            "start": key.start,
            "bucket": key.bucket,
            "rows": pack_rows(panes.rows),
            "columns": _pack_columns(values),
            "revision": _pack(panes.revision) if published else b"",
            "changed": panes.changed.astype(np.uint8).tobytes() if published else b"",
        },
    )


def decode_panes(fields: Mapping[str, Any]) -> PaneRows:
    """Return the panes of a record."""
    rows = unpack_rows(fields["bucket"], fields["rows"])
    values = np.stack([_unpack(one, len(rows)) for one in fields["columns"]], axis=1)
    none = np.zeros(len(rows), np.int64)
    published = bool(fields["changed"])
    changed = np.frombuffer(fields["changed"], np.uint8) if published else none
    return PaneRows(
        rows=rows,
        counts=values[:, :OUTCOMES],
        sums=values[:, OUTCOMES:],
        revision=_unpack(fields["revision"], len(rows)) if published else none,
        changed=changed.astype(np.bool_),
    )


# -- series ------------------------------------------------------------------------------------


def encode_agents(bucket: int, agents: Mapping[int, tuple[Agent, int]]) -> bytes:
    """Encode the agents of a bucket, by row, each with the hour it was born."""
    return encode(
        "AgentState",
        {
            "bucket": bucket,
            "rows": pack_rows(np.array(list(agents), np.int64)),
            "tenants": [agent.tenant for agent, _ in agents.values()],
            "agent_ids": [agent.agent_id for agent, _ in agents.values()],
            "born": [born for _, born in agents.values()],
        },
    )


def encode_series(bucket: int, tasks: Mapping[int, Task]) -> bytes:
    """Encode the task series of a bucket, by row."""
    return encode(
        "SeriesState",
        {
            "bucket": bucket,
            "rows": pack_rows(np.array(list(tasks), np.int64)),
            "agents": [task.agent for task in tasks.values()],
            "task_types": [task.task_type for task in tasks.values()],
        },
    )


# -- residuals ---------------------------------------------------------------------------------


def pack_residuals(values: F16) -> bytes:
    """Return float16[r, 24, 2] as bytes."""
    return values.astype("<f2").tobytes()


def unpack_residuals(data: bytes, rows: int) -> F16:
    """Return what `pack_residuals` was given."""
    return np.frombuffer(data, "<f2").astype(np.float16).reshape(rows, -1, 2)


# -- arrays ------------------------------------------------------------------------------------


def pack_rows(rows: I64) -> bytes:
    """Return the rows of one bucket, a byte each."""
    return (rows % BUCKET).astype(np.uint8).tobytes()


def unpack_rows(bucket: int, data: bytes) -> I64:
    """Return what `pack_rows` was given."""
    return np.frombuffer(data, np.uint8).astype(np.int64) + bucket * BUCKET


def pack_bits(marks: NDArray[np.bool_]) -> bytes:
    """Return marks of rows, a bit each, without those after the last."""
    return np.packbits(marks, bitorder="little").tobytes().rstrip(b"\0")


def unpack_bits(data: bytes) -> I64:
    """Return the rows that `pack_bits` found marked."""
    return np.flatnonzero(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little"))


def _pack_columns(values: I64) -> list[bytes]:
    """Return each column of int64[r, columns] as bytes."""
    lows, highs = values.min(axis=0, initial=0), values.max(axis=0, initial=0)
    return [
        values[:, column].astype(_kind(low, high)).tobytes()
        for column, (low, high) in enumerate(zip(lows.tolist(), highs.tolist(), strict=True))
    ]


def _pack(values: I64) -> bytes:
    return _pack_columns(values[:, None])[0]


def _unpack(data: bytes, rows: int) -> I64:
    if rows == 0:
        return np.empty(0, np.int64)
    return np.frombuffer(data, _BY_SIZE[len(data) // rows]).astype(np.int64)


def _kind(low: int, high: int) -> np.dtype[Any]:
    """Return the smallest kind of integer that holds a range."""
    for kind in _INTEGERS:
        if -(1 << (8 * kind.itemsize - 1)) <= low and high < 1 << (8 * kind.itemsize - 1):
            return kind
    return _INTEGERS[-1]
