"""The doctor on how producers place keys, by where the newest records of the inputs stand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streams.diagnosis import Check, Diagnosis, bad, good, listed, skipped
from streams.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.doctor_samples import Sampled
    from streams.settings import Settings

_KNOWN = ("murmur2", "crc32")
_CURE = {
    "crc32": "That is librdkafka's default: set partitioner=murmur2_random on those producers, or "
    "AGENTOPS_PARTITIONER=crc32 if all producers place so.",
    "murmur2": "That is the default of Java: set AGENTOPS_PARTITIONER=murmur2 if all producers "
    "place so, or partitioner=consistent_random on producers of librdkafka.",
    "neither": "Do not choose partitions in the producer: let murmur2 do it (the default of Java; "
    "partitioner=murmur2_random in librdkafka).",
}


@dataclass(slots=True)
class Placement:
    """Where the keys of one topic stand.

    Attributes:
        partitions: how many the topic has.
        records: sampled.
        keyless: of these, those without a key.
        places: key → the partitions it stands in.
    """

    partitions: int
    records: int = 0
    keyless: int = 0
    places: dict[bytes, set[int]] = field(default_factory=dict)

    def strays(self, partitioner: str) -> list[bytes]:
        """Return the keys that stand where a partitioner does not put them."""
        keys = Keys(self.partitions, partitioner)  # type: ignore[arg-type]
        return [key for key, places in self.places.items() if places != {keys.place(key)}]

    def fits(self) -> list[str]:
        """Return the partitioners that explain where all keys stand."""
        return [one for one in _KNOWN if not self.strays(one)]


def placements(samples: Sequence[Sampled], partitions: Mapping[str, int]) -> dict[str, Placement]:
    """Sort a sample by topic; `partitions` says how many each has."""
    found: dict[str, Placement] = {}
    for one in samples:
        placement = found.setdefault(one.topic, Placement(partitions[one.topic]))
        placement.records += 1
        if one.key is None:
            placement.keyless += 1
        else:
            placement.places.setdefault(one.key, set()).add(one.partition)
    return found


def judge(found: Mapping[str, Placement], settings: Settings) -> list[Diagnosis]:
    """Say what the producers use, and compare it with the setting."""
    check, said = Check.PARTITIONER, []
    if not found:
        return [skipped(check, "No records could be read from the input topics.")]
    for topic, placement in found.items():
        if placement.keyless:
            what = f"{topic}: {placement.keyless} of {placement.records} records have no key."
            cure = "Send the key agent_id, or tenant/agent_id: these are dead letters KEY_MISSING."
            said.append(bad(check, what, cure))
        if settings.partitioner != "unchecked":
            said += _strays(topic, placement, settings.partitioner)
    if settings.partitioner == "unchecked":
        said += _split(found)
    keys = sum(len(placement.places) for placement in found.values())
    return said or [good(check, f"{keys} keys stand where {_who(found)} puts them.")]


def _strays(topic: str, placement: Placement, partitioner: str) -> list[Diagnosis]:
    strays = placement.strays(partitioner)
    if not strays:
        return []
    fits = placement.fits()
    (used,) = fits or ("neither",)
    names = {"neither": "neither murmur2 nor crc32 puts all keys where they stand"}
    return [
        bad(
            Check.PARTITIONER,
            f"{topic}: {len(strays)} of {len(placement.places)} keys do not stand where "
            f"partitioner = {partitioner} puts them, such as {_shown(strays)}; "
            f"{names.get(used, f'all stand where {used} does')}.",
            f"{_CURE[used]} Until then they are dead letters STRAY_PARTITION.",
        )
    ]


def _split(found: Mapping[str, Placement]) -> list[Diagnosis]:
    """Return the agents that have two states, where a worker does not look."""
    places: dict[bytes, set[int]] = {}
    for placement in found.values():
        for key, partitions in placement.places.items():
            places.setdefault(key, set()).update(partitions)
    split = [key for key, partitions in places.items() if len(partitions) > 1]
    if not split:
        return []
    return [
        bad(
            Check.PARTITIONER,
            f"{len(split)} of {len(places)} keys stand in several partitions, such as "
            f"{_shown(split)}: each of these agents has several states.",
            f"{_CURE['neither']} And set AGENTOPS_PARTITIONER=murmur2, so that workers check it.",
        )
    ]


def _who(found: Mapping[str, Placement]) -> str:
    """Return which partitioners explain all of it, as far as it can be told."""
    fits = [one for one in _KNOWN if all(one in each.fits() for each in found.values())]
    if len(fits) > 1:
        return "murmur2 and crc32 alike (too few to tell which)"
    return fits[0] if fits else "no known partitioner, but each in one partition,"


def _shown(keys: list[bytes]) -> str:
    return listed([repr(key.decode(errors="replace")[:80]) for key in keys], 1)
