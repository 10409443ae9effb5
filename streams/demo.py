"""`agentops-streams demo`: a broker, a worker and five weeks of nine agents, judged at the end.

Needs the checkout: the traffic and the truth about it are made by its `load` package.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from rich.console import Console

from streams.connection import connection
from streams.demo_view import DAY_MS, Totals, View
from streams.local import LocalBroker
from streams.provision import create_topics
from streams.sender import Sender
from streams.settings import LOCAL_PARTITIONS, PREFIX, Settings
from streams.tail import Selection, tail
from streams.tether import tethered
from streams.topics import PRODUCED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from load.messages import Messages

HISTORY_DAYS = 30
HISTORY_SLICE_MS = DAY_MS // 4
WATCHED_SECONDS = 50.0
"""How long the days after the history take at speed 1."""
SLICE_SECONDS = 0.25
CATCH_UP_SECONDS = 60.0
JUDGE_SECONDS = 30.0
STOP_SECONDS = 10.0
LOOK_SECONDS = 0.3


class DemoError(RuntimeError):
    """The demo cannot run; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user can choose.

    Attributes:
        keep: stay with broker and worker running after the verdict, until interrupted.
        speed: how fast the last six days play; 1 is 50 seconds.
        workers: how many workers share the work.
    """

    keep: bool = False
    speed: float = 1.0
    workers: int = 1


async def run(options: Options) -> int:
    """Run the demo; return its exit code: 0 when all was as the truth says.

    Cancellation, and SIGTERM as well, ends every child and removes what was written.

    Raises:
        DemoError, LocalError, TopicsError, SendError, TailError: it cannot run.
    """
    checkout = _checkout()
    main = asyncio.current_task()
    if main is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    return await _Demo(options, checkout).run()


def _checkout() -> Path:
    """Return the checkout's folder.

    Raises:
        DemoError: this is not run from one.
    """
    root = Path(__file__).resolve().parent.parent
    if not (root / "load" / "demo_truth.json").is_file():
        raise DemoError(
            "The demo makes its traffic with the checkout's `load` folder, which an installed "
            "wheel does not have. Clone the repository and run scripts/demo there."
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return root


class _Demo:
    """One run."""

    def __init__(self, options: Options, checkout: Path) -> None:
        self._options = options
        self._checkout = checkout
        self._totals = Totals()
        self._console = Console(highlight=False, soft_wrap=True)
        self._view = View(self._console, self._totals)
        self._workers: list[subprocess.Popen[bytes]] = []
        self._origin_ms = 0

    async def run(self) -> int:
        """Play, judge and clean up, whatever happens."""
        folder = Path(tempfile.mkdtemp(prefix="agentops-demo-"))
        try:
            async with AsyncExitStack() as stack:
                stack.enter_context(self._view)
                settings, messages = await self._start(stack, folder)
                verdict = await self._play(settings, messages)
                self._view.__exit__(None, None, None)
                code = self._summary(verdict)
                if self._options.keep:
                    await self._stay(settings)
            return code
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _start(self, stack: AsyncExitStack, folder: Path) -> tuple[Settings, Messages]:
        """Start broker, topics and workers while the traffic is made."""
        self._view.phase("starting Kafka and making 36 days of nine agents")
        traffic = asyncio.create_task(asyncio.to_thread(self._make_traffic))
        broker = LocalBroker(folder / "kafka")
        stack.callback(broker.stop)
        await _to_the_end(broker.start)
        settings = Settings(
            bootstrap_servers=broker.bootstrap,
            app_id="agentops-demo",
            partitions=LOCAL_PARTITIONS,
            # What the worker has consumed is read from the group's offsets.
            group_commit_interval=LOOK_SECONDS,
            log_level="warning",
        )
        await create_topics(settings)
        stack.callback(self._end_workers)
        log = stack.enter_context((folder / "worker.log").open("ab"))
        self._log = folder / "worker.log"
        for _ in range(self._options.workers):
            self._workers.append(self._start_worker(settings, log))
        messages = await traffic
        self._view.origin_ms = self._origin_ms
        return settings, messages

    def _make_traffic(self) -> Messages:
        from load import fleet, truth  # noqa: PLC0415 - only a checkout has it
        from load.messages import Messages  # noqa: PLC0415

        facts = truth.load()
        tasks = fleet.generate(facts)
        # The last event is now. What is produced later than it happened is no problem; the
        # opposite would be: an event of the future.
        now_ms = time.time_ns() // 1_000_000
        self._origin_ms = now_ms - int(tasks.arrives_at[-1])
        return Messages(tasks, facts, self._origin_ms)

    def _start_worker(self, settings: Settings, log: Any) -> subprocess.Popen[bytes]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        ours = settings.model_dump(mode="json", exclude_defaults=True)
        kept |= {PREFIX + name.upper(): str(value) for name, value in ours.items()}
        return subprocess.Popen(  # noqa: S603 - our own command
            tethered([sys.executable, "-m", "streams.cli", "worker"]),
            cwd=self._checkout,
            env=kept,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # Ctrl-C reaches the worker through us, in order.
            start_new_session=True,
        )

    async def _play(self, settings: Settings, messages: Messages) -> dict[str, Any]:
        """Produce everything while watching, then let another process judge."""
        watching = [
            asyncio.create_task(self._watch_windows(settings)),
            asyncio.create_task(self._watch_alerts(settings)),
            asyncio.create_task(self._watch_requests(settings)),
            asyncio.create_task(self._watch_progress(settings)),
        ]
        try:
            async with asyncio.TaskGroup() as group:
                guard = group.create_task(self._guard(watching))
                await self._produce(settings, messages)
                self._view.phase("the worker reads to the end")
                await self._caught_up()
                self._view.phase("another process compares the alerts with the truth")
                verdict = await self._judge(settings)
                guard.cancel()
        except* (DemoError, KafkaError, OSError, ValueError, RuntimeError) as errors:
            raise errors.exceptions[0] from None
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
        return verdict

    async def _produce(self, settings: Settings, messages: Messages) -> None:
        history, end = HISTORY_DAYS * DAY_MS, int(messages.end_ms) + 1
        async with Sender(settings) as sender:
            self._view.phase(f"days 1 to {HISTORY_DAYS} at full speed")
            # Time by time, not topic by topic: what is known around a task is there with it.
            for begin in range(0, history, HISTORY_SLICE_MS):
                await self._send(sender, messages, begin, begin + HISTORY_SLICE_MS)
            await sender.flush()
            await self._caught_up()
            seconds = WATCHED_SECONDS / self._options.speed
            self._view.phase(f"days {HISTORY_DAYS + 1} to 36 in {seconds:.0f} s")
            started, done = time.monotonic(), history
            while done < end:
                await asyncio.sleep(SLICE_SECONDS)
                share = min(1.0, (time.monotonic() - started) / seconds)
                until = history + round(share * (end - history))
                await self._send(sender, messages, done, until)
                await sender.push()
                done = until

    async def _send(self, sender: Sender, messages: Messages, begin: int, end: int) -> None:
        for chunk in messages.between(begin, end):
            await sender.send(chunk)
            self._totals.produced += len(chunk)
            await asyncio.sleep(0)

    async def _caught_up(self) -> None:
        """Wait until the workers have committed all that was produced.

        Raises:
            DemoError: they commit nothing more for CATCH_UP_SECONDS.
        """
        totals, known = self._totals, -1
        deadline = time.monotonic()
        while totals.consumed < totals.produced:
            if totals.consumed > known:
                known, deadline = totals.consumed, time.monotonic() + CATCH_UP_SECONDS
            if time.monotonic() > deadline:
                raise DemoError(
                    f"The worker consumed {totals.consumed:,} of {totals.produced:,} "
                    f"records and {CATCH_UP_SECONDS:.0f} s more did not help. "
                    f"Its log ends with: {self._log_end()}"
                )
            await asyncio.sleep(LOOK_SECONDS)

    async def _guard(self, watching: list[asyncio.Task[None]]) -> None:
        """Raise when a worker or a watcher ends by itself."""
        while True:
            for process in self._workers:
                if process.poll() is not None:
                    raise DemoError(
                        f"A worker ended with exit code {process.returncode}. Its log ends with: "
                        f"{self._log_end()}"
                    )
            for task in watching:
                if task.done():
                    await task
            await asyncio.sleep(LOOK_SECONDS)

    async def _watch_windows(self, settings: Settings) -> None:
        async with aclosing(tail(settings, Selection(["windows"], follow=True))) as records:
            async for one in records:
                self._view.window(one.record)

    async def _watch_alerts(self, settings: Settings) -> None:
        async with aclosing(tail(settings, Selection(["alerts"], follow=True))) as records:
            async for one in records:
                self._view.alert(one.record)

    async def _watch_requests(self, settings: Settings) -> None:
        async with aclosing(tail(settings, Selection(["retraining"], follow=True))) as records:
            async for one in records:
                self._view.request(one.record)

    async def _watch_progress(self, settings: Settings) -> None:
        """Read what the group of the workers has committed of what is produced."""
        topics = set(map(settings.topic, PRODUCED))
        async with _admin(settings) as admin:
            while True:
                with suppress(KafkaError):
                    offsets = await admin.list_consumer_group_offsets(settings.app_id)
                    ours = [one.offset for place, one in offsets.items() if place.topic in topics]
                    self._view.consumed(sum(max(0, offset) for offset in ours))
                await asyncio.sleep(LOOK_SECONDS)

    async def _judge(self, settings: Settings) -> dict[str, Any]:
        """Run the second process; return its verdict.

        Raises:
            DemoError: it gave none.
        """
        command = [sys.executable, "-m", "load.verdict", "--bootstrap", settings.bootstrap_servers]
        command += ["--prefix", settings.topic_prefix, "--origin", str(self._origin_ms)]
        process = await asyncio.create_subprocess_exec(
            *tethered([*command, "--seconds", str(JUDGE_SECONDS)]),
            cwd=self._checkout,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        try:
            verdict: dict[str, Any] = json.loads(out)
        except ValueError as error:
            raise DemoError(f"The judge ended with {process.returncode}: {error}") from error
        return verdict

    def _summary(self, verdict: dict[str, Any]) -> int:
        totals, say = self._totals, self._console.print
        first = "never" if totals.first_firing is None else f"{totals.first_firing:.0f} s"
        counted = ", ".join(f"{n} {status}" for status, n in sorted(totals.transitions.items()))
        refused = sum(verdict["dead_letters"].values())
        known = "as expected" if verdict["dead_letters_expected"] else "NOT as expected"
        rate = f"at most {totals.peak:,.0f}/s"
        say(f"\n{totals.consumed:,} records in {totals.seconds:.0f} s, {rate}")
        say(f"alerts: {counted or 'none'}; first FIRING after {first}")
        say(
            f"{totals.pages} pages, {totals.repeats} of them a day later because nobody here "
            f"acknowledges; {verdict['withheld']} more alerts show on the page of another"
        )
        asked = ", ".join(f"{n} {status}" for status, n in sorted(totals.requests.items()))
        say(f"retraining requests: {asked or 'none'}")
        letters = sorted(verdict["dead_letters"].items())
        reasons = ", ".join(f"{n} {reason}" for reason, n in letters)
        say(f"dead letters: {refused}, {known}: {reasons}")
        for name in verdict["found"]:
            say(f"  as expected: {name}")
        for sentence in verdict["wrong"]:
            say(f"  WRONG: {sentence}")
        right = not verdict["wrong"] and verdict["dead_letters_expected"]
        say(
            "Every expected alert and request came, each at its time, and nothing else."
            if right
            else "The run does not fit load/demo_truth.json."
        )
        return 0 if right else 1

    async def _stay(self, settings: Settings) -> None:
        say = self._console.print
        say(f"\nBroker and worker go on at {settings.bootstrap_servers} until Ctrl-C. Try:")
        for words in ("tail alerts", "tail windows --where agent_id=document-intake --since 6h"):
            say(f"  agentops-streams {words} --bootstrap {settings.bootstrap_servers}")
        # An interruption is how this ends, not an error.
        with suppress(asyncio.CancelledError):
            while all(process.poll() is None for process in self._workers):
                await asyncio.sleep(1.0)

    def _end_workers(self) -> None:
        for process in self._workers:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._workers:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _log_end(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " | ".join(lines[-5:]) or "nothing"


async def _to_the_end(work: Callable[[], object]) -> None:
    """Run `work` in a thread; a cancellation waits for its end, so that it can be undone."""
    thread = asyncio.create_task(asyncio.to_thread(work))
    try:
        await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait([thread])
        thread.exception()  # what failed because of the end is nobody's concern any more
        raise


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
