"""`scripts/fuzz`: hostile values on a real broker; nothing good is lost, nothing bad gets through.

A million fuzzed records among as many good ones, read by the real worker and by one that writes
down every row it decodes. Each record is judged by an independent reference: its row must come out
field by field, or it must be a dead letter exactly once, for the right reason, with its own bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import shutil
import sys
import tempfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from load.fuzz_coverage import cover
from load.fuzz_judge import ACCEPTED, GOOD
from load.fuzz_run import FuzzRun, Report, Size
from load.mutations import BODIES
from streams.local import LocalBroker, LocalRegistry

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN = 30
"""Problems to print."""
QUICK = Size(20_000, 10_000, max_series=120, together=True)


def summary(report: Report) -> dict[str, Any]:
    """Return a report as plain values."""
    findings = report.findings
    by_mutation: dict[str, Counter[str]] = {}
    for (mutation, reason), count in sorted(findings.verdicts.items()):
        by_mutation.setdefault(mutation, Counter())[reason] += count
    good = by_mutation.pop(GOOD, Counter())
    fuzzed = sum(each.total() for each in by_mutation.values())
    bodies = sum(each.total() for name, each in by_mutation.items() if name in BODIES)
    return {
        "green": not report.red,
        "good": good.total(),
        "good accepted": good[ACCEPTED],
        "fuzzed": fuzzed,
        "fuzzed with a valid frame and a mutated body": bodies,
        "fuzzed and accepted": sum(each[ACCEPTED] for each in by_mutation.values()),
        "rows compared": findings.rows,
        "windows compared": findings.windows,
        "most series of a partition": findings.series,
        **report.facts,
        "refused": {
            reason: {"expected": count, "found": findings.letters[reason]}
            for reason, count in findings.refused.most_common()
        },
        "mutations": {name: dict(each.most_common()) for name, each in by_mutation.items()},
        "problems": dict(findings.kinds) | dict.fromkeys(report.problems, 1),
    }


def show(report: Report) -> None:
    """Print a report as tables."""
    found = summary(report)
    refused, mutations = found.pop("refused"), found.pop("mutations")
    found.pop("problems")
    print(f"\n== {'green' if found.pop('green') else 'RED'}")
    for name, value in found.items():
        print(f"   {name:46} {value:>12,}")
    print(f"\n   {'reason':24} {'must be':>12} {'dead letters':>12}")
    for reason, counts in refused.items():
        print(f"   {reason:24} {counts['expected']:>12,} {counts['found']:>12,}")
    print(f"\n   {'mutation':24} {'values':>12} {'accepted':>12}   refused for")
    for name, counts in mutations.items():
        refusals = [f"{reason} {count:,}" for reason, count in counts.items() if reason != ACCEPTED]
        accepted = counts.get(ACCEPTED, 0)
        print(
            f"   {name:24} {sum(counts.values()):>12,} {accepted:>12,}   {', '.join(refusals[:4])}"
        )
    for kind, count in report.findings.kinds.items():
        print(f"   problem: {kind}, {count} times")
    for line in [*report.problems, *report.findings.problems][:SHOWN]:
        print(f"   problem: {line}")


def prove(seed: int, size: Size, *, registry: bool = False) -> Report:
    """Run on servers of its own; the folder with the logs stays when it is red."""
    folder = Path(tempfile.mkdtemp(prefix="agentops-fuzz-"))
    with LocalBroker() as broker, LocalRegistry() if registry else nullcontext() as beside:
        url = beside.url if beside is not None else None
        run = FuzzRun(broker.bootstrap, seed, size, folder, registry_url=url)
        report = asyncio.run(run.run())
    (folder / "report.json").write_text(json.dumps(summary(report), indent=2, default=str))
    (folder / "problems.txt").write_text("\n".join(report.findings.problems))
    if report.red:
        report.problems.append(f"logs and report are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0 proven, 1 not."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--values", type=int, default=1_000_000, help="fuzzed records (1000000)")
    parser.add_argument("--good", type=int, default=None, help="good records (as many)")
    parser.add_argument("--seed", type=int, default=1, help="seed of all records (1)")
    parser.add_argument("--quick", action="store_true", help="30,000 records, under a minute")
    parser.add_argument("--registry", action="store_true", help="ids of a schema registry as well")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--coverage", action="store_true", help="guided, without a broker")
    parser.add_argument("--seconds", type=int, default=300, help="how long it is guided (300)")
    given = parser.parse_args(arguments)
    if given.coverage:
        return cover(given.seconds, given.seed)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    good = given.values if given.good is None else given.good
    size = QUICK if given.quick else Size(given.values, good)
    report = prove(given.seed, size, registry=given.registry)
    if given.json:
        print(json.dumps(summary(report), indent=2))
    else:
        show(report)
    return 1 if report.red else 0


if __name__ == "__main__":
    sys.exit(main())
