"""Calls decode to columns, alone and among others, as fastavro and the limits say."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streams import schemas
from streams.batch import FetchedBatch
from streams.codec import CallDecoder
from streams.keys import key_of
from streams.reasons import DeadLetterReason as Reason

if TYPE_CHECKING:
    from streams.columns import CallColumns

AT = 1_760_000_000_000
OUTCOMES = ["UNKNOWN", "OK", "ERROR", "TIMEOUT"]
Record = dict[str, Any]
Row = tuple[Any, ...]


def a_call(number: int = 0, **changes: Any) -> Record:
    record = {
        "event_id": f"event-{number}",
        "occurred_at": AT + 1_000 * number,
        "tenant": f"tenant-{number % 3}" if number % 2 else None,
        "agent_id": f"agent-{number % 5}",
        "trace_id": f"{number:032x}" if number % 3 else None,
        "integration": ["crm", "ledger", "größen"][number % 3],
        "operation": f"op-{number % 7}",
        "outcome": OUTCOMES[number % 4],
        "error_type": [None, "RATE_LIMITED", ""][number % 3],
        "status_code": [None, 200, 401, 503, 0][number % 5],
        "duration_ms": 12.5 * number,
        "attempts": 1 + number % 4,
        "purpose": "CONTRACT_TEST" if number % 6 == 0 else "PRODUCTION",
    }
    return record | changes


def batch_of(records: list[Record]) -> FetchedBatch:
    keys = [key_of(record["tenant"], record["agent_id"]) for record in records]
    return values_with([schemas.encode("IntegrationCall", record) for record in records], keys)


def values_with(values: list[bytes], keys: list[bytes]) -> FetchedBatch:
    count = len(values)
    offsets, stamps = np.arange(count), np.full(count, AT)
    return FetchedBatch(
        "agentops.calls", 0, 0, 0, count, offsets, stamps, keys, values, [()] * count
    )


def rows_of(columns: CallColumns) -> list[Row]:
    return list(
        zip(
            columns.occurred_at.tolist(),
            columns.outcome.tolist(),
            columns.timeout.tolist(),
            columns.duration_us.tolist(),
            columns.attempts.tolist(),
            columns.contract_test.tolist(),
            columns.tenant.to_list(),
            columns.agent.to_list(),
            columns.integration.to_list(),
            columns.operation.to_list(),
            columns.error_type.to_list(),
            strict=True,
        )
    )


def row_of(record: Record) -> Row:
    outcome, status = record["outcome"], record["status_code"] or 0
    error = None
    if outcome in {"ERROR", "TIMEOUT"}:
        error = record["error_type"] or (f"HTTP_{status}" if status >= 400 else outcome)
    return (
        record["occurred_at"],
        {"OK": 0, "ERROR": 2, "TIMEOUT": 2, "UNKNOWN": 3}[outcome],
        outcome == "TIMEOUT",
        math.floor(record["duration_ms"] * 1e3 + 0.5),
        record["attempts"],
        record["purpose"] == "CONTRACT_TEST",
        record["tenant"],
        record["agent_id"],
        record["integration"],
        record["operation"],
        error,
    )


def decoder(**options: Any) -> CallDecoder:
    return CallDecoder(partitions=1, **options)


@pytest.mark.parametrize("count", [0, 1, 23, 24, 500])
def test_good_calls_come_out_as_they_went_in(count: int) -> None:
    records = [a_call(number) for number in range(count)]

    decoded = decoder().decode(batch_of(records))

    assert decoded.refused == []
    assert decoded.rows.tolist() == list(range(count))
    assert rows_of(decoded.value) == [row_of(record) for record in records]
    kinds = {name: getattr(decoded.value, name).dtype for name in ("outcome", "timeout")}
    assert kinds == {"outcome": np.int8, "timeout": np.bool_}
    assert {decoded.value.attempts.dtype, decoded.value.duration_us.dtype} == {np.dtype(np.int64)}


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({"outcome": "OK", "error_type": "X", "status_code": 500}, None),
        ({"outcome": "UNKNOWN", "error_type": "X", "status_code": 500}, None),
        ({"outcome": "ERROR", "error_type": "RATE_LIMITED", "status_code": 429}, "RATE_LIMITED"),
        ({"outcome": "ERROR", "error_type": None, "status_code": 400}, "HTTP_400"),
        ({"outcome": "ERROR", "error_type": "", "status_code": 399}, "ERROR"),
        ({"outcome": "ERROR", "error_type": None, "status_code": None}, "ERROR"),
        ({"outcome": "TIMEOUT", "error_type": None, "status_code": 504}, "HTTP_504"),
        ({"outcome": "TIMEOUT", "error_type": None, "status_code": None}, "TIMEOUT"),
    ],
)
@pytest.mark.parametrize("neighbours", [0, 30])
def test_an_error_has_the_type_given_else_its_status_else_its_outcome(
    call: Record, error: str | None, neighbours: int
) -> None:
    records = [*(a_call(number) for number in range(neighbours)), a_call(**call)]

    assert decoder().decode(batch_of(records)).value.error_type.to_list()[-1] == error


@pytest.mark.parametrize(
    ("field", "value", "fine"),
    [
        ("integration", "", False),
        ("integration", "x" * 256, True),
        ("integration", "x" * 257, False),
        ("operation", "", False),
        ("operation", "\N{GRINNING FACE}" * 257, False),
        ("error_type", "x" * 256, True),
        ("error_type", "x" * 257, False),
        ("status_code", 9999, True),
        ("status_code", 10_000, False),
        ("status_code", -1, False),
        ("attempts", 1000, True),
        ("attempts", 1001, False),
        ("attempts", 0, False),
        ("duration_ms", math.nan, False),
        ("duration_ms", -1e-9, False),
        ("occurred_at", 4_102_444_800_000, False),
        ("trace_id", "x" * 9000, True),
        ("tenant", "", False),
    ],
)
@pytest.mark.parametrize("neighbours", [0, 30])
def test_fields_are_judged_at_their_limits(
    field: str, value: Any, fine: bool, neighbours: int
) -> None:
    records = [a_call(number) for number in range(neighbours + 1)]
    records[-1][field] = value

    decoded = decoder().decode(batch_of(records))

    reasons = [(refusal.index, refusal.reason) for refusal in decoded.refused]
    assert reasons == ([] if fine else [(neighbours, Reason.INVALID_FIELD)])
    kept = records if fine else records[:-1]
    assert rows_of(decoded.value) == [row_of(record) for record in kept]
    assert fine or decoded.refused[0].detail.startswith(f"{field} ")


def test_a_call_of_an_older_producer_gets_the_defaults() -> None:
    raw = schemas.schema("IntegrationCall")
    left_out = {"tenant", "trace_id", "error_type", "status_code", "attempts", "purpose"}
    fields = [field for field in raw["fields"] if field["name"] not in left_out]
    older = schemas.build({**raw, "fields": fields})
    defaults: Record = {"tenant": None, "error_type": None, "status_code": None}
    records = [a_call(i, **defaults, attempts=1, purpose="PRODUCTION") for i in range(40)]
    names = {field["name"] for field in fields}
    values = [older.write({k: v for k, v in each.items() if k in names}) for each in records]
    keys = [record["agent_id"].encode() for record in records]

    for count in (3, 40):
        batch = values_with(values[:count], keys[:count])
        decoded = decoder(find={older.frame: older}.get).decode(batch)
        assert decoded.refused == []
        assert rows_of(decoded.value) == [row_of(record) for record in records[:count]]


def test_symbols_of_a_newer_producer_are_the_defaults() -> None:
    raw = schemas.schema("IntegrationCall")
    more = {"outcome": ["REFUSED", "OK"], "purpose": ["DRILL"]}
    fields = [
        {**field, "type": {**field["type"], "symbols": more[field["name"]], "default": "DRILL"}}
        if field["name"] == "purpose"
        else {**field, "type": {**field["type"], "symbols": more["outcome"], "default": "OK"}}
        if field["name"] == "outcome"
        else field
        for field in raw["fields"]
    ]
    for field in fields:
        if field["name"] == "purpose":
            field["default"] = "DRILL"
    newer = schemas.build({**raw, "fields": fields})
    records = [a_call(i, outcome="REFUSED", purpose="DRILL") for i in range(40)]
    keys = [key_of(record["tenant"], record["agent_id"]) for record in records]
    batch = values_with([newer.write(record) for record in records], keys)

    found = decoder(find={newer.frame: newer}.get).decode(batch).value

    assert set(found.outcome.tolist()) == {3}
    assert not found.contract_test.any()


def test_of_mutated_calls_columns_hold_what_single_records_do_and_no_neighbour_changes() -> None:
    random = Random(20_261_123)
    records = [a_call(number) for number in range(40)]
    batch = batch_of(records)
    reading = decoder()
    reasons = set()
    for turn in range(300):
        values, keys = [value or b"" for value in batch.values], [key or b"" for key in batch.keys]
        row = random.randrange(40)
        value = bytearray(values[row])
        for _ in range(random.randint(1, 3)):
            value[random.randrange(10, len(value))] = random.randrange(256)
        size = random.randrange(len(value)) if turn % 5 == 0 else len(value)
        values[row] = bytes(value[:size])

        among = reading.decode(values_with(values, keys))
        alone = reading.decode(values_with([values[row]], [keys[row]]))

        assert [(r.index, r.reason, r.detail) for r in among.refused] == [
            (row, r.reason, r.detail) for r in alone.refused
        ]
        expected = [row_of(record) for record in records]
        expected[row : row + 1] = rows_of(alone.value)
        assert rows_of(among.value) == expected
        reasons |= {refusal.reason for refusal in alone.refused}
    assert reasons >= {Reason.BAD_BODY, Reason.INVALID_FIELD, Reason.KEY_MISMATCH}


def test_a_call_has_the_checks_of_its_key_and_partition() -> None:
    value = schemas.encode("IntegrationCall", a_call())
    reasons = [
        [refusal.reason for refusal in decoder().decode(values_with([value], [key])).refused]
        for key in (b"agent-0", b"agent-1")
    ]

    assert reasons == [[], [Reason.KEY_MISMATCH]]
    strays = CallDecoder(partitions=12).decode(values_with([value] * 30, [b"agent-0"] * 30))
    assert {refusal.reason for refusal in strays.refused} == {Reason.STRAY_PARTITION}
