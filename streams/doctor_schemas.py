"""The doctor on writer schemas: entries of the topic `schemas`, subjects of the registry."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streams import schemas
from streams.diagnosis import Check, Diagnosis, bad, good, listed, odd, skipped
from streams.frames import OUTPUTS
from streams.registry import RegistryClient, RegistryError, UnusableSchemaError
from streams.schema_topic import SchemaTopicError, parse
from streams.subjects import LEVEL
from streams.topics import PRODUCED, TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from streams.settings import Settings

INPUTS = {spec.record: spec.suffix for spec in TOPICS if spec.record and spec.suffix in PRODUCED}
"""Records that producers write, and the topics they are on."""
_REGISTER = "`agentops-streams schemas register`"


# -- the topic ---------------------------------------------------------------------------------


def judge_topic(entries: Mapping[bytes, bytes]) -> list[Diagnosis]:
    """Say which entries of the topic are no usable schema."""
    check, said, usable = Check.SCHEMAS, [], 0
    for key, value in entries.items():
        try:
            problem = _unreadable([parse(key, value)])
        except SchemaTopicError as error:
            cure = "Workers ignore it: `agentops-streams schemas publish` writes usable ones."
            said.append(odd(check, f"{error}.", cure))
            continue
        if problem is None:
            usable += 1
        else:
            cure = "Its records are dead letters INCOMPATIBLE_SCHEMA: change the producer."
            said.append(bad(check, f"schema {key.decode()}: {problem}.", cure))
    return said or [good(check, f"{usable} entries, all usable.")]


def _unreadable(found: Iterable[schemas.Schema]) -> str | None:
    """Return why one of these cannot be read as the input record of its name."""
    for one in found:
        if one.name in INPUTS:
            try:
                schemas.readable(one, one.name)
            except ValueError as error:
                return str(error).rstrip(".")
    return None


# -- the registry ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Subject:
    """What a registry says about the subject of one topic.

    Attributes:
        name: of the subject.
        record: that stands on the topic.
        versions: schemas as text, by version; None where one is no Avro schema.
        has_ours: whether the version of this release is among them.
        level: of compatibility, None where it is not known.
        refuses: why the registry would not take ours.
    """

    name: str
    record: str
    versions: Mapping[int, str | None] = field(default_factory=dict)
    has_ours: bool = False
    level: str | None = None
    refuses: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RegistrySeen:
    """What a registry says, and how long its first answer took."""

    seconds: float
    subjects: Sequence[Subject]


async def observe_registry(settings: Settings) -> RegistrySeen:
    """Ask for the subjects of our topics; nothing is registered.

    Raises:
        RegistryError: it is away or refuses; the message says what to do.
    """
    async with RegistryClient.of(settings) as registry:
        began = time.monotonic()
        level = await registry.compatibility()
        seconds = time.monotonic() - began
        seen = [
            await _subject(registry, f"{settings.topic(suffix)}-value", record, level)
            for record, suffix in (INPUTS | OUTPUTS).items()
        ]
    return RegistrySeen(seconds, seen)


async def _subject(registry: RegistryClient, name: str, record: str, level: str | None) -> Subject:
    numbers = await registry.versions(name)
    if not numbers:
        return Subject(name, record, level=level)
    text = json.dumps(schemas.schema(record))
    versions: dict[int, str | None] = {}
    for number in numbers:
        try:
            found = await registry.version(name, number)
            versions[number] = None if found is None else found.schema
        except UnusableSchemaError:
            versions[number] = None
    ours = await registry.find(name, text)
    refuses = [] if ours else await registry.incompatibilities(name, text)
    level = await registry.compatibility(name) or level
    return Subject(name, record, versions, ours is not None, level, refuses)


def judge_registry(seen: RegistrySeen, settings: Settings) -> list[Diagnosis]:
    """Say which subjects do not fit."""
    said = [each for subject in seen.subjects for each in _judge_subject(subject, settings)]
    if said:
        return said
    there = [one.name for one in seen.subjects if one.versions]
    later = [one.name for one in seen.subjects if not one.versions]
    told = f"{settings.registry_url} answered in {seen.seconds * 1000:.0f} ms; "
    told += f"{len(there)} of {len(seen.subjects)} subjects are there and fit"
    if later:
        told += f", {listed(later)} will come with the first producer or worker"
    return [good(Check.REGISTRY, f"{told}.")]


def _judge_subject(subject: Subject, settings: Settings) -> list[Diagnosis]:
    check, said, name = Check.REGISTRY, [], subject.name
    if subject.record in OUTPUTS and not subject.has_ours:
        if subject.refuses:
            what = f"{name} does not take the {subject.record} of this release: "
            cure = "No worker starts. Is that subject another application's? Then use another "
            said.append(bad(check, what + listed(list(subject.refuses)), cure + "topic_prefix."))
        elif not settings.registry_register:
            what = f"{name} does not have the {subject.record} of this release."
            cure = f"No worker starts, as registry_register is off: run {_REGISTER}."
            said.append(bad(check, what, cure))
    if subject.record in INPUTS:
        said += _judge_versions(subject)
    if subject.level == "NONE" and subject.versions:
        what = f"{name} has compatibility NONE: it takes any schema."
        cure = f"Set {LEVEL} there, so that it refuses what workers could not read."
        said.append(odd(check, what, cure))
    return said


def _judge_versions(subject: Subject) -> list[Diagnosis]:
    """Say which versions producers may use that no worker can read."""
    said = []
    for number, text in subject.versions.items():
        what, cure = f"Version {number} of {subject.name}", ""
        try:
            writer = schemas.parse(text or "")
        except ValueError as error:
            why = str(error).rstrip(".") if text else "it is no Avro schema that stands alone"
            cure = "Its records are dead letters INCOMPATIBLE_SCHEMA: do not produce with it."
            said.append(odd(Check.REGISTRY, f"{what} cannot be used: {why}.", cure))
            continue
        if writer.name != subject.record:
            cure = "Its records are dead letters WRONG_SCHEMA: do not produce with it."
            said.append(odd(Check.REGISTRY, f"{what} is a {writer.name}.", cure))
        elif problem := _unreadable([writer]):
            cure = "Its records are dead letters INCOMPATIBLE_SCHEMA: do not produce with it."
            said.append(odd(Check.REGISTRY, f"{what} cannot be read: {problem}.", cure))
    return said


def judge_registry_error(error: RegistryError) -> Diagnosis:
    """Say why the registry could not be asked."""
    effect = "Workers wait at records whose schema they do not know; new workers do not start."
    return bad(Check.REGISTRY, str(error), effect)


def no_registry() -> Diagnosis:
    """Say that none is set, which is fine."""
    return skipped(Check.REGISTRY, "registry_url is not set: schemas are found by fingerprint.")
