"""What the stages write, as records: which topic, partition and key each has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from streams.dead_letters import dead_letter
from streams.epoch import OutRecord
from streams.findings import Finding, finding_id
from streams.reasons import Transition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.batch import FetchedBatch, Refusal
    from streams.catalog import SchemaCatalog
    from streams.reasons import DeadLetterReason
    from streams.settings import Settings

StateChange = tuple[bytes, bytes | None]

_OF_SERIES = ("series", "tenant", "agent_id", "task_type", "model", "integration", "operation")
"""Fields of a Window record that say whose it is."""

_NOTHING = dict.fromkeys(
    (
        "automated",
        "escalated",
        "failed",
        "unknown",
        "cost_micro_usd",
        "duration_us",
        "input_tokens",
        "output_tokens",
        "cached_tokens",
    ),
    0,
)
"""Fields of a Window record that are 0 where a series does not count such things."""


class Outbox:
    """Dead letters that wait for the next epoch, and counts of what was refused.

    Args:
        settings: for the topic and the largest record.
        partition: that they go to.
    """

    def __init__(self, settings: Settings, partition: int) -> None:
        self.records: list[OutRecord] = []
        self.refused: Counter[DeadLetterReason] = Counter()
        self._topic = settings.topic("dead-letters")
        self._partition, self._max_bytes = partition, settings.max_record_bytes

    def refuse(self, batch: FetchedBatch, refusals: Sequence[Refusal]) -> None:
        """Queue a dead letter for each refusal of `batch`."""
        for refusal in refusals:
            self.refused[refusal.reason] += 1
            key, value, headers = dead_letter(batch, refusal, self._max_bytes)
            self.records.append(OutRecord(self._topic, self._partition, key, value, headers))

    def take(self) -> list[OutRecord]:
        """Return and forget the waiting records."""
        records, self.records = self.records, []
        return records


class Outputs:
    """Makes the records of one unit.

    Args:
        settings: for the names of topics.
        catalog: encodes.
        partition: of the unit; what is written to topics of N partitions goes there.
    """

    def __init__(self, settings: Settings, catalog: SchemaCatalog, partition: int) -> None:
        self._name = settings.topic
        self._catalog = catalog
        self._partition = partition

    def finding(self, finding: Finding) -> OutRecord:
        """Return the record of a finding; its key is its fingerprint."""
        value = self._catalog.encode("Finding", finding.to_record())
        return OutRecord(self._name("findings"), 0, finding.fingerprint.encode(), value)

    def stopped(self, why: str, since_ms: int, resumed_ms: int | None) -> OutRecord:
        """Return the record that this partition stands still, or goes on again.

        Args:
            why: the reason, which becomes the finding's kind.
            since_ms: when it stopped, ms.
            resumed_ms: when it went on; None while it stands still.
        """
        finding = Finding.partition_stopped(self._partition, why, since_ms)
        if resumed_ms is not None:
            finding = replace(
                finding,
                finding_id=finding_id(finding.alert_id, Transition.RESOLVED, resumed_ms),
                transition=Transition.RESOLVED,
                at=resumed_ms,
            )
        return self.finding(finding)

    def window(self, window: Mapping[str, Any]) -> OutRecord:
        """Return the record of a closed hour."""
        value = self._catalog.encode("Window", {**_NOTHING, **window})
        return OutRecord(self._name("windows"), self._partition, window_key(window), value)

    def partial(self, home: int, record: Mapping[str, Any]) -> OutRecord:
        """Return the record of what this partition adds to entities of another."""
        value = self._catalog.encode("Partials", record)
        return OutRecord(self._name("partials"), home, str(self._partition).encode(), value)

    def training_signal(self, signal: Mapping[str, Any]) -> OutRecord:
        """Return the record of a review to learn from; its key is the review."""
        value = self._catalog.encode("TrainingSignal", signal)
        key = str(signal["review_event_id"]).encode()
        return OutRecord(self._name("training-signals"), 0, key, value)


def window_key(window: Mapping[str, Any]) -> bytes:
    """Return the key of a Window record: whose it is and when, so that revisions replace.

    >>> window_key({"agent_id": "a", "task_type": "t", "window_start": 0})
    b'TASKS||a|t||||0'
    """
    parts = [str(window.get("series", "TASKS"))]
    parts += [window.get(name) or "" for name in _OF_SERIES[1:]]
    if window.get("contract_test"):
        parts[-1] += "|contract-test"
    return "|".join([*parts, str(window["window_start"])]).encode()
