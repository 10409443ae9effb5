"""`agentops-streams doctor`: look at everything a worker stands on, change nothing, name cures.

Each check asks and then judges; what it asks is bounded in time, and one that breaks stops no
other. Nobody joins the group, nothing is committed, registered or created; only `--probe` writes,
to a topic of its own.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from streams import (
    doctor_access,
    doctor_clocks,
    doctor_cluster,
    doctor_group,
    doctor_host,
    doctor_partitioner,
    doctor_samples,
    doctor_schemas,
    doctor_state,
)
from streams.app import dataflow
from streams.catalog import SchemaCatalog
from streams.diagnosis import Check, Diagnosis, Status, bad, skipped
from streams.provision import TopicsError, check_topics
from streams.registry import RegistryError
from streams.rules import RuleSet
from streams.schema_topic import PublishError, published
from streams.settings import SettingsError
from streams.topics import PRODUCED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from aiokafka.client import AIOKafkaClient
    from aiokafka.structs import TopicPartition

    from streams.doctor_samples import Sampled
    from streams.settings import Settings

    Step = Callable[[], Awaitable[list[Diagnosis]]]

CHECK_SECONDS = 12.0
"""What one check may take."""


class Doctor:
    """One examination.

    Args:
        settings: of the workers to be.
        origins: where each setting that is not the default was read.
        probe: whether to write to a temporary topic, to ask brokers for their time.
    """

    def __init__(
        self, settings: Settings, origins: Mapping[str, str], *, probe: bool = False
    ) -> None:
        self._settings = settings
        self._origins = origins
        self._probe = probe
        self._catalog = SchemaCatalog(settings)
        self._stages = dataflow(settings, RuleSet.default(), self._catalog)
        self._client: AIOKafkaClient | None = None
        self._cluster: doctor_cluster.Cluster | None = None
        self._samples: list[Sampled] | None = None
        self._group: doctor_group.Group | None = None

    async def examine(self) -> AsyncGenerator[Diagnosis, None]:
        """Yield what each check found, in their order."""
        try:
            for check, step, wants_broker in self._plan():
                if wants_broker and self._cluster is None:
                    yield skipped(check, "No broker could be asked; see BROKER.")
                    continue
                for diagnosis in await bounded(check, step):
                    yield diagnosis
        finally:
            if self._client is not None:
                await self._client.close()
            await self._catalog.close()

    def _plan(self) -> tuple[tuple[Check, Step, bool], ...]:
        """Return the checks in their order, and which of them need a broker."""
        return (
            (Check.SETTINGS, self._check_settings, False),
            (Check.VERSIONS, self._check_versions, False),
            (Check.LIMITS, self._check_limits, False),
            (Check.BROKER, self._check_broker, False),
            (Check.TOPICS, self._check_topics, True),
            (Check.ACCESS, self._check_access, True),
            (Check.SCHEMAS, self._check_schemas, True),
            (Check.REGISTRY, self._check_registry, False),
            (Check.PARTITIONER, self._check_partitioner, True),
            (Check.CLOCKS, self._check_clocks, True),
            (Check.BROKER_CLOCK, self._check_broker_clock, True),
            (Check.GROUP, self._check_group, True),
            (Check.STATE, self._check_state, True),
        )

    @property
    def _asked(self) -> tuple[AIOKafkaClient, doctor_cluster.Cluster]:
        """Return the client, and what BROKER has found."""
        if self._client is None or self._cluster is None:
            raise RuntimeError("the brokers were not asked")
        return self._client, self._cluster

    # -- here ------------------------------------------------------------------------------

    async def _check_settings(self) -> list[Diagnosis]:
        return doctor_host.judge_settings(self._settings, self._origins)

    async def _check_versions(self) -> list[Diagnosis]:
        return doctor_host.judge_versions(*doctor_host.observe_versions())

    async def _check_limits(self) -> list[Diagnosis]:
        return doctor_host.judge_limits(doctor_host.observe_limits(), self._settings)

    # -- the brokers -----------------------------------------------------------------------

    async def _check_broker(self) -> list[Diagnosis]:
        began = time.monotonic()
        self._client = await doctor_cluster.connect(self._settings)
        seconds = time.monotonic() - began
        cluster = await doctor_cluster.observe(self._client, self._settings, seconds)
        said = doctor_cluster.judge_brokers(cluster, self._settings)
        if not cluster.unreachable:
            # From here on the brokers are asked one by one.
            self._cluster = cluster
            said.append(await self._transactions(self._client))
        return said

    async def _transactions(self, client: AIOKafkaClient) -> Diagnosis:
        stage = self._stages[0].name
        try:
            name = f"{self._settings.app_id}-{stage}-0"
            await doctor_cluster.find_coordinator(client, name)
        except KafkaError as error:
            return doctor_cluster.judge_transactions(error)
        return doctor_cluster.judge_transactions(None)

    async def _check_topics(self) -> list[Diagnosis]:
        _, cluster = self._asked
        return doctor_cluster.judge_topics(
            cluster, await check_topics(self._settings), self._settings
        )

    async def _check_access(self) -> list[Diagnosis]:
        client, cluster = self._asked
        wanted = doctor_access.needs(self._settings, self._stages)
        granted = await doctor_access.observe(client, cluster, wanted)
        return doctor_access.judge(granted, wanted, self._settings)

    # -- schemas ---------------------------------------------------------------------------

    async def _check_schemas(self) -> list[Diagnosis]:
        _, cluster = self._asked
        if not cluster.partitions([self._settings.topic("schemas")]):
            return [skipped(Check.SCHEMAS, "It cannot be read; see TOPICS and ACCESS.")]
        return doctor_schemas.judge_topic(await published(self._settings))

    async def _check_registry(self) -> list[Diagnosis]:
        if self._settings.registry_url is None:
            return [doctor_schemas.no_registry()]
        try:
            seen = await doctor_schemas.observe_registry(self._settings)
        except RegistryError as error:
            return [doctor_schemas.judge_registry_error(error)]
        return doctor_schemas.judge_registry(seen, self._settings)

    # -- records ---------------------------------------------------------------------------

    async def _sample(self) -> list[Sampled]:
        """Read the newest input records, once."""
        if self._samples is None:
            inputs = self._of(tuple(map(self._settings.topic, PRODUCED)))
            self._samples = await doctor_samples.newest(self._settings, inputs, self._catalog)
        return self._samples

    async def _check_partitioner(self) -> list[Diagnosis]:
        _, cluster = self._asked
        counts = {name: len(topic.partitions) for name, topic in cluster.topics.items()}
        found = doctor_partitioner.placements(await self._sample(), counts)
        return doctor_partitioner.judge(found, self._settings)

    async def _check_clocks(self) -> list[Diagnosis]:
        samples = await self._sample()
        return doctor_clocks.judge_producers(samples, int(time.time() * 1000))

    async def _check_broker_clock(self) -> list[Diagnosis]:
        if not self._probe:
            return [skipped(Check.BROKER_CLOCK, "--probe was not given: it needs a topic of ours.")]
        _, cluster = self._asked
        try:
            clocks = await doctor_clocks.probe(self._settings, len(cluster.brokers))
        except (ClusterAuthorizationFailedError, TopicAuthorizationFailedError):
            what = "This client may not make, write and delete a topic, as --probe does."
            return [skipped(Check.BROKER_CLOCK, what)]
        return doctor_clocks.judge_brokers(clocks)

    # -- the workers -----------------------------------------------------------------------

    async def _check_group(self) -> list[Diagnosis]:
        client, _ = self._asked
        try:
            group = await doctor_group.observe(client, self._settings.app_id)
        except KafkaError as error:
            return [doctor_group.judge_error(error)]
        self._group = group
        inputs = [one for stage in self._stages for one in self._of(stage.reads)]
        async with doctor_samples.reading(self._settings) as reader:
            waiting = await doctor_group.observe_waiting(reader, group, inputs)
        return doctor_group.judge(group, self._stages, waiting, int(time.time() * 1000))

    async def _check_state(self) -> list[Diagnosis]:
        states = [one for stage in self._stages for one in self._of((stage.state_topic,))]
        inputs = [one for stage in self._stages for one in self._of(stage.reads)]
        committed = {} if self._group is None else self._group.committed
        async with doctor_samples.reading(self._settings) as reader:
            seen = await doctor_state.observe(reader, self._stages, states)
            # Asked after the positions, so that those are not past the end.
            held = await doctor_samples.spans(reader, inputs)
        return doctor_state.judge(seen, self._stages, held, committed)

    def _of(self, names: tuple[str, ...]) -> list[TopicPartition]:
        _, cluster = self._asked
        return cluster.partitions(names)


async def bounded(check: Check, step: Step) -> list[Diagnosis]:
    """Run a check; what goes wrong becomes what it found."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await step()
    except TimeoutError:
        cure = "Look at the load of broker and network, and try again."
        return [bad(check, f"No answer within {CHECK_SECONDS:.0f} s.", cure)]
    except (doctor_cluster.BrokerAwayError, PublishError, SettingsError, TopicsError) as error:
        return [bad(check, str(error), "")]
    except (KafkaError, OSError) as error:
        why = ": ".join([type(error).__name__, *map(str, error.args[:1])]).rstrip(".")
        cure = "See BROKER and ACCESS, and try again."
        return [bad(check, f"It could not be asked: {why}.", cure)]
    except Exception as error:  # noqa: BLE001 - one check that breaks must not stop the others
        what = f"The check itself failed: {type(error).__name__}: {error}"[:300]
        return [bad(check, f"{what}.", "Please report it.")]


def refused(error: Exception) -> list[Diagnosis]:
    """Return what can be said where the settings do not hold: that, and nothing else."""
    others = [skipped(check, "The settings do not hold.") for check in Check][1:]
    cure = "`agentops-streams config show` prints all settings once they hold."
    return [bad(Check.SETTINGS, str(error), cure), *others]


def failed(found: list[Diagnosis]) -> bool:
    """Return whether anything does not work."""
    return any(one.status is Status.FAIL for one in found)
