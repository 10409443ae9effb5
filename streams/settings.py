"""Settings: defaults, then a TOML file, then `AGENTOPS_*` in the environment, then arguments.

A name that does not exist is refused, with the nearest one that does, wherever it was written.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FilePath, SecretStr, ValidationError

from streams.topics import LARGE_MAX_BYTES, topic

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "AGENTOPS_"
DEFAULT_FILE = "agentops.toml"
LOCAL_PARTITIONS = 4
"""N where everything runs on one machine: tests, the demo, `local up`."""

# Names in our space that are read elsewhere and are no settings.
OTHER_NAMES = frozenset(
    {
        "AGENTOPS_CONFIG",
        "AGENTOPS_EXTRAS",
        "AGENTOPS_FAILPOINTS",
        "AGENTOPS_LOCAL_CACHE",
        "AGENTOPS_VENV",
    }
)

_MAX_RECORD_BYTES = LARGE_MAX_BYTES - 1024 * 1024
"""Leaves room for headers, framing and a compression that makes noise larger."""
_NAME = r"^[A-Za-z0-9._-]+$"
_HOST = r"^[^\s:,]+:\d{1,5}$"
_URL = r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$"
_ADDRESSES = {"bootstrap_servers", "registry_url", "metrics"}
"""Where somebody may write credentials: they are refused, and must not be printed for that."""
HIDDEN = "***"
_SASL = ("sasl_username", "sasl_password")
_SSL = ("ssl_cafile", "ssl_certfile", "ssl_keyfile")
_HOSTS = r"^[^\s:,]+:\d{1,5}(,[^\s:,]+:\d{1,5})*$"


class SettingsError(ValueError):
    """A setting is unknown or not allowed; the message says which, where from and what to do."""


class Settings(BaseModel):
    """All settings of a worker. Each field's description says what it is and what it allows.

    `Settings()` is the defaults; `load` adds the file and the environment.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    bootstrap_servers: str = Field(
        "127.0.0.1:9092", pattern=_HOSTS, description="Kafka brokers, host:port[,host:port]"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT",
        description="how brokers are talked to: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="how to log in with SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    sasl_username: str | None = Field(
        default=None, min_length=1, description="user name at the brokers, with SASL"
    )
    sasl_password: SecretStr | None = Field(
        default=None, description="password at the brokers, with SASL; never printed"
    )
    ssl_cafile: FilePath | None = Field(
        default=None,
        description="PEM file of who signs the brokers' certificates, with SSL; none is the "
        "system's",
    )
    ssl_certfile: FilePath | None = Field(
        default=None, description="PEM file of our certificate, where brokers with SSL want one"
    )
    ssl_keyfile: FilePath | None = Field(
        default=None, description="PEM file of its key; none where it stands in ssl_certfile"
    )
    topic_prefix: str = Field(
        "agentops.",
        pattern=_NAME,
        max_length=200,
        description="first part of every topic name, of letters, digits, '.', '_' and '-'",
    )
    partitions: int = Field(
        12, ge=1, le=1024, description="partitions of every topic of kind N, 1 to 1024"
    )
    replication: int = Field(
        1, ge=1, le=9, description="replication factor of topics to create, 1 to 9"
    )
    app_id: str = Field(
        "agentops-streams",
        pattern=_NAME,
        max_length=100,
        description="name of the consumer group and first part of transactional ids",
    )
    partitioner: Literal["murmur2", "crc32", "unchecked"] = Field(
        "murmur2", description="how producers place keys: murmur2, crc32 or unchecked"
    )
    idle_after: float = Field(
        5.0, ge=0, le=3600, description="seconds at the end until time follows the wall; 0 is never"
    )
    epoch_interval: float = Field(
        0.5, gt=0, le=10, description="longest seconds between two commits, up to 10"
    )
    max_series: int = Field(
        10_000, ge=1, description="task and agent series per partition, 1 or more"
    )
    keep_review_reasons: bool = Field(
        default=False, description="whether the words in which a review says why are kept"
    )
    opening_deadline: float = Field(
        600.0, gt=0, le=3600, description="seconds to open a partition before leaving the group"
    )
    session_timeout: float = Field(
        10.0, ge=1, le=300, description="seconds without a heartbeat until the group moves on"
    )
    rebalance_timeout: float = Field(
        60.0, ge=1, le=600, description="seconds a rebalance waits for a worker to commit and close"
    )
    request_timeout: float = Field(
        30.0, ge=1, le=300, description="seconds to wait for one answer of the broker"
    )
    transaction_timeout: float = Field(
        15.0, ge=1, le=300, description="seconds until the broker gives up on an open transaction"
    )
    close_timeout: float = Field(
        2.0, gt=0, le=60, description="seconds to wait for a client to close before it is left"
    )
    housekeeping_interval: float = Field(
        0.25, gt=0, le=10, description="seconds between two looks at quiet topics and idle clocks"
    )
    group_commit_interval: float = Field(
        5.0, gt=0, le=600, description="seconds between two commits of offsets for lag tools"
    )
    fetch_wait_ms: int = Field(
        100, ge=1, le=5000, description="longest milliseconds a fetch waits for new records"
    )
    fetch_partition_bytes: int = Field(
        1024 * 1024, ge=65536, description="bytes of one partition per fetch"
    )
    fetch_max_bytes: int = Field(
        16 * 1024 * 1024, ge=65536, description="bytes of all partitions per fetch"
    )
    buffered_batches: int = Field(
        4,
        ge=1,
        le=64,
        description="fetched batches that may wait per topic, each one fetch at most",
    )
    metadata_max_age_ms: int = Field(
        60_000, ge=1000, description="milliseconds until the list of brokers is asked for again"
    )
    max_record_bytes: int = Field(
        _MAX_RECORD_BYTES,
        ge=1024 * 1024,
        le=_MAX_RECORD_BYTES,
        description="largest record a worker writes or reads back, below what its topics allow",
    )
    max_value_bytes: int = Field(
        1024 * 1024,
        ge=65_536,
        le=_MAX_RECORD_BYTES,
        description="largest key with value of an input record, unpacked; a larger one is refused",
    )
    max_unpacked_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024 * 1024,
        description="bytes of a compressed record batch unpacked at once; a larger one in pieces",
    )
    registry_url: str | None = Field(
        default=None,
        pattern=_URL,
        description="schema registry with Confluent's API, http(s)://host:port[/path]; none is off",
    )
    registry_user: str | None = Field(
        default=None, description="user name at the schema registry, where it wants one"
    )
    registry_password: SecretStr | None = Field(
        default=None, description="password at the schema registry; never printed"
    )
    registry_timeout: float = Field(
        5.0, gt=0, le=60, description="seconds to wait for one answer of the schema registry"
    )
    registry_register: bool = Field(
        default=True, description="register missing schemas of output topics when a worker starts"
    )
    metrics: str | None = Field(
        default=None,
        pattern=_HOST,
        description="host:port to serve Prometheus metrics at, such as 127.0.0.1:9464; none is off",
    )
    reset_state: bool = Field(
        default=False, description="begin anew where the state is missing or its position is gone"
    )
    rules_file: Path | None = Field(
        default=None, description="YAML file that replaces the built-in rules"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="least level to log: debug, info, warning or error"
    )
    log_json: bool = Field(default=False, description="log JSON lines instead of text")

    def topic(self, suffix: str) -> str:
        """Return the name on the broker of the topic with that suffix in `streams.topics`."""
        return topic(suffix).name(self.topic_prefix)


def load(env: Mapping[str, str] | None = None, **arguments: Any) -> Settings:
    """Return the settings of this process.

    Args:
        env: environment; that of the process when None.
        arguments: fields given by the caller; None means not given.

    Raises:
        SettingsError: the file cannot be read, or a name or value is not allowed.
    """
    values, origin = _gather(os.environ if env is None else env, arguments)
    try:
        settings = Settings(**values)
    except ValidationError as error:
        # Without the cause: its text has a place for the value, which can be a secret.
        raise SettingsError(_refused(error, origin)) from None
    if problem := _unfit(settings):
        raise SettingsError(problem)
    return settings


def origins(env: Mapping[str, str] | None = None, **arguments: Any) -> dict[str, str]:
    """Return where each setting that is not the default was read, by name; never a value.

    Raises:
        SettingsError: the file cannot be read, or a name does not exist.
    """
    return _gather(os.environ if env is None else env, arguments)[1]


def _gather(
    env: Mapping[str, str], arguments: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values given, by name, and where each was read."""
    origin: dict[str, str] = {}
    values: dict[str, Any] = {}
    for source, found in (
        *_from_file(env),
        *_from_environment(env),
        *((f"argument {name}", {name: value}) for name, value in arguments.items()),
    ):
        for name, value in found.items():
            if value is not None:
                values[name], origin[name] = value, source
    for name in values:
        if name not in Settings.model_fields:
            raise SettingsError(_unknown(name, origin[name], Settings.model_fields))
    return values, origin


def _from_file(env: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    named = env.get("AGENTOPS_CONFIG")
    path = Path(named or DEFAULT_FILE)
    try:
        with path.open("rb") as file:
            return [(f"file {path}", tomllib.load(file))]
    except FileNotFoundError:
        if not named:
            return []
        raise SettingsError(
            f"AGENTOPS_CONFIG names {path}, which does not exist. Create it or unset the variable."
        ) from None
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"The settings file {path} cannot be read as TOML: {error}.") from error


def _from_environment(env: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name, value in env.items():
        if not name.startswith(PREFIX) or name in OTHER_NAMES:
            continue
        if name not in known:
            raise SettingsError(_unknown(name, "environment", known | OTHER_NAMES))
        found.append((f"environment variable {name}", {name.removeprefix(PREFIX).lower(): value}))
    return found


def _unknown(name: str, source: str, known: Mapping[str, Any] | set[str] | frozenset[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(sorted(known))}."
    return f"No setting is called {name} (from {source}). {hint}"


def _refused(error: ValidationError, origin: Mapping[str, str]) -> str:
    lines = []
    for each in error.errors():
        name = str(each["loc"][0])
        field = Settings.model_fields[name]
        lines.append(
            f"{name} = {_shown(name, each['input'])} (from {origin.get(name, 'default')}) is not "
            f"allowed: {each['msg'].lower()}. It is the {field.description}. "
            f"Change it, or remove it for the default {field.default!r}."
        )
    return "\n".join(lines)


def _unfit(settings: Settings) -> str | None:
    """Return which settings of the connection do not go together, None where they do."""
    protocol = settings.security_protocol
    given = [name for name in _SASL + _SSL if getattr(settings, name) is not None]
    if protocol.startswith("SASL") and not set(_SASL) <= set(given):
        return (
            f"security_protocol = {protocol} needs sasl_username and sasl_password. Set "
            f"{' and '.join(PREFIX + name.upper() for name in _SASL)}."
        )
    # Who sets these believes to be safe, and would not be.
    unused = [name for name in given if name.partition("_")[0].upper() not in protocol]
    if unused:
        kinds = "SASL_SSL or SASL_PLAINTEXT" if unused[0] in _SASL else "SSL or SASL_SSL"
        return (
            f"{unused[0]} is set, but security_protocol = {protocol} does not use it. Remove it, "
            f"or set AGENTOPS_SECURITY_PROTOCOL to {kinds}."
        )
    if settings.ssl_keyfile is not None and settings.ssl_certfile is None:
        return "ssl_keyfile is set without ssl_certfile. Set both, or neither."
    return None


def _shown(name: str, value: object) -> str:
    """Return a refused value for a message, without what may be a secret."""
    if "SecretStr" in str(Settings.model_fields[name].annotation):
        return HIDDEN
    if name not in _ADDRESSES:
        return repr(value)
    if not isinstance(value, str):
        return f"a {type(value).__name__}"
    scheme = re.match(r"\w+://", value)
    _, at, host = value.rpartition("@")
    shown = (scheme[0] if scheme else "") + HIDDEN + "@" + host if at else value
    place, *query = re.split(r"(?<=[?#])", shown, maxsplit=1)
    return repr(place + HIDDEN if any(query) else place)
