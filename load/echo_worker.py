"""A worker that writes what its decoders give: every row with all columns, every refusal.

The real worker process, transport, units and decoders around a core that computes nothing. It
writes a JSON line for some thousand records of a fetched batch, in the order of their offsets.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import astuple, fields
from typing import TYPE_CHECKING, Any

from streams import settings as settings_module
from streams.catalog import SchemaCatalog
from streams.codec import SecurityDecoder, TaskDecoder
from streams.columns import DictColumn, Ragged
from streams.epoch import OutRecord
from streams.stage import Stage, StopReason
from streams.worker import configure_logging, serve, wait_for_broker

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from streams.batch import FetchedBatch
    from streams.codec import Decoded
    from streams.columns import CallColumns, SecurityEvent, TaskColumns
    from streams.settings import Settings

ECHO, ECHO_STATE = "echo", "echo-state"
"""Topics without the prefix; both have as many partitions as the inputs."""
LINE = 2_000
"""Most rows of a line."""


class EchoCore:
    """Writes rows and refusals; its only state is its position."""

    urgent = False

    def __init__(self, settings: Settings, partition: int, catalog: SchemaCatalog) -> None:
        """Make the core of one partition."""
        count, find = settings.partitions, catalog.find
        self._tasks = TaskDecoder(partitions=count, partitioner=settings.partitioner, find=find)
        self._security = SecurityDecoder(
            partitions=count, partitioner=settings.partitioner, find=find
        )
        self._prefix = settings.topic_prefix
        self._partition = partition
        self._out: list[OutRecord] = []

    @property
    def dirty(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._out)

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        """Take over nothing."""

    def ready(self, batch: FetchedBatch, caught_up: Mapping[str, float]) -> bool:
        """Wait for nothing."""
        del batch, caught_up
        return True

    def part(self, batch: FetchedBatch) -> FetchedBatch:
        """Return all of it."""
        return batch

    def fold(self, batch: FetchedBatch, *, final: bool = False) -> Collection[bytes]:
        """Decode a batch and write what it gave."""
        stream = batch.topic.removeprefix(self._prefix)
        decoded: Decoded[Any] = (self._tasks if stream == "tasks" else self._security).decode(batch)
        if decoded.unknown and not final:
            return decoded.unknown
        rows = columns_of(decoded.value) if stream == "tasks" else events_of(decoded.value)
        lines: list[tuple[int, Any]] = list(
            zip(batch.offsets[decoded.rows].tolist(), rows, strict=True)
        )
        lines += [(int(batch.offsets[each.index]), str(each.reason)) for each in decoded.refused]
        lines.sort(key=lambda line: line[0])
        for first in range(0, len(lines), LINE):
            text = json.dumps(lines[first : first + LINE], ensure_ascii=False)
            self._out.append(
                OutRecord(self._prefix + ECHO, self._partition, stream.encode(), text.encode())
            )
        return ()

    def settle(self, caught_up: Mapping[str, float], wall: float) -> None:
        """Do nothing: there is no clock."""

    def drain(self) -> tuple[list[OutRecord], list[tuple[bytes, bytes | None]]]:
        """Return the lines."""
        out, self._out = self._out, []
        return out, []

    def halted(self, reason: StopReason, since_ms: int, resumed_ms: int | None) -> list[OutRecord]:
        """Return nothing: the log says it."""
        del reason, since_ms, resumed_ms
        return []


def columns_of(columns: TaskColumns | CallColumns) -> Sequence[tuple[Any, ...]]:
    """Return tasks or calls row by row, all columns in their order; None for a NaN."""
    return list(zip(*(_list(getattr(columns, each.name)) for each in fields(columns)), strict=True))


def _list(column: Any) -> list[Any]:
    if isinstance(column, DictColumn | Ragged):
        return list(column.to_list())
    found: list[Any] = column.tolist()
    return [None if each != each else each for each in found]  # noqa: PLR0124 - a NaN


def events_of(events: Sequence[SecurityEvent]) -> Sequence[tuple[Any, ...]]:
    """Return security events row by row, all fields in their order."""
    return [astuple(event) for event in events]


def main() -> int:
    """Run the worker until it is asked to stop; return its exit code."""
    settings = settings_module.load()
    configure_logging(settings)
    limits = asyncio.run(wait_for_broker(settings))
    topics = (settings.topic("tasks"), settings.topic("security"))
    catalog = SchemaCatalog(settings)
    stage = Stage(
        name="echo",
        topics=topics,
        reads=topics,
        writes=(settings.topic_prefix + ECHO,),
        state_topic=settings.topic_prefix + ECHO_STATE,
        partitions=settings.partitions,
        make_core=lambda partition: EchoCore(settings, partition, catalog),
    )
    return serve(settings, (stage,), limits, catalog)


if __name__ == "__main__":
    sys.exit(main())
