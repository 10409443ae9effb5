"""Batches decode to columns and events; what is bad is refused alone, and with its reason."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from streams import schemas
from streams.batch import FetchedBatch, Refusal
from streams.codec import Decoded, RecordDecoder, SecurityDecoder, TaskDecoder
from streams.columns import SecurityEvent, TaskColumns
from streams.keys import key_of
from streams.reasons import DeadLetterReason as Reason

AT = 1_760_000_000_000
OUTCOMES = ["AUTOMATED", "ESCALATED", "FAILED", "UNKNOWN"]
Record = dict[str, Any]
Row = tuple[Any, ...]


def a_task(number: int = 0, **changes: Any) -> Record:
    record = {
        "event_id": f"event-{number}",
        "occurred_at": AT + 1_000 * number,
        "tenant": f"tenant-{number % 3}" if number % 2 else None,
        "agent_id": f"agent-{number % 5}",
        "trace_id": f"{number:032x}" if number % 3 else None,
        "task_type": ["invoice", "claim", "rückfrage"][number % 3],
        "outcome": OUTCOMES[number % 4],
        "error_type": "TIMEOUT" if number % 4 == 2 else None,
        "duration_ms": 12.5 * number,
        "cost_usd": 0.001 * number,
        "input_tokens": 100 * number,
        "output_tokens": number,
        "cached_tokens": number if number % 2 else None,
        "confidence": 0.5 if number % 5 else None,
        "model": "some-model",
        "prompt_version": None,
        "agent_version": "1.2.3",
        "trust_tier": None,
        "input_features": [0.5] * (number % 4),
    }
    return record | changes


def a_security_event(**changes: Any) -> Record:
    record = {
        "event_id": "event",
        "occurred_at": AT,
        "tenant": "t",
        "agent_id": "a",
        "kind": "INJECTION_ATTEMPT",
        "severity": "LOW",
        "blocked": True,
    }
    return record | changes


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


def batch_of(name: str, records: list[Record], partition: int = 0) -> FetchedBatch:
    return a_batch(
        [schemas.encode(name, record) for record in records],
        [key_of(record["tenant"], record["agent_id"]) for record in records],
        partition,
    )


def decoder(**options: Any) -> TaskDecoder:
    return TaskDecoder(partitions=1, **options)


def rows_of(columns: TaskColumns) -> list[Row]:
    return list(
        zip(
            columns.occurred_at.tolist(),
            columns.outcome.tolist(),
            columns.cost_micro.tolist(),
            columns.duration_us.tolist(),
            columns.input_tokens.tolist(),
            columns.output_tokens.tolist(),
            columns.cached_tokens.tolist(),
            columns.tenant.to_list(),
            columns.agent.to_list(),
            columns.task_type.to_list(),
            columns.model.to_list(),
            [None if math.isnan(each) else each for each in columns.confidence.tolist()],
            columns.features.to_list(),
            strict=True,
        )
    )


def row_of(record: Record) -> Row:
    return (
        record["occurred_at"],
        OUTCOMES.index(record["outcome"]),
        math.floor(record["cost_usd"] * 1e6 + 0.5),
        math.floor(record["duration_ms"] * 1e3 + 0.5),
        record["input_tokens"],
        record["output_tokens"],
        record["cached_tokens"] or 0,
        record["tenant"],
        record["agent_id"],
        record["task_type"],
        record["model"] or None,
        record["confidence"],
        record["input_features"],
    )


def keeps_limits(record: Record) -> bool:
    ids = [record["event_id"], record["agent_id"], record["task_type"]]
    ids += [] if record["tenant"] is None else [record["tenant"]]
    tokens = [record["input_tokens"], record["output_tokens"], record["cached_tokens"] or 0]
    return (
        all(1 <= len(name) <= 256 for name in ids)
        and 0 <= record["occurred_at"] < 4_102_444_800_000
        and 0 <= record["duration_ms"] <= 1e12
        and 0 <= record["cost_usd"] <= 1e9
        and all(0 <= count <= 2**40 for count in tokens)
        and len(record["model"] or "") <= 256
        and 0 <= (record["confidence"] or 0) <= 1
        and len(record["input_features"]) <= 256
        and all(map(math.isfinite, record["input_features"]))
    )


USED = {"event_id", "tenant", "agent_id", "task_type", "occurred_at", "outcome", "duration_ms"} | {
    "cost_usd",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "model",
}
REFERENCE = schemas.build(
    {
        **schemas.schema("TaskFinished"),
        "fields": [
            field
            if field["name"] in USED or field["type"] != ["null", "string"]
            else {"name": field["name"], "type": ["null", "bytes"]}
            for field in schemas.schema("TaskFinished")["fields"]
        ],
    }
)


def expected(value: bytes, key: bytes | None) -> Row | Reason:
    """The reference: fastavro, the whole value consumed, then limits, then the key.

    Texts that are not used are not judged: the reference reads them as bytes.
    """
    try:
        if schemas.registry_id(schemas.frame_of(value)) is not None:
            return Reason.UNKNOWN_SCHEMA
        if schemas.by_fingerprint(value[2:10]) is None:
            return Reason.UNKNOWN_SCHEMA
        if value[2:10] != schemas.fingerprint("TaskFinished"):
            return Reason.WRONG_SCHEMA
        record = REFERENCE.read(value[10:])
    except schemas.DecodeError as error:
        return error.reason
    if not keeps_limits(record):
        return Reason.INVALID_FIELD
    return (
        row_of(record)
        if key == key_of(record["tenant"], record["agent_id"])
        else (Reason.KEY_MISMATCH)
    )


def by_row(decoded: Decoded[TaskColumns]) -> dict[int, Row | Reason]:
    found: dict[int, Row | Reason] = dict(
        zip(decoded.rows.tolist(), rows_of(decoded.value), strict=True)
    )
    assert list(found) == sorted(found)
    indices = [refusal.index for refusal in decoded.refused]
    assert indices == sorted(indices)
    assert not found.keys() & set(indices)
    return found | {refusal.index: refusal.reason for refusal in decoded.refused}


@pytest.mark.parametrize("count", [0, 1, 2, 23, 24, 30, 500])
def test_good_tasks_come_out_as_they_went_in(count: int) -> None:
    records = [a_task(number) for number in range(count)]
    decoded = decoder().decode(batch_of("TaskFinished", records))
    assert decoded.refused == []
    assert decoded.rows.tolist() == list(range(count))
    assert rows_of(decoded.value) == [row_of(record) for record in records]
    assert decoded.value.outcome.dtype == np.int8
    assert decoded.value.agent.codes.dtype == np.int32
    for name in ("occurred_at", "cost_micro", "duration_us", "input_tokens", "cached_tokens"):
        assert getattr(decoded.value, name).dtype == np.int64
    assert len(set(decoded.value.agent.values)) == len(decoded.value.agent.values)


def test_the_result_does_not_depend_on_how_records_are_batched() -> None:
    records = [a_task(number) for number in range(90)]
    records[7]["cost_usd"] = -1.0
    batch = batch_of("TaskFinished", records)
    whole = by_row(decoder().decode(batch))
    for size in (1, 24, 40):
        pieces: dict[int, Row | Reason] = {}
        for first in range(0, 90, size):
            piece = batch.start_at(100 + first)
            piece = a_batch(list(piece.values[:size]), list(piece.keys[:size]))
            pieces |= {first + i: row for i, row in by_row(decoder().decode(piece)).items()}
        assert pieces == whole


def varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out) + bytes([number])


@st.composite
def mutations(draw: st.DrawFn) -> tuple[int, int, bytes]:  # noqa: PLR0911 - a return a kind
    """Draw (number of records, which is bad, its bytes)."""
    count = draw(st.sampled_from([30, 30, 30, 3]))
    row = draw(st.integers(0, count - 1))
    value = schemas.encode("TaskFinished", a_task(row))
    follower = schemas.encode("TaskFinished", a_task(row + 1))
    at = draw(st.integers(0, len(value) - 1))
    match draw(st.sampled_from(["flip", "byte", "cut", "insert", "early", "varint", "twice"])):
        case "flip":
            bad = bytearray(value)
            for _ in range(draw(st.integers(1, 3))):
                bad[draw(st.integers(10, len(value) - 1))] ^= 1 << draw(st.integers(0, 7))
            return count, row, bytes(bad)
        case "byte":
            return (
                count,
                row,
                value[:at] + draw(st.binary(min_size=1, max_size=1)) + value[at + 1 :],
            )
        case "cut":
            return count, row, value[:at]
        case "insert":
            return count, row, value[:at] + draw(st.binary(min_size=1, max_size=12)) + value[at:]
        case "early":
            # Ends early, and goes on as if the next record were already there.
            cut = follower[: draw(st.integers(0, len(follower)))]
            return count, row, value[: max(at, 10)] + cut
        case "varint":
            # A count or a number that is negative, huge, or longer than it need be.
            odd = draw(st.sampled_from([1, 2**14, 2**31, 2**63, 2**64 - 1, 2**70]))
            long = bytes([value[at] | 0x80, 0x80, 0x00])
            made = draw(st.sampled_from([varint(odd), long, b"\x80" * 9 + b"\x01"]))
            return count, row, value[:at] + made + value[at + 1 :]
        case _:
            return count, row, value + follower


@seed(20_261_122)
@settings(max_examples=1_000, deadline=None, database=None)
@given(mutations())
def test_a_broken_record_changes_no_neighbour(mutation: tuple[int, int, bytes]) -> None:
    count, row, bad = mutation
    records = [a_task(number) for number in range(count)]
    batch = batch_of("TaskFinished", records)
    values = list(batch.values)
    values[row] = bad
    found = by_row(decoder().decode(a_batch(values, list(batch.keys))))
    assert found.pop(row) == expected(bad, batch.keys[row])
    assert found == {i: row_of(record) for i, record in enumerate(records) if i != row}


@seed(20_261_122)
@settings(max_examples=100, deadline=None, database=None)
@given(st.lists(st.binary(max_size=60), min_size=24, max_size=40), st.booleans())
def test_noise_never_gets_through(noise: list[bytes], framed: bool) -> None:
    head = b"\xc3\x01" + schemas.fingerprint("TaskFinished") if framed else b""
    values: list[bytes | None] = [head + body for body in noise]
    found = by_row(decoder().decode(a_batch(values, [b"k"] * len(values))))
    assert found == {i: expected(value or b"", b"k") for i, value in enumerate(values)}


def test_each_kind_of_bad_record_has_its_reason() -> None:
    good = schemas.encode("TaskFinished", a_task(0))
    cases: list[tuple[bytes | None, bytes | None, Reason | None]] = [
        (None, b"agent-0", Reason.NULL_VALUE),
        (b"", b"agent-0", Reason.BAD_FRAMING),
        (b"\xc3\x01", b"agent-0", Reason.BAD_FRAMING),
        (b'{"agent_id": 1}', b"agent-0", Reason.BAD_FRAMING),
        (b"\x00\x00\x00\x00\x01" + good[10:], b"agent-0", Reason.UNKNOWN_SCHEMA),
        (b"\xc3\x01" + b"newer ml" + good[10:], b"agent-0", Reason.UNKNOWN_SCHEMA),
        (schemas.encode("SecurityEvent", a_security_event()), b"t/a", Reason.WRONG_SCHEMA),
        (good[:-1], b"agent-0", Reason.BAD_BODY),
        (good + b"\0", b"agent-0", Reason.BAD_BODY),
        (good[:10], b"agent-0", Reason.BAD_BODY),
        (good, None, Reason.KEY_MISSING),
        (good, b"\xff", Reason.KEY_MISSING),
        (good, b"", Reason.KEY_MISMATCH),
        (good, b"agent-1", Reason.KEY_MISMATCH),
        (good, b"/agent-0", Reason.KEY_MISMATCH),
        (good, b"agent-0", None),
    ]
    cases = cases + [(good, b"agent-0", None)] * 30
    decoded = decoder().decode(a_batch([c[0] for c in cases], [c[1] for c in cases]))
    reasons = {refusal.index: refusal.reason for refusal in decoded.refused}
    assert reasons == {i: case[2] for i, case in enumerate(cases) if case[2] is not None}
    details = {refusal.index: refusal.detail for refusal in decoded.refused}
    assert "registry_url" in details[4]
    assert "SecurityEvent" in details[6]


@pytest.mark.parametrize(
    ("field", "value", "fine"),
    [
        ("occurred_at", 0, True),
        ("occurred_at", -1, False),
        ("occurred_at", 4_102_444_799_999, True),
        ("occurred_at", 4_102_444_800_000, False),
        ("occurred_at", 2**63 - 1, False),
        ("duration_ms", 0.0, True),
        ("duration_ms", -0.0, True),
        ("duration_ms", 1e12, True),
        ("duration_ms", 1.0000001e12, False),
        ("duration_ms", -1e-9, False),
        ("duration_ms", math.nan, False),
        ("cost_usd", 1e9, True),
        ("cost_usd", math.inf, False),
        ("cost_usd", 1e308, False),
        ("cost_usd", math.nan, False),
        ("cost_usd", 0.000_000_5, True),
        ("input_tokens", 2**40, True),
        ("input_tokens", 2**40 + 1, False),
        ("output_tokens", -1, False),
        ("cached_tokens", 2**40, True),
        ("cached_tokens", -1, False),
        ("cached_tokens", None, True),
        ("event_id", "", False),
        ("event_id", "x" * 256, True),
        ("event_id", "x" * 257, False),
        ("event_id", "\N{GRINNING FACE}" * 256, True),
        ("event_id", "\N{GRINNING FACE}" * 257, False),
        ("agent_id", "", False),
        ("agent_id", "ä" * 256, True),
        ("agent_id", "ä" * 257, False),
        ("agent_id", "x" * 10_000, False),
        ("tenant", "", False),
        ("tenant", "x" * 256, True),
        ("tenant", "x" * 257, False),
        ("task_type", "", False),
        ("task_type", "\N{GRINNING FACE}" * 256, True),
        ("task_type", "x" * 257, False),
        ("model", "", True),
        ("model", "x" * 256, True),
        ("model", "\N{GRINNING FACE}" * 257, False),
        ("model", "x" * 20_000, False),
        ("prompt_version", "x" * 20_000, True),
        ("confidence", 0.0, True),
        ("confidence", 1.0, True),
        ("confidence", 1.0000001, False),
        ("confidence", -1e-300, False),
        ("confidence", math.nan, False),
        ("input_features", [1.0] * 256, True),
        ("input_features", [-1e308, 5e-324, -0.0], True),
        ("input_features", [1.0] * 257, False),
        ("input_features", [1.0, math.nan], False),
        ("input_features", [math.inf], False),
    ],
)
@pytest.mark.parametrize("neighbours", [0, 30])
def test_fields_are_judged_at_their_limits(
    field: str, value: Any, fine: bool, neighbours: int
) -> None:
    records = [a_task(number) for number in range(neighbours + 1)]
    records[-1][field] = value
    decoded = decoder().decode(batch_of("TaskFinished", records))
    if fine:
        assert decoded.refused == []
        assert rows_of(decoded.value) == [row_of(record) for record in records]
    else:
        assert [(r.index, r.reason) for r in decoded.refused] == [
            (neighbours, Reason.INVALID_FIELD)
        ]
        assert field in decoded.refused[0].detail
        assert decoded.rows.tolist() == list(range(neighbours))


def test_text_that_is_not_used_is_not_judged() -> None:
    for count in (2, 40):
        batch = batch_of("TaskFinished", [a_task(i, prompt_version="qqqq") for i in range(count)])
        values = [(value or b"").replace(b"qqqq", b"q\xff\xfeq") for value in batch.values]
        assert decoder().decode(a_batch(list(values), list(batch.keys))).refused == []


@pytest.mark.parametrize("count", [1, 40])
def test_an_array_that_claims_to_be_endless_does_not_hang(count: int) -> None:
    batch = batch_of("TaskFinished", [a_task(0) for _ in range(count)])
    values = list(batch.values)
    values[0] = (values[0] or b"")[:-1] + varint(2**63)
    decoded = decoder().decode(a_batch(values, list(batch.keys)))
    assert [(r.index, r.reason) for r in decoded.refused] == [(0, Reason.BAD_BODY)]


def test_text_that_is_not_utf_8_is_a_bad_body_where_it_is_read() -> None:
    for field in ("event_id", "agent_id", "task_type", "model"):
        records = [a_task(number, **{field: "qqqq"}) for number in range(30)]
        batch = batch_of("TaskFinished", records)
        values = list(batch.values)
        values[3] = (values[3] or b"").replace(b"qqqq", b"q\xff\xfeq")
        keys = [(key or b"") for key in batch.keys]
        keys[3] = keys[3].replace(b"qqqq", b"q\xff\xfeq")
        decoded = decoder().decode(a_batch(values, list(keys)))
        assert [(r.index, r.reason) for r in decoded.refused] == [(3, Reason.BAD_BODY)]


def test_names_of_refused_records_do_not_reach_the_core() -> None:
    records = [a_task(number) for number in range(30)]
    records[4] |= {"agent_id": "ghost", "task_type": "ghost", "tenant": "ghost", "cost_usd": -1.0}
    records[4] |= {"model": "ghost"}
    value = decoder().decode(batch_of("TaskFinished", records)).value
    for column in (value.agent, value.tenant, value.task_type, value.model):
        assert set(column.values) == set(column.to_list())
        assert "ghost" not in column.values


def test_ids_that_share_a_key_stay_apart() -> None:
    # "a/b/c" names three entities; all are legal, and none may take another's place.
    names = [(None, "a/b/c"), ("a", "b/c"), ("a/b", "c")]
    records = [a_task(i, tenant=names[i % 3][0], agent_id=names[i % 3][1]) for i in range(60)]
    decoded = decoder().decode(batch_of("TaskFinished", records))
    assert decoded.refused == []
    assert rows_of(decoded.value) == [row_of(record) for record in records]


@pytest.mark.parametrize("count", [2, 40])
def test_a_stray_key_is_refused_with_the_cure(count: int) -> None:
    records = [a_task(0, agent_id="agent-1") for _ in range(count)]
    tasks = TaskDecoder(partitions=12)
    here = [p for p in range(12) if not tasks.decode(batch_of("TaskFinished", records, p)).refused]
    assert len(here) == 1
    stray = tasks.decode(batch_of("TaskFinished", records, (here[0] + 1) % 12))
    assert {refusal.reason for refusal in stray.refused} == {Reason.STRAY_PARTITION}
    assert len(stray.refused) == count
    assert "partitioner=murmur2_random" in stray.refused[0].detail
    assert f"belongs in partition {here[0]}" in stray.refused[0].detail
    unchecked = TaskDecoder(partitions=12, partitioner="unchecked")
    assert all(
        not unchecked.decode(batch_of("TaskFinished", records, p)).refused for p in range(12)
    )


def older(*, without: tuple[str, ...] = (), **kinds: Any) -> schemas.Schema:
    """TaskFinished as another version of a producer could write it."""
    raw = schemas.schema("TaskFinished")
    fields = [
        {**field, "type": kinds.get(field["name"], field["type"])}
        for field in raw["fields"]
        if field["name"] not in without
    ]
    for field in fields:
        if field["name"] in kinds:
            field.pop("default", None)
    return schemas.build({**raw, "fields": fields})


NEWER_OUTCOME = {"type": "enum", "name": "TaskOutcome", "symbols": ["AUTOMATED", "DEFERRED"]}
VERSIONS = {
    "fewer fields": older(
        without=("cached_tokens", "tenant", "input_features", "model", "confidence")
    ),
    "other types": older(cost_usd="float", duration_ms="long", input_tokens="int"),
    "texts as bytes": older(model=["null", "bytes"], task_type="bytes"),
    "confidence that is always there": older(confidence="float"),
    "features as floats": older(input_features={"type": "array", "items": "float"}),
    "whole features": older(input_features={"type": "array", "items": "long"}),
    "another order of null": older(tenant=["string", "null"]),
    "a newer outcome": older(outcome=NEWER_OUTCOME),
    "fields without columns": older(prompt_version={"type": "array", "items": "string"}),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_known_versions_are_read_beside_the_current_one(version: str) -> None:
    other = VERSIONS[version]
    records = [a_task(i, duration_ms=float(i), cost_usd=0.5, tenant=None) for i in range(60)]
    batch = batch_of("TaskFinished", records)
    values = list(batch.values)
    for i in range(0, 60, 2):
        names = {field["name"] for field in other.raw["fields"]}
        written = {name: value for name, value in records[i].items() if name in names}
        if version == "other types":
            written["duration_ms"] = i
        if version == "fields without columns":
            written["prompt_version"] = ["x"]
        if version == "a newer outcome":
            written["outcome"], records[i]["outcome"] = "DEFERRED", "UNKNOWN"
        if version == "texts as bytes":
            written |= {name: written[name].encode() for name in ("model", "task_type")}
        if version == "confidence that is always there":
            written["confidence"] = records[i]["confidence"] = 0.25
        if version == "whole features":
            written["input_features"] = records[i]["input_features"] = [3] * (i % 4)
        if "cached_tokens" not in names:
            records[i] |= {"cached_tokens": None, "model": None, "confidence": None}
            records[i]["input_features"] = []
        values[i] = other.write(written)
    mixed = a_batch(values, list(batch.keys))
    decoded = decoder(find={other.frame: other}.get).decode(mixed)
    assert decoded.refused == []
    assert rows_of(decoded.value) == [row_of(record) for record in records]
    unknown = decoder().decode(mixed)
    assert [refusal.index for refusal in unknown.refused] == list(range(0, 60, 2))
    assert {refusal.reason for refusal in unknown.refused} == {Reason.UNKNOWN_SCHEMA}
    assert rows_of(unknown.value) == [row_of(record) for record in records[1::2]]


@pytest.mark.parametrize("count", [3, 60])
def test_values_framed_by_a_registry_are_read_like_others(count: int) -> None:
    records = [a_task(i) for i in range(count)]
    batch = batch_of("TaskFinished", records)
    values = [
        value if i % 3 else schemas.registry_frame(70_000) + (value or b"")[schemas.FRAME :]
        for i, value in enumerate(batch.values)
    ]
    known = {schemas.registry_frame(70_000): schemas.get("TaskFinished")}

    decoded = decoder(find=known.get).decode(a_batch(values, list(batch.keys)))

    assert decoded.refused == []
    assert rows_of(decoded.value) == [row_of(record) for record in records]


def test_an_id_that_nobody_knows_is_refused_and_worth_a_look_up() -> None:
    records = [a_task(i) for i in range(40)]
    batch = batch_of("TaskFinished", records)
    values = list(batch.values)
    values[4] = schemas.registry_frame(4) + b"x"
    values[9] = schemas.MARKER + b"\xff" * 8 + b"x"
    values[11] = b"\x00\x00"

    decoded = decoder().decode(a_batch(values, list(batch.keys)))

    assert [(r.index, r.reason) for r in decoded.refused] == [
        (4, Reason.UNKNOWN_SCHEMA),
        (9, Reason.UNKNOWN_SCHEMA),
        (11, Reason.BAD_FRAMING),
    ]
    assert decoded.unknown == {schemas.registry_frame(4), schemas.MARKER + b"\xff" * 8}


def test_a_schema_that_becomes_known_is_used_from_then_on() -> None:
    other = VERSIONS["fewer fields"]
    known: dict[bytes, schemas.Schema] = {}
    missing = dict.fromkeys(("tenant", "cached_tokens", "model", "confidence"))
    records = [a_task(i, **missing, input_features=[]) for i in range(30)]
    names = {field["name"] for field in other.raw["fields"]}
    values = [other.write({k: v for k, v in r.items() if k in names}) for r in records]
    batch = a_batch(list(values), list(batch_of("TaskFinished", records).keys))
    reading = decoder(find=known.get)

    before = reading.decode(batch)
    known[other.frame] = other
    after = reading.decode(batch)

    assert before.unknown == {other.frame}
    assert rows_of(after.value) == [row_of(record) for record in records]


@pytest.mark.parametrize("count", [1, 30])
def test_a_schema_without_a_needed_field_is_incompatible(count: int) -> None:
    lacking = older(without=("agent_id",))
    values: list[bytes | None] = [lacking.frame + b"x"] * count

    decoded = decoder(find={lacking.frame: lacking}.get).decode(a_batch(values, [b"k"] * count))

    assert {refusal.reason for refusal in decoded.refused} == {Reason.INCOMPATIBLE_SCHEMA}
    assert "agent_id" in decoded.refused[0].detail


@pytest.mark.parametrize(
    ("marked", "reason", "detail"),
    [
        ({"oversize": {107: 5_000_000}}, Reason.OVERSIZE, "5000000 bytes"),
        ({"unreadable": {107: "torn at byte 9"}}, Reason.UNREADABLE_BATCH, "torn at byte 9"),
    ],
)
def test_a_record_that_is_not_all_here_is_refused_and_no_neighbour(
    marked: dict[str, Any], reason: Reason, detail: str
) -> None:
    batch = replace(batch_of("TaskFinished", [a_task(i) for i in range(30)]), **marked)

    decoded = decoder().decode(batch)

    assert [(r.index, r.reason) for r in decoded.refused] == [(7, reason)]
    assert detail in decoded.refused[0].detail
    assert decoded.rows.tolist() == [*range(7), *range(8, 30)]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")], True),
        ([("ce_traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")], True),
        ([("traceparent", None), ("ce_id", b"7")], False),
        ([], False),
    ],
)
def test_a_security_event_takes_its_trace_id_from_the_headers(
    headers: list[tuple[str, bytes | None]], expected: bool
) -> None:
    batch = replace(batch_of("SecurityEvent", [a_security_event()]), headers=[headers])

    (event,) = SecurityDecoder(partitions=1).decode(batch).value

    assert event.trace_id == ("0af7651916cd43dd8448eb211c80319c" if expected else None)


def test_security_events_are_decoded_one_by_one() -> None:
    records = [a_security_event(event_id=f"e{i}", detail_code="X1") for i in range(4)]
    records[1]["action"] = "y" * 257
    records[2]["occurred_at"] = -5
    batch = batch_of("SecurityEvent", records)
    decoded = SecurityDecoder(partitions=1).decode(batch)
    assert decoded.rows.tolist() == [0, 3]
    assert decoded.value[0] == SecurityEvent(
        event_id="e0",
        occurred_at=AT,
        tenant="t",
        agent_id="a",
        kind="INJECTION_ATTEMPT",
        severity="LOW",
        blocked=True,
        detail_code="X1",
    )
    assert [refusal.reason for refusal in decoded.refused] == [Reason.INVALID_FIELD] * 2
    assert "action" in decoded.refused[0].detail


def test_security_events_have_the_checks_of_tasks() -> None:
    good = schemas.encode("SecurityEvent", a_security_event())
    task = schemas.encode("TaskFinished", a_task(0))
    batch = a_batch([good, None, task, good, good, good[:-1]], [b"t/a", b"", b"", None, b"a", b""])
    decoded = SecurityDecoder(partitions=1).decode(batch)
    assert [refusal.reason for refusal in decoded.refused] == [
        Reason.NULL_VALUE,
        Reason.WRONG_SCHEMA,
        Reason.KEY_MISSING,
        Reason.KEY_MISMATCH,
        Reason.BAD_BODY,
    ]


def test_our_own_records_are_decoded_whatever_their_key() -> None:
    window: Record = {
        field["name"]: field.get("default", 7) for field in schemas.schema("Window")["fields"]
    }
    window |= {"tenant": None, "agent_id": "a", "task_type": "t"}
    good = schemas.encode("Window", window)
    decoded = RecordDecoder("Window").decode(a_batch([good, b"?", good], [None, None, b"k"]))
    assert decoded.value == [window, window]
    assert decoded.rows.tolist() == [0, 2]
    assert decoded.refused == [
        Refusal(
            1,
            Reason.BAD_FRAMING,
            "the value starts with 3f, not with c301 and 8 bytes or 00 and 4 bytes",
        )
    ]


def test_a_signalling_nan_is_refused_without_a_warning() -> None:
    records = [a_task(number) for number in range(30)]
    batch = batch_of("TaskFinished", records)
    values = list(batch.values)
    wild = struct.pack("<Q", 0x7FF0000000000001)
    values[5] = (values[5] or b"").replace(struct.pack("<d", 62.5), wild)
    decoded = decoder().decode(a_batch(values, list(batch.keys)))
    assert [(r.index, r.reason) for r in decoded.refused] == [(5, Reason.INVALID_FIELD)]
