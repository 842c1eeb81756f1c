"""What the stores say of their index: states that a collection is seldom found in, made or played on purpose."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.milvus import MilvusSettings, MilvusStore
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings
from rag_migration_pipeline_tests.stores.milvus_samples import batch_of, spec_of, vendor


def points(count: int) -> RecordBatch:
    """Return records whose ids are numbers."""
    values = np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)
    return RecordBatch(list(range(count)), {"": DenseColumn(values)}, [{} for _ in range(count)])


def qdrant_spec() -> CollectionSpec:
    """Return the spec of a collection with a new name."""
    vectors = (VectorSpec(4, Metric.COSINE),)
    return CollectionSpec(f"test_{uuid.uuid4().hex}", vectors, frozenset({IdKind.UINT64, IdKind.UUID}))


@pytest.fixture(params=["Lite file", pytest.param("server", marks=[pytest.mark.server, pytest.mark.slow])])
def milvus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MilvusStore]:
    if request.param == "server":
        server = request.getfixturevalue("milvus_server")
        settings = MilvusSettings(host=server.host, port=server.port)
    else:
        settings = MilvusSettings(path=str(tmp_path / "lite.db"))
    with settings.open(create=True) as store:
        assert isinstance(store, MilvusStore)
        yield store


def test_a_released_collection_of_milvus_is_not_loaded_and_asking_does_not_load_it(milvus: MilvusStore) -> None:
    spec = spec_of()
    milvus.create(spec)
    try:
        milvus.upsert(spec.name, batch_of(["a", "b"]))
        milvus.finish_loading(spec.name)
        with vendor(milvus) as client:
            client.release_collection(spec.name)
            for _ in range(2):
                found = milvus.readiness(spec.name)
                assert (found.is_ready, found.is_loaded, found.is_stuck) == (False, False, True)
                assert found.detail.startswith("not loaded: searches are refused; index of 'vector' finished")
            client.load_collection(spec.name)
        assert milvus.readiness(spec.name).is_ready
    finally:
        milvus.drop(spec.name)


def test_a_vector_without_an_index_is_named(milvus: MilvusStore) -> None:
    spec = spec_of()
    milvus.create(spec)
    try:
        with vendor(milvus) as client:
            client.release_collection(spec.name)
            client.drop_index(spec.name, client.list_indexes(spec.name)[0])
        found = milvus.readiness(spec.name)
        assert (found.is_ready, found.is_stuck, found.total) == (False, True, 0)
        assert "field 'vector' has no index" in found.detail
    finally:
        milvus.drop(spec.name)


@pytest.fixture(params=["true", "false"], ids=["grpc", "rest"])
def qdrant(request: pytest.FixtureRequest, qdrant_double: Any) -> Iterator[Any]:
    server = qdrant_double
    settings = QdrantSettings(host=server.host, port=server.port, grpc_port=server.grpc_port, prefer_grpc=request.param)
    with settings.open(create=True) as store:
        yield store


Answer = Callable[..., None]


@pytest.fixture
def answers(qdrant: Any, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Let the server's answer about a collection be another one: the double itself is always green."""
    told = qdrant.client.get_collection

    def answer(threshold: int | None = None, **facts: Any) -> None:
        def changed(name: str) -> Any:
            info = told(name)
            optimizers = info.config.optimizer_config.model_copy(update={"indexing_threshold": threshold})
            config = info.config.model_copy(update={"optimizer_config": optimizers})
            return info.model_copy(update={"config": config, **facts})

        monkeypatch.setattr(qdrant.client, "get_collection", changed)

    return answer


@pytest.mark.server
@pytest.mark.parametrize("status", ["yellow", "grey"])
def test_a_collection_of_qdrant_that_is_still_being_indexed_is_not_ready(
    qdrant: VectorStore, answers: Answer, status: str
) -> None:
    from qdrant_client import models

    spec = qdrant_spec()
    qdrant.create(spec)
    answers(status=models.CollectionStatus(status), points_count=30_000, indexed_vectors_count=12_000, threshold=10_000)
    found = qdrant.readiness(spec.name)
    assert (found.is_ready, found.is_stuck, found.is_loaded) == (False, False, True)
    assert (found.indexed, found.total) == (12_000, 30_000)
    assert f"the collection is {status}, its optimizer is ok; 12000 vectors of about 30000 records" in found.detail


@pytest.mark.server
def test_an_optimizer_of_qdrant_that_failed_is_said_with_its_reason(qdrant: VectorStore, answers: Answer) -> None:
    from qdrant_client import models

    spec = qdrant_spec()
    qdrant.create(spec)
    reason = models.OptimizersStatusOneOf1(error="no space left on device")
    answers(status=models.CollectionStatus.RED, optimizer_status=reason)
    found = qdrant.readiness(spec.name)
    assert (found.is_ready, found.is_stuck) == (False, True)
    assert "the collection is red, its optimizer says 'no space left on device'" in found.detail


@pytest.mark.server
@pytest.mark.parametrize(
    ("threshold", "said"),
    [
        (20_000, "segments below the indexing_threshold of 20000 kB need none"),
        (None, "segments below the indexing_threshold need none"),
        (0, "indexing is switched off (indexing_threshold 0)"),
    ],
)
def test_a_small_collection_of_qdrant_is_ready_without_an_index_and_says_so(
    qdrant: VectorStore, answers: Answer, threshold: int | None, said: str
) -> None:
    spec = qdrant_spec()
    qdrant.create(spec)
    qdrant.upsert(spec.name, points(7))
    qdrant.finish_loading(spec.name)
    answers(threshold)
    found = qdrant.readiness(spec.name)
    assert (found.is_ready, found.indexed, found.total) == (True, 0, 7)
    assert said in found.detail


def test_qdrant_edge_says_how_many_vectors_are_in_an_index(tmp_path: Path) -> None:
    spec = replace(qdrant_spec(), name="docs")
    with QdrantEdgeSettings(path=str(tmp_path)).open(create=True) as store:
        store.create(spec)
        store.upsert(spec.name, points(7))
        found = store.readiness(spec.name)
    assert (found.is_ready, found.total, found.indexed) == (True, 7, 0)
    assert "0 vectors of 7 records are in an index" in found.detail
