"""Index settings and payload indexes arrive in the target's words, come home, and stand in the plan."""

from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline.records import CollectionSpec, FieldSpec, IdKind, Metric, VectorSpec
from rag_migration_pipeline.steps.context import open_migration
from rag_migration_pipeline_tests.contract.samples import ordinary
from rag_migration_pipeline_tests.fidelity.test_round_trips import moved
from rag_migration_pipeline_tests.matrix.places import Place, fresh_name, migration_between

VECTOR = VectorSpec(4, Metric.COSINE)
GRAPHS: dict[str, dict[str, Any]] = {
    "chroma": {"hnsw": {"max_neighbors": 20, "ef_construction": 120}},
    "qdrant": {"hnsw_config": {"m": 20, "ef_construct": 120}},
    "milvus": {"indexes": {"vector": {"index_type": "HNSW", "params": {"M": 20, "efConstruction": 120}}}},
}


def filled(place: Place, settings: dict[str, Any], fields: tuple[FieldSpec, ...] = ()) -> str:
    """Make a collection with these settings through its adapter."""
    kinds = frozenset({IdKind.UINT64, IdKind.UUID} if place.store.capabilities.store == "qdrant" else {IdKind.STRING})
    spec = CollectionSpec(fresh_name(), (VECTOR,), kinds, fields=fields, settings=settings)
    place.store.create(spec)
    assert not place.store.upsert(spec.name, ordinary(20, spec, place.store.capabilities)).rejections
    place.store.finish_loading(spec.name)
    return spec.name


def graph_of(place: Place, collection: str) -> Any:
    """Return neighbours and construction candidates of a collection's index."""
    place.store.forget_spec(collection)
    settings = place.store.describe(collection).spec.settings
    store = place.store.capabilities.store
    if store == "chroma":
        return settings["hnsw"]["max_neighbors"], settings["hnsw"]["ef_construction"]
    if store == "qdrant":
        return settings["hnsw_config"]["m"], settings["hnsw_config"]["ef_construct"]
    index = settings["indexes"]["vector"]
    return index["params"]["M"], index["params"]["efConstruction"]


@pytest.mark.parametrize("start", GRAPHS)
def test_a_graphs_parameters_are_the_same_in_every_store_and_at_home(
    start: str, embedded_stores: dict[str, Place], tmp_path: Path
) -> None:
    home = embedded_stores[start]
    origin = filled(home, GRAPHS[start])
    for name in GRAPHS:
        there = embedded_stores[name]
        with moved(home, origin, there, tmp_path) as (into, _):
            assert graph_of(there, into) == (20, 120)
            with moved(there, into, home, tmp_path) as (returned, _):
                assert graph_of(home, returned) == (20, 120)


def test_everything_of_qdrant_comes_home_from_memory(embedded_stores: dict[str, Place], tmp_path: Path) -> None:
    home, there = embedded_stores["qdrant"], embedded_stores["memory"]
    settings = {
        "hnsw_config": {"m": 8, "ef_construct": 60, "full_scan_threshold": 2_000},
        "quantization_config": {"scalar": {"type": "int8", "quantile": 0.75, "always_ram": True}},
        "on_disk_payload": False,
        "vectors": {"": {"on_disk": True}},
    }
    fields = tuple(
        FieldSpec(name, kind, is_nullable=True, is_indexed=True)
        for name, kind in (("title", "string"), ("number", "int"), ("score", "float"), ("is_public", "bool"))
    )
    origin = filled(home, settings, fields)
    before = home.store.describe(origin).spec
    with moved(home, origin, there, tmp_path) as (into, _), moved(there, into, home, tmp_path) as (returned, _):
        after = home.store.describe(returned).spec
        assert after.settings == before.settings
        assert after.fields == before.fields
        assert settings.items() <= {**after.settings, "hnsw_config": settings["hnsw_config"]}.items()


def test_the_plan_says_what_becomes_of_each_setting(embedded_stores: dict[str, Place], tmp_path: Path) -> None:
    home, there = embedded_stores["chroma"], embedded_stores["qdrant"]
    migration = migration_between(home, filled(home, GRAPHS["chroma"]), there, fresh_name())
    with open_migration(migration, tmp_path, plan=True) as context:
        told = {verdict.subject: verdict for verdict in context.manifest.plan.verdicts}
    assert told["setting hnsw"].how == "translated"
    assert "neighbours 20" in told["setting hnsw"].reason
    assert told["setting embedding_function"].how == "not carried"
