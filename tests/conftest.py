"""What every test may use: a real broker for the session, and a prefix of its own per test."""

from __future__ import annotations

import shutil
import uuid
from typing import TYPE_CHECKING

import pytest

from streams.local import LocalBroker, LocalRegistry
from streams.provision import create_topics
from streams.settings import LOCAL_PARTITIONS, Settings
from tests.secured_broker import secured_broker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.secured_broker import SecuredBroker


@pytest.fixture(scope="session")
def broker() -> Iterator[LocalBroker]:
    """Yield one real Kafka for the whole session; a test that kills it starts its own."""
    with LocalBroker() as running:
        yield running


@pytest.fixture(scope="session")
def registry() -> Iterator[LocalRegistry]:
    """Yield one real schema registry for the session; subjects begin with the test's prefix.

    A test that kills or stops it starts its own.
    """
    with LocalRegistry() as running:
        yield running


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """Yield one real Kafka that wants TLS and a password, with Kafka's own authorizer."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not there to make a certificate")
    with secured_broker(tmp_path_factory.mktemp("secured")) as running:
        yield running


@pytest.fixture
def prefix() -> str:
    """Return a topic prefix nobody used before."""
    return f"t{uuid.uuid4().hex[:10]}."


@pytest.fixture
def settings(broker: LocalBroker, prefix: str) -> Settings:
    """Return settings for the broker, with a prefix and a group of this test alone."""
    return Settings(
        bootstrap_servers=broker.bootstrap,
        topic_prefix=prefix,
        app_id=prefix.rstrip("."),
        partitions=LOCAL_PARTITIONS,
    )


@pytest.fixture
async def topics(settings: Settings) -> Settings:
    """Return the settings once the topics of its prefix exist."""
    await create_topics(settings)
    return settings
