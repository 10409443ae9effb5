"""The events that are few, one by one: reviews, changes, queue depths, profiles, controls.

The fields of a class are those of its .avsc, in its order: times are ms since 1970 UTC, enums
their symbols, arrays tuples. What the fields mean stands in the schemas.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanReview:
    """A person judged a decision of an agent.

    Attributes:
        event_id: unique id.
        occurred_at: event time, ms.
        tenant: tenant of the agent, if any.
        agent_id: the agent.
        trace_id: trace of the task, if any.
        task_type: kind of the task reviewed.
        task_event_id: `event_id` of that task.
        task_occurred_at: event time of that task, ms, if known.
        task_outcome: UNKNOWN, AUTOMATED, ESCALATED or FAILED, if known.
        verdict: UNKNOWN, OVERRIDDEN or CONFIRMED.
        agent_decision: bounded code.
        human_decision: bounded code.
        reason_code: bounded code.
        reason: why, in words; None unless the setting `keep_review_reasons` is on.
        agent_confidence: 0 to 1, if known.
        model: model of the task, if known.
        prompt_version: version of the prompt of the task, if known.
        input_ref: pointer to the input.
    """

    event_id: str
    occurred_at: int
    tenant: str | None = None
    agent_id: str
    trace_id: str | None = None
    task_type: str
    task_event_id: str
    task_occurred_at: int | None = None
    task_outcome: str | None = None
    verdict: str
    agent_decision: str
    human_decision: str
    reason_code: str
    reason: str | None = None
    agent_confidence: float | None = None
    model: str | None = None
    prompt_version: str | None = None
    input_ref: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something an agent depends on was changed.

    Attributes:
        event_id: unique id.
        occurred_at: event time, ms.
        tenant: tenant of the agent, if any.
        agent_id: the agent.
        trace_id: trace, if any.
        integration: the integration that changed; None where it is the agent itself.
        kind: OTHER, PROMPT, MODEL, CONFIG, TOOL_SCHEMA, POLICY, PRICE or LIFECYCLE.
        from_version: version before, if known.
        to_version: version after.
        planned: whether it was announced.
    """

    event_id: str
    occurred_at: int
    tenant: str | None = None
    agent_id: str
    trace_id: str | None = None
    integration: str | None = None
    kind: str
    from_version: str | None = None
    to_version: str
    planned: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """How much work waits for an agent.

    Attributes:
        event_id: unique id.
        occurred_at: event time, ms.
        tenant: tenant of the agent, if any.
        agent_id: the agent.
        trace_id: trace, if any.
        depth: tasks waiting.
        oldest_age_ms: age of the oldest of them; 0 where none waits.
    """

    event_id: str
    occurred_at: int
    tenant: str | None = None
    agent_id: str
    trace_id: str | None = None
    depth: int
    oldest_age_ms: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentProfile:
    """What is known of an agent; the newest one counts.

    Attributes:
        event_id: unique id.
        occurred_at: event time, ms.
        tenant: tenant of the agent, if any.
        agent_id: the agent.
        trace_id: trace, if any.
        owner: team that answers for the agent.
        trust_tier: bounded code, if any.
        daily_cost_plan_usd: planned cost of a day; None for no plan.
        retraining_interval_days: days after which it is due; None for no schedule.
        last_trained_at: when it was last trained, ms, if known.
        lifecycle: ACTIVE, DEPRECATED or RETIRED.
        sunset_at: when it is to be switched off, ms, if known.
        time_zone: IANA name of a zone; that there is such a zone is not checked here.
        feature_names: names of the tasks' input_features, in their order.
        depends_on: integrations it cannot work without.
    """

    event_id: str
    occurred_at: int
    tenant: str | None = None
    agent_id: str
    trace_id: str | None = None
    owner: str
    trust_tier: str | None = None
    daily_cost_plan_usd: float | None = None
    retraining_interval_days: int | None = None
    last_trained_at: int | None = None
    lifecycle: str = "ACTIVE"
    sunset_at: int | None = None
    time_zone: str = "UTC"
    feature_names: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The record key, which a `Deleted` names."""
        return self.agent_id if self.tenant is None else f"{self.tenant}/{self.agent_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """The profile with this key is gone: a record with a null value.

    It names a key and no agent: where ids hold slashes, two agents can share a key. They share
    the record too, as the newest of a key is all that the log keeps.

    Attributes:
        key: the record key; see `AgentProfile.key`.
        occurred_at: timestamp of the record, ms: a null value has no event time.
    """

    key: str
    occurred_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What an operator tells the service.

    Attributes:
        event_id: unique id.
        occurred_at: when it was said, ms.
        control_id: what later records replace or end; the record key.
        kind: SILENCE, ACKNOWLEDGE, ACCEPT_NORMAL, MAINTENANCE, EXPIRE or RULES.
        match_alert_id: only this alert; None for any.
        match_rule: only alerts of this rule; None for any.
        match_entity_kind: only alerts on entities of this kind; None for any.
        match_tenant: only alerts of this tenant; None for any.
        match_entity_id: only alerts on this entity; None for any.
        from_at: from when on, ms; None for at once.
        until_at: until when, ms; None for no end. A SILENCE has one.
        by: role or account.
        why: why.
        rules: text of rules.yaml; of RULES only.
    """

    event_id: str
    occurred_at: int
    control_id: str
    kind: str
    match_alert_id: str | None = None
    match_rule: str | None = None
    match_entity_kind: str | None = None
    match_tenant: str | None = None
    match_entity_id: str | None = None
    from_at: int | None = None
    until_at: int | None = None
    by: str
    why: str
    rules: str | None = None
