"""The released versions of the schemas, and whether the current ones may follow them.

What was released stays readable for ever (BACKWARD_TRANSITIVE), as it lies on topics, in states and
in files; and what is published stays readable for those who have an older version of it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from streams import schemas
from streams.compatibility import changes_that_lose, obstacles, weaknesses
from streams.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from streams.compatibility import Problem
    from streams.schemas import Schema

SUMS = "SUMS"
"""File in the history with a line for each version: its sha256, two spaces, NAME/VERSION.avsc."""


class Fault(NamedTuple):
    """Something that must not be released.

    Attributes:
        schema: name of the record.
        against: what it was compared with, such as `version 1`.
        field: where in it; empty for the whole.
        what: what is wrong.
        cure: what to do.
    """

    schema: str
    against: str
    field: str
    what: str
    cure: str

    def __str__(self) -> str:
        """Return it as a sentence."""
        place = self.schema if self.field in ("", self.schema) else f"{self.schema}.{self.field}"
        return f"{place} ({self.against}): {self.what}; {self.cure}"


def faults() -> list[Fault]:
    """Return what is wrong with the schemas of this version, the released ones included."""
    found = list(changed(schemas.directory() / schemas.HISTORY))
    for name in schemas.names():
        found += judge(schemas.get(name), schemas.versions(name))
    return found


def judge(current: Schema, versions: tuple[Schema, ...]) -> list[Fault]:
    """Return why a schema must not follow some released versions, the oldest first."""
    name = current.name
    found = [Fault(name, "current", *problem) for problem in weaknesses(current.raw)]
    if released(current, versions) != len(versions) or not versions:
        file = f"{name}/{len(versions) + 1}.avsc"
        cure = f"copy it to schemas/{schemas.HISTORY}/{file} and list that in {SUMS}"
        found.append(Fault(name, "current", "", "it is no released version", cure))
    published = name in {spec.record for spec in TOPICS}
    for number, old in enumerate(versions, 1):
        against = f"version {number}"
        problems: list[Problem] = obstacles(old.tree, current.tree)
        problems += changes_that_lose(old.tree, current.tree)
        found += [Fault(name, against, *problem) for problem in problems]
        if published:
            # Others have the old version: workers in a rolling upgrade, consumers of alerts.
            found += [
                Fault(name, f"readers of {against}", one.field, one.what, "keep it as it was")
                for one in obstacles(current.tree, old.tree)
            ]
    return found


def released(current: Schema, versions: tuple[Schema, ...]) -> int | None:
    """Return which version a schema is, None where it is not released yet."""
    # Not by fingerprint, of which defaults are no part.
    same = [n for n, version in enumerate(versions, 1) if version.tree == current.tree]
    return same[-1] if same else None


def changed(history: Path) -> Iterator[Fault]:
    """Yield which files of a history are not as they were released."""
    listed = _sums(history)
    there = {str(path.relative_to(history)): path for path in history.glob("*/*.avsc")}
    for file in sorted(listed.keys() | there.keys()):
        name, against = file.partition("/")[0], f"history/{file}"
        if file not in there:
            yield Fault(name, against, "", "a released version is gone", "restore the file")
        elif file not in listed:
            cure = f"release it with `(cd schemas/history && sha256sum {file} >> {SUMS})`"
            yield Fault(name, against, "", f"it is not listed in {SUMS}", cure)
        elif hashlib.sha256(there[file].read_bytes()).hexdigest() != listed[file]:
            what = "a released version was changed"
            yield Fault(name, against, "", what, "restore it, and release a next version")


def _sums(history: Path) -> Mapping[str, str]:
    lines = (history / SUMS).read_text(encoding="utf-8").splitlines()
    return {file: total for total, _, file in (line.partition("  ") for line in lines)}
