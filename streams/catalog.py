"""The schemas that values are written with, wherever they are made known.

A frame (see `schemas.frame_of`) names a schema. Built-in ones are known without asking; others come
from the topic `agentops.schemas`, by fingerprint, or from a schema registry, by id. What is known
once stays known: neither a fingerprint nor an id ever changes its meaning.

Whoever could know may be away. Then a look-up waits, and tries again with growing pauses; it never
ends by calling a schema unknown that nobody could be asked about.
"""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka.errors import KafkaError

from streams import schemas
from streams.metrics import Metrics
from streams.reasons import DeadLetterReason, LookUpOutcome
from streams.registry import RegistryClient, RegistryError, UnusableSchemaError
from streams.schema_topic import SchemaTopic, SchemaTopicError, parse
from streams.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from streams.schemas import Schema
    from streams.settings import Settings

log = structlog.get_logger(__name__)

BACKOFF = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds before the n-th try to reach a source that is away, about."""
MAX_ASKED = 64
"""Ids asked for one by one per look-up: a flood of invented ids must not keep the registry busy."""
MAX_KNOWN = 4096
"""Schemas remembered; more can only be invented."""
SUBJECTS = tuple(spec.suffix for spec in TOPICS if spec.record)
"""Topics whose subjects are read whole at every look-up, those of our own records as well: what is
WRONG_SCHEMA must not depend on how much else there is to ask."""


class _Source:
    """One place to ask, and since when it has been away."""

    def __init__(self, name: str, up: Callable[[float], None]) -> None:
        self._name = name
        self._up = up
        self._away_since: float | None = None

    def answers(self) -> None:
        """Note an answer; the first one after a silence is worth a line."""
        self._up(1)
        if self._away_since is not None:
            seconds = round(time.monotonic() - self._away_since, 1)
            self._away_since = None
            log.info("schemas.source_back", source=self._name, seconds=seconds)

    def is_away(self, error: Exception) -> None:
        """Note a silence; only its beginning is worth a line."""
        self._up(0)
        if self._away_since is None:
            self._away_since = time.monotonic()
            log.warning(
                "schemas.source_away",
                source=self._name,
                error=str(error),
                effect="partitions wait at records whose schema is not known yet; nothing is lost",
            )


class SchemaCatalog:
    """All schemas that are known to this process, and whom to ask for others.

    Args:
        settings: where topic and registry are.
        frames: what values of our own records start with, by record; single objects elsewhere.
        metrics: where look-ups and the registry's state are counted.
    """

    def __init__(
        self,
        settings: Settings,
        frames: Mapping[str, bytes] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._settings = settings
        self._frames = dict(frames or {})
        self._metrics = metrics or Metrics()
        self._known: dict[bytes, Schema | str] = {}
        self._versions: dict[str, set[int]] = {}
        for name, frame in self._frames.items():
            self._known[frame] = schemas.get(name)
        self._topic = SchemaTopic(settings)
        self._registry = RegistryClient.of(settings) if settings.registry_url else None
        self._broker_source = _Source(settings.topic("schemas"), lambda _: None)
        self._registry_source = _Source("schema registry", self._metrics.registry_up.set)
        # One asks, the others wait and may then find the answer there.
        self._asking_broker, self._asking_registry = asyncio.Lock(), asyncio.Lock()

    def find(self, frame: bytes) -> Schema | None:
        """Return the schema that a frame names, None where it is not known (yet).

        Raises:
            schemas.DecodeError: INCOMPATIBLE_SCHEMA: what is known under it cannot be used.
        """
        found = self._known.get(frame)
        if isinstance(found, str):
            raise schemas.DecodeError(DeadLetterReason.INCOMPATIBLE_SCHEMA, found)
        return found

    def encode(self, name: str, record: Mapping[str, Any]) -> bytes:
        """Encode one of our own records, in the framing that is in force here."""
        return schemas.encode(name, record, self._frames.get(name))

    async def look_up(self, frames: Collection[bytes]) -> None:
        """Ask for frames that are not known; return once everybody has answered.

        A schema that was made known before a record was written is found by a look-up after that
        record was read. Of ids that no subject of a topic of ours has, at most `MAX_ASKED` are
        asked for.
        """
        missing = [frame for frame in frames if frame not in self._known]
        marks = [frame for frame in missing if schemas.registry_id(frame) is None]
        ids = [frame for frame in missing if schemas.registry_id(frame) is not None]
        await asyncio.gather(self._look_up_marks(marks), self._look_up_ids(ids))
        for frame in missing:
            found = self._known.get(frame)
            outcome = LookUpOutcome.ABSENT if found is None else LookUpOutcome.FOUND
            outcome = LookUpOutcome.UNUSABLE if isinstance(found, str) else outcome
            self._metrics.look_ups.labels(outcome).inc()

    async def _look_up_marks(self, marks: Collection[bytes]) -> None:
        if not marks:
            return
        async with self._asking_broker:
            if any(frame not in self._known for frame in marks):
                await self._answered(self._broker_source, self._read_topic)

    async def _look_up_ids(self, ids: Collection[bytes]) -> None:
        if not ids or self._registry is None:
            return
        async with self._asking_registry:
            if any(frame not in self._known for frame in ids):
                await self._answered(self._registry_source, self._read_subjects)
            # Registries count from 1: the smallest ids are the least likely to be invented.
            for frame in sorted(frame for frame in ids if frame not in self._known)[:MAX_ASKED]:
                await self._answered(self._registry_source, partial(self._read_id, frame))

    async def close(self) -> None:
        """Let go of broker and registry; what is known stays."""
        await self._topic.close()
        if self._registry is not None:
            await self._registry.close()

    async def _answered(self, source: _Source, ask: Callable[[], Awaitable[None]]) -> None:
        """Ask until there is an answer."""
        attempt = 0
        while True:
            try:
                await ask()
            except (RegistryError, KafkaError, OSError, TimeoutError) as error:
                source.is_away(error)
                self._metrics.look_ups.labels(LookUpOutcome.AWAY).inc()
                pause = BACKOFF[min(attempt, len(BACKOFF) - 1)]
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))
                attempt += 1
            else:
                source.answers()
                return

    # -- the topic -------------------------------------------------------------------------

    async def _read_topic(self) -> None:
        for key, value in await self._topic.news():
            if value is None:
                continue  # deleted; whoever knows it may go on reading with it
            try:
                entry = parse(key, value)
            except SchemaTopicError as error:
                log.warning("schemas.ignored", reason=str(error))
                continue
            self._learn(entry.frame, entry)

    # -- the registry ----------------------------------------------------------------------

    async def _read_subjects(self) -> None:
        """Learn every version that the subjects of our topics have gained."""
        registry = self._registry
        assert registry is not None, "only called with one"  # noqa: S101
        for suffix in SUBJECTS:
            subject = f"{self._settings.topic(suffix)}-value"
            seen = self._versions.setdefault(subject, set())
            for version in await registry.versions(subject):
                if version not in seen:
                    found = await registry.version(subject, version)
                    if found is not None:
                        self._learn(schemas.registry_frame(found.id), found.schema)
                    seen.add(version)

    async def _read_id(self, frame: bytes) -> None:
        registry, number = self._registry, schemas.registry_id(frame)
        assert registry is not None, "only called with one"  # noqa: S101
        assert number is not None, "only called for ids"  # noqa: S101
        try:
            text = await registry.schema(number)
        except UnusableSchemaError as error:
            text = str(error)
        if text is not None:
            self._learn(frame, text)

    def _learn(self, frame: bytes, found: Schema | str) -> None:
        """Remember what a frame stands for: a schema, or the text of one that may be none."""
        if frame in self._known or len(self._known) >= MAX_KNOWN:
            return
        if isinstance(found, str):
            try:
                found = schemas.parse(found)
            # Whatever a registry holds under an id: it cannot be used, and says why.
            except ValueError as error:
                found = f"{schemas.label(frame)} cannot be used: {error}"[:300]
        self._known[frame] = found
        name = found if isinstance(found, str) else found.name
        log.info("schemas.learned", schema=schemas.label(frame), name=name)
