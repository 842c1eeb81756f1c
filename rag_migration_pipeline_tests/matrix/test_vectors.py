"""Collections with every kind of vector travel between memory and all forms of Qdrant, and come home as they were.

Compared record by record, and proven by the pipeline.

Belongs here: the journeys. Does not belong here: what is noticed when a vector changes (``test_vector_mutations.py``).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from pymilvus import MilvusClient

from rag_migration_pipeline.errors import RecordRejectedError
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.context import open_migration
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.stores import memory
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline.stores.milvus import MilvusSettings
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline.vectors import converted
from rag_migration_pipeline_tests.contract import vector_samples as made
from rag_migration_pipeline_tests.contract.comparison import assert_same_records
from rag_migration_pipeline_tests.contract.doors_memory import MemoryDoor
from rag_migration_pipeline_tests.contract.doors_qdrant import QdrantEdgeDoor
from rag_migration_pipeline_tests.matrix.places import Place, fresh_name, move
from rag_migration_pipeline_tests.matrix.vector_records import (
    COUNT,
    GIVEN,
    HALF,
    IMAGE,
    TEXT,
    TOKENS,
    VECTORS,
    WORDS,
    every_form,
    origin,
)
from rag_migration_pipeline_tests.orchestration.scene import COLLECTION, Scene, WatchedResource

AT_HOME = replace(memory.CAPABILITIES, vector_tolerance=1e-6)
"""What comes home from where cosine vectors are kept as a direction and a length."""


def assert_at_home(home: Place, collection: str, *, has_half: bool) -> None:
    """Compare what came home with what left, and its vectors with those that left."""
    half = HALF if has_half else replace(HALF, dtype="float32")
    vectors = {vector.name: vector for vector in (TEXT, IMAGE, half, TOKENS, WORDS)}
    spec = home.store.describe(collection).spec
    assert {vector.name: vector for vector in spec.vectors} == vectors
    expected = GIVEN.with_columns(vectors={**GIVEN.vectors, HALF.name: converted(GIVEN.vectors[HALF.name], half.dtype)})
    assert_same_records(expected, home.door.raw_read(collection), spec, AT_HOME)


@every_form
def test_every_kind_of_vector_comes_home_from_qdrant(
    form: str, open_place: Callable[[str], Place], tmp_path: Path
) -> None:
    home, there = open_place("memory"), open_place(form)
    start = origin(home)
    arrived, report = move(home, start, there, tmp_path)
    assert report.is_proven
    assert (report.written, report.findings.compared, report.target_count) == (COUNT, COUNT, COUNT)
    returned, report = move(there, arrived, home, tmp_path)
    assert report.is_proven
    assert_at_home(home, returned, has_half=form != "folder")
    assert_same_records(GIVEN, home.door.raw_read(start), home.store.spec(start), memory.CAPABILITIES)


ROUTES = [
    ("edge", "folder", "edge"),
    *(pytest.param(route, marks=pytest.mark.server) for route in (("edge", "grpc", "rest"), ("rest", "folder"))),
]


@pytest.mark.parametrize("route", ROUTES, ids="-".join)
def test_every_kind_of_vector_travels_from_qdrant_to_qdrant(
    route: tuple[str, ...], open_place: Callable[[str], Place], tmp_path: Path
) -> None:
    home = open_place("memory")
    collection = move(home, origin(home), open_place(route[0]), tmp_path)[0]
    place = open_place(route[0])
    for form in route[1:]:
        before, following = vectors_in(place, collection), open_place(form)
        collection, report = move(place, collection, following, tmp_path)
        place, spec = following, following.store.spec(collection)
        assert report.is_proven
        half = converted(before.vectors[HALF.name], spec.vector(HALF.name).dtype)
        held = before.with_columns(vectors={**before.vectors, HALF.name: half})
        assert_same_records(held, vectors_in(place, collection), spec, place.store.capabilities)
    collection, report = move(place, collection, home, tmp_path)
    assert report.is_proven
    assert_at_home(home, collection, has_half="folder" not in route)


def vectors_in(place: Place, collection: str) -> RecordBatch:
    """Return ids and vectors, read through the back door; the envelope's lengths may differ in their last digits."""
    raw = place.door.raw_read(collection)
    return raw.with_columns(payloads=[{}] * len(raw))


def test_every_kind_of_vector_travels_through_dagster(tmp_path: Path) -> None:
    """Staged between the ops, loaded into Qdrant's engine and proven by the job."""
    space = MemorySettings(name="vectors through dagster")
    with dg.DagsterInstance.ephemeral() as instance:
        scene = Scene(tmp_path / "state", instance=instance)
        scene.source = WatchedResource(space)
        scene.target = WatchedResource(QdrantEdgeSettings(path=str(tmp_path / "edge")))
        with space.open(create=True) as store:
            store.create(CollectionSpec(COLLECTION, VECTORS, frozenset(IdKind)))
            assert not store.upsert(COLLECTION, GIVEN).rejections
        try:
            assert scene.migrate().success
            assert len(scene.keys) == 7
            assert scene.is_materialized("target_collection")
        finally:
            forget_space(space.name)
    settings = MemorySettings(name="vectors at home")
    with settings.open(create=True) as back, scene.target.inner.open(create=False) as target:
        try:
            home = Place(settings, back, MemoryDoor(settings))
            there = Place(scene.target.inner, target, QdrantEdgeDoor(scene.target.inner, target))
            returned, report = move(there, COLLECTION, home, tmp_path / "back")
            assert report.is_proven
            assert_at_home(home, returned, has_half=True)
        finally:
            forget_space(settings.name)


# -- numbers that not every store has ------------------------------------------------------------------------------


def with_odd_numbers() -> tuple[CollectionSpec, RecordBatch]:
    """Return nine records under metrics that normalise nothing, three of them with NaN or infinite components."""
    dense, tokens = replace(TEXT, metric=Metric.DOT), replace(TOKENS, metric=Metric.L2)
    spec = CollectionSpec("odd", (dense, tokens, WORDS), frozenset(IdKind))
    batch = made.records(spec, 9)
    rows: dict[str, tuple[int, Any]] = {
        "text": (1, np.float32([1, np.nan, np.inf, -np.inf, 0, -0.0])),
        TOKENS.name: (4, np.float32([[1, 2, 3, 4, 5], [0, 0, np.nan, 0, 0]])),
        WORDS.name: (7, (np.array([3, 1], np.uint32), np.float32([np.inf, 1]))),
    }
    columns = {name: made.with_row(batch.vectors[name], row, value) for name, (row, value) in rows.items()}
    return spec, batch.with_columns(vectors=columns)


@every_form
def test_nan_and_infinities_arrive_where_the_target_keeps_them_and_are_set_aside_elsewhere(
    form: str, open_place: Callable[[str], Place], tmp_path: Path
) -> None:
    home, there = open_place("memory"), open_place(form)
    spec, given = with_odd_numbers()
    start = replace(spec, name=fresh_name())
    home.store.create(start)
    home.door.raw_write(start.name, given)
    if there.store.capabilities.has_non_finite_vectors:
        arrived, report = move(home, start.name, there, tmp_path)
        assert report.is_proven
        returned, _ = move(there, arrived, home, tmp_path)
        assert_same_records(given, home.door.raw_read(returned), spec, memory.CAPABILITIES)
        return
    with pytest.raises(RecordRejectedError) as caught:
        move(home, start.name, there, tmp_path)
    rejected = {item.record_id: item.reason for item in caught.value.facts["rejections"]}
    assert rejected.keys() == {given.ids[row] for row in (1, 4, 7)}
    assert all("NaN or infinite" in reason for reason in rejected.values())


@pytest.mark.slow
@pytest.mark.server
def test_zero_vectors_that_a_search_never_finds_are_counted_in_the_report(milvus_server: Any, tmp_path: Path) -> None:
    home = MemorySettings(name="zero vectors")
    there = MilvusSettings(host=milvus_server.host, port=milvus_server.port)
    name = f"zeros_{fresh_name()}"
    values = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 1]] * np.float32([[1], [0], [1], [0], [1], [1]])
    with home.open(create=True) as source, there.open(create=True) as target:
        try:
            source.create(CollectionSpec(name, (VectorSpec(4, Metric.COSINE),), frozenset({IdKind.INT64})))
            source.upsert(name, RecordBatch([*range(6)], {"": DenseColumn(values)}, [{}] * 6))
            migration = Migration("zeros", home, name, there, name, MigrationOptions(range_count=4))
            with open_migration(migration, tmp_path, plan=True) as context:
                for entry in context.manifest.ranges:
                    migrate_range(context, entry.key)
                report = prove_collection(context)
            assert report.is_proven
            assert len(report.notes) == 1
            assert report.notes[0].startswith("2 zero vectors under cosine")
            client = MilvusClient(f"http://{there.host}:{there.port}")
            found = client.search(name, data=[[1.0, 1.0, 1.0, 1.0]], limit=6, consistency_level="Strong")
            client.close()
            assert {hit["id"] for hit in found[0]} == {0, 2, 4, 5}, "if the others are found, the note is wrong"
        finally:
            target.drop(name)
            forget_space(home.name)
