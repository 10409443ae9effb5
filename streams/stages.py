"""The stages of the dataflow: codecs at the rim, a pure core in the middle.

A stage's core takes fetched batches and gives back records to write. What it computes is in
`streams.detect` and `streams.incidents`; here bytes become columns and findings become bytes.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from streams.codec import RecordDecoder, SecurityDecoder, TaskDecoder
from streams.dead_letters import dead_letter
from streams.detect import Detect
from streams.epoch import OutRecord
from streams.findings import Finding, finding_id
from streams.incidents import Incidents
from streams.reasons import Transition

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from streams.batch import FetchedBatch, Refusal
    from streams.catalog import SchemaCatalog
    from streams.reasons import DeadLetterReason
    from streams.rules import RuleSet
    from streams.settings import Settings
    from streams.stage import StopReason

StateChange = tuple[bytes, bytes | None]


class ClockSample(NamedTuple):
    """The tasks clock after a batch, and when that batch was fetched."""

    fetched_at: float
    clock: int


class _Outbox:
    """Records that wait for the next epoch, and counts of what was refused."""

    def __init__(self, dead_letters: str, partition: int, max_bytes: int) -> None:
        self.records: list[OutRecord] = []
        self.refused: Counter[DeadLetterReason] = Counter()
        self._dead_letters = dead_letters
        self._partition = partition
        self._max_bytes = max_bytes

    def refuse(self, batch: FetchedBatch, refusals: Sequence[Refusal]) -> None:
        """Queue a dead letter for each refusal of `batch`."""
        for refusal in refusals:
            self.refused[refusal.reason] += 1
            key, value, headers = dead_letter(batch, refusal, self._max_bytes)
            self.records.append(OutRecord(self._dead_letters, self._partition, key, value, headers))

    def take(self) -> list[OutRecord]:
        """Return and forget the waiting records."""
        records, self.records = self.records, []
        return records


class DetectCore:
    """Stage *detect*, one partition: events in, findings, windows and dead letters out."""

    def __init__(
        self, settings: Settings, rules: RuleSet, partition: int, catalog: SchemaCatalog
    ) -> None:
        """Make an empty core for `partition`."""
        name = settings.topic
        self._detect = Detect(
            rules,
            partition=partition,
            max_series=settings.max_series,
            tasks_topic=name("tasks"),
            security_topic=name("security"),
        )
        self._catalog = catalog
        count, partitioner = settings.partitions, settings.partitioner
        self._tasks = TaskDecoder(partitions=count, partitioner=partitioner, find=catalog.find)
        self._security = SecurityDecoder(
            partitions=count, partitioner=partitioner, find=catalog.find
        )
        self._fold: dict[str, Callable[[FetchedBatch, bool], Collection[bytes]]] = {
            name("tasks"): self._fold_tasks,
            name("security"): self._fold_security,
        }
        self._security_topic, self._tasks_topic = name("security"), name("tasks")
        self._findings_topic, self._windows_topic = name("findings"), name("windows")
        self._outbox = _Outbox(name("dead-letters"), partition, settings.max_record_bytes)
        self._partition = partition
        self._idle_after = settings.idle_after
        self._fetch_wait = settings.fetch_wait_ms / 1000.0
        self._samples: deque[ClockSample] = deque(maxlen=4096)
        self._folded_at = 0.0
        self._settled = False

    @property
    def urgent(self) -> bool:
        """Whether a finding waits."""
        return self._detect.urgent

    @property
    def dirty(self) -> bool:
        """Whether there is anything to write."""
        return self._detect.dirty or bool(self._outbox.records)

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        """Take over the stored state."""
        self._detect.restore(records.items())

    def fold(self, batch: FetchedBatch, *, final: bool = False) -> Collection[bytes]:
        """Decode, admit, fold and evaluate one batch of any input topic."""
        if not len(batch):
            return ()
        missing = self._fold[batch.topic](batch, final)
        if not missing:
            self._folded_at = batch.fetched_at
        return missing

    def _fold_tasks(self, batch: FetchedBatch, final: bool) -> Collection[bytes]:
        decoded = self._tasks.decode(batch)
        if decoded.unknown and not final:
            return decoded.unknown
        self._outbox.refuse(batch, decoded.refused)
        rows = decoded.rows
        refused = self._detect.fold_tasks(
            decoded.value, batch.offsets[rows], batch.timestamps[rows]
        )
        self._outbox.refuse(batch, _at(rows, refused))
        self._sample(batch.fetched_at)
        return ()

    def _sample(self, fetched_at: float) -> None:
        """Remember that the tasks clock stood where it stands by then."""
        if (clock := self._detect.clocks.get("tasks")) is not None:
            self._samples.append(ClockSample(fetched_at, clock))

    def _fold_security(self, batch: FetchedBatch, final: bool) -> Collection[bytes]:
        decoded = self._security.decode(batch)
        if decoded.unknown and not final:
            return decoded.unknown
        self._outbox.refuse(batch, decoded.refused)
        rows = decoded.rows
        refused = self._detect.fold_security(
            decoded.value, batch.offsets[rows], batch.timestamps[rows]
        )
        self._outbox.refuse(batch, _at(rows, refused))
        return ()

    def settle(self, caught_up: Mapping[str, float], wall: float) -> None:
        """Move quiet lives and idle clocks, where the topics' ends allow it.

        Security is known to be quiet up to a tasks clock when a fetch that began after that clock
        was set found the security partition at its end; a fetch lasts at most `fetch_wait_ms`.
        """
        if not self._settled:
            # The clock of a restored state was set by records fetched before now.
            self._settled = True
            self._folded_at = self._folded_at or wall
            self._sample(wall)
        answered = caught_up.get(self._security_topic)
        quiet: int | None = None
        while (
            answered and self._samples and self._samples[0].fetched_at + self._fetch_wait < answered
        ):
            quiet = self._samples.popleft().clock
        if quiet is not None:
            self._detect.quiet(quiet)
        if (
            self._idle_after
            and len(caught_up) == len(self._fold)
            and wall - self._folded_at >= self._idle_after
        ):
            self._detect.idle(int(wall * 1000))

    def drain(self) -> tuple[list[OutRecord], list[StateChange]]:
        """Return findings, windows and dead letters, and the changed state."""
        drained = self._detect.drain()
        records = self._outbox.take()
        records += [self._finding_record(finding) for finding in drained.findings]
        records += [self._window_record(window) for window in drained.windows]
        return records, drained.state

    def _window_record(self, window: Mapping[str, object]) -> OutRecord:
        owner = (
            window["agent_id"]
            if window["tenant"] is None
            else f"{window['tenant']}/{window['agent_id']}"
        )
        key = f"{owner}|{window['task_type']}|{window['window_start']}".encode()
        return OutRecord(
            self._windows_topic, self._partition, key, self._catalog.encode("Window", window)
        )

    def _finding_record(self, finding: Finding) -> OutRecord:
        value = self._catalog.encode("Finding", finding.to_record())
        return OutRecord(self._findings_topic, 0, finding.fingerprint.encode(), value)

    def halted(self, reason: StopReason, since_ms: int, resumed_ms: int | None) -> list[OutRecord]:
        """Return the finding that this partition stands still, or goes on again."""
        finding = Finding.partition_stopped(self._partition, str(reason), since_ms)
        if resumed_ms is not None:
            finding = replace(
                finding,
                finding_id=finding_id(finding.alert_id, Transition.RESOLVED, resumed_ms),
                transition=Transition.RESOLVED,
                at=resumed_ms,
            )
        return [self._finding_record(finding)]


class IncidentsCore:
    """Stage *incidents*: findings in, alerts out."""

    def __init__(self, settings: Settings, partition: int, catalog: SchemaCatalog) -> None:
        """Make an empty core."""
        name = settings.topic
        self._catalog = catalog
        self._incidents = Incidents()
        self._findings = RecordDecoder("Finding", catalog.find)
        self._alerts_topic = name("alerts")
        self._outbox = _Outbox(name("dead-letters"), partition, settings.max_record_bytes)
        self._partition = partition
        self._alerts: list[OutRecord] = []
        self._state: list[StateChange] = []

    @property
    def urgent(self) -> bool:
        """Whether an alert waits."""
        return bool(self._alerts)

    @property
    def dirty(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._alerts or self._state or self._outbox.records)

    def restore(self, records: Mapping[bytes, bytes]) -> None:
        """Take over the open alerts."""
        self._incidents.restore(records.items())

    def fold(self, batch: FetchedBatch, *, final: bool = False) -> Collection[bytes]:
        """Turn findings into alerts."""
        decoded = self._findings.decode(batch)
        if decoded.unknown and not final:
            return decoded.unknown
        self._outbox.refuse(batch, decoded.refused)
        self._incidents.fold([Finding.from_record(record) for record in decoded.value])
        alerts, state = self._incidents.drain()
        self._state += state
        self._alerts += [
            OutRecord(
                self._alerts_topic,
                self._partition,
                alert.alert_id.encode(),
                self._catalog.encode("Alert", alert.to_record()),
            )
            for alert in alerts
        ]
        return ()

    def settle(self, caught_up: Mapping[str, float], wall: float) -> None:
        """Do nothing: incidents has no clock of its own yet."""

    def drain(self) -> tuple[list[OutRecord], list[StateChange]]:
        """Return alerts and the changed state."""
        records, self._alerts = self._alerts, []
        state, self._state = self._state, []
        return self._outbox.take() + records, state

    def halted(self, reason: StopReason, since_ms: int, resumed_ms: int | None) -> list[OutRecord]:
        """Return nothing: who would read the finding is the one that stopped."""
        del reason, since_ms, resumed_ms
        return []


def _at(rows: object, refusals: Sequence[Refusal]) -> list[Refusal]:
    """Translate refusals of decoded rows into refusals of batch records."""
    from streams.batch import Refusal  # noqa: PLC0415

    return [Refusal(int(rows[r.index]), r.reason, r.detail) for r in refusals]  # type: ignore[index]
