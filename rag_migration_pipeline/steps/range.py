"""One range, all steps in a row: the story of a range on one page, for callers that need no staging.

Belongs here: the chain of the steps. Does not belong here: what any of them does. The Dagster ops do the same with
staged files in between.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.prefetching import prefetched
from rag_migration_pipeline.receipts import Receipt
from rag_migration_pipeline.records import RecordBatch, RecordId, SetAside
from rag_migration_pipeline.sightings import Watch
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.extract import extract_batches
from rag_migration_pipeline.steps.filter import filter_batches
from rag_migration_pipeline.steps.leaving_out import noting_gone
from rag_migration_pipeline.steps.load import FailedBatch, OnFailure, load_batches
from rag_migration_pipeline.steps.set_aside import RangeQuarantine, refuse_rejections, stored_rejections
from rag_migration_pipeline.steps.task import RangeTask, open_task
from rag_migration_pipeline.steps.timing import report_batch
from rag_migration_pipeline.steps.transform import transform_batch, warning
from rag_migration_pipeline.steps.validate import prove_range, validate_batches


@dataclass(frozen=True)
class RangeOptions:
    """How a range is run, apart from what is done to it.

    Attributes:
        prefetch_bytes: Records of so many bytes may be read ahead of the writing; 0 reads when it is asked for.
        before_batch: Called before each batch is worked on; what it raises ends the range.
        on_failure: See `load_batches`; without it the first failed batch ends the range.
    """

    prefetch_bytes: int = 0
    before_batch: Callable[[], None] | None = None
    on_failure: OnFailure | None = None


def migrate_range(context: MigrationContext, range_key: str, options: RangeOptions = RangeOptions()) -> Receipt:
    """Carry one range from source to target and prove it; where something of it is pending, only that.

    Args:
        context: The migration.
        range_key: The range.
        options: How.

    Raises:
        SourceChangedError: Records of the manifest are gone from the source.
        RecordRejectedError: More records were set aside than max_rejected allows; the others are in the target.
        ValidationError: The target contradicts what was written.
    """
    task = open_task(context.state, context.manifest, range_key)
    quarantine, watch, failed = RangeQuarantine(context, task), Watch(), _Failed(options.on_failure)
    with quarantine.stored(), closing(_extracted(context, task, watch, options)) as extracted:
        taken = filter_batches(extracted, parse_filter(context.migration.options.filter), watch)
        given = quarantine.following(transformed(context, range_key, taken, quarantine.set_aside))
        on_failure = None if options.on_failure is None else failed.take
        loading = load_batches(context, range_key, given, is_whole=task.is_whole, on_failure=on_failure)
        parts = list(validate_batches(context, range_key, quarantine.answered(loading), watch))
    refuse_rejections(context, range_key, stored_rejections(context, range_key))
    set_aside = len(quarantine.rejections) - quarantine.refused_in_load
    return prove_range(context, task, parts, watch, set_aside=set_aside, failed=failed.source_ids)[1]


class _Failed:
    """Collects the records of batches that failed."""

    def __init__(self, on_failure: OnFailure | None) -> None:
        self.source_ids: list[RecordId] = []
        self._on_failure = on_failure

    def take(self, batch: FailedBatch) -> None:
        self.source_ids += batch.source_ids
        if self._on_failure is not None:
            self._on_failure(batch)


def _extracted(
    context: MigrationContext, task: RangeTask, watch: Watch, options: RangeOptions
) -> Generator[RecordBatch, None, None]:
    """Yield what is read, ahead of the writing where that is wanted."""
    batches = extract_batches(context, task.record_range, watch, task.repairs)
    if options.prefetch_bytes:
        batches = prefetched(batches, RecordBatch.size_bytes, options.prefetch_bytes)
    with noting_gone(context.state, task.key), closing(batches):
        for batch in batches:
            if options.before_batch is not None:
                options.before_batch()
            yield batch


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
