"""What `validate` says about records: the worker's verdict, all that is wrong, and no content."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import fastavro
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from streams import schemas
from streams.batch import FetchedBatch
from streams.cli import app
from streams.codec import decoders
from streams.durations import DAY, HOUR, MINUTE
from streams.explain import explain
from streams.reasons import DeadLetterReason
from streams.samples import Format, Sample, SampleError, detect, samples
from streams.settings import Settings
from streams.validate import CURES, RECORDS, Given, Unfit, Validator, Verdict

if TYPE_CHECKING:
    from io import BufferedReader

NOW = 1_767_225_600_000
SECRET = "Dear customer, your account"  # noqa: S105 - stands for what must not be printed
PAGE = Path(__file__).parent.parent / "docs" / "validate.md"


def task(**changes: Any) -> dict[str, Any]:
    record = {
        "event_id": "e",
        "occurred_at": NOW,
        "tenant": "acme",
        "agent_id": "claims",
        "task_type": "claim",
        "outcome": "AUTOMATED",
        "duration_ms": 812.5,
        "cost_usd": 0.01,
        "input_tokens": 12,
        "output_tokens": 3,
    }
    return {name: value for name, value in (record | changes).items() if value is not ...}


def threat(**changes: Any) -> dict[str, Any]:
    record = {"event_id": "e", "occurred_at": NOW, "tenant": None, "agent_id": "claims"}
    return record | {"kind": "OTHER", "severity": "HIGH", "blocked": False} | changes


AGENT = {"event_id": "e", "occurred_at": NOW, "tenant": None, "agent_id": "claims"}
CALL = AGENT | {"integration": "crm", "operation": "read", "outcome": "OK", "duration_ms": 25.0}
REVIEW = AGENT | {
    "task_type": "claim",
    "task_event_id": "e-1",
    "task_occurred_at": NOW - 5,
    "verdict": "OVERRIDDEN",
    "agent_decision": "PAY",
    "human_decision": "REFUSE",
    "reason_code": "POLICY",
}
CHANGE = AGENT | {"kind": "PROMPT", "from_version": "v17", "to_version": "v18"}
QUEUE = AGENT | {"depth": 12, "oldest_age_ms": 90_000}
PROFILE = AGENT | {"owner": "claims", "time_zone": "Europe/Vienna", "depends_on": ["crm"]}
CONTROL = {
    "event_id": "e",
    "occurred_at": NOW,
    "control_id": "c-1",
    "kind": "SILENCE",
    "match_entity_id": "claims",
    "until_at": NOW + HOUR,
    "by": "operator",
    "why": "known",
}
GOOD = {
    "tasks": task(),
    "calls": CALL,
    "security": threat(),
    "reviews": REVIEW,
    "changes": CHANGE,
    "queues": QUEUE,
    "profiles": PROFILE,
    "controls": CONTROL,
}


def validator(now: int = NOW, **given: Any) -> Validator:
    return Validator(Settings(), Given(**given), lambda: now)


def judged(record: dict[str, Any], now: int = NOW, **given: Any) -> Verdict:
    return validator(now, **given).judge(Sample("here", record=record))


def of_bytes(value: bytes | None, **given: Any) -> Verdict:
    return validator(**given).judge(Sample("here", value))


def read(data: bytes, form: Format | None = None) -> list[Sample]:
    source: Any = io.BufferedReader(io.BytesIO(data))
    return list(samples(source, form or detect(source)))


def schema_with(name: str, *more: dict[str, Any], without: str = "") -> schemas.Schema:
    raw = schemas.schema(name)
    fields = [field for field in raw["fields"] if field["name"] != without]
    return schemas.build({**raw, "fields": [*more, *fields]})


REGION = {"name": "region", "type": ["null", "string"], "default": None}


# -- the verdict -------------------------------------------------------------------------------


def test_a_good_record_shows_what_a_worker_reads_its_key_partition_schema_and_size() -> None:
    verdict = judged(task())

    assert (verdict.word, verdict.problems, verdict.warnings) == ("ok", [], [])
    assert verdict.read == {
        "occurred_at": NOW,
        "tenant": "acme",
        "agent_id": "claims",
        "task_type": "claim",
        "outcome": "AUTOMATED",
        "cost_micro_usd": 10_000,
        "duration_us": 812_500,
        "input_tokens": 12,
        "output_tokens": 3,
        "cached_tokens": 0,
        "model": None,
        "confidence": None,
        "features": 0,
    }
    assert (verdict.key, verdict.partition) == ("acme/claims", 5)
    assert verdict.schema == schemas.fingerprint("TaskFinished").hex()
    assert verdict.size == len(schemas.encode("TaskFinished", task()))


@pytest.mark.parametrize("topic", RECORDS)
def test_every_verdict_on_bytes_is_the_decoders(topic: str) -> None:
    random = Random(7)
    good = schemas.encode(RECORDS[topic], GOOD[topic])
    decoder = decoders(Settings())[topic]
    judge = validator(topic=topic)
    key = {"tasks": b"acme/claims", "controls": b"c-1"}.get(topic, b"claims")
    seen = set()
    for _ in range(700):
        value = bytearray(good)
        for _ in range(random.randint(1, 3)):
            value[random.randrange(len(value))] = random.randrange(256)
        cut = bytes(value[: random.choice([len(value), random.randrange(len(value))])])
        partition = random.choice([judge.judge(Sample("", good, key=key)).partition, 0])

        verdict = judge.judge(Sample("", cut, key=key, has_key=True, partition=partition))

        refused = decoder.decode(batch(cut, key, partition or 0)).refused
        assert verdict.reason == (refused[0].reason if refused else None)
        assert not refused or refused[0].detail in verdict.problems
        seen.add(verdict.reason)
    assert {None, DeadLetterReason.BAD_BODY, DeadLetterReason.UNKNOWN_SCHEMA} <= seen
    assert DeadLetterReason.KEY_MISMATCH in seen
    assert (DeadLetterReason.STRAY_PARTITION in seen) == (topic != "controls")


def batch(value: bytes, key: bytes, partition: int) -> FetchedBatch:
    none = np.zeros(1, np.int64)
    return FetchedBatch("t", partition, 0, 0, 1, none, none, [key], [value], [()])


def test_every_reason_has_a_cure() -> None:
    assert CURES.keys() == {*DeadLetterReason, *Unfit}


def test_a_null_value_a_bare_body_and_a_value_of_another_topic_are_refused() -> None:
    value = schemas.encode("SecurityEvent", threat())

    assert of_bytes(None).reason is DeadLetterReason.NULL_VALUE
    assert of_bytes(value[10:]).reason is DeadLetterReason.BAD_FRAMING
    assert of_bytes(value, topic="tasks").reason is DeadLetterReason.WRONG_SCHEMA
    assert of_bytes(value).word == "ok"


def test_the_key_is_the_callers_else_the_inputs_else_not_judged() -> None:
    sample = Sample("", record=task(), key=b"claims", has_key=True)

    assert validator().judge(sample).reason is DeadLetterReason.KEY_MISMATCH
    assert validator(key=b"acme/claims").judge(sample).word == "ok"
    missing = Sample("", record=task(), has_key=True)
    assert validator().judge(missing).reason is DeadLetterReason.KEY_MISSING


def test_a_value_larger_than_workers_take_is_oversize() -> None:
    verdict = judged(task(model=SECRET * 50_000))

    assert verdict.reason is DeadLetterReason.OVERSIZE
    assert validator().judge(Sample("", b"\xc3\x01", size=1 << 30)).word == "REFUSED"


# -- schemas that are not built in -------------------------------------------------------------


def test_a_value_of_another_schema_needs_that_schema() -> None:
    newer = schema_with("TaskFinished", REGION)
    value = newer.write(task(region="eu"))
    by_id = newer.write(task(region="eu"), schemas.registry_frame(7))

    for each in (value, by_id):
        assert of_bytes(each).reason is DeadLetterReason.UNKNOWN_SCHEMA
        assert of_bytes(each, schema=newer).word == "ok"
    assert of_bytes(by_id, schema=newer).schema == "id 7"
    other = schema_with("TaskFinished", {**REGION, "name": "other"})
    assert of_bytes(value, schema=other).reason is DeadLetterReason.UNKNOWN_SCHEMA


def test_a_schema_without_a_needed_field_is_incompatible() -> None:
    lacking = schema_with("TaskFinished", without="cost_usd")
    record = task(cost_usd=...)

    assert judged(record, schema=lacking).reason is DeadLetterReason.INCOMPATIBLE_SCHEMA


def test_records_of_a_schema_that_is_not_built_in_are_counted() -> None:
    newer = schema_with("TaskFinished", REGION)
    judge = validator(schema=newer)
    judge.judge(Sample("", record=task(region="eu")))

    assert judge.foreign == {newer.fingerprint.hex(): 1}


# -- all that is wrong with fields by name -----------------------------------------------------


def test_everything_that_is_wrong_is_said_at_once() -> None:
    changes = {"duration_ms": ..., "durationMs": 3, "occurred_at": "2026", "input_tokens": 1.5}
    verdict = judged(task(**changes, outcome="SUCCESS", cost_usd=-1, tenant=7))

    assert verdict.reason is Unfit.NOT_ENCODABLE
    assert verdict.problems == [
        "occurred_at is a text, expected a whole number: ms since 1970 UTC, as a number",
        "tenant is 7, expected a text or null",
        "duration_ms is missing, expected a number; durationMs may be meant for it",
        "input_tokens is 1.5, expected a whole number",
        "cost_usd is -1.0, allowed is 0 to 1000000000",
    ]
    assert [warning.split(",")[0] for warning in verdict.warnings] == [
        "outcome is SUCCESS",
        "durationMs is no field of TaskFinished and is not sent; did you mean duration_ms?",
    ]


def test_all_limits_and_the_key_are_said_at_once() -> None:
    changes = {"event_id": "", "cost_usd": -1, "duration_ms": float("nan"), "input_tokens": -1}
    judge = validator(key=b"x")
    verdict = judge.judge(Sample("", record=task(**changes)))

    assert verdict.reason is DeadLetterReason.INVALID_FIELD
    assert [problem.split(" ")[0] for problem in verdict.problems] == [
        "event_id",
        "duration_ms",
        "cost_usd",
        "input_tokens",
        "the",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": SECRET},
        {SECRET: 1},
        {"cost_usd": SECRET},
        {"outcome": SECRET},
        {"input_features": [SECRET]},
        {"input_features": SECRET},
        {"model": SECRET * 20},
        {"error_type": SECRET},
        {"tenant": {"text": SECRET}},
        {"event_id": SECRET * 20},
    ],
)
def test_no_text_of_a_record_is_ever_repeated(changes: dict[str, Any]) -> None:
    verdict = judged(task(**changes))

    assert SECRET not in json.dumps(verdict.as_dict())


def test_avros_own_json_of_unions_is_understood() -> None:
    assert judged(task(tenant={"string": "acme"}, cached_tokens={"long": 5})).key == "acme/claims"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("blocked", "no", "blocked is a text, expected true or false"),
        ("blocked", 1, "blocked is 1, expected true or false"),
        ("occurred_at", True, "occurred_at is true, expected a whole number"),
        ("occurred_at", 1 << 70, "occurred_at is a number of more than 64 bits"),
        ("agent_id", None, "agent_id is null, expected a text"),
        ("agent_id", "\ud800", "agent_id is a text with half of a surrogate pair"),
        ("kind", 3, "kind is 3, expected one of OTHER, INJECTION_ATTEMPT"),
        ("action", [], "action is a list, expected a text or null"),
    ],
)
def test_a_wrong_type_is_said_with_the_right_one(field: str, value: object, words: str) -> None:
    (problem,) = judged(threat(**{field: value})).problems

    assert problem.startswith(words)


def test_types_of_a_newer_schema_are_judged_too() -> None:
    inner = {"type": "record", "name": "Inner", "fields": [{"name": "n", "type": "int"}]}
    fields = {
        "tags": {"type": "map", "values": "string"},
        "inner": inner,
        "raw": "bytes",
        "grade": {"type": "enum", "name": "Grade", "symbols": ["A", "B"]},
    }
    schema = schema_with("TaskFinished", *({"name": n, "type": t} for n, t in fields.items()))
    good = {"tags": {"a": "b"}, "inner": {"n": 1}, "raw": "\u00ff", "grade": "A"}
    bad = {"tags": {"a": 1}, "inner": {}, "raw": "\u0100", "grade": "C"}

    assert explain(schema, task(**good)).problems == []
    assert explain(schema, task(**good)).record["raw"] == b"\xff"
    assert [line.split(" ")[0] for line in explain(schema, task(**bad)).problems] == list(fields)


def test_limits_that_no_worker_judges_are_warnings() -> None:
    verdict = judged(task(prompt_version="v" * 300, trust_tier="t" * 300))

    assert verdict.word == "warning"
    assert [warning.split(" ")[0] for warning in verdict.warnings] == [
        "prompt_version",
        "trust_tier",
    ]


def test_limits_of_confidence_model_and_features_are_judged() -> None:
    verdict = judged(task(confidence=7.0, model="m" * 300, input_features=[0.0] * 300))

    assert verdict.reason is DeadLetterReason.INVALID_FIELD
    names = [problem.split(" ")[0] for problem in verdict.problems]
    assert names == ["confidence", "model", "input_features"]


# -- every topic -------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", RECORDS)
def test_the_topic_of_a_record_is_known_by_its_fields_and_its_schema(topic: str) -> None:
    for verdict in (
        judged(GOOD[topic]),
        of_bytes(schemas.encode(RECORDS[topic], GOOD[topic])),
        judged(GOOD[topic], topic=f"agentops.{topic}"),
    ):
        assert (verdict.word, verdict.topic, verdict.warnings) == ("ok", topic, [])


def test_the_key_of_a_control_is_its_id_and_its_partition_the_only_one() -> None:
    verdict = judged(CONTROL)

    assert (verdict.key, verdict.partition) == ("c-1", 0)
    assert judged(CONTROL, key=b"claims").reason is DeadLetterReason.KEY_MISMATCH


def test_a_null_value_deletes_a_profile_and_nothing_else() -> None:
    gone = Sample("here", None, key=b"acme/claims", has_key=True)

    deleted = validator(topic="profiles").judge(gone)

    assert (deleted.word, deleted.read) == ("ok", {"occurred_at": NOW, "key": "acme/claims"})
    assert validator(topic="queues").judge(gone).reason is DeadLetterReason.NULL_VALUE


@pytest.mark.parametrize(
    ("topic", "changes", "problems"),
    [
        ("calls", {"attempts": 0, "status_code": -1}, ["attempts", "status_code"]),
        ("reviews", {"reason": "x" * 257, "agent_confidence": 2.0}, ["reason", "agent_confidence"]),
        ("changes", {"integration": ""}, ["integration"]),
        ("queues", {"depth": -1}, ["depth"]),
        ("profiles", {"owner": "", "feature_names": [""]}, ["owner", "feature_names"]),
        ("controls", {"by": "", "until_at": None}, ["by"]),
        ("controls", {"until_at": None}, ["until_at"]),
        ("controls", {"kind": "RULES"}, ["rules"]),
        ("controls", {"kind": "MUTE"}, ["kind"]),
    ],
)
def test_what_is_wrong_is_said_of_every_topic(
    topic: str, changes: dict[str, Any], problems: list[str]
) -> None:
    verdict = judged(GOOD[topic] | changes)

    assert verdict.reason is DeadLetterReason.INVALID_FIELD
    assert sorted(problem.split(" ")[0] for problem in verdict.problems) == sorted(problems)


@pytest.mark.parametrize(
    ("topic", "changes", "words"),
    [
        ("tasks", {"duration_ms": 0.8}, "duration_ms is 0.8; it looks like seconds"),
        ("calls", {"duration_ms": 0.25}, "duration_ms is 0.25; it looks like seconds"),
        ("calls", {"occurred_at": NOW // 1000}, "it looks like seconds, ms are expected"),
        ("calls", {"status_code": 503}, "outcome is OK"),
        ("calls", {"outcome": "TIMEOUT"}, "its error type is TIMEOUT"),
        ("reviews", {"human_decision": "PAY"}, "verdict is OVERRIDDEN"),
        ("reviews", {"verdict": "CONFIRMED"}, "the decisions are not equal"),
        ("reviews", {"task_occurred_at": None}, "cannot be found"),
        ("reviews", {"task_occurred_at": NOW + 1}, "after occurred_at"),
        ("reviews", {"task_occurred_at": NOW // 1000}, "looks like seconds"),
        ("reviews", {"reason": SECRET}, "keep_review_reasons"),
        ("changes", {"to_version": "v17"}, "are equal"),
        ("queues", {"depth": 0}, "nothing waits"),
        ("profiles", {"time_zone": "Europe/Wien"}, "no zone known here"),
        ("profiles", {"depends_on": ["crm", "crm"]}, "holds a name twice"),
        ("profiles", {"last_trained_at": NOW // 1000}, "last_trained_at"),
        ("profiles", {"sunset_at": NOW}, "lifecycle is ACTIVE"),
        ("controls", {"match_entity_id": None}, "SILENCE matches every alert"),
        ("controls", {"match_entity_kind": "agent"}, "match_entity_kind matches nothing"),
    ],
)
def test_what_is_probably_not_meant_is_a_warning(
    topic: str, changes: dict[str, Any], words: str
) -> None:
    verdict = judged(GOOD[topic] | changes)

    assert verdict.word == "warning"
    assert words in " ".join(verdict.warnings)


def test_a_silence_until_a_time_in_seconds_is_refused_and_the_cure_says_so() -> None:
    verdict = judged(CONTROL | {"until_at": NOW // 1000})

    assert verdict.reason is DeadLetterReason.INVALID_FIELD
    assert "until_at is ms since 1970 UTC" in (verdict.cure or "")


@pytest.mark.parametrize("changes", [{"reason": SECRET}, {"reason": SECRET * 20}])
def test_no_word_of_a_review_is_ever_repeated(changes: dict[str, Any]) -> None:
    value = schemas.encode("HumanReview", REVIEW | changes)

    for verdict in (judged(REVIEW | changes), of_bytes(value), of_bytes(value[:-3])):
        assert SECRET not in json.dumps(verdict.as_dict())


@pytest.mark.parametrize(
    ("topic", "line"),
    [
        ("calls", "claims crm read OK 25 ms, attempts 1; key claims, partition 5 of 12"),
        ("reviews", "claims claim OVERRIDDEN; key"),
        ("changes", "claims PROMPT v17 to v18 planned; key"),
        ("queues", "claims 12 waiting, oldest 90000 ms; key"),
        ("profiles", "claims ACTIVE of claims, Europe/Vienna; key"),
        ("controls", "c-1 SILENCE until 2026-01-01 01:00:00Z; key c-1, partition 0 of 1;"),
    ],
)
def test_a_line_says_what_a_worker_reads(topic: str, line: str) -> None:
    done = call("-", given=json.dumps(GOOD[topic]).encode())

    assert line in done.stdout


# -- times -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (NOW + 5 * MINUTE, ""),
        (NOW + 5 * MINUTE + 1, "FUTURE if produced now"),
        (NOW - 36 * DAY, ""),
        (NOW - 36 * DAY - 1, "TOO_LATE beside newer events if produced now"),
        (NOW // 1000, "it looks like seconds, ms are expected"),
    ],
)
def test_times_that_would_be_refused_now_are_warnings(at: int, words: str) -> None:
    verdict = judged(threat(occurred_at=at))

    assert verdict.reason is None
    assert words in "".join(verdict.warnings)
    assert bool(words) == bool(verdict.warnings)


def test_a_recorded_time_is_judged_by_its_kafka_timestamp() -> None:
    old = Sample("", record=threat(), timestamp=NOW + 1)

    assert validator(NOW + 400 * DAY).judge(old).word == "ok"
    assert validator().judge(Sample("", record=threat(), timestamp=NOW - HOUR)).word == "warning"


def test_a_time_in_microseconds_is_refused_and_the_cure_says_so() -> None:
    verdict = judged(threat(occurred_at=NOW * 1000))

    assert verdict.reason is DeadLetterReason.INVALID_FIELD
    assert "occurred_at is ms since 1970 UTC, not s, us or ns" in (verdict.cure or "")


# -- formats -----------------------------------------------------------------------------------


def test_bytes_of_either_frame_are_one_value() -> None:
    value = schemas.encode("SecurityEvent", threat())

    assert [one.value for one in read(value)] == [value]
    assert [one.value for one in read(b"\x00\x00\x00\x00\x01abc")] == [b"\x00\x00\x00\x00\x01abc"]


def test_hex_may_be_spaced_wrapped_and_repeated() -> None:
    value = schemas.encode("SecurityEvent", threat())
    lines = re.sub("(.{30})", r"\1\n", value.hex(" "))
    text = f"{value.hex()}\n0x{value.hex().upper()}\n{lines}\n\n{value.hex()}"

    assert [one.value for one in read(text.encode())] == [value] * 4
    ids = read(b"00 00000001 02\n00 00000001 03\n\nc301")
    assert [one.value for one in ids] == [b"\0\0\0\0\1\2", b"\0\0\0\0\1\3", b"\xc3\1"]


def test_hex_that_is_none_is_not_readable_and_the_next_line_is() -> None:
    found = read(b"c301\nc301x\nc3013\nc301")

    assert [one.unreadable for one in found] == [
        None,
        "5 hex digits: character 5 is no hex digit",
        "5 hex digits: an odd number of them",
        None,
    ]


def test_json_is_bare_or_as_tail_prints_it_or_with_topic_key_and_record() -> None:
    bare = task()
    as_tail = {"topic": "agentops.tasks", "partition": 3, "offset": 9, "timestamp": 5, "key": "k"}
    lines = [bare, as_tail | bare, {"topic": "tasks", "key": None, "record": bare}]
    found = read("\n".join(map(json.dumps, lines)).encode())

    assert [one.record for one in found] == [bare] * 3
    assert [one.topic for one in found] == [None, "agentops.tasks", "tasks"]
    assert [(one.has_key, one.key) for one in found] == [(False, None), (True, b"k"), (True, None)]
    assert (found[1].partition, found[1].timestamp) == (3, 5)
    assert [one.where for one in found] == ["line 1", "line 2", "line 3"]


def test_json_may_be_indented_and_a_broken_object_does_not_stop_the_rest() -> None:
    text = json.dumps(task(), indent=2) + '\n{"event_id": \n{"a": 1} x\n\n' + json.dumps(threat())
    found = read(text.encode())

    assert [one.where for one in found] == ["line 1", "line 13", "line 14", "line 16"]
    assert [one.unreadable is None for one in found] == [True, False, False, True]


def test_deep_json_and_what_tail_could_not_decode_are_not_readable() -> None:
    undecoded = {"topic": "agentops.tasks", "undecoded": "why", "size": 3}
    found = read(b'{"a":' * 100_000 + b"\n" + json.dumps(undecoded).encode())

    assert all(one.unreadable for one in found)
    assert len(found) == 2


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_a_container_gives_the_values_that_its_writer_wrote(codec: str) -> None:
    newer = schema_with("SecurityEvent", REGION)
    records = [threat(event_id=f"e{n}", region="eu") for n in range(500)]
    file = io.BytesIO()
    fastavro.writer(file, newer.raw, records, codec=codec, sync_interval=1000)

    found = read(file.getvalue())

    assert [one.value for one in found] == [newer.write(record) for record in records]
    assert validator().judge(found[-1]).word == "ok"


def test_a_damaged_container_gives_what_stood_before_the_damage_then_says_so() -> None:
    file = io.BytesIO()
    fastavro.writer(file, schemas.schema("SecurityEvent"), [threat()] * 500, sync_interval=1000)
    source: Any = io.BufferedReader(io.BytesIO(file.getvalue()[:-100]))
    found = samples(source, Format.AVRO)

    assert next(found).value == schemas.encode("SecurityEvent", threat())
    with pytest.raises(SampleError, match="after record 4"):
        list(found)


@pytest.mark.parametrize(
    ("data", "words"), [(b"hello", "starts with 68 65 6c 6c"), (b"[{}]", "one object a line")]
)
def test_an_input_of_no_format_is_refused(data: bytes, words: str) -> None:
    source: BufferedReader = io.BufferedReader(io.BytesIO(data))

    with pytest.raises(SampleError, match=words):
        detect(source)


# -- the command -------------------------------------------------------------------------------


def call(*arguments: str, given: bytes = b"") -> Result:
    return CliRunner().invoke(app, ["validate", *arguments], input=given)


def test_the_exit_code_says_whether_all_would_be_taken() -> None:
    late = json.dumps(task()).encode()
    warned, refused = b"\n" + late, late + b"\nnothing"

    assert call("-", given=warned).exit_code == 0
    assert call("-", "--strict", given=warned).exit_code == 1
    assert call("-", given=refused).exit_code == 1
    for arguments in (("-",), ("/nowhere",), ("-", "--topic", "x"), ("-", "--schema", "/nowhere")):
        done = call(*arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1


def test_json_is_one_object_a_record_and_the_summary() -> None:
    lines = [task(), task(cost_usd=-1), threat()]
    done = call("-", "--json", "--quiet", given="\n".join(map(json.dumps, lines)).encode())

    *records, last = map(json.loads, done.stdout.splitlines())
    assert [each["where"] for each in records if each["verdict"] == "REFUSED"] == ["line 2"]
    assert last["summary"]["reasons"] == {"INVALID_FIELD": 1}
    assert last["summary"]["records"] == 3


def test_what_steers_a_terminal_is_not_printed() -> None:
    done = call("-", given=json.dumps(task(agent_id="a\x1b[31m")).encode())

    assert "a?[31m" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_page_shows_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = 0
    for kind, text in re.findall(
        r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
    ):
        if kind == "json":
            Path("record.json").write_text(text)
            continue
        command, _, output = text.partition("\n")
        if output:
            shown += 1
            assert call(*shlex.split(command)[3:]).stdout == output
    assert shown == 3


def test_the_page_names_every_format_and_every_reason_of_its_own() -> None:
    text = PAGE.read_text()

    for word in [*Format, *Unfit]:
        assert f"| `{word}` |" in text
