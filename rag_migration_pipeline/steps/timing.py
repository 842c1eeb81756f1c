"""Timing of steps: the seconds that one step spends on a batch, without those of the steps around it.

Belongs here: the one place where `BatchDone` events are made. Does not belong here: anything that shows them.
"""

import time
from collections.abc import Iterator

from rag_migration_pipeline.events import BatchDone
from rag_migration_pipeline.records import RecordBatch
from rag_migration_pipeline.steps.context import MigrationContext


def timed(
    batches: Iterator[RecordBatch], context: MigrationContext, range_key: str, step: str
) -> Iterator[RecordBatch]:
    """Yield the batches and emit how long each took to be made."""
    while True:
        begun = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        report_batch(context, range_key, step, batch, time.perf_counter() - begun)
        yield batch


def report_batch(context: MigrationContext, range_key: str, step: str, batch: RecordBatch, duration_s: float) -> None:
    """Emit that a step finished a batch."""
    context.emit(BatchDone(context.migration.name, range_key, step, len(batch), batch.size_bytes(), duration_s))
