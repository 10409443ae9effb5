"""The subjects of our topics at a schema registry: `TOPIC-value` for each topic with a record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from streams import schemas
from streams.registry import RegistryAwayError, RegistryError
from streams.releases import Fault
from streams.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from streams.registry import RegistryClient
    from streams.settings import Settings

LEVEL = "BACKWARD_TRANSITIVE"
"""The level of compatibility of a subject that has none of its own."""


class Subject(NamedTuple):
    """A subject and the record on its topic."""

    name: str
    record: str

    @property
    def schema(self) -> str:
        """The current schema of the record as JSON text."""
        return json.dumps(schemas.schema(self.record))


class Registered(NamedTuple):
    """What the registry has of a subject.

    Attributes:
        subject: its name.
        record: the record on its topic.
        version: which version our schema is; None where it is not registered.
        id: the schema's number in frames; None where it is not registered.
        new: whether it was registered just now, or would be.
        level: of compatibility; None where the registry's own holds.
    """

    subject: str
    record: str
    version: int | None
    id: int | None
    new: bool
    level: str | None


class RefusedError(RuntimeError):
    """The registry does not take a schema; the message says which and why."""


def subjects(settings: Settings) -> list[Subject]:
    """Return the subjects of all topics with a record."""
    return [
        Subject(f"{spec.name(settings.topic_prefix)}-value", spec.record)
        for spec in TOPICS
        if spec.record
    ]


async def register(
    client: RegistryClient, settings: Settings, *, dry_run: bool = False
) -> AsyncGenerator[Registered, None]:
    """Register the current schemas where they are not, and yield what is there then.

    A subject without a level of compatibility of its own gets BACKWARD_TRANSITIVE.

    Raises:
        RefusedError: a schema is not taken; the subjects before it are done.
        RegistryAwayError: the registry does not answer.
    """
    for subject in subjects(settings):
        try:
            yield await (_plan(client, subject) if dry_run else _register(client, subject))
        except RegistryAwayError:
            raise
        except RegistryError as error:
            raise RefusedError(
                f"The registry does not take {subject.record} as subject {subject.name}: {error}"
            ) from error


async def incompatible(client: RegistryClient, settings: Settings) -> list[Fault]:
    """Return why the registry would not take the current schemas as next versions.

    Raises:
        RegistryError: the registry does not answer, or not what was asked.
    """
    return [
        Fault(subject.record, subject.name, "", why, "the registry's versions must stay readable")
        for subject in subjects(settings)
        if await client.find(subject.name, subject.schema) is None
        for why in await client.incompatibilities(subject.name, subject.schema, "all")
    ]


async def _plan(client: RegistryClient, subject: Subject) -> Registered:
    found = await client.find(subject.name, subject.schema)
    level = await client.compatibility(subject.name)
    if found is not None:
        return Registered(*subject, found.version, found.id, new=False, level=level)
    reasons = await client.incompatibilities(subject.name, subject.schema, "all")
    if reasons:
        raise RegistryError("; ".join(reasons))
    return Registered(*subject, None, None, new=True, level=level)


async def _register(client: RegistryClient, subject: Subject) -> Registered:
    found = await client.find(subject.name, subject.schema)
    level = await client.compatibility(subject.name)
    new = found is None
    if level is None and await client.versions(subject.name):
        # Before the next version is judged; a subject that does not exist may take no level yet.
        level = await _set_level(client, subject)
    if found is None:
        await client.register(subject.name, subject.schema)
        found = await client.find(subject.name, subject.schema)
        if found is None:
            raise RegistryError("it took the schema and does not have it")
    if level is None:
        level = await _set_level(client, subject)
    return Registered(*subject, found.version, found.id, new, level)


async def _set_level(client: RegistryClient, subject: Subject) -> str:
    await client.set_compatibility(subject.name, LEVEL)
    return LEVEL
