"""`python -m load.verdict`: judge what a demo said by the truth.

Reads alerts and retraining requests, committed only. A process of its own, so that it sees what any
consumer of these topics sees. Prints the verdict
as JSON; exit code 0 when every expected alert fired and was resolved and nothing else came.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import aclosing, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from load import truth
from streams.settings import Settings
from streams.tail import Selection, tail

if TYPE_CHECKING:
    from collections.abc import Sequence

QUIET_SECONDS = 3.0
"""How long nothing more may come after the last expected alert is resolved."""


async def judge(settings: Settings, origin_ms: int, seconds: float) -> dict[str, Any]:
    """Follow the alerts until all is resolved and quiet, or `seconds` are over; then judge.

    Args:
        settings: broker and prefix of the demo.
        origin_ms: event time of the start of the data, ms since 1970 UTC.
        seconds: how long to wait for what is missing.

    Returns:
        Fields of `load.truth.Verdict`, the dead letters by reason, and whether these fit.
    """
    facts = truth.load()
    told: dict[str, list[dict[str, Any]]] = {"alerts": [], "retraining": []}
    deadline = time.monotonic() + seconds
    with suppress(TimeoutError):
        await _follow(settings, told, facts, origin_ms, deadline)
    verdict = truth.compare(facts, told["alerts"], origin_ms, told["retraining"])
    refused = await _dead_letters(settings)
    return asdict(verdict) | {
        "alerts": len(told["alerts"]),
        "dead_letters": dict(refused),
        "dead_letters_expected": refused == Counter(facts.dead_letters),
    }


async def _follow(
    settings: Settings,
    told: dict[str, list[dict[str, Any]]],
    facts: truth.Truth,
    origin_ms: int,
    deadline: float,
) -> None:
    """Collect records of the topics in `told` until the deadline, or all is well for QUIET_SECONDS.

    Raises:
        TimeoutError: that is how it ends.
    """
    until = deadline
    names = {settings.topic(name): name for name in told}
    async with aclosing(tail(settings, Selection(list(told), follow=True))) as records:
        reading = records.__aiter__()
        while True:
            async with asyncio.timeout(until - time.monotonic()):
                one = await anext(reading)
            told[names[one.topic]].append(dict(one.record))
            verdict = truth.compare(facts, told["alerts"], origin_ms, told["retraining"])
            well = not verdict.waiting
            until = min(deadline, time.monotonic() + QUIET_SECONDS) if well else deadline


async def _dead_letters(settings: Settings) -> Counter[str]:
    found: Counter[str] = Counter()
    async with aclosing(tail(settings, Selection(["dead-letters"]))) as records:
        async for one in records:
            found[str(one.record.get("headers", {}).get("reason"))] += 1
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", required=True, help="host:port of the broker")
    parser.add_argument("--prefix", default="agentops.", help="topic prefix")
    parser.add_argument(
        "--origin", type=int, required=True, help="start of the data, ms since 1970"
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="longest wait")
    given = parser.parse_args(arguments)
    settings = Settings(bootstrap_servers=given.bootstrap, topic_prefix=given.prefix)
    verdict = asyncio.run(judge(settings, given.origin, given.seconds))
    print(json.dumps(verdict))
    return 1 if verdict["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
