"""Kafka requests in versions newer than aiokafka's own: for what the doctor asks a broker.

Metadata 8 and DescribeGroups 3 say what a client may do with each topic and group (Kafka 2.3 on,
KIP-430), ApiVersions 3 which features a broker has (KIP-584). Layouts as in Kafka's protocol guide.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, ClassVar

from aiokafka.protocol.admin import DescribeGroupsResponse_v3
from aiokafka.protocol.api import Request, RequestStruct, Response, ResponseHeader_v0
from aiokafka.protocol.types import (
    Array,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    String,
    TaggedFields,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEXT = String("utf-8")


class MetadataAnswer(Response):  # type: ignore[misc]
    """Brokers and topics, and what this client may do with each topic."""

    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("brokers", Array(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT))),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("topic", _TEXT),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("isr", Array(Int32)),
                        ("offline_replicas", Array(Int32)),
                    ),
                ),
                ("operations", Int32),
            ),
        ),
        ("cluster_operations", Int32),
    )


class MetadataQuestion8(RequestStruct):  # type: ignore[misc]
    """The request as it goes over the wire."""

    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = MetadataAnswer
    SCHEMA = Schema(
        ("topics", Array(_TEXT)),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class MetadataQuestion(Request[MetadataQuestion8]):  # type: ignore[misc]
    """Ask about topics by name; none is created, whatever the broker is set to."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = list(topics)

    def build(self, request_struct_class: type[MetadataQuestion8]) -> MetadataQuestion8:
        """Return the request."""
        return request_struct_class(self._topics, False, False, True)


class GroupsQuestion3(RequestStruct):  # type: ignore[misc]
    """The request as it goes over the wire; aiokafka reads its answer as that of version 2."""

    API_KEY = 15
    API_VERSION = 3
    RESPONSE_TYPE = DescribeGroupsResponse_v3
    SCHEMA = Schema(("groups", Array(_TEXT)), ("include_authorized_operations", Boolean))


class GroupsQuestion(Request[GroupsQuestion3]):  # type: ignore[misc]
    """Ask about a group, and what this client may do with it."""

    API_KEY = 15

    def __init__(self, group: str) -> None:
        self._group = group

    def build(self, request_struct_class: type[GroupsQuestion3]) -> GroupsQuestion3:
        """Return the request."""
        return request_struct_class([self._group], True)


_FEATURES = CompactArray(
    ("name", CompactString("utf-8")),
    ("min_version", Int16),
    ("max_version", Int16),
    ("tags", TaggedFields),
)
_SUPPORTED_FEATURES = 0
"""Number of the tagged field of the features that a broker's software has."""


class FeaturesAnswer(Response):  # type: ignore[misc]
    """The requests and features that a broker knows."""

    API_KEY = 18
    API_VERSION = 3
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "api_versions",
            CompactArray(
                ("api_key", Int16),
                ("min_version", Int16),
                ("max_version", Int16),
                ("tags", TaggedFields),
            ),
        ),
        ("throttle_time_ms", Int32),
        ("tags", TaggedFields),
    )

    def features(self) -> dict[str, tuple[int, int]]:
        """Return feature → lowest and highest level the broker's software has."""
        octets = self.tags.get(_SUPPORTED_FEATURES)
        found = _FEATURES.decode(BytesIO(octets)) if octets else []
        return {name: (least, most) for name, least, most, _ in found or []}


class FeaturesQuestion3(RequestStruct):  # type: ignore[misc]
    """The request as it goes over the wire."""

    FLEXIBLE_VERSION: ClassVar[bool] = True
    API_KEY = 18
    API_VERSION = 3
    RESPONSE_TYPE = FeaturesAnswer
    SCHEMA = Schema(
        ("client_software_name", CompactString("utf-8")),
        ("client_software_version", CompactString("utf-8")),
        ("tags", TaggedFields),
    )

    def parse_response_header(self, read_buffer: BytesIO | bytes) -> Any:
        """Read the oldest header: a client that asks this does not know the broker yet."""
        return ResponseHeader_v0.decode(read_buffer)


class FeaturesQuestion(Request[FeaturesQuestion3]):  # type: ignore[misc]
    """Ask what a broker knows."""

    API_KEY = 18

    def __init__(self, version: str) -> None:
        self._version = version

    def build(self, request_struct_class: type[FeaturesQuestion3]) -> FeaturesQuestion3:
        """Return the request."""
        return request_struct_class("agentops-streams", self._version, {})
