"""Awkward records travel between every two stores, are found there in that store's own way, and come home unchanged."""

import math
import uuid
from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline.records import CollectionSpec, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline_tests.contract import samples
from rag_migration_pipeline_tests.contract.doors_memory import MemoryDoor
from rag_migration_pipeline_tests.matrix import awkward
from rag_migration_pipeline_tests.matrix.places import STARTS, TARGETS, Place, move

PAIRS = [pytest.param("embedded", start, target) for start in STARTS for target in TARGETS] + [
    pytest.param("servers", start, target, marks=pytest.mark.server) for start in TARGETS for target in TARGETS
]
every_target = pytest.mark.parametrize("target", TARGETS)


@pytest.mark.parametrize(("places", "start", "target"), PAIRS, indirect=["places"])
def test_every_record_arrives_and_comes_home(start: str, target: str, places: dict[str, Place], tmp_path: Path) -> None:
    there, home = places[target], places[STARTS[start].store]
    origin = STARTS[start].fill(home, Metric.COSINE)
    expected = home.meaning(origin)
    assert len(expected) == len(STARTS[start].records)

    arrived, report = move(home, origin, there, tmp_path)
    assert report.is_proven
    assert (report.written, report.target_count, report.skipped, report.filtered) == (len(expected),) * 2 + (0, 0)
    assert awkward.differences(expected, there.meaning(arrived)) == []
    assert_natural(expected, there, arrived, target)
    metadata = home.store.describe(origin).spec.metadata
    assert metadata == (awkward.COLLECTION_METADATA if start == "chroma" else metadata)
    assert there.store.describe(arrived).spec.metadata == metadata

    returned, report = move(there, arrived, home, tmp_path)
    assert report.is_proven
    assert awkward.differences(expected, home.meaning(returned)) == []
    assert awkward.differences(home.meaning(origin), expected) == [], "the source was changed"


@pytest.mark.parametrize("metric", [Metric.L2, Metric.DOT])
@every_target
def test_other_metrics_arrive_with_the_collection(
    metric: Metric, target: str, embedded_places: dict[str, Place], tmp_path: Path
) -> None:
    there = embedded_places[target]
    for start in STARTS:
        home = embedded_places[STARTS[start].store]
        origin = STARTS[start].fill(home, metric)
        arrived, report = move(home, origin, there, tmp_path)
        assert report.is_proven
        assert there.store.describe(arrived).spec.vectors[0].metric is metric
        assert awkward.differences(home.meaning(origin), there.meaning(arrived)) == []


def test_the_demos_round_trip_changes_nothing(places: dict[str, Place], tmp_path: Path) -> None:
    assert_round_trip("chroma", ("qdrant", "milvus", "chroma"), places, tmp_path)


@pytest.mark.parametrize(
    ("start", "route"),
    [
        ("chroma", ("milvus", "qdrant", "chroma")),
        ("qdrant", ("milvus", "chroma", "qdrant")),
        ("milvus", ("chroma", "qdrant", "milvus")),
        ("milvus_integers", ("qdrant", "chroma", "milvus")),
    ],
)
def test_a_round_trip_over_all_stores_changes_nothing(
    start: str, route: tuple[str, ...], embedded_places: dict[str, Place], tmp_path: Path
) -> None:
    assert_round_trip(start, route, embedded_places, tmp_path)


def assert_round_trip(start: str, route: tuple[str, ...], places: dict[str, Place], tmp_path: Path) -> None:
    place = places[STARTS[start].store]
    collection = STARTS[start].fill(place, Metric.COSINE)
    expected = place.meaning(collection)
    for name in route:
        collection, report = move(place, collection, places[name], tmp_path)
        place = places[name]
        assert report.is_proven
        assert awkward.differences(expected, place.meaning(collection)) == []


@pytest.mark.parametrize("target", ["qdrant", "milvus"])
def test_a_chroma_collection_comes_home_without_a_trace(
    target: str, embedded_places: dict[str, Place], tmp_path: Path
) -> None:
    """Ids, metadata and documents lie in Chroma exactly as its user wrote them: no envelope is left."""
    home = embedded_places["chroma"]
    origin = STARTS["chroma"].fill(home, Metric.COSINE)
    arrived, _ = move(home, origin, embedded_places[target], tmp_path)
    returned, _ = move(embedded_places[target], arrived, home, tmp_path)
    assert plain(home, returned) == plain(home, origin)


@pytest.mark.parametrize("target", ["chroma", "milvus"])
def test_a_qdrant_collection_comes_home_without_a_trace(
    target: str, embedded_places: dict[str, Place], tmp_path: Path
) -> None:
    home = embedded_places["qdrant"]
    origin = STARTS["qdrant"].fill(home, Metric.COSINE)
    arrived, _ = move(home, origin, embedded_places[target], tmp_path)
    returned, _ = move(embedded_places[target], arrived, home, tmp_path)
    before, after = plain(home, origin), plain(home, returned)
    users_own_key = {key for key, (payload, _) in before.items() if awkward.ENVELOPE in payload}
    assert {k: v for k, v in after.items() if k not in users_own_key} == {
        k: v for k, v in before.items() if k not in users_own_key
    }


EVERYTHING: dict[str, RecordBatch] = {
    "strings": awkward.everything(
        [i for i in samples.HOSTILE_STRING_IDS if i not in ("7", "-1")] + [f"more {number}" for number in range(80)]
    ),
    "numbers": awkward.everything([*samples.EDGE_INTEGER_IDS, *map(uuid.UUID, map("{:032x}".format, range(120)))]),
}


@pytest.mark.parametrize("kind", EVERYTHING)
@every_target
def test_whatever_a_record_can_hold_travels_to_every_store_and_back(
    kind: str, target: str, embedded_places: dict[str, Place], tmp_path: Path
) -> None:
    """Every awkward id, key, value and document of the contract's samples, from the store that holds them all."""
    settings = MemorySettings(name=f"matrix-{kind}-{target}")
    try:
        with settings.open(create=True) as store:
            home = Place(settings, store, MemoryDoor(settings))
            store.create(CollectionSpec("all", (VectorSpec(awkward.DIMENSION, Metric.COSINE),), frozenset(IdKind)))
            assert not store.upsert("all", EVERYTHING[kind]).rejections
            arrived, report = move(home, "all", embedded_places[target], tmp_path)
            assert report.is_proven
            returned, report = move(embedded_places[target], arrived, home, tmp_path)
            assert report.is_proven
            assert awkward.differences(home.meaning("all"), home.meaning(returned)) == []
    finally:
        forget_space(settings.name)


def plain(place: Place, collection: str) -> dict[Any, Any]:
    """Return what lies in a collection, word for word, by id."""
    raw = place.door.raw_read(collection)
    documents = raw.documents or [None] * len(raw)
    return {
        (type(i).__name__, str(i)): (payload, document)
        for i, payload, document in zip(raw.ids, raw.payloads, documents, strict=True)
    }


# -- where a user of the target finds things --------------------------------------------------------------------------


def assert_natural(expected: awkward.Meaning, place: Place, collection: str, target: str) -> None:
    """Simple values, documents and ids stand where the target's own users look for them."""
    raw = place.door.raw_read(collection)
    by_id = {str(record_id): row for row, record_id in enumerate(raw.ids)}
    for (_, record_id), (payload, document, _) in expected.items():
        native = native_id(record_id, target, raw.ids)
        if native is not None:
            assert native in by_id, f"{record_id!r} should be {native!r} in {target}"
            row = by_id[native]
            stored = raw.payloads[row]
            for key, value in payload.items():
                if is_simple(key, value):
                    assert (type(stored.get(key)), stored.get(key)) == (type(value), value), (record_id, key)
            if target == "chroma":
                assert raw.documents is not None
                assert raw.documents[row] == document
            elif document is not None and "document" not in payload:
                assert stored["document"] == document


def native_id(record_id: Any, target: str, ids: Any) -> str | None:
    """Return the text of the id that a user would expect, or None where the target cannot have one."""
    if target == "qdrant":
        if isinstance(record_id, uuid.UUID) or (isinstance(record_id, int) and record_id >= 0):
            return str(record_id)
        is_uuid = len(record_id) == 36 and record_id == record_id.lower() if isinstance(record_id, str) else False
        return record_id if is_uuid else None
    text = str(record_id)
    return text or None


def is_simple(key: str, value: Any) -> bool:
    if not key.isidentifier() or key in ("id", "vector", "pk", "document", awkward.ENVELOPE):
        return False
    if isinstance(value, float):
        return math.isfinite(value) and len(repr(value)) <= 12
    return isinstance(value, bool | str) or (isinstance(value, int) and -(2**63) <= value < 2**63)
