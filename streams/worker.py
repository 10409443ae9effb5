"""One worker process: the Faust app around the dataflow, from start to clean stop.

Nothing is made at import; `build` makes the app around the stages it is given, `serve` runs it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, cast

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.worker import Worker

from streams.assignor import assignor_for
from streams.catalog import SchemaCatalog
from streams.failpoints import Failpoints
from streams.metrics import Metrics
from streams.ownership import UnitManager
from streams.provision import ProblemKind, TopicsError, check_topics, size_limits
from streams.refusals import RefusalLog
from streams.right_of_way import RightOfWay
from streams.stage import Stage, Surroundings
from streams.transport import BatchConsumer, BatchTransport, PassThrough

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from streams.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds between two tries to reach a broker that is away.
BROKER_PAUSE = 1.0


class StreamsApp(faust.App):
    """A Faust app whose transport yields batches and whose units own the positions."""

    settings: Settings
    subscription: frozenset[str]
    units: UnitManager
    catalog: SchemaCatalog
    exit_code = 0

    def _create_directories(self) -> None:
        """Make no data folder: nothing is kept on disk."""


def build(
    settings: Settings,
    stages: Sequence[Stage],
    size_limits: Mapping[str, int] | None = None,
    catalog: SchemaCatalog | None = None,
    metrics: Metrics | None = None,
) -> StreamsApp:
    """Make the app of one worker.

    Args:
        settings: the worker's settings.
        stages: the dataflow to run.
        size_limits: topic → max.message.bytes, as read from the broker.
        catalog: the schemas that the stages' cores know; one of its own when None.
        metrics: where the worker counts; nowhere anybody looks when None.
    """
    app = StreamsApp(
        settings.app_id,
        broker=[f"kafka://{server}" for server in settings.bootstrap_servers.split(",")],
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        stream_buffer_maxsize=settings.buffered_batches,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.session_timeout / 4,
        broker_rebalance_timeout=settings.rebalance_timeout,
        broker_request_timeout=max(settings.request_timeout, settings.session_timeout),
        PartitionAssignor=assignor_for([stage.assignable() for stage in stages]),
    )
    app.settings = settings
    app.subscription = frozenset(name for stage in stages for name in stage.topics)
    app.transport = BatchTransport(app.conf.broker_consumer, app, app.loop)
    metrics = metrics or Metrics()
    app.catalog = catalog or SchemaCatalog(settings, metrics=metrics)
    app.units = UnitManager(stages, _surroundings(app, size_limits or {}, metrics))
    _connect(app, stages)
    return app


class _LateFlow:
    """The consumer thread, looked up at each use: Faust makes it only when the app starts."""

    def __init__(self, app: StreamsApp) -> None:
        self._app = app

    def __getattr__(self, name: str) -> Any:
        return getattr(cast("BatchConsumer", self._app.consumer).thread, name)


def _surroundings(
    app: StreamsApp, size_limits: Mapping[str, int], metrics: Metrics
) -> Surroundings:
    def leave(why: str) -> None:
        log.error("worker.leaving", reason=why)
        app.exit_code = 1
        os.kill(os.getpid(), signal.SIGTERM)

    return Surroundings(
        settings=app.settings,
        flow=cast("Any", _LateFlow(app)),
        size_limits=size_limits,
        wall=time.time,
        leave=leave,
        failpoints=Failpoints.from_environment(),
        catalog=app.catalog,
        metrics=metrics,
        refusals=RefusalLog(metrics, time.monotonic),
        right_of_way=RightOfWay(app.settings.transaction_timeout / 4),
    )


def _connect(app: StreamsApp, stages: Sequence[Stage]) -> None:
    """Tie agents, assignments and the clock to the units."""
    units = app.units

    async def fold(stream: Any) -> None:
        async for event in stream.events():
            await units.accept(event.value)

    async def on_assigned(_: Any, /, *arguments: Any, **__: Any) -> None:
        (assigned,) = arguments
        cast("BatchConsumer", app.consumer).thread.on_fetch_error = units.fetch_failed
        units.assigned(app.consumer_generation_id, [(tp.topic, tp.partition) for tp in assigned])

    async def close_all(*_: Any, **__: Any) -> None:
        await units.revoked()

    async def shut_down(*_: Any, **__: Any) -> None:
        await units.revoked()
        await app.catalog.close()

    for stage in stages:
        for name in stage.reads:
            channel = app.topic(name, schema=PassThrough(), acks=False)
            app.agent(channel, name=f"{stage.name}:{name}")(fold)
    app.on_partitions_assigned.connect(on_assigned, weak=False)
    app.on_partitions_revoked.connect(close_all, weak=False)
    # Faust stops without revoking anything, so the units are closed here as well.
    app.on_before_shutdown.connect(shut_down, weak=False)
    app.timer(interval=app.settings.housekeeping_interval, name="housekeeping")(units.housekeeping)


def tune_garbage_collector() -> None:
    """Collect rarely: short-lived batches make the default threshold cost half of the speed."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


async def wait_for_broker(settings: Settings) -> dict[str, int]:
    """Wait until the broker answers, check the topics, and return their size limits.

    A worker that is started before its broker waits, with one log line per pause.

    Raises:
        TopicsError: a topic is missing or does not fit; the message says what to do.
    """
    attempt = 0
    while True:
        try:
            problems = await check_topics(settings)
            fatal = [problem for problem in problems if problem.kind is not ProblemKind.CONFIG]
            limits = {} if fatal else await size_limits(settings)
        # A broker can also go away between two questions.
        except (TopicsError, KafkaError, OSError) as error:
            if attempt % 10 == 0:
                log.warning("broker.waiting", servers=settings.bootstrap_servers, error=str(error))
            await asyncio.sleep(BROKER_PAUSE)
            attempt += 1
            continue
        if fatal:
            raise TopicsError("\n".join(map(str, fatal)), fatal)
        for problem in problems:
            log.warning("topic.setting", problem=str(problem))
        return limits


def serve(
    settings: Settings,
    stages: Sequence[Stage],
    limits: Mapping[str, int],
    catalog: SchemaCatalog | None = None,
    metrics: Metrics | None = None,
) -> int:
    """Run an app around `stages` until SIGTERM or SIGINT; 0 after a clean stop, else not."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = build(settings, stages, limits, catalog, metrics)
    tune_garbage_collector()
    worker = Worker(
        app,
        loop=loop,
        loglevel=settings.log_level.upper(),
        override_logging=False,
        redirect_stdouts=False,
        quiet=True,
    )
    worker.spinner = None
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        return app.exit_code or int(end.code or 0)
    except KeyboardInterrupt:
        return 0


def configure_logging(settings: Settings) -> None:
    """Send one line per event to stderr, as text or JSON."""
    level = getattr(logging, settings.log_level.upper())
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr, force=True)
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
