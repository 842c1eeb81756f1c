"""Verification finds, by id, whatever differs between two collections that anybody copied."""

import json
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
import pytest

from rag_migration_pipeline import StoreService, VectorStoreMigrator, get_chromadb_service
from rag_migration_pipeline.records import CollectionSpec, DenseColumn, IdKind, Metric, RecordBatch, VectorSpec
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline.stores.qdrant_edge import QdrantEdgeSettings
from rag_migration_pipeline_tests.cli.running import Place

COUNT = 20_000
SPEC = CollectionSpec("docs", (VectorSpec(8, Metric.L2),), frozenset({IdKind.UINT64, IdKind.UUID}))


def records(ids: list[int], **changes: Any) -> RecordBatch:
    """Return records whose vector and payload follow from the id."""
    values = np.array([[n % 7, n % 11, n % 13, n / COUNT, 1, 2, 3, n % 5] for n in ids], dtype=np.float32)
    payloads = [{"n": n, "tags": [f"t{n % 9}", None], **changes} for n in ids]
    return RecordBatch(list(ids), {"": DenseColumn(values)}, payloads)


def put(root: Path, batch: RecordBatch, name: str = "docs") -> None:
    with QdrantEdgeSettings(path=str(root)).open(create=True) as store:
        if not store.exists(name):
            store.create(SPEC)
        for start in range(0, len(batch), 5000):
            store.upsert(name, batch.take(list(range(start, min(start + 5000, len(batch))))))


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source, and a copy that somebody else made."""
    root = tmp_path_factory.mktemp("verified")
    for side in ("source", "target"):
        put(root / side, records(list(range(COUNT))))
    return root


def migrator(root: Path) -> VectorStoreMigrator:
    source, target = (f"qdrant+edge://{root / side}/" for side in ("source", "target"))
    return VectorStoreMigrator(source, target, state_dir=root / "state")


def test_an_exact_copy_is_identical_and_what_is_planted_is_found_by_id(copied: Path) -> None:
    found = migrator(copied).verify("docs")
    assert found.is_identical
    assert (found.source_count, found.target_count, found.compared, found.rows()) == (COUNT, COUNT, COUNT, [])
    assert found.summary() == f"{COUNT} of {COUNT} records compared: identical"
    assert not (copied / "state").exists()
    plant(copied / "target")
    found = migrator(copied).verify("docs")
    assert not found.is_identical
    assert found.missing == ["int:17"]
    assert found.extra == ["int:99999"]
    assert set(found.changed) == {"int:4321", "int:9876", "int:100", "int:200"}
    assert "payload" in found.changed["int:4321"]
    assert "vector" in found.changed["int:9876"]
    assert found.swapped == {"int:100": "int:200", "int:200": "int:100"}
    assert json.loads(json.dumps(found.to_dict()))["missing"] == ["int:17"]
    frame = found.to_pandas()
    assert sorted(frame["finding"]) == ["changed"] * 4 + ["extra", "missing"]
    sampled = migrator(copied).verify("docs", sample=100)
    assert sampled.is_sample
    assert 90 <= sampled.compared <= 200
    by_command(copied)


def plant(target: Path) -> None:
    """Damage a copy in each of the ways in which copies go wrong."""
    with QdrantEdgeSettings(path=str(target)).open() as store:
        store.delete("docs", [17])
        store.upsert("docs", records([99_999]))
        store.upsert("docs", records([4321], changed=True))
        moved = records([9876])
        moved.vectors[""] = DenseColumn(moved.dense().values + np.float32(0.001))  # type: ignore[index]
        store.upsert("docs", moved)
        pair = records([100, 200])
        store.upsert("docs", pair.with_columns(ids=[200, 100]))


def by_command(root: Path) -> None:
    place = Place(root)
    pair = ("--source", f"qdrant+edge://{root}/source/docs", "--target", f"qdrant+edge://{root}/target/docs")
    done = place.run("verify", *pair, "-o", "json")
    assert done.code == 5, done.err
    assert (done.facts["missing"], done.facts["extra"]) == (["int:17"], ["int:99999"])
    assert set(done.facts["changed"]) == {"int:4321", "int:9876", "int:100", "int:200"}
    assert set(done.facts["swapped"]) == {"int:100", "int:200"}
    shown = place.run("verify", *pair)
    assert shown.code == 5
    assert "int:99999" in shown.out


def test_what_the_client_of_a_store_copied_is_identical(source: StoreService, tmp_path: Path) -> None:
    """No line of this project writes the copy."""
    source.close()
    held = chromadb.PersistentClient(str(tmp_path / "chroma")).get_collection("docs")
    rows: Any = held.get(include=["embeddings", "metadatas", "documents"])
    named = {name: rows[name] for name in ("ids", "embeddings", "metadatas", "documents")}
    copy = chromadb.PersistentClient(str(tmp_path / "copy")).create_collection("copied", metadata=held.metadata)
    copy.upsert(**named)
    with get_chromadb_service(path=tmp_path / "copy") as target:
        found = VectorStoreMigrator(source, target, state_dir=tmp_path / "state").verify("docs", "copied")
    assert (found.is_identical, found.rows()) == (True, [])
    assert found.compared == found.source_count == found.target_count == len(rows["ids"])


def test_a_sample_finds_what_it_looks_at_and_leaves_extras_alone(tmp_path: Path) -> None:
    source, target = (MemorySettings(name=f"api-verify-{side}") for side in "ab")
    for settings, batch in ((source, records(list(range(100)))), (target, records(list(range(1, 101))))):
        with settings.open(create=True) as store:
            store.create(SPEC)
            store.upsert("docs", batch)
    between = VectorStoreMigrator(source, target, state_dir=tmp_path)
    whole, part = between.verify("docs"), between.verify("docs", sample=10)
    assert (whole.is_sample, whole.missing, whole.extra) == (False, ["int:0"], ["int:100"])
    assert (part.is_sample, part.missing, part.extra, part.is_identical) == (True, ["int:0"], [], False)
    assert (part.to_dict()["is_sample"], list(part.to_pandas().columns)) == (True, ["id", "finding", "detail"])
    for settings in (source, target):
        forget_space(settings.name)
