"""One range, all steps in a row: the story of a range on one page, for callers that need no staging.

Belongs here: the chain of the steps. Does not belong here: what any of them does. The Dagster ops do the same with
staged files in between.
"""

import time
from collections.abc import Iterable, Iterator

from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.receipts import Receipt
from rag_migration_pipeline.records import RecordBatch, SetAside
from rag_migration_pipeline.sightings import Watch
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.extract import extract_batches
from rag_migration_pipeline.steps.filter import filter_batches
from rag_migration_pipeline.steps.load import load_batches
from rag_migration_pipeline.steps.set_aside import RangeQuarantine, refuse_rejections, stored_rejections
from rag_migration_pipeline.steps.task import open_task
from rag_migration_pipeline.steps.timing import report_batch
from rag_migration_pipeline.steps.transform import transform_batch, warning
from rag_migration_pipeline.steps.validate import prove_range, validate_batches


def migrate_range(context: MigrationContext, range_key: str) -> Receipt:
    """Carry one range from source to target and prove it; where something of it is pending, only that.

    Raises:
        SourceChangedError: Records of the manifest are gone from the source.
        RecordRejectedError: More records were set aside than max_rejected allows; the others are in the target.
        ValidationError: The target contradicts what was written.
    """
    task = open_task(context.state, context.manifest, range_key)
    quarantine, watch = RangeQuarantine(context, task), Watch()
    with quarantine.stored():
        extracted = extract_batches(context, task.record_range, watch, task.repairs)
        taken = filter_batches(extracted, parse_filter(context.migration.options.filter), watch)
        given = quarantine.following(transformed(context, range_key, taken, quarantine.set_aside))
        loaded = quarantine.answered(load_batches(context, range_key, given, is_whole=task.is_whole))
        parts = list(validate_batches(context, range_key, loaded, watch))
    refuse_rejections(context, range_key, stored_rejections(context, range_key))
    set_aside = len(quarantine.rejections) - quarantine.refused_in_load
    return prove_range(context, task, parts, watch, set_aside=set_aside)[1]


def transformed(
    context: MigrationContext, range_key: str, batches: Iterable[RecordBatch], set_aside: SetAside
) -> Iterator[tuple[RecordBatch, RecordBatch]]:
    """Transform batches one by one; yield each with the same records as they were read."""
    warn = warning(context.emit, context.migration.name, range_key)
    for taken in batches:
        if context.mapping is None:
            yield taken, taken
            continue
        begun = time.perf_counter()
        mapped, as_read = transform_batch(taken, context.mapping, set_aside, warn)
        report_batch(context, range_key, "transform", mapped, time.perf_counter() - begun)
        if len(mapped):
            yield mapped, as_read
