from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from streams.batch import Refusal
from streams.dead_letters import Letter, dead_letter, letter_of
from streams.letter_replay import LetterFate, Tally
from streams.letter_trial import Trial
from streams.letter_view import (
    FATES,
    Summary,
    as_dict,
    as_line,
    dump,
    plain,
    show,
    show_json,
    tally_json,
    tally_text,
    verdict_text,
)
from streams.reasons import DeadLetterReason as Reason
from tests.letter_rig import a_batch, message

if TYPE_CHECKING:
    from streams.batch import Header


def letter(
    reason: Reason = Reason.BAD_BODY,
    record: tuple[bytes | None, bytes | None] = (b"acme/claims", b"value"),
    headers: list[Header] | None = None,
    **place: Any,
) -> Letter:
    batch = a_batch(*record, headers or [], **place)
    made = dead_letter(batch, Refusal(0, reason, "3 bytes\x1b[31m left over"), 100_000)
    found = letter_of(message(*made, partition=3, offset=17))
    assert found is not None
    return found


NAMELESS = letter_of(message(None, b"v", []))
assert NAMELESS is not None


def test_a_line_says_where_when_why_and_what_and_no_escape_passes() -> None:
    assert as_line(letter(), False) == (
        "3@17  2026-01-01 00:00:00Z  BAD_BODY  agentops.tasks/0@100  key acme/claims  "
        r"3 bytes\x1b[31m left over"
    )


def test_a_line_says_what_was_cut_and_what_was_replayed() -> None:
    line = as_line(letter(record=(None, b"v"), oversize=9_000), True)

    assert "key null  [cut]  [replayed]" in line


def test_a_letter_without_headers_has_a_line() -> None:
    assert NAMELESS is not None
    assert as_line(NAMELESS, False) == "0@0  2026-01-01 00:00:00Z  ?  ?/?@?  key null"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\nb", r"a\nb"), ("\x9b1m", r"\x9b1m"), ("\u202e", r"\u202e"), ("ü🙂", "ü🙂"),
     ("x" * 200, "x" * 119 + "…")],
)  # fmt: skip
def test_text_of_producers_is_one_harmless_line(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_json_has_all_but_the_value() -> None:
    found = as_dict(letter(headers=[("replayed-from", b"x/1@2")]), True)

    assert found["letter"] == "3@17"
    assert (found["value_bytes"], found["cut"], found["replayed"]) == (5, False, True)
    assert found["replayed_from"] == "x/1@2"
    assert json.loads(json.dumps(found)) == found


def test_the_summary_counts_by_topic_and_reason_and_says_the_cure() -> None:
    summary = Summary()
    for reason in (Reason.BAD_BODY, Reason.UNKNOWN_SCHEMA, Reason.UNKNOWN_SCHEMA):
        summary.add(letter(reason), False)
    assert NAMELESS is not None
    summary.add(NAMELESS, False)

    lines = summary.as_text().splitlines()

    assert lines[0].split() == ["topic", "reason", "letters", "first", "last"]
    assert lines[1].split()[:3] == ["?", "?", "1"]
    assert lines[2].strip() == "a reason of another version"
    assert lines[3].split()[:3] == ["agentops.tasks", "UNKNOWN_SCHEMA", "2"]
    assert "publish the schema" in lines[4]
    assert json.loads(summary.as_json())[1]["letters"] == 2


def test_the_summary_has_a_column_for_what_was_replayed() -> None:
    summary = Summary()
    summary.add(letter(), True)

    assert "replayed" in summary.as_text().splitlines()[0]
    assert Summary().as_text() == "There are no such dead letters."


def test_a_dump_shows_offset_hex_and_text_and_is_bounded() -> None:
    first, second, *_, last = dump(b"claims-agent\x00\xff\x1b[" + b"x" * 1_000).splitlines()

    assert first == "  000000  63 6c 61 69 6d 73 2d 61 67 65 6e 74 00 ff 1b 5b  claims-agent...["
    assert second.startswith("  000010  78")
    assert last == "  … 504 bytes more (all of them with --json)"


def test_everything_of_a_letter_is_shown() -> None:
    one = letter(
        headers=[("trace\nparent", b"00"), ("none", None), ("replayed-from", b"x/1@2")],
        oversize=70_000,
    )
    trial = Trial(None, "TaskFinished", {"agent_id": "\x1b"}, asked=True)

    text = show(one, True, "would be taken", trial)

    for words in (
        "letter    3@17, set aside 2026-01-01",
        "cure      encode with exactly",
        "record    agentops.tasks/0@100, produced 2026-01-01",
        "replayed  yes",
        "again of  x/1@2",
        r"header    trace\nparent = '00'",
        "header    none = null",
        "value     5 of 69,989 bytes",
        "decodes   as TaskFinished",
        r'"agent_id": "\u001b"',
        "now       would be taken",
    ):
        assert words in text
    assert "\x1b" not in text


def test_everything_of_a_letter_is_there_as_json_with_bytes_in_hex() -> None:
    one = letter(record=(None, b"\x00\xff"), headers=[("a", b"\x01"), ("b", None)])

    found = json.loads(show_json(one, False, "no", None))

    assert (found["key_hex"], found["value_hex"]) == (None, "00ff")
    assert found["headers"] == [["a", "01"], ["b", None]]
    assert (found["accepted"], found["verdict"]) == (False, "no")


def test_a_verdict_says_what_would_become_of_a_letter() -> None:
    bad = Trial((Reason.BAD_BODY, "why"), None, None, asked=True)
    silent = Trial((Reason.UNKNOWN_SCHEMA, "why"), None, None, asked=False)

    sent = LetterFate.REPLAYED
    assert "send it again yourself" in verdict_text(LetterFate.CUT, None)
    assert "do not read" in verdict_text(sent, None)
    assert verdict_text(sent, Trial(None, "T", {}, asked=True)).startswith("would be taken")
    assert verdict_text(sent, bad) == "would be refused again: BAD_BODY: why"
    assert "did not answer" in verdict_text(sent, silent)


def test_a_replay_says_what_it_did_and_what_it_left() -> None:
    counts = {
        ("t", "UNKNOWN_SCHEMA", LetterFate.REPLAYED): 1_200,
        ("u", "UNKNOWN_SCHEMA", LetterFate.REPLAYED): 1,
        ("t", "FUTURE", LetterFate.REPLAYED): 2,
        ("t", "OVERSIZE", LetterFate.CUT): 1,
        ("t", "FUTURE", LetterFate.BEFORE): 7,
    }
    tally = Tally(Counter(counts))

    assert tally_text(tally, done=True).splitlines() == [
        "Replayed 1,203 letters (FUTURE 2, UNKNOWN_SCHEMA 1,201).",
        f"Left 1 letter (OVERSIZE 1): {FATES[LetterFate.CUT]}.",
    ]
    assert tally_text(tally, done=False).startswith("Would replay 1,203 letters")
    found = json.loads(tally_json(tally, done=True))
    assert (found["done"], found["letters"]) == (True, 1_203)
    assert found["reasons"]["cut"] == {"OVERSIZE": 1}


def test_every_fate_has_its_words() -> None:
    assert set(FATES) == set(LetterFate)
