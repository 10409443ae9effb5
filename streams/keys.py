"""Record keys: that they name the agent of the value, and stand in the right partition.

A key is `agent_id`, or `tenant/agent_id` where there is a tenant. Were a key in two partitions,
an agent would quietly have two states; so each distinct key is checked once.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Literal

import numpy as np
from aiokafka.partitioner import murmur2

from streams.columns import DictColumn
from streams.cursor import Spans, Text
from streams.limits import MAX_ID
from streams.reasons import DeadLetterReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Partitioner = Literal["murmur2", "crc32", "unchecked"]

_CACHED = 65_536
"""Keys remembered before the memory of them starts anew: hostile ids must not fill it."""

Problem = tuple[DeadLetterReason, str]


class Keys:
    """The check of keys against values and partitions.

    Args:
        partitions: number of partitions of the topic.
        partitioner: how producers choose a partition; "murmur2" is Java's and aiokafka's
            default, "crc32" is librdkafka's (for records with a key), "unchecked" takes any.

    Raises:
        ValueError: the partitioner is not one of these, or there are no partitions.
    """

    def __init__(self, partitions: int, partitioner: Partitioner = "murmur2") -> None:
        if partitioner not in {"murmur2", "crc32", "unchecked"}:
            raise ValueError(f"partitioner {partitioner!r}: use murmur2, crc32 or unchecked")
        if partitions < 1:
            raise ValueError(f"{partitions} partitions: a topic has at least 1")
        self._partitions = partitions
        self._partitioner = partitioner
        self._places: dict[bytes, int] = {}
        self._names: dict[tuple[bytes, int], tuple[str | None, str] | None] = {}

    def place(self, key: bytes) -> int:
        """Return the partition the key belongs in; -1 where that is not checked."""
        found = self._places.get(key)
        if found is None:
            if len(self._places) >= _CACHED:
                self._places.clear()
            found = self._places[key] = self._hash(key)
        return found

    def problem(
        self, key: bytes | None, tenant: str | None, agent: str, partition: int
    ) -> Problem | None:
        """Return why a record with this key is refused, None where it is not."""
        shape = "agent_id" if tenant is None else "tenant/agent_id"
        found = mismatch(key, key_of(tenant, agent), shape, "the agent")
        return self.stray(key or b"", partition) if found is None else found

    def stray(self, key: bytes, partition: int) -> Problem | None:
        """Return why a key must not stand in a partition, None where it may."""
        place = self.place(key)
        if place in {partition, -1}:
            return None
        detail = (
            f"key {_short(key)} belongs in partition {place} under {self._partitioner}, not in "
            f"{partition}: set partitioner=murmur2_random on a librdkafka producer"
        )
        return DeadLetterReason.STRAY_PARTITION, detail

    def columns(
        self, keys: Sequence[bytes | None], tenant: Spans, agent: Spans, partition: int
    ) -> tuple[DictColumn, DictColumn, NDArray[np.bool_]]:
        """Check the keys of many records at once.

        Returns:
            The tenants, the agents, and bool[n]: which records have a good key and good ids.
            Of the others the columns mean nothing, and `problem` tells why.
        """
        rows = len(keys)
        index = {key: code for code, key in enumerate(dict.fromkeys(keys))}
        codes = np.fromiter(map(index.__getitem__, keys), np.int64, rows)
        distinct = [key or b"" for key in index]
        text = Text(distinct)
        sizes = np.fromiter(map(len, distinct), np.int64, len(distinct))
        start = (np.cumsum(sizes) - sizes)[codes]
        size = sizes[codes]
        good = _named(text, start, size, tenant, agent)
        # A key with a slash can name two entities; one size of the agent for each key is usual.
        one = np.zeros(len(distinct), np.int64)
        one[codes[good]] = agent.length[good]
        if np.array_equal(one[codes[good]], agent.length[good]):
            pairs = [(key, width) for key, width in zip(distinct, one.tolist(), strict=True)]
        else:
            both, codes = np.unique(
                np.stack((codes, agent.length * good), axis=1), axis=0, return_inverse=True
            )
            codes = codes.reshape(-1)
            pairs = [(distinct[code], width) for code, width in both.tolist()]
        names = [self._entity(key, width, partition) for key, width in pairs]
        good &= np.fromiter((name is not None for name in names), np.bool_, len(names))[codes]
        tenants = DictColumn.of([name[0] if name else None for name in names])
        agents = DictColumn.of([name[1] if name else "" for name in names])
        return tenants.take(codes), agents.take(codes), good

    def _entity(self, key: bytes, width: int, partition: int) -> tuple[str | None, str] | None:
        """Return (tenant, agent) of a key whose last `width` bytes are the agent, if it is good."""
        try:
            names = self._names[key, width]
        except KeyError:
            if len(self._names) >= _CACHED:
                self._names.clear()
            names = self._names[key, width] = _split(key, width)
        return names if names and self.place(key) in {partition, -1} else None

    def _hash(self, key: bytes) -> int:
        if self._partitioner == "unchecked":
            return -1
        if self._partitioner == "crc32":
            return zlib.crc32(key) % self._partitions
        return int(murmur2(key) & 0x7FFFFFFF) % self._partitions


def mismatch(key: bytes | None, expected: bytes, shape: str, what: str) -> Problem | None:
    """Return why a key is not what the fields of its value, its `shape`, ask for."""
    if (problem := unnamed(key, what)) is not None:
        return problem
    if key == expected:
        return None
    detail = f"the key is {_short(key or b'')}, {shape} of the value is {_short(expected)}"
    return DeadLetterReason.KEY_MISMATCH, detail


def unnamed(key: bytes | None, what: str) -> Problem | None:
    """Return why a key cannot name anything, None where it can."""
    if key is None:
        return DeadLetterReason.KEY_MISSING, f"the key is null; it must name {what}"
    try:
        key.decode()
    except UnicodeDecodeError:
        return DeadLetterReason.KEY_MISSING, f"the key is not UTF-8; it must name {what}"
    return None


def key_of(tenant: str | None, agent: str) -> bytes:
    """Return the key of the records of an agent."""
    return (agent if tenant is None else f"{tenant}/{agent}").encode()


def _named(
    text: Text, start: NDArray[np.int64], size: NDArray[np.int64], tenant: Spans, agent: Spans
) -> NDArray[np.bool_]:
    """Return which keys, text[start:start+size], are made of their tenant and agent."""
    good: NDArray[np.bool_] = np.equal(size, agent.length + (tenant.length + 1) * tenant.present)
    good &= agent.length > 0
    good &= agent.where(good).same(text, start + size - agent.length)
    good &= tenant.where(good).same(text, start)
    slash = text.octets[np.where(good, start + tenant.length, start)] == ord("/")
    good &= slash | ~tenant.present
    return good


def _split(key: bytes, width: int) -> tuple[str | None, str] | None:
    """Return (tenant, agent) where both are UTF-8 of 1 to MAX_ID characters, else None."""
    try:
        agent = key[len(key) - width :].decode()
        tenant = None if width == len(key) else key[: len(key) - width - 1].decode()
    except UnicodeDecodeError:
        return None
    if not 1 <= len(agent) <= MAX_ID or (tenant is not None and not 1 <= len(tenant) <= MAX_ID):
        return None
    return tenant, agent


def _short(key: bytes) -> str:
    text = key.decode(errors="replace")
    return repr(text if len(text) <= 80 else f"{text[:77]}...")  # noqa: PLR2004 - for a header
