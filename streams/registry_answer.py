"""What a schema registry answers, and the errors it becomes.

A registry is foreign: its answers are bounded, checked field by field, and its words made safe for
a terminal and a log line before they are shown.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

MAX_ANSWER_BYTES = 1024 * 1024
_SHOWN = 300
# A 404 without one of these comes from a wrong URL: it says nothing about what is registered.
_NOT_THERE = range(40401, 40410)
_LATER = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_ELSEWHERE = (
    "Is registry_url right? It names where Confluent's API is served; at Apicurio that is below "
    "/apis/ccompat/v7."
)
_CREDENTIALS = "Are registry_user and registry_password right, and may that user do this?"
_CURES: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: _CREDENTIALS,
    HTTPStatus.FORBIDDEN: _CREDENTIALS,
    HTTPStatus.CONFLICT: "Change the schema so that it fits the versions there, or the level of "
    "compatibility of the subject.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "The registry cannot use what was sent.",
}


class RegistryError(RuntimeError):
    """The registry refused; the message says what was asked, what came, what to do.

    Attributes:
        status: HTTP status of the answer, None where there was none.
        code: the registry's own `error_code`, None where it gave none.
    """

    def __init__(self, message: str, status: int | None = None, code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class RegistryAwayError(RegistryError):
    """The registry cannot be reached, takes too long, or cannot answer now: ask again later."""


class UnusableSchemaError(RegistryError):
    """There is a schema with that id, but none for us: asking again brings the same."""


class TooLargeError(RegistryError):
    """An answer is larger than what is read."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: the status, and the JSON as Python has it (None where it is none)."""

    asked: str
    status: int
    body: Any

    def get(self, name: str, kind: type[T]) -> T:
        """Return a field of the answer, checked.

        Raises:
            RegistryError: it is not there, or something else.
        """
        value = self.body.get(name) if isinstance(self.body, dict) else None
        if type(value) is not kind:  # a bool is an int to isinstance
            raise self._puzzling(f"a {kind.__name__} named {name!r}")
        return value

    def list_of(self, kind: type[T]) -> list[T]:
        """Return the answer, which is a list.

        Raises:
            RegistryError: it is not.
        """
        values = self.body
        if not isinstance(values, list) or any(type(each) is not kind for each in values):
            raise self._puzzling(f"a list of {kind.__name__}")
        return values

    def _puzzling(self, expected: str) -> RegistryError:
        return RegistryError(
            f"{self.asked} was answered without {expected}. {_ELSEWHERE}", self.status
        )

    @property
    def code(self) -> int | None:
        """Return the registry's own number for the error."""
        code = self.body.get("error_code") if isinstance(self.body, dict) else None
        return code if type(code) is int else None

    @property
    def message(self) -> str:
        """Return the registry's own words, made safe for a terminal and a log line."""
        said = self.body.get("message") if isinstance(self.body, dict) else None
        return printable(said) if isinstance(said, str) and said else "no reason given"

    @property
    def not_there(self) -> bool:
        """Return whether the registry says that there is no such subject, version or schema."""
        return self.status == HTTPStatus.NOT_FOUND and self.code in _NOT_THERE


async def body_of(asked: str, response: aiohttp.ClientResponse) -> Any:
    """Return the JSON of an answer, None where it is none.

    Raises:
        TooLargeError: what was asked for is more than 1 MiB.
    """
    raw = b""
    async for chunk in response.content.iter_any():
        raw += chunk
        if len(raw) > MAX_ANSWER_BYTES:
            if response.status != HTTPStatus.OK:
                return None
            raise TooLargeError(
                f"{asked} was answered with more than {MAX_ANSWER_BYTES:,} bytes, which are not "
                "read. No schema of ours is that large.",
                response.status,
            )
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def granted(answer: Answer) -> Answer:
    """Return an answer that grants what was asked.

    Raises:
        RegistryError: the registry refused, or is away.
    """
    status = answer.status
    if status == HTTPStatus.OK:
        return answer
    said = f"{answer.asked} was answered {status}"
    if answer.code not in {None, status}:
        said += f" (error_code {answer.code})"
    said += f": {answer.message.rstrip('.')}."
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _LATER:
        raise RegistryAwayError(said, status, answer.code)
    raise RegistryError(f"{said} {_CURES.get(status, _ELSEWHERE)}", status, answer.code)


def printable(text: str) -> str:
    """Return foreign text as one line without control characters, cut where it is long."""
    line = " ".join(text.split())
    line = "".join(each for each in line if each.isprintable())
    return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"
