from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import time
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from streams.local_server import free_port
from streams.registry import (
    RegistryAwayError,
    RegistryClient,
    RegistryError,
    UnusableSchemaError,
)
from streams.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from streams.local import LocalRegistry

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PASSWORD = "geheim:ÄÖ€"  # noqa: S105 - of nobody
FIRST = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}


def schema(name: str, **fields: Any) -> str:
    """Return a record of long fields; None stands for no default."""
    described = [
        {"name": field, "type": "long"} | ({} if default is None else {"default": default})
        for field, default in fields.items()
    ]
    return json.dumps({"type": "record", "name": name, "fields": described})


@pytest.fixture
async def client(registry: LocalRegistry) -> AsyncIterator[RegistryClient]:
    async with RegistryClient(registry.url, timeout=30) as running:
        yield running


# -- a real registry -------------------------------------------------------------------------


@pytest.mark.broker
async def test_a_registered_schema_is_found_by_id_and_by_subject(
    client: RegistryClient, prefix: str
) -> None:
    subject, text = f"{prefix}a-value", schema("A", a=None)

    number = await client.register(subject, text)

    assert json.loads(await client.schema(number) or "") == json.loads(text)
    found = await client.find(subject, text)
    latest = await client.version(subject, "latest")
    assert found
    assert latest
    assert (found.id, found.version) == (latest.id, latest.version) == (number, 1)
    assert subject in await client.subjects()


@pytest.mark.broker
async def test_the_same_schema_again_keeps_its_id_and_another_is_the_next_version(
    client: RegistryClient, prefix: str
) -> None:
    subject = f"{prefix}b-value"
    first = await client.register(subject, schema("B", a=None))

    again = await client.register(subject, schema("B", a=None))
    second = await client.register(subject, schema("B", a=None, b=0))

    assert again == first != second
    assert await client.versions(subject) == [1, 2]
    old = await client.version(subject, 1)
    assert old
    assert old.id == first


@pytest.mark.broker
async def test_what_is_not_there_is_no_error(client: RegistryClient, prefix: str) -> None:
    subject = f"{prefix}nowhere-value"

    assert await client.schema(2_000_000_000) is None
    assert await client.versions(subject) == []
    assert await client.version(subject, "latest") is None
    assert await client.find(subject, schema("A", a=None)) is None
    assert await client.compatibility(subject) is None
    assert await client.incompatibilities(subject, schema("A", a=None)) == []


@pytest.mark.broker
async def test_any_name_can_be_a_subject(client: RegistryClient, prefix: str) -> None:
    subject = f"{prefix}a/b c%2F?ü-value"

    await client.register(subject, schema("C", a=None))

    assert await client.versions(subject) == [1]
    assert subject in await client.subjects()


@pytest.mark.broker
async def test_a_schema_that_does_not_fit_is_refused_with_the_words_of_the_registry(
    client: RegistryClient, prefix: str
) -> None:
    subject = f"{prefix}d-value"
    await client.register(subject, schema("D", a=None))
    without_default = schema("D", a=None, b=None)

    with pytest.raises(RegistryError, match=r"answered 409: .*fields/1.* Change the schema") as no:
        await client.register(subject, without_default)

    assert no.value.status == 409
    assert await client.incompatibilities(subject, without_default)
    assert await client.incompatibilities(subject, without_default, "all")
    assert await client.incompatibilities(subject, schema("D", a=None, b=1)) == []


@pytest.mark.broker
async def test_what_is_no_schema_is_refused(client: RegistryClient, prefix: str) -> None:
    with pytest.raises(RegistryError, match="error_code 42201") as caught:
        await client.register(f"{prefix}e-value", "{no schema")

    assert caught.value.status == 422
    assert not isinstance(caught.value, RegistryAwayError)


@pytest.mark.broker
async def test_a_subject_has_the_level_that_was_set(client: RegistryClient, prefix: str) -> None:
    subject = f"{prefix}f-value"
    await client.register(subject, schema("F", a=None))

    await client.set_compatibility(subject, "NONE")

    assert await client.compatibility(subject) == "NONE"
    await client.register(subject, schema("F", b=None))
    with pytest.raises(ValueError, match=r"'FORWARDS' is no level.*FORWARD_TRANSITIVE"):
        await client.set_compatibility(subject, "FORWARDS")


@pytest.mark.broker
@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            {"schema": '{"$schema": "http://json-schema.org/draft-07/schema#"}'}
            | {"schemaType": "JSON"},
            "of type JSON",
        ),
        (
            {"schema": json.dumps(FIRST | {"name": "S", "fields": [{"name": "r", "type": "R"}]})}
            | {"references": [{"name": "R", "subject": "PREFIXr-value", "version": 1}]},
            "refers to other subjects",
        ),
    ],
    ids=["json", "references"],
)
async def test_a_schema_of_another_kind_cannot_be_used(
    client: RegistryClient, prefix: str, body: dict[str, Any], words: str
) -> None:
    await client.register(f"{prefix}r-value", json.dumps(FIRST))
    body = json.loads(json.dumps(body).replace("PREFIX", prefix))
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{client.url}/subjects/{prefix}g-value/versions", json=body) as answer,
    ):
        number = (await answer.json())["id"]

    with pytest.raises(UnusableSchemaError, match=words):
        await client.schema(number)


@pytest.mark.broker
async def test_a_registry_that_stands_still_is_away_until_it_goes_on(
    registry: LocalRegistry,
) -> None:
    assert registry.pid
    async with RegistryClient(registry.url, timeout=0.3) as client:
        os.kill(registry.pid, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            with pytest.raises(RegistryAwayError, match=r"no answer within 0\.3 s"):
                await client.subjects()
            assert time.monotonic() - begun < 5
        finally:
            os.kill(registry.pid, signal.SIGCONT)

    async with RegistryClient(registry.url, timeout=30) as client:
        await client.subjects()


# -- a foreign server at the other end -------------------------------------------------------


async def serve(handler: Handler) -> TestServer:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    server = TestServer(app)
    await server.start_server()
    return server


def says(status: int, body: object = None, headers: dict[str, str] | None = None) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=raw, headers=headers)

    return handler


async def asked(handler: Handler) -> str | None:
    """Return what a client makes of an answer to the question for a schema."""
    server = await serve(handler)
    try:
        async with RegistryClient(str(server.make_url("")), user="ann", password=PASSWORD) as one:
            return await one.schema(7)
    finally:
        await server.close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, {"error_code": 50001, "message": "Error in the backend"}),
        (502, b"<html>Bad gateway</html>"),
        (503, b""),
        (503, b"x" * 2_000_000),
        (429, {"error_code": 429, "message": "slow down"}),
        (408, b""),
    ],
)
async def test_a_registry_that_cannot_answer_now_is_away(status: int, body: object) -> None:
    with pytest.raises(RegistryAwayError, match=f"answered {status}") as caught:
        await asked(says(status, body))

    assert caught.value.status == status


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"error_code": 401, "message": "Unauthorized"}, "registry_user"),
        (403, {"error_code": 40301, "message": "Denied"}, r"error_code 40301\): Denied\. Are"),
        (404, b"<html>no such page</html>", "Is registry_url right"),
        (404, {"error_code": 404, "message": "HTTP 404 Not Found"}, "Is registry_url right"),
        (200, b"<html>sign in</html>", "without a str named 'schema'"),
        (200, ["schema"], "without a str named 'schema'"),
        (200, {"schema": 5}, "without a str named 'schema'"),
        (200, b"[" * 100_000, "without a str named 'schema'"),
        (200, gzip.compress(b'{"schema": "1"}'), "without a str named 'schema'"),
    ],
)
async def test_an_answer_that_says_nothing_of_the_schema_is_neither_none_nor_away(
    status: int, body: object, words: str
) -> None:
    with pytest.raises(RegistryError, match=words) as caught:
        await asked(says(status, body))

    assert type(caught.value) is RegistryError
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"schema": "x" * 1024 * 1024}, "more than 1,048,576 bytes"),
        ({"schema": "\ud800"}, "no text"),
        ({"schema": "{}", "schemaType": "PROTOBUF\x1b[2J"}, r"of type PROTOBUF\[2J;"),
    ],
    ids=["large", "half a character", "control characters"],
)
async def test_a_hostile_schema_is_final(body: object, words: str) -> None:
    with pytest.raises(UnusableSchemaError, match=words):
        await asked(says(200, body))


async def test_only_the_code_of_the_registry_says_that_a_schema_is_not_there() -> None:
    assert await asked(says(404, {"error_code": 40403, "message": "Schema not found"})) is None


@pytest.mark.parametrize("schema_id", [-1, 2**31, 2**32 - 1])
async def test_an_id_no_registry_gives_is_not_asked_for(schema_id: int) -> None:
    async with RegistryClient(f"http://127.0.0.1:{free_port()}") as nobody:
        assert await nobody.schema(schema_id) is None


async def test_what_goes_on_and_on_ends_in_time() -> None:
    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.02)

    server = await serve(drip)
    try:
        async with RegistryClient(str(server.make_url("")), timeout=0.3) as client:
            with pytest.raises(RegistryAwayError, match="no answer within"):
                await client.subjects()
    finally:
        await server.close()


# -- passwords -------------------------------------------------------------------------------


async def test_a_redirect_does_not_get_the_password() -> None:
    seen: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.json_response({"schema": "{}"})

    thief = await serve(elsewhere)
    try:
        with pytest.raises(RegistryError, match="answered 307"):
            await asked(says(307, b"", {"Location": str(thief.make_url("/schemas"))}))
    finally:
        await thief.close()

    assert seen == []


async def test_the_registry_gets_user_and_password() -> None:
    seen: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        kind, _, coded = request.headers["Authorization"].partition(" ")
        seen.append(f"{kind} {b64decode(coded).decode()}")
        return web.json_response({"schema": "{}"})

    assert await asked(handler) == "{}"
    assert seen == [f"Basic ann:{PASSWORD}"]


async def test_the_password_stands_nowhere() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    settings = Settings(
        registry_url=url, registry_user="ann", registry_password=SecretStr(PASSWORD)
    )
    async with RegistryClient.of(settings) as client:
        with pytest.raises(RegistryAwayError, match=f"GET {url}/subjects did not reach") as caught:
            await client.subjects()

        assert repr(client) == f"RegistryClient('{url}', user='ann')"
    assert PASSWORD not in f"{caught.value!r} {settings!r}"


@pytest.mark.parametrize("url", ["ftp://host", "host:8081", f"http://ann:{PASSWORD}@host", ""])
def test_a_url_that_cannot_be_used_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ValueError, match="registry_user and registry_password") as caught:
        RegistryClient(url)

    assert PASSWORD not in str(caught.value)


def test_a_user_with_a_colon_is_refused() -> None:
    with pytest.raises(ValueError, match="registry_user has a colon"):
        RegistryClient("http://127.0.0.1:8081", user="a:b")


def test_without_a_url_there_is_no_client() -> None:
    with pytest.raises(ValueError, match="AGENTOPS_REGISTRY_URL"):
        RegistryClient.of(Settings())
