"""The stage *incidents*: findings and controls in; alerts, open alerts and retraining out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from streams import state
from streams.epoch import OutRecord
from streams.findings import Finding
from streams.incidents import Incidents
from streams.outputs import Outbox
from streams.reasons import AlertStatus
from streams.row_codec import ControlDecoder, RecordDecoder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from streams.alerts import Alert
    from streams.batch import FetchedBatch
    from streams.catalog import SchemaCatalog
    from streams.outputs import StateChange
    from streams.rules import RuleSet
    from streams.settings import Settings
    from streams.stage import StopReason


class FindingDesk(Protocol):
    """What else findings are turned into, beside alerts: retraining requests."""

    def fold(self, finding: Finding) -> list[dict[str, Any]]:
        """Take a finding, in the order of the topic; return RetrainingRequest records."""

    def changes(self) -> Iterable[StateChange]:
        """Return the state that changed since the last call."""

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of this desk."""

    def settle(self) -> None:
        """Count all that was restored as stored."""


class IncidentsCore:
    """Stage *incidents*, its one unit.

    Args:
        settings: topics and waits.
        rules: the rules.
        partition: number of the unit.
        catalog: whom to ask for schemas.
        desk: what else findings are turned into; None for nothing.
    """

    def __init__(
        self,
        settings: Settings,
        rules: RuleSet,
        partition: int,
        catalog: SchemaCatalog,
        desk: FindingDesk | None = None,
    ) -> None:
        name = settings.topic
        self._catalog = catalog
        self._desk = desk
        self._incidents = Incidents(rules.incidents)
        self._findings = RecordDecoder("Finding", catalog.find)
        self._controls = ControlDecoder(find=catalog.find)
        self._topics = {suffix: name(suffix) for suffix in ("alerts", "open-alerts", "retraining")}
        self._findings_topic, self._controls_topic = name("findings"), name("controls")
        self._outbox = Outbox(settings, partition)
        self._partition = partition
        self._idle_after = settings.idle_after
        self._requests: list[OutRecord] = []
        self._folded_at: float | None = None

    @property
    def urgent(self) -> bool:
        """Whether an alert or a request waits."""
        return self._incidents.urgent or bool(self._requests)

    @property
    def dirty(self) -> bool:
        """Whether there is anything to write."""
        return self._incidents.dirty or bool(self._requests or self._outbox.records)

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        """Take over the stored state.

        Raises:
            ValueError: a record is of another kind or version.
        """
        taken = set()
        if self._desk is not None:
            stored = state.decode(records.items())
            taken = {one.key for one in stored if self._desk.restore(one)}
            self._desk.settle()
        self._incidents.restore([item for item in records.items() if item[0] not in taken])

    def ready(self, batch: FetchedBatch, caught_up: Mapping[str, float]) -> bool:
        """Return whether all controls there are were read: findings wait for them.

        A control that was read too early waits in the incidents, so that these two together make
        the order in which the topics are read no matter.
        """
        return batch.topic != self._findings_topic or self._controls_topic in caught_up

    def part(self, batch: FetchedBatch) -> FetchedBatch:
        """Return all of it."""
        return batch

    def fold(self, batch: FetchedBatch, *, final: bool = False) -> Collection[bytes]:
        """Decode and fold one batch of findings or of controls."""
        fold = self._fold_controls if batch.topic == self._controls_topic else self._fold_findings
        missing = fold(batch, final)
        if not missing:
            self._folded_at = batch.fetched_at
        return missing

    def settle(self, caught_up: Mapping[str, float], wall: float) -> None:
        """Let the clock follow the wall where both topics are read to their ends for a while."""
        if self._folded_at is None:
            self._folded_at = wall
        ends = {self._findings_topic, self._controls_topic} <= caught_up.keys()
        if self._idle_after and ends and wall - self._folded_at >= self._idle_after:
            self._incidents.idle(int(wall * 1000))

    def drain(self) -> tuple[list[OutRecord], list[StateChange]]:
        """Return alerts, requests and dead letters, and the changed state."""
        drained = self._incidents.drain()
        records = self._outbox.take() + self._alert_records(drained.alerts) + self._requests
        self._requests = []
        changes = [] if self._desk is None else list(self._desk.changes())
        return records, [*drained.state, *changes]

    def halted(self, reason: StopReason, since_ms: int, resumed_ms: int | None) -> list[OutRecord]:
        """Return nothing: who would read the finding is the one that stopped."""
        del reason, since_ms, resumed_ms
        return []

    def _fold_findings(self, batch: FetchedBatch, final: bool) -> Collection[bytes]:
        decoded = self._findings.decode(batch)
        if decoded.unknown and not final:
            return decoded.unknown
        self._outbox.refuse(batch, decoded.refused)
        findings = [Finding.from_record(record) for record in decoded.value]
        self._incidents.fold(findings, batch.timestamps[decoded.rows].tolist())
        if self._desk is not None:
            for finding in findings:
                self._request(self._desk.fold(finding))
        return ()

    def _fold_controls(self, batch: FetchedBatch, final: bool) -> Collection[bytes]:
        decoded = self._controls.decode(batch)
        if decoded.unknown and not final:
            return decoded.unknown
        self._outbox.refuse(batch, decoded.refused)
        self._incidents.fold_controls(decoded.value)
        return ()

    def _request(self, requests: Iterable[Mapping[str, Any]]) -> None:
        for one in requests:
            value = self._catalog.encode("RetrainingRequest", one)
            key = str(one["request_id"]).encode()
            self._requests.append(OutRecord(self._topics["retraining"], 0, key, value))

    def _alert_records(self, alerts: list[Alert]) -> list[OutRecord]:
        """Return each alert for its topic, and the newest of each for the compacted one."""
        newest: dict[bytes, bytes | None] = {}
        records = []
        for alert in alerts:
            key = alert.alert_id.encode()
            value = self._catalog.encode("Alert", alert.to_record())
            records.append(OutRecord(self._topics["alerts"], 0, key, value))
            newest[key] = None if alert.status is AlertStatus.RESOLVED else value
        topic = self._topics["open-alerts"]
        return records + [OutRecord(topic, 0, key, value) for key, value in newest.items()]
