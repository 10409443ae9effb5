"""A real broker that wants TLS and a password, and lets a user do what its ACLs say."""

from __future__ import annotations

import asyncio
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest, DescribeAclsRequest

from streams.connection import connection
from streams.local import LocalBroker
from streams.settings import LOCAL_PARTITIONS, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

ADMIN, ADMIN_PASSWORD = "admin", "admin-pass-5051"
WORKER, WORKER_PASSWORD = "worker", "worker-pass-5052"
TOPIC, GROUP, TRANSACTIONAL_ID = 2, 3, 5
LITERAL, PREFIXED = 3, 4
READ, WRITE, DESCRIBE_CONFIGS = 3, 4, 10
_ALLOW = 3


@dataclass(frozen=True)
class SecuredBroker:
    """Where it is, and the certificate to trust."""

    bootstrap: str
    certificate: Path

    def settings(self, prefix: str, user: str = ADMIN, password: str = ADMIN_PASSWORD) -> Settings:
        """Return the settings of a user, with a prefix and a group of a test's own."""
        return Settings.model_validate(
            {
                "bootstrap_servers": self.bootstrap,
                "topic_prefix": prefix,
                "app_id": prefix.rstrip("."),
                "partitions": LOCAL_PARTITIONS,
                "security_protocol": "SASL_SSL",
                "sasl_username": user,
                "sasl_password": password,
                "ssl_cafile": self.certificate,
            }
        )


@contextmanager
def secured_broker(folder: Path) -> Iterator[SecuredBroker]:
    """Run one; its certificate is its own authority and lives for this test run."""
    certificate, both = folder / "certificate.pem", folder / "both.pem"
    _certify(folder / "key.pem", certificate)
    both.write_text((folder / "key.pem").read_text() + certificate.read_text())
    module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    users = {ADMIN: ADMIN_PASSWORD, WORKER: WORKER_PASSWORD}
    known = " ".join(f'user_{name}="{password}"' for name, password in users.items())
    listeners = "SASL_SSL://{host}:{port},CONTROLLER://{host}:{controller_port}"
    login = f'{module} username="{ADMIN}" password="{ADMIN_PASSWORD}" {known};'
    properties = {
        "listeners": listeners,
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": login,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificate),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # Nobody is anonymous but the controller's own listener.
        "super.users": f"User:{ADMIN};User:ANONYMOUS",
    }
    with LocalBroker(properties=properties) as broker:
        yield SecuredBroker(broker.bootstrap, certificate)


def _certify(key: Path, certificate: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )  # fmt: skip


async def allow(admin: Settings, grants: Sequence[tuple[int, str, int, int]]) -> None:
    """Grant to the worker: (kind of resource, name, kind of name, operation)."""
    client = AIOKafkaAdminClient(**connection(admin))
    await client.start()
    try:
        for kind, name, pattern, operation in grants:
            rule = (kind, name, pattern, f"User:{WORKER}", "*", operation, _ALLOW)
            answer = await client._send_to_controller(CreateAclsRequest(*rule))
            assert answer.creation_responses[0][0] == 0, answer
            # The broker learns of it a moment after the controller has answered.
            deadline = time.monotonic() + 20
            while not (await client._send_request(DescribeAclsRequest(*rule))).resources:
                assert time.monotonic() < deadline, f"{rule} does not hold"
                await asyncio.sleep(0.02)
    finally:
        await client.close()
