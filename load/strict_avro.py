"""Avro read in plain Python, as strictly as its specification has it.

For two uses: guided fuzzing sees its branches, which it cannot see in a compiled decoder; and what
it refuses shows where `fastavro` is more lenient than the specification.

Source: Apache Avro 1.12 specification, "Binary Encoding".
"""

from __future__ import annotations

import struct
from typing import Any

_LONGEST = 10
"""Bytes of the longest varint of 64 bits."""


class StrictError(ValueError):
    """The bytes are not what the specification allows; the message says which rule they break."""


class StrictReader:
    """Reads one value from its first byte to its last."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def record(self, fields: list[dict[str, Any]]) -> dict[str, Any]:
        """Read the fields of a record, and nothing must be left."""
        found = {field["name"]: self._value(field["type"]) for field in fields}
        if self._at != len(self._data):
            raise StrictError("bytes left over")
        return found

    def _value(self, kind: Any) -> Any:
        if isinstance(kind, list):
            return self._value(self._one_of(kind, "branch"))
        plain = kind["type"] if isinstance(kind, dict) else kind
        if plain == "enum":
            return self._one_of(kind["symbols"], "symbol")
        if plain == "array":
            return self._array(kind["items"])
        return _READ[plain](self)

    def _one_of(self, choices: list[Any], what: str) -> Any:
        index = self.long()
        if not 0 <= index < len(choices):
            raise StrictError(f"{what} out of range")
        return choices[index]

    def _array(self, items: Any) -> list[Any]:
        found: list[Any] = []
        while count := self.long():
            if count < 0:
                size = self.long()
                first = self._at
                found += [self._value(items) for _ in range(-count)]
                if self._at - first != size:
                    raise StrictError("block size")
            else:
                found += [self._value(items) for _ in range(count)]
        return found

    def null(self) -> None:
        """Read nothing."""

    def boolean(self) -> bool:
        """Read one byte that is 0 or 1."""
        octet = self._take(1)[0]
        if octet > 1:
            raise StrictError("boolean other than 0 and 1")
        return octet == 1

    def long(self) -> int:
        """Read an int or long of at most 64 bits."""
        number = shift = 0
        while True:
            octet = self._take(1)[0]
            number |= (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                break
            if shift >= 7 * _LONGEST:
                raise StrictError("varint longer than ten bytes")
        if number >= 1 << 64:
            raise StrictError("varint of more than 64 bits")
        return (number >> 1) ^ -(number & 1)

    def double(self) -> float:
        """Read eight bytes."""
        found: float = struct.unpack("<d", self._take(8))[0]
        return found

    def octets(self) -> bytes:
        """Read as many bytes as the length before them says."""
        return self._take(self.long())

    def text(self) -> str:
        """Read bytes that must be UTF-8."""
        try:
            return self.octets().decode()
        except UnicodeDecodeError as error:
            raise StrictError("text that is not UTF-8") from error

    def _take(self, size: int) -> bytes:
        if size < 0:
            raise StrictError("negative length")
        if size > len(self._data) - self._at:
            raise StrictError("end within a value")
        self._at += size
        return self._data[self._at - size : self._at]


_READ: dict[str, Any] = {
    "null": StrictReader.null,
    "boolean": StrictReader.boolean,
    "int": StrictReader.long,
    "long": StrictReader.long,
    "double": StrictReader.double,
    "bytes": StrictReader.octets,
    "string": StrictReader.text,
}
