from __future__ import annotations

import json

import fastavro
import numpy as np
import pytest

from load import bench, bench_delay, bench_events
from load.bench_delay import Received, Threat
from load.bench_throughput import BEGIN, Measured, Pair, summary
from load.bench_worker import BenchError, Progress, Reached
from streams import schemas

TOPIC = "bench.tasks"


def line(event: str, unit: str, position: int, second: int) -> str:
    stamp = f"2026-01-05T00:00:{second:02}Z"
    fields = {"event": event, "unit": unit, "positions": {TOPIC: position}, "level": "debug"}
    return json.dumps(fields | {"timestamp": stamp})


def drawn(records: int = 500) -> bench_events.Tasks:
    rng = np.random.default_rng(1)
    return bench_events.draw(rng, BEGIN + np.arange(records), agents=20)


def test_values_decode_to_what_was_drawn() -> None:
    tasks = drawn()

    decoded = [schemas.decode(value) for value in bench_events.encode(tasks, slice(0, len(tasks)))]

    assert {name for name, _ in decoded} == {"TaskFinished"}
    records = [record for _, record in decoded]
    assert [one["occurred_at"] for one in records] == tasks.occurred_at.tolist()
    assert [one["agent_id"] for one in records] == [tasks.names[k] for k in tasks.agent]
    assert sum(one["input_tokens"] for one in records) == tasks.totals()[6]
    assert sum(one["outcome"] == "FAILED" for one in records) == tasks.totals()[2]
    assert fastavro.validation.validate_many(records, schemas.schema("TaskFinished"))


def test_few_agents_make_most_of_the_records() -> None:
    counts = np.bincount(drawn(5_000).agent, minlength=20)

    assert counts[0] > 5 * counts[-1] > 0


def test_progress_sums_the_committed_positions_of_all_units() -> None:
    progress = Progress(TOPIC)

    progress.take(line("unit.open", "detect/0", 0, 1))
    progress.take(line("unit.open", "detect/1", 0, 2))
    progress.take(line("unit.epoch", "detect/0", 10, 3))
    progress.take(line("unit.epoch", "detect/1", 5, 4))
    progress.take(line("unit.epoch", "detect/0", 30, 5))

    begin = progress.opened["detect/0"]
    assert progress.reached == [
        Reached(begin + 2, 10),
        Reached(begin + 3, 15),
        Reached(begin + 4, 35),
    ]
    assert progress.complaints == []


def test_progress_keeps_what_the_worker_complains_about() -> None:
    progress = Progress(TOPIC)
    warning = json.dumps(
        {"event": "fetch.failed", "level": "error", "timestamp": "2026-01-05T00:00Z"}
    )

    progress.take(warning)
    progress.take("a library says something")
    progress.take("Traceback (most recent call last):")

    assert progress.complaints == [warning, "Traceback (most recent call last):"]


def test_the_ratio_is_the_median_of_the_pairs_ratios() -> None:
    pairs = [Pair(Measured(100.0, 1.0), Measured(rate, 2.0)) for rate in (50.0, 90.0, 60.0)]

    found = summary(pairs)

    assert found["ratio"] == 0.6
    assert [one["ratio"] for one in found["pairs"]] == [0.5, 0.9, 0.6]


def plan() -> bench_delay.Plan:
    """Return agent 0 of one partition with a record each second, and one burst."""
    n = 20
    zeros = np.zeros(n, np.int64)
    tasks = bench_events.Tasks(
        np.arange(n) * 1_000 + 300, zeros, zeros, zeros, zeros, zeros, ["troubled-000"]
    )
    return bench_delay.Plan(tasks, [Threat("agent-0001", "OTHER", 7_000)], np.array([2_000]))


def alert(rule: str, agent: str, at: int, received: float) -> Received:
    fields = {"rule": rule, "entity_id": agent, "evidence_partition": 0}
    return Received(received, fields | {"updated_at": at, "starts_at": at})


def test_a_rates_delay_begins_with_the_record_that_moved_the_clock_past_the_tick() -> None:
    received = [alert("error-rate", "troubled-000", 10_000, 10_450.0)]

    assert bench_delay.rate_delays(plan(), received, 1) == [150.0]


def test_a_security_delay_begins_with_its_event() -> None:
    received = [alert("security", "agent-0001", 7_000, 7_080.0)]

    assert bench_delay.security_delays(plan(), received) == [80.0]


def test_a_missing_alert_is_no_fast_alert() -> None:
    with pytest.raises(BenchError, match="0 of 1"):
        bench_delay.rate_delays(plan(), [], 1)
    with pytest.raises(BenchError, match="0 security alerts"):
        bench_delay.security_delays(plan(), [])


def test_every_security_event_of_a_plan_has_an_agent_and_kind_of_its_own() -> None:
    threats = bench_delay.make_plan(np.random.default_rng(1), rate=500, seconds=150).threats

    assert len({(one.agent, one.kind) for one in threats}) == len(threats) == 1_500


def test_quantiles_are_delays_that_were_seen() -> None:
    found = bench_delay.quantiles([3.0, 1.0, 2.0, 100.0])

    assert found == {"count": 4, "p50": 3.0, "p95": 100.0, "p99": 100.0, "max": 100.0}


@pytest.mark.broker
@pytest.mark.slow
def test_a_small_run_counts_every_record(capsys: pytest.CaptureFixture[str]) -> None:
    code = bench.main(["throughput", "--records", "20000", "--pairs", "1", "--json"])

    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert found["pairs"][0]["worker"]["rate"] > 0
