from __future__ import annotations

import pytest

from streams import schemas
from streams.settings import Settings
from streams.topics import DETECT_INPUTS, INPUT_MAX_BYTES, TOPICS, Partitions, TopicSpec, topic

COMPACTED = [spec for spec in TOPICS if "compact" in spec.config["cleanup.policy"]]


def test_suffixes_are_unique() -> None:
    suffixes = [spec.suffix for spec in TOPICS]

    assert len(set(suffixes)) == len(suffixes)


def test_name_is_prefix_and_suffix() -> None:
    assert topic("tasks").name("agentops.") == "agentops.tasks"


@pytest.mark.parametrize("suffix", DETECT_INPUTS)
def test_every_input_of_detect_has_n_partitions(suffix: str) -> None:
    assert topic(suffix).count(7) == 7


@pytest.mark.parametrize("suffix", ["findings", "controls", "alerts", "incidents-state"])
def test_what_needs_a_total_order_has_one_partition(suffix: str) -> None:
    assert topic(suffix).partitions is Partitions.ONE
    assert topic(suffix).count(7) == 1


@pytest.mark.parametrize("spec", TOPICS, ids=lambda spec: spec.suffix)
def test_record_of_a_topic_has_a_schema(spec: TopicSpec) -> None:
    assert spec.record is None or spec.record in schemas.names()


@pytest.mark.parametrize("spec", TOPICS, ids=lambda spec: spec.suffix)
def test_no_topic_lets_the_broker_set_the_timestamp(spec: TopicSpec) -> None:
    assert spec.config["message.timestamp.type"] == "CreateTime"


@pytest.mark.parametrize("spec", COMPACTED, ids=lambda spec: spec.suffix)
def test_compacted_topics_are_cleaned_early(spec: TopicSpec) -> None:
    assert int(spec.config["segment.bytes"]) <= 64 * 1024 * 1024
    assert float(spec.config["min.cleanable.dirty.ratio"]) <= 0.1


@pytest.mark.parametrize("suffix", ["state", "incidents-state"])
def test_state_is_compacted_and_never_deleted_by_age(suffix: str) -> None:
    assert topic(suffix).config["cleanup.policy"] == "compact"


@pytest.mark.parametrize("suffix", ["state", "incidents-state", "dead-letters"])
def test_the_largest_record_a_worker_writes_fits_with_what_wraps_it(suffix: str) -> None:
    allowed = int(topic(suffix).config["max.message.bytes"])

    assert INPUT_MAX_BYTES < Settings().max_record_bytes < allowed
