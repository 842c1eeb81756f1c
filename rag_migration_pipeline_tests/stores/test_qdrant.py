"""Promises of the Qdrant adapter that are its own: values, vectors of cosine collections, ranges, the local folder.

Belongs here: records, as no other store has them. Does not belong here: the laws of every store (``contract/``), the
way to a server (``test_qdrant_connecting.py``), what is asked of it (``test_qdrant_requests.py``).
"""

import gc
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.errors import StoreLockedError, StoreRequestError
from rag_migration_pipeline.records import (
    UINT64_MAX,
    DenseColumn,
    FieldSpec,
    Metric,
    RecordBatch,
    RecordId,
    RecordRange,
    VectorSpec,
)
from rag_migration_pipeline.stores.decimal_floats import parsed_from_text, survives_decimal_text
from rag_migration_pipeline.stores.qdrant import QdrantFolderStore
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings
from rag_migration_pipeline_tests.servers.qdrant_double import QdrantDouble
from rag_migration_pipeline_tests.stores.qdrant_samples import make_batch, make_spec, settings_of


@pytest.fixture
def folder_store(tmp_path: Path) -> Iterator[Any]:
    with QdrantSettings(path=str(tmp_path / "folder")).open(create=True) as opened:
        yield opened


@pytest.fixture(params=["grpc", "rest", "folder"])
def any_store(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "folder":
        yield request.getfixturevalue("folder_store")
        return
    server = request.getfixturevalue("double")
    with settings_of(server, "true" if request.param == "grpc" else "false").open() as opened:
        yield opened
        for name in opened.list_collections():
            opened.drop(name)


# -- values ---------------------------------------------------------------------------------------------------


@pytest.mark.server
def test_integers_above_int64_are_read_exactly_over_grpc(double: QdrantDouble) -> None:
    payload = {"hash": UINT64_MAX, "list": [2**63, 1e19, 1], "n": 7, "honest": 1e19}
    with settings_of(double).open() as store:
        store.create(make_spec("docs"))
        client = _rest_client(double)
        client.upsert("docs", [models.PointStruct(id=1, vector=[1.0] * 4, payload=payload)], wait=True)
        client.close()
        for batch in (store.fetch("docs", [1]), next(store.scan("docs"))):
            assert batch.payloads == [payload]
            assert {key: type(value) for key, value in batch.payloads[0].items()} == {
                "hash": int,
                "list": list,
                "n": int,
                "honest": float,
            }
            assert [type(value) for value in batch.payloads[0]["list"]] == [int, float, int]
        store.drop("docs")


def _rest_client(double: QdrantDouble) -> QdrantClient:
    return QdrantClient(
        host=double.host,
        port=double.http_port,
        https=False,
        headers={"api-key": "right-key"},
        check_compatibility=False,
    )


@pytest.mark.server
def test_deep_payloads_are_read_over_rest_and_not_written(double: QdrantDouble) -> None:
    value = _nested(60)
    client = _rest_client(double)
    client.create_collection("deep", vectors_config=models.VectorParams(size=4, distance=models.Distance.DOT))
    client.upsert("deep", [models.PointStruct(id=1, vector=[1.0] * 4, payload={"k": value})], wait=True)
    client.close()
    with settings_of(double, "false").open() as store:
        assert store.fetch("deep", [1]).payloads == [{"k": value}]
        assert store.upsert("deep", make_batch([2], payloads=[{"k": value}])).written == 0
        assert store.upsert("deep", make_batch([3], payloads=[{"k": _nested(32)}])).written == 1
    with settings_of(double, "true").open() as store:
        assert store.fetch("deep", [3]).payloads == [{"k": _nested(32)}]
        assert store.upsert("deep", make_batch([3], payloads=[{"k": _nested(32)}])).written == 1
        store.drop("deep")


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def test_the_rule_for_floats_is_the_arithmetic_of_the_parser() -> None:
    generator = random.Random(7)
    assert all(survives_decimal_text(round(generator.uniform(-1e6, 1e6), 6)) for _ in range(2_000))
    assert all(survives_decimal_text(value) for value in (0.0, -0.0, 0.1, 1e16, 5e-324, 1.5, 1e22, -2.5e-7))
    changed = [value for value in (generator.random() for _ in range(10_000)) if not survives_decimal_text(value)]
    assert 800 < len(changed) < 1_300
    assert all(abs(parsed_from_text(repr(value)) - value) <= 2 * np.spacing(value) for value in changed)


# -- vectors and indexes --------------------------------------------------------------------------------------


def test_cosine_vectors_of_any_length_keep_their_direction(any_store: Any) -> None:
    any_store.create(make_spec("docs", VectorSpec(16, Metric.COSINE)))
    direction = np.random.default_rng(1).standard_normal(16)
    direction /= np.linalg.norm(direction)
    lengths = [1e-40, 1e-30, 1e-5, 3e-4, 0.9999997, 1.0, 1.0000004, 1e5, 2e19, 1e38]
    values = np.array([direction * length for length in lengths], dtype=np.float32)
    expected = values.astype(np.float64) / np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)
    given = values.copy()
    batch = RecordBatch(list(range(10)), {"": DenseColumn(values)}, [{} for _ in lengths])
    assert any_store.upsert("docs", batch).written == 10
    found = any_store.fetch("docs", list(range(10))).dense().values
    assert np.linalg.norm(found - expected, axis=1).max() <= any_store.capabilities.vector_tolerance
    assert np.array_equal(values, given), "the input was changed"


def test_named_vectors_may_be_missing_one_by_one(any_store: Any) -> None:
    spec = make_spec("docs", VectorSpec(3, Metric.L2, "image"), VectorSpec(2, Metric.DOT, "text"))
    any_store.create(spec)
    assert any_store.describe("docs").spec.vectors == spec.vectors
    image = DenseColumn(np.arange(12, dtype=np.float32).reshape(4, 3), np.array([True, False, True, False]))
    text = DenseColumn(np.arange(8, dtype=np.float32).reshape(4, 2), np.array([True, True, False, False]))
    ids: list[RecordId] = [3, 1, uuid.UUID(int=5), 2]
    assert any_store.upsert("docs", RecordBatch(ids, {"image": image, "text": text}, [{}] * 4)).written == 4
    for found in (any_store.fetch("docs", ids), concatenate(list(any_store.scan("docs", 1))).take([2, 0, 3, 1])):
        assert list(found.ids) == ids
        for name, column in (("image", image), ("text", text)):
            got = found.dense(name)
            assert got.present is not None
            assert got.present.tolist() == column.present.tolist()  # type: ignore[union-attr]
            assert got.values[got.present].tolist() == column.values[column.present].tolist()
            assert not got.values[~got.present].any()


@pytest.mark.server
def test_payload_indexes_are_made_and_described(remote_store: Any) -> None:
    fields = tuple(
        FieldSpec(name, kind, is_nullable=True, is_indexed=True)
        for name, kind in (("lang", "string"), ("when", "datetime"), ("year", "int"))
    )
    tags = FieldSpec("tags", "array", is_indexed=True, element_type="string")
    plain = FieldSpec("plain", "string")
    remote_store.create(make_spec("docs", fields=(*fields, tags, plain), metadata={"owner": "me", "list": [1, None]}))
    spec = remote_store.describe("docs").spec
    tags_index = FieldSpec("tags", "string", is_nullable=True, is_indexed=True)
    assert set(spec.fields) == {*fields, tags_index}
    assert spec.metadata == {"owner": "me", "list": [1, None]}
    assert spec.settings["hnsw_config"]["m"] == 16


# -- ranges ---------------------------------------------------------------------------------------------------


def test_ranges_run_over_integers_and_uuids_and_survive_changes_of_the_source(any_store: Any) -> None:
    any_store.create(make_spec("docs"))
    uuids = [uuid.UUID(int=n << 100) for n in (1, 2, 3)]
    ids: list[RecordId] = [0, 5, 2**63, UINT64_MAX, *uuids]
    any_store.upsert("docs", make_batch(ids[::-1]))
    assert [i for page in any_store.iter_ids("docs", 2) for i in page] == ids

    def read(start: RecordId, stop: RecordId | None, known: list[RecordId], page_count: int) -> list[RecordId]:
        record_range = RecordRange("k", 0, start, stop, known, 0)
        return [i for batch in any_store.read_range("docs", record_range, page_count) for i in batch.ids]

    for page_count in (1, 2, 3, 100):
        assert read(5, uuids[1], ids[1:5], page_count) == ids[1:5]
        assert read(uuids[1], None, uuids[1:], page_count) == uuids[1:]
    any_store.delete("docs", [5])
    any_store.upsert("docs", make_batch([6, 7, uuid.UUID(int=7)]))
    assert read(5, uuids[0], [5], 2) == [6, 7, 2**63, UINT64_MAX, uuid.UUID(int=7)]
    assert read(uuid.UUID(int=2**128 - 1), None, [], 10) == []


def test_ids_that_qdrant_cannot_have_are_missing_and_not_errors(any_store: Any) -> None:
    any_store.create(make_spec("docs"))
    any_store.upsert("docs", make_batch([1, 2]))
    assert any_store.fetch("docs", ["1", -1, 2**64, 2, 2]).ids == [2, 2]
    any_store.delete("docs", ["1", -1, 77])
    assert any_store.count("docs") == 2


# -- the local folder -----------------------------------------------------------------------------------------


def test_threads_may_use_one_folder_together(folder_store: QdrantFolderStore) -> None:
    folder_store.create(make_spec("docs"))
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with folder_store.settings.open() as own:
                for start in range(number * 100, number * 100 + 30, 10):
                    own.upsert("docs", make_batch(list(range(start, start + 10))))
                    own.fetch("docs", [start])
        except Exception as error:  # noqa: BLE001  whatever it is, the test shows it
            failures.append(error)

    _run_threads(work, 4)
    assert failures == []
    assert folder_store.count("docs") == 120


def _run_threads(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_folder_that_a_foreign_client_has_open_is_locked(tmp_path: Path) -> None:
    foreign = QdrantClient(path=str(tmp_path / "folder"))
    try:
        with pytest.raises(StoreLockedError, match="folder"):
            QdrantSettings(path=str(tmp_path / "folder")).open()
        gc.collect()  # the refused client leaves its lock file open for the collector
    finally:
        foreign.close()
    with QdrantSettings(path=str(tmp_path / "folder")).open() as store:
        assert store.list_collections() == []


def test_a_damaged_folder_is_one_of_our_errors(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(StoreRequestError, match="cannot be opened"):
        QdrantSettings(path=str(tmp_path)).open()
    (tmp_path / "meta.json").write_text('{"collections": {}, "aliases": {}}')
    with QdrantSettings(path=str(tmp_path)).open() as store:
        assert store.list_collections() == []
