"""What may follow a released schema, and that released files stay as they are."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from streams import schemas
from streams.releases import SUMS, changed, faults, judge, released

if TYPE_CHECKING:
    from pathlib import Path

LONG = {"name": "a", "type": "long"}
MORE = {"name": "b", "type": ["null", "string"], "default": None}
HISTORY = schemas.directory() / schemas.HISTORY


def made(*fields: dict[str, Any], name: str = "Private") -> schemas.Schema:
    return schemas.build({"type": "record", "name": name, "fields": list(fields)})


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A copy of the history that a test may change."""
    return shutil.copytree(HISTORY, tmp_path / "history")


def test_the_schemas_of_this_version_fit_what_was_released() -> None:
    assert faults() == []


def test_a_version_follows_all_older_ones_not_just_the_last() -> None:
    first, second = made(LONG), made()
    again = made(LONG | {"type": "string"})

    (fault,) = judge(again, (first, second, again))[:1]

    assert (fault.against, fault.field) == ("version 1", "a")
    assert [each.against for each in judge(again, (second, again))] == ["version 1"]


def test_a_field_with_a_default_may_come_and_go() -> None:
    with_more, without = made(LONG, MORE, name="Alert"), made(LONG, name="Alert")

    assert judge(with_more, (without, with_more)) == []
    assert judge(without, (without, with_more, without)) == []


def test_a_published_record_keeps_what_readers_of_older_versions_need() -> None:
    was, now = made(LONG, MORE, name="Alert"), made(MORE, name="Alert")

    (fault,) = judge(now, (was, now))

    assert str(fault) == (
        "Alert.a (readers of version 1): the writer has no such field and it has no default; "
        "keep it as it was"
    )


def test_a_state_record_has_no_readers_but_us() -> None:
    was, now = made(LONG, MORE), made(MORE)

    assert judge(now, (was, now)) == []


def test_what_differs_from_the_newest_version_must_be_released() -> None:
    first, second = made(LONG), made(LONG, MORE)

    (fault,) = judge(second, (first,))

    assert released(second, (first,)) is None
    assert "copy it to schemas/history/Private/2.avsc" in fault.cure
    assert judge(second, (first, second)) == []


def test_a_default_is_part_of_a_version_though_not_of_the_fingerprint() -> None:
    first, second = made(LONG), made(LONG | {"default": 0})

    assert first.fingerprint == second.fingerprint
    assert released(second, (first, second)) == 2
    assert released(first, (first, second)) == 1
    (fault,) = judge(first, (first, second, first))
    assert "the default is gone" in fault.what


def test_a_released_file_must_never_change(history: Path) -> None:
    (history / "Window" / "1.avsc").write_text("{}", encoding="utf-8")

    (fault,) = changed(history)

    assert fault.schema == "Window"
    assert "was changed" in fault.what


def test_a_released_file_must_not_go(history: Path) -> None:
    (history / "Window" / "1.avsc").unlink()

    (fault,) = changed(history)

    assert "is gone" in fault.what


def test_a_new_file_must_be_listed(history: Path) -> None:
    shutil.copy(history / "Window" / "1.avsc", history / "Window" / "9.avsc")

    (fault,) = changed(history)

    assert f"sha256sum Window/9.avsc >> {SUMS}" in fault.cure


def test_the_history_as_it_stands_is_as_it_was_released() -> None:
    assert list(changed(HISTORY)) == []
