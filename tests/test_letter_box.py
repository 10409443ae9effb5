from __future__ import annotations

import pytest

from streams.dead_letters import REPLAYED
from streams.epoch import OutRecord
from streams.letter_box import Choice, LettersError, Marks, Place, open_box
from streams.reasons import DeadLetterReason as Reason
from streams.settings import Settings
from tests.letter_rig import a_letter, write


def test_marks_hold_what_was_added_and_nothing_else() -> None:
    marks = Marks(1_000)

    for offset in (1_000, 1_007, 1_008, 250_000):
        marks.add(offset)
    marks.add(3)

    found = [offset for offset in range(1, 300_000) if offset in marks]
    assert found == [1_000, 1_007, 1_008, 250_000]


def test_a_letter_is_named_by_partition_and_offset() -> None:
    assert Place.parse("3@1042") == Place(3, 1042)
    assert str(Place(3, 1042)) == "3@1042"


@pytest.mark.parametrize("text", ["", "3", "3@", "@5", "3@-1", "a@b", "3@1042 ", "1@" + "9" * 30])
def test_another_name_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"names no letter. Write PARTITION@OFFSET"):
        Place.parse(text)


async def chosen(settings: Settings, choice: Choice) -> tuple[list[bytes | None], int]:
    """Return the values of the letters chosen that are not replayed, and how far was read."""
    read = 0

    def advance(count: int) -> None:
        nonlocal read
        read += count

    async with open_box(settings) as box:
        spans = await box.spans(choice)
        marks = await box.marks(spans, advance)
        letters = [
            letter.value
            async for letter in box.letters(spans, choice, advance)
            if letter.offset not in marks[letter.partition]
        ]
        total = sum(span.stop + span.end - 2 * span.first for span in spans.values())
        assert read == total
        return letters, read


async def write_some(settings: Settings) -> None:
    """Write ten letters to partition 1 and one to 2; the fourth of them has been replayed."""
    letters = [
        a_letter(
            settings,
            Reason.BAD_BODY if number % 2 else Reason.UNKNOWN_SCHEMA,
            (b"k", b"%d" % number),
            topic=settings.topic("security" if number >= 8 else "tasks"),
            partition=1,
        )
        for number in range(10)
    ]
    letters.append(a_letter(settings, Reason.FUTURE, (b"k", b"other"), partition=2))
    topic = settings.topic("dead-letters")
    # What a marker claims of offsets that are not before it must cost nothing.
    claims = [(REPLAYED, b"3"), (REPLAYED, b"999999999999999")]
    await write(settings, letters)
    await write(settings, [OutRecord(topic, 1, b"k", None, [claim]) for claim in claims])


@pytest.mark.broker
async def test_letters_are_chosen_by_reason_topic_and_place_and_markers_are_none(
    topics: Settings,
) -> None:
    await write_some(topics)
    everything = [b"0", b"1", b"2", b"4", b"5", b"6", b"7", b"8", b"9", b"other"]
    security = frozenset({topics.topic("security")})

    assert (await chosen(topics, Choice()))[0] == everything
    bad = Choice(reasons=frozenset({"BAD_BODY"}))
    assert (await chosen(topics, bad))[0] == [b"1", b"5", b"7", b"9"]
    assert (await chosen(topics, Choice(topics=security)))[0] == [b"8", b"9"]
    only = Choice(only=frozenset({Place(1, 3), Place(1, 4), Place(1, 6)}))
    assert (await chosen(topics, only))[0] == [b"4", b"6"]


@pytest.mark.broker
async def test_letters_are_chosen_by_the_time_at_which_they_were_set_aside(
    topics: Settings,
) -> None:
    await write_some(topics)
    async with open_box(topics) as box:
        spans = await box.spans(Choice())
        letters = [letter async for letter in box.letters(spans, Choice(), lambda _: None)]
    first, last = letters[0].timestamp, letters[-1].timestamp

    some, _ = await chosen(topics, Choice(since_ms=first, until_ms=last + 1))
    assert len(some) == 10
    assert await chosen(topics, Choice(since_ms=last + 60_000)) == ([], 0)
    assert (await chosen(topics, Choice(until_ms=first)))[0] == []


@pytest.mark.broker
async def test_following_yields_the_letters_that_come_later(topics: Settings) -> None:
    await write_some(topics)
    async with open_box(topics) as box:
        spans = await box.spans(Choice())
        later = box.follow(spans, Choice(reasons=frozenset({"FUTURE"})))
        new = [
            a_letter(topics, reason, (b"k", b"new")) for reason in (Reason.BAD_BODY, Reason.FUTURE)
        ]
        await write(topics, new)
        assert (await anext(later)).reason == "FUTURE"
        await later.aclose()


@pytest.mark.broker
async def test_a_topic_that_is_not_there_is_said(settings: Settings) -> None:
    with pytest.raises(LettersError, match=r"There is no topic .*dead-letters at .*topics create"):
        async with open_box(settings):
            pass


@pytest.mark.broker
async def test_a_partition_that_is_not_there_is_said(topics: Settings) -> None:
    async with open_box(topics) as box:
        with pytest.raises(LettersError, match=r"has no partition 77; they are 0 to 3"):
            await box.spans(Choice(only=frozenset({Place(77, 0)})))


async def test_no_broker_is_one_clear_sentence() -> None:
    with pytest.raises(LettersError, match=r"No Kafka broker answers at 127\.0\.0\.1:1"):
        async with open_box(Settings(bootstrap_servers="127.0.0.1:1")):
            pass
