"""The assignor: whole units, balanced, sticky, and nothing where the counts do not fit."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace

from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from streams.assignor import (
    StageTopics,
    UnitAssignor,
    UnitId,
    assign_units,
    assignor_for,
    complete_units,
    unequal_counts,
)

DETECT = StageTopics("detect", ("tasks", "calls"), 4)
INCIDENTS = StageTopics("incidents", ("findings",), 1)
STAGES = (DETECT, INCIDENTS)
UNITS = [*DETECT.units(), *INCIDENTS.units()]

_units = st.lists(st.sampled_from(UNITS), max_size=8, unique=True)
_owned = st.dictionaries(st.sampled_from("abcdef"), _units, min_size=1)


@given(_owned)
def test_every_unit_is_assigned_exactly_once(owned: dict[str, list[UnitId]]) -> None:
    shares = assign_units(UNITS, owned)
    assert sorted(chain.from_iterable(shares.values())) == sorted(UNITS)


@given(_owned)
def test_no_two_members_differ_by_more_than_one_unit(owned: dict[str, list[UnitId]]) -> None:
    sizes = [len(share) for share in assign_units(UNITS, owned).values()]
    assert max(sizes) - min(sizes) <= 1


@given(_owned)
def test_assigning_again_moves_nothing(owned: dict[str, list[UnitId]]) -> None:
    first = assign_units(UNITS, owned)
    assert assign_units(UNITS, first) == first


def test_a_third_worker_takes_from_the_others_only_what_balance_needs() -> None:
    before = assign_units(UNITS, {"a": [], "b": []})
    after = assign_units(UNITS, {**before, "c": []})
    moved = [
        unit for unit in UNITS if not any(unit in before[m] and unit in after[m] for m in "ab")
    ]
    assert len(moved) == len(after["c"])


def _cluster(**counts: int) -> SimpleNamespace:
    return SimpleNamespace(partitions_for_topic=lambda topic: set(range(counts.get(topic, 0))))


def _assignor() -> UnitAssignor:
    app = SimpleNamespace(consumer=SimpleNamespace(hold=lambda _: None))
    return assignor_for(STAGES)(app)


def _member(*topics: str, user_data: bytes = b"[]") -> ConsumerProtocolMemberMetadata:
    return ConsumerProtocolMemberMetadata(1, list(topics), user_data)


def test_a_partition_number_goes_to_one_worker_for_all_topics() -> None:
    members = {name: _member("tasks", "calls", "findings") for name in "ab"}
    shares = _assignor().assign(_cluster(tasks=4, calls=4, findings=1), members)
    for share in shares.values():
        held = dict(share.assignment)
        assert held["tasks"] == held["calls"]


def test_unequal_partition_counts_assign_nothing() -> None:
    members = {"a": _member("tasks", "calls", "findings")}
    shares = _assignor().assign(_cluster(tasks=4, calls=3, findings=1), members)
    assert shares["a"].assignment == []


def test_unequal_counts_are_named() -> None:
    assert unequal_counts(STAGES, {"tasks": 4, "calls": 3, "findings": 1}) == {"calls": 3}


def test_a_member_with_another_subscription_gets_nothing() -> None:
    members = {"old": _member("tasks"), "new": _member("tasks", "calls", "findings")}
    shares = _assignor().assign(_cluster(tasks=4, calls=4, findings=1), members)
    assert shares["old"].assignment == []
    assert dict(shares["new"].assignment)["tasks"] == [0, 1, 2, 3]


def test_an_unreadable_claim_is_no_claim() -> None:
    members = {"a": _member("tasks", "calls", "findings", user_data=b"\xff")}
    shares = _assignor().assign(_cluster(tasks=4, calls=4, findings=1), members)
    assert dict(shares["a"].assignment)["findings"] == [0]


def test_what_was_assigned_is_claimed_at_the_next_join() -> None:
    assignor = _assignor()
    members = {"a": _member("tasks", "calls", "findings")}
    share = assignor.assign(_cluster(tasks=4, calls=4, findings=1), members)["a"]
    assignor.on_assignment(share)
    assert assignor.metadata(["tasks"]).user_data == (
        b'[["detect", 0], ["detect", 1], ["detect", 2], ["detect", 3], ["incidents", 0]]'
    )


def test_a_unit_is_complete_only_with_all_its_topics() -> None:
    held = [("tasks", 0), ("calls", 0), ("tasks", 1), ("findings", 0)]
    assert complete_units(STAGES, held) == [UnitId("detect", 0), UnitId("incidents", 0)]
