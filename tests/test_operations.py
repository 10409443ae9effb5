"""Operations of integrations as rows of a ledger."""

from __future__ import annotations

import pytest

from streams.operations import SEPARATOR, Source, life_key, life_row, subject
from streams.reasons import EntityKind
from streams.series import Agent


def test_a_row_names_its_integration_and_operation() -> None:
    found = subject(Agent("acme", f"sap{SEPARATOR}post/invoice"), "TIMEOUT")
    assert (found.kind, found.entity) == (EntityKind.INTEGRATION, ("acme", "sap"))
    assert (found.operation, found.part) == ("post/invoice", "TIMEOUT")


def test_the_same_rule_on_two_operations_has_two_names() -> None:
    one, other = (subject(Agent(None, f"sap{SEPARATOR}{name}")) for name in ("get", "post"))
    assert one.fingerprint("silence") != other.fingerprint("silence")


@pytest.mark.parametrize("row", [0, 255, 70_000])
@pytest.mark.parametrize("part", ["", "HTTP_401", "Ä/\x1f"])
def test_the_key_of_a_life_tells_row_and_part(row: int, part: str) -> None:
    assert life_row(life_key(row, part)) == (row, part)


def test_keys_sort_as_rows_do() -> None:
    keys = [life_key(row) for row in (3, 200, 300, 70_000)]
    assert keys == sorted(keys)


def test_sums_have_no_offsets() -> None:
    assert Source("partials", 4).evidence() == ("partials", 4, -1, -1)
