"""Typed records of Milvus, in partitions, travel to other stores and come home the same; schemas given and inferred."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.errors import RecordRejectedError, SchemaCompatibilityError, SourceChangedError
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.records import CollectionSpec, FieldSpec, IdKind, RecordBatch
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.context import open_migration
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.stores.base import StoreSettings
from rag_migration_pipeline.stores.chroma import ChromaSettings
from rag_migration_pipeline.stores.memory import MemorySettings
from rag_migration_pipeline.stores.milvus import MilvusStore
from rag_migration_pipeline.stores.qdrant import QdrantSettings
from rag_migration_pipeline_tests.contract.comparison import assert_same_records
from rag_migration_pipeline_tests.stores.milvus_samples import batch_of, spec_of, vendor
from rag_migration_pipeline_tests.stores.test_milvus_fields import FIELDS, PAYLOADS

_numbers = itertools.count(1)
FOREIGN: dict[str, Callable[[Path], StoreSettings]] = {
    "memory": lambda _: MemorySettings(name=f"journey-{next(_numbers)}"),
    "chroma": lambda folder: ChromaSettings(path=str(folder / "chroma")),
    "qdrant": lambda folder: QdrantSettings(path=str(folder / "qdrant")),
}


SERVER = pytest.mark.server


def in_forms(*forms: str) -> pytest.MarkDecorator:
    """Run a test in these forms of Milvus only: a proof takes a server seconds; in the slow one in `make test-full`."""
    marks = {"file": [], "slow server": [SERVER, pytest.mark.slow]}
    params = [pytest.param(form.removeprefix("slow "), marks=marks.get(form, [SERVER])) for form in forms]
    return pytest.mark.parametrize("milvus", params, indirect=True, scope="module")


def move(
    source: StoreSettings, collection: str, target: StoreSettings, into: str, state: Path, **options: Any
) -> dict[str, int]:
    """Migrate and prove a collection; return the report's counts."""
    chosen = MigrationOptions.model_validate({"range_count": 5, "page_count": 3, **options})
    migration = Migration("journey", source, collection, target, into, chosen)
    with open_migration(migration, state, plan=True) as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        report = prove_collection(context)
    assert report.is_proven
    return {"written": report.written, "rejected": report.rejected}


def everything(store: MilvusStore, name: str) -> tuple[RecordBatch, CollectionSpec]:
    store.forget_spec(name)
    store._layouts.pop(name, None)
    return concatenate(list(store.scan(name))), store.describe(name).spec


def fill(store: MilvusStore) -> str:
    """Make a collection of twelve typed records, in three partitions."""
    spec = spec_of(IdKind.INT64, fields=tuple(item for item, _ in FIELDS.values()))
    store.create(spec)
    ids = [-5, 0, *range(7, 17)]
    partitions = [(None, "old", "new")[row % 3] for row in range(12)]
    records = batch_of(list(ids), [PAYLOADS[row % len(PAYLOADS)] for row in range(12)])
    assert store.upsert(spec.name, records.with_columns(partitions=partitions)).written == 12
    return spec.name


@pytest.fixture(scope="module")
def typed(milvus: MilvusStore) -> str:
    return fill(milvus)


@pytest.mark.parametrize(
    ("milvus", "way"),
    [
        *(("file", way) for way in FOREIGN),
        pytest.param("lite", "memory", marks=SERVER),
        pytest.param("server", "memory", marks=[SERVER, pytest.mark.slow]),
    ],
    indirect=["milvus"],
    scope="module",
)
def test_typed_records_come_home_from_another_store(milvus: MilvusStore, typed: str, tmp_path: Path, way: str) -> None:
    """Values with their types, ids, vectors and partitions, and on request the typed fields as well."""
    foreign, home = FOREIGN[way](tmp_path), f"home_{next(_numbers)}"
    before, _ = everything(milvus, typed)
    move(milvus.settings, typed, foreign, "journey", tmp_path / "state")
    wanted = {"int64": "int64", "text": "varchar(50)", "texts": "array<varchar>(90)"}
    move(foreign, "journey", milvus.settings, home, tmp_path / "state", target_fields=wanted)
    after, spec = everything(milvus, home)
    mine = {item.name for item in spec.fields} & FIELDS.keys()
    assert mine == set(wanted)
    bare = [{key: value for key, value in payload.items() if key != "document"} for payload in after.payloads]
    bare = [{key: value for key, value in payload.items() if key != "_rmp_envelope"} for payload in bare]
    # Chroma and Qdrant keep cosine vectors to 7e-7 of their length.
    held = replace(milvus.capabilities, vector_tolerance=0.0 if way == "memory" else 1.5e-6)
    assert_same_records(before, after.with_columns(payloads=bare), spec, held)
    assert list(after.partitions or ()) == list(before.partitions or ())


@in_forms("file", "slow server")
def test_a_copy_in_milvus_has_the_same_fields(milvus: MilvusStore, typed: str, tmp_path: Path) -> None:
    """Width, length and capacity included, without being asked for."""
    name = f"copy_{next(_numbers)}"
    move(milvus.settings, typed, milvus.settings, name, tmp_path)
    before, spec = everything(milvus, typed)
    after, again = everything(milvus, name)
    wanted = {item.name: item for item in spec.fields}
    assert {item.name: item for item in again.fields if item.name in wanted} == wanted
    assert list(after.partitions or ()) == list(before.partitions or ())


@in_forms("file")
def test_fields_are_inferred_with_room_and_later_misfits_are_set_aside_by_name(
    milvus: MilvusStore, tmp_path: Path
) -> None:
    """What a sample did not show is never cut or converted: that record is named, the others arrive."""
    source = MemorySettings(name=f"journey-{next(_numbers)}")
    with source.open(create=True) as store:
        spec = spec_of(IdKind.INT64, name="docs")
        store.create(spec)
        payloads: list[dict[str, Any]] = [
            {"year": 2000 + row, "title": "ü" * row, "tags": ["a"] * (row % 3), "mixed": row if row % 2 else "x"}
            for row in range(60)
        ]
        payloads[30] = {**payloads[30], "year": "MMXXX"}
        store.upsert("docs", batch_of(list(range(60)), payloads))
    name = f"inferred_{next(_numbers)}"
    counts = move(
        source, "docs", milvus.settings, name, tmp_path, target_fields="infer", infer_count=20, max_rejected=1
    )
    assert counts == {"written": 59, "rejected": 1}
    found = {item.name: item for item in milvus.describe(name).spec.fields}
    assert found.keys() == {"document", "_rmp_envelope", "year", "title", "tags"}
    assert (found["year"].type, found["tags"].element_type) == ("int", "string")
    assert (found["title"].max_length_bytes or 0) >= 118 * 2
    full = f"inferred_{next(_numbers)}"
    move(source, "docs", milvus.settings, full, tmp_path, target_fields="infer")
    assert {item.name for item in milvus.describe(full).spec.fields} == {"document", "_rmp_envelope", "title", "tags"}


@in_forms("file", "slow server")
def test_keys_without_a_field_travel_in_the_envelope_where_there_is_no_dynamic_field(
    milvus: MilvusStore, tmp_path: Path
) -> None:
    """A collection of others with a field for the envelope holds what its schema has no place for, and gives it back;
    one without refuses such records by name."""
    away, home = (MemorySettings(name=f"journey-{next(_numbers)}") for _ in range(2))
    with away.open(create=True) as store:
        store.create(spec_of(IdKind.INT64, name="docs"))
        payloads = [{"year": 2000 + row, "tags": ["a", row], "note": None} for row in range(7)]
        given = batch_of(list(range(7)), payloads).with_columns(documents=[*"abcdef", None])
        store.upsert("docs", given)
    fields = (FieldSpec("year", "int"), FieldSpec("_rmp_envelope", "string", max_length_bytes=4_000))
    strict = {"has_dynamic_field": False}
    held, bare = (
        spec_of(IdKind.INT64, fields=fields, settings=strict),
        spec_of(IdKind.INT64, fields=fields[:1], settings=strict),
    )
    for spec in (held, bare):
        milvus.create(spec)
    move(away, "docs", milvus.settings, held.name, tmp_path)
    rows = milvus.fetch(held.name, [3]).payloads
    assert (rows[0]["year"], rows[0].keys()) == (2003, {"year", "_rmp_envelope"})
    move(milvus.settings, held.name, home, "docs", tmp_path)
    with away.open() as first, home.open() as second:
        before, after = first.fetch("docs", range(7)), second.fetch("docs", range(7))
        assert_same_records(before, after, first.spec("docs"), first.capabilities)
    with pytest.raises(RecordRejectedError, match="'tags' is no field"):
        move(away, "docs", milvus.settings, bare.name, tmp_path)


@in_forms("file")
def test_fields_that_cannot_be_are_refused_when_planned(milvus: MilvusStore, tmp_path: Path) -> None:
    """All at once, before the first write."""
    source = MemorySettings(name=f"journey-{next(_numbers)}")
    with source.open(create=True) as store:
        store.create(spec_of(IdKind.INT64, name="docs"))
        store.upsert("docs", batch_of([1]))
    wanted = {"id": "int64", "a b": "json", "document": "varchar"}
    with pytest.raises(SchemaCompatibilityError) as caught:
        move(source, "docs", milvus.settings, "never", tmp_path, target_fields=wanted)
    assert [name for name in wanted if repr(name) not in str(caught.value)] == []
    assert not milvus.exists("never")
    with pytest.raises(SchemaCompatibilityError, match="no typed fields"):
        move(source, "docs", MemorySettings(name="journey-none"), "never", tmp_path, target_fields={"n": "int64"})


@in_forms("server")
def test_an_id_in_two_partitions_is_named_when_planned(milvus: MilvusStore, tmp_path: Path) -> None:
    """Lite keeps one record per key."""
    spec = spec_of(IdKind.INT64)
    milvus.create(spec)
    with vendor(milvus) as client:
        client.create_partition(spec.name, "old")
        for partition in ("_default", "old"):
            client.insert(spec.name, [{"id": 7, "vector": [1, 2, 3, 4]}], partition_name=partition)
    with pytest.raises(SourceChangedError, match="more than once: int:7"):
        move(milvus.settings, spec.name, MemorySettings(name=f"journey-{next(_numbers)}"), "x", tmp_path)
