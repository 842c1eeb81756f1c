"""Settings are carried like to like, translated where they mean the same elsewhere, and named where they stay."""

from typing import Any

import pytest

from rag_migration_pipeline.records import CollectionSpec, FieldSpec, IdKind, Metric, VectorKind, VectorSpec
from rag_migration_pipeline.settings import Fate, indexed_fields, translate_settings, words_of
from rag_migration_pipeline.stores.abilities import abilities
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.vector_choice import VectorRoute

FORMS = abilities()
CHROMA: dict[str, Any] = {
    "hnsw": {"space": "l2", "max_neighbors": 24, "ef_construction": 150, "ef_search": 90, "sync_threshold": 700},
    "embedding_function": {"type": "legacy"},
}
QDRANT: dict[str, Any] = {
    "hnsw_config": {"m": 24, "ef_construct": 150, "full_scan_threshold": 5_000},
    "optimizer_config": {"indexing_threshold": 5_000},
    "quantization_config": {"scalar": {"type": "int8"}},
    "shard_number": 3,
    "on_disk_payload": True,
    "strict_mode_config": {"enabled": True},
}
MILVUS: dict[str, Any] = {
    "vector_fields": {"": "embedding"},
    "vector_field": "embedding",
    "indexes": {"embedding": {"index_type": "HNSW", "metric_type": "L2", "params": {"M": 24, "efConstruction": 150}}},
    "consistency_level": "Bounded",
    "auto_id": False,
}
SOURCES = {"chroma": CHROMA, "qdrant": QDRANT, "milvus": MILVUS}


def translated(
    settings: dict[str, Any], target: Capabilities, *vectors: VectorSpec
) -> tuple[dict[str, Any], dict[str, Fate]]:
    held = vectors or (VectorSpec(3, Metric.L2),)
    source = CollectionSpec("docs", held, frozenset(IdKind), settings=settings)
    found, notes = translate_settings(source, [VectorRoute(vector, vector) for vector in held], target)
    assert len({note.name for note in notes}) == len(notes)
    assert all(note.detail for note in notes if note.fate is not Fate.CARRIED), "what is not carried says why"
    return found, {note.name: note.fate for note in notes}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("form", ["Chroma server", "Qdrant server", "Qdrant edge", "Milvus server"])
def test_the_graph_is_the_same_in_every_stores_words(source: str, form: str) -> None:
    found, fates = translated(SOURCES[source], FORMS[form])
    expected: dict[str, Any] = {
        "chroma": {"max_neighbors": 24, "ef_construction": 150},
        "qdrant": {"m": 24, "ef_construct": 150},
        "milvus": {"M": 24, "efConstruction": 150},
    }
    store = FORMS[form].store
    field = "embedding" if source == "milvus" else "vector"
    graph = found["hnsw"] if store == "chroma" else found.get("hnsw_config")
    if store == "milvus":
        assert found["indexes"][field]["index_type"] == "HNSW"
        graph = found["indexes"][field]["params"]
    assert graph is not None
    assert expected[store].items() <= graph.items()
    assert set(fates) == {name for name in SOURCES[source] if name not in ("vector_field", "vector_fields", "auto_id")}
    index = {"chroma": "hnsw", "qdrant": "hnsw_config", "milvus": "indexes"}[source]
    assert fates[index] is (Fate.CARRIED if store == source else Fate.TRANSLATED)


def test_like_to_like_is_carried_as_it_is() -> None:
    found, fates = translated(QDRANT, FORMS["Qdrant server"])
    assert found == {name: value for name, value in QDRANT.items() if name != "strict_mode_config"}
    assert fates["strict_mode_config"] is Fate.LEFT
    found, fates = translated(QDRANT, FORMS["Qdrant edge"])
    assert "shard_number" not in found
    assert fates["shard_number"] is Fate.LEFT
    found, fates = translated(CHROMA, FORMS["Chroma folder"])
    assert found == {"hnsw": CHROMA["hnsw"]}
    found, _ = translated(MILVUS, FORMS["Milvus server"])
    assert (found["indexes"], found["consistency_level"]) == (MILVUS["indexes"], "Bounded")


@pytest.mark.parametrize("source", SOURCES)
def test_memory_keeps_everything_for_the_way_home(source: str) -> None:
    kept, fates = translated(SOURCES[source], FORMS["memory"])
    assert set(fates.values()) == {Fate.CARRIED}
    home = {"chroma": "Chroma server", "qdrant": "Qdrant server", "milvus": "Milvus server"}[source]
    assert translated(kept, FORMS[home]) == translated(SOURCES[source], FORMS[home])
    assert translated(kept, FORMS["memory"])[0] == kept


def test_a_form_without_an_index_takes_nothing() -> None:
    found, fates = translated(QDRANT, FORMS["Qdrant folder"])
    assert found == {}
    assert set(fates.values()) == {Fate.LEFT}


def test_no_graph_means_no_graph() -> None:
    flat = {**MILVUS, "indexes": {"embedding": {"index_type": "FLAT", "params": {}}}}
    assert translated(flat, FORMS["Qdrant server"])[0] == {"hnsw_config": {"m": 0}}
    assert translated({"hnsw_config": {"m": 0}}, FORMS["Milvus server"])[0] == {
        "indexes": {"vector": {"index_type": "FLAT", "params": {}}}
    }
    found, fates = translated(flat, FORMS["Chroma server"])
    assert found == {}
    assert fates["indexes"] is Fate.LEFT


@pytest.mark.parametrize("index_type", ["AUTOINDEX", "IVF_FLAT", "SCANN", "SOMETHING_NEW"])
def test_an_index_of_one_store_alone_stays_behind(index_type: str) -> None:
    given = {**MILVUS, "indexes": {"embedding": {"index_type": index_type, "params": {"nlist": 5}}}}
    found, fates = translated(given, FORMS["Qdrant server"])
    assert found == {}
    assert fates["indexes"] is Fate.LEFT


def test_parameters_stay_within_what_the_target_takes() -> None:
    given = {"hnsw_config": {"m": 2, "ef_construct": 4_000}}
    found, _ = translated(given, FORMS["Milvus server"])
    assert found["indexes"]["vector"]["params"] == {"M": 4, "efConstruction": 512}


def test_vectors_keep_settings_of_their_own_under_their_new_names() -> None:
    title, body = VectorSpec(3, Metric.L2, "title"), VectorSpec(3, Metric.L2, "body")
    words = VectorSpec(None, Metric.DOT, "words", VectorKind.SPARSE)
    given: dict[str, Any] = {
        "hnsw_config": {"m": 16, "ef_construct": 100},
        "vectors": {"title": {"on_disk": True, "hnsw_config": {"m": 32}}},
        "sparse_vectors": {"words": {"on_disk": True}},
    }
    source = CollectionSpec("docs", (title, body, words), frozenset(IdKind), settings=given)
    renamed = VectorSpec(3, Metric.L2, "heading")
    routes = [VectorRoute(title, renamed), VectorRoute(body, body), VectorRoute(words, words)]
    found, _ = translate_settings(source, routes, FORMS["Qdrant server"])
    assert found["vectors"] == {"heading": given["vectors"]["title"]}
    assert found["sparse_vectors"] == given["sparse_vectors"]
    found, _ = translate_settings(source, routes, FORMS["Milvus Lite file"])
    assert {name: index["params"]["M"] for name, index in found["indexes"].items()} == {"heading": 32, "body": 16}
    assert translate_settings(source, [VectorRoute(title, None)], FORMS["Chroma server"])[0] == {}


def test_payload_indexes_follow_where_the_target_makes_them() -> None:
    fields = (
        FieldSpec("year", "int", is_indexed=True),
        FieldSpec("tags", "array", is_indexed=True, element_type="string", max_length_bytes=50),
        FieldSpec("blob", "json", is_indexed=True),
        FieldSpec("title", "string", max_length_bytes=200),
    )
    source = CollectionSpec("docs", (VectorSpec(3, Metric.L2),), frozenset(IdKind), fields=fields)
    assert [item.name for item in indexed_fields(source, FORMS["Qdrant server"])] == ["year", "tags"]
    assert indexed_fields(source, FORMS["Qdrant folder"]) == ()
    assert indexed_fields(source, FORMS["Chroma server"]) == ()


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"hnsw": None},
        {"hnsw": {}},
        {"hnsw": {"max_neighbors": "x"}},
        {"indexes": {}},
        {"hnsw_config": None},
        {"x": 1},
    ],
)
def test_settings_that_say_nothing_make_nothing(given: dict[str, Any]) -> None:
    for form, capabilities in FORMS.items():
        found, _ = translated(given, capabilities)
        if form != "memory" and capabilities.store != words_of(given):
            assert found == {}
