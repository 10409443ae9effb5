from __future__ import annotations

import zlib

from streams.diagnosis import Diagnosis, Status
from streams.doctor_partitioner import judge, placements
from streams.doctor_samples import Sampled
from streams.keys import Keys
from streams.settings import Settings

N = 12
KEYS = [b"agent-%d" % number for number in range(30)]
MURMUR2 = Keys(N)


def at(key: bytes | None, partition: int, topic: str = "tasks") -> Sampled:
    return Sampled(topic, partition, key, 0, None)


def said(samples: list[Sampled], partitioner: str = "murmur2") -> list[Diagnosis]:
    counts = dict.fromkeys(("tasks", "security"), N)
    settings = Settings.model_validate({"partitioner": partitioner})
    return judge(placements(samples, counts), settings)


def test_keys_where_the_setting_puts_them_are_fine() -> None:
    (found,) = said([at(key, MURMUR2.place(key)) for key in KEYS])

    assert (found.status, found.found) == (Status.OK, "30 keys stand where murmur2 puts them.")


def test_each_topic_is_judged_by_itself() -> None:
    good = [at(key, MURMUR2.place(key)) for key in KEYS]
    crc32 = [at(key, zlib.crc32(key) % N, "security") for key in KEYS]

    (found,) = said(good + crc32)

    assert found.found.startswith("security: ")
    assert "all stand where crc32 does" in found.found


def test_keys_that_no_partitioner_explains_are_told_so() -> None:
    (found,) = said([at(key, number % N) for number, key in enumerate(KEYS)])

    assert "neither murmur2 nor crc32" in found.found
    assert "Do not choose partitions" in str(found.cure)


def test_a_key_in_two_partitions_is_a_stray_even_if_one_is_right() -> None:
    place = MURMUR2.place(b"a")

    (found,) = said([at(b"a", place), at(b"a", (place + 1) % N)])

    assert found.status is Status.FAIL
    assert "1 of 1 keys" in found.found


def test_unchecked_placing_is_fine_as_long_as_each_key_has_one_partition() -> None:
    fine = said([at(key, number % N) for number, key in enumerate(KEYS)], "unchecked")
    split = said([at(b"a", 1), at(b"a", 2, "security")], "unchecked")

    assert [one.status for one in fine] == [Status.OK]
    assert [one.status for one in split] == [Status.FAIL]
    assert "several states" in split[0].found


def test_records_without_a_key_are_counted() -> None:
    found = said([at(None, 0), at(b"a", MURMUR2.place(b"a"))])

    assert [one.status for one in found] == [Status.FAIL]
    assert "1 of 2 records have no key" in found[0].found
