"""The one table of limits is what the docs of the schemas promise."""

from __future__ import annotations

import re
from typing import Any

import pytest

from streams import schemas
from streams.limits import ABOVE_ZERO, END_OF_TIME, MAX_ID, MAX_ITEMS, NEEDED, RANGES, broken

EVENTS = (
    *("TaskFinished", "IntegrationCall", "SecurityEvent", "HumanReview", "Change", "QueueDepth"),
    *("AgentProfile", "Control"),
)
FIELDS = [(name, field) for name in EVENTS for field in schemas.schema(name)["fields"]]


def plain(kind: Any) -> str:
    if isinstance(kind, list):
        return plain(next(each for each in kind if each != "null"))
    return str(kind["type"] if isinstance(kind, dict) else kind)


def number(text: str) -> float:
    return 2.0 ** int(text[2:]) if text.startswith("2^") else float(text)


def test_every_number_of_an_event_has_a_range() -> None:
    numbers = {f["name"] for _, f in FIELDS if plain(f["type"]) in {"int", "long", "double"}}

    assert numbers == RANGES.keys()


@pytest.mark.parametrize(("name", "field"), FIELDS, ids=lambda each: str(each)[:40])
def test_a_limit_in_the_docs_of_a_schema_is_the_one_that_is_judged(name: str, field: Any) -> None:
    doc, kind = field["doc"], plain(field["type"])
    if kind == "string":
        least = re.search(r"1 to (\d+) characters", doc)
        most = re.search(r"(?:at most|to) (\d+) characters", doc)
        assert not least or field["name"] in NEEDED, name
        assert not most or int(most[1]) == MAX_ID, name
    elif field["name"] in RANGES and kind != "array":
        low, high = RANGES[field["name"]]
        if found := re.search(r"\b(above )?(\d\S*) to (\d[\w^]*)", doc):
            assert (low == ABOVE_ZERO) if found[1] else low == number(found[2]), name
            assert high == number(found[3].rstrip(".,;")), name
        if "before 2100" in doc:
            assert high == END_OF_TIME - 1
    elif kind == "array":
        assert f"at most {MAX_ITEMS}" in doc


@pytest.mark.parametrize(
    ("record", "detail"),
    [
        ({"confidence": 0.5, "model": None, "feature_names": ["a"]}, None),
        ({"tenant": ""}, "tenant has 0 characters, allowed are 1 to 256"),
        ({"trace_id": "x" * 257}, "trace_id has 257 characters, allowed are 0 to 256"),
        ({"attempts": 0}, "attempts is 0, allowed is 1 to 1000"),
        (
            {"daily_cost_plan_usd": 0.0},
            "daily_cost_plan_usd is 0.0, allowed is above 0 to 1000000000",
        ),
        ({"input_features": [0.0] * 257}, "input_features has 257 items, allowed are 0 to 256"),
        (
            {"input_features": [0.0, float("nan")]},
            "input_features has nan as item 1, allowed are finite numbers",
        ),
        (
            {"depends_on": ["crm", ""]},
            "depends_on has 0 characters in item 1, allowed are 1 to 256",
        ),
        ({"rules": "ä" * 131_073}, "rules has 262146 bytes, allowed are 0 to 262144"),
        ({"rules": ""}, None),
    ],
)
def test_a_sentence_names_the_field_and_what_is_allowed(record: Any, detail: str | None) -> None:
    assert broken(record) == detail
