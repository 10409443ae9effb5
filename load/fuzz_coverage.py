"""`scripts/fuzz --coverage`: guided fuzzing of the decoders, without a broker.

libFuzzer, by way of `atheris`, keeps the inputs that reach new branches of the decoders, of the
reference, or of a strict reader in plain Python, whose branches follow the fields. It starts from
values that `load.mutations` makes. An input that is read wrongly ends the run; its bytes are
printed and belong into `tests/test_fuzz.py`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from load.decoder_check import DecoderCheck

SEEDS = 400
"""Values of each topic to start from."""
LONGEST = 1_500
"""Bytes of an input."""
_NOTE_EVERY = 500
STREAMS = ("tasks", "security", "calls")


def target(check: DecoderCheck, note: Callable[[str, str | None], None]) -> Callable[[bytes], None]:
    """Return what checks one input: a byte that chooses topic and frame, and the value.

    Args:
        check: the decoders.
        note: told the outcome of each input, and the rule it breaks leniently.
    """

    def run(data: bytes) -> None:
        choice, rest = data[0] if data else 0, data[1:]
        stream = STREAMS[choice % len(STREAMS)]
        frames = [b"", *check.frames(stream)]
        value = frames[choice // len(STREAMS) % len(frames)] + rest
        outcome = check.check(stream, value)
        note(outcome.verdict.reason or "ACCEPTED", outcome.lenient)

    return run


def seeds(folder: Path) -> None:
    """Write the inputs to start from."""
    from load import versions  # noqa: PLC0415 - see `child`
    from load.lanes import Lane  # noqa: PLC0415

    for number, stream in enumerate(STREAMS):
        makers = versions.current, versions.older, versions.newer
        known = tuple(make(stream) for make in makers)
        lane = Lane(1, stream, 0, 1, SEEDS, SEEDS // 4, known)
        values = [each.value for batch in lane.batches() for each in batch.records]
        for index, value in enumerate(values):
            if value and len(value) < LONGEST:
                (folder / f"{stream}-{index}").write_bytes(bytes([number]) + value)


def child(folder: Path, seconds: int, seed: int) -> None:
    """Fuzz in this process until the time is over or an input is read wrongly; never returns."""
    import atheris  # noqa: PLC0415 - an extra

    with atheris.instrument_imports(include=["streams", "load"]):
        from load.decoder_check import DecoderCheck  # noqa: PLC0415 - only now instrumented
    counts: Counter[str] = Counter()

    def note(outcome: str, lenient: str | None) -> None:
        counts[outcome] += 1
        counts["inputs"] += 1
        if lenient:
            counts[f"lenient: {lenient}"] += 1
        if counts["inputs"] % _NOTE_EVERY == 0:
            (folder / "counts.json").write_text(json.dumps(counts))

    options = [
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        f"-seed={seed}",
        f"-artifact_prefix={folder}/found-",
        "-print_final_stats=1",
        "-rss_limit_mb=2048",
        "-timeout=20",
        str(folder / "corpus"),
    ]
    atheris.Setup([sys.argv[0], *options], target(DecoderCheck(), note))
    atheris.Fuzz()


def cover(seconds: int, seed: int) -> int:
    """Fuzz for some seconds in a process of its own; return the exit code of the command."""
    with tempfile.TemporaryDirectory(prefix="agentops-fuzz-") as name:
        folder = Path(name)
        (folder / "corpus").mkdir()
        seeds(folder / "corpus")
        started = len(list((folder / "corpus").iterdir()))
        command = [sys.executable, "-m", "load.fuzz_coverage", name, str(seconds), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        counted: dict[str, Any] = {}
        if (folder / "counts.json").exists():
            counted = json.loads((folder / "counts.json").read_text())
        found = [path.read_bytes() for path in folder.glob("found-*")]
        kept = len(list((folder / "corpus").iterdir())) - started
    _show(counted, kept, [line for line in done.stderr.splitlines() if "cov:" in line][-1:])
    for data in found:
        print(f"   read wrongly: {data.hex()}")
    if found or done.returncode:
        print(done.stdout[-4_000:], done.stderr[-4_000:], sep="\n")
        return 1
    return 0


def _show(counted: dict[str, int], kept: int, last: Sequence[str]) -> None:
    print(f"\n== guided fuzzing: {counted.pop('inputs', 0):,} inputs, {kept:,} of new coverage")
    for line in last:
        print(f"   {line.strip()}")
    for outcome, times in sorted(counted.items(), key=lambda pair: -pair[1]):
        print(f"   {outcome:44} {times:>12,}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("seconds", type=int)
    parser.add_argument("seed", type=int)
    given = parser.parse_args()
    child(given.folder, given.seconds, given.seed)
