"""One range, all steps in a row: the story of a range on one page, for callers that need no staging.

Belongs here: the chain of the steps. Does not belong here: what any of them does. The Dagster ops do the same with
staged files in between.
"""

from collections.abc import Iterable, Iterator

from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.receipts import Receipt
from rag_migration_pipeline.records import RecordBatch, Rejection
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.extract import extract_batches
from rag_migration_pipeline.steps.filter import filter_batches
from rag_migration_pipeline.steps.load import PackedBatch, load_batches, refuse_rejections
from rag_migration_pipeline.steps.manifest import read_range_ids
from rag_migration_pipeline.steps.transform import transform_batches
from rag_migration_pipeline.steps.validate import prove_range, validate_batches


def migrate_range(context: MigrationContext, range_key: str) -> Receipt:
    """Carry one range from source to target and prove it.

    Raises:
        SourceChangedError: Records of the manifest are gone from the source.
        RecordRejectedError: The target cannot hold some records; the others are in it.
        ValidationError: The target contradicts what was written.
    """
    record_range = read_range_ids(context.state, context.manifest, range_key)
    taken = prepare_batches(context, extract_batches(context, record_range))
    rejections: list[Rejection] = []
    loaded = _collect(load_batches(context, range_key, taken), rejections)
    parts = list(validate_batches(context, range_key, loaded))
    refuse_rejections(range_key, rejections)
    filtered = record_range.count - sum(count_given(receipt) for _, receipt in parts)
    return prove_range(context, range_key, parts, filtered=filtered)[1]


def prepare_batches(context: MigrationContext, batches: Iterable[RecordBatch]) -> Iterator[RecordBatch]:
    """Filter and transform batches."""
    return transform_batches(filter_batches(batches, parse_filter(context.migration.options.filter)))


def count_given(receipt: Receipt) -> int:
    """Return how many records came into the load: written, skipped and rejected."""
    return sum(receipt.counts.get(name, 0) for name in ("written", "skipped", "rejected"))


def _collect(
    loaded: Iterable[tuple[PackedBatch, tuple[Rejection, ...]]], rejections: list[Rejection]
) -> Iterator[tuple[PackedBatch, tuple[Rejection, ...]]]:
    for packed, rejected in loaded:
        rejections += rejected
        yield packed, rejected
