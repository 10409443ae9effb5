"""The one table of topics: names, partitions, records and Kafka settings.

Contract with producers and consumers. Names are `prefix + suffix`; the prefix and N, the number
of partitions shared by every topic of kind N, are settings and fixed for the life of a prefix.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_DAY_MS = 86_400_000
_MIB = 1_048_576

INPUT_MAX_BYTES = _MIB + 12
"""Largest record batch of an input topic: what producers send with their default settings."""
LARGE_MAX_BYTES = 9 * _MIB
"""The same for state and dead letters, which wrap inputs and must never be the ones too large."""


class Partitions(StrEnum):
    """How many partitions a topic has."""

    N = "N"
    """The setting `partitions`: partition p holds what concerns the agents of p."""
    ONE = "1"
    """One, because its readers need a total order or all of it."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic.

    Attributes:
        suffix: name without the prefix.
        partitions: N or one.
        record: name of its Avro record in `schemas/`; None where there is none (yet).
        config: Kafka topic settings by name, as strings.
        doc: one line for people.
    """

    suffix: str
    partitions: Partitions
    record: str | None
    config: Mapping[str, str]
    doc: str

    def name(self, prefix: str) -> str:
        """Return the name on the broker."""
        return prefix + self.suffix

    def count(self, n: int) -> int:
        """Return the number of partitions when N is `n`."""
        return n if self.partitions is Partitions.N else 1


def _config(policy: str, max_bytes: int, **others: float | str) -> Mapping[str, str]:
    named = {key.replace("_", "."): str(value) for key, value in others.items()}
    return MappingProxyType(
        {
            "cleanup.policy": policy,
            "max.message.bytes": str(max_bytes),
            # The time of production: retention counts from it, never from the event time.
            "message.timestamp.type": "CreateTime",
            **named,
        }
    )


def _kept(days: int, max_bytes: int = INPUT_MAX_BYTES) -> Mapping[str, str]:
    return _config("delete", max_bytes, retention_ms=days * _DAY_MS)


# Small segments and an eager cleaner: what is superseded is soon gone, so a restart reads little.
_COMPACTED = _config(
    "compact",
    LARGE_MAX_BYTES,
    segment_bytes=64 * _MIB,
    min_cleanable_dirty_ratio=0.1,
)
_REPLACED_THEN_DELETED = _config(
    "compact,delete",
    INPUT_MAX_BYTES,
    retention_ms=90 * _DAY_MS,
    segment_bytes=64 * _MIB,
    min_cleanable_dirty_ratio=0.1,
)

N, ONE = Partitions.N, Partitions.ONE

TOPICS: tuple[TopicSpec, ...] = (
    # What agent services write, keyed by agent.
    TopicSpec("tasks", N, "TaskFinished", _kept(7), "tasks that agents finished"),
    TopicSpec("calls", N, "IntegrationCall", _kept(7), "calls of agents to integrations"),
    TopicSpec("security", N, "SecurityEvent", _kept(30), "security events of agents"),
    TopicSpec("reviews", N, "HumanReview", _kept(30), "human reviews of agents' decisions"),
    TopicSpec("changes", N, "Change", _kept(30), "changes of prompts, models and configuration"),
    TopicSpec("queues", N, "QueueDepth", _kept(7), "depth of agents' queues"),
    TopicSpec("profiles", N, "AgentProfile", _COMPACTED, "what is known of an agent; null deletes"),
    # What operators and producers publish for every reader.
    TopicSpec("schemas", ONE, None, _COMPACTED, "writer schemas by fingerprint"),
    TopicSpec("controls", ONE, "Control", _config("delete", INPUT_MAX_BYTES, retention_ms=-1),
              "silences, acknowledgements, maintenance, accepted normals"),
    # What this service writes for people and bridges.
    TopicSpec("findings", ONE, "Finding", _kept(90), "every transition of every rule"),
    TopicSpec("alerts", ONE, "Alert", _kept(90), "what a person or a bridge acts on"),
    TopicSpec("open-alerts", ONE, "Alert", _COMPACTED,
              "alerts that are open, whole; a null value closes"),
    TopicSpec("retraining", ONE, "RetrainingRequest", _kept(90), "requests to retrain an agent"),
    TopicSpec("training-signals", ONE, "TrainingSignal", _kept(90),
              "reviews joined with their tasks"),
    TopicSpec("windows", N, "Window", _REPLACED_THEN_DELETED,
              "one record per series and closed hour; a higher revision replaces"),
    TopicSpec("dead-letters", N, None, _kept(30, LARGE_MAX_BYTES),
              "records set aside, original bytes, with the reason in the headers"),
    # What the stages write for each other and for themselves.
    TopicSpec("partials", N, "Partials", _kept(7, LARGE_MAX_BYTES),
              "mergeable panes for the roll-up stage"),
    TopicSpec("broadcast", N, None, _COMPACTED, "open causes, silences and rules for every p"),
    TopicSpec("state", N, None, _COMPACTED, "state of detect, one unit a partition"),
    TopicSpec("rollup-state", N, None, _COMPACTED, "state of the roll-up, one unit a partition"),
    TopicSpec("incidents-state", ONE, None, _COMPACTED, "state of incidents"),
)  # fmt: skip

PRODUCED = ("tasks", "calls", "security", "reviews", "changes", "queues", "profiles")
"""Topics that agent services write, keyed by agent."""
DETECT_INPUTS = (*PRODUCED, "broadcast")
"""Topics of which unit detect/p owns partition p; all are subscribed from the first version on."""

_BY_SUFFIX = {spec.suffix: spec for spec in TOPICS}


def topic(suffix: str) -> TopicSpec:
    """Return the topic with that suffix.

    Raises:
        KeyError: there is none; the message lists those there are.
    """
    try:
        return _BY_SUFFIX[suffix]
    except KeyError:
        raise KeyError(f"No topic {suffix!r}; there are {', '.join(_BY_SUFFIX)}.") from None
