"""Filter: keeps the records that the migration takes.

Belongs here: applying a parsed filter to batches. Does not belong here: what a filter means (``filters/meaning.py``).
"""

from collections.abc import Iterable, Iterator

from rag_migration_pipeline.filters.meaning import select_rows
from rag_migration_pipeline.filters.nodes import Filter
from rag_migration_pipeline.records import RecordBatch
from rag_migration_pipeline.sightings import Fate, Watch


def filter_batches(batches: Iterable[RecordBatch], wanted: Filter, watch: Watch | None = None) -> Iterator[RecordBatch]:
    """Yield the batches without the records that the filter does not take; empty batches are left out.

    Args:
        batches: The records; not changed.
        wanted: The filter.
        watch: Is told which records are left out.
    """
    for batch in batches:
        rows = select_rows(batch, wanted)
        if len(rows) == len(batch):
            yield batch
            continue
        if watch is not None:
            taken = set(rows)
            watch.note(Fate.FILTERED, (i for row, i in enumerate(batch.ids) if row not in taken))
        if rows:
            yield batch.take(rows)
