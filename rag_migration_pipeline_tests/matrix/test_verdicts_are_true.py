"""What the table of verdicts says of each kind of record is what happens to it in real engines."""

from pathlib import Path
from typing import Any

import pytest

from rag_migration_pipeline.envelope import unpack
from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.options import MigrationOptions
from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.records import RecordBatch, id_text
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.context import MigrationContext, open_migration
from rag_migration_pipeline.steps.range import migrate_range
from rag_migration_pipeline.steps.report import prove_collection
from rag_migration_pipeline.stores import memory
from rag_migration_pipeline.stores.memory import MemorySettings, forget_space
from rag_migration_pipeline_tests.matrix.places import TARGETS, Place, fresh_name
from rag_migration_pipeline_tests.verdict_table import KINDS, Kind, cell, example

SPACE = "verdicts-are-true"
COLUMN_OF = {"chroma": "Chroma", "qdrant": "Qdrant", "milvus": "Milvus Lite"}
"""Store -> its column in the tables."""


def contents(batch: RecordBatch) -> dict[str, Any]:
    """Return id -> payload, document and partition."""
    none = [None] * len(batch)
    rows = zip(batch.ids, batch.payloads, batch.documents or none, batch.partitions or none, strict=True)
    return {id_text(i): (encode(payload), document, partition) for i, payload, document, partition in rows}


def arrived(context: MigrationContext) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for batch in context.target.scan(context.migration.target_collection):
        found |= contents(unpack(batch, context.target_layout))
    return found


def migration_of(kind: Kind, there: Place) -> tuple[Migration, RecordBatch]:
    source = MemorySettings(name=SPACE)
    spec, batch = example(kind, memory.CAPABILITIES)
    with source.open() as store:
        store.drop("docs")
        store.create(spec)
        assert not store.upsert("docs", batch).rejections
    options = MigrationOptions.model_validate({**kind.options, "max_rejected": len(batch)})
    into = kind.name if kind.name != "docs" else fresh_name()
    return Migration("verdicts", source, "docs", there.settings, into, options), batch


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_exact_comes_home_and_what_is_impossible_is_refused(
    target: str, embedded_places: dict[str, Place], tmp_path: Path, scale: float
) -> None:
    there = embedded_places[target]
    kinds = [kind for kind in KINDS if not kind.fields]
    for number, kind in enumerate(kinds[TARGETS.index(target) :: max(1, round(10 / scale))]):
        migration, batch = migration_of(kind, there)
        if cell(kind, "memory", COLUMN_OF[target]) == "**impossible**":
            before = there.store.list_collections()
            with pytest.raises(SchemaCompatibilityError), open_migration(migration, tmp_path / str(number), plan=True):
                pass
            assert there.store.list_collections() == before, kind.label
            continue
        with open_migration(migration, tmp_path / str(number), plan=True) as context:
            for entry in context.manifest.ranges:
                migrate_range(context, entry.key)
            assert prove_collection(context).is_proven, kind.label
            verdicts = context.manifest.plan.verdicts
            if not any(verdict.subject == "records" for verdict in verdicts):  # else it is set aside by name
                assert arrived(context) == contents(batch), kind.label
        there.store.drop(migration.target_collection)
    forget_space(SPACE)
