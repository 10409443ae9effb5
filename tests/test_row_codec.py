"""Reviews, changes, depths, profiles and controls decode one by one, or say why not."""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass, replace
from typing import Any

import numpy as np
import pytest

from streams import events, schemas
from streams.batch import FetchedBatch, Refusal
from streams.codec import (
    ChangeDecoder,
    ControlDecoder,
    Decoder,
    ProfileDecoder,
    QueueDecoder,
    ReviewDecoder,
    decoders,
)
from streams.events import AgentProfile, Deleted
from streams.keys import key_of
from streams.reasons import DeadLetterReason as Reason
from streams.settings import Settings

AT = 1_760_000_000_000
WORDS = "Mrs Miller disputes invoice seventeen"
Record = dict[str, Any]
IDS: Record = {"event_id": "e", "occurred_at": AT, "tenant": "t", "agent_id": "a", "trace_id": None}
RECORDS: dict[str, Record] = {
    "HumanReview": IDS
    | {
        "task_type": "claim",
        "task_event_id": "e-1",
        "task_occurred_at": AT - 5,
        "task_outcome": "AUTOMATED",
        "verdict": "OVERRIDDEN",
        "agent_decision": "PAY",
        "human_decision": "REFUSE",
        "reason_code": "POLICY",
        "reason": None,
        "agent_confidence": 0.75,
        "model": "m",
        "prompt_version": "v7",
        "input_ref": "case/7",
    },
    "Change": IDS
    | {
        "integration": None,
        "kind": "PROMPT",
        "from_version": "v17",
        "to_version": "v18",
        "planned": False,
    },
    "QueueDepth": IDS | {"depth": 12, "oldest_age_ms": 90_000},
    "AgentProfile": IDS
    | {
        "owner": "claims",
        "trust_tier": "T2",
        "daily_cost_plan_usd": 12.5,
        "retraining_interval_days": 90,
        "last_trained_at": AT - 7,
        "lifecycle": "DEPRECATED",
        "sunset_at": AT + 7,
        "time_zone": "Europe/Vienna",
        "feature_names": ["amount", "pages"],
        "depends_on": ["crm"],
    },
    "Control": {
        "event_id": "e",
        "occurred_at": AT,
        "control_id": "c-1",
        "kind": "SILENCE",
        "match_alert_id": None,
        "match_rule": "automation",
        "match_entity_kind": "AGENT",
        "match_tenant": None,
        "match_entity_id": "a",
        "from_at": AT,
        "until_at": AT + 1,
        "by": "operator",
        "why": "known",
        "rules": None,
    },
}
DECODERS: dict[str, Decoder] = {
    "HumanReview": ReviewDecoder(partitions=1, keep_reasons=True),
    "Change": ChangeDecoder(partitions=1),
    "QueueDepth": QueueDecoder(partitions=1),
    "AgentProfile": ProfileDecoder(partitions=1),
    "Control": ControlDecoder(),
}


def batch(*rows: tuple[bytes | None, bytes | None], partition: int = 0) -> FetchedBatch:
    count = len(rows)
    keys, values = [key for key, _ in rows], [value for _, value in rows]
    offsets, stamps = np.arange(count), np.full(count, AT)
    return FetchedBatch("t", partition, 0, 0, count, offsets, stamps, keys, values, [()] * count)


def record_of(name: str, **changes: Any) -> tuple[bytes, bytes]:
    """Return key and value."""
    record = RECORDS[name] | changes
    key = record["control_id"].encode() if name == "Control" else b""
    key = key or key_of(record["tenant"], record["agent_id"])
    return key, schemas.encode(name, record)


def decoded(name: str, **changes: Any) -> Any:
    (event,) = DECODERS[name].decode(batch(record_of(name, **changes))).value
    return event


def refused(name: str, **changes: Any) -> Refusal:
    (refusal,) = DECODERS[name].decode(batch(record_of(name, **changes))).refused
    return refusal


@pytest.mark.parametrize("name", RECORDS)
def test_an_event_comes_out_as_it_went_in(name: str) -> None:
    event = decoded(name)

    found = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(event).items()}
    assert found == RECORDS[name]
    assert type(event) is getattr(events, name)


@pytest.mark.parametrize("name", RECORDS)
def test_an_event_has_the_fields_of_its_schema_in_their_order(name: str) -> None:
    kind = getattr(events, name)

    assert is_dataclass(kind)
    assert [f.name for f in fields(kind)] == [f["name"] for f in schemas.schema(name)["fields"]]


@pytest.mark.parametrize("name", RECORDS)
def test_a_field_that_may_be_left_out_has_the_same_default_in_the_class(name: str) -> None:
    needed = {f["name"] for f in schemas.schema(name)["fields"] if "default" not in f}
    given = {field: value for field, value in RECORDS[name].items() if field in needed}

    short = getattr(events, name)(**given)

    defaults = {f["name"]: f["default"] for f in schemas.schema(name)["fields"] if "default" in f}
    found = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(short).items()}
    assert {field: found[field] for field in defaults} == defaults


@pytest.mark.parametrize("name", [name for name in RECORDS if name != "AgentProfile"])
def test_a_broken_record_costs_its_neighbours_nothing(name: str) -> None:
    key, value = record_of(name)
    done = DECODERS[name].decode(
        batch(
            (key, value), (key, None), (key, value[:-1]), (None, value), (b"x", value), (key, value)
        )
    )

    assert done.rows.tolist() == [0, 5]
    reasons = [refusal.reason for refusal in done.refused]
    assert reasons == [Reason.NULL_VALUE, Reason.BAD_BODY, Reason.KEY_MISSING, Reason.KEY_MISMATCH]


@pytest.mark.parametrize(
    ("name", "field", "good", "bad"),
    [
        ("HumanReview", "reason_code", "x" * 256, ""),
        ("HumanReview", "task_event_id", "x", ""),
        ("HumanReview", "agent_decision", "x", "x" * 257),
        ("HumanReview", "human_decision", "x", ""),
        ("HumanReview", "task_occurred_at", None, -1),
        ("HumanReview", "agent_confidence", 1.0, 1.5),
        ("HumanReview", "agent_confidence", None, float("nan")),
        ("HumanReview", "input_ref", "", "x" * 257),
        ("Change", "integration", "crm", ""),
        ("Change", "to_version", "x", ""),
        ("Change", "from_version", "", "x" * 257),
        ("QueueDepth", "depth", 2**40, 2**40 + 1),
        ("QueueDepth", "depth", 0, -1),
        ("QueueDepth", "oldest_age_ms", 10**12, 10**12 + 1),
        ("AgentProfile", "owner", "x", ""),
        ("AgentProfile", "time_zone", "UTC", ""),
        ("AgentProfile", "daily_cost_plan_usd", 5e-324, 0.0),
        ("AgentProfile", "daily_cost_plan_usd", 1e9, 1.1e9),
        ("AgentProfile", "retraining_interval_days", 3650, 3651),
        ("AgentProfile", "retraining_interval_days", 1, 0),
        ("AgentProfile", "last_trained_at", 0, 4_102_444_800_000),
        ("AgentProfile", "sunset_at", None, -1),
        ("AgentProfile", "feature_names", ["x"] * 256, ["x"] * 257),
        ("AgentProfile", "depends_on", ["x" * 256], ["x", ""]),
        ("Control", "control_id", "x" * 256, "x" * 257),
        ("Control", "by", "x", ""),
        ("Control", "why", "x" * 256, "x" * 257),
        ("Control", "match_rule", "", "x" * 257),
        ("Control", "from_at", None, -1),
    ],
)
def test_fields_are_judged_at_their_limits(name: str, field: str, good: Any, bad: Any) -> None:
    found = getattr(decoded(name, **{field: good}), field)
    assert (list(found) if isinstance(found, tuple) else found) == good

    refusal = refused(name, **{field: bad})

    assert refusal.reason is Reason.INVALID_FIELD
    assert refusal.detail.startswith(f"{field} ")


@pytest.mark.parametrize("name", [name for name in RECORDS if name != "Control"])
def test_a_record_in_the_wrong_partition_is_refused(name: str) -> None:
    topics = {"HumanReview": "reviews", "Change": "changes", "QueueDepth": "queues"}
    of_twelve = decoders(Settings(partitions=12))[topics.get(name, "profiles")]
    tried = [of_twelve.decode(batch(record_of(name), partition=p)) for p in range(12)]
    right = [p for p, done in enumerate(tried) if not done.refused]

    assert len(right) == 1
    (refusal,) = of_twelve.decode(batch(record_of(name), partition=(right[0] + 1) % 12)).refused
    assert refusal.reason is Reason.STRAY_PARTITION


# -- reviews -----------------------------------------------------------------------------------


def test_the_words_of_a_review_are_dropped_unless_they_are_wanted() -> None:
    for keep, expected in ((False, None), (True, WORDS)):
        reading = decoders(Settings(keep_review_reasons=keep))["reviews"]
        of_one = ReviewDecoder(partitions=1, keep_reasons=keep)
        (review,) = of_one.decode(batch(record_of("HumanReview", reason=WORDS))).value
        assert review.reason == expected
        assert type(reading) is ReviewDecoder
    assert not Settings().keep_review_reasons


def test_too_many_words_are_refused_even_where_they_would_be_dropped() -> None:
    reading = ReviewDecoder(partitions=1)

    (refusal,) = reading.decode(batch(record_of("HumanReview", reason="x" * 257))).refused

    assert (refusal.reason, refusal.detail) == (
        Reason.INVALID_FIELD,
        "reason has 257 characters, allowed are 0 to 256",
    )


def test_no_detail_of_a_refusal_has_a_word_of_a_review_in_it() -> None:
    key, value = record_of("HumanReview", reason=WORDS)
    spoilt = [
        bytes((*value[:at], value[at] ^ bit, *value[at + 1 :]))
        for at in range(len(value))
        for bit in (1, 0x80)
    ]
    cut = [value[:size] for size in range(len(value))]
    long = record_of("HumanReview", reason=WORDS * 9)[1]
    other = record_of("HumanReview", reason=WORDS, reason_code="")[1]
    every = [*spoilt, *cut, long, other]

    done = ReviewDecoder(partitions=1).decode(
        batch(*((key, each) for each in every), (b"x", value))
    )

    assert len(done.refused) > 250
    said = " ".join(refusal.detail for refusal in done.refused)
    assert not [word for word in WORDS.split() if word in said]
    assert not [event for event in done.value if event.reason is not None]


# -- profiles ----------------------------------------------------------------------------------


def test_a_null_value_deletes_the_profile_with_that_key() -> None:
    done = ProfileDecoder(partitions=1).decode(batch((b"t/a", None), record_of("AgentProfile")))

    gone, profile = done.value
    assert done.refused == []
    assert gone == Deleted(key="t/a", occurred_at=AT)
    assert isinstance(profile, AgentProfile)
    assert profile.key == gone.key


@pytest.mark.parametrize(
    ("key", "reason"), [(None, Reason.KEY_MISSING), (b"\xff", Reason.KEY_MISSING)]
)
def test_a_deletion_needs_a_key(key: bytes | None, reason: Reason) -> None:
    (refusal,) = ProfileDecoder(partitions=1).decode(batch((key, None))).refused

    assert refusal.reason is reason


def test_a_deletion_must_stand_in_the_partition_of_its_key() -> None:
    reading = ProfileDecoder(partitions=12)

    done = [reading.decode(batch((b"t/a", None), partition=p)) for p in range(12)]

    assert sum(len(each.value) for each in done) == 1
    assert {r.reason for each in done for r in each.refused} == {Reason.STRAY_PARTITION}


def test_a_profile_that_is_not_all_here_is_no_deletion() -> None:
    whole = batch((b"t/a", None))
    torn = replace(whole, unreadable={0: "torn"})

    (refusal,) = ProfileDecoder(partitions=1).decode(torn).refused

    assert refusal.reason is Reason.UNREADABLE_BATCH


# -- controls ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "OTHER"}, "kind"),
        ({"until_at": None}, "until_at"),
        ({"until_at": AT}, "until_at"),
        ({"from_at": None, "until_at": AT}, "until_at"),
        ({"kind": "MAINTENANCE", "until_at": AT - 1}, "until_at"),
        ({"kind": "RULES"}, "rules"),
        ({"kind": "RULES", "rules": ""}, "rules"),
        ({"kind": "RULES", "rules": "x" * (256 * 1024 + 1)}, "rules"),
        ({"rules": "a: 1"}, "rules"),
    ],
)
def test_a_control_that_makes_no_sense_is_refused(changes: Record, field: str) -> None:
    refusal = refused("Control", **changes)

    assert refusal.reason is Reason.INVALID_FIELD
    assert refusal.detail.startswith(f"{field} ")


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "MAINTENANCE", "until_at": None},
        {"kind": "EXPIRE", "from_at": None, "until_at": None},
        {"kind": "RULES", "rules": "x" * 256 * 1024, "from_at": None, "until_at": None},
        {"kind": "ACKNOWLEDGE", "match_alert_id": "x", "until_at": None},
    ],
)
def test_a_control_that_makes_sense_is_taken(changes: Record) -> None:
    assert decoded("Control", **changes).kind == changes["kind"]
