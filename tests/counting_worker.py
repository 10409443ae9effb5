"""A worker whose core only counts: the smallest job on which exactly once can be seen.

Each task record gets the next number of its partition, and is written to the windows topic as
``number,offset``. Lost records leave a gap in the offsets, repeated ones a second line, and a
wrong state a wrong number. Run as a process of its own by `worker_rig`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from streams import settings as settings_module
from streams.epoch import OutRecord
from streams.stage import Stage, StopReason
from streams.worker import configure_logging, serve, wait_for_broker

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from streams.batch import FetchedBatch
    from streams.settings import Settings


class CountingCore:
    """Counts records; its whole state is one number."""

    urgent = False

    def __init__(self, settings: Settings, partition: int) -> None:
        self._topic = settings.topic("windows")
        self._findings = settings.topic("findings")
        self._partition = partition
        self._count = 0
        self._out: list[OutRecord] = []

    @property
    def dirty(self) -> bool:
        return bool(self._out)

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        self._count = int(records.get(b"count", b"0"))

    def ready(self, batch: FetchedBatch, caught_up: Mapping[str, float]) -> bool:
        """Return True: no topic waits for another."""
        del batch, caught_up
        return True

    def part(self, batch: FetchedBatch) -> FetchedBatch:
        """Return all of it."""
        return batch

    def fold(self, batch: FetchedBatch, *, final: bool = False) -> Collection[bytes]:
        del final
        for offset, value in zip(batch.offsets, batch.values, strict=True):
            self._count += 1
            line = b"%d,%d,%s" % (self._count, offset, (value or b"")[:16])
            self._out.append(OutRecord(self._topic, self._partition, b"%d" % offset, line))
        return ()

    def settle(self, caught_up: Mapping[str, float], wall: float) -> None:
        pass

    def drain(self) -> tuple[list[OutRecord], list[tuple[bytes, bytes | None]]]:
        out, self._out = self._out, []
        return out, [(b"count", b"%d" % self._count)]

    def halted(self, reason: StopReason, since_ms: int, resumed_ms: int | None) -> list[OutRecord]:
        line = f"{reason} {since_ms} {'stopped' if resumed_ms is None else 'resumed'}"
        return [OutRecord(self._findings, 0, b"halted", line.encode())]


def main() -> int:
    settings = settings_module.load()
    configure_logging(settings)
    limits = asyncio.run(wait_for_broker(settings))
    topic = settings.topic
    stage = Stage(
        name="detect",
        topics=tuple(map(topic, ("tasks", "calls", "security"))),
        reads=(topic("tasks"),),
        writes=(topic("windows"),),
        state_topic=topic("state"),
        partitions=settings.partitions,
        make_core=lambda partition: CountingCore(settings, partition),
    )
    return serve(settings, (stage,), limits)


if __name__ == "__main__":
    sys.exit(main())
