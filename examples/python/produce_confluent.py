#!/usr/bin/env python3
"""Produce events of agents with confluent-kafka, with nothing of this project but its schemas.

    pip install "confluent-kafka[avro,schemaregistry]"
    python examples/python/produce_confluent.py --bootstrap 127.0.0.1:9092
    python examples/python/produce_confluent.py --registry http://127.0.0.1:8081 events.jsonl

Without a file it sends one finished task and one security event. A line of a file is
`{"topic": "tasks", "record": {...}}`, with a W3C `traceparent` beside them where there is one.
"""

from __future__ import annotations

import argparse
import io
import json
import secrets
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fastavro
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from fastavro.schema import fingerprint, to_parsing_canonical_form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Encode = Callable[[dict[str, Any]], bytes]

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
RECORDS = {"tasks": "TaskFinished", "security": "SecurityEvent"}
IN_FLIGHT = 10_000
"""Records on their way at most: librdkafka's own queue raises BufferError where it is full."""


def registry_encoder(registry: str, topic: str, schema: str) -> Encode:
    """Return what writes the registry's framing; the subject is `TOPIC-value`, the default."""
    # Where schemas are registered by a pipeline, set auto.register.schemas to False.
    serializer = AvroSerializer(SchemaRegistryClient({"url": registry}), schema)
    where = SerializationContext(topic, MessageField.VALUE)
    return lambda record: bytes(serializer(record, where) or b"")


def single_object_encoder(schema: str) -> Encode:
    """Return what writes single objects: C3 01, the schema's fingerprint, the body."""
    canonical = to_parsing_canonical_form(json.loads(schema))
    frame = b"\xc3\x01" + bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))
    parsed = fastavro.parse_schema(json.loads(schema))

    def encode(record: dict[str, Any]) -> bytes:
        body = io.BytesIO()
        fastavro.schemaless_writer(body, parsed, record, strict_allow_default=True)
        return frame + body.getvalue()

    return encode


def encoders(given: argparse.Namespace) -> dict[str, Encode]:
    """Return an encoder for each topic; fields with a default may be left out of its records."""
    found: dict[str, Encode] = {}
    for topic, name in RECORDS.items():
        schema = (SCHEMAS / f"{name}.avsc").read_text(encoding="utf-8")
        if given.registry:
            found[topic] = registry_encoder(given.registry, given.prefix + topic, schema)
        else:
            found[topic] = single_object_encoder(schema)
    return found


def key(record: dict[str, Any]) -> bytes:
    """Return the key: all that concerns an agent must meet in one partition."""
    tenant, agent = record.get("tenant"), record["agent_id"]
    return (agent if tenant is None else f"{tenant}/{agent}").encode()


def events(path: str | None) -> Iterator[dict[str, Any]]:
    """Yield the events of a file, of stdin for "-", or two made up now."""
    if path is None:
        yield from demo("claims-agent")
    elif path == "-":
        yield from map(json.loads, sys.stdin.buffer)
    else:
        with Path(path).open("rb") as lines:
            yield from map(json.loads, lines)


def demo(agent: str) -> Iterator[dict[str, Any]]:
    """Yield a task that ended now and what a guard saw in it: codes and pointers, no content."""
    trace = secrets.token_hex(16)
    common = {"occurred_at": time.time_ns() // 1_000_000, "agent_id": agent, "trace_id": trace}
    task = {
        "event_id": str(uuid.uuid4()),
        "task_type": "triage",
        "outcome": "AUTOMATED",
        "duration_ms": 1250.0,
        "cost_usd": 0.0042,
        "input_tokens": 2000,
        "output_tokens": 180,
        "confidence": 0.93,
        "model": "large-2026-01",
    }
    seen = {
        "event_id": str(uuid.uuid4()),
        "kind": "INJECTION_ATTEMPT",
        "severity": "MEDIUM",
        "blocked": True,
        "detail_code": "INDIRECT_DOCUMENT",
    }
    for topic, fields in (("tasks", task), ("security", seen)):
        parent = f"00-{trace}-{secrets.token_hex(8)}-01"
        yield {"topic": topic, "record": common | fields, "traceparent": parent}


class Deliveries:
    """Counts what the broker has, and what it refused."""

    def __init__(self, *, verbose: bool) -> None:
        """Print each record that arrived where `verbose`."""
        self.sent = self.failed = 0
        self._verbose = verbose

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        """Take note of one record; librdkafka calls it from `poll` and `flush`."""
        if error is not None:
            self.failed += 1
            print(f"not sent: {error}", file=sys.stderr)
            return
        self.sent += 1
        if self._verbose:
            print(message.topic(), message.partition(), message.offset())


def produce(given: argparse.Namespace) -> Deliveries:
    """Send all events and wait until the broker has them."""
    encode = encoders(given)
    deliveries = Deliveries(verbose=given.verbose)
    # librdkafka's default partitioner is another one than Java's: a worker would refuse the
    # records as STRAY_PARTITION. Idempotent: a send repeated after a lost answer counts once.
    producer = Producer(
        {
            "bootstrap.servers": given.bootstrap,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "zstd",
            "linger.ms": 20,
        }
    )
    for event in events(given.file):
        trace = event.get("traceparent")
        producer.produce(
            given.prefix + event["topic"],
            encode[event["topic"]](event["record"]),
            key(event["record"]),
            headers={"traceparent": trace} if trace else {},
            on_delivery=deliveries,
        )
        producer.poll(0)
        while len(producer) > IN_FLIGHT:
            producer.poll(0.1)
    producer.flush()
    return deliveries


def main() -> None:
    """Read the command line; exit with 1 where a record was refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", default="127.0.0.1:9092", help="host:port of the broker")
    parser.add_argument("--prefix", default="agentops.", help="topic prefix")
    parser.add_argument("--registry", help="URL of a schema registry; none: single objects")
    parser.add_argument("--verbose", action="store_true", help="print topic, partition, offset")
    parser.add_argument("file", nargs="?", help='lines of JSON, "-" for stdin')
    deliveries = produce(parser.parse_args())
    print(f"sent {deliveries.sent} records")
    sys.exit(1 if deliveries.failed else 0)


if __name__ == "__main__":
    main()
