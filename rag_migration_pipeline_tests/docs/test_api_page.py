"""The reference of docs/api.md is what the API is: signatures, fields, metadata, exceptions."""

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rag_migration_pipeline as api
from rag_migration_pipeline import StoreService, VectorStoreMigrator
from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline_tests.contract.elsewhere import ROOT

TEXT = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
REFERENCE = TEXT.partition("\n## Reference\n")[2]
METHODS = ("migrate", "estimate", "plan", "verify", "replay", "rollback")
SERVICES = ("get_chromadb_service", "get_qdrant_service", "get_milvus_service")


def signature_of(name: str, function: Callable[..., Any]) -> str:
    """Return a call as the page writes it: names and defaults without types."""
    shown, is_open = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not is_open:
            shown.append("*")
            is_open = True
        if parameter.kind is parameter.VAR_KEYWORD:
            shown.append(f"**{parameter.name}")
        elif parameter.name != "self":
            default = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
            given = "" if default is parameter.empty else f"={default!r}".replace("'", '"')
            shown.append(f"{parameter.name}{given}")
    return f"{name}({', '.join(shown)})"


@pytest.mark.parametrize("name", ["VectorStoreMigrator", *METHODS, *SERVICES])
def test_signatures_are_those_of_the_code(name: str) -> None:
    function = getattr(VectorStoreMigrator, name) if name in METHODS else getattr(api, name)
    assert f"`{signature_of(name, function)}`" in REFERENCE.replace("\n", " ")


@pytest.mark.parametrize("name", ["MigrationResult", "MigrationProgress", "MigrationEstimate"])
def test_fields_and_properties_are_those_of_the_code(name: str) -> None:
    kind = getattr(api, name)
    (row,) = re.findall(rf"^\| `{name}` \| (.*?) \| (.*?) \|$", REFERENCE, flags=re.MULTILINE)
    assert re.findall(r"`(\w+)`", row[0]) == [item.name for item in fields(kind)]
    properties = [key for key, value in vars(kind).items() if isinstance(value, property)]
    assert re.findall(r"`(\w+)`", row[1]) == properties


@pytest.fixture
def migrator(tmp_path: Path) -> Iterator[VectorStoreMigrator]:
    source, target = MemorySettings(name="page-a"), MemorySettings(name="page-b")
    with source.open(create=True) as store:
        store.create(CollectionSpec("docs", (VectorSpec(2, Metric.L2),), frozenset({IdKind.STRING})))
        vectors = {"": DenseColumn(np.array([[1, 2]], dtype=np.float32))}
        store.upsert("docs", RecordBatch(["a"], vectors, [{"n": 1}]))
    yield VectorStoreMigrator(StoreService(source), StoreService(target), state_dir=tmp_path)
    for settings in (source, target):
        forget_space(settings.name)


def test_the_metadata_are_those_of_a_run(migrator: VectorStoreMigrator) -> None:
    (said,) = re.findall(r"`metadata` has (.*?)\.\n", REFERENCE, flags=re.DOTALL)
    named = set(re.findall(r"`(\w+)`", said))
    migrator.migrate("docs", incremental=True)
    result = migrator.migrate("docs", incremental=True)
    assert set(result.metadata) == named
    assert set(migrator.migrate("docs", dry_run=True).metadata) - named == {"size_bytes"}


def test_every_exported_name_is_on_the_page_and_every_exception_says_when() -> None:
    table = re.findall(r"^\| `(\w+)` \| ([^`|]+.*?) \|$", REFERENCE.partition("| exception |")[2], flags=re.MULTILINE)
    exported = {name: getattr(api, name) for name in vars(api)["__all__"]}
    errors = {name for name, item in exported.items() if isinstance(item, type) and issubclass(item, Exception)}
    assert {name for name, _ in table} == errors
    assert {name for name in exported if name not in TEXT} == set()


def test_it_says_which_way_of_looking_sees_a_change_in_a_vector_alone() -> None:
    assert re.search(r'Only `detect="full"` promises to see a change in a\s+vector alone', TEXT)
