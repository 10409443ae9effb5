"""What the values of our own records start with: found out once, before a worker joins the group.

Without a schema registry they are single objects. With one they carry the id their schema has in
the subject `TOPIC-value`; a worker that starts while the registry is away waits, and owns nothing.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import structlog

from streams import schemas
from streams.catalog import BACKOFF
from streams.registry import RegistryAwayError, RegistryClient, RegistryError

if TYPE_CHECKING:
    from streams.metrics import Metrics
    from streams.settings import Settings

log = structlog.get_logger(__name__)

OUTPUTS = {
    "Finding": "findings",
    "Window": "windows",
    "Alert": "alerts",
    "RetrainingRequest": "retraining",
    "TrainingSignal": "training-signals",
    "Partials": "partials",
}
"""Our own records and the topics they are on."""


class FramesError(RuntimeError):
    """A schema of ours cannot be had from the registry; the message says what to do."""


async def wait_for_frames(settings: Settings, metrics: Metrics) -> dict[str, bytes]:
    """Return the frame of each of our records, {} without a registry.

    Raises:
        FramesError: the registry answers, but refuses a schema or does not have it.
    """
    if settings.registry_url is None:
        return {}
    attempt = 0
    async with RegistryClient.of(settings) as registry:
        while True:
            try:
                found = {
                    name: schemas.registry_frame(await _id(registry, settings, name))
                    for name in OUTPUTS
                }
            except RegistryAwayError as error:
                metrics.registry_up.set(0)
                if not attempt:
                    log.warning("registry.waiting", url=settings.registry_url, error=str(error))
                await asyncio.sleep(BACKOFF[min(attempt, len(BACKOFF) - 1)])
                attempt += 1
            else:
                metrics.registry_up.set(1)
                if attempt:
                    log.info("registry.answers", url=settings.registry_url)
                return found


async def _id(registry: RegistryClient, settings: Settings, name: str) -> int:
    subject = f"{settings.topic(OUTPUTS[name])}-value"
    text = json.dumps(schemas.schema(name))
    try:
        found = await registry.find(subject, text)
        if found is not None:
            return found.id
        if settings.registry_register:
            return await registry.register(subject, text)
    except RegistryAwayError:
        raise
    except RegistryError as error:
        raise FramesError(
            f"The schema registry does not take {name} as subject {subject}: {error}"
        ) from error
    raise FramesError(
        f"Subject {subject} does not have this version of {name}, and registry_register is off. "
        "Run `agentops-streams schemas register`."
    )
