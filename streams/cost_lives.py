"""The lives of a rule on cost, by subject, and which of their alerts called a person."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from streams import state
from streams.reasons import EntityKind, Transition
from streams.watch import KeyedLives

if TYPE_CHECKING:
    from collections.abc import Iterable

    from streams.findings import Entity
    from streams.life import Turn
    from streams.watch import Change

KIND = "CostLifeState"
"""Kind of the state records."""


class Of(NamedTuple):
    """What a life is about.

    Attributes:
        kind: of the entity.
        tenant: its tenant.
        entity_id: its id.
        part: a task type or a model; None for all together.
    """

    kind: EntityKind
    tenant: str | None
    entity_id: str
    part: str | None = None

    @property
    def key(self) -> bytes:
        """A key of its own, for ever the same."""
        return json.dumps(self, separators=(",", ":")).encode()


def of(kind: EntityKind, entity: Entity, part: str | None = None) -> Of:
    """Return what a life on an entity is about."""
    return Of(kind, entity.tenant, entity.entity_id, part)


class CostLives(KeyedLives):
    """The lives of one rule; their records are `CostLifeState`.

    Args:
        rule: its parameters, with a name.

    Attributes:
        paged: keys of open alerts that called a person.
    """

    def __init__(self, rule: Any) -> None:
        super().__init__(rule)
        self.paged: set[bytes] = set()
        self._name: str = rule.name

    def pages(self, key: bytes, turn: Turn, *, wanted: bool) -> bool:
        """Return whether a step calls a person: one that fired so does to its end.

        Args:
            key: whose.
            turn: the step, taken just now.
            wanted: whether a firing would.
        """
        if turn.transition is Transition.FIRING and wanted:
            self.paged.add(key)
        if turn.transition in (Transition.PENDING, Transition.CANCELLED):
            return False
        found = key in self.paged
        if turn.transition is Transition.RESOLVED:
            self.paged.discard(key)
        return found

    def drop(self, key: bytes) -> None:
        """Forget all of a key."""
        self.paged.discard(key)
        super().drop(key)

    def changes(self) -> Iterable[Change]:
        """Return the state that changed since the last call."""
        for key in self.take_dirty():
            life = self.dump(key)
            value = None
            if life is not None:
                fields = {"rule": self._name, "subject": json.loads(key), **life}
                value = state.encode(KIND, {**fields, "paged": key in self.paged})
            yield state.cost_life_key(self._name, key), value

    def restore(self, stored: state.Stored) -> bool:
        """Take over a stored record; return whether it is one of this rule."""
        fields = stored.fields
        if stored.kind != KIND or fields["rule"] != self._name:
            return False
        kind, tenant, entity_id, part = fields["subject"]
        key = Of(EntityKind(kind), tenant, entity_id, part).key
        self.load(key, fields)
        if fields["paged"]:
            self.paged.add(key)
        return True

    def settle(self) -> None:
        """Count all that was restored as stored."""
        self.take_dirty()
