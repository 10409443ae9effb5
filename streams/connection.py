"""What every Kafka client of this package is given to reach the brokers: where, and how safely."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from streams.settings import SettingsError

if TYPE_CHECKING:
    from streams.settings import Settings


def connection(settings: Settings) -> dict[str, Any]:
    """Return the arguments of an aiokafka client (consumer, producer, admin or bare).

    Raises:
        SettingsError: a certificate or key cannot be used.
    """
    protocol = settings.security_protocol
    given: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "security_protocol": protocol,
    }
    if protocol in {"SSL", "SASL_SSL"}:
        given["ssl_context"] = _context(settings)
    if settings.sasl_password is not None:
        given["sasl_mechanism"] = settings.sasl_mechanism
        given["sasl_plain_username"] = settings.sasl_username
        given["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return given


def _context(settings: Settings) -> ssl.SSLContext:
    """Return how TLS is done: the broker's certificate and name are always checked."""
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
    except OSError as error:
        raise SettingsError(
            f"ssl_cafile = {settings.ssl_cafile} holds no certificates in PEM: {error}. Name the "
            "file of the authority that signed the brokers' certificates."
        ) from error
    if settings.ssl_certfile is not None:
        try:
            # A key with a passphrase is refused instead of asked about on a terminal.
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, password="")
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"ssl_certfile = {settings.ssl_certfile} with ssl_keyfile = {settings.ssl_keyfile} "
                f"cannot be used: {error}. Both are PEM, belong together, and the key has no "
                "passphrase."
            ) from error
    return context
