"""The whole dataflow on one screen.

`dataflow` says which topics each stage reads, where its state lives and what it writes;
`run_worker` runs it, `topology_text` prints it, and the README shows that print.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from streams.catalog import SchemaCatalog
from streams.detect_stage import ROLES, DetectCore
from streams.frames import FramesError, wait_for_frames
from streams.incident_stage import IncidentsCore
from streams.metrics import Metrics, MetricsError
from streams.provision import TopicsError
from streams.retraining import RetrainingDesk
from streams.rollup_stage import RollUpCore
from streams.rules import RuleSet
from streams.stage import Stage
from streams.topics import DETECT_INPUTS
from streams.worker import configure_logging, serve, wait_for_broker

if TYPE_CHECKING:
    from streams.settings import Settings

log = structlog.get_logger(__name__)


def dataflow(settings: Settings, rules: RuleSet, catalog: SchemaCatalog) -> tuple[Stage, ...]:
    """Return the stages: which topics each reads, where its state lives, what it writes."""
    topic, partitions = settings.topic, settings.partitions
    inputs = tuple(map(topic, DETECT_INPUTS))
    return (
        Stage(
            name="detect",
            topics=inputs,
            reads=tuple(map(topic, ROLES)),
            writes=tuple(
                map(topic, ("findings", "windows", "partials", "training-signals", "dead-letters"))
            ),
            state_topic=topic("state"),
            partitions=partitions,
            make_core=lambda partition: DetectCore(settings, rules, partition, catalog),
        ),
        Stage(
            name="rollup",
            topics=(topic("partials"),),
            reads=(topic("partials"),),
            writes=(topic("findings"), topic("windows"), topic("dead-letters")),
            state_topic=topic("rollup-state"),
            partitions=partitions,
            make_core=lambda partition: RollUpCore(settings, rules, partition, catalog),
        ),
        Stage(
            name="incidents",
            topics=(topic("findings"), topic("controls")),
            reads=(topic("findings"), topic("controls")),
            writes=tuple(map(topic, ("alerts", "open-alerts", "retraining", "dead-letters"))),
            state_topic=topic("incidents-state"),
            partitions=1,
            make_core=lambda partition: IncidentsCore(
                settings, rules, partition, catalog, RetrainingDesk()
            ),
        ),
    )


def topology_text(settings: Settings, rules: RuleSet) -> str:
    """Return the dataflow as text, one stage after the other."""
    lines = []
    for stage in dataflow(settings, rules, SchemaCatalog(settings)):
        units = f"{stage.name}/0" + (
            f" … {stage.name}/{stage.partitions - 1}" if stage.partitions > 1 else ""
        )
        waiting = [name for name in stage.topics if name not in stage.reads]
        lines += [
            f"{stage.name}  (units {units}; one transaction per epoch and unit)",
            *(f"    ──► reads  {name}" for name in stage.reads),
            *(f"    ··· holds  {name}" for name in waiting),
            f"    ◄─► state  {stage.state_topic}",
            *(f"    ──► writes {name}" for name in stage.writes),
            "",
        ]
    return "\n".join(lines).rstrip()


def run_worker(settings: Settings) -> int:
    """Run one worker until SIGTERM or SIGINT.

    Returns:
        0 after a clean stop, 1 after a crash, 2 when topics, rules, schemas or settings do not
        fit.
    """
    configure_logging(settings)
    metrics = Metrics()
    try:
        rules = rules_of(settings)
        if settings.metrics:
            metrics.serve(settings.metrics)
        # The broker last: a worker that finds it gone once it has started, ends.
        frames = asyncio.run(wait_for_frames(settings, metrics))
        limits = asyncio.run(wait_for_broker(settings))
    except (TopicsError, FramesError, MetricsError, ValueError) as error:
        log.error("worker.refused", error=str(error))  # noqa: TRY400 - the message says it all
        return 2
    except KeyboardInterrupt:
        return 0
    catalog = SchemaCatalog(settings, frames, metrics)
    return serve(settings, dataflow(settings, rules, catalog), limits, catalog, metrics)


def rules_of(settings: Settings) -> RuleSet:
    """Return the rules that the settings name, or the built-in ones.

    Raises:
        ValueError: the file is missing or a rule is not allowed; the message says which.
    """
    return RuleSet.read(settings.rules_file) if settings.rules_file else RuleSet.default()
