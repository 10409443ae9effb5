from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "streams"

# Imports point down this list, or stay within a layer. A new module must be placed here.
LAYERS = {
    "contract": "reasons schema_tree compatibility schema_diff schemas topics releases settings "
    "batch columns durations cursor trace events limits",
    # What is remembered and how time passes; rules; what rules look at; what a partition says of
    # its agents; what spans partitions; what people are told.
    "pure": "series layout panes cells late clock state closing admission stats zones ledger sweep "
    "feed snapshot desk watch "
    "baseline baseline_spec residuals history arms surge rules life lives evaluation findings "
    "stored_lives standing tails arrivals cost_rules review_rules integration_rules drift_rules "
    "incident_rules "
    "security hourly_cost cost_sums cost_lives cost_judge decomposition prices cost price_step "
    "cost_plan sketch type_counts operations error_types latency contract_tests integrations "
    "shares review_series low_confidence overrides pattern_judge patterns thresholds "
    "threshold_advice late_tasks training_signals reviews "
    "depths context callers queues source_arrivals agent_silence "
    "detectors sampling seasons shifts signals mixes task_signals override_signals prompt_reviews "
    "drift_lives drift_findings drift training_schedule "
    "partials tasks calls watches detect ordering workforce "
    "confluence rollup sections "
    "alerts summaries grouping controls paging gathering incident_state incidents retraining "
    "diagnosis",
    "io": "connection keys decoding column_layout column_codec task_codec call_codec row_codec "
    "codec dead_letters failpoints metrics registry_answer registry schema_topic subjects catalog "
    "catalog_reader frames rows unpacking record_stream records consumer portions right_of_way "
    "assignor transport epoch refusals stage hold units ownership outputs detect_stage "
    "rollup_stage incident_stage worker provision sender tether local_jars local_server "
    "local_broker local_registry local",
    "app": "app",
    "cli": "console schema_commands local_commands explain samples advice validate_view validate "
    "validate_commands replay tail letter_box doctor_requests doctor_cluster doctor_access "
    "doctor_samples doctor_partitioner doctor_clocks doctor_schemas doctor_group doctor_state "
    "doctor_host doctor doctor_commands letter_replay letter_trial letter_view letter_commands "
    "control_commands demo_view demo cli",
}
RANK = {module: rank for rank, modules in enumerate(LAYERS.values()) for module in modules.split()}
CONVERTERS = {"zones": {"datetime"}}  # it converts times it is given, and asks for none
NOT_IN_PURE_CODE = {"aiokafka", "asyncio", "datetime", "faust", "mode", "redis", "socket", "time"}


def modules() -> list[str]:
    return sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imported(module: str) -> set[str]:
    """Return the dotted names of all that a module imports, type-only imports included."""
    names = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            if node.module == "streams":
                names |= {f"streams.{alias.name}" for alias in node.names}
            else:
                names.add(node.module or "")
    return names


def siblings(module: str) -> set[str]:
    found = {name.split(".")[1] for name in imported(module) if name.startswith("streams.")}
    return found - {"__version__"}


@pytest.mark.parametrize("module", modules())
def test_every_module_has_a_layer(module: str) -> None:
    assert module in RANK


@pytest.mark.parametrize("module", modules())
def test_imports_point_down(module: str) -> None:
    upward = {other for other in siblings(module) if RANK.get(other, 9) > RANK[module]}

    assert upward == set()


@pytest.mark.parametrize("module", [name for name in modules() if RANK.get(name, 9) <= 1])
def test_contract_and_pure_code_know_no_kafka_no_redis_and_no_clock(module: str) -> None:
    roots = {name.split(".")[0] for name in imported(module)}

    assert roots & NOT_IN_PURE_CODE <= CONVERTERS.get(module, set())


def test_faust_is_imported_in_three_files_at_most() -> None:
    users = [
        name
        for name in modules()
        if {"faust", "mode"} & {each.split(".")[0] for each in imported(name)}
    ]

    assert len(users) <= 3, users


def test_the_oracle_shares_nothing_with_what_it_judges() -> None:
    tree = ast.parse((PACKAGE.parent / "load" / "oracle.py").read_text())
    sources = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert "streams" not in sources
