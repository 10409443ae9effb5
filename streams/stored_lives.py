"""The lives of a rule by key as state records: one for each life that is not blank."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams import state

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.watch import Change, KeyedLives


class StoredLives:
    """Stores the lives of a rule by key."""

    def __init__(self, rule: str, lives: KeyedLives) -> None:
        self._rule, self._lives = rule, lives

    def changes(self) -> Iterable[Change]:
        """Return the lives that changed since the last call, None for one that is gone."""
        for key in self._lives.take_dirty():
            life = self._lives.dump(key)
            fields = None if life is None else {"rule": self._rule, "key": key, **life}
            value = None if fields is None else state.encode("SubjectLifeState", fields)
            yield state.subject_life_key(self._rule, key), value

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of these."""
        if stored.kind != "SubjectLifeState" or stored.fields["rule"] != self._rule:
            return False
        self._lives.load(stored.fields["key"], stored.fields)
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self._lives.take_dirty()
