"""How a migration looks before anything ran: kinds, owners, descriptions; and its collection as columns."""

from typing import Any

import dagster as dg
import pytest

from rag_migration_pipeline import migration_definitions
from rag_migration_pipeline.orchestration.appearance import Place, place_of
from rag_migration_pipeline.orchestration.columns import column_schema
from rag_migration_pipeline.orchestration.resources import (
    ChromaResource,
    MemoryResource,
    MilvusResource,
    QdrantResource,
)
from rag_migration_pipeline.records import CollectionSpec, FieldSpec, IdKind, Metric, VectorKind, VectorSpec

VALUES = {"name": "m", "source": "chroma://here:8000/docs", "target": "qdrant+file:///data/qdrant/docs_2"}


def node_of(asset: str, **options: Any) -> Any:
    definitions = migration_definitions({**VALUES, **options})
    dg.Definitions.validate_loadable(definitions)
    return definitions.resolve_asset_graph().get(dg.AssetKey(["m", asset]))


@pytest.mark.parametrize(
    ("asset", "kinds"),
    [
        ("source_manifest", {"chroma", "parquet"}),
        ("loaded_ranges", {"chroma", "qdrant", "arrow"}),
        ("target_collection", {"qdrant", "report"}),
    ],
)
def test_every_asset_shows_its_stores_its_owners_and_the_way(asset: str, kinds: set[str]) -> None:
    node = node_of(asset, owners=["team:data", "someone@example.com"], filter={"a": "x|`y`"}, conflict="skip")
    assert node.kinds == kinds
    assert list(node.owners) == ["team:data", "someone@example.com"]
    lines = node.description.splitlines()
    assert "| from | `docs` in `chroma://here:8000` |" in lines
    assert "| to | `docs_2` in `qdrant+file:///data/qdrant` |" in lines
    assert r"| records | `{'a': 'x\|'y''}` |" in lines
    assert "| ids that others have in the target | skip |" in lines
    assert list(node_of(asset).owners) == []
    assert "| records | all |" in node_of(asset).description


@pytest.mark.parametrize(
    ("resource", "place"),
    [
        (
            QdrantResource(host=dg.EnvVar("QDRANT_HOST"), port=dg.EnvVar.int("QDRANT_PORT"), api_key=dg.EnvVar("KEY")),
            Place("qdrant", "qdrant://${QDRANT_HOST}:${QDRANT_PORT}"),
        ),
        (QdrantResource(path="/a/b", engine="edge"), Place("qdrant", "qdrant+edge:///a/b")),
        (ChromaResource(host="h", options={"tenant": "t", "ca_file": "c"}), Place("chroma", "chroma://h?tenant=t")),
        (MilvusResource(host="h", port=1, token="secret"), Place("milvus", "milvus://h:1")),
        (MemoryResource(name="m"), Place("memory", "memory://m")),
        (None, Place("", "key")),
    ],
)
def test_a_store_is_shown_without_resolving_or_telling_secrets(resource: object, place: Place) -> None:
    assert place_of(resource, "key") == place


def test_a_collection_is_shown_as_columns() -> None:
    vectors = (
        VectorSpec(3, Metric.COSINE, "title"),
        VectorSpec(None, Metric.DOT, "words", VectorKind.SPARSE, modifier="idf"),
        VectorSpec(8, Metric.DOT, "parts", VectorKind.MULTI, "float16"),
    )
    fields = (
        FieldSpec("year", "int", is_nullable=True, bits=32, default=7),
        FieldSpec("tags", "array", element_type="string", is_indexed=True, max_length_bytes=9, max_items=4),
    )
    ids = frozenset({IdKind.UUID, IdKind.UINT64})
    schema = column_schema(CollectionSpec("c", vectors, ids, fields, id_field="pk"))
    assert [(column.name, column.type, column.description) for column in schema.columns] == [
        ("pk", "uint64 or uuid", "the record's id"),
        ("title", "float32[3]", "vector: dense, cosine"),
        ("words", "float32[]", "vector: sparse, dot, idf"),
        ("parts", "float16[][8]", "vector: multi, dot"),
        ("year", "int32", "default 7"),
        ("tags", "array<string>", "indexed, at most 9 bytes, at most 4 items"),
    ]
    assert [column.constraints.nullable for column in schema.columns[-2:]] == [True, False]
