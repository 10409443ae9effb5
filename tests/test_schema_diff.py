from __future__ import annotations

from typing import Any

from streams.schema_diff import Change, differences
from streams.schema_tree import expand

COLOUR = {"type": "enum", "name": "Colour", "symbols": ["RED", "BLUE"], "default": "RED"}


def tree(*fields: tuple[Any, ...]) -> dict[str, Any]:
    named = [dict(zip(("name", "type", "default"), field, strict=False)) for field in fields]
    return expand({"type": "record", "name": "Made", "fields": named}).root


def shown(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [str(one) for one in differences(old, new)]


def test_the_same_schema_differs_in_nothing() -> None:
    assert differences(tree(("a", COLOUR)), tree(("a", COLOUR))) == []


def test_fields_that_came_and_went_are_named_with_type_and_default() -> None:
    assert shown(tree(("a", "int"), ("b", "int")), tree(("a", "int"), ("c", ["null", "int"]))) == [
        "- b  int",
        "+ c  int or null",
    ]
    assert shown(tree(), tree(("a", ["null", "int"], None))) == ["+ a  int or null, default null"]


def test_a_changed_type_default_or_symbol_shows_both_sides() -> None:
    assert shown(tree(("a", "int")), tree(("a", "long"))) == ["~ a  type: int → long"]
    assert shown(tree(("a", "int")), tree(("a", "int", 7))) == ["~ a  default: none → 7"]
    assert shown(
        tree(("a", COLOUR)), tree(("a", COLOUR | {"symbols": ["RED", "BLUE", "GREEN"]}))
    ) == ["~ a  symbols: [RED] BLUE → [RED] BLUE GREEN"]


def test_symbols_are_found_in_unions_and_arrays() -> None:
    fewer = COLOUR | {"symbols": ["RED"]}

    (union,) = differences(tree(("a", ["null", COLOUR])), tree(("a", ["null", fewer])))
    (array,) = differences(
        tree(("a", {"type": "array", "items": COLOUR})),
        tree(("a", {"type": "array", "items": fewer})),
    )

    assert union.change is array.change is Change.SYMBOLS


def test_a_moved_field_is_a_difference_as_its_bytes_stand_elsewhere() -> None:
    assert shown(tree(("a", "int"), ("b", "int")), tree(("b", "int"), ("a", "int"))) == [
        "~ b  moved: place 2 → place 1"
    ]
    assert shown(tree(("a", "int")), tree(("b", "int"), ("a", "int"))) == ["+ b  int"]
