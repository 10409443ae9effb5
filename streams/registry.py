"""A client of a schema registry, in Confluent's REST API.

Confluent's registry, Apicurio (`/apis/ccompat/v7`), Karapace and Redpanda serve it. One request is
one answer: nothing is tried again here, whoever asks knows how long it can wait.

Source: Confluent, "Schema Registry API Reference",
https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import aiohttp
from yarl import URL

from streams.registry_answer import (
    Answer,
    RegistryAwayError,
    RegistryError,
    TooLargeError,
    UnusableSchemaError,
    body_of,
    granted,
    printable,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from streams.settings import Settings

__all__ = [
    "LEVELS",
    "MAX_ID",
    "Registered",
    "RegistryAwayError",
    "RegistryClient",
    "RegistryError",
    "UnusableSchemaError",
]

MAX_ID = 2**31 - 1
"""Ids are signed 32-bit integers there; a registry takes a larger one for a wrong path."""
LEVELS = (
    "NONE",
    "BACKWARD",
    "BACKWARD_TRANSITIVE",
    "FORWARD",
    "FORWARD_TRANSITIVE",
    "FULL",
    "FULL_TRANSITIVE",
)
"""The levels of compatibility a subject can have."""

# As in the settings: no user, no password, no query.
_URL = re.compile(r"https?://[^\s/@?#]+(/[^\s@?#]*)?")
_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_CONNECTIONS = 4


@dataclass(frozen=True, slots=True)
class Registered:
    """One version of a subject.

    Attributes:
        id: the schema's number in the frame of a record, the same in all subjects.
        version: its number within the subject, from 1.
        schema: the schema as JSON text.
    """

    id: int
    version: int
    schema: str


class RegistryClient:
    """Asks one schema registry.

    Args:
        url: where it serves Confluent's API, without user and password.
        user: name at the registry, where it wants one (HTTP basic authentication).
        password: goes with it; it stands in no message, log line or repr.
        timeout: seconds for one answer, connecting included.

    An async context manager; `close` does the same as leaving it. The connection is opened by the
    first request.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        timeout: float = 5.0,
    ) -> None:
        if not _URL.fullmatch(url):
            raise ValueError(
                "A registry's URL is http(s)://host:port[/path], without user and password: those "
                "are the settings registry_user and registry_password."
            )
        self.url = url.rstrip("/")
        self._user = user
        self._headers = {
            "Accept": f"{_MEDIA_TYPE}, application/json",
            "Accept-Encoding": "identity",
            "Content-Type": _MEDIA_TYPE,
        }
        if user is not None or password is not None:
            self._headers["Authorization"] = _basic(user or "", password or "")
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def of(cls, settings: Settings) -> RegistryClient:
        """Return the client of the registry the settings name.

        Raises:
            ValueError: they name none.
        """
        if settings.registry_url is None:
            raise ValueError(
                "No schema registry is named. Set registry_url (AGENTOPS_REGISTRY_URL) to "
                "http(s)://host:port[/path]; `agentops-streams local up --registry` starts one."
            )
        password = settings.registry_password
        return cls(
            settings.registry_url,
            user=settings.registry_user,
            password=None if password is None else password.get_secret_value(),
            timeout=settings.registry_timeout,
        )

    def __repr__(self) -> str:
        return f"RegistryClient({self.url!r}, user={self._user!r})"

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; the next request would open it again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    # -- schemas -----------------------------------------------------------------------------

    async def schema(self, schema_id: int) -> str | None:
        """Return the schema with that id as JSON text, None where there is none.

        Raises:
            UnusableSchemaError: it is no Avro schema, refers to other schemas, or is too large.
            RegistryError: the registry did not say.
        """
        if not 0 <= schema_id <= MAX_ID:
            return None
        try:
            answer = await self._ask("GET", f"/schemas/ids/{schema_id}")
        except TooLargeError as error:
            raise UnusableSchemaError(str(error), error.status) from None
        if answer.not_there:
            return None
        return _avro(granted(answer))

    # -- subjects ----------------------------------------------------------------------------

    async def subjects(self) -> list[str]:
        """Return the names of all subjects."""
        return granted(await self._ask("GET", "/subjects")).list_of(str)

    async def versions(self, subject: str) -> list[int]:
        """Return the versions of a subject, [] where there is no such subject."""
        answer = await self._ask("GET", f"/subjects/{_name(subject)}/versions")
        return [] if answer.not_there else granted(answer).list_of(int)

    async def version(self, subject: str, version: int | Literal["latest"]) -> Registered | None:
        """Return one version of a subject, None where there is none."""
        answer = await self._ask("GET", f"/subjects/{_name(subject)}/versions/{version}")
        return None if answer.not_there else _registered(granted(answer))

    async def find(self, subject: str, schema: str) -> Registered | None:
        """Return the version of a subject that has this schema, None where there is none."""
        answer = await self._ask("POST", f"/subjects/{_name(subject)}", {"schema": schema})
        return None if answer.not_there else _registered(granted(answer))

    async def register(self, subject: str, schema: str) -> int:
        """Make a schema the next version of a subject; return its id.

        One that is there already keeps its id. Makes the subject where there is none.

        Raises:
            RegistryError: it is not compatible (status 409), or the registry cannot read it (422).
        """
        path = f"/subjects/{_name(subject)}/versions"
        return granted(await self._ask("POST", path, {"schema": schema})).get("id", int)

    # -- compatibility -----------------------------------------------------------------------

    async def compatibility(self, subject: str | None = None) -> str | None:
        """Return the level of a subject, None where none is set for it; of all without a name."""
        answer = await self._ask("GET", _config(subject))
        return None if answer.not_there else granted(answer).get("compatibilityLevel", str)

    async def set_compatibility(self, subject: str | None, level: str) -> None:
        """Set the level of a subject; of all that have none of their own for None.

        Raises:
            ValueError: there is no such level.
        """
        if level not in LEVELS:
            raise ValueError(f"{level!r} is no level of compatibility: use {', '.join(LEVELS)}.")
        granted(await self._ask("PUT", _config(subject), {"compatibility": level}))

    async def incompatibilities(
        self, subject: str, schema: str, version: int | Literal["latest", "all"] = "latest"
    ) -> list[str]:
        """Return why a schema cannot be a next version; [] when it can.

        Args:
            subject: one that is not there takes any schema.
            schema: JSON text.
            version: which to compare with, by the level of the subject; `all` is what registering
                would compare with where that level is transitive.
        """
        path = f"/compatibility/subjects/{_name(subject)}/versions"
        path += "" if version == "all" else f"/{version}"
        answer = await self._ask("POST", f"{path}?verbose=true", {"schema": schema})
        if answer.not_there and isinstance(version, str):
            return []
        if granted(answer).get("is_compatible", bool):
            return []
        said = answer.body.get("messages")
        reasons = [printable(each) for each in said or () if isinstance(each, str)]
        # Apicurio gives none here.
        which = "all versions" if version == "all" else f"version {version}"
        return reasons or [f"the registry finds it incompatible with {which} and says no more"]

    # -- one request -------------------------------------------------------------------------

    async def _ask(self, method: str, path: str, body: dict[str, str] | None = None) -> Answer:
        asked = f"{method} {self.url}{path}"
        data = None if body is None else json.dumps(body).encode()
        # Subjects are quoted already: quoting again would ask for another one.
        url = URL(self.url + path, encoded=True)
        try:
            # A redirect could lead our password elsewhere.
            async with self._opened().request(
                method, url, data=data, allow_redirects=False
            ) as response:
                return Answer(asked, response.status, await body_of(asked, response))
        except TimeoutError:
            raise RegistryAwayError(
                f"{asked} got no answer within {self._timeout:g} s (registry_timeout)."
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            why = printable(str(error) or type(error).__name__)
            raise RegistryAwayError(
                f"{asked} did not reach a schema registry: {why}. Is it running, and is "
                "registry_url right?"
            ) from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout),
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                # Nothing compressed: what is small on the wire could be large here.
                auto_decompress=False,
                headers=self._headers,
            )
        return self._session


def _registered(answer: Answer) -> Registered:
    return Registered(answer.get("id", int), answer.get("version", int), answer.get("schema", str))


def _avro(answer: Answer) -> str:
    """Return the schema of an answer, where it is one for us.

    Raises:
        UnusableSchemaError: it is of another kind, or in pieces.
    """
    schema = answer.get("schema", str)
    if not schema.isascii() and not _is_text(schema):
        raise UnusableSchemaError(f"{answer.asked} was answered with a schema that is no text.")
    kind = answer.body.get("schemaType") or "AVRO"
    if kind != "AVRO":
        raise UnusableSchemaError(
            f"{answer.asked} was answered with a schema of type {printable(str(kind))}; records "
            "here are Avro."
        )
    if answer.body.get("references"):
        raise UnusableSchemaError(
            f"{answer.asked} was answered with a schema that refers to other subjects. Register it "
            "whole: schemas of this contract stand alone."
        )
    return schema


def _is_text(text: str) -> bool:
    """Return whether it can be written: escapes in JSON can hold halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _basic(user: str, password: str) -> str:
    """Return the header of HTTP basic authentication, RFC 7617."""
    if ":" in user:
        raise ValueError("The name in registry_user has a colon, which HTTP does not allow there.")
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _config(subject: str | None) -> str:
    return "/config" if subject is None else f"/config/{_name(subject)}"


def _name(subject: str) -> str:
    return quote(subject, safe="")
