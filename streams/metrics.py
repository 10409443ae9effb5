"""The one table of metrics, and the server of them.

Names follow Prometheus: counters end in `_total`, units are in the name. Labels have few values,
all of them known; every one is there from the start, with zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from streams.reasons import DeadLetterReason, HoldReason, LookUpOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable
    from enum import StrEnum


class MetricsError(RuntimeError):
    """The metrics cannot be served; the message says what to do."""


class Metrics:
    """Counters and gauges of one worker.

    Attributes:
        registry: what a server renders.
        dead_letters: committed dead letters, by reason.
        epochs: committed epochs.
        reopenings: units thrown away and opened again after an error.
        held: input partitions that wait, by reason.
        look_ups: frames looked up, by outcome.
        registry_up: 1 while the schema registry answers, 0 while it does not, -1 without one.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.dead_letters = self._counter(
            "dead_letters", "Committed dead letters.", "reason", DeadLetterReason
        )
        self.epochs = Counter(
            "agentops_epochs", "Committed epochs of this worker.", registry=self.registry
        )
        self.reopenings = Counter(
            "agentops_unit_reopenings",
            "Units thrown away and opened again after an error.",
            registry=self.registry,
        )
        self.held = Gauge(
            "agentops_held_partitions",
            "Input partitions that wait for something to answer.",
            ["reason"],
            registry=self.registry,
        )
        for reason in HoldReason:
            self.held.labels(reason)
        self.look_ups = self._counter(
            "schema_look_ups", "Unknown schemas looked up.", "outcome", LookUpOutcome
        )
        self.registry_up = Gauge(
            "agentops_registry_up",
            "1 while the schema registry answers, 0 while it does not, -1 without one.",
            registry=self.registry,
        )
        self.registry_up.set(-1)

    def _counter(self, name: str, doc: str, label: str, values: Iterable[StrEnum]) -> Counter:
        counter = Counter(f"agentops_{name}", doc, [label], registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    def serve(self, address: str) -> None:
        """Serve the metrics over HTTP, from a thread of their own, until the process ends.

        Args:
            address: host:port.

        Raises:
            MetricsError: the address cannot be bound.
        """
        host, _, port = address.rpartition(":")
        try:
            start_http_server(int(port), host, self.registry)
        except (OSError, OverflowError) as error:
            raise MetricsError(
                f"Metrics cannot be served at {address} (setting metrics): {error}. Name a free "
                "port, another one for each worker of a machine, or remove the setting."
            ) from error
