"""How dead letters are shown to people and to programs.

What producers wrote can be anything: nothing of it reaches a terminal unescaped.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from streams.dead_letters import CURES
from streams.letter_replay import LetterFate
from streams.tail import clock

if TYPE_CHECKING:
    from streams.dead_letters import Letter
    from streams.letter_replay import Tally
    from streams.letter_trial import Trial

DUMPED = 512
"""Bytes of a key or value that are dumped."""
_WIDTH = 16
_SHORT = 120


def plain(text: str, limit: int = _SHORT) -> str:
    """Return a text as one line without control characters, cut to a limit."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in cut
    )


def origin(letter: Letter) -> str:
    """Return where the record stood."""
    there = [letter.origin_partition, letter.origin_offset]
    partition, offset = ("?" if number is None else number for number in there)
    return f"{plain(letter.topic) or '?'}/{partition}@{offset}"


def as_line(letter: Letter, replayed: bool) -> str:
    """Return a letter as one line: its place, when, why, what."""
    key = "null" if letter.key is None else plain(letter.key.decode(errors="replace"))
    words = [letter.place, clock(letter.timestamp), plain(letter.reason) or "?", origin(letter)]
    marks = [word for word, true in (("cut", not letter.whole), ("replayed", replayed)) if true]
    detail = plain(letter.detail, 2 * _SHORT)
    return "  ".join([*words, f"key {key}", *(f"[{mark}]" for mark in marks), detail]).rstrip()


def as_dict(letter: Letter, replayed: bool) -> dict[str, Any]:
    """Return a letter for JSON, without its value."""
    return {
        "letter": letter.place,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": letter.timestamp,
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": letter.topic,
        "origin_partition": letter.origin_partition,
        "origin_offset": letter.origin_offset,
        "origin_timestamp": letter.origin_timestamp,
        "key": None if letter.key is None else letter.key.decode(errors="replace"),
        "value_bytes": None if letter.value is None else len(letter.value),
        "cut": not letter.whole,
        "replayed": replayed,
        "replayed_from": letter.replayed_from,
    }


def cure_of(reason: str) -> str:
    """Return what to do about a reason, as far as this version knows it."""
    cures = {str(known): cure.cure for known, cure in CURES.items()}
    return cures.get(reason, "a reason of another version")


# -- summary -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Group:
    """The letters of one reason from one topic."""

    topic: str
    reason: str
    letters: int = 0
    replayed: int = 0
    first_ms: int | None = None
    last_ms: int | None = None

    @property
    def cure(self) -> str:
        """What to do about them."""
        return cure_of(self.reason)


@dataclass(slots=True)
class Summary:
    """Letters counted by topic and reason."""

    groups: dict[tuple[str, str], Group] = field(default_factory=dict)

    def add(self, letter: Letter, replayed: bool) -> None:
        """Count a letter."""
        kind = letter.topic, letter.reason
        group = self.groups.setdefault(kind, Group(*kind))
        group.letters += not replayed
        group.replayed += replayed
        at = letter.timestamp
        group.first_ms = at if group.first_ms is None else min(group.first_ms, at)
        group.last_ms = at if group.last_ms is None else max(group.last_ms, at)

    def as_json(self) -> str:
        """Return it as a JSON array."""
        return json.dumps([asdict(group) | {"cure": group.cure} for group in self._sorted()])

    def as_text(self) -> str:
        """Return it as a table, each group followed by its cure."""
        groups = self._sorted()
        if not groups:
            return "There are no such dead letters."
        rows = [["topic", "reason", "letters", "replayed", "first", "last"]]
        rows += [
            [
                plain(group.topic) or "?",
                plain(group.reason) or "?",
                f"{group.letters:,}",
                f"{group.replayed:,}",
                clock(group.first_ms or 0),
                clock(group.last_ms or 0),
            ]
            for group in groups
        ]
        if not any(group.replayed for group in groups):
            rows = [row[:3] + row[4:] for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        for place, group in reversed(list(enumerate(groups, 2))):
            lines.insert(place, f"    {group.cure}")
        return "\n".join(lines)

    def _sorted(self) -> list[Group]:
        """Return the groups by topic, the largest first."""
        return sorted(self.groups.values(), key=lambda g: (g.topic, -g.letters, g.reason))


# -- one letter ----------------------------------------------------------------------------------


def dump(content: bytes) -> str:
    """Return the beginning of some bytes as a hex dump."""
    lines = []
    for start in range(0, min(len(content), DUMPED), _WIDTH):
        row = content[start : min(start + _WIDTH, DUMPED)]
        text = "".join(chr(byte) if chr(byte).isascii() and chr(byte).isprintable() else "."
                       for byte in row)  # fmt: skip
        lines.append(f"  {start:06x}  {row.hex(' '):<47}  {text}")
    if len(content) > DUMPED:
        lines.append(f"  … {len(content) - DUMPED:,} bytes more (all of them with --json)")
    return "\n".join(lines)


def show(letter: Letter, replayed: bool, verdict: str, trial: Trial | None) -> str:
    """Return everything of a letter, for people."""
    cure = cure_of(letter.reason)
    stamp = letter.origin_timestamp
    produced = "" if stamp is None else f", produced {clock(stamp)}"
    lines = [
        f"letter    {letter.place}, set aside {clock(letter.timestamp)}",
        f"reason    {plain(letter.reason) or '?'}: {plain(letter.detail, 1024)}",
        f"cure      {cure}",
        f"record    {origin(letter)}{produced}",
        f"replayed  {'yes' if replayed else 'no'}",
        f"again of  {plain(letter.replayed_from)}" if letter.replayed_from else "",
        *(
            f"header    {plain(name)} = {'null' if value is None else repr(value)[1:][:_SHORT]}"
            for name, value in letter.headers
        ),
        f"          and {letter.headers_cut} headers more" if letter.headers_cut else "",
        *_content("key", letter.key, letter.key_size),
        *_content("value", letter.value, letter.value_size),
    ]
    if trial is not None and trial.record is not None:
        fields = json.dumps(trial.record, indent=2, default=_json_value)
        lines.append(f"decodes   as {trial.schema}\n{fields}")
    lines.append(f"now       {verdict}")
    return "\n".join(line for line in lines if line)


def show_json(letter: Letter, replayed: bool, verdict: str, trial: Trial | None) -> str:
    """Return everything of a letter as a JSON object; bytes in hex."""
    decoded = None if trial is None else trial.record
    found = as_dict(letter, replayed) | {
        "headers": [[name, _hex(value)] for name, value in letter.headers],
        "headers_cut": letter.headers_cut,
        "key_hex": _hex(letter.key),
        "value_hex": _hex(letter.value),
        "key_size": letter.key_size,
        "value_size": letter.value_size,
        "schema": None if trial is None else trial.schema,
        "record": decoded,
        "accepted": trial is not None and trial.refusal is None,
        "verdict": verdict,
    }
    return json.dumps(found, default=_json_value)


def verdict_text(fate: LetterFate, trial: Trial | None) -> str:
    """Return a sentence: what would become of a letter if it were replayed now.

    Args:
        fate: what a replay would make of it.
        trial: what a worker would; None where it does not read the topic, or none was made.
    """
    if fate is not LetterFate.REPLAYED:
        return f"cannot be replayed: {FATES[fate]}"
    if trial is None:
        return "workers of this version do not read its topic"
    if trial.refusal is None:
        return "would be taken, unless it is too late or past max_series in its partition"
    reason, detail = trial.refusal
    away = "" if trial.asked else " (topic schemas or the registry did not answer)"
    return f"would be refused again: {reason}: {plain(detail, 1024)}{away}"


FATES = {
    LetterFate.REPLAYED: "replayed",
    LetterFate.BEFORE: "replayed before",
    LetterFate.CUT: "not all of the record is here: send it again yourself",
    LetterFate.NO_ORIGIN: "their headers name no partition of a topic that workers read",
    LetterFate.TOO_LARGE: "too large for their topic with the header replayed-from: raise its "
    "max.message.bytes",
}
"""What a fate means, of one letter or many."""


def tally_text(tally: Tally, *, done: bool) -> str:
    """Return what a replay did, or would do."""
    count = tally.of(LetterFate.REPLAYED)
    verb = "Replayed" if done else "Would replay"
    lines = [f"{verb} {_letters(count)}{_reasons(tally, LetterFate.REPLAYED)}."]
    lines += [
        f"Left {_letters(tally.of(fate))}{_reasons(tally, fate)}: {FATES[fate]}."
        for fate in (LetterFate.CUT, LetterFate.NO_ORIGIN, LetterFate.TOO_LARGE)
        if tally.of(fate)
    ]
    return "\n".join(lines)


def tally_json(tally: Tally, *, done: bool) -> str:
    """Return the same as a JSON object."""
    fates = {fate.lower(): tally.reasons(fate) for fate in LetterFate}
    return json.dumps({"done": done, "letters": tally.of(LetterFate.REPLAYED), "reasons": fates})


def _letters(count: int) -> str:
    return f"{count:,} letter{'' if count == 1 else 's'}"


def _reasons(tally: Tally, fate: LetterFate) -> str:
    found = ", ".join(f"{plain(r) or '?'} {n:,}" for r, n in tally.reasons(fate).items())
    return f" ({found})" if found else ""


def _content(name: str, content: bytes | None, size: int | None) -> list[str]:
    if content is None:
        return [f"{name:<10}null"]
    of = "" if size is None else f" of {size:,}" if size else ", cut"
    return [f"{name:<10}{len(content):,}{of} bytes", dump(content)]


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _json_value(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)
