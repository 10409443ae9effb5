from __future__ import annotations

import json

from streams import schemas
from streams.diagnosis import Status
from streams.doctor_schemas import RegistrySeen, Subject, judge_registry, judge_topic
from streams.settings import Settings

TASK = schemas.get("TaskFinished")
SETTINGS = Settings(registry_url="http://127.0.0.1:1")


def judged(subject: Subject, settings: Settings = SETTINGS) -> list[tuple[Status, str]]:
    said = judge_registry(RegistrySeen(0.01, [subject]), settings)
    return [(one.status, str(one)) for one in said]


def test_a_schema_on_the_topic_that_no_worker_can_read_fails() -> None:
    raw = {"type": "record", "name": "TaskFinished", "fields": []}
    writer = schemas.parse(json.dumps(raw))

    said = judge_topic(
        {
            writer.fingerprint.hex().encode(): json.dumps(raw).encode(),
            TASK.fingerprint.hex().encode(): json.dumps(TASK.raw).encode(),
        }
    )

    assert [one.status for one in said] == [Status.FAIL]
    assert "INCOMPATIBLE_SCHEMA" in str(said[0])


def test_an_output_that_the_registry_does_not_take_fails() -> None:
    subject = Subject("alerts-value", "Alert", {1: "{}"}, refuses=["another record"])

    assert [one for one, _ in judged(subject)] == [Status.FAIL]


def test_an_output_that_is_not_registered_matters_only_when_workers_do_not_register() -> None:
    subject = Subject("alerts-value", "Alert")
    manual = SETTINGS.model_copy(update={"registry_register": False})

    assert [one for one, _ in judged(subject)] == [Status.OK]
    ((status, line),) = judged(subject, manual)
    assert status is Status.FAIL
    assert "schemas register" in line


def test_an_input_of_another_record_is_odd() -> None:
    subject = Subject("tasks-value", "TaskFinished", {3: json.dumps(schemas.schema("Alert"))})

    ((status, line),) = judged(subject)

    assert status is Status.WARN
    assert "Version 3 of tasks-value is a Alert" in line
