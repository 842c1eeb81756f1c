"""What the stores themselves refuse is bisected to the record, and a rollback brings back exactly what they held."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.quarantine import read_quarantine
from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    IdKind,
    Metric,
    RecordBatch,
    RecordId,
    VectorSpec,
)
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import state_folder
from rag_migration_pipeline.steps.context import open_migration
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.steps.rollback import rollback
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline_tests.matrix import awkward
from rag_migration_pipeline_tests.matrix.places import Place, fresh_name
from rag_migration_pipeline_tests.matrix.test_poison import ShortSighted

COUNT = 40
Change = Callable[[RecordBatch, int], None]


def vector(value: float) -> Change:
    def change(batch: RecordBatch, row: int) -> None:
        batch.dense().values[row, 1] = value

    return change


def payload(**values: Any) -> Change:
    return lambda batch, row: batch.payloads[row].update(values)


def document(text: str) -> Change:
    def change(batch: RecordBatch, row: int) -> None:
        batch.documents[row] = text  # type: ignore[index]

    return change


REFUSED: dict[str, list[Change]] = {
    "chroma": [vector(np.nan), vector(np.inf)],
    "milvus": [document("x" * 70_000)],
}
"""Per store, what its own answer is a refusal of the whole request; all of it seen by the adapter, if it looks."""


def ordinary(ids: list[RecordId], start: int = 0) -> RecordBatch:
    numbers = np.arange(start, start + len(ids))
    values = np.stack([numbers + 1, numbers % 3, np.ones(len(ids))], axis=1).astype(np.float32)
    payloads = [{"number": int(number), "kind": "even" if number % 2 else "odd"} for number in numbers]
    return RecordBatch(ids, {"": DenseColumn(values)}, payloads, [f"text {number}" for number in numbers])


@pytest.mark.parametrize("store", REFUSED)
def test_a_refusal_of_the_store_itself_is_bisected(places: dict[str, Place], store: str, tmp_path: Path) -> None:
    ids: list[RecordId] = [f"r{number:02d}" for number in range(COUNT)]
    batch = ordinary(ids)
    guilty = [7 * position + 3 for position in range(len(REFUSED[store]))]
    for row, change in zip(guilty, REFUSED[store], strict=True):
        change(batch, row)
    source = MemorySettings(name=f"refusals-{store}")
    with source.open(create=True) as opened:
        opened.create(CollectionSpec("docs", (VectorSpec(3, Metric.L2),), frozenset({IdKind.STRING})))
        opened.upsert("docs", batch)
    name = fresh_name()
    options = MigrationOptions(max_rejected=len(guilty))
    migration = Migration("refusals", source, "docs", places[store].settings, name, options)
    try:
        with open_migration(migration, tmp_path, plan=True) as context:
            short = ShortSighted(context.target, frozenset(ids[row] for row in guilty))
            seen = replace(context, target=short)
            (entry,) = context.manifest.ranges
            receipt = migrate_range(seen, entry.key)
            assert sorted(receipt.source_ids) == [i for row, i in enumerate(ids) if row not in guilty]  # type: ignore[type-var]
            found = read_quarantine(context.state.quarantine(entry.key))
            assert sorted(r.record_id for r in found.rejections) == [ids[row] for row in guilty]  # type: ignore[type-var]
            assert {r.error for r in found.rejections} == {"StoreRequestError"}
            assert prove_collection(seen).is_proven
    finally:
        forget_space(source.name)
        places[store].store.forget_spec(name)


@pytest.mark.parametrize("store", ["chroma", "qdrant", "milvus"])
def test_a_rollback_leaves_a_collection_as_it_was(
    places: dict[str, Place], store: str, tmp_path: Path, scale: float
) -> None:
    if scale < 2 and not places[store].store.capabilities.is_embedded:
        pytest.skip("the servers take seconds to flush: in make test-full")
    kinds = {"qdrant": frozenset({IdKind.UINT64, IdKind.UUID})}.get(store, frozenset({IdKind.STRING}))
    ids: list[RecordId] = [number if store == "qdrant" else f"r{number:02d}" for number in range(COUNT)]
    name, source = fresh_name(), MemorySettings(name=f"rollback-{store}")
    spec = CollectionSpec("docs", (VectorSpec(3, Metric.COSINE),), kinds)
    place = places[store]
    place.door.raw_create(replace(spec, name=name, max_id_length_bytes=100))
    theirs = ordinary(ids[10:20], start=500).with_columns(documents=None)
    place.door.raw_write(name, theirs if store != "chroma" else ordinary(ids[10:20], start=500))
    before = place.meaning(name)
    with source.open(create=True) as opened:
        opened.create(spec)
        opened.upsert("docs", ordinary(ids[:15]))
    options = MigrationOptions.model_validate(
        {"conflict": "overwrite", "keep_overwritten": True, "range_count": 6, "accept_lossy": True}
    )
    migration = Migration("rollback", source, "docs", place.settings, name, options)
    try:
        with open_migration(migration, tmp_path, plan=True) as context:
            for entry in context.manifest.ranges:
                migrate_range(context, entry.key)
            assert prove_collection(context).is_proven
        assert awkward.differences(before, place.meaning(name))
        report = rollback(migration, state_folder(tmp_path, migration.identity), place.store)
        assert (report.deleted, report.restored, report.lost) == (10, 5, ())
        assert awkward.differences(before, place.meaning(name)) == []
        assert list(tmp_path.iterdir()) == []
    finally:
        forget_space(source.name)
