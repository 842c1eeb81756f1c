"""The layers stay apart: who may import whom, where client libraries may be named, how long things may get."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "rag_migration_pipeline"
ROOT = Path(__file__).parents[2] / PACKAGE
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))}

GROUND = frozenset(
    {
        "__init__",
        "errors",
        "records",
        "vectors",
        "batching",
        "locks",
        "payloads",
        "locators",
        "state",
        "state_files",
        "events",
        "uuids",
    }
    | {"names", "problems", "retries", "prefetching", "collector", "config_files", "remote_files", "remote_errors"}
    | {"filters"}  # adapters translate filters
)
CORE = frozenset(
    {
        "spec",
        "options",
        "automation_options",
        "plan",
        "verdicts",
        "vector_choice",
        "inference",
        "target_fields",
        "settings",
    }
    | {"ids", "mapping", "envelope"}
    | {"arrow", "digests", "quarantine", "receipts", "sightings", "written"}
)
LAYERS = ("ground", "stores", "core", "steps", "shell", "definitions", "programs")
"""Each layer knows itself and those before it. ``shell`` is Dagster files and the demo; ``programs`` are started."""

FAMILIES = ("chroma", "qdrant", "milvus", "memory")
OF_ALL_STORES = ("stores.registry", "stores.abilities")
"""What opens any store by its URL, and the table of what each can hold."""

CLIENTS = {
    "chromadb": "chroma",
    "qdrant_client": "qdrant",
    "qdrant_edge": "qdrant",
    "pymilvus": "milvus",
    "milvus_lite": "milvus",
}
MAX_FUNCTION_LINES = 50
MAX_FILE_LINES = 400


def layer_of(module: str) -> str:
    first = module.partition(".")[0]
    if first in ("stores", "steps", "definitions"):
        return first
    if module == "demo.__main__" or first == "cli":
        return "programs"
    return "ground" if first in GROUND else "core" if first in CORE else "shell"


def family_of(module: str) -> str | None:
    """Return which database an adapter module is about; None for what all stores share."""
    folder, _, name = module.rpartition(".")
    return next((family for family in FAMILIES if name.startswith(family)), None) if folder == "stores" else None


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def imported(module: str) -> Iterator[tuple[str, bool]]:
    """Yield every imported module, and whether the import stands outside all functions."""
    tree = tree_of(module)
    late = {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, id(node) not in late
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield node.module or "", id(node) not in late
            for name in node.names:
                yield f"{node.module}.{name.name}", id(node) not in late


def ours(module: str) -> set[str]:
    """Return the modules of the package that a module imports, early or late."""
    found = {name.removeprefix(f"{PACKAGE}.") for name, _ in imported(module) if name.startswith(f"{PACKAGE}.")}
    return {name for name in found if name in MODULES or f"{name}.__init__" in MODULES}


every_module = pytest.mark.parametrize("module", MODULES)


@every_module
def test_imports_go_one_way(module: str) -> None:
    own = LAYERS.index(layer_of(module))
    wrong = {name for name in ours(module) if LAYERS.index(layer_of(name)) > own}
    assert not wrong, f"{module} is in the layer {LAYERS[own]}"


@every_module
def test_an_adapter_knows_no_other_adapter(module: str) -> None:
    family = family_of(module)
    if layer_of(module) == "stores" and module not in OF_ALL_STORES:
        assert {name for name in ours(module) if family_of(name) not in (None, family)} == set()


@every_module
def test_client_libraries_are_named_late_and_in_their_adapter_alone(module: str) -> None:
    for name, is_early in imported(module):
        family = CLIENTS.get(name.partition(".")[0])
        if family is not None and layer_of(module) not in ("shell", "programs"):
            assert family_of(module) == family, f"{module} imports {name}"
            assert not is_early, f"{module} imports {name} when it is imported itself"


@every_module
def test_dagster_stays_in_the_shell(module: str) -> None:
    if layer_of(module) not in ("shell", "definitions", "programs"):
        assert [name for name, _ in imported(module) if name.partition(".")[0].startswith("dagster")] == []


@every_module
def test_annotations_are_real_types(module: str) -> None:
    """Dagster resolves annotations when it runs and refuses strings."""
    names = {name for name, _ in imported(module)}
    assert not names & {"__future__.annotations", "typing.TYPE_CHECKING"}


@every_module
def test_files_and_functions_stay_short(module: str) -> None:
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE_LINES, f"{module} has {lines} lines"
    long = {
        node.name: node.end_lineno - node.lineno + 1
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES
    }
    if module == "migrator":
        assert long.pop("migrate") <= 80, "the signature that users know, and a line on each of its arguments"
    assert not long


@every_module
def test_every_module_opens_with_its_charter(module: str) -> None:
    docstring = ast.get_docstring(tree_of(module))
    assert docstring
    assert docstring.partition("\n")[0].endswith((".", ":")), "the first line is a sentence"


def test_every_module_has_its_layer() -> None:
    """A new file is put into a layer on purpose, not by falling through to the shell."""
    shell = {module.partition(".")[0] for module in MODULES if layer_of(module) == "shell"}
    running = {"engine", "ledger", "logs", "progress_bar", "progress", "range_runner", "running", "stopping", "workers"}
    running |= {"notifying"}
    assert shell <= {"orchestration", "demo", "defs", "migrator", "models", "services", "upkeep", *running}


def test_the_rules_see_what_they_forbid() -> None:
    names = dict(imported("stores.registry"))
    assert names["rag_migration_pipeline.errors"]
    assert "stores.base" in ours("spec")
    assert "stores.registry" in ours("spec"), "late imports count"
    assert layer_of("stores.qdrant_edge") == "stores"
    assert family_of("stores.qdrant_edge") == "qdrant"
    assert family_of("stores.base") is None
