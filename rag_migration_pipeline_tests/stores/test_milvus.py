"""Milvus' own quirks on a Milvus Lite folder: promises of the adapter that the laws do not make."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline import errors
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    FieldSpec,
    IdKind,
    Metric,
    RecordBatch,
    SparseColumn,
    VectorKind,
)
from rag_migration_pipeline.stores import milvus_loading
from rag_migration_pipeline.stores.milvus import MilvusSettings, MilvusStore
from rag_migration_pipeline_tests.stores.milvus_samples import DIMENSION, batch_of, make_collection, spec_of, vendor


@pytest.fixture
def settings(tmp_path: Path) -> MilvusSettings:
    return MilvusSettings(path=str(tmp_path / "lite.db"))


@pytest.fixture
def store(settings: MilvusSettings) -> Iterator[MilvusStore]:
    with settings.open(create=True) as opened:
        assert isinstance(opened, MilvusStore)
        yield opened


class TestLiteFolder:
    def test_keys_that_lite_would_lose_are_rejected(self, store: MilvusStore) -> None:
        """Lite has columns of its own by these names and drops a payload's (3.2.2)."""
        spec = spec_of()
        store.create(spec)
        batch = batch_of(["a", "b", "c"], [{"_seq": 1}, {"_partition": "x"}, {"seq": 1}])
        result = store.upsert(spec.name, batch)
        assert [rejection.record_id for rejection in result.rejections] == ["a", "b"]
        assert list(store.fetch(spec.name, ["c"]).payloads) == [{"seq": 1}]

    def test_names_of_the_key_and_the_vector_are_rejected_as_payload_keys(self, store: MilvusStore) -> None:
        spec = spec_of(id_field="pk", settings={"vector_field": "emb"})
        store.create(spec)
        batch = batch_of(["a", "b", "c", "d"], [{"pk": 1}, {"emb": 1}, {"$meta": 1}, {"id": 1, "vector": 2}])
        result = store.upsert(spec.name, batch)
        assert [rejection.record_id for rejection in result.rejections] == ["a", "b", "c"]
        assert list(store.fetch(spec.name, ["d"]).payloads) == [{"id": 1, "vector": 2}]
        assert store.describe(spec.name).spec.settings["vector_field"] == "emb"

    def test_what_was_killed_between_collection_and_index_is_finished(
        self, settings: MilvusSettings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The next target run makes the index that the collection was meant to have; a source is told of the gap."""
        spec = spec_of(metadata={"a": 1})
        with monkeypatch.context() as patch, settings.open(create=True) as store:
            patch.setattr(milvus_loading, "finish_creation", _be_killed)
            with pytest.raises(KeyboardInterrupt):
                store.create(spec)
        with settings.open(create=False) as source, pytest.raises(errors.StoreRequestError, match="metric"):
            source.describe(spec.name)
        with settings.open(create=True) as target:
            assert target.describe(spec.name).spec.vectors == spec.vectors
            assert target.upsert(spec.name, batch_of(["a"])).written == 1
            target.finish_loading(spec.name)
        with settings.open(create=False) as source:
            assert source.describe(spec.name).count == 1

    def test_a_collection_without_index_has_no_metric(self, store: MilvusStore) -> None:
        with vendor(store) as client:
            make_collection(client, "bare", index=False)
        with pytest.raises(errors.StoreRequestError, match="metric") as caught:
            store.describe("bare")
        assert "index" in caught.value.todo

    def test_a_collection_that_gives_its_own_ids_is_refused_as_target(self, store: MilvusStore) -> None:
        with vendor(store) as client:
            make_collection(client, "auto", auto_id=True)
        assert store.describe("auto").spec.settings["auto_id"] is True
        with pytest.raises(errors.SchemaCompatibilityError, match="auto_id"):
            store.upsert("auto", batch_of([1, 2]))
        assert store.count("auto") == 0

    def test_an_alias_is_read_like_its_collection(self, store: MilvusStore) -> None:
        spec = spec_of()
        store.create(spec)
        store.upsert(spec.name, batch_of(["a", "b"]))
        with vendor(store) as client:
            client.create_alias(spec.name, "nick")
        assert store.exists("nick")
        assert store.describe("nick").count == 2
        assert list(store.fetch("nick", ["b"]).ids) == ["b"]

    def test_a_collection_that_stops_being_loaded_may_be_tried_again(self, store: MilvusStore) -> None:
        """A server that restarts has its collections released for a while; a target loads them again."""
        spec = spec_of()
        store.create(spec)
        store.upsert(spec.name, batch_of(["a"]))
        with vendor(store) as client:
            client.release_collection(spec.name)
        with pytest.raises(errors.StoreUnavailableError, match="any more"):
            store.fetch(spec.name, ["a"])
        assert list(store.fetch(spec.name, ["a"]).ids) == ["a"]

    def test_several_stores_on_one_folder_write_at_once(self, settings: MilvusSettings, store: MilvusStore) -> None:
        """Lite takes one writer at a time, so all stores of this process on one folder share a turn."""
        spec = spec_of(IdKind.INT64)
        store.create(spec)
        stores = [settings.open(create=True) for _ in range(3)]

        def write(number: int) -> None:
            for start in range(number * 1_000, number * 1_000 + 1_000, 100):
                stores[number].upsert(spec.name, batch_of(list(range(start, start + 100))))

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(write, range(3)))
        for other in stores:
            other.close()
        assert store.count(spec.name) == 3_000
        assert [record_id for page in store.iter_ids(spec.name) for record_id in page] == list(range(3_000))

    def test_typed_fields_are_described_written_and_read(self, store: MilvusStore) -> None:
        from pymilvus import DataType

        with vendor(store) as client:
            make_collection(
                client,
                "typed",
                ("vector", DataType.FLOAT_VECTOR, {"dim": DIMENSION}),
                ("small", DataType.INT8, {}),
                ("text", DataType.VARCHAR, {"max_length": 10, "nullable": True}),
                ("single", DataType.FLOAT, {}),
                ("tags", DataType.ARRAY, {"element_type": DataType.VARCHAR, "max_capacity": 3, "max_length": 5}),
                ("more", DataType.JSON, {}),
                dynamic=False,
            )
        assert store.describe("typed").spec.fields == (
            FieldSpec("small", "int", bits=8),
            FieldSpec("text", "string", is_nullable=True, max_length_bytes=10),
            FieldSpec("single", "float", bits=32),
            FieldSpec("tags", "array", element_type="string", max_items=3),  # Lite forgets the length
            FieldSpec("more", "json"),
        )
        good = {"small": -128, "text": "ü" * 5, "single": 0.5, "tags": ["a", ""], "more": {"a": [1, None]}}
        payloads = [
            good,
            {**good, "text": None, "tags": []},
            {**good, "small": 128},
            {**good, "text": "ü" * 6},
            {**good, "single": 0.1},
            {**good, "tags": ["a", 1]},
            {**good, "more": "text"},
            {**good, "extra": 1},
            {key: value for key, value in good.items() if key != "text"},
        ]
        result = store.upsert("typed", batch_of(list(range(9)), payloads))
        assert [rejection.record_id for rejection in result.rejections] == list(range(2, 9))
        for name, rejection in zip(
            ("small", "text", "single", "tags", "more", "extra", "text"), result.rejections, strict=True
        ):
            assert name in rejection.reason
        assert list(store.fetch("typed", [0, 1]).payloads) == payloads[:2]

    def test_named_and_sparse_vectors_are_read(self, store: MilvusStore) -> None:
        from pymilvus import DataType

        with vendor(store) as client:
            make_collection(
                client, "two", ("a", DataType.FLOAT_VECTOR, {"dim": 2}), ("b", DataType.FLOAT_VECTOR, {"dim": 3})
            )
            client.insert("two", [{"id": 1, "a": [1, 2], "b": [3, 4, 5], "k": "v"}])
            make_collection(
                client, "mixed", ("a", DataType.FLOAT_VECTOR, {"dim": 2}), ("s", DataType.SPARSE_FLOAT_VECTOR, {})
            )
        assert [(vector.name, vector.dimension) for vector in store.describe("two").spec.vectors] == [
            ("a", 2),
            ("b", 3),
        ]
        (batch,) = store.scan("two")
        assert batch.payloads == [{"k": "v"}]
        assert np.array_equal(batch.dense("b").values, [[3, 4, 5]])
        assert [vector.kind for vector in store.describe("mixed").spec.vectors] == [VectorKind.DENSE, VectorKind.SPARSE]
        with vendor(store) as client:
            client.insert("mixed", [{"id": 1, "a": [1, 2], "s": {7: 0.5, 4_000_000_000: 1.5}}])
        (batch,) = store.scan("mixed")
        column = batch.vectors["s"]
        assert isinstance(column, SparseColumn)
        assert [(list(i), list(v)) for i, v in zip(column.indices, column.values, strict=True)] == [
            ([7, 4_000_000_000], [0.5, 1.5])
        ]

    def test_vectors_that_may_be_null_and_arrays_of_unknown_things_are_refused(self, store: MilvusStore) -> None:
        """Lite makes such fields (3.2.2), and takes nothing in them."""
        from pymilvus import DataType

        with vendor(store) as client:
            make_collection(
                client,
                "odd",
                ("a", DataType.FLOAT_VECTOR, {"dim": 2, "nullable": True}),
                ("b", DataType.ARRAY, {"element_type": DataType.JSON, "max_capacity": 3}),
            )
        with pytest.raises(errors.SchemaCompatibilityError, match="a, b"):
            list(store.scan("odd"))

    def test_a_batch_without_the_vector_is_refused(self, store: MilvusStore) -> None:
        spec = spec_of()
        store.create(spec)
        with pytest.raises(errors.SchemaCompatibilityError, match="vector '' is missing"):
            store.upsert(spec.name, RecordBatch(["a"], {}, [{}]))

    def test_a_folder_that_another_client_has_open_is_locked(self, settings: MilvusSettings) -> None:
        from milvus_lite.db import MilvusLite

        other = MilvusLite(settings.path)
        try:
            with pytest.raises(errors.StoreLockedError, match=r"lite\.db"):
                settings.open(create=False)
        finally:
            other.close()
        settings.open(create=False).close()

    def test_a_folder_of_something_else_is_not_filled(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(errors.SpecError, match="something else"):
            MilvusSettings(path=str(tmp_path)).open(create=True)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

    def test_long_integers_of_a_source_keep_every_digit(self, store: MilvusStore) -> None:
        """orjson would read them as floats."""
        spec = spec_of(IdKind.INT64)
        store.create(spec)
        from pymilvus.grpc_gen import milvus_pb2

        from rag_migration_pipeline.stores import milvus_wire

        fields = milvus_wire.encode(store._layout(spec.name), batch_of([1, 2]))
        for data in fields:
            if data.is_dynamic:
                data.scalars.json_data.data[:] = [b'{"n":%d}' % 2**70, b'{"n":1.5}']
        request = milvus_pb2.InsertRequest(collection_name=spec.name, fields_data=fields, num_rows=2)
        store._connection.call("Insert", request)
        assert list(store.fetch(spec.name, [1, 2]).payloads) == [{"n": 2**70}, {"n": 1.5}]

    def test_pages_of_a_large_collection_are_as_small_as_asked(self, store: MilvusStore) -> None:
        """Lite is asked for large pages, as each costs it the whole collection; readers get what they asked for."""
        spec = spec_of(IdKind.INT64)
        store.create(spec)
        count = 9_000
        values = np.ones((count, DIMENSION), np.float32)
        store.upsert(spec.name, RecordBatch(range(count), {"": DenseColumn(values)}, [{}] * count))
        pages = list(store.scan(spec.name, 500))
        assert max(len(page) for page in pages) == 500
        assert [record_id for page in pages for record_id in page.ids] == list(range(count))
        assert [len(page) for page in store.iter_ids(spec.name, 4_000)] == [4_000, 4_000, 1_000]

    def test_a_missing_database_is_named(self, settings: MilvusSettings, store: MilvusStore) -> None:
        with pytest.raises(errors.CollectionNotFoundError, match=r"'nope'.*default"):
            MilvusSettings(path=settings.path, database="nope").open(create=False)
        assert store.list_collections() == []


def _be_killed(*_: Any) -> None:
    raise KeyboardInterrupt


class TestCreation:
    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"name": "1st"}, "1st"),
            ({"id_kinds": frozenset({IdKind.UUID})}, "uuid"),
            ({"fields": (FieldSpec("vector", "string"),)}, "two fields"),
            ({"fields": (FieldSpec("$meta", "string"),)}, "meta"),
            ({"fields": (FieldSpec("when", "datetime"),)}, "datetime"),
            ({"fields": (FieldSpec("t", "string", max_length_bytes=70_000),)}, "70000"),
            ({"max_id_length_bytes": 70_000}, "70000"),
        ],
    )
    def test_a_spec_that_milvus_cannot_have_is_refused(
        self, store: MilvusStore, changes: dict[str, Any], problem: str
    ) -> None:
        with pytest.raises(errors.SchemaCompatibilityError, match=problem):
            store.create(spec_of(**changes))
        assert store.list_collections() == []

    def test_the_index_of_a_milvus_source_is_taken_over(self, store: MilvusStore) -> None:
        index = {"vector": {"index_type": "HNSW", "params": {"M": 8, "efConstruction": 50}, "metric_type": "COSINE"}}
        spec: CollectionSpec = spec_of(settings={"indexes": index, "vector_field": "vector"})
        store.create(spec)
        made = store.describe(spec.name).spec
        assert made.settings["indexes"] == index
        assert made.vectors[0].metric is Metric.COSINE
