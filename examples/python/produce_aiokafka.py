#!/usr/bin/env python3
"""Produce events of agents with aiokafka, with nothing of this project but its schemas.

    pip install aiokafka fastavro
    python examples/python/produce_aiokafka.py --bootstrap 127.0.0.1:9092
    python examples/python/produce_aiokafka.py --registry http://127.0.0.1:8081 events.jsonl

Without a file it sends one finished task and one security event. A line of a file is
`{"topic": "tasks", "record": {...}}`, with a W3C `traceparent` beside them where there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import secrets
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import fastavro
from aiokafka import AIOKafkaProducer
from fastavro.schema import fingerprint, to_parsing_canonical_form

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"
RECORDS = {
    "tasks": "TaskFinished",
    "calls": "IntegrationCall",
    "security": "SecurityEvent",
    "reviews": "HumanReview",
}


class Encoder:
    """Writes the records of one topic: a frame that names the schema, then the Avro body."""

    def __init__(self, topic: str, prefix: str, registry: str | None) -> None:
        """Read the schema once; the frame is the same for all its records."""
        text = (SCHEMAS / f"{RECORDS[topic]}.avsc").read_text(encoding="utf-8")
        self._schema = fastavro.parse_schema(json.loads(text))
        if registry:
            number = registered(registry, f"{prefix}{topic}-value", text)
            self._frame = b"\x00" + number.to_bytes(4, "big")
        else:
            canonical = to_parsing_canonical_form(json.loads(text))
            self._frame = b"\xc3\x01" + bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))

    def encode(self, record: dict[str, Any]) -> bytes:
        """Return the value of a Kafka record; fields with a default may be left out."""
        body = io.BytesIO()
        fastavro.schemaless_writer(body, self._schema, record, strict_allow_default=True)
        return self._frame + body.getvalue()


def registered(registry: str, subject: str, schema: str) -> int:
    """Register a schema and return its id, the same one where the registry has it already."""
    request = Request(  # noqa: S310 - the address is the caller's own
        f"{registry.rstrip('/')}/subjects/{quote(subject, safe='')}/versions",
        data=json.dumps({"schema": schema}).encode(),
        headers={"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urlopen(request, timeout=10) as response:  # noqa: S310
        return int(json.load(response)["id"])


def key(record: dict[str, Any]) -> bytes:
    """Return the key: all that concerns an agent must meet in one partition."""
    tenant, agent = record.get("tenant"), record["agent_id"]
    return (agent if tenant is None else f"{tenant}/{agent}").encode()


def headers(event: dict[str, Any]) -> list[tuple[str, bytes]]:
    """Return headers for other readers; none is needed here.

    The trace as the W3C has it, and CloudEvents in binary mode for a router that knows only those.
    """
    record = event["record"]
    happened = datetime.fromtimestamp(record["occurred_at"] / 1000, UTC)
    found = {
        "traceparent": event.get("traceparent"),
        "content-type": "application/avro",
        "ce_specversion": "1.0",
        "ce_type": f"agentops.{RECORDS[event['topic']]}",
        "ce_source": f"/agents/{quote(record['agent_id'], safe='')}",
        "ce_id": record["event_id"],
        "ce_time": happened.isoformat(),
    }
    return [(name, text.encode()) for name, text in found.items() if text is not None]


def events(path: str | None) -> Iterator[dict[str, Any]]:
    """Yield the events of a file, of stdin for "-", or four made up now."""
    if path is None:
        yield from demo("claims-agent")
    elif path == "-":
        yield from map(json.loads, sys.stdin.buffer)
    else:
        with Path(path).open("rb") as lines:
            yield from map(json.loads, lines)


def demo(agent: str) -> Iterator[dict[str, Any]]:
    """Yield a task that ended now, and a call, what a guard saw and a review of it.

    Codes and pointers, no content.
    """
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
    call = {
        "event_id": str(uuid.uuid4()),
        "integration": "crm",
        "operation": "read-customer",
        "outcome": "ERROR",
        "status_code": 503,
        "duration_ms": 420.0,
        "attempts": 3,
    }
    review = {
        "event_id": str(uuid.uuid4()),
        "task_type": task["task_type"],
        "task_event_id": task["event_id"],
        "task_occurred_at": common["occurred_at"],
        "verdict": "OVERRIDDEN",
        "agent_decision": "ROUTINE",
        "human_decision": "URGENT",
        "reason_code": "MISSED_DEADLINE",
    }
    for topic, fields in (
        ("tasks", task),
        ("calls", call),
        ("security", seen),
        ("reviews", review),
    ):
        parent = f"00-{trace}-{secrets.token_hex(8)}-01"
        yield {"topic": topic, "record": common | fields, "traceparent": parent}


async def produce(given: argparse.Namespace) -> None:
    """Send all events and wait until the broker has them."""
    encoders = {topic: Encoder(topic, given.prefix, given.registry) for topic in RECORDS}
    # aiokafka places a key by murmur2, as Java does. Idempotent: a send repeated after a lost
    # answer counts once. A short linger makes larger batches, which cost all readers less.
    producer = AIOKafkaProducer(
        bootstrap_servers=given.bootstrap,
        enable_idempotence=True,
        acks="all",
        compression_type="lz4",
        linger_ms=20,
    )
    try:
        await producer.start()
        sent = [
            await producer.send(
                given.prefix + event["topic"],
                encoders[event["topic"]].encode(event["record"]),
                key=key(event["record"]),
                headers=headers(event),
            )
            for event in events(given.file)
        ]
        places = await asyncio.gather(*sent)  # raises where the broker refused one
    finally:
        await producer.stop()
    if given.verbose:
        for place in places:
            print(place.topic, place.partition, place.offset)
    print(f"sent {len(places)} records")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", default="127.0.0.1:9092", help="host:port of the broker")
    parser.add_argument("--prefix", default="agentops.", help="topic prefix")
    parser.add_argument("--registry", help="URL of a schema registry; none: single objects")
    parser.add_argument("--verbose", action="store_true", help="print topic, partition, offset")
    parser.add_argument("file", nargs="?", help='lines of JSON, "-" for stdin')
    asyncio.run(produce(parser.parse_args()))


if __name__ == "__main__":
    main()
