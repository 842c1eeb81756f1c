"""Sample: the records that planning looks at before it judges.

Belongs here: which records, and reading them as the range steps will see them. Does not belong here: what follows from
them (``profile.py``, ``inference.py``).
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from rag_migration_pipeline.envelope import Layout, unpack
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.plan import planned_mapping
from rag_migration_pipeline.records import RecordBatch, RecordId
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.filter import filter_batches
from rag_migration_pipeline.steps.transform import transform_batches
from rag_migration_pipeline.stores.base import VectorStore

SAMPLE_COUNT = 1_000
STRETCHES = 10
"""The sample is this many stretches of neighbouring ids, spread evenly: the same records every time."""


def read_sample(
    migration: Migration, source: VectorStore, ids: Sequence[RecordId], layout: Layout
) -> list[RecordBatch]:
    """Return records of the source as they leave the transform.

    Args:
        migration: The migration.
        source: The source store.
        ids: All ids of the source, in its order.
        layout: How the source collection holds records.
    """
    pages = (source.fetch(migration.source_collection, stretch) for stretch in _stretches(ids))
    unpacked = (unpack(page, layout) for page in pages if len(page))
    taken = filter_batches(unpacked, parse_filter(migration.options.filter))
    mapping = planned_mapping(migration, source.spec(migration.source_collection), datetime.now(UTC))
    return list(transform_batches(taken, mapping, lambda _records, _rejections: None))


def _stretches(ids: Sequence[RecordId]) -> list[Sequence[RecordId]]:
    size = SAMPLE_COUNT // STRETCHES
    if len(ids) <= SAMPLE_COUNT:
        return [ids[start : start + size] for start in range(0, len(ids), size)]
    last = len(ids) - size
    return [ids[start : start + size] for start in (last * part // (STRETCHES - 1) for part in range(STRETCHES))]
