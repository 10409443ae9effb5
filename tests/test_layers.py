from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "streams"

# Imports point down this list, or stay within a layer. A new module must be placed here.
LAYERS = {
    "contract": "reasons schema_tree compatibility schema_diff schemas topics releases settings "
    "batch columns durations cursor trace",
    "pure": "series panes clock state closing admission stats baseline residuals history arms "
    "rules life lives security findings evaluation ledger sweep snapshot detect incidents "
    "diagnosis",
    "io": "connection keys codec dead_letters failpoints metrics registry_answer registry "
    "schema_topic subjects catalog catalog_reader frames rows unpacking record_stream records "
    "consumer portions right_of_way assignor transport epoch refusals stage hold units ownership "
    "stages worker provision sender tether local_jars local_server local_broker local_registry "
    "local",
    "app": "app",
    "cli": "console schema_commands local_commands explain samples validate validate_commands "
    "replay tail letter_box doctor_requests doctor_cluster doctor_access doctor_samples "
    "doctor_partitioner doctor_clocks doctor_schemas doctor_group doctor_state doctor_host "
    "doctor doctor_commands letter_replay letter_trial letter_view letter_commands demo_view "
    "demo cli",
}
RANK = {module: rank for rank, modules in enumerate(LAYERS.values()) for module in modules.split()}
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

    assert roots & NOT_IN_PURE_CODE == set()


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
