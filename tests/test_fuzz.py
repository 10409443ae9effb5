"""The fuzzing proof: its records, its reference, its judge, and a small run on the real broker."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from load import versions
from load.decoder_check import DecoderCheck
from load.fuzz import QUICK, summary
from load.fuzz_coverage import seeds, target
from load.fuzz_judge import ACCEPTED, GOOD, Judge, Said, carried_headers
from load.fuzz_run import FuzzRun
from load.fuzz_sender import pack
from load.lanes import BEGIN, Fuzzed, FuzzedBatch, Lane
from load.mutations import BODIES, DAY, HOUR, KEYS, SHARES, Mutation, text, zigzag
from load.proof import LogRecord, partition_of
from load.reference import DECODED, Gate, Reference, row_of
from load.strict_avro import StrictError, StrictReader
from streams.reasons import DeadLetterReason

if TYPE_CHECKING:
    from load.proof import LogRecord as Log
    from load.reference import Record
    from streams.local import LocalBroker

ROOT = Path(__file__).parent.parent
PARTITIONS = 4
MAKERS = (versions.current, versions.older, versions.newer)
STREAMS = tuple(DECODED)


def lane(stream: str = "tasks", values: int = 400, good: int = 200, number: int = 3) -> Lane:
    known = tuple(make(stream) for make in MAKERS)
    return Lane(number, stream, 1, PARTITIONS, values, good, known, (versions.hostile(stream),))


def records_of(one: Lane) -> list[Fuzzed]:
    return [record for batch in one.batches() for record in batch.records]


def reference(partitions: int = PARTITIONS) -> Reference:
    makers = (*MAKERS, versions.hostile)
    written = [make(stream) for stream in STREAMS for make in makers]
    return Reference(partitions, others=[(each.frame, each.raw) for each in written])


# -- what is sent ------------------------------------------------------------------------------


def test_most_fuzzed_records_have_a_valid_frame_and_a_mutated_body() -> None:
    assert sum(SHARES.values()) == 1000
    assert set(SHARES) == set(Mutation)
    assert sum(SHARES[each] for each in BODIES) >= 400


def test_every_mutation_stands_on_the_page_with_its_share() -> None:
    page = (ROOT / "docs" / "fuzzing.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", page, re.MULTILINE)

    assert rows == [(str(mutation), str(share)) for mutation, share in SHARES.items()]


def test_mutations_have_the_shares_they_claim() -> None:
    made = Counter(record.mutation for record in records_of(lane(values=6_000, good=0)))
    del made[None]

    assert made.total() == 6_000
    for mutation, share in SHARES.items():
        assert abs(made[mutation] - 6 * share) < 30 + 2 * share, mutation


@pytest.mark.parametrize("stream", STREAMS)
def test_a_lane_is_the_same_for_the_same_seed_and_another_for_another(stream: str) -> None:
    assert list(lane(stream).batches()) == list(lane(stream).batches())
    assert list(lane(stream).batches()) != list(lane(stream, number=4).batches())


@pytest.mark.parametrize("stream", STREAMS)
def test_a_lane_has_as_many_records_as_it_says_in_batches_of_many_sizes_and_all_codecs(
    stream: str,
) -> None:
    batches = list(lane(stream, 3_000, 2_000).batches())
    fuzzed = [record for batch in batches for record in batch.records if record.mutation]
    good = sum(len(batch.records) for batch in batches) - len(fuzzed)

    assert len(fuzzed) == 3_000
    assert good == 2_000 + len(batches[0].records) + 1
    sizes = {len(batch.records) for batch in batches}
    assert max(sizes) == 1_000
    assert len(sizes) > 5
    assert {batch.codec for batch in batches} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("stream", STREAMS)
def test_every_version_writes_what_a_strict_reader_reads(stream: str, make: Any) -> None:
    version = make(stream)
    one = Lane(3, stream, 1, PARTITIONS, 0, 40, (version,))

    for record in records_of(one):
        assert record.value is not None
        assert record.value.startswith(version.frame)
        found = StrictReader(record.value[10:]).record(version.raw["fields"])
        assert found["agent_id"].encode() in (record.key or b"")


@pytest.mark.parametrize("codec", range(5))
def test_a_packed_batch_holds_its_records_in_any_codec(codec: int) -> None:
    records = [record._replace(headers=()) for record in records_of(lane(values=50, good=50))]
    records[3] = records[3]._replace(headers=((b"name", b"value"), ("ключ".encode(), None)))

    packed = DefaultRecordBatch(bytes(pack(FuzzedBatch(codec, records))._build()))

    assert packed.validate_crc()
    found = [(row.key, row.value, row.timestamp, tuple(row.headers)) for row in packed]
    assert found == [
        (each.key, each.value, each.timestamp, tuple((n.decode(), v) for n, v in each.headers))
        for each in records
    ]


def test_header_names_that_are_no_text_are_packed_as_they_are() -> None:
    record = records_of(lane())[0]._replace(headers=((b"\xff\xfe", b"v"),))

    packed = bytes(pack(FuzzedBatch(0, [record]))._build())

    assert packed.endswith(b"\x02\x04\xff\xfe\x02v")


# -- the reference -----------------------------------------------------------------------------


@pytest.mark.parametrize("stream", STREAMS)
def test_the_reference_takes_every_good_record_for_what_was_written(stream: str) -> None:
    judge = reference()
    for record in records_of(lane(stream)):
        if record.mutation is None:
            verdict = judge.judge(stream, 1, record.key, record.value)
            assert verdict == (None, record.row)


@pytest.mark.parametrize("module", ["reference", "mutations", "versions", "lanes", "strict_avro"])
def test_what_judges_shares_nothing_with_what_is_judged(module: str) -> None:
    tree = ast.parse((ROOT / "load" / f"{module}.py").read_text(encoding="utf-8"))
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert not {name for name in imported if name.split(".")[0] == "streams"}


def a_task(**changes: Any) -> Record:
    agent = next(f"a-{n}" for n in range(99) if partition_of(f"a-{n}".encode(), PARTITIONS) == 1)
    names = [field["name"] for field in versions.current("tasks").raw["fields"]]
    record: Record = dict.fromkeys(names)
    record |= {"event_id": "e", "occurred_at": BEGIN, "agent_id": agent, "task_type": "t"}
    record |= {"outcome": "FAILED", "duration_ms": 1.0, "cost_usd": 0.5, "input_features": []}
    return record | {"input_tokens": 1, "output_tokens": 2} | changes


def value_of(**changes: Any) -> bytes:
    version = versions.current("tasks")
    return version.frame + b"".join(version.pieces(a_task(**changes)))


KEY = str(a_task()["agent_id"]).encode()


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (KEY, None, "NULL_VALUE"),
        (KEY, b"", "BAD_FRAMING"),
        (KEY, b"{}", "BAD_FRAMING"),
        (KEY, value_of()[:9], "BAD_FRAMING"),
        (KEY, b"\0\0\0\0\7" + value_of()[10:], "UNKNOWN_SCHEMA"),
        (KEY, b"\xc3\1" + bytes(8), "UNKNOWN_SCHEMA"),
        (KEY, versions.current("security").frame, "WRONG_SCHEMA"),
        (KEY, versions.hostile("tasks").frame, "INCOMPATIBLE_SCHEMA"),
        (KEY, value_of() + b"\0", "BAD_BODY"),
        (KEY, value_of()[:-1], "BAD_BODY"),
        (KEY, value_of(task_type=b"\xff"), "BAD_BODY"),
        (KEY, value_of(event_id=""), "INVALID_FIELD"),
        (KEY, value_of(task_type="t" * 257), "INVALID_FIELD"),
        (KEY, value_of(cost_usd=float("nan")), "INVALID_FIELD"),
        (KEY, value_of(occurred_at=-1), "INVALID_FIELD"),
        (None, value_of(), "KEY_MISSING"),
        (b"\xff", value_of(), "KEY_MISSING"),
        (b"", value_of(), "KEY_MISMATCH"),
        (KEY, value_of(tenant="t"), "KEY_MISMATCH"),
        (KEY, value_of(model="m" * (1 << 20)), "OVERSIZE"),
    ],
)
def test_the_reference_refuses_with_the_reason_of_the_contract(
    key: bytes | None, value: bytes | None, reason: str
) -> None:
    assert reference().judge("tasks", 1, key, value) == (reason, None)


def test_the_reference_refuses_a_key_in_another_partition() -> None:
    assert reference().judge("tasks", 2, KEY, value_of()) == ("STRAY_PARTITION", None)


@pytest.mark.parametrize(
    "changes",
    [{"prompt_version": b"\xff\xfe"}, {"prompt_version": "m" * 300}, {"trust_tier": b"\x80"}, {}],
)
def test_of_fields_that_nobody_uses_only_the_encoding_is_judged(changes: dict[str, Any]) -> None:
    assert reference().judge("tasks", 1, KEY, value_of(**changes)).reason is None


def task_row(at: int, task_type: str = "t") -> tuple[Any, ...]:
    return row_of("tasks", a_task(occurred_at=at, task_type=task_type))


def test_the_gate_refuses_by_the_clock_of_what_it_admitted() -> None:
    gate = Gate("tasks", 99)
    ahead, oldest = 5 * 60_000, BEGIN - 36 * DAY

    assert gate.refuses(task_row(oldest - HOUR), BEGIN) is None  # no clock yet
    assert gate.refuses(task_row(BEGIN + ahead + 1), BEGIN) == "FUTURE"
    assert gate.refuses(task_row(BEGIN + ahead), BEGIN) is None
    assert gate.refuses(task_row(oldest - 1), BEGIN) == "TOO_LATE"
    assert gate.refuses(task_row(oldest), BEGIN) is None


def test_the_gate_refuses_new_series_past_the_bound_and_counts_the_agent() -> None:
    gate = Gate("tasks", 3)

    kinds = ["a", "b", "c", "b"]
    found = [gate.refuses(task_row(BEGIN, kind), BEGIN) for kind in kinds]

    assert found == [None, None, "SERIES_LIMIT", None]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\1\0", ["null", "long"]),
        (b"\4", ["null", "long"]),
        (b"\2", "boolean"),
        (b"\x80" * 10 + b"\0", "long"),
        (b"\xff" * 9 + b"\2", "long"),
        (b"\1", "string"),
        (b"\2\xff", "string"),
        (zigzag(-1) + zigzag(7) + bytes(8) + b"\0", {"type": "array", "items": "double"}),
        (b"\0\0", "long"),
    ],
)
def test_the_strict_reader_refuses_what_the_specification_forbids(data: bytes, kind: Any) -> None:
    with pytest.raises(StrictError):
        StrictReader(data).record([{"name": "f", "type": kind}])


# -- the judge ---------------------------------------------------------------------------------


def perfect(one: Lane) -> Said:
    """Return what a worker without a fault says of the tasks of a lane."""
    said, judge, gate, offset = Said(), reference(), Gate(one.stream, 10_000), -1
    lines: list[Any] = []
    for record in records_of(one):
        offset += 1
        verdict = judge.judge(one.stream, 1, record.key, record.value)
        lines.append([offset, verdict.row or verdict.reason])
        reason = verdict.reason or gate.refuses(verdict.row or (), record.timestamp)
        if reason:
            said.letters[one.stream, offset] = letter_of(record, reason)
    said.echo[one.stream] = [json.dumps(lines).encode()]
    return said


def letter_of(record: Fuzzed, reason: str) -> Log:
    headers: list[tuple[str, bytes | None]] = [("reason", reason.encode())]
    headers += [("timestamp", str(record.timestamp).encode())]
    value = record.value
    if reason == "OVERSIZE":
        headers += [("cut", str(len(value or b"")).encode())]
        value = (value or b"")[:100]
    headers += carried_headers(record.headers)
    place = "agentops.dead-letters", 1, 0, 0
    return LogRecord(*place, record.key, value, tuple(headers))


def judged(one: Lane, said: Said) -> dict[str, int]:
    judge = Judge(reference(), 10_000, "agentops.")
    judge.partition([one], said)
    return dict(judge.findings.kinds)


SECURITY = lane("security", 300, 100)
"""A lane without windows."""


def test_a_worker_without_a_fault_is_judged_so() -> None:
    assert judged(SECURITY, perfect(SECURITY)) == {}


def test_a_lost_dead_letter_is_noticed() -> None:
    said = perfect(SECURITY)
    del said.letters[next(iter(said.letters))]

    assert judged(SECURITY, said) == {"dead letter missing": 1}


def test_a_dead_letter_of_a_good_record_is_noticed() -> None:
    said = perfect(SECURITY)
    said.letters["security", 0] = letter_of(records_of(SECURITY)[0], "BAD_BODY")

    assert judged(SECURITY, said) == {"dead letter of a good record": 1}


def test_a_dead_letter_of_a_record_that_was_never_sent_is_noticed() -> None:
    said = perfect(SECURITY)
    said.letters["security", 99_999] = letter_of(records_of(SECURITY)[0], "BAD_BODY")

    assert judged(SECURITY, said) == {"dead letter of nothing": 1}


@pytest.mark.parametrize("changes", [{"key": b"other"}, {"value": b"other"}, {"headers": ()}])
def test_a_changed_dead_letter_is_noticed(changes: dict[str, Any]) -> None:
    said = perfect(SECURITY)
    at = next(iter(said.letters))
    said.letters[at] = said.letters[at]._replace(**changes)

    assert "dead letter changed" in judged(SECURITY, said)


def test_a_second_dead_letter_is_noticed() -> None:
    judge = Judge(reference(), 10_000, "agentops.")
    place = [("topic", b"agentops.tasks"), ("offset", b"7"), ("reason", b"BAD_BODY")]
    said = Said()
    for offset in range(2):
        log = LogRecord("agentops.dead-letters", 1, offset, 0, None, b"", place)
        said.take(log, "agentops.", judge.findings)

    assert judge.findings.kinds == {"dead letter twice": 1}


def test_a_lost_a_changed_and_a_doubled_row_are_noticed() -> None:
    for change in ("lost", "changed", "doubled", "swapped"):
        said = perfect(SECURITY)
        lines = json.loads(said.echo["security"][0])
        if change == "lost":
            del lines[5]
        elif change == "changed":
            lines[5][1][4] = "OTHER" if lines[5][1][4] != "OTHER" else "ANOMALOUS_OUTPUT"
        elif change == "doubled":
            lines.insert(5, lines[5])
        else:
            lines[5], lines[6] = lines[6], lines[5]
        said.echo["security"] = [json.dumps(lines).encode()]

        assert judged(SECURITY, said).keys() == {"row"}, change


def test_windows_that_are_missing_are_noticed() -> None:
    one = lane(values=50, good=50)

    assert judged(one, perfect(one)).keys() == {"window"}


# -- the decoders ------------------------------------------------------------------------------

TASK = "c301590106aa8cdac5b302658084ece78765"
REST = "0006612d330002740600000000000000f03f000000000000e03f0204000000000000"
KEPT = {
    "a good task": ("tasks", TASK + "00" + REST + "00"),
    "an array of 2^62 items": ("tasks", TASK + "00" + REST + "80808080808080808001"),
    "branch -2 of two": ("tasks", TASK + "03" + REST + "00"),
    "a null branch of twelve bytes": ("tasks", TASK + "80" * 11 + "00" + REST + "00"),
    "a task that another follows": ("tasks", (TASK + "00" + REST + "00") * 2),
    "a registry's id": ("tasks", "0000000001" + TASK[20:] + "00" + REST + "00"),
}
"""Values that are, or could be, read wrongly; guided fuzzing prints what to add."""


@pytest.fixture(scope="module")
def check() -> DecoderCheck:
    return DecoderCheck()


@pytest.mark.parametrize("name", KEPT)
def test_values_that_were_kept_are_read_as_the_reference_reads_them(
    check: DecoderCheck, name: str
) -> None:
    stream, value = KEPT[name]
    check.check(stream, bytes.fromhex(value))


@pytest.mark.parametrize("stream", STREAMS)
def test_no_mutated_value_is_read_wrongly_or_changes_a_neighbour(
    check: DecoderCheck, stream: str
) -> None:
    one = lane(stream, values=200, good=0, number=11)
    values = [r.value for r in records_of(one) if r.mutation not in {Mutation.OVERSIZE, *KEYS}]
    outcomes = Counter(check.check(stream, value).verdict.reason for value in values)

    assert outcomes["BAD_BODY"] > 40
    assert outcomes[None] > 10


@seed(20_261_123)
@settings(max_examples=60, deadline=None, database=None)
@given(st.sampled_from(STREAMS), st.integers(0, 2), st.binary(max_size=80))
def test_no_body_is_read_wrongly(
    check: DecoderCheck, stream: str, number: int, body: bytes
) -> None:
    check.check(stream, check.frames(stream)[number] + body)


def test_guided_fuzzing_starts_from_values_of_both_topics(
    check: DecoderCheck, tmp_path: Path
) -> None:
    outcomes: Counter[str] = Counter()
    seeds(tmp_path)
    run = target(check, lambda outcome, _: outcomes.update([outcome]))
    files = sorted(tmp_path.iterdir())
    for path in Random(1).sample(files, 60):
        run(path.read_bytes())

    assert {path.name.partition("-")[0] for path in files} == set(STREAMS)
    assert outcomes.keys() >= {"ACCEPTED", "BAD_BODY"}


def test_where_the_reference_is_lenient_is_told(check: DecoderCheck) -> None:
    good = value_of()
    tenant = 10 + len(text("e")) + len(zigzag(BEGIN))
    odd = good[:tenant] + b"\3" + good[tenant + 1 :]

    assert check.check("tasks", good).lenient is None
    assert check.check("tasks", odd).lenient == "branch out of range"


# -- the proof itself --------------------------------------------------------------------------


@pytest.mark.broker
@pytest.mark.slow
async def test_a_small_proof_on_the_real_broker_is_green(
    broker: LocalBroker, prefix: str, tmp_path: Path
) -> None:
    report = await FuzzRun(broker.bootstrap, 1, QUICK, tmp_path, prefix=prefix).run()

    found = summary(report)
    assert found["problems"] == {}
    assert found["good accepted"] == found["good"] > 10_000
    assert found["fuzzed"] == 20_000
    assert found["fuzzed with a valid frame and a mutated body"] > 8_000
    # What makes a whole Kafka batch unreadable is no matter of values.
    assert set(found["refused"]) == set(DeadLetterReason) - {DeadLetterReason.UNREADABLE_BATCH}
    assert set(found["mutations"]) == set(map(str, Mutation))
    assert report.findings.verdicts[GOOD, ACCEPTED] == found["good"]
