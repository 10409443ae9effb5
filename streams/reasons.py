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
    ORDER = "ORDER"
    """Another topic of the partition must be read further first: events are folded in order."""


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
    CONTRACT_TEST = "CONTRACT_TEST"
    """A contract test failed, passed again, or none came."""
    CHANGED = "CHANGED"
    """Something was changed: a version, a model, a price."""
    SCHEDULE = "SCHEDULE"
    """A date of the agent's schedule came near, or was met."""
    PATTERN = "PATTERN"
    """Reviews show a pattern, or show it no more."""
    SIGNAL_JOINED = "SIGNAL_JOINED"
    """A further signal shows on what is already open."""
    SOURCE_LATE = "SOURCE_LATE"
    """Nothing comes from a whole partition: it is the source, not the agents."""
    AGENT_DEAD = "AGENT_DEAD"
    """Work waits for the agent, and it finishes none."""
    AGENT_IDLE = "AGENT_IDLE"
    """The agent finishes nothing, and no work is known to wait."""
    ENTITY_GONE = "ENTITY_GONE"
    """What it was about is no longer kept."""


class AlertReason(StrEnum):
    """Why the state of an alert changed: the reason of a finding, or one of the incidents."""

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
    CONTRACT_TEST = "CONTRACT_TEST"
    CHANGED = "CHANGED"
    SCHEDULE = "SCHEDULE"
    PATTERN = "PATTERN"
    SIGNAL_JOINED = "SIGNAL_JOINED"
    SOURCE_LATE = "SOURCE_LATE"
    AGENT_DEAD = "AGENT_DEAD"
    AGENT_IDLE = "AGENT_IDLE"
    ENTITY_GONE = "ENTITY_GONE"
    GROUP_WAIT = "GROUP_WAIT"
    """The time in which its group could gather is over."""
    GROUPED = "GROUPED"
    """It shows on the page of another alert of the same incident."""
    INHIBITED = "INHIBITED"
    """The alert held to be its cause is open, and pages instead."""
    SILENCED = "SILENCED"
    """A silence matches it."""
    MAINTENANCE = "MAINTENANCE"
    """A maintenance matches it."""
    ACKNOWLEDGED = "ACKNOWLEDGED"
    """A person has seen it."""
    ROOT_FOUND = "ROOT_FOUND"
    """The cause of an incident that has paged is known now."""
    REPEATED = "REPEATED"
    """It is open for long, and nobody has seen it."""
    RELEASED = "RELEASED"
    """What withheld it is over."""
    INCIDENT_CLOSED = "INCIDENT_CLOSED"
    """The last alert of the incident is over."""


class RetrainingCause(StrEnum):
    """Why an agent may have to be retrained."""

    NONE = "NONE"
    INPUT_DRIFT = "INPUT_DRIFT"
    PERFORMANCE_DRIFT = "PERFORMANCE_DRIFT"
    OVERRIDE_PATTERN = "OVERRIDE_PATTERN"
    SCHEDULE = "SCHEDULE"
    MODEL_UPDATE = "MODEL_UPDATE"
    PROMPT_REVIEW = "PROMPT_REVIEW"
    SCHEMA_CHANGE = "SCHEMA_CHANGE"


class RetrainingAction(StrEnum):
    """What would help an agent that has to be retrained."""

    NONE = "NONE"
    FINE_TUNE = "FINE_TUNE"
    PROMPT = "PROMPT"
    THRESHOLD = "THRESHOLD"
    ESCALATION = "ESCALATION"
    SCHEMA = "SCHEMA"
    CONFIG = "CONFIG"


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
    INTEGRATION = "INTEGRATION"
    TASK_TYPE = "TASK_TYPE"
    TENANT = "TENANT"
    FLEET = "FLEET"


class AlertStatus(StrEnum):
    """The state of an alert as a consumer sees it."""

    FIRING = "FIRING"
    UPDATED = "UPDATED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    RESOLVED = "RESOLVED"
    WITHHELD = "WITHHELD"


class JoinStatus(StrEnum):
    """Whether a training signal has the window of its task."""

    JOINED = "JOINED"
    """It has."""
    NO_TASK_TIME = "NO_TASK_TIME"
    """The review did not say when the task was."""
    NO_WINDOW = "NO_WINDOW"
    """No task of that agent and type was known when the hour closed."""
    WINDOW_EXPIRED = "WINDOW_EXPIRED"
    """The task was longer ago than is looked back."""
