"""Both changed: records that the source changed or lost, and that somebody changed in the target as well.

Belongs here: finding them, by what the receipts say was written. Does not belong here: what the source changed
(``steps/changes.py``), what is done about it (``steps/syncing.py``).

Payloads, documents and partitions are compared, of the records concerned only; a change in a vector alone is not seen.
"""

from collections.abc import Iterator, Mapping

from rag_migration_pipeline.digests import digest_contents
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.records import RecordId
from rag_migration_pipeline.steps.context import MigrationContext


def both_changed(context: MigrationContext, before: Mapping[str, Mapping[RecordId, RecordId]]) -> Iterator[RecordId]:
    """Yield the ids, as the target names them, of records that are other there than they were written.

    One that somebody deleted there counts as well.

    Args:
        context: The migration, all ranges of which are proven.
        before: Range -> record that changed or went in the source -> id under which it was written.
    """
    name, size = context.migration.target_collection, context.target.capabilities.page_count
    for key in sorted(before):
        ids = list(before[key].values())
        receipt = read_receipt(context.state.receipt(key)) if ids else None
        written = {} if receipt is None else dict(zip(receipt.ids, receipt.contents, strict=True))
        for start in range(0, len(ids), size):
            page = ids[start : start + size]
            found = context.target.fetch_contents(name, page)
            held = dict(zip(found.ids, digest_contents(found), strict=True))
            yield from (record_id for record_id in page if held.get(record_id) != written.get(record_id))
