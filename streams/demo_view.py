"""What the demo shows: on a terminal a live picture, on a pipe one line a transition."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streams.tail import clock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Self

DAY_MS = 86_400_000
SHOWN_ALERTS = 12
LINE_SECONDS = 5.0
"""How often a pipe gets a line of progress."""
RATE_SECONDS = 4.0
"""Rates are over this time: the worker commits in steps."""
REFRESH_PER_SECOND = 4
_STYLES = {
    "FIRING": "bold red",
    "RESOLVED": "green",
    "UPDATED": "yellow",
    "WITHHELD": "dim",
    "REQUESTED": "magenta",
    "CLOSED": "green",
}
_EXPLAINED = frozenset({"UPDATED", "WITHHELD"})
"""Statuses that make one ask why."""


@dataclass(slots=True)
class Totals:
    """Counts of one run.

    Attributes:
        started: monotonic seconds at the start.
        produced, consumed: records handed to the broker, and committed by the worker.
        peak: largest rate of consumption over RATE_SECONDS, records per second.
        transitions: alert records by status.
        requests: records of retraining requests by status.
        pages: how often somebody was called.
        repeats: how many of these were said again because nobody acknowledged.
        first_firing: seconds from the start to the first FIRING seen, None before.
    """

    started: float = field(default_factory=time.monotonic)
    produced: int = 0
    consumed: int = 0
    peak: float = 0.0
    transitions: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    pages: int = 0
    repeats: int = 0
    first_firing: float | None = None

    @property
    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.started


class View:
    """Shows a run while it happens; a context manager."""

    def __init__(self, console: Console, totals: Totals) -> None:
        """Show on `console`, live when it is a terminal."""
        self.origin_ms = 0
        self._console = console
        self._totals = totals
        self._phase = ""
        self._clock_ms = 0
        self._rate = 0.0
        self._counted: deque[tuple[float, int]] = deque()
        self._windows: dict[str, dict[tuple[int, str], Mapping[str, Any]]] = {}
        self._alerts: deque[Text] = deque(maxlen=SHOWN_ALERTS)
        self._line_at = 0.0
        self._live: Live | None = None
        if console.is_terminal:
            self._live = Live(
                get_renderable=self._picture,
                console=console,
                refresh_per_second=REFRESH_PER_SECOND,
                transient=False,
            )

    def __enter__(self) -> Self:
        """Start showing."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop showing; a terminal keeps the last picture."""
        if self._live:
            self._live.stop()

    def phase(self, words: str) -> None:
        """Say what happens now."""
        self._phase = words
        if not self._live:
            self._say(Text(f"{self._totals.seconds:6.1f} s  {words}"))

    def alert(self, record: Mapping[str, Any]) -> None:
        """Show a record of the alerts topic."""
        status = str(record["status"])
        self._totals.transitions[status] = self._totals.transitions.get(status, 0) + 1
        if status == "FIRING" and self._totals.first_firing is None:
            self._totals.first_firing = self._totals.seconds
        self._totals.pages += bool(record["page"]) and status != "RESOLVED"
        self._totals.repeats += bool(record["page"]) and str(record["reason"]) == "REPEATED"
        page = "PAGE" if record["page"] else "no page"
        self._tell(int(record["updated_at"]), status, page, str(record["rule"]), _sentence(record))

    def request(self, record: Mapping[str, Any]) -> None:
        """Show a record of the retraining topic."""
        status = str(record["status"])
        self._totals.requests[status] = self._totals.requests.get(status, 0) + 1
        what = f"{record['cause']}: {record['summary']}"
        self._tell(int(record["updated_at"]), status, "retrain", str(record["action"]), what)

    def _tell(self, at: int, status: str, *words: str) -> None:
        page, rule, sentence = words
        line = Text.assemble(
            f"{self._totals.seconds:6.1f} s  {self._day(at)}  ",
            (f"{status:<9}", _STYLES.get(status, "")),
            f"  {page:<7}  {rule:<18}  {sentence}",
        )
        line.no_wrap, line.overflow = True, "ellipsis"
        self._alerts.append(line)
        if not self._live:
            self._say(line)

    def window(self, record: Mapping[str, Any]) -> None:
        """Take a record of the windows topic: the last hour of each agent is shown."""
        self._clock_ms = max(self._clock_ms, int(record["at"]))
        if record["series"] != "TASKS":
            return
        hours = self._windows.setdefault(str(record["agent_id"]), {})
        start = int(record["window_start"])
        newest = max((key[0] for key in hours), default=start)
        if start > newest:
            hours.clear()
        if start >= newest:
            hours[start, str(record["task_type"])] = record

    def consumed(self, count: int) -> None:
        """Take the number of records the worker has committed."""
        now = time.monotonic()
        self._counted.append((now, count))
        while now - self._counted[0][0] > RATE_SECONDS:
            self._counted.popleft()
        then, before = self._counted[0]
        if now > then:
            self._rate = (count - before) / (now - then)
        if now - then > RATE_SECONDS / 2:
            self._totals.peak = max(self._totals.peak, self._rate)
        self._totals.consumed = count
        if not self._live and now - self._line_at >= LINE_SECONDS:
            self._line_at = now
            self._say(self._headline())

    def _say(self, line: Text) -> None:
        # A pipe has no width: a wrapped line would be two, and a cut one would say less.
        self._console.file.write(line.plain + "\n")
        self._console.file.flush()

    def _day(self, at_ms: int) -> str:
        days, rest = divmod(at_ms - self.origin_ms, DAY_MS)
        return f"day {days + 1:2} {rest // 3_600_000:02}:{rest // 60_000 % 60:02}"

    def _headline(self) -> Text:
        totals = self._totals
        when = f"{self._day(self._clock_ms)} ({clock(self._clock_ms)})" if self._clock_ms else "-"
        return Text(
            f"{totals.seconds:6.1f} s  event time {when}  produced {totals.produced:,}  "
            f"consumed {totals.consumed:,}  {self._rate:,.0f}/s"
        )

    def _picture(self) -> Group:
        alerts = list(self._alerts) or [Text("none yet", style="dim")]
        return Group(
            Text(self._phase, style="bold"),
            self._headline(),
            self._table(),
            Text("alerts (day and hour are event time)", style="bold"),
            *alerts,
        )

    def _table(self) -> Table:
        table = Table(title=None, box=None, pad_edge=False)
        table.add_column("last closed hour of", min_width=24)
        for name in ("hour", "tasks", "automated", "escalated", "failed", "US$ a task"):
            table.add_column(name, justify="right", min_width=10)
        for agent in sorted(self._windows):
            table.add_row(agent, *self._cells(self._windows[agent]))
        return table

    def _cells(self, hours: Mapping[tuple[int, str], Mapping[str, Any]]) -> list[str]:
        names = ("automated", "escalated", "failed", "unknown")
        counts = [sum(int(one[name]) for one in hours.values()) for name in names]
        total = max(1, sum(counts))
        cost = sum(int(one["cost_micro_usd"]) for one in hours.values()) / 1e6 / total
        shares = [f"{100 * count / total:.1f} %" for count in counts[:3]]
        return [self._day(next(iter(hours))[0])[4:], f"{sum(counts):,}", *shares, f"{cost:.5f}"]


def _sentence(record: Mapping[str, Any]) -> str:
    """Return what an alert says, with why it was told."""
    why = f" ({record['reason']})" if str(record["status"]) in _EXPLAINED else ""
    return f"{record['summary']}{why}"
