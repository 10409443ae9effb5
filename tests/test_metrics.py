from __future__ import annotations

import socket
import urllib.request

import pytest

from streams.metrics import Metrics, MetricsError
from streams.reasons import DeadLetterReason


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_known_label_is_there_from_the_start_with_zero() -> None:
    metrics = Metrics()

    for reason in DeadLetterReason:
        assert metrics.registry.get_sample_value(
            "agentops_dead_letters_total", {"reason": reason}
        ) == pytest.approx(0)


def test_the_metrics_are_served_over_http() -> None:
    metrics = Metrics()
    port = free_port()
    metrics.epochs.inc()
    metrics.serve(f"127.0.0.1:{port}")

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        page = answer.read().decode()

    assert "agentops_epochs_total 1.0" in page
    assert "agentops_registry_up -1.0" in page


def test_a_port_that_is_taken_is_refused_with_a_cure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        with pytest.raises(MetricsError, match=f"{address}.*setting metrics.*Name a free"):
            Metrics().serve(address)
