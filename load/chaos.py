"""`scripts/chaos`: the exactly-once proof. Real broker, real workers, real SIGKILL.

While events flow, workers are killed, stopped and continued, sent home and started, the broker is
killed once, and fail points end workers in the middle of an epoch. Afterwards the output topics
must hold exactly what the oracle computes from the input topics: nothing lost, nothing twice.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from load.run import Run
from load.schedule import QUICK, WEAK, Size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from load.report import Report

SHOWN = 40
"""Differences to print; all of them are in the report."""

UNGUARDED: tuple[tuple[str, tuple[str, ...], Size], ...] = (
    # A pause in the middle of a transaction is what fencing is there for,
    (
        "no-fencing",
        ("epoch.before_commit=sleep@1",),
        replace(WEAK, kills=1, pauses=5, leaves=0, joins=1),
    ),
    ("no-positions", (), WEAK),
    # and a batch that is still on its way while its unit opens again is what incarnations are.
    (
        "no-incarnations",
        ("batch.before_accept=sleep@1",),
        replace(WEAK, burst=True, broker_kills=2),
    ),
)
"""Guards that the self-test takes away, with what makes them needed more often."""


def show(title: str, report: Report) -> None:
    """Print a report as a table."""
    print(f"\n== {title}: {'RED' if report.red else 'green'}")
    print("   done: " + ", ".join(f"{verb} {times}" for verb, times in report.done.items()))
    for name, value in report.facts.items():
        print(f"   {name:32} {value}")
    kinds = Counter(line.split(": ")[1].split(" ")[0] for line in report.differences)
    if kinds:
        print(f"   differences: {', '.join(f'{kind} {n}' for kind, n in kinds.items())}")
    for what, lines in (("problem", report.problems), ("difference", report.differences)):
        for line in lines[:SHOWN]:
            print(f"   {what}: {line}")
        if len(lines) > SHOWN:
            print(f"   ... and {len(lines) - SHOWN} more of this kind")


def prove(seed: int, size: Size, failpoints: tuple[str, ...] = (), *, keep: bool = False) -> Report:
    """Run one proof in a folder of its own, which stays when it is red or `keep` is set."""
    folder = Path(tempfile.mkdtemp(prefix="agentops-chaos-"))
    report = Run(seed, size, folder, failpoints).start()
    if report.red or keep:
        report.facts["logs"] = folder
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return report


CALM = Size(40, 15_000, 40, 6, kills=1, pauses=0, leaves=0, joins=1, broker_kills=0, points=())
"""Size of the run of the self-test in which partitions are made to stand still."""


def shows_the_guard(difference: str) -> bool:
    """Return whether a difference can come from a missing guard of exactly-once.

    Such a guard keeps records from being folded twice or not at all: something is then said
    twice, or with other numbers, or too much. What is merely missing can have other causes.
    """
    return any(word in difference for word in (" times: ", " extra: ", ", expected "))


def self_test(seed: int) -> int:
    """Run with all guards, without each, and with slow epochs; only the first may be green.

    The first run is the control: without it, red would say nothing about the guards.
    """
    runs: list[tuple[str, tuple[str, ...], Size]] = [("all guards", (), WEAK)]
    runs += [(guard, (guard, *extra), size) for guard, extra, size in UNGUARDED]
    wrong = []
    for name, failpoints, size in runs:
        report = prove(seed, size, failpoints)
        show(f"{name}, seed {seed}", report)
        signs = sum(map(shows_the_guard, report.differences))
        control = not failpoints
        if control and report.red:
            wrong.append("The control run with all guards is red: what follows proves nothing.")
        elif not control:
            print(f"   signs of the missing guard       {signs}")
            if not signs:
                wrong.append(f"The proof did not notice {name}.")
    report = prove(seed, CALM, ("epoch.before_produce=sleep@12",))
    show(f"epochs that take 12 s, seed {seed}", report)
    if not any("stood still" in problem for problem in report.problems):
        wrong.append("The proof did not notice that partitions stand still.")
    print(
        "\nself-test: "
        + (" ".join(wrong) or "the control is green, the stall and every missing guard are noticed")
    )
    return 1 if wrong else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 proven, 1 not."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long things break (5)")
    parser.add_argument("--seed", type=int, default=1, help="seed of everything (1)")
    parser.add_argument("--quick", action="store_true", help="a small proof of about a minute")
    parser.add_argument(
        "--registry", action="store_true", help="three schema versions and a registry that dies"
    )
    parser.add_argument("--self-test", action="store_true", help="show that it notices")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a green run too")
    given = parser.parse_args(arguments)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if given.self_test:
        return self_test(given.seed)
    size = QUICK if given.quick else Size.full(given.minutes)
    size = size.with_registry() if given.registry else size
    report = prove(given.seed, size, keep=given.keep)
    about = ", three schema versions and a registry" if given.registry else ""
    show(f"exactly once{about}, seed {given.seed}", report)
    return 1 if report.red else 0


if __name__ == "__main__":
    sys.exit(main())
