"""Both changed: records that the source changed or lost, and that somebody changed in the target as well.

Belongs here: finding them, by what the receipts say was written. Does not belong here: what the source changed
(``steps/changes.py``), what is done about it (``steps/syncing.py``).

Payloads, documents and partitions are compared, of the records concerned only; a change in a vector alone is not seen.
Where a sync would leave the target as it is, because both sides are the same say, there is nothing to decide.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from rag_migration_pipeline.digests import digest_contents
from rag_migration_pipeline.envelope import unpack
from rag_migration_pipeline.errors import ConflictError
from rag_migration_pipeline.options import BothChanged, Deletes
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.records import RecordId, id_text
from rag_migration_pipeline.steps.changes import pack_anew
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.journal import ids_noted_in
from rag_migration_pipeline.steps.pending import read_pending
from rag_migration_pipeline.steps.targets import left_filter, written_under

SHOWN = 10


def both_changed(
    context: MigrationContext, before: Mapping[str, Mapping[RecordId, RecordId]], lost: Collection[RecordId]
) -> Iterator[RecordId]:
    """Yield the ids, as the target names them, of records that are other there than they were written.

    One that somebody deleted there counts as well.

    Args:
        context: The migration, all ranges of which are proven.
        before: Range -> record that changed or went in the source -> id under which it was written.
        lost: Those of these records that went, or that the filter takes no more.
    """
    size = context.target.capabilities.page_count
    for key in sorted(before):
        receipt = read_receipt(context.state.receipt(key)) if before[key] else None
        written = {} if receipt is None else dict(zip(receipt.ids, receipt.contents, strict=True))
        records = list(before[key])
        for start in range(0, len(records), size):
            page = {record_id: before[key][record_id] for record_id in records[start : start + size]}
            held = _held(context, list(page.values()))
            differing = [i for i, target_id in page.items() if held.get(target_id) != written.get(target_id)]
            wanted = _wanted(context, [i for i in differing if i not in lost])
            keeps = context.migration.options.deletes is Deletes.KEEP
            for record_id in differing:
                is_settled = (keeps and record_id in lost) or held.get(page[record_id]) == wanted.get(page[record_id])
                if not is_settled:
                    yield page[record_id]


def refuse_changed_meanwhile(context: MigrationContext) -> None:
    """Refuse to go on with a sync where somebody changed records in the target that it is still to write or take away.

    They were compared when it was planned; since then it may have been cut short. What an attempt of it may have
    written already is not looked at.

    Raises:
        ConflictError: There are some, and ``both_changed`` is fail.
    """
    if context.migration.options.both_changed is not BothChanged.FAIL:
        return
    before: dict[str, Mapping[RecordId, RecordId]] = {}
    lost: set[RecordId] = set()
    for entry in context.manifest.ranges:
        pending = read_pending(context.state, entry.key, context.manifest.generation)
        if pending is None or not context.state.receipt(entry.key).exists():
            continue
        lost |= {*pending.gone, *left_filter(context, pending.changed)}
        noted = ids_noted_in(context.state, entry.key)
        found = written_under(context.state, entry.key, {*pending.changed, *pending.gone})
        before[entry.key] = {record_id: target_id for record_id, target_id in found.items() if target_id not in noted}
    refuse_both_changed(context, tuple(both_changed(context, before, lost)))


def refuse_both_changed(context: MigrationContext, ids: Sequence[RecordId]) -> None:
    """Refuse to write over records that changed on both sides, where the options forbid it.

    Raises:
        ConflictError: See above.
    """
    if ids and context.migration.options.both_changed is BothChanged.FAIL:
        shown = ", ".join(map(id_text, ids[:SHOWN]))
        raise ConflictError(
            f"{len(ids)} records changed in the source, and in {context.target.address}, collection "
            f"{context.migration.target_collection!r}, as well since the last sync: {shown}; both_changed is fail.",
            todo="Make them the same on both sides, or set both_changed to overwrite, which takes what the source has.",
        )


def _held(context: MigrationContext, ids: Sequence[RecordId]) -> dict[RecordId, bytes]:
    """Return a digest of the contents of each of these records that the target has."""
    found = context.target.fetch_contents(context.migration.target_collection, ids)
    return dict(zip(found.ids, digest_contents(found), strict=True))


def _wanted(context: MigrationContext, ids: Sequence[RecordId]) -> dict[RecordId, bytes]:
    """Return, by their ids in the target, a digest of the contents that records of the source would have there now."""
    if not ids:
        return {}
    stored = context.source.fetch(context.migration.source_collection, ids)
    packed = pack_anew(context, unpack(stored, context.source_layout)).records
    return dict(zip(packed.ids, digest_contents(packed), strict=True))
