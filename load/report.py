"""What an exactly-once proof found, for people and as a file."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(slots=True)
class Report:
    """What a proof found.

    Attributes:
        differences: where outputs differ from the oracle.
        problems: everything else that must not be.
        done: what was done how often.
        facts: numbers for people.
        timeline: what was done when, UTC, as the workers' logs have it.
    """

    differences: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    facts: dict[str, object] = field(default_factory=dict)
    timeline: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Write down that something was done now."""
        self.timeline.append(f"{datetime.now(UTC):%H:%M:%S.%f} {text}")

    def blame(self, problem: str) -> None:
        """Write down something that must not be, and when."""
        self.note(problem)
        self.problems.append(problem)

    def save(self, folder: Path) -> None:
        """Write all of it as `report.json`."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        text = json.dumps(found, indent=2, default=str)
        (folder / "report.json").write_text(text)

    @property
    def red(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.differences or self.problems)
