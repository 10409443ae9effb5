"""Drives the rules on integrations without a broker, as the roll-up stage does: hour by hour."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from streams import snapshot
from streams.calls import CALLS
from streams.clock import Clock
from streams.columns import AUTOMATED, FAILED
from streams.durations import DAY, HOUR, MINUTE, WEEK
from streams.findings import Evidence
from streams.integrations import Buckets, Errors, Integrations
from streams.ledger import Batch, Ledger
from streams.operations import SEPARATOR, Source
from streams.rules import RuleSet
from streams.series import Agent
from streams.sketch import index_of
from streams.sweep import Sweep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from streams.findings import Finding
    from streams.sweep import Happened

    I64 = NDArray[np.int64]

START = 2_900 * WEEK
RULES = RuleSet.default()
ROLLED = replace(CALLS, window=lambda agent, _: {"agent_id": "", "tenant": agent.tenant})
PLACE = Evidence("agentops.partials", 0, -1, -1)


class Hour(NamedTuple):
    """What comes in an hour; each of minute and row: int64[rows, 60].

    Attributes:
        ok: calls that succeed.
        failed: calls that do not.
        types: failed calls by type; int64[rows, 60] each, which must add up to `failed`.
        slow: of the calls of the hour, those that take 10 s: int64[rows].
    """

    ok: I64
    failed: I64
    types: Mapping[str, I64]
    slow: I64


class Rig:
    """Operations of integrations, their rules, and a clock.

    Args:
        rows: how many operations.
        start: the clock at first, a whole hour, ms.
    """

    def __init__(self, rows: int = 1, start: int = START) -> None:
        self.rules = RULES
        self.rows = np.arange(rows)
        self.clock = start
        self.findings: list[Finding] = []
        self.stored: dict[bytes, bytes] = {}
        self._build()
        for row in range(rows):
            self.ledger.series.add(Agent("acme", f"sap-{row}{SEPARATOR}post"), "")
        self.ledger.reserve()

    def _build(self) -> None:
        self.ledger = Ledger([self.rules.integration_errors], 1_000, ROLLED)
        source = Source(PLACE.topic, PLACE.partition)
        self.integrations = Integrations(self.rules, self.ledger, source)
        self.ledger.watches.append(self.integrations)

    # -- the past ----------------------------------------------------------------------------

    def past(self, days: int, calls: int, errors: Mapping[str, I64 | int]) -> None:
        """Give every operation a past that no rule looked at.

        Args:
            days: how many days before the clock.
            calls: of each hour, failed ones too.
            errors: by type, failed calls of each hour: a number, or int64[rows, hours].
        """
        first, number = self.clock // HOUR - days * 24, days * 24
        hours = first + np.arange(number)
        rows, every = np.repeat(self.rows, number), np.tile(hours, len(self.rows))
        failed = np.zeros(len(rows), np.int64)
        self.integrations.sketches.enter(self.clock - 30 * DAY)
        for name, given in errors.items():
            counts = np.broadcast_to(np.asarray(given), (len(self.rows), number)).reshape(-1)
            failed += counts
            some = counts > 0
            none = np.zeros(some.sum(), np.int64)
            names = [name] * int(some.sum())
            self.integrations.fold_types(
                Errors(rows[some], none, every[some] * HOUR, names, counts[some])
            )
        self._add(rows, every, np.full(len(rows), AUTOMATED), calls - failed)
        self._add(rows, every, np.full(len(rows), FAILED), failed)
        self.ledger.series.bear(rows, every * HOUR)
        self.integrations.sketches.enter(self.clock)
        self._past_latency(days, calls)

    def _past_latency(self, days: int, calls: int) -> None:
        """Let each day have calls of 100 ms, half a per cent of them of 2 s."""
        begins = self.clock // DAY * DAY - DAY * np.arange(1, min(days, 28) + 1)
        codes = index_of(np.array([100_000, 2_000_000]))
        counts = np.array([calls * 24 - calls * 24 // 200, calls * 24 // 200])
        shape = (len(self.rows), len(begins), 2)
        rows, hours, code, count = (
            np.broadcast_to(one, shape).reshape(-1)
            for one in (self.rows[:, None, None], begins[None, :, None], codes, counts)
        )
        keep = count > 0
        none = np.zeros(keep.sum(), np.int64)
        self.integrations.fold_bins(Buckets(rows[keep], none, hours[keep], code[keep], count[keep]))

    def _add(self, rows: I64, hours: I64, outcomes: I64, counts: I64) -> None:
        keep = counts > 0
        rows, hours, outcomes, counts = rows[keep], hours[keep], outcomes[keep], counts[keep]
        none = [np.zeros(len(rows), np.int64)] * len(CALLS.sums)
        pairs = [
            self.ledger.series.rows(self.ledger.series.agents[row], "")
            for row in range(len(self.rows))
        ]
        tasks = np.array([task for _, task in pairs], np.int64)
        self.ledger.task_hours.add(tasks[rows], hours, outcomes, none, counts)
        self.ledger.agent_hours.add(rows, hours, outcomes, (), counts)

    # -- the present -------------------------------------------------------------------------

    def hour(self, came: Hour, cuts: int = 1) -> list[Finding]:
        """Let an hour pass; return what it causes.

        Args:
            came: what comes in it.
            cuts: in how many batches.
        """
        start = self.clock
        minutes = start + MINUTE * np.arange(60)
        self._fold_types(came, start)
        self._fold_latency(came, start)
        row, minute = np.nonzero(came.ok + came.failed)
        order = np.lexsort((row, minute))
        row, minute = row[order], minute[order]
        rows, at = np.repeat(row, 2), np.repeat(minutes[minute], 2)
        outcomes = np.tile([AUTOMATED, FAILED], len(row))
        weights = np.stack([came.ok[row, minute], came.failed[row, minute]], axis=1).reshape(-1)
        keep = weights > 0
        batch = Batch(
            agents=rows[keep],
            tasks=rows[keep],
            outcomes=outcomes[keep],
            events=at[keep],
            clocks=at[keep] + MINUTE - 1,
            offsets=np.full(int(keep.sum()), -1, np.int64),
            sums=[np.zeros(int(keep.sum()), np.int64)] * len(CALLS.sums),
            weights=weights[keep],
        )
        found: list[Finding] = []
        for cut in range(cuts):
            until = start + HOUR * (cut + 1) // cuts
            first, last = (int(np.searchsorted(batch.clocks, at)) for at in (self.clock, until))
            found += self._sweep(batch.part(first, last), self.clock, until)
        return found

    def _sweep(self, batch: Batch, after: int, until: int) -> list[Finding]:
        if len(batch.events):
            self.ledger.reached.note(batch.clocks, batch.offsets)
        sweep = Sweep(self.ledger, batch, after, until, self._report)
        sweep.run()
        self.clock = until
        found = sorted(
            [*self.integrations.take_findings(), *sweep.findings], key=lambda one: one.at
        )
        self.findings += found
        return found

    def _report(self, happened: Happened) -> Finding:
        return self.integrations.report(happened, PLACE)

    def _fold_types(self, came: Hour, start: int) -> None:
        rows, ticks, names, counts = [], [], [], []
        for name, each in came.types.items():
            whose, minute = np.nonzero(each)
            rows += whose.tolist()
            ticks += (start + MINUTE * (minute + 1)).tolist()
            names += [name] * len(whose)
            counts += each[whose, minute].tolist()
        hours = np.full(len(rows), start, np.int64)
        row, tick, count = (np.array(one, np.int64) for one in (rows, ticks, counts))
        self.integrations.fold_types(Errors(row, tick, hours, names, count))

    def _fold_latency(self, came: Hour, start: int) -> None:
        total = (came.ok + came.failed).sum(axis=1)
        codes = index_of(np.array([100_000, 10_000_000]))
        counts = np.stack([total - came.slow, came.slow], axis=1).reshape(-1)
        keep = counts > 0
        rows = np.repeat(self.rows, 2)[keep]
        ticks, hours = (np.full(len(rows), at, np.int64) for at in (start + HOUR, start))
        code = np.tile(codes, len(self.rows))[keep]
        self.integrations.fold_bins(Buckets(rows, ticks, hours, code, counts[keep]))

    # -- state -------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the state down."""
        for key, value in snapshot.take(self._parts()):
            if value is None:
                self.stored.pop(key, None)
            else:
                self.stored[key] = value

    def reopen(self) -> None:
        """Go on from what was written down."""
        self.save()
        self._build()
        snapshot.put(self._parts(), self.stored.items())

    def _parts(self) -> snapshot.Parts:
        clock = Clock()
        clock.now = self.clock
        self._clock = clock
        return snapshot.Parts(books=[snapshot.Book(self.ledger, clock)], clocks={}, keepers=[])


def steady(rig: Rig, calls: int, types: Mapping[str, int] | None = None, slow: int = 0) -> Hour:
    """Return an hour with the same calls in every operation, spread evenly over its minutes.

    Args:
        rig: of which operations.
        calls: of the hour.
        types: failed calls of the hour, by type.
        slow: calls that take 10 s.
    """
    given = types or {}
    shape = (len(rig.rows), 60)
    each = {name: np.broadcast_to(spread(number), shape) for name, number in given.items()}
    failed = sum(each.values(), np.zeros(shape, np.int64))
    total = np.broadcast_to(spread(calls), shape)
    return Hour(np.maximum(total - failed, 0), failed, each, np.full(shape[0], slow))


def spread(number: int) -> I64:
    """Return int64[60]: a number spread over the minutes of an hour."""
    return np.diff(np.arange(61) * number // 60)
