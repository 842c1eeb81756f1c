"""Suspects: planned ids that would be refused, and whether the filter takes their records at all.

Belongs here: asking the source for just those records. Does not belong here: what is refused (``plan.py``).

A filter that the source does not evaluate completely leaves ids in the listing whose records are not taken later. Where
two of these meet in the target, or are in it already, nothing is wrong; only then are records read to find out.
"""

from collections.abc import Collection, Sequence

from rag_migration_pipeline.envelope import Layout, unpack
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.filters.meaning import select_rows
from rag_migration_pipeline.records import RecordId
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.stores.base import VectorStore


def without_untaken(
    migration: Migration,
    source: VectorStore,
    layout: Layout,
    listed: tuple[Sequence[RecordId], Sequence[RecordId]],
    suspects: Collection[RecordId],
) -> list[RecordId]:
    """Return the original ids without those suspects whose records the migration's filter does not take.

    Args:
        migration: The migration.
        source: Its source store.
        layout: How the source collection holds records.
        listed: The planned ids as the source names them, and as they were before an earlier migration packed them.
        suspects: Original ids that would be refused.
    """
    wanted = parse_filter(migration.options.filter)
    stored_ids, originals = listed
    rows = [row for row, original in enumerate(originals) if original in suspects]
    row_of = {stored_ids[row]: row for row in rows}
    size = source.capabilities.page_count
    pages = ([stored_ids[row] for row in rows[start : start + size]] for start in range(0, len(rows), size))
    taken: set[int] = set()
    for page in source.fetch_pages(migration.source_collection, pages):
        taken.update(row_of[page.ids[position]] for position in select_rows(unpack(page, layout), wanted))
    untaken = set(rows) - taken
    return [original for row, original in enumerate(originals) if row not in untaken]
