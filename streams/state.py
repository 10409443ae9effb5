"""State records of the core: their keys, and arrays as bytes inside them.

A key names one block that is written whole, so that compaction keeps just the newest. Few and
large records: a send costs more than its bytes.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from streams import schemas
from streams.panes import BUCKET, PaneKey, PaneRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from streams.series import Agent, Task

    I64 = NDArray[np.int64]
    F16 = NDArray[np.float16]

VERSION = 1

_WIDTHS = {86_400_000: "1d", 3_600_000: "1h", 60_000: "1m"}
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


def agents_key(table: str, bucket: int) -> bytes:
    """Return where 256 agents of a ledger stand."""
    return f"agents/{table}/{bucket}".encode()


def series_key(table: str, bucket: int) -> bytes:
    """Return where 256 task series of a ledger stand."""
    return f"series/{table}/{bucket}".encode()


def pane_key(table: str, width: int, key: PaneKey) -> bytes:
    """Return where the panes of a table, of 256 rows and one start, stand."""
    return f"pane/{table}/{_WIDTHS[width]}/{key.bucket}/{key.start}".encode()


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


def silence_key(scope: str, row: int) -> bytes:
    """Return where the silence of an agent or integration stands."""
    return f"silence/{scope}/{row}".encode()


def sketch_key(width: int, row: int, start: int) -> bytes:
    """Return where the latency sketch of an operation and an hour or a day stands."""
    return f"sketch/{width}/{row}/{start}".encode()


def error_types_key(row: int, day: int) -> bytes:
    """Return where the error types of an operation and a day stand."""
    return f"errors/{row}/{day}".encode()


def contract_key(row: int) -> bytes:
    """Return where the contract tests of an operation stand."""
    return f"contract/{row}".encode()


def sources_key(stream: str) -> bytes:
    """Return where the clocks of the partitions of a rolled-up stream stand."""
    return f"sources/{stream}".encode()


def waiting_key(stream: str, offset: int) -> bytes:
    """Return where a partial stands that waits for slower partitions."""
    return f"waiting/{stream}/{offset}".encode()


def profile_key(key: str) -> bytes:
    """Return where the profile with a record key stands."""
    return f"profile/{key}".encode()


def changes_key(tenant: str | None, agent_id: str) -> bytes:
    """Return where the newest changes of an agent stand."""
    return b"changes/" + _agent(tenant, agent_id)


def queue_key(tenant: str | None, agent_id: str, hour: int) -> bytes:
    """Return where the queue depths of an agent and an hour stand."""
    return f"queue/{hour}/".encode() + _agent(tenant, agent_id)


def callers_key(bucket: int, hour: int) -> bytes:
    """Return where the integrations that some agents called in an hour stand."""
    return f"callers/{bucket}/{hour}".encode()


def _agent(tenant: str | None, agent_id: str) -> bytes:
    """Return an agent as a short JSON list: ids may hold any character."""
    return json.dumps([tenant, agent_id], ensure_ascii=False, separators=(",", ":")).encode()


RESUME_KEY = b"resume"
"""Where it stands when records of the partition came again."""


def cost_life_key(rule: str, subject: bytes) -> bytes:
    """Return where the life of a rule on cost on a subject stands."""
    return f"cost-life/{rule}/".encode() + subject


def limit_key(part: str | None) -> bytes:
    """Return where the open life of the series limit stands."""
    return b"limit" if part is None else f"limit/{part}".encode()


def alert_key(alert_id: str) -> bytes:
    """Return where an open alert stands."""
    return f"alert/{alert_id}".encode()


def incident_key(incident_id: str) -> bytes:
    """Return where an incident stands."""
    return f"incident/{incident_id}".encode()


def pending_key(kind: str, tenant: str | None, entity_id: str) -> bytes:
    """Return where it stands that a rule is pending on an integration."""
    return b"pending/" + json.dumps([kind, tenant, entity_id], ensure_ascii=False).encode()


def control_key(control_id: str) -> bytes:
    """Return where a control in force stands."""
    return f"control/{control_id}".encode()


def waiting_control_key(number: int) -> bytes:
    """Return where a control that waits for its time stands."""
    return f"waiting/{number}".encode()


INCIDENTS_CLOCK_KEY = b"clock/incidents"
"""Where the clock of the incidents stands."""


def subject_life_key(rule: str, key: bytes) -> bytes:
    """Return where the life of a rule on a subject stands, which has this short name."""
    return f"subject/{rule}/".encode() + key


def review_series_key(bucket: int) -> bytes:
    """Return where 256 series of reviews stand."""
    return f"reviews/series/{bucket}".encode()


def pattern_key(name: bytes) -> bytes:
    """Return where the patterns of overrides of an agent stand."""
    return b"reviews/patterns/" + name


def advice_key(name: bytes) -> bytes:
    """Return where the threshold recommended to an agent and task type stands."""
    return b"reviews/advice/" + name


def signal_key(offset: int) -> bytes:
    """Return where a training signal stands that waits for the hour of its task to close."""
    return f"reviews/signal/{offset}".encode()


REVIEWS_KEY = b"reviews/desk"
"""Where the rest of what is known of reviews stands."""


def sample_key(minute: int) -> bytes:
    """Return where the sample of a minute of the clock stands."""
    return f"sample/{minute}".encode()


def means_key(hour: int) -> bytes:
    """Return where the means of an hour's sample stand."""
    return f"sample-means/{hour}".encode()


def mix_key(bucket: int) -> bytes:
    """Return where the usual mixes of task types of 256 agents stand."""
    return f"mix/{bucket}".encode()


def drift_bin_key(source: str, bucket: int, phase: int, number: int) -> bytes:
    """Return where a bin of the signals of 256 agents stands."""
    return f"drift/{source}/bin/{bucket}/{phase}/{number}".encode()


def drift_row_key(source: str, row: int) -> bytes:
    """Return where it stands from when on the signals of an agent count."""
    return f"drift/{source}/row/{row}".encode()


def drift_life_key(source: str, row: int, cause: str) -> bytes:
    """Return where an open drift of an agent stands."""
    return f"drift/{source}/life/{row}/{cause}".encode()


def drift_watch_key(source: str) -> bytes:
    """Return where it stands up to when drift was looked for."""
    return f"drift/{source}/watch".encode()


def override_key(hour: int) -> bytes:
    """Return where the reviews of an hour stand, by agent."""
    return f"drift/override/{hour}".encode()


def override_agent_key(row: int) -> bytes:
    """Return where an agent stands whose decisions were reviewed."""
    return f"drift/override-agent/{row}".encode()


def prompt_review_key(source: str, row: int) -> bytes:
    """Return where the review of an agent's prompt stands."""
    return f"prompt-review/{source}/{row}".encode()


def training_due_key(row: int) -> bytes:
    """Return where the state of an agent's training schedule stands."""
    return f"training-due/{row}".encode()


def retraining_key(request_id: str) -> bytes:
    """Return where an open retraining request stands."""
    return f"retraining/{request_id}".encode()


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


def encode_panes(
    table: str, width: int, key: PaneKey, panes: PaneRows, *, published: bool
) -> bytes:
    """Encode the panes of up to 256 rows."""
    values = np.concatenate([panes.counts, panes.sums], axis=1)
    return encode(
        "PaneState",
        {
            "table": table,
            "counts": panes.counts.shape[1],
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
    published, counts = bool(fields["changed"]), fields["counts"]
    changed = np.frombuffer(fields["changed"], np.uint8) if published else none
    return PaneRows(
        rows=rows,
        counts=values[:, :counts],
        sums=values[:, counts:],
        revision=_unpack(fields["revision"], len(rows)) if published else none,
        changed=changed.astype(np.bool_),
    )


# -- series ------------------------------------------------------------------------------------


def encode_agents(table: str, bucket: int, agents: Mapping[int, tuple[Agent, int]]) -> bytes:
    """Encode the agents of a bucket, by row, each with the hour it was born."""
    return encode(
        "AgentState",
        {
            "table": table,
            "bucket": bucket,
            "rows": pack_rows(np.array(list(agents), np.int64)),
            "tenants": [agent.tenant for agent, _ in agents.values()],
            "agent_ids": [agent.agent_id for agent, _ in agents.values()],
            "born": [born for _, born in agents.values()],
        },
    )


def encode_series(table: str, bucket: int, tasks: Mapping[int, Task]) -> bytes:
    """Encode the task series of a bucket, by row."""
    return encode(
        "SeriesState",
        {
            "table": table,
            "bucket": bucket,
            "rows": pack_rows(np.array(list(tasks), np.int64)),
            "agents": [task.agent for task in tasks.values()],
            "task_types": [task.task_type for task in tasks.values()],
            "models": [task.model for task in tasks.values()],
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


def pack_values(values: I64) -> bytes:
    """Return int64[n] as bytes, in the smallest kind of integer that holds all."""
    return _pack(values)


def unpack_values(data: bytes, number: int) -> I64:
    """Return what `pack_values` was given, `number` values."""
    return _unpack(data, number)


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
