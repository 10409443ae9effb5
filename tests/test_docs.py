"""What the pages say is compared with the code: nothing is missing, nothing is made up."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import typer.main
from aiokafka.structs import TopicPartition

from streams import reasons, schema_topic, schema_tree, schemas
from streams.app import topology_text
from streams.batch import FetchedBatch, Refusal
from streams.cli import app
from streams.compatibility import obstacles
from streams.controls import ControlOutcome
from streams.dead_letters import CURES, dead_letter
from streams.diagnosis import Check, Status
from streams.durations import duration_text
from streams.failpoints import Failpoint, Guard
from streams.incidents import Outcome
from streams.keys import Keys, key_of
from streams.letter_replay import LetterFate
from streams.metrics import Metrics
from streams.releases import judge
from streams.rules import RuleSet
from streams.samples import Sample
from streams.settings import OTHER_NAMES, Settings
from streams.stage import StopReason
from streams.subjects import subjects
from streams.surge import SurgeArm
from streams.topics import TOPICS, TopicSpec
from streams.units import BatchVerdict, UnitStatus
from streams.validate import RECORDS as INPUTS
from streams.validate import Given, Validator

if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import StrEnum

    from streams.arms import DropArm, RiseArm

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted(DOCS.rglob("*.md")),
]
RULES = RuleSet.default()
DAY_MS = 86_400_000


def shown(page: Path) -> str:
    return str(page.relative_to(ROOT))


def section(page: Path, heading: str) -> str:
    """Return what stands under a heading, up to the next one of any level."""
    text = "\n" + page.read_text(encoding="utf-8")
    _, found, rest = text.partition(f"\n{heading}\n")
    assert found, f"{shown(page)} has no heading {heading!r}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def table(page: Path, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its two head lines."""
    found = re.search(r"(?:^\|.*\n)+", section(page, heading), re.MULTILINE)
    lines = found[0].splitlines() if found else []
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[2:]]
    assert rows, f"{shown(page)} has no table under {heading!r}"
    return [[cell.strip().replace(r"\|", "|") for cell in row] for row in rows]


def first_cells(page: Path, heading: str) -> list[str]:
    return [row[0].strip("`") for row in table(page, heading)]


# -- enums -------------------------------------------------------------------------------------

ENUMS: list[tuple[str, str, type[StrEnum]]] = [
    ("dead-letters.md", "## Reasons", reasons.DeadLetterReason),
    ("dead-letters.md", "## Replay", LetterFate),
    ("semantics.md", "### Transitions", reasons.Transition),
    ("semantics.md", "### Reasons", reasons.TransitionReason),
    ("consuming-alerts.md", "## Status", reasons.AlertStatus),
    ("consuming-alerts.md", "## Severity and page", reasons.Severity),
    ("consuming-alerts.md", "## From findings to alerts", Outcome),
    ("incidents.md", "## Controls", ControlOutcome),
    ("running.md", "## When a partition stops", StopReason),
    ("running.md", "### Units", UnitStatus),
    ("running.md", "### Batches", BatchVerdict),
    ("running.md", "### Holds", reasons.HoldReason),
    ("running.md", "### Look-ups", reasons.LookUpOutcome),
    ("doctor.md", "## Checks", Check),
    ("doctor.md", "## Status", Status),
    ("fault-tests.md", "## Fail points", Failpoint),
    ("fault-tests.md", "## Guards", Guard),
]


@pytest.mark.parametrize(("page", "heading", "enum"), ENUMS, ids=str)
def test_every_member_of_an_enum_stands_in_its_table(
    page: str, heading: str, enum: type[StrEnum]
) -> None:
    assert sorted(first_cells(DOCS / page, heading)) == sorted(enum)


def test_every_reason_of_the_incidents_stands_in_its_table() -> None:
    own = set(reasons.AlertReason) - set(reasons.TransitionReason)
    rows = first_cells(DOCS / "consuming-alerts.md", "## Reasons")
    assert set(rows) == own | {reasons.AlertReason.SIGNAL_JOINED}


# -- settings ----------------------------------------------------------------------------------


def default_text(value: object) -> str:
    return "none" if value is None else str(value).lower() if value in (True, False) else str(value)


def test_every_setting_stands_in_its_table_with_default_and_description() -> None:
    expected = [
        [f"`{name}`", f"`{default_text(field.default)}`", str(field.description)]
        for name, field in Settings.model_fields.items()
    ]

    assert table(DOCS / "running.md", "## Settings") == expected


def test_every_variable_that_is_no_setting_stands_in_its_table() -> None:
    assert sorted(first_cells(DOCS / "running.md", "### Other variables")) == sorted(OTHER_NAMES)


# -- log lines ---------------------------------------------------------------------------------


def logged() -> set[str]:
    """Return the events that the code logs."""
    call = re.compile(r"\blog\.(?:debug|info|warning|error|exception)\(\s*\"([a-z._]+)\"")
    return {
        event
        for path in (ROOT / "streams").glob("*.py")
        for event in call.findall(path.read_text(encoding="utf-8").replace("self._log.", "log."))
    }


def test_every_log_event_stands_in_its_table() -> None:
    assert set(first_cells(DOCS / "running.md", "## Logs")) == logged()


# -- metrics -----------------------------------------------------------------------------------


def test_every_metric_stands_in_its_table_with_its_labels() -> None:
    expected = [
        [
            f"`{metric.name}{'_total' * (metric.type == 'counter')}`",
            ", ".join(f"`{label}`" for label in metric.samples[0].labels),
            metric.documentation,
        ]
        for metric in Metrics().registry.collect()
    ]

    assert sorted(table(DOCS / "running.md", "## Metrics")) == sorted(expected)


# -- topics and records ------------------------------------------------------------------------


def kept(spec: TopicSpec) -> str:
    policy, milliseconds = spec.config["cleanup.policy"], spec.config.get("retention.ms")
    days = "for ever" if milliseconds == "-1" else f"{int(milliseconds or 0) // DAY_MS} days"
    if policy == "compact":
        return "newest of a key"
    return f"newest of a key, {days}" if "compact" in policy else days


def test_every_topic_stands_in_its_table_with_what_it_is() -> None:
    expected = [
        [
            f"`{spec.suffix}`",
            str(spec.partitions),
            "" if spec.record is None else f"[{spec.record}](../schemas/{spec.record}.avsc)",
            kept(spec),
            spec.doc,
        ]
        for spec in TOPICS
    ]

    assert table(DOCS / "topics.md", "## All topics") == expected


def kind(avro: Any) -> str:
    """Return a type as the pages write it: `?` is nullable, `[…]` an array."""
    if isinstance(avro, list):
        (other,) = (branch for branch in avro if branch != "null")
        return kind(other) + "?"
    if not isinstance(avro, dict):
        return str(avro)
    if avro["type"] == "enum":
        return " / ".join(avro["symbols"])
    if avro["type"] == "array":
        return f"[{kind(avro['items'])}]"
    return str(avro.get("logicalType", avro["type"]))


RECORDS = [
    ("TaskFinished", "producing.md", "## TaskFinished"),
    ("SecurityEvent", "producing.md", "## SecurityEvent"),
    ("IntegrationCall", "producing.md", "## IntegrationCall"),
    ("HumanReview", "producing.md", "## HumanReview"),
    ("Change", "producing.md", "## Change"),
    ("QueueDepth", "producing.md", "## QueueDepth"),
    ("AgentProfile", "producing.md", "## AgentProfile"),
    ("Control", "producing.md", "## Control"),
    ("RetrainingRequest", "topics.md", "## RetrainingRequest"),
    ("TrainingSignal", "topics.md", "## TrainingSignal"),
    ("Partials", "topics.md", "## Partials"),
    ("Alert", "consuming-alerts.md", "## Fields"),
    ("Finding", "topics.md", "## Finding"),
    ("Window", "topics.md", "## Window"),
]


@pytest.mark.parametrize(("name", "page", "heading"), RECORDS)
def test_every_field_stands_in_its_table_with_type_and_meaning(
    name: str, page: str, heading: str
) -> None:
    rows = table(DOCS / page, heading)

    fields = schemas.schema(name)["fields"]
    assert [row[:2] for row in rows] == [[f"`{f['name']}`", kind(f["type"])] for f in fields]
    # A page may say more than the schema, never something else.
    for row, field in zip(rows, fields, strict=True):
        assert row[2].startswith(field["doc"])


def test_every_published_record_has_a_table() -> None:
    assert {spec.record for spec in TOPICS if spec.record} == {name for name, *_ in RECORDS}


def test_the_worked_examples_are_what_the_encoder_writes() -> None:
    text = section(DOCS / "producing.md", "### A worked example")
    lines = re.findall(r"^((?:[0-9a-f]{2} )*[0-9a-f]{2})  ", text, re.MULTILINE)
    octets = bytes.fromhex("".join(lines))

    name, record = schemas.decode(octets)

    assert (name, record["agent_id"], record["kind"]) == (
        "SecurityEvent",
        "claims-agent",
        "INJECTION_ATTEMPT",
    )
    assert schemas.encode(name, record) == octets


@pytest.mark.parametrize("name", INPUTS.values())
def test_the_frame_of_each_input_record_is_printed(name: str) -> None:
    rows = table(DOCS / "producing.md", "### Single objects")

    assert [f"`{name}`", f"`{schemas.get(name).frame.hex(' ')}`"] in rows


def test_the_frame_of_a_registry_is_printed() -> None:
    text = section(DOCS / "producing.md", "### The same with a registry")
    lines = re.findall(r"^((?:[0-9a-f]{2} )*[0-9a-f]{2})  ", text, re.MULTILINE)

    assert bytes.fromhex("".join(lines)) == schemas.registry_frame(7)


def test_every_field_with_a_name_in_opentelemetry_is_one_of_a_task() -> None:
    fields = {field["name"] for field in schemas.schema("TaskFinished")["fields"]}

    assert set(first_cells(DOCS / "producing.md", "## OpenTelemetry names")) <= fields


def test_the_largest_task_is_as_large_as_the_page_says() -> None:
    longest = "\U0001f916" * 256
    largest = {"string": longest, "long": 2**40, "double": 1.0, "array": [1.0] * 256}
    record = {
        field["name"]: next((largest[kind] for kind in largest if kind in str(field["type"])), "")
        for field in schemas.schema("TaskFinished")["fields"]
    } | {"outcome": "FAILED", "input_features": largest["array"]}

    size = len(schemas.encode("TaskFinished", record)) + len(key_of(longest, longest))

    assert f"has {size / 1000:.0f} KB" in section(DOCS / "producing.md", "## Delivery")


def test_the_table_of_keys_is_what_a_worker_expects() -> None:
    for tenant, agent, key, partition in table(DOCS / "producing.md", "## Key and partition"):
        owner = None if tenant == "null" else tenant.strip("`")

        assert key_of(owner, agent.strip("`")) == key.strip("`").encode()
        assert Keys(Settings().partitions).place(key.strip("`").encode()) == int(partition)


def test_every_header_of_a_dead_letter_stands_in_its_table() -> None:
    own = (("NAME", b"x"), ("other", b"y" * 100))
    row = Row(offset=7, timestamp=8, key=b"k" * 1000, value=b"v" * 1000, headers=own)
    refusal = Refusal(0, reasons.DeadLetterReason.BAD_BODY, "why")

    _, _, headers = dead_letter(batch_of(TopicPartition("t", 0), [row]), refusal, 600)

    rows = first_cells(DOCS / "dead-letters.md", "## The records")
    assert rows == [name for name, _ in headers]


def test_every_reason_of_a_dead_letter_has_its_cure_as_the_commands_print_it() -> None:
    rows = table(DOCS / "dead-letters.md", "## Reasons")

    shown = {row[0].strip("`"): [cell.replace("`", "") for cell in row[1:]] for row in rows}
    assert shown == {
        str(reason): [cure.why, cure.cure, "yes" if cure.retry else "no"]
        for reason, cure in CURES.items()
    }


# -- commands ----------------------------------------------------------------------------------


def commands(group: Any, *names: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)
        else:
            yield " ".join((*names, name)), command


def arguments(command: Any) -> set[str]:
    """Return what a command takes: the long name of each option, the metavar of each argument."""
    names = {
        max(each.opts, key=len) if each.param_type_name == "option" else str(each.metavar)
        for each in command.params
    }
    return names - {"--help"}


def test_every_command_stands_in_its_table_with_its_options() -> None:
    rows = {row[0].strip("`"): row for row in table(DOCS / "commands.md", "## All commands")}

    expected = dict(commands(typer.main.get_command(app)))
    assert rows.keys() == expected.keys()
    for name, command in expected.items():
        assert set(re.findall(r"`([^`]+)`", rows[name][1])) == arguments(command), name
        assert rows[name][2] == command.help.partition("\n")[0], name


def test_every_option_of_the_demo_stands_on_its_page() -> None:
    demo = dict(commands(typer.main.get_command(app)))["demo"]

    options = {cell.split()[0] for cell in first_cells(DOCS / "demo.md", "# The demo")}

    assert options == arguments(demo)


def test_every_script_stands_in_its_table() -> None:
    scripts = {path.name for path in (ROOT / "scripts").iterdir() if path.name[0] not in "._"}

    assert set(first_cells(DOCS / "commands.md", "## Scripts")) == {
        f"scripts/{name}" for name in scripts
    }


# -- rules -------------------------------------------------------------------------------------


def numbers(text: str) -> set[str]:
    """Return the numbers of a text with their units, without spaces: 24h, 1.5%, 0.75."""
    number = r"\d+(?:\.\d+)?(?: ?%| ?(?:s|min|h|d)\b)?"
    return {found.replace(" ", "") for found in re.findall(number, text.replace("p0", ""))}


def span(milliseconds: int) -> str:
    """Return a duration as the pages write it, without the space."""
    if milliseconds and milliseconds % DAY_MS == 0 and milliseconds > DAY_MS:
        return f"{milliseconds // DAY_MS}d"
    return duration_text(milliseconds).replace("m", "min")


def percent(share: float) -> str:
    return f"{100 * share:g}%"


def arm_numbers(arm: DropArm | RiseArm | SurgeArm) -> set[str]:
    assert not isinstance(arm, SurgeArm), "its numbers stand in its own section"
    found = {span(arm.window_ms), span(arm.step_ms), span(arm.clear_for_ms), str(arm.min_n)}
    found |= {span(each) for each in (arm.for_ms, arm.cool_down_ms) if each}
    found |= {f"{arm.factor:g}"} | ({f"{arm.z:g}"} if arm.z else set())
    if arm.kind == "drop":
        return found | {f"{arm.clear_factor:g}"}
    found |= {percent(arm.floor), str(arm.min_hits)}
    if arm.wilson:
        found |= {f"{arm.wilson.z:g}", f"{arm.wilson.share:g}"}
    return found | ({f"{arm.clear_share:g}"} if arm.clear_share else {percent(arm.clear_rate or 0)})


def test_every_arm_stands_in_its_table_with_its_numbers_and_no_others() -> None:
    expected = {
        f"`{rule.name}` `{arm.name}`": arm_numbers(arm) for rule in RULES.rates for arm in rule.arms
    }

    rows = table(DOCS / "semantics.md", "### Arms")

    assert [row[0] for row in rows] == list(expected)
    for row in rows:
        # "z" of the table is written with its factor for young baselines, m.
        assert numbers(" ".join(row[1:])) == expected[row[0]], row[0]


def constant(where: str) -> Any:
    """Return a constant of a module, or a number of the rules by its path."""
    if where.startswith("streams."):
        module, _, name = where.rpartition(".")
        return getattr(importlib.import_module(module), name)
    rule, *path = where.split(".")
    named: dict[str, Any] = {one.name: one for one in RULES.rates}
    named |= {"security": RULES.security, "series-limit": RULES.series_limit}
    named |= {one.name: one for one in (RULES.cost, RULES.price_step, RULES.cost_plan)}
    part = (named | {"queue": RULES.queue, "silence": RULES.silence})[rule]
    for step in path:
        if step == "arms":
            part = {arm.name: arm for arm in part.arms}
        else:
            part = part[step] if isinstance(part, dict) else getattr(part, step)
    return part


def renderings(value: Any) -> set[str]:
    """Return the ways in which the pages may write a constant, without spaces."""
    if isinstance(value, frozenset):
        return {",".join(sorted(value))}
    if isinstance(value, tuple):
        return {",".join(f"{each:g}" for each in value)}
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return {default_text(value)}
    return {span(value), f"{value}"} if isinstance(value, int) else {percent(value), f"{value:g}"}


def test_every_number_of_the_semantics_is_the_one_in_the_code() -> None:
    for what, value, where in table(DOCS / "semantics.md", "## Numbers"):
        for place in re.findall(r"`([^`]+)`", where):
            assert value.replace(" ", "") in renderings(constant(place)), (what, place)


# -- evolution of schemas ----------------------------------------------------------------------

HUE = {"type": "enum", "name": "Hue", "symbols": ["RED", "BLUE"], "default": "RED"}
A_TIME = {"type": "long", "logicalType": "timestamp-millis"}
REQUIRED = {"name": "a", "type": "long"}
OPTIONAL = REQUIRED | {"default": 0}
AN_ENUM = {"name": "a", "type": HUE}


def of_type(kind: Any, **others: Any) -> dict[str, Any]:
    return {"name": "a", "type": kind, **others}


# What each row of the page means: the fields before and after, for producers those of the contract
# and of their own schema.
FOR_PRODUCERS: dict[str, list[tuple[list[Any], list[Any]]]] = {
    "a field more": [([], [REQUIRED])],
    "leave out a field that has a default": [([OPTIONAL], [])],
    "leave out a field without one": [([REQUIRED], [])],
    "rename a field": [([REQUIRED | {"aliases": ["b"]}], [REQUIRED | {"name": "b"}])],
    "`int` for `long`, `float` for `double`, `bytes` for `string`": [
        ([of_type(ours)], [of_type(theirs)])
        for theirs, ours in (("int", "long"), ("float", "double"), ("bytes", "string"))
    ],
    "any other type": [([of_type("long")], [of_type("string")]), ([REQUIRED], [of_type("double")])],
    "allow null where the contract does not": [([REQUIRED], [of_type(["null", "long"])])],
    "forbid null where the contract allows it": [([of_type(["null", "long"])], [REQUIRED])],
    "a symbol more or less in an enum": [
        ([AN_ENUM], [of_type(HUE | {"symbols": symbols})])
        for symbols in (["RED", "BLUE", "GREEN"], ["RED"])
    ],
    "rename an enum or a record": [([AN_ENUM], [of_type(HUE | {"name": "Colour"})])],
}
FOR_MAINTAINERS: dict[str, list[tuple[list[Any], list[Any]]]] = {
    "add a field with a default": [([], [OPTIONAL])],
    "add a field without one": [([], [REQUIRED])],
    "remove a field that has a default": [([OPTIONAL], [])],
    "remove one without": [([REQUIRED], [])],
    "add an enum symbol": [([AN_ENUM], [of_type(HUE | {"symbols": ["RED", "BLUE", "GREEN"]})])],
    "remove one, or change the default symbol": [
        ([AN_ENUM], [of_type(HUE | changed)])
        for changed in ({"symbols": ["RED"]}, {"default": "BLUE"})
    ],
    "add an enum without a default": [
        ([], [of_type({"type": "enum", "name": "E", "symbols": ["X"]}, default="X")])
    ],
    "change a type": [([of_type("int")], [of_type("long")])],
    "change a logical type": [
        ([of_type(A_TIME)], [of_type(A_TIME | {"logicalType": "timestamp-micros"})])
    ],
    "take a default away": [([OPTIONAL], [REQUIRED])],
    "rename a field, even with an alias": [
        ([OPTIONAL], [OPTIONAL | {"name": "b", "aliases": ["a"]}])
    ],
    "docs": [([REQUIRED], [REQUIRED | {"doc": "clearer"}])],
}


def record_of(name: str, fields: list[Any]) -> schemas.Schema:
    return schemas.build({"type": "record", "name": name, "fields": fields})


def test_what_a_producer_may_change_is_what_workers_can_read() -> None:
    rows = table(DOCS / "schemas.md", "### What may change")

    assert [row[0] for row in rows] == list(FOR_PRODUCERS)
    for change, allowed, _ in rows:
        for ours, theirs in FOR_PRODUCERS[change]:
            found = obstacles(record_of("R", theirs).tree, record_of("R", ours).tree)
            assert ("no" if found else "yes") == allowed, change


def test_what_a_maintainer_may_change_is_what_the_check_lets_pass() -> None:
    rows = table(DOCS / "schemas.md", "### What may change in the contract")

    assert [row[0] for row in rows] == list(FOR_MAINTAINERS)
    for change, published, state in rows:
        for name, allowed in (("Alert", published), ("UnitState", state)):
            for before, after in FOR_MAINTAINERS[change]:
                old, new = record_of(name, before), record_of(name, after)
                faults = judge(new, (old, new))
                assert ("no" if faults else "yes") == re.sub("only .*", "yes", allowed), change


def test_the_bounds_of_a_schema_are_those_in_the_code() -> None:
    units = {"KiB": 1024, "MiB": 1024**2, "B": 1}

    for _, most, name in table(DOCS / "schemas.md", "### Bounds"):
        number, _, unit = most.partition(" ")
        assert int(number) * units.get(unit, 1) == getattr(schema_tree, name.strip("`")), name


def test_the_subjects_are_those_that_are_registered() -> None:
    rows = table(DOCS / "schemas.md", "### At the registry")

    assert {(row[0].strip("`"), row[1]) for row in rows} == set(map(tuple, subjects(Settings())))


def test_the_example_of_a_published_schema_is_read_as_the_page_says() -> None:
    page = DOCS / "schemas.md"
    (text,) = blocks(page, "json")
    key, *_ = re.findall(
        r"^(?:[0-9a-f]{2} ){15}[0-9a-f]{2}$", section(page, "#### A worked example"), re.MULTILINE
    )
    lines = re.findall(r"^((?:[0-9a-f]{2} )*[0-9a-f]{2})  ", page.read_text("utf-8"), re.MULTILINE)
    value = bytes.fromhex("".join(lines))

    entry = schema_topic.entry(text)
    writer = schema_topic.parse(*entry)
    name, record = schemas.decode(value, {writer.frame: writer}.get)

    assert bytes.fromhex(key) == entry.key
    assert f"`{entry.key.decode()}`" in page.read_text("utf-8")
    assert (name, record["severity"], record["tenant"]) == ("SecurityEvent", "HIGH", None)
    assert "rule_id" not in record
    assert f", {len(value)} bytes:" in page.read_text("utf-8")


# -- all pages ---------------------------------------------------------------------------------


def test_the_picture_in_the_readme_is_what_topology_prints() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    fence = r"<!-- topology -->\n```text\n(.*?)\n```\n<!-- /topology -->"
    drawn = re.search(fence, text, re.DOTALL)

    assert drawn is not None
    assert drawn[1] == topology_text(Settings(), RULES)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page

        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_no_page_names_a_host_or_a_folder_of_some_machine(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert re.findall(r"https?://(?!127\.0\.0\.1[:/])\S+", text) == []
    assert re.findall(r"\b[\w-]+\.(?:com|dev|io|net|org)\b", text) == []
    assert re.findall(r"(?<![\w.])/(?:home|opt|root|tmp|usr|var|work)/\S*", text) == []


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("*.md")), ids=shown)
def test_a_decision_is_short_and_has_context_choice_and_consequences(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    assert re.match(r"\d{4}-[a-z0-9-]+\.md", page.name)
    parts = re.findall(r"^\*\*(\w+)\*\*", text, re.MULTILINE)
    assert parts == ["Context", "Choice", "Consequences"]
    assert len(text.splitlines()) <= 24


def test_every_page_can_be_found_from_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    assert [page.name for page in DOCS.glob("*.md") if f"(docs/{page.name})" not in text] == []


# -- the examples ------------------------------------------------------------------------------


def blocks(page: Path, *languages: str) -> list[str]:
    """Return the code blocks of a page in some languages."""
    fence = rf"^```(?:{'|'.join(languages)})\n(.*?)^```$"
    return re.findall(fence, page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("language", ["python", "java", "go"])
def test_code_on_the_page_for_producers_is_taken_from_an_example(language: str) -> None:
    suffix = {"python": "py"}.get(language, language)
    sources = [
        re.sub(r"\n\s*", "\n", path.read_text(encoding="utf-8"))
        for path in (ROOT / "examples").rglob(f"*.{suffix}")
    ]

    found = blocks(DOCS / "producing.md", language)

    assert found
    for block in found:
        assert any(re.sub(r"\n\s*", "\n", block) in source for source in sources), block


def test_each_line_on_the_page_for_producers_is_an_event_without_fault() -> None:
    events = [json.loads(block) for block in blocks(DOCS / "producing.md", "json")]

    for event in events:
        at = event["record"]["occurred_at"]
        sample = Sample("here", record=event["record"], topic=event["topic"], timestamp=at)
        verdict = Validator(Settings(), Given(), lambda: 0).judge(sample)
        assert (verdict.word, verdict.problems, verdict.warnings) == ("ok", [], [])
    assert {event["topic"] for event in events} == INPUTS.keys() - {"security"}


def test_commands_on_the_page_for_producers_name_programs_that_exist() -> None:
    commands = " ".join(blocks(DOCS / "producing.md", "sh"))

    for path in re.findall(r"examples/[\w./]+", commands):
        assert "/target/" in path or (ROOT / path).exists(), path


class Row(NamedTuple):
    """A record as a consumer returns it."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def batch_of(place: TopicPartition, rows: list[Any]) -> FetchedBatch:
    return FetchedBatch(
        topic=place.topic,
        partition=place.partition,
        incarnation=0,
        fetch_from=0,
        next_offset=len(rows),
        offsets=np.array([row.offset for row in rows], np.int64),
        timestamps=np.array([row.timestamp for row in rows], np.int64),
        keys=[row.key for row in rows],
        values=[row.value for row in rows],
        headers=[row.headers for row in rows],
    )
