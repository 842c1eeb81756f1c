"""Vectors of every kind in Qdrant: as others made them, on the wire, from old servers, and what is refused.

Belongs here: what no other store has. Does not belong here: the laws of every store (``contract/``).
"""

import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import qdrant_edge
from qdrant_client import QdrantClient, grpc, models

from rag_migration_pipeline.errors import SchemaCompatibilityError, StoreRequestError
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    MultiColumn,
    RecordBatch,
    SparseColumn,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline.stores.qdrant_points import decode_points, encode_points
from rag_migration_pipeline.stores.qdrant_schema import capabilities, check_creatable
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings
from rag_migration_pipeline.vectors import column_of
from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble

KINDS = frozenset({IdKind.UINT64, IdKind.UUID})
WORDS = VectorSpec(None, Metric.DOT, "words", VectorKind.SPARSE)
TOKENS = VectorSpec(3, Metric.COSINE, "tokens", VectorKind.MULTI)
TEXT = VectorSpec(3, Metric.L2, "text")


def spec_of(*vectors: VectorSpec) -> CollectionSpec:
    return CollectionSpec("docs", vectors, KINDS)


def full_batch() -> RecordBatch:
    """Return three records: all vectors, some, none."""
    columns = {
        "text": column_of(TEXT, [[1, 2, 3], None, None]),
        "words": column_of(WORDS, [([9, 2], [0.5, -1]), ([2**32 - 1], [0]), None]),
        "tokens": column_of(TOKENS, [[[0, 3, 4], [1e-5, 0, 0]], None, None]),
    }
    return RecordBatch([5, 6, uuid.UUID(int=9)], columns, [{"a": 1}, {}, {}])


def settings_of(server: Any, prefer_grpc: str) -> QdrantSettings:
    return QdrantSettings(
        host=server.host,
        port=server.http_port,
        grpc_port=server.grpc_port,
        prefer_grpc=prefer_grpc,  # type: ignore[arg-type]
    )


@pytest.fixture(
    params=[
        "folder",
        "edge",
        pytest.param("grpc", marks=pytest.mark.server),
        pytest.param("rest", marks=pytest.mark.server),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A store of each form, with an empty place for the collection ``docs``."""
    if request.param == "folder":
        settings: Any = QdrantSettings(path=str(tmp_path / "folder"))
    elif request.param == "edge":
        settings = QdrantEdgeSettings(path=str(tmp_path / "edge"))
    else:
        settings = settings_of(request.getfixturevalue("qdrant_double"), "true" if request.param == "grpc" else "false")
    with settings.open(create=True) as opened:
        opened.drop("docs")
        yield opened
        opened.drop("docs")


def make_as_others_do(store: Any) -> None:
    """Create ``docs`` with the vendor's client: float16, a multi-vector, sparse ones with and without settings."""
    if isinstance(store.settings, QdrantEdgeSettings):
        dense = qdrant_edge.EdgeVectorParams(
            size=2, distance=qdrant_edge.Distance.Dot, datatype=qdrant_edge.VectorStorageDatatype.Float16
        )
        multi = qdrant_edge.EdgeVectorParams(
            size=3,
            distance=qdrant_edge.Distance.Cosine,
            multivector_config=qdrant_edge.MultiVectorConfig(qdrant_edge.MultiVectorComparator.MaxSim),
        )
        sparse = {
            "words": qdrant_edge.EdgeSparseVectorParams(),
            "terms": qdrant_edge.EdgeSparseVectorParams(
                modifier=qdrant_edge.Modifier.Idf, datatype=qdrant_edge.VectorStorageDatatype.Uint8
            ),
        }
        config = qdrant_edge.EdgeConfig(vectors={"half": dense, "tokens": multi}, sparse_vectors=sparse)
        qdrant_edge.EdgeShard.create(f"{store.settings.path}/docs", config).close()
        return
    store.client.create_collection(
        "docs",
        vectors_config={
            "half": models.VectorParams(size=2, distance=models.Distance.DOT, datatype=models.Datatype.FLOAT16),
            "tokens": models.VectorParams(
                size=3,
                distance=models.Distance.COSINE,
                multivector_config=models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM),
            ),
        },
        sparse_vectors_config={
            "words": models.SparseVectorParams(),
            "terms": models.SparseVectorParams(
                modifier=models.Modifier.IDF, index=models.SparseIndexParams(datatype=models.Datatype.UINT8)
            ),
        },
    )


def test_a_collection_that_others_made_is_described_and_used(store: Any) -> None:
    make_as_others_do(store)
    vectors = {vector.name: vector for vector in store.describe("docs").spec.vectors}
    is_folder = store.capabilities.form == "folder"
    assert vectors == {
        "half": VectorSpec(2, Metric.DOT, "half", dtype="float32" if is_folder else "float16"),
        "tokens": TOKENS,
        "words": WORDS,
        "terms": VectorSpec(None, Metric.DOT, "terms", VectorKind.SPARSE, modifier="idf"),
    }
    value = 0.1  # not in float16
    given = RecordBatch(
        [1, 2],
        {
            "half": DenseColumn(np.array([[1, 2], [1, value]], np.float32)),
            "terms": column_of(vectors["terms"], [([7, 3], [0.1, 300]), None]),
        },
        [{}, {}],
    )
    result = store.upsert("docs", given)
    assert [rejection.record_id for rejection in result.rejections] == ([] if is_folder else [2])
    found = store.fetch("docs", [1])
    assert found.dense("half").values.dtype == (np.float32 if is_folder else np.float16)
    terms = found.vectors["terms"]
    assert isinstance(terms, SparseColumn)
    entries = dict(zip(terms.indices[0].tolist(), terms.values[0].tolist(), strict=True))  # type: ignore[union-attr]
    assert entries == {7: np.float32(0.1), 3: 300.0}, "the datatype of the index changes no value"


def test_each_vector_of_a_multi_vector_has_length_one_however_short_it_was(store: Any) -> None:
    store.create(spec_of(TEXT, WORDS, TOKENS))
    assert store.upsert("docs", full_batch()).written == 3
    tokens = store.fetch("docs", [5]).vectors["tokens"]
    assert isinstance(tokens, MultiColumn)
    assert tokens.values[0] is not None
    assert np.allclose(np.linalg.norm(tokens.values[0], axis=1), 1.0, atol=1e-6)


def test_an_unnamed_vector_stands_beside_sparse_ones(store: Any) -> None:
    unnamed = VectorSpec(3, Metric.DOT)
    store.create(spec_of(unnamed, WORDS))
    assert set(store.describe("docs").spec.vectors) == {unnamed, WORDS}
    columns = {
        "": column_of(unnamed, [[1, 2, 3], None, [4, 5, 6], None]),
        "words": column_of(WORDS, [([1], [1]), ([2], [2]), None, None]),
    }
    store.upsert("docs", RecordBatch([1, 2, 3, 4], columns, [{}] * 4))
    found = next(store.scan("docs"))
    assert found.dense().values.tolist() == [[1, 2, 3], [0, 0, 0], [4, 5, 6], [0, 0, 0]]
    assert found.dense().present.tolist() == [True, False, True, False]
    words = found.vectors["words"]
    assert isinstance(words, SparseColumn)
    assert [None if item is None else item.tolist() for item in words.indices] == [[1], [2], None, None]


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        ((VectorSpec(3, Metric.DOT, "a/b"),), "'a/b'"),
        ((VectorSpec(3, Metric.DOT, ".."),), "'..'"),
        ((VectorSpec(3, Metric.DOT, "ü" * 101),), "too long"),
        ((VectorSpec(3, Metric.DOT, ""), VectorSpec(3, Metric.DOT, "a")), "beside named"),
        ((VectorSpec(None, Metric.DOT, "", VectorKind.SPARSE),), "missing"),
        ((VectorSpec(None, Metric.L2, "s", VectorKind.SPARSE),), "metric l2; Qdrant has dot"),
        ((VectorSpec(3, Metric.DOT, "s", modifier="idf"),), "for sparse vectors"),
        ((VectorSpec(None, Metric.DOT, "s", VectorKind.SPARSE, modifier="bm25"),), "bm25"),
        ((VectorSpec(0, Metric.DOT, "m", VectorKind.MULTI),), "dimension 0"),
        ((VectorSpec(8, Metric.HAMMING, "b", dtype="binary"),), "binary"),
        ((VectorSpec(None, Metric.DOT, "s", VectorKind.SPARSE, "float16"),), "sparse float16"),
    ],
)
def test_vectors_that_qdrant_cannot_have_are_refused_by_name(vectors: tuple[VectorSpec, ...], words: str) -> None:
    with pytest.raises(SchemaCompatibilityError, match=words):
        check_creatable(spec_of(*vectors), capabilities("server"))


# -- on the wire ------------------------------------------------------------------------------------------------


def test_messages_are_those_of_the_vendors_own_conversion() -> None:
    from qdrant_client.conversions.conversion import RestToGrpc

    payload = {"s": "é", "i": -7, "f": 1.5, "b": True, "none": None, "list": [1, "a", [2.0]], "": {"a.b": {"c": []}}}
    rows = np.random.default_rng(1).standard_normal((2, 300)).astype(np.float32)
    ids, payloads = [5, uuid.UUID(int=9)], [payload, {}]
    unnamed = RecordBatch(ids, {"": DenseColumn(rows)}, payloads)
    named = unnamed.with_columns(
        vectors={"a": DenseColumn(rows, np.array([True, False])), "b": DenseColumn(rows[:, :3].copy())}
    )
    sparse, tokens = models.SparseVector(indices=[9, 2], values=[0.5, -1.0]), [[0.0, 3.0, 4.0], [1.0, 0.0, 0.0]]
    columns = {"": column_of(VectorSpec(3, Metric.DOT, "", VectorKind.MULTI), [tokens, None])}
    columns["words"] = column_of(WORDS, [([9, 2], [0.5, -1]), ([], [])])
    others = unnamed.with_columns(vectors=columns)
    for batch, vectors in (
        (unnamed, [row.tolist() for row in rows]),
        (named, [{"a": rows[0].tolist(), "b": rows[0, :3].tolist()}, {"b": rows[1, :3].tolist()}]),
        (others, [{"": tokens, "words": sparse}, {"words": models.SparseVector(indices=[], values=[])}]),
    ):
        points = [
            models.PointStruct(id=i if isinstance(i, int) else str(i), vector=v, payload=p)
            for i, v, p in zip(batch.ids, vectors, batch.payloads, strict=True)
        ]
        assert list(encode_points(batch)) == [RestToGrpc.convert_point_struct(point) for point in points]


@pytest.mark.server
def test_old_servers_flat_vectors_are_read() -> None:
    server = QdrantDouble(legacy_vectors=True)
    server.start()
    try:
        with settings_of(server, "true").open() as store:
            store.create(spec_of(TEXT, WORDS, TOKENS))
            store.upsert("docs", full_batch())
            found = store.fetch("docs", [6, 5, uuid.UUID(int=9)])
            assert found.dense("text").values.tolist() == [[0.0] * 3, [1.0, 2.0, 3.0], [0.0] * 3]
            words, tokens = found.vectors["words"], found.vectors["tokens"]
            assert isinstance(words, SparseColumn)
            assert isinstance(tokens, MultiColumn)
            assert [None if i is None else i.tolist() for i in words.indices] == [[2**32 - 1], [2, 9], None]
            assert [None if i is None else i.tolist() for i in words.values] == [[0], [-1, 0.5], None]
            assert [None if i is None else i.shape for i in tokens.values] == [None, (2, 3), None]
    finally:
        server.close()


@pytest.mark.parametrize("vector", [TEXT, WORDS, TOKENS], ids=lambda vector: vector.name)
def test_a_vector_of_another_kind_than_the_collection_says_is_refused(vector: VectorSpec) -> None:
    good = {
        "text": grpc.VectorOutput(dense=grpc.DenseVector(data=[1, 2, 3])),
        "words": grpc.VectorOutput(sparse=grpc.SparseVector(values=[1], indices=[2])),
        "tokens": grpc.VectorOutput(multi_dense=grpc.MultiDenseVector(vectors=[grpc.DenseVector(data=[1, 2, 3])])),
        "": grpc.VectorOutput(multi_dense=grpc.MultiDenseVector(vectors=[grpc.DenseVector(data=[1, 2])])),
    }
    for name, message in good.items():
        named = grpc.NamedVectorsOutput(vectors={vector.name: message})
        point = grpc.RetrievedPoint(id=grpc.PointId(num=1), vectors=grpc.VectorsOutput(vectors=named))
        if name == vector.name:
            assert len(decode_points([point], spec_of(vector))[0]) == 1
        else:
            with pytest.raises(StoreRequestError, match=repr(vector.name)):
                decode_points([point], spec_of(vector))


@pytest.mark.server
def test_what_json_cannot_carry_is_read_over_grpc_and_refused_over_rest(qdrant_double: Any) -> None:
    with (
        settings_of(qdrant_double, "true").open() as over_grpc,
        settings_of(qdrant_double, "false").open() as over_rest,
    ):
        over_grpc.drop("docs")
        over_grpc.create(spec_of(TEXT, WORDS))
        try:
            client: QdrantClient = over_grpc.client
            client.upsert("docs", [models.PointStruct(id=1, vector={"text": [1.0, float("nan"), float("inf")]})])
            text = over_grpc.fetch("docs", [1]).dense("text").values[0]
            assert (text[0], np.isnan(text[1]), text[2]) == (1.0, True, np.inf)
            with pytest.raises(StoreRequestError, match=r"'text'.*NaN or infinite") as caught:
                over_rest.fetch("docs", [1])
            assert "gRPC" in (caught.value.todo or "")
            bad = RecordBatch([2], {"text": DenseColumn(text[None, :])}, [{}])
            for store in (over_grpc, over_rest):
                assert [r.record_id for r in store.upsert("docs", bad).rejections] == [2]
        finally:
            over_grpc.drop("docs")


def test_pages_of_long_vectors_are_small() -> None:
    """A page of multi-vectors holds fewer records, or an answer would be hundreds of megabytes."""
    from rag_migration_pipeline.stores.qdrant_reading import _page_limit

    assert _page_limit(spec_of(VectorSpec(128, Metric.DOT, "m", VectorKind.MULTI))) == 256
    assert _page_limit(spec_of(VectorSpec(384, Metric.DOT))) > 10_000
    assert _page_limit(SimpleNamespace(vectors=(WORDS,))) > 1_000  # type: ignore[arg-type]
