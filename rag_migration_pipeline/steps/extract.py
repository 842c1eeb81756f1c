"""Extract: reads a range as the manifest recorded it and unpacks what an earlier migration packed.

Belongs here: reading a range completely, or saying by name what is gone. Does not belong here: how a store reads
(``stores/``), where the records wait (``arrow.py``).
"""

from collections.abc import Generator, Iterator

from rag_migration_pipeline.batching import cut
from rag_migration_pipeline.envelope import unpack
from rag_migration_pipeline.errors import SourceChangedError
from rag_migration_pipeline.records import RecordBatch, RecordId, RecordRange, id_text
from rag_migration_pipeline.sightings import Watch
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.launching import HeldBack
from rag_migration_pipeline.steps.repairs import Repairs, read_repairs
from rag_migration_pipeline.steps.timing import timed


def extract_batches(
    context: MigrationContext,
    record_range: RecordRange,
    watch: Watch | None = None,
    repairs: Repairs | None = None,
    held: HeldBack | None = None,
) -> Generator[RecordBatch, None, None]:
    """Yield the range's records in the source's order, unpacked, cut by count and bytes.

    Records that came into the source after the manifest are not part of the plan and are passed over. A record that was
    repaired and replayed is taken as it was repaired.

    Args:
        context: The migration.
        record_range: The range.
        watch: Is shown the records as the source holds them.
        repairs: What stands for records of the source; None takes what the state has.
        held: Takes out what the launch leaves to a later one.

    Raises:
        SourceChangedError: Records of the manifest are gone from the source; names them.
    """
    name = context.migration.source_collection
    pages = read_records(context, record_range)
    waiting = set(record_range.ids)
    if repairs is None:
        repairs = read_repairs(context.state.repairs(record_range.key))
    for page in timed(pages, context, record_range.key, "extract"):
        for part in cut(_planned(page, waiting), context.page_count, context.migration.options.batch_bytes):
            stored, unpacked = part, unpack(part, context.source_layout)
            if held is not None:
                stored, unpacked = held.let_through(stored, unpacked)
            if watch is not None:
                watch.see(stored, unpacked.ids)
            yield repairs.put_in(unpacked)
    if waiting:
        gone = sorted(map(id_text, waiting))
        raise SourceChangedError(
            f"{len(gone)} of {record_range.count} records of range {record_range.key} are gone from "
            f"{context.source.address}, collection {name!r}, since the manifest was made: {', '.join(gone[:10])}.",
            todo="Bring them back, or run the migration again (rag-migrate --resume, or a job of Dagster): what is gone"
            " then as well is left out.",
            ids=gone,
        )


def read_records(context: MigrationContext, record_range: RecordRange) -> Iterator[RecordBatch]:
    """Yield a range's records as the source holds them: by key, or by id where other records lie between them.

    By key, records come as well that are not of the range's ids.
    """
    name, count = context.migration.source_collection, context.page_count
    if not (context.manifest.is_narrowed or record_range.is_listed):
        return context.source.read_range(name, record_range, count)
    pages = (record_range.ids[start : start + count] for start in range(0, record_range.count, count))
    return context.source.fetch_pages(name, pages)


def _planned(page: RecordBatch, waiting: set[RecordId]) -> RecordBatch:
    """Return the records of a page that are still waited for, and wait for them no longer."""
    rows = [row for row, record_id in enumerate(page.ids) if record_id in waiting]
    waiting.difference_update(page.ids)
    return page if len(rows) == len(page) else page.take(rows)
