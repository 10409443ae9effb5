"""The decoders of all input topics, and the table of them.

Tasks and calls are read in columns, all records of a batch at once; the others are few and read
one by one. Either way one broken record costs its neighbours nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from streams.call_codec import CallDecoder
from streams.decoding import Decoded
from streams.limits import END_OF_TIME
from streams.row_codec import (
    ChangeDecoder,
    ControlDecoder,
    ProfileDecoder,
    QueueDecoder,
    RecordDecoder,
    ReviewDecoder,
    SecurityDecoder,
)
from streams.task_codec import TaskDecoder

if TYPE_CHECKING:
    from streams import schemas
    from streams.batch import FetchedBatch
    from streams.settings import Settings

__all__ = (
    "END_OF_TIME",
    "CallDecoder",
    "ChangeDecoder",
    "ControlDecoder",
    "Decoded",
    "Decoder",
    "ProfileDecoder",
    "QueueDecoder",
    "RecordDecoder",
    "ReviewDecoder",
    "SecurityDecoder",
    "TaskDecoder",
    "decoders",
)


class Decoder(Protocol):
    """What decodes the batches of a topic."""

    def decode(self, batch: FetchedBatch) -> Decoded[Any]:
        """Decode all records of a batch."""


def decoders(
    settings: Settings, find: schemas.Find | None = None, partitions: int | None = None
) -> dict[str, Decoder]:
    """Return the decoder of each topic that others write, by its name without the prefix.

    Args:
        settings: partitions, partitioner, and what is kept of reviews.
        find: gives the schemas of other writers by frame; the built-in ones are always known.
        partitions: of the topics, where it is not that of the settings.
    """
    where: dict[str, Any] = {
        "partitions": partitions or settings.partitions,
        "partitioner": settings.partitioner,
        "find": find,
    }
    return {
        "tasks": TaskDecoder(**where),
        "calls": CallDecoder(**where),
        "security": SecurityDecoder(**where),
        "reviews": ReviewDecoder(**where, keep_reasons=settings.keep_review_reasons),
        "changes": ChangeDecoder(**where),
        "queues": QueueDecoder(**where),
        "profiles": ProfileDecoder(**where),
        "controls": ControlDecoder(find=find),
    }
