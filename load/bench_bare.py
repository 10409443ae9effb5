"""The yardstick: a bare `aiokafka` read of a topic that does nothing with what it gets.

Run as a process of its own, `python -m load.bench_bare`; prints one line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import time

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition


def main() -> None:
    """Read `--records` records of a topic from its begin, and print how long that took."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--tuned", action="store_true")
    given = parser.parse_args()
    if given.tuned:  # as the worker does
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)
    places = [TopicPartition(given.topic, number) for number in range(given.partitions)]
    print(json.dumps(asyncio.run(read(given.bootstrap, places, given.records))))


async def read(bootstrap: str, places: list[TopicPartition], records: int) -> dict[str, float]:
    """Read until `records` records came; return their number, seconds and CPU seconds."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(places)
        began, used = time.perf_counter(), _cpu()
        await consumer.seek_to_beginning(*places)
        seen = 0
        while seen < records:
            for batch in (await consumer.getmany(timeout_ms=1_000)).values():
                seen += len(batch)
        return {
            "records": seen,
            "seconds": time.perf_counter() - began,
            "cpu": _cpu() - used,
        }
    finally:
        await consumer.stop()


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


if __name__ == "__main__":
    main()
