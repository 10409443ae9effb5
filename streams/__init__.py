"""Rolling windows, rules and alerts over the events of a workforce of AI agents, on Kafka."""

from __future__ import annotations

__version__ = "0.1.0"
