#!/usr/bin/env python3
"""Produce one finished task and one security event, with nothing of this project installed.

An agent service needs two files of `schemas/`, an Avro encoder and a Kafka producer:

    pip install aiokafka fastavro
    python examples/produce.py --bootstrap 127.0.0.1:9092
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import time
import uuid
from pathlib import Path
from typing import Any

import fastavro
from aiokafka import AIOKafkaProducer
from fastavro.schema import fingerprint, to_parsing_canonical_form

SCHEMAS = Path(__file__).resolve().parent.parent / "schemas"


class Encoder:
    """Writes records of one schema in Avro single-object encoding."""

    def __init__(self, name: str) -> None:
        """Read the schema once; its fingerprint is the same for every record."""
        raw = json.loads((SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8"))
        mark = fingerprint(to_parsing_canonical_form(raw), "CRC-64-AVRO")
        self._schema = fastavro.parse_schema(raw)
        self._frame = b"\xc3\x01" + bytes.fromhex(mark)

    def encode(self, record: dict[str, Any]) -> bytes:
        """Return the value of a Kafka record; fields with a default may be left out."""
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self._schema, record)
        return self._frame + body.getvalue()


def key(record: dict[str, Any]) -> bytes:
    """Return the key: all that concerns an agent must meet in one partition."""
    tenant = record.get("tenant")
    agent = record["agent_id"]
    return (f"{tenant}/{agent}" if tenant else agent).encode()


def task(agent: str) -> dict[str, Any]:
    """Return a task that ended now."""
    return {
        "event_id": str(uuid.uuid4()),
        "occurred_at": time.time_ns() // 1_000_000,
        "agent_id": agent,
        "task_type": "triage",
        "outcome": "AUTOMATED",
        "duration_ms": 1250.0,
        "cost_usd": 0.0042,
        "input_tokens": 2000,
        "output_tokens": 180,
        "confidence": 0.93,
        "model": "large-2026-01",
    }


def security_event(agent: str) -> dict[str, Any]:
    """Return a security event: bounded codes and pointers, never content."""
    return {
        "event_id": str(uuid.uuid4()),
        "occurred_at": time.time_ns() // 1_000_000,
        "agent_id": agent,
        "kind": "INJECTION_ATTEMPT",
        "severity": "MEDIUM",
        "blocked": True,
        "detail_code": "INDIRECT_DOCUMENT",
    }


async def main() -> None:
    """Send both and wait until the broker has them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", default="127.0.0.1:9092", help="host:port of the broker")
    parser.add_argument("--prefix", default="agentops.", help="topic prefix")
    given = parser.parse_args()
    tasks, security = Encoder("TaskFinished"), Encoder("SecurityEvent")
    # aiokafka places keys by murmur2, as Java does. Idempotence: a repeated send counts once.
    producer = AIOKafkaProducer(
        bootstrap_servers=given.bootstrap, enable_idempotence=True, compression_type="lz4"
    )
    await producer.start()
    try:
        for topic, encoder, record in (
            ("tasks", tasks, task("claims-agent")),
            ("security", security, security_event("claims-agent")),
        ):
            value = encoder.encode(record)
            await producer.send_and_wait(given.prefix + topic, value, key=key(record))
    finally:
        await producer.stop()


if __name__ == "__main__":
    asyncio.run(main())
