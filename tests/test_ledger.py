"""Weighted events, watches, several ledgers in one state, and what a ledger of tasks adds up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from streams import snapshot, state
from streams.clock import Clock
from streams.columns import BINS, confidence_bins
from streams.durations import DAY, HOUR, MINUTE, SECOND
from streams.findings import Entity, Evidence, Finding, rate_finding
from streams.layout import COST_CAP, TASKS, Layout, task_window
from streams.ledger import NOTHING, Batch, Ledger
from streams.life import Turn
from streams.reasons import EntityKind, Severity, Transition, TransitionReason
from streams.series import Agent
from streams.sweep import Happened, Sweep
from streams.watch import Happening, Measure, Subject, watch_finding
from tests.event_logs import BEGIN, Event, Player
from tests.test_detect import TOUCHY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from streams.detect import Detect
    from streams.rules import RuleSet

CALLS = Layout(
    table="calls",
    sums=("duration_us",),
    columns=("automated", None, "failed", "unknown", "duration_us"),
    window=lambda agent, task: {**task_window(agent, task), "series": "CALLS"},
)
AGENTS = [("a", "t"), ("a", "u"), ("b", "t")]


def finding_of(one: Happened) -> Finding:
    evidence = Evidence("topic", 0, one.first_offset, one.last_offset)
    return rate_finding(
        one.rate.rule, one.found.step, Entity(None, one.agent.agent_id), one.found.sample, evidence
    )


@dataclass
class Book:
    """A ledger with what a partition does with it."""

    ledger: Ledger
    clock: Clock = field(default_factory=Clock)
    findings: list[Finding] = field(default_factory=list)
    windows: list[dict[str, Any]] = field(default_factory=list)

    def fold(self, batch: Batch) -> None:
        until = int(batch.clocks[-1])
        after = int(batch.clocks[0]) if self.clock.now is None else self.clock.now
        self.ledger.reserve()
        self.ledger.reached.note(batch.clocks, batch.offsets)
        self.advance(batch, after, until)

    def advance(self, batch: Batch, after: int, until: int) -> None:
        sweep = Sweep(self.ledger, batch, after, until, finding_of)
        sweep.run()
        self.clock.move(until)
        self.findings += sweep.findings
        self.windows += sweep.windows

    def parts(self) -> snapshot.Parts:
        return snapshot.Parts([snapshot.Book(self.ledger, self.clock)], {}, [])


def book(layout: Layout = TASKS, rules: RuleSet | None = None) -> Book:
    made = Book(Ledger(rules.rates if rules else [], 100, layout))
    for agent, task_type in AGENTS:
        made.ledger.series.add(Agent(None, agent), task_type, "m")
    return made


def weighted(seed: int, size: int, sums: int = 6) -> Batch:
    """Return events of some days with weights, some of them late, in bursts and with gaps."""
    random, now = Random(seed), BEGIN
    clocks, events = [], []
    for index in range(size):
        if index >= len(AGENTS):  # one of each series comes first
            now += random.choice([0, 0, 0, 1, SECOND, 5 * SECOND, MINUTE, 20 * MINUTE, 4 * HOUR])
        clocks.append(now)
        events.append(now - random.choice([0, 0, 0, 0, 1, MINUTE, 2 * HOUR, 30 * HOUR, 8 * DAY]))
    tasks = np.array([random.randrange(len(AGENTS)) for _ in range(size)])
    tasks[: len(AGENTS)] = range(len(AGENTS))
    return Batch(
        agents=np.array([0, 0, 1])[tasks],
        tasks=tasks,
        outcomes=np.array([random.choice([0, 0, 0, 1, 2, 2, 3]) for _ in range(size)]),
        events=np.array(events),
        clocks=np.array(clocks),
        offsets=np.arange(size) * 3,
        sums=[np.array([random.randrange(1000) for _ in range(size)]) for _ in range(sums)],
        weights=np.array([random.choice([1, 1, 2, 7, 40]) for _ in range(size)]),
        bins=np.array([random.randint(-1, 9) for _ in range(size)]),
    )


def expanded(batch: Batch) -> Batch:
    """Return each event as many times as it weighs, with its sums on the first."""
    assert batch.weights is not None
    assert batch.bins is not None
    times = batch.weights
    first = np.append(0, np.cumsum(times)[:-1])
    columns = [np.zeros(int(times.sum()), np.int64) for _ in batch.sums]
    for column, sums in zip(columns, batch.sums, strict=True):
        column[first] = sums
    names = ("agents", "tasks", "outcomes", "events", "clocks", "offsets")
    repeated = {name: np.repeat(getattr(batch, name), times) for name in names}
    return Batch(**repeated, sums=columns, bins=np.repeat(batch.bins, times))


def cut(batch: Batch, random: Random) -> list[Batch]:
    """Return a batch in pieces that end at midnight at the latest, as the gate makes them."""
    places = [0]
    while places[-1] < len(batch.events):
        midnight = int(batch.clocks[places[-1]]) // DAY * DAY + DAY
        places.append(min(places[-1] + random.choice([1, 9, 60]), batch.seen(midnight)))
    return [batch.part(*pair) for pair in pairwise(places)]


# -- weights -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_weighted_event_is_the_same_as_that_many_events(seed: int) -> None:
    batch = weighted(seed, 50)
    one, other = book(rules=TOUCHY), book(rules=TOUCHY)

    for piece in cut(batch, Random(seed)):
        one.fold(piece)
    for piece in cut(expanded(batch), Random(seed + 1)):
        other.fold(piece)

    assert one.findings == other.findings
    assert len(one.findings) > 3
    assert one.windows == other.windows
    assert dict(snapshot.take(one.parts())) == dict(snapshot.take(other.parts()))


# -- without rate rules ------------------------------------------------------------------------


def test_a_ledger_without_rate_rules_closes_hours_and_has_no_minutes() -> None:
    batch = weighted(1, 70, sums=1)._replace(bins=None)
    plain, ruled = book(CALLS), book(CALLS, TOUCHY)

    for piece in cut(batch, Random(1)):
        plain.fold(piece)
        ruled.fold(piece)

    assert plain.windows == ruled.windows
    assert plain.findings == []
    assert plain.windows[0].keys() >= {"automated", "failed", "unknown", "duration_us", "series"}
    assert not plain.windows[0].keys() & {"escalated", "cost_micro_usd"}
    keys = [key for key, _ in snapshot.take(plain.parts())]
    assert not [key for key in keys if b"/1m/" in key or b"-bins" in key or b"-days" in key]


def test_the_ticks_of_years_without_an_event_cost_no_time() -> None:
    made = book(CALLS)
    made.ledger.watches.append(watch := Recorder(made.ledger))
    begin, later = BEGIN // HOUR * HOUR, BEGIN // HOUR * HOUR + 20_000 * DAY
    made.fold(weighted(3, 3, sums=1))

    made.advance(NOTHING, begin, later)
    made.ledger.series.add(Agent(None, "c"), "t")
    one = weighted(3, 3, sums=1).part(0, 1)
    made.fold(one._replace(clocks=one.clocks - BEGIN + later, events=one.events - BEGIN + later))
    made.advance(NOTHING, later, later + 20_000 * DAY)

    assert watch.hours == [begin + HOUR, later + HOUR]


# -- what a ledger of tasks adds up ------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
def test_panes_of_tasks_are_the_sums_of_the_tasks(seed: int) -> None:
    random, player, events = Random(seed), Player(), []
    for index in range(150):
        at = BEGIN + index * 10 * MINUTE - random.choice([0, 0, 0, HOUR, 26 * HOUR])
        sure = random.choice([None, 0.0, 0.3, 0.5999, 0.98, 1.0])
        which = random.choice(["a", "b"]), random.choice(["t", "u"]), random.choice([0, 1, 2, 3])
        cost = random.choice([0, 7, 8, 40_000, COST_CAP, 3 * COST_CAP])
        model = random.choice([None, "m"])
        events.append(Event(at, BEGIN + index * 10 * MINUTE, *which, None, cost, model, sure))
    for start in range(0, 150, 50):
        player.tasks(events[start : start + 50])
        player.restart()

    ledger = player.core.ledger
    hours: Counter[tuple[Any, ...]] = Counter()
    for one in events:
        series = one.agent, one.task_type, one.model
        square = (min(one.weight, 2**26 - 1) >> 3) ** 2
        hours[(*series, one.at // HOUR, "square")] += square
        hours[(*series, one.at // HOUR, "cost")] += one.weight
        if one.confidence is not None:
            (bin_,) = confidence_bins(np.array([one.confidence])).tolist()
            hours[one.agent, one.at // HOUR, bin_] += 1
            hours[(*series, one.at // DAY, bin_ + BINS * (one.outcome != 0))] += 1
    first, days = BEGIN // DAY - 2, np.arange(BEGIN // DAY - 2, BEGIN // DAY + 4)
    for row, (agent, task_type, model) in ledger.series.tasks.items():
        name = ledger.series.agents[agent].agent_id, task_type, model
        sums = ledger.task_hours.sums(np.array([row]), first * 24, 6 * 24)[0]
        panes = range(first * 24, first * 24 + 6 * 24)
        assert sums[:, 5].tolist() == [hours[(*name, pane, "square")] for pane in panes]
        assert sums[:, 0].tolist() == [hours[(*name, pane, "cost")] for pane in panes]
        halves = ledger.task_days.counts(np.array([row]), first, 6)[0]
        expected = [[hours[(*name, day, half)] for half in range(2 * BINS)] for day in days]
        assert halves.tolist() == expected
    for row, who in ledger.series.agents.items():
        found = ledger.agent_bins.counts(np.array([row]), first * 24, 6 * 24)[0]
        panes = range(first * 24, first * 24 + 6 * 24)
        expected = [[hours[who.agent_id, pane, bin_] for bin_ in range(BINS)] for pane in panes]
        assert found.tolist() == expected


# -- watches -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    name: str = "watched"
    version: int = 1
    severity: Severity = Severity.INFO
    page: bool = False


class Recorder:
    """A watch that says at each hour how many events of two days it sees, and stores how often."""

    def __init__(self, ledger: Ledger, *, awake: bool = False) -> None:
        self.hours: list[int] = []
        self.seen: list[int] = []
        self.forgotten: list[tuple[list[int], list[int]]] = []
        self.awake = awake
        self._ledger = ledger
        self._times, self._stored = 0, 0

    def hour(self, tick: int) -> list[Finding]:
        self.hours.append(tick)
        rows = np.array(sorted(self._ledger.series.agents), np.int64)
        first = tick // HOUR - 48
        self.seen.append(int(self._ledger.agent_hours.counts(rows, first, 49).sum()))
        self._times += 1
        turn = Turn(Transition.FIRING, TransitionReason.AT_ONCE, 0, tick)
        measure = Measure(
            value=self.seen[-1],
            threshold=self._times,
            sample_count=len(rows),
            window_start=tick - HOUR,
            window_end=tick,
        )
        evidence = Evidence("topic", 0, -1, self._ledger.last_offset)
        subject = Subject(EntityKind.AGENT, Entity(None, "all"))
        return [watch_finding(Rule(), subject, Happening(turn, tick), measure, evidence)]

    def busy(self) -> bool:
        return self.awake

    def changes(self) -> Iterable[tuple[bytes, bytes | None]]:
        if self._stored < self._times:
            fields = {"started_at": 0, "last_seen": 0, "events": self._times, "last_offset": 0}
            yield b"watch/recorder", state.encode("LimitState", fields)
        self._stored = self._times

    def restore(self, stored: state.Stored) -> bool:
        mine = stored.key == b"watch/recorder"
        if mine:
            self._times = stored.fields["events"]
        return mine

    def settle(self) -> None:
        self._stored = self._times

    def forget(self, agents: Sequence[int], tasks: Sequence[int]) -> None:
        self.forgotten.append((list(agents), list(tasks)))


class Watched(Player):
    """A player whose cores have a watch."""

    def __init__(self, *, awake: bool = False, rules: RuleSet | None = None) -> None:
        self.awake = awake
        self.recorders: list[Recorder] = []
        super().__init__(rules)

    def _new(self) -> Detect:
        core = super()._new()
        self.recorders.append(Recorder(core.ledger, awake=self.awake))
        core.ledger.watches.append(self.recorders[-1])
        return core

    @property
    def hours(self) -> list[tuple[int, int]]:
        """Hours with how many events were seen, of all cores."""
        return [pair for one in self.recorders for pair in zip(one.hours, one.seen, strict=True)]


def gappy(seed: int, size: int = 120) -> list[Event]:
    """Return events of days with gaps of hours, some of them late or ahead."""
    random, now, found = Random(seed), BEGIN, []
    for _ in range(size):
        now += random.choice([0, SECOND, MINUTE, 9 * MINUTE, HOUR, 5 * HOUR, HOUR - now % HOUR])
        at = now - random.choice([0, 0, 0, HOUR, 30 * HOUR, -2 * MINUTE])
        found.append(Event(at, now, random.choice("ab"), outcome=random.choice([0, 0, 2])))
    return found


def clocks_of(events: Sequence[Event]) -> list[int]:
    return list(accumulate((min(one.at, one.stamp) for one in events), max))


@pytest.mark.parametrize(("seed", "rules"), [(0, TOUCHY), (1, None), (2, None)])
def test_watches_see_each_hour_with_a_record_whatever_the_batches(
    seed: int, rules: RuleSet | None
) -> None:
    events, random = gappy(seed, 120 if rules is None else 50), Random(seed)
    whole, parts = Watched(rules=rules), Watched(rules=rules)
    whole.tasks(events)
    whole.drain()
    start = 0
    while start < len(events):
        end = start + random.choice([1, 7, 90])
        parts.tasks(events[start:end])
        start = end
        if random.random() < 0.3:
            parts.restart()
    parts.drain()

    clocks = clocks_of(events)
    last = clocks[-1] // HOUR * HOUR
    due = sorted({clock // HOUR * HOUR + HOUR for clock in clocks})
    expected = [hour for hour in due if hour <= last]
    assert [hour for hour, _ in whole.hours] == expected
    for hour, seen in whole.hours:
        before = [one.at for one, clock in zip(events, clocks, strict=True) if clock < hour]
        assert seen == sum(hour - 2 * DAY <= at < hour + HOUR for at in before)
    assert parts.hours == whole.hours
    assert parts.played.findings == whole.played.findings
    assert parts.played.state == whole.played.state


def test_a_busy_watch_sees_every_hour() -> None:
    player = Watched(awake=True)
    player.tasks([Event(BEGIN, BEGIN), Event(BEGIN + 5 * HOUR, BEGIN + 5 * HOUR)])
    player.core.idle(BEGIN + 7 * HOUR + MINUTE)

    assert [hour for hour, _ in player.hours] == [BEGIN + n * HOUR for n in range(1, 8)]


def test_a_quiet_watch_sleeps_from_the_hour_after_the_last_record() -> None:
    player = Watched()
    player.tasks([Event(BEGIN, BEGIN)])
    player.restart()
    player.core.idle(BEGIN + 50 * DAY)
    player.tasks([Event(BEGIN + 50 * DAY - MINUTE, BEGIN + 50 * DAY)])
    player.core.idle(BEGIN + 51 * DAY)

    assert [hour for hour, _ in player.hours] == [BEGIN + HOUR, BEGIN + 50 * DAY + HOUR]


def test_findings_of_watches_come_after_those_of_rate_rules_at_the_same_tick() -> None:
    player = Watched(rules=TOUCHY, awake=True)
    for hour in range(BEGIN, BEGIN + 6 * HOUR, HOUR):
        times = range(hour, hour + HOUR, MINUTE)  # it fails at their end
        player.tasks([Event(at, at, outcome=2 if at >= hour + 57 * MINUTE else 0) for at in times])
    player.drain()

    found = [(one.at, one.rule == "watched") for one in player.played.findings]

    assert found == sorted(found)
    both = {at for at, watched in found if watched} & {at for at, watched in found if not watched}
    assert both


def test_watches_are_told_of_rows_that_are_freed() -> None:
    player = Watched()
    player.tasks([Event(BEGIN, BEGIN), Event(BEGIN, BEGIN, "b")])
    later = BEGIN + 38 * DAY
    player.tasks([Event(later, later, "b", "u")])

    told = [one for one in player.recorders[0].forgotten if any(one)]
    assert told == [([0, 1], [0, 1])]


# -- several ledgers in one state --------------------------------------------------------------


def test_several_ledgers_and_other_keepers_share_one_state() -> None:
    tasks, calls = book(rules=TOUCHY), book(CALLS)
    keeper = Recorder(tasks.ledger)
    calls.ledger.watches.append(Recorder(calls.ledger))

    def parts(one: Book, two: Book, keeper: Recorder) -> snapshot.Parts:
        books = [snapshot.Book(each.ledger, each.clock) for each in (one, two)]
        return snapshot.Parts(books, {"reviews": Clock(now=5, lag=7)}, [keeper])

    kept: dict[bytes, bytes] = {}
    for piece in cut(weighted(4, 60), Random(4)):
        tasks.fold(piece)
    for piece in cut(weighted(5, 60, sums=1), Random(5)):
        calls.fold(piece)
    for key, value in snapshot.take(parts(tasks, calls, keeper)):
        assert value is not None or key not in kept
        kept |= {} if value is None else {key: value}

    again, more = Book(Ledger(TOUCHY.rates, 100, TASKS)), Book(Ledger([], 100, CALLS))
    watch = Recorder(more.ledger)
    more.ledger.watches.append(watch)
    reviews = Clock()
    books = [snapshot.Book(each.ledger, each.clock) for each in (again, more)]
    whole = snapshot.Parts(books, {"reviews": reviews}, [Recorder(again.ledger)])
    records = list(kept.items())
    Random(1).shuffle(records)
    snapshot.put(whole, records)

    assert (reviews.now, reviews.lag) == (5, 7)
    assert again.ledger.series.tasks == tasks.ledger.series.tasks
    assert more.ledger.newest == calls.ledger.newest
    assert more.clock.now == calls.clock.now
    assert next(iter(watch.changes()), None) is None
    for mine, theirs, sums in ((again, tasks, 6), (more, calls, 1)):
        batch = weighted(6, 40, sums=sums)
        mine.findings, mine.windows, theirs.findings, theirs.windows = [], [], [], []
        after = theirs.clock.now or 0
        moved = batch._replace(
            clocks=batch.clocks - BEGIN + after, events=batch.events - BEGIN + after
        )
        for piece in cut(moved, Random(6)):
            mine.fold(piece)
            theirs.fold(piece)
        assert mine.findings == theirs.findings
        assert mine.windows == theirs.windows
        assert mine.windows


def test_a_stored_record_of_nobody_is_left_alone() -> None:
    made = book()
    fields = {"started_at": 0, "last_seen": 0, "events": 1, "last_offset": 0}

    snapshot.put(made.parts(), [(b"limit", state.encode("LimitState", fields))])

    assert made.clock.now is None
