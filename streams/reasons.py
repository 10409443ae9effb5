"""Every decision that can drop, delay or change something, as enums.

A member's value is at once the metric label, the log key, the dead-letter header and the
`reason` field of a finding, so that one word leads from a dashboard to the code.
"""

from __future__ import annotations

from enum import StrEnum


class DeadLetterReason(StrEnum):
    """Why a record was set aside on the dead-letter topic."""

    NULL_VALUE = "NULL_VALUE"
    """The record has no value (a tombstone on a topic that is not compacted)."""
    BAD_FRAMING = "BAD_FRAMING"
    """The value starts with neither known framing."""
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"
    """The fingerprint or schema id names no schema known here; replay once it is."""
    WRONG_SCHEMA = "WRONG_SCHEMA"
    """The schema is known but belongs to another topic."""
    INCOMPATIBLE_SCHEMA = "INCOMPATIBLE_SCHEMA"
    """The writer's schema is known but cannot be read as the record of this topic."""
    OVERSIZE = "OVERSIZE"
    """Key and value together, unpacked, exceed `max_value_bytes`; what is kept is cut."""
    UNREADABLE_BATCH = "UNREADABLE_BATCH"
    """The record, or the rest of its Kafka batch, is damaged as a whole; the detail says where."""
    BAD_BODY = "BAD_BODY"
    """The body does not decode under its schema, or bytes are left over."""
    INVALID_FIELD = "INVALID_FIELD"
    """A field is outside its documented limits."""
    KEY_MISSING = "KEY_MISSING"
    """The record key is null or not UTF-8."""
    KEY_MISMATCH = "KEY_MISMATCH"
    """The record key is not `agent_id` or `tenant/agent_id` of the value."""
    STRAY_PARTITION = "STRAY_PARTITION"
    """The key does not belong in this partition under the configured partitioner."""
    FUTURE = "FUTURE"
    """The event time is more than five minutes ahead of the record timestamp."""
    TOO_LATE = "TOO_LATE"
    """The event time is older than the retention of the hour panes."""
    SERIES_LIMIT = "SERIES_LIMIT"
    """The event would start a series past the bound of its partition."""


class HoldReason(StrEnum):
    """What an input partition waits for; nothing of it is lost meanwhile."""

    SCHEMA = "SCHEMA"
    """A record's schema is not known and whoever could know it does not answer."""


class LookUpOutcome(StrEnum):
    """What became of a look-up of a schema that was not known."""

    FOUND = "FOUND"
    """It is known from now on."""
    ABSENT = "ABSENT"
    """Nobody knows it: its records are refused as UNKNOWN_SCHEMA."""
    UNUSABLE = "UNUSABLE"
    """What was found is no Avro schema that can be read."""
    AWAY = "AWAY"
    """Whoever could know it does not answer; asked again until it does."""


class Transition(StrEnum):
    """A step in the life of a rule on an entity."""

    PENDING = "PENDING"
    FIRING = "FIRING"
    UPDATED = "UPDATED"
    RESOLVED = "RESOLVED"
    CANCELLED = "CANCELLED"


class TransitionReason(StrEnum):
    """Why a rule on an entity took a step."""

    CONDITION_TRUE = "CONDITION_TRUE"
    CONDITION_FALSE = "CONDITION_FALSE"
    FOR_ELAPSED = "FOR_ELAPSED"
    AT_ONCE = "AT_ONCE"
    ARM_JOINED = "ARM_JOINED"
    CLEAR_ELAPSED = "CLEAR_ELAPSED"
    REBASELINED = "REBASELINED"
    SECURITY_EVENT = "SECURITY_EVENT"
    SERIES_LIMIT = "SERIES_LIMIT"
    QUIET = "QUIET"
    IDLE = "IDLE"


class Severity(StrEnum):
    """How bad an alert is, in the order a person would look at them."""

    CRITICAL = "CRITICAL"
    HIGH = "HIGH"
    WARNING = "WARNING"
    INFO = "INFO"


class EntityKind(StrEnum):
    """What a finding is about."""

    AGENT = "AGENT"
    PARTITION = "PARTITION"


class AlertStatus(StrEnum):
    """The state of an alert as a consumer sees it."""

    FIRING = "FIRING"
    UPDATED = "UPDATED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"
    WITHHELD = "WITHHELD"
