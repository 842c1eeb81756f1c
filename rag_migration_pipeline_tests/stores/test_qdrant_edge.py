"""Promises of the Qdrant edge adapter that are its own: shard folders, kills, what the engine does to values.

Belongs here: what the embedded engine needs, and measurements of it that declared limits rest on. Does not belong here:
the laws of every store (``contract/``).
"""

import math
import random
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge

from rag_migration_pipeline.errors import (
    CollectionNotFoundError,
    SchemaCompatibilityError,
    SpecError,
    StoreLockedError,
    StoreRequestError,
)
from rag_migration_pipeline.locators import parse_locator
from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    CollectionSpec,
    DenseColumn,
    FieldSpec,
    IdKind,
    Metric,
    RecordBatch,
    VectorSpec,
)
from rag_migration_pipeline.stores import qdrant_edge as adapter
from rag_migration_pipeline.stores.decimal_floats import parsed_from_text, survives_decimal_text
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings, QdrantEdgeStore, settings_from_locator
from rag_migration_pipeline.stores.qdrant_schema import VECTOR_TOLERANCE
from rag_migration_pipeline.stores.registry import open_source

KINDS = frozenset({IdKind.UINT64, IdKind.UUID})


def make_spec(name: str = "docs", *vectors: VectorSpec, **changes: Any) -> CollectionSpec:
    return CollectionSpec(name, vectors or (VectorSpec(4, Metric.DOT),), KINDS, **changes)


def make_batch(start: int, count: int) -> RecordBatch:
    values = np.random.default_rng(start).standard_normal((count, 4)).astype(np.float32)
    payloads = [{"n": number} for number in range(count)]
    return RecordBatch(list(range(start, start + count)), {DEFAULT_VECTOR: DenseColumn(values)}, payloads)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QdrantEdgeStore]:
    with QdrantEdgeSettings(path=str(tmp_path / "base")).open(create=True) as opened:
        yield opened


def test_a_url_names_the_base_folder_and_the_collection() -> None:
    locator = parse_locator("qdrant+edge:///data/edge/docs", "target", {})
    assert settings_from_locator(locator).path == "/data/edge"
    assert locator.collection == "docs"
    with pytest.raises(SpecError, match="colour"):
        settings_from_locator(parse_locator("qdrant+edge:///data/edge/docs?colour=red", "target", {}))


def test_a_missing_package_is_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SpecError, match="pip install"):
        QdrantEdgeSettings(path=str(tmp_path / "base")).open(create=True)
    assert list(tmp_path.iterdir()) == []


_WRITE_AND_DIE = """
import os, sys, numpy as np
from rag_migration_pipeline.records import *
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
store = QdrantEdgeSettings(path=sys.argv[1]).open(create=True)
spec = CollectionSpec("docs", (VectorSpec(4, Metric.DOT),), frozenset({IdKind.UINT64, IdKind.UUID}))
store.create(spec)
for start in range(0, 300, 100):
    columns = {"": DenseColumn(np.full((100, 4), start, np.float32))}
    ids = list(range(start, start + 100))
    store.upsert("docs", RecordBatch(ids, columns, [{"n": number} for number in ids]))
store.delete("docs", [0, 1, 2])
os.kill(os.getpid(), 9)
"""


def test_acknowledged_writes_survive_a_kill(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", _WRITE_AND_DIE, str(tmp_path)], check=False)
    assert died.returncode == -9
    with QdrantEdgeSettings(path=str(tmp_path)).open() as store:
        assert store.count("docs") == 297
        batch = store.fetch("docs", [2, 3, 299])
        assert batch.ids == [3, 299]
        assert batch.payloads == [{"n": 3}, {"n": 299}]
        assert batch.dense().values[1].tolist() == [200.0] * 4


def test_what_a_kill_left_half_made_is_not_a_collection_and_is_swept(store: QdrantEdgeStore) -> None:
    store.create(make_spec())
    left = Path(store.settings.path) / ".making-0123"
    left.mkdir()
    (left / "edge_config.json").write_text("{}")
    assert store.list_collections() == ["docs"]
    store.close()
    with store.settings.open(create=False) as again:
        assert again.list_collections() == ["docs"]
        assert left.exists(), "a reader changed the folder"
    with store.settings.open(create=True):
        assert not left.exists()


def test_a_name_cannot_lead_out_of_the_base_folder(store: QdrantEdgeStore, tmp_path: Path) -> None:
    with QdrantEdgeSettings(path=str(tmp_path / "other")).open(create=True) as other:
        other.create(make_spec())
    store.create(make_spec())
    for name in ("../other/docs", str(tmp_path / "other" / "docs"), "..", "."):
        with pytest.raises(CollectionNotFoundError):
            store.describe(name)
        with pytest.raises(SchemaCompatibilityError, match="name"):
            store.create(make_spec(name))
        store.drop(name)
    assert (tmp_path / "other" / "docs" / "edge_config.json").is_file()


def test_a_shard_of_another_program_is_described_and_read(store: QdrantEdgeStore) -> None:
    vectors = {
        "image": qdrant_edge.EdgeVectorParams(size=3, distance=qdrant_edge.Distance.Manhattan),
        "half": qdrant_edge.EdgeVectorParams(
            size=2, distance=qdrant_edge.Distance.Euclid, datatype=qdrant_edge.VectorStorageDatatype.Float16
        ),
    }
    shard = qdrant_edge.EdgeShard.create(f"{store.settings.path}/theirs", qdrant_edge.EdgeConfig(vectors=vectors))
    shard.update(
        qdrant_edge.UpdateOperation.upsert_points(
            [qdrant_edge.Point(7, {"image": [1.0, 2.0, 3.0], "half": [0.5, 0.25]}, {"k": None})]
        )
    )
    shard.update(qdrant_edge.UpdateOperation.create_field_index("k", qdrant_edge.PayloadSchemaType.Keyword))
    shard.close()
    info = store.describe("theirs")
    assert info.count == 1
    assert info.spec.vectors == (
        VectorSpec(2, Metric.L2, "half", dtype="float16"),
        VectorSpec(3, Metric.MANHATTAN, "image"),
    )
    assert info.spec.fields == (FieldSpec("k", "string", is_nullable=True, is_indexed=True),)
    batch = store.fetch("theirs", [7])
    assert batch.payloads == [{"k": None}]
    assert batch.dense("image").values.tolist() == [[1.0, 2.0, 3.0]]


def test_a_shard_that_is_open_elsewhere_is_locked(store: QdrantEdgeStore) -> None:
    foreign = qdrant_edge.EdgeShard.create(
        f"{store.settings.path}/docs",
        qdrant_edge.EdgeConfig(vectors=qdrant_edge.EdgeVectorParams(size=2, distance=qdrant_edge.Distance.Dot)),
    )
    with pytest.raises(StoreLockedError, match="docs"):
        store.count("docs")
    foreign.close()
    assert store.count("docs") == 0


def test_a_damaged_shard_is_one_of_our_errors(store: QdrantEdgeStore) -> None:
    folder = Path(store.settings.path) / "broken"
    folder.mkdir()
    (folder / "edge_config.json").write_text("{")
    with pytest.raises(StoreRequestError, match="broken"):
        store.describe("broken")


def test_finishing_builds_the_index_and_changes_no_record(store: QdrantEdgeStore) -> None:
    dimension, count = 256, 11_000  # more than the engine's threshold of 10,000 KB of vectors
    store.create(make_spec("docs", VectorSpec(dimension, Metric.DOT), metadata={"owner": "me"}))
    values = np.random.default_rng(3).standard_normal((count, dimension)).astype(np.float32)
    payloads = [{"score": n / 8, "deep": {"list": [None, n]}} for n in range(count)]
    store.upsert("docs", RecordBatch(list(range(count)), {DEFAULT_VECTOR: DenseColumn(values)}, payloads))
    store.finish_loading("docs")
    assert store.folder.shard("docs").info().indexed_vectors_count == count
    found = store.fetch("docs", list(range(count)))
    assert np.array_equal(found.dense().values, values)
    assert found.payloads == payloads
    assert store.describe("docs").spec.metadata == {"owner": "me"}


def test_several_threads_write_and_read_at_once(store: QdrantEdgeStore) -> None:
    store.create(make_spec())
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for start in range(number * 10_000, number * 10_000 + 1_000, 100):
                store.upsert("docs", make_batch(start, 100))
                assert len(store.fetch("docs", list(range(start, start + 100)))) == 100
        except Exception as error:  # noqa: BLE001  whatever it is, the test shows it
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert store.count("docs") == 4_000


# -- what the engine does to values: declared limits rest on these ---------------------------------------------


def _raw_shard(path: Path, distance: Any = qdrant_edge.Distance.Dot, size: int = 4) -> Any:
    params = qdrant_edge.EdgeVectorParams(size=size, distance=distance)
    return qdrant_edge.EdgeShard.create(str(path), qdrant_edge.EdgeConfig(vectors=params))


def test_the_engine_changes_exactly_the_floats_that_the_rule_names(tmp_path: Path) -> None:
    shard = _raw_shard(tmp_path / "shard")
    generator = random.Random(11)
    bits = (struct.unpack("d", generator.randbytes(8))[0] for _ in range(5_000))
    floats = [value for value in bits if math.isfinite(value)]
    floats += [generator.random() for _ in range(5_000)] + [generator.gauss(0, 1e4) for _ in range(5_000)]
    floats += [float(np.float32(generator.random())) for _ in range(5_000)] + [-0.0, 5e-324, 1.7976931348623157e308]
    shard.update(qdrant_edge.UpdateOperation.upsert_points([qdrant_edge.Point(1, [1.0] * 4, {"f": floats})]))
    found = shard.retrieve([1], True, False)[0].payload["f"]
    shard.close()
    assert struct.pack(f"{len(floats)}d", *found) == struct.pack(
        f"{len(floats)}d", *(parsed_from_text(repr(value)) for value in floats)
    )
    changed = [value for value, got in zip(floats, found, strict=True) if value != got]
    assert changed == [value for value in floats if not survives_decimal_text(value)]
    assert len(changed) > 1_000


def test_floats_that_would_change_are_rejected_by_name(store: QdrantEdgeStore) -> None:
    store.create(make_spec())
    generator = random.Random(5)
    value = next(x for x in iter(generator.random, None) if not survives_decimal_text(x))
    columns = {DEFAULT_VECTOR: DenseColumn(np.ones((2, 4), np.float32))}
    result = store.upsert("docs", RecordBatch([1, 2], columns, [{"score": value}, {"score": 0.5}]))
    assert result.written == 1
    assert result.rejections[0].record_id == 1
    assert repr(value) in result.rejections[0].reason


def test_the_engine_leaves_short_cosine_vectors_and_loses_long_ones(tmp_path: Path) -> None:
    shard = _raw_shard(tmp_path / "shard", qdrant_edge.Distance.Cosine)

    def stored(length: float) -> float:
        point = qdrant_edge.Point(1, [length, 0.0, 0.0, 0.0], {})
        shard.update(qdrant_edge.UpdateOperation.upsert_points([point]))
        return float(shard.retrieve([1], False, True)[0].vector[0])

    assert stored(3e-4) == pytest.approx(3e-4)
    assert stored(4e-4) == pytest.approx(1.0)
    assert stored(1.8e19) == pytest.approx(1.0)
    assert stored(2e19) == 0.0
    shard.close()


def test_the_tolerance_covers_what_the_engine_does_to_cosine_vectors(tmp_path: Path) -> None:
    worst = 0.0
    for dimension in (2, 8, 384, 1536):
        shard = _raw_shard(tmp_path / str(dimension), qdrant_edge.Distance.Cosine, dimension)
        values = (np.random.default_rng(dimension).standard_normal((500, dimension)) * 3).astype(np.float32)
        values[:100] /= np.linalg.norm(values[:100], axis=1, keepdims=True) * (1 + 4.9e-7)
        points = [qdrant_edge.Point(row, values[row].tolist(), {}) for row in range(500)]
        shard.update(qdrant_edge.UpdateOperation.upsert_points(points))
        found = np.array([record.vector for record in shard.retrieve(list(range(500)), False, True)])
        wide = values.astype(np.float64)
        unit = wide / np.linalg.norm(wide, axis=1, keepdims=True)
        worst = max(worst, float(np.linalg.norm(found - unit, axis=1).max()))
        shard.close()
    assert worst <= VECTOR_TOLERANCE
    assert worst > VECTOR_TOLERANCE / 10, "the tolerance is far too generous"


def test_a_folder_read_as_a_source_stays_byte_for_byte_the_same_even_after_an_index_was_built(
    store: QdrantEdgeStore,
) -> None:
    store.create(make_spec())
    store.upsert("docs", make_batch(0, 500))
    store.finish_loading("docs")
    store.delete("docs", [1, 2])
    store.close()
    base = Path(store.settings.path)
    before = {path: path.read_bytes() for path in base.rglob("*") if path.is_file()}
    with open_source(store.settings) as source:
        assert sum(len(batch) for batch in source.scan("docs")) == 498
    assert {path: path.read_bytes() for path in base.rglob("*") if path.is_file()} == before
