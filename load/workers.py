"""Worker processes of the exactly-once proof: started, killed, stopped, continued and sent home."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streams.tether import tethered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
COMMAND = ("-c", "from streams.cli import main; main()", "worker")
"""What Python is given to become a worker."""
LEAVE_SECONDS = 30.0
"""How long a worker may take to stop after SIGTERM."""
WORRIES = ("unit.stopped", "unit.fold_failed", "assignment.split", "worker.leaving")
"""What no worker's log may hold, whatever was done to it."""
OPENED = "unit.open "
"""What a worker's log holds once it owns something."""
MOVING = ("rebalancing", "re-joining", "coordinator dead")
"""What it holds while the group moves."""
REOPENING = "unit.reopening"
"""What it holds when an error made it throw a unit away."""


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process.

    Attributes:
        number: 1 for the first started.
        process: its process.
        log: file of its log lines.
        failpoints: what was asked of its fail points.
        paused: whether it is stopped by SIGSTOP.
        may_end: exit codes that are not a surprise any more; a negative one is a signal.
    """

    number: int
    process: subprocess.Popen[bytes]
    log: Path
    failpoints: str = ""
    paused: bool = False
    may_end: tuple[int, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None


class Crew:
    """The workers of one proof; start it from the thread that stays.

    Args:
        environment: AGENTOPS_* settings of every worker.
        folder: where logs go.
        failpoints: fail points of every worker, beside those of a single one.
        command: what Python is given to become a worker.

    Attributes:
        workers: all ever started.
        touched_at: monotonic seconds at which something was last done to a worker.
        opened_at: monotonic seconds at which a unit was last opened, by its name.
        rebalanced_at: monotonic seconds at which a worker last said that the group moves.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        folder: Path,
        failpoints: tuple[str, ...] = (),
        command: Sequence[str] = COMMAND,
    ) -> None:
        own = {name: text for name, text in os.environ.items() if not name.startswith("AGENTOPS_")}
        self._environment = own | {"PYTHONPATH": str(ROOT)} | dict(environment)
        self._folder = folder
        self._failpoints = failpoints
        self._command = command
        self.workers: list[Worker] = []
        self.touched_at = self.rebalanced_at = time.monotonic()
        self.opened_at: dict[str, float] = {}
        self._scanned: dict[int, int] = {}

    def start(self, failpoint: str = "") -> Worker:
        """Start a worker, with a fail point of its own if one is given."""
        number = len(self.workers) + 1
        points = ",".join([*self._failpoints, *filter(None, [failpoint])])
        log = self._folder / f"worker-{number:03d}.log"
        command = tethered([sys.executable, *self._command])
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                env=self._environment | ({"AGENTOPS_FAILPOINTS": points} if points else {}),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        worker = Worker(number, process, log, failpoint)
        if "kill@" in failpoint:
            worker.may_end = (-signal.SIGKILL,)
        self.workers.append(worker)
        self._touched()
        return worker

    def ready(self) -> list[Worker]:
        """Return the workers that live, are not paused and not on their way out."""
        return [
            each for each in self.workers if each.alive and not each.paused and not each.may_end
        ]

    def kill(self, worker: Worker) -> None:
        """End a worker at once."""
        worker.may_end = (*worker.may_end, -signal.SIGKILL)
        self._signal(worker, signal.SIGKILL)

    def pause(self, worker: Worker) -> None:
        """Stop a worker where it stands; for the others it looks dead after the session."""
        worker.paused = True
        self._signal(worker, signal.SIGSTOP)

    def resume(self, worker: Worker) -> None:
        """Let a paused worker go on."""
        worker.paused = False
        self._signal(worker, signal.SIGCONT)

    def leave(self, worker: Worker) -> None:
        """Ask a worker to stop; it must do so in order, with exit code 0.

        One that owns nothing yet may still be importing and simply end.
        """
        early = () if self.count(OPENED, worker) else (-signal.SIGTERM,)
        worker.may_end = (*worker.may_end, 0, *early)
        self._signal(worker, signal.SIGTERM)

    def owning(self) -> list[Worker]:
        """Return the workers of `ready` that have opened a unit."""
        return [each for each in self.ready() if self.count(OPENED, each)]

    def scan(self) -> None:
        """Read what the logs have grown by: units opened, rebalances."""
        now = time.monotonic()
        for each in self.workers:
            with each.log.open("rb") as file:
                file.seek(self._scanned.get(each.number, 0))
                text = file.read().rpartition(b"\n")[0]
            self._scanned[each.number] = self._scanned.get(each.number, 0) + len(text)
            for line in text.decode(errors="replace").splitlines():
                if OPENED in line:
                    self.opened_at[line.rpartition("unit=")[2].strip()] = now
                elif any(word in line for word in MOVING):
                    self.rebalanced_at = now

    def surprises(self) -> list[str]:
        """Return one sentence for each worker that ended on its own."""
        return [
            f"worker {each.number} ended by itself, code {each.process.returncode}: {_last(each)}"
            for each in self.workers
            if not each.alive and each.process.returncode not in each.may_end
        ]

    def count(self, text: str, worker: Worker | None = None) -> int:
        """Return how many lines of the logs, or of one worker's, hold `text`."""
        workers = self.workers if worker is None else [worker]
        return sum(
            text in line
            for each in workers
            for line in each.log.read_text(errors="replace").splitlines()
        )

    def worries(self) -> list[str]:
        """Return one sentence for each kind of log line that must not be, and each worker."""
        found = []
        for each in self.workers:
            lines = each.log.read_text(errors="replace").splitlines()
            for worry in WORRIES:
                bad = [line for line in lines if worry in line]
                if bad:
                    found.append(f"worker {each.number}, {len(bad)} times: {bad[0][:300]}")
        return found

    def end(self) -> list[str]:
        """End all workers, in order where that goes; return who did not stop when asked."""
        late = []
        for each in self.workers:
            if each.alive and each.paused:
                self.resume(each)
            if each.alive:
                self.leave(each)
        deadline = time.monotonic() + LEAVE_SECONDS
        for each in self.workers:
            try:
                each.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                late.append(f"worker {each.number} did not stop within {LEAVE_SECONDS:.0f} s")
                self.kill(each)
                each.process.wait(10)
        return late

    def _signal(self, worker: Worker, which: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            worker.process.send_signal(which)
        self._touched()

    def _touched(self) -> None:
        self.touched_at = time.monotonic()


def _last(worker: Worker) -> str:
    lines = worker.log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"
