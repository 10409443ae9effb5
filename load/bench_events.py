"""Task records for the benchmarks: many agents, few of them busy, encoded and placed by key.

Synthetic throughout: volumes follow Zipf's law (agent k in proportion to 1/k), everything else is
drawn from plain distributions. The same seed gives the same records.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from aiokafka.partitioner import murmur2

from load import encoder
from streams import schemas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    I64 = NDArray[np.int64]

TASK_TYPES = ("classify", "extract", "match", "reply")
MODELS = ("small", "large")
VERSIONS = ("2026.1", "2026.2")
OUTCOMES = ("AUTOMATED", "ESCALATED", "FAILED")
SHARES = (0.92, 0.075, 0.005)
RECORDS_PER_BATCH = 1_000
_CHUNK = 100_000
_SPREAD = 0x9E3779B97F4A7C15
"""Odd, so that its multiples modulo 2^64 differ: ids that do not compress away."""


@dataclass(frozen=True, slots=True, eq=False)
class Tasks:
    """Records in the order of their event time.

    Attributes:
        occurred_at: int64[n], ms.
        agent: int64[n], index into `names`.
        task_type: int64[n], index into TASK_TYPES.
        outcome: int64[n], index into OUTCOMES.
        input_tokens, output_tokens: int64[n].
        names: agent ids.
    """

    occurred_at: I64
    agent: I64
    task_type: I64
    outcome: I64
    input_tokens: I64
    output_tokens: I64
    names: Sequence[str]

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self.occurred_at)

    @property
    def duration_ms(self) -> NDArray[np.float64]:
        """Duration, as a function of the tokens."""
        return 150 + 0.4 * self.input_tokens + 25.0 * self.output_tokens

    @property
    def cost_usd(self) -> NDArray[np.float64]:
        """Cost, as a function of the tokens."""
        return 2.5e-6 * self.input_tokens + 1e-5 * self.output_tokens

    def totals(self) -> list[int]:
        """Return the sums of all records in the order of the columns of a pane."""
        counts = np.bincount(self.outcome, minlength=4).tolist()
        cost = np.floor(self.cost_usd * 1e6 + 0.5).astype(np.int64)
        duration = np.floor(self.duration_ms * 1e3 + 0.5).astype(np.int64)
        sums = (cost, duration, self.input_tokens, self.output_tokens)
        return [*counts, *(int(column.sum()) for column in sums), 0]

    def partitions(self, count: int) -> I64:
        """Return int64[n]: where a producer with Kafka's default partitioner puts each record."""
        return np.array([partition_of(name, count) for name in self.names])[self.agent]


def partition_of(agent: str, count: int) -> int:
    """Return the partition of an agent's records among `count`."""
    return int(murmur2(agent.encode()) & 0x7FFFFFFF) % count


def draw(
    rng: np.random.Generator, occurred_at: I64, agents: int, shares: Sequence[float] = SHARES
) -> Tasks:
    """Draw a record for each event time, over `agents` agents with volumes by Zipf's law.

    Args:
        rng: source of all randomness.
        occurred_at: int64[n], ascending, ms.
        agents: how many agents.
        shares: share of each of OUTCOMES.
    """
    n = len(occurred_at)
    weights = 1 / np.arange(1, agents + 1)
    return Tasks(
        occurred_at=occurred_at,
        agent=rng.choice(agents, n, p=weights / weights.sum()),
        task_type=rng.integers(0, len(TASK_TYPES), n),
        outcome=rng.choice(len(OUTCOMES), n, p=shares),
        input_tokens=rng.integers(100, 8_000, n),
        output_tokens=rng.integers(10, 800, n),
        names=[f"agent-{number:04d}" for number in range(agents)],
    )


def encode(tasks: Tasks, rows: slice) -> list[bytes]:
    """Encode rows as values of TaskFinished."""
    schema = schemas.get("TaskFinished")
    fields = _fields(tasks, rows, schema.raw)
    return encoder.join(schema.frame, [fields[field["name"]] for field in schema.raw["fields"]])


def _fields(tasks: Tasks, rows: slice, schema: Any) -> dict[str, encoder.Cells]:
    agent, tokens = tasks.agent[rows], tasks.input_tokens[rows]
    none = encoder.nulls(len(agent))
    number = np.arange(*rows.indices(len(tasks)), dtype=np.uint64)
    symbols = next(f for f in schema["fields"] if f["name"] == "outcome")["type"]["symbols"]
    symbol = np.array([symbols.index(name) for name in OUTCOMES])
    return {
        "event_id": encoder.hex_texts(number),
        "occurred_at": encoder.longs(tasks.occurred_at[rows]),
        "tenant": none,
        "agent_id": encoder.texts(agent, tasks.names),
        "trace_id": encoder.present(encoder.hex_texts(number * np.uint64(_SPREAD))),
        "task_type": encoder.texts(tasks.task_type[rows], TASK_TYPES),
        "outcome": encoder.longs(symbol[tasks.outcome[rows]]),
        "error_type": encoder.optional_texts(tasks.outcome[rows], (None, None, "timeout")),
        "duration_ms": encoder.doubles(tasks.duration_ms[rows]),
        "cost_usd": encoder.doubles(tasks.cost_usd[rows]),
        "input_tokens": encoder.longs(tokens),
        "output_tokens": encoder.longs(tasks.output_tokens[rows]),
        "cached_tokens": none,
        "confidence": encoder.present(encoder.doubles(tokens / 8_000)),
        "model": encoder.optional_texts(agent % 2, MODELS),
        "prompt_version": encoder.optional_texts(agent % 2, VERSIONS),
        "agent_version": encoder.optional_texts(agent % 2, VERSIONS),
        "trust_tier": encoder.optional_texts(agent * 0, ("T2",)),
        "input_features": encoder.double_arrays(
            np.stack((tokens / 10, agent / 10, tokens / 7), axis=1)
        ),
    }


async def produce(producer: Any, topic: str, tasks: Tasks, partitions: int) -> int:
    """Write all records in order, RECORDS_PER_BATCH a Kafka batch; return the size of all values.

    Args:
        producer: a started, idempotent AIOKafkaProducer; its compression is used.
        topic: name on the broker.
        tasks: the records.
        partitions: of the topic.
    """
    keys = [name.encode() for name in tasks.names]
    places = tasks.partitions(partitions).tolist()
    agents = tasks.agent.tolist()
    open_: dict[int, Any] = {}
    size = 0
    for low in range(0, len(tasks), _CHUNK):
        rows = slice(low, min(low + _CHUNK, len(tasks)))
        now = time.time_ns() // 1_000_000
        sent = []
        for row, value in enumerate(encode(tasks, rows), start=low):
            place = places[row]
            batch = open_.get(place)
            if batch is None:
                batch = open_[place] = producer.create_batch()
            if batch.append(timestamp=now, key=keys[agents[row]], value=value) is None:
                raise ValueError(f"{RECORDS_PER_BATCH} records exceed the producer's batch size")
            size += len(value)
            if batch.record_count() == RECORDS_PER_BATCH:
                sent.append(await producer.send_batch(open_.pop(place), topic, partition=place))
        for future in sent:
            await future
    for place, batch in open_.items():
        await (await producer.send_batch(batch, topic, partition=place))
    return size
