"""Schemas for somebody who reads along: asked for once, and not waited for like a worker does."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from streams import schemas
from streams.catalog import SchemaCatalog

if TYPE_CHECKING:
    from typing import Self

    from streams.settings import Settings

MAX_ASKED = 256
"""Schemas asked for: more of them are invented ones."""


class CatalogReader:
    """Finds the schemas of values, and looks them up where they are not known.

    Each frame is asked for once: a reader does not wait for somebody who does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._catalog = SchemaCatalog(settings)
        self._patience = 2 * settings.registry_timeout
        self._asked: set[bytes] = set()

    async def find_for(self, value: bytes | None) -> schemas.Find:
        """Return what finds the schema of a value, after asking for it if need be."""
        with suppress(schemas.DecodeError, TimeoutError):
            frame = schemas.frame_of(value or b"")
            new = frame not in self._asked and len(self._asked) < MAX_ASKED
            if new and schemas.find_by(frame, self._catalog.find) is None:
                self._asked.add(frame)
                async with asyncio.timeout(self._patience):
                    await self._catalog.look_up([frame])
        return self._catalog.find

    async def __aenter__(self) -> Self:
        """Return it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of broker and registry."""
        await self._catalog.close()
