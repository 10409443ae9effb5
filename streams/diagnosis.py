"""What the doctor says: which check, how it stands, what was found, and the cure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Check(StrEnum):
    """What the doctor looks at, in its order."""

    SETTINGS = "SETTINGS"
    """The settings of this process and the rules they name."""
    VERSIONS = "VERSIONS"
    """Python, this package and what it stands on, against what this release was tested with."""
    LIMITS = "LIMITS"
    """Open files and memory that a process may use here."""
    BROKER = "BROKER"
    """That the brokers answer, how many there are, and that transactions work."""
    TOPICS = "TOPICS"
    """The topics against what a worker needs, and their copies."""
    ACCESS = "ACCESS"
    """What this client is allowed to do, against what a worker does."""
    SCHEMAS = "SCHEMAS"
    """The entries of the topic `schemas`."""
    REGISTRY = "REGISTRY"
    """The schema registry, where one is set."""
    PARTITIONER = "PARTITIONER"
    """How producers place keys, by the newest records of the input topics."""
    CLOCKS = "CLOCKS"
    """The clocks of producers against the one here, by the newest records of the input topics."""
    BROKER_CLOCK = "BROKER_CLOCK"
    """The clocks of the brokers against the one here; only with --probe."""
    GROUP = "GROUP"
    """The workers: who is there, units that nobody has, records that wait."""
    STATE = "STATE"
    """Partitions that stand still, or would once a worker opens them."""


class Status(StrEnum):
    """How a check came out."""

    OK = "OK"
    WARN = "WARN"
    """A worker runs; somebody should look at it."""
    FAIL = "FAIL"
    """Something does not work, or records are lost to the counts."""
    SKIPPED = "SKIPPED"
    """Could not be looked at, or there is nothing to look at."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One finding of a check.

    Attributes:
        check: which.
        status: how it stands.
        found: what was found, a sentence or two.
        cure: what to do; None where nothing needs to be done.
    """

    check: Check
    status: Status
    found: str
    cure: str | None = None

    def __str__(self) -> str:
        """Return one line for people."""
        text = self.found if self.cure is None else f"{self.found} {self.cure}"
        return f"{self.status:<7} {self.check:<12} {' '.join(text.split())}"


def good(check: Check, found: str) -> Diagnosis:
    """Return that all is well."""
    return Diagnosis(check, Status.OK, found)


def odd(check: Check, found: str, cure: str) -> Diagnosis:
    """Return that somebody should look."""
    return Diagnosis(check, Status.WARN, found, cure)


def bad(check: Check, found: str, cure: str) -> Diagnosis:
    """Return that something does not work."""
    return Diagnosis(check, Status.FAIL, found, cure)


def skipped(check: Check, why: str) -> Diagnosis:
    """Return that there was nothing to look at, or no way to."""
    return Diagnosis(check, Status.SKIPPED, why)


def listed(names: list[str], most: int = 3) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
