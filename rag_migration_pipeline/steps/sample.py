"""Sample: the records that planning looks at before it judges.

Belongs here: which records, and reading them as the range steps will see them. Does not belong here: what follows from
them (``verdicts/profile.py``, ``inference.py``).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from rag_migration_pipeline.envelope import Layout, unpack
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.inference import profile_batches
from rag_migration_pipeline.plan import planned_mapping
from rag_migration_pipeline.records import RecordBatch, RecordId, Rejection
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.filter import filter_batches
from rag_migration_pipeline.steps.transform import transform_batches
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.target_fields import parse_target_fields
from rag_migration_pipeline.verdicts.profile import Sample

SAMPLE_COUNT = 1_000
PAGE_COUNT = 1_000
STRETCHES = 10
"""The sample is this many stretches of neighbouring ids, spread evenly: the same records every time."""


def read_sample(
    migration: Migration, source: VectorStore, ids: Sequence[RecordId], layout: Layout, target: Capabilities
) -> Sample:
    """Return records of the source as they leave the transform.

    Args:
        migration: The migration.
        source: The source store.
        ids: All ids of the source, in its order.
        layout: How the source collection holds records.
        target: What the target store can hold, for typed fields that are inferred.
    """
    unmapped: Counter[str] = Counter()
    few = list(_read(migration, source, _stretches(ids, SAMPLE_COUNT), layout, unmapped))
    options = migration.options
    if not parse_target_fields(options.target_fields).is_inferred or target.fields is None:
        return Sample(few, unmapped=unmapped)
    looked_at = _read(migration, source, _stretches(ids, options.infer_count or len(ids)), layout, Counter())
    return Sample(few, profile_batches(looked_at, target.payload), unmapped)


def _read(
    migration: Migration,
    source: VectorStore,
    stretches: Iterable[Sequence[RecordId]],
    layout: Layout,
    unmapped: Counter[str],
) -> Iterator[RecordBatch]:
    """Yield records as they leave the transform; count those that the mapping cannot change by their reasons."""

    def count(_: RecordBatch, rejections: Sequence[Rejection]) -> None:
        unmapped.update(rejection.reason for rejection in rejections)

    pages = source.fetch_pages(migration.source_collection, stretches)
    unpacked = (unpack(page, layout) for page in pages if len(page))
    taken = filter_batches(unpacked, parse_filter(migration.options.filter))
    mapping = planned_mapping(migration, source.spec(migration.source_collection), datetime.now(UTC))
    yield from transform_batches(taken, mapping, count)


def _stretches(ids: Sequence[RecordId], count: int) -> Iterator[Sequence[RecordId]]:
    """Yield about that many ids, in stretches, in pages of at most `PAGE_COUNT`."""
    size = max(1, count // STRETCHES)
    starts = [0] if len(ids) <= count else [(len(ids) - size) * part // (STRETCHES - 1) for part in range(STRETCHES)]
    for first in starts:
        stop = len(ids) if len(ids) <= count else first + size
        yield from (ids[start : min(start + PAGE_COUNT, stop)] for start in range(first, stop, PAGE_COUNT))
