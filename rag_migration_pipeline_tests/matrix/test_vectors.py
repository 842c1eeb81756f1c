"""Collections with every kind of vector travel between memory and all forms of Qdrant, and come home as they were.

Two named dense vectors, a sparse one, a multi-vector and a float16 one, under names beyond ASCII, on records that miss
some or all of them; compared record by record, proven by the pipeline, and each single change is found.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from pymilvus import MilvusClient

from rag_migration_pipeline.errors import RecordRejectedError, ValidationError
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    MultiColumn,
    RecordBatch,
    RecordId,
    SparseColumn,
    VectorKind,
    VectorSpec,
    id_text,
)
from rag_migration_pipeline.sightings import Watch
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.context import MigrationContext, open_migration
from rag_migration_pipeline.steps.extract import extract_batches
from rag_migration_pipeline.steps.load import pack_batch
from rag_migration_pipeline.steps.manifest import read_range_ids
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.steps.task import open_task
from rag_migration_pipeline.steps.validate import prove_range, validate_batches
from rag_migration_pipeline.stores import memory
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline.stores.milvus import MilvusSettings
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings
from rag_migration_pipeline.vectors import converted
from rag_migration_pipeline_tests.contract import vector_samples as made
from rag_migration_pipeline_tests.contract.comparison import assert_same_records
from rag_migration_pipeline_tests.contract.doors_memory import MemoryDoor
from rag_migration_pipeline_tests.contract.doors_qdrant import QdrantDoor, QdrantEdgeDoor
from rag_migration_pipeline_tests.matrix import mutations
from rag_migration_pipeline_tests.matrix.places import Place, fresh_name, migration_between, move
from rag_migration_pipeline_tests.orchestration.scene import COLLECTION, Scene, WatchedResource

COUNT = 32
TEXT = VectorSpec(6, Metric.COSINE, "text")
IMAGE = VectorSpec(3, Metric.MANHATTAN, "Bild 漢字 🜚")
HALF = VectorSpec(4, Metric.DOT, "half", dtype="float16")
TOKENS = VectorSpec(5, Metric.COSINE, "tökens", VectorKind.MULTI)
WORDS = VectorSpec(None, Metric.DOT, "wörter", VectorKind.SPARSE, modifier="idf")
VECTORS = (TEXT, IMAGE, HALF, TOKENS, WORDS)
AT_HOME = replace(memory.CAPABILITIES, vector_tolerance=1e-6)
"""What comes home from where cosine vectors are kept as a direction and a length."""

FORMS = ["folder", "edge", *(pytest.param(form, marks=pytest.mark.server) for form in ("grpc", "rest"))]
every_form = pytest.mark.parametrize("form", FORMS)


def records() -> RecordBatch:
    """Return records with ids that Qdrant has and ids that it has not; a zero and an empty vector among the others."""
    spec = CollectionSpec("c", VECTORS, frozenset({IdKind.UINT64, IdKind.UUID, IdKind.STRING}))
    batch = made.records(spec, COUNT, is_partial=True)
    assert {len(set(map(type, batch.ids)))} == {3}
    columns = dict(batch.vectors)
    columns["text"] = made.with_row(columns["text"], 0, np.zeros(6, np.float32))
    columns[WORDS.name] = made.with_row(columns[WORDS.name], 1, (np.array([], np.uint32), np.array([], np.float32)))
    columns[WORDS.name] = made.with_row(columns[WORDS.name], 2, (np.array([9, 4], np.uint32), np.float32([0, 1])))
    columns[TOKENS.name] = made.with_row(
        columns[TOKENS.name], 0, np.float32([[3, 4, 0, 0, 0], [0] * 5, [1, 0, 0, 0, 0]])
    )
    return batch.with_columns(vectors=columns, documents=[f"text {row}" if row % 3 else None for row in range(COUNT)])


GIVEN = records()


@pytest.fixture(scope="module")
def open_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Place]]:
    """Open each form once, when it is asked for, with its back door."""
    places: dict[str, Place] = {}

    def settings_of(form: str) -> Any:
        if form == "memory":
            return MemorySettings(name="matrix of vectors")
        if form == "folder":
            return QdrantSettings(path=str(tmp_path_factory.mktemp("vectors") / form))
        if form == "edge":
            return QdrantEdgeSettings(path=str(tmp_path_factory.mktemp("vectors") / form))
        server, is_grpc = request.getfixturevalue("qdrant_double"), form == "grpc"
        port = server.grpc_port if is_grpc else None
        return QdrantSettings(
            host=server.host, port=server.port, grpc_port=port, prefer_grpc="true" if is_grpc else "false"
        )

    def get(form: str) -> Place:
        if form not in places:
            settings = settings_of(form)
            store = settings.open(create=True)
            makers: dict[str, Any] = {"memory": lambda s, _: MemoryDoor(s), "edge": QdrantEdgeDoor}
            places[form] = Place(settings, store, makers.get(form, QdrantDoor)(settings, store))
        return places[form]

    yield get
    for place in places.values():
        for name in place.store.list_collections():
            if name.startswith("matrix_"):
                place.store.drop(name)
        place.door.close()
        place.store.close()
    forget_space("matrix of vectors")


def origin(home: Place) -> str:
    """Make and fill a collection in memory; return its name."""
    name = fresh_name()
    home.store.create(CollectionSpec(name, VECTORS, frozenset(IdKind), metadata={"about": "vectors"}))
    home.door.raw_write(name, GIVEN)
    return name


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


# -- one change behind our back ---------------------------------------------------------------------------------


@dataclass
class Proven:
    """A migration that was proven, still open."""

    context: MigrationContext
    place: Place
    collection: str

    def native(self, key: str) -> dict[RecordId, RecordId]:
        """Source id -> id in the target, of the records of a range."""
        found: dict[RecordId, RecordId] = {}
        record_range = read_range_ids(self.context.state, self.context.manifest, key)
        for batch in extract_batches(self.context, record_range):
            found.update(zip(batch.ids, pack_batch(self.context, batch).records.ids, strict=True))
        return found

    def validate(self, key: str) -> None:
        """Check one range again, as a retried validation does."""
        task, watch = open_task(self.context.state, self.context.manifest, key), Watch()
        batches = extract_batches(self.context, task.record_range, watch)
        packed = ((pack_batch(self.context, batch), ()) for batch in batches)
        prove_range(self.context, task, validate_batches(self.context, key, packed, watch), watch)


def change_dense(name: str, change: Callable[[Any], None]) -> Callable[[Any], Any]:
    def changed(column: Any) -> Any:
        assert isinstance(column, DenseColumn)
        values = column.values.copy()
        change(values[0])
        return DenseColumn(values, column.present)

    return lambda record: record.with_columns(vectors={**record.vectors, name: changed(record.vectors[name])})


def change_words(change: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    def changed(column: Any) -> Any:
        assert isinstance(column, SparseColumn)
        indices, values = change(column.indices[0].copy(), column.values[0].copy())
        return SparseColumn((indices,), (values,))

    return lambda record: record.with_columns(
        vectors={**record.vectors, WORDS.name: changed(record.vectors[WORDS.name])}
    )


def change_tokens(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def changed(column: Any) -> Any:
        assert isinstance(column, MultiColumn)
        return MultiColumn((change(column.values[0].copy()),))

    def apply(record: RecordBatch) -> RecordBatch:
        return record.with_columns(vectors={**record.vectors, TOKENS.name: changed(record.vectors[TOKENS.name])})

    return apply


def next_up(values: Any) -> Any:
    values[0] = np.nextafter(values[0], values.dtype.type(9))
    return values


def turned(values: Any) -> Any:
    values[0, :2] = values[0, 1::-1]
    return values


CHANGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "one bit of a sparse value": (WORDS.name, change_words(lambda i, v: (i, next_up(v)))),
    "one sparse index": (WORDS.name, change_words(lambda i, v: (i ^ np.uint32(1 << 20), v))),
    "one sparse entry more": (WORDS.name, change_words(lambda i, v: (np.append(i, i.max() ^ 3), np.append(v, v[:1])))),
    "one vector of a multi-vector turned": (TOKENS.name, change_tokens(turned)),
    "one vector of a multi-vector less": (TOKENS.name, change_tokens(lambda values: values[:-1])),
    "two vectors of a multi-vector swapped": (TOKENS.name, change_tokens(lambda values: values[::-1].copy())),
    "one bit of a float16": (HALF.name, change_dense(HALF.name, next_up)),
    "one bit of a named vector": (IMAGE.name, change_dense(IMAGE.name, next_up)),
    "a vector that is gone": (
        IMAGE.name,
        lambda record: record.with_columns(vectors={k: v for k, v in record.vectors.items() if k != IMAGE.name}),
    ),
}


@every_form
def test_one_change_of_any_vector_turns_range_and_whole_red(
    form: str, open_place: Callable[[str], Place], tmp_path: Path
) -> None:
    home, there, into = open_place("memory"), open_place(form), fresh_name()
    chosen = CHANGES if form == "edge" else dict(list(CHANGES.items())[::3])
    with open_migration(migration_between(home, origin(home), there, into), tmp_path, plan=True) as context:
        for entry in context.manifest.ranges:
            migrate_range(context, entry.key)
        assert prove_collection(context).is_proven
        proven, key = Proven(context, there, into), context.manifest.ranges[0].key
        names = proven.native(key)
        for label, (name, change) in chosen.items():
            target_id = next(native for i, native in names.items() if _has(name, i))
            mutations.in_place(there, into, target_id, change)
            with pytest.raises(ValidationError) as caught:
                proven.validate(key)
            assert caught.value.report.changed == {id_text(target_id): f"vector {name!r}"}, label
            with pytest.raises(ValidationError) as caught:
                prove_collection(context)
            assert dict(caught.value.report.findings.changed) == {id_text(target_id): f"vector {name!r}"}, label
            migrate_range(context, key)
            assert prove_collection(context).is_proven, label


def _has(name: str, record_id: RecordId) -> bool:
    """Return whether a record has that vector, and two vectors at least of a multi-vector."""
    row, column = list(GIVEN.ids).index(record_id), GIVEN.vectors[name]
    if isinstance(column, DenseColumn):
        return bool(column.present is None or column.present[row])
    item = column.values[row]
    return item is not None and len(item) >= 2


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
