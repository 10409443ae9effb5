"""What two workers made of fuzzed records, against what the reference says of each.

The real worker's dead letters and windows, and the echo worker's rows. Lanes are made once more and
gone through in log order; nothing that a worker says decides what is asked.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro

from load.mutations import HOUR
from load.oracle import SUMS
from load.proof import SCHEMAS
from load.reference import Gate, framing, plain_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from load.lanes import Fuzzed, Headers, Lane
    from load.proof import LogRecord
    from load.reference import Reference, Row

ACCEPTED = "ACCEPTED"
GOOD = "GOOD"
SHOWN = 200
"""Problems written down in full; more are only counted."""

Series = tuple[Any, ...]
_SERIES = ("tenant", "agent_id", "task_type", "model", "window_start")


@dataclass(slots=True)
class Findings:
    """What judging found.

    Attributes:
        verdicts: records by (mutation or GOOD, reason or ACCEPTED), as the reference says.
        letters: dead letters found by reason.
        kinds: problems by kind.
        problems: the first of them, a sentence each.
        rows: rows compared field by field.
        windows: windows compared.
        series: most series of a partition.
    """

    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    rows: int = 0
    windows: int = 0
    series: int = 0

    def problem(self, kind: str, text: str) -> None:
        """Write down that something is not as it must be."""
        self.kinds[kind] += 1
        if len(self.problems) < SHOWN:
            self.problems.append(f"{kind}: {text}")

    @property
    def refused(self) -> Counter[str]:
        """Records that must be refused, by reason."""
        found: Counter[str] = Counter()
        for (_, reason), count in self.verdicts.items():
            if reason != ACCEPTED:
                found[reason] += count
        return found


@dataclass(slots=True)
class Said:
    """What one partition says.

    Attributes:
        letters: dead letters by (topic without prefix, offset).
        windows: values of windows.
        echo: lines of the echo worker by topic without prefix.
    """

    letters: dict[tuple[str, int], LogRecord] = field(default_factory=dict)
    windows: list[LogRecord] = field(default_factory=list)
    echo: dict[str, list[bytes]] = field(default_factory=lambda: defaultdict(list))

    def take(self, log: LogRecord, prefix: str, findings: Findings) -> None:
        """Sort in a record of an output topic."""
        name = log.topic.removeprefix(prefix)
        if name == "windows":
            self.windows.append(log)
        elif name == "echo":
            self.echo[(log.key or b"").decode()].append(log.value or b"")
        else:
            headers = {name: value or b"" for name, value in log.headers}
            at = headers["topic"].decode().removeprefix(prefix), int(headers["offset"])
            if at in self.letters:
                findings.problem("dead letter twice", str(at))
            self.letters[at] = log
            findings.letters[headers["reason"].decode()] += 1


class Judge:
    """Compares what is said with what must be said, one partition after the other.

    Args:
        reference: what must become of single records.
        max_series: the workers' bound on series.
        prefix: topic prefix.
    """

    def __init__(self, reference: Reference, max_series: int, prefix: str) -> None:
        self.findings = Findings()
        self._reference = reference
        self._max_series = max_series
        self._prefix = prefix

    def partition(self, lanes: Sequence[Lane], said: Said) -> None:
        """Judge the lanes of one partition."""
        for lane in lanes:
            sums: dict[Series, list[int]] = {}
            self._lane(lane, said, sums)
            if lane.stream == "tasks":
                self._windows(sums, said.windows, lane.end // HOUR * HOUR)
        for at in said.letters:
            self.findings.problem("dead letter of nothing", str(at))

    def _lane(self, lane: Lane, said: Said, sums: dict[Series, list[int]]) -> None:
        gate = Gate(lane.stream, self._max_series)
        echo = _Echo(said.echo[lane.stream])
        reference, offset = self._reference, -1
        for batch in lane.batches():
            for record in batch.records:
                offset += 1
                verdict = reference.judge(lane.stream, lane.partition, record.key, record.value)
                where = f"{lane.stream}/{lane.partition}@{offset}"
                self._sound(where, record, verdict.row)
                expected = verdict.reason if verdict.row is None else list(verdict.row)
                if (found := echo.at(offset)) != expected:
                    text = f"{where} {_brief(record)} gave {found!r}, expected {expected!r}"
                    self.findings.problem("row", text)
                self.findings.rows += verdict.row is not None
                reason = verdict.reason
                if verdict.row is not None:
                    reason = gate.refuses(verdict.row, record.timestamp)
                self.findings.verdicts[record.mutation or GOOD, reason or ACCEPTED] += 1
                letter = said.letters.pop((lane.stream, offset), None)
                self._letter(where, record, reason, letter)
                if reason is None and lane.stream == "tasks":
                    _add(sums, verdict.row or ())
        self.findings.series = max(self.findings.series, len(gate))
        for at, line in echo.rest():
            self.findings.problem("row", f"{lane.stream}/{lane.partition}@{at} extra: {line!r}")

    def _sound(self, where: str, record: Fuzzed, row: Row | None) -> None:
        """Check that the reference takes a good record for what was sent."""
        if record.mutation is None and row != record.row:
            text = f"{where} {_brief(record)}: {row!r}, sent was {record.row!r}"
            self.findings.problem("the reference itself", text)

    def _letter(
        self, where: str, record: Fuzzed, reason: str | None, letter: LogRecord | None
    ) -> None:
        problem = self.findings.problem
        if letter is None:
            if reason is not None:
                problem("dead letter missing", f"{where} {_brief(record)} must be {reason}")
            return
        if reason is None:
            problem("dead letter of a good record", f"{where} {_brief(record)}: {letter.headers}")
            return
        for name, expected, found in _differences(record, reason, letter):
            text = f"{where} {_brief(record)}: {name} is {found!r:.200}, expected {expected!r:.200}"
            problem("dead letter changed", text)

    def _windows(
        self, sums: dict[Series, list[int]], windows: Sequence[LogRecord], open_hour: int
    ) -> None:
        newest: dict[Series, list[int]] = {}
        revisions: Counter[Series] = Counter()
        for log in windows:
            record = _window(log.value or b"")
            if record["series"] != "TASKS":
                continue
            series = tuple(record[name] for name in _SERIES)
            revisions[series] += 1
            if record["revision"] != revisions[series]:
                text = f"{series}: revision {record['revision']} is number {revisions[series]}"
                self.findings.problem("window revision", text)
            newest[series] = [record[name] for name in SUMS]
        closed = {series: adds for series, adds in sums.items() if series[-1] != open_hour}
        self.findings.windows += len(closed)
        for series in closed.keys() | newest.keys():
            expected, found = closed.get(series), newest.get(series)
            if expected != found:
                self.findings.problem("window", f"{series}: {found}, expected {expected}")


class _Echo:
    """The echo worker's lines of one lane, one record after the other."""

    def __init__(self, lines: Sequence[bytes]) -> None:
        self._records: Iterator[tuple[int, Any]] = (
            (at, said) for line in lines for at, said in json.loads(line)
        )
        self._next: tuple[int, Any] | None = next(self._records, None)

    def at(self, offset: int) -> Any:
        """Return what is said of a record, None where it is not the next one spoken of."""
        if self._next is None or self._next[0] != offset:
            return None
        said = self._next[1]
        self._next = next(self._records, None)
        return said

    def rest(self) -> Iterator[tuple[int, Any]]:
        """Yield what nobody asked for."""
        if self._next is not None:
            yield self._next
            yield from self._records


def _add(sums: dict[Series, list[int]], row: Row) -> None:
    at, outcome, cost, duration, *tokens, tenant, agent, task_type, model, _, _ = row
    hour = at // HOUR * HOUR
    pane = sums.setdefault((tenant, agent, task_type, model, hour), [0] * len(SUMS))
    pane[min(3, outcome)] += 1
    for index, value in enumerate((cost, duration, *tokens), 4):
        pane[index] += value


def _differences(record: Fuzzed, reason: str, letter: LogRecord) -> Iterator[tuple[str, Any, Any]]:
    """Yield (what, expected, found) where a dead letter is not what it must be."""
    headers = dict(letter.headers)
    yield from _unequal("reason", reason.encode(), headers.get("reason"))
    yield from _unequal("timestamp", str(record.timestamp).encode(), headers.get("timestamp"))
    yield from _unequal("key", record.key, letter.key)
    if reason == "OVERSIZE":
        size = str(len(record.value or b"")).encode()
        yield from _unequal("cut", size, headers.get("cut"))
        begins = (record.value or b"").startswith(letter.value or b"?")
        yield from _unequal("value", "a beginning", "a beginning" if begins else "another")
    else:
        yield from _unequal("value", record.value, letter.value)
    carried = tuple(each for each in letter.headers if each[0].startswith("header."))
    yield from _unequal("headers", carried_headers(record.headers), carried)


def carried_headers(headers: Headers) -> tuple[tuple[str, bytes | None], ...]:
    """Return a record's own headers as its dead letter must have them."""
    names = [name.decode(errors="backslashreplace") for name, _ in headers]
    return tuple((f"header.{name}", value) for name, (_, value) in zip(names, headers, strict=True))


@cache
def _window_schema() -> Any:
    raw = json.loads((SCHEMAS / "Window.avsc").read_text(encoding="utf-8"))
    return fastavro.parse_schema(plain_schema(raw), named_schemas={})


def _window(value: bytes) -> dict[str, Any]:
    """Decode a window; workers write it with the schema of their version, in either framing."""
    body = BytesIO(value[len(framing(value) or b"") :])
    record: Any = fastavro.schemaless_reader(body, _window_schema(), None)
    return dict(record)


def _unequal(name: str, expected: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    if expected != found:
        yield name, expected, found


def _brief(record: Fuzzed) -> str:
    value = (record.value or b"").hex()
    shown = value if len(value) <= 600 else f"{value[:600]}..."
    return f"({record.mutation or GOOD}, key {record.key!r}, value {shown or None})"
