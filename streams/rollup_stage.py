"""Stage *roll-up*: partials in; findings and windows of what spans partitions out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.batch import Refusal
from streams.codec import RecordDecoder
from streams.outputs import Outbox, Outputs
from streams.reasons import DeadLetterReason
from streams.sections import roll_up

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from streams.batch import FetchedBatch
    from streams.catalog import SchemaCatalog
    from streams.epoch import OutRecord
    from streams.outputs import StateChange
    from streams.rules import RuleSet
    from streams.settings import Settings
    from streams.stage import StopReason


class RollUpCore:
    """Stage *roll-up*, one partition."""

    def __init__(
        self, settings: Settings, rules: RuleSet, partition: int, catalog: SchemaCatalog
    ) -> None:
        """Make an empty core for `partition`."""
        self._partials = RecordDecoder("Partials", catalog.find)
        self._core = roll_up(
            rules,
            max_series=settings.max_series,
            sources=settings.partitions,
            source=(settings.topic("partials"), partition),
        )
        self._outputs = Outputs(settings, catalog, partition)
        self._outbox = Outbox(settings, partition)
        self._partition = partition

    @property
    def urgent(self) -> bool:
        """Whether a finding waits."""
        return self._core.urgent

    @property
    def dirty(self) -> bool:
        """Whether there is anything to write."""
        return self._core.dirty or bool(self._outbox.records)

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        """Take over the stored state."""
        self._core.restore(records.items())

    def ready(self, batch: FetchedBatch, caught_up: Mapping[str, float]) -> bool:
        """Return True: there is but one topic."""
        del batch, caught_up
        return True

    def part(self, batch: FetchedBatch) -> FetchedBatch:
        """Return all of it."""
        return batch

    def fold(self, batch: FetchedBatch, *, final: bool = False) -> Collection[bytes]:
        """Take partials; evaluate the ticks that are complete with them."""
        decoded = self._partials.decode(batch)
        if decoded.unknown and not final:
            return decoded.unknown
        self._outbox.refuse(batch, decoded.refused)
        wrong = self._core.fold(decoded.value, batch.offsets[decoded.rows])
        refusals = [
            Refusal(int(decoded.rows[place]), DeadLetterReason.INVALID_FIELD, why)
            for place, why in wrong
        ]
        self._outbox.refuse(batch, refusals)
        return ()

    def settle(self, caught_up: Mapping[str, float], wall: float) -> None:
        """Do nothing: the clocks come with the partials."""

    def drain(self) -> tuple[list[OutRecord], list[StateChange]]:
        """Return findings, windows and dead letters, and the changed state."""
        drained = self._core.drain()
        records = self._outbox.take()
        records += map(self._outputs.finding, drained.findings)
        records += map(self._outputs.window, drained.windows)
        return records, drained.state

    def halted(self, reason: StopReason, since_ms: int, resumed_ms: int | None) -> list[OutRecord]:
        """Return the finding that this partition stands still, or goes on again."""
        return [self._outputs.stopped(f"rollup {reason}", since_ms, resumed_ms)]
