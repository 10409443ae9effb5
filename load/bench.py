"""`scripts/bench`: how much the service does in a second, and how soon an alert is there.

Everything runs on this machine: a local broker, real workers as processes of their own, and what
sends and reads. Results of earlier runs stand in docs/benchmark.md.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from load.bench_delay import Delay
from load.bench_throughput import Throughput, summary
from load.bench_worker import BenchError
from streams.local import LocalBroker, LocalError
from streams.settings import LOCAL_PARTITIONS, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    Bench = Callable[[Settings, Path, argparse.Namespace], Coroutine[Any, Any, dict[str, Any]]]

RATIO_AIM = 0.4
RATE_AIM_MS, SECURITY_AIM_MS = 1_000, 250
FAILED, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark; return 0 when it could be measured, whatever came out."""
    given = _parser().parse_args(arguments)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    here = machine()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="agentops-bench-") as folder,
            LocalBroker() as broker,
        ):
            settings = Settings(
                bootstrap_servers=broker.bootstrap,
                topic_prefix="bench.",
                app_id="bench",
                partitions=given.partitions,
            )
            found = asyncio.run(given.bench(settings, Path(folder), given))
    except (BenchError, LocalError) as error:
        print(error, file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    if given.json:
        print(json.dumps({"machine": here, **found}, indent=2))
    return 0


async def throughput(settings: Settings, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Measure the whole job beside a bare read, in turn; print each pair when it is known."""
    say = _printer(given)
    bench = Throughput(settings, folder, given.records)
    size = await bench.write()
    say(f"{given.records:,} records of {size:.0f} bytes over {settings.partitions} partitions")
    say(f"{'':8}{'records/s':>22}{'CPU s/million':>24}")
    say(f"{'':8}{'bare':>11}{'whole job':>11}{'bare':>13}{'whole job':>11}{'ratio':>8}")
    pairs = []
    for number in range(given.pairs):
        pairs.append(await bench.pair(tuned=given.tuned))
        say(_row(str(number + 1), summary(pairs[-1:])))
    found = summary(pairs)
    say(_row("median", found))
    say(f"Aim: a ratio of {RATIO_AIM}. The sums in the state equal what was sent, every time.")
    return found


async def delay(settings: Settings, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Measure how long after its cause an alert can be read."""
    say = _printer(given)
    found = await Delay(settings, folder, given.rate, given.seconds).run()
    say(f"{given.rate:,} events/s for {given.seconds} s over {settings.partitions} partitions, ms")
    say(f"{'':10}{'alerts':>8}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}{'aim p99':>9}")
    for name, aim in (
        ("rates", f"{RATE_AIM_MS}"),
        ("security", f"{SECURITY_AIM_MS}"),
        ("sender", ""),
    ):
        one = found[name]
        cells = "".join(f"{one[key]:8.0f}" for key in ("count", "p50", "p95", "p99", "max"))
        say(f"{name:10}{cells}{aim:>9}")
    say("`sender`: how late events were sent; it is part of the delays above it.")
    return found


def machine() -> dict[str, Any]:
    """Return what numbers depend on; no names of machines or people."""
    return {
        "cores": os.cpu_count(),
        "processor": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": [round(one, 2) for one in os.getloadavg()],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    benches = parser.add_subparsers(required=True)
    one = _bench(benches, "throughput", throughput)
    one.add_argument("--records", type=int, default=2_000_000, help="records of the input")
    one.add_argument("--pairs", type=int, default=3, help="bare reads and whole jobs, in turn")
    one.add_argument(
        "--tuned",
        action="store_true",
        help="give the bare read the worker's garbage collector settings too",
    )
    two = _bench(benches, "delay", delay)
    two.add_argument("--rate", type=int, default=5_000, help="events a second")
    two.add_argument("--seconds", type=int, default=60, help="how long")
    return parser


def _bench(benches: Any, name: str, bench: Bench) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = benches.add_parser(
        name, help=bench.__doc__, description=bench.__doc__
    )
    parser.add_argument("--partitions", type=int, default=LOCAL_PARTITIONS, help="default 4")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.set_defaults(bench=bench)
    return parser


def _printer(given: argparse.Namespace) -> Callable[[str], None]:
    return (lambda _: None) if given.json else (lambda text: print(text, flush=True))


def _row(name: str, found: Mapping[str, Any]) -> str:
    return (
        f"{name:8}{found['bare_rate']:11,.0f}{found['worker_rate']:11,.0f}"
        f"{found['bare_cpu']:13.2f}{found['worker_cpu']:11.2f}{found['ratio']:8.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
