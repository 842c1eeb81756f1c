"""Merging: a range of which only some records were carried, made one with what was known of the others.

Belongs here: receipts, sightings and counts of the whole range, and taking away from the target what has no owner any
more. Does not belong here: carrying records (the steps before), what is to be done (``steps/pending.py``).
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from rag_migration_pipeline.errors import ValidationError
from rag_migration_pipeline.options import Deletes
from rag_migration_pipeline.quarantine import read_quarantine_if_any
from rag_migration_pipeline.receipts import Receipt, join_receipts, read_receipt
from rag_migration_pipeline.records import RecordId, id_text
from rag_migration_pipeline.sightings import Fate, Sightings, join_sightings, read_sightings
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.journal import Journal, ids_noted_in
from rag_migration_pipeline.steps.pending import Pending
from rag_migration_pipeline.steps.targets import noted_under, there_of, written_under
from rag_migration_pipeline.steps.task import RangeTask

SHOWN = 10


def merged(context: MigrationContext, task: RangeTask, part: Receipt, seen: Sightings) -> tuple[Receipt, Sightings]:
    """Return receipt and sightings of a whole range, of which this run carried the pending part.

    Args:
        context: The migration.
        task: What was to be done.
        part: The receipt of what was carried.
        seen: What of it was seen.
    """
    if task.is_whole or task.pending is None:
        return part, seen
    earlier = read_receipt(context.state.receipt(task.key))
    known = read_sightings(context.state.sightings(task.key))
    assert known is not None  # see `open_task`
    # An attempt that was killed after it stored its receipt left records in it of which the sightings know nothing yet.
    carried = set(seen.source_ids)
    pairs = zip(earlier.source_ids, earlier.ids, strict=True)
    replaced = {target_id for source_id, target_id in pairs if source_id in carried}
    replaced.update(written_under(context.state, task.key, task.pending.touched).values())
    receipt = join_receipts([earlier.without(replaced), part])
    sightings = join_sightings([known.without(task.pending.touched), seen])
    quarantine = read_quarantine_if_any(context.state.quarantine(task.key))
    is_compared = all(item.counts.get("compared", 0) == len(item) for item in (earlier, part))
    counts = {
        "written": len(receipt),
        "skipped": sightings.count(Fate.SKIPPED),
        "filtered": sightings.count(Fate.FILTERED),
        "rejected": 0 if quarantine is None else len(quarantine),
        "compared": len(receipt) if is_compared else 0,
    }
    return replace(receipt, counts=counts), sightings


def failed_ids(seen: Sightings, failed: Collection[RecordId]) -> list[RecordId]:
    """Return the ids, as the source names them, of records that are named by their ids of before any packing."""
    wanted = Counter(failed)
    found = []
    for record_id, source_id in zip(seen.ids, seen.source_ids, strict=True) if wanted else ():
        if wanted[source_id]:
            wanted[source_id] -= 1
            found.append(record_id)
    return found


def still_pending(task: RangeTask, waiting: Sequence[RecordId], part: Receipt) -> Pending:
    """Return what of a task is still to be done after records of it failed."""
    before = task.pending or Pending()
    changed, written = set(before.changed), set(part.ids)
    return Pending(
        load=[record_id for record_id in waiting if record_id not in changed],
        changed=[record_id for record_id in waiting if record_id in changed],
        stale=[record_id for record_id in before.stale if record_id not in written],
    )


def mark_gone(context: MigrationContext, ids: Sequence[RecordId]) -> None:
    """Mark records of the target as gone from the source; one that has the mark keeps the time of its first one.

    A field of that name that is empty (null, an empty text, false, 0) is no mark: a source may have one.

    Raises:
        ValidationError: The target refuses some of them with the mark; names them and why.
    """
    name, key = context.migration.target_collection, context.migration.options.tombstone
    stamp, size = datetime.now(UTC).isoformat(timespec="seconds"), context.target.capabilities.page_count
    for start in range(0, len(ids), size):
        found = context.target.fetch(name, ids[start : start + size])
        rows = [row for row, payload in enumerate(found.payloads) if not payload.get(key)]
        part = found.take(rows)
        marked = part.with_columns(payloads=[{**payload, key: stamp} for payload in part.payloads])
        refused = context.target.upsert(name, marked).rejections if rows else ()
        if refused:
            shown = "; ".join(f"{id_text(item.record_id)}: {item.reason}" for item in refused[:SHOWN])
            raise ValidationError(
                f"{len(refused)} records that the source lost cannot be marked with {key!r} in "
                f"{context.target.address}, collection {name!r}: {shown}.",
                todo="Let the target hold the field (Milvus: a typed field of text, or dynamic ones), or keep deletes.",
            )


def _written_in_vain(
    context: MigrationContext, task: RangeTask, written: Collection[RecordId], waiting: Collection[RecordId]
) -> list[RecordId]:
    """Return the ids in the target that were noted for records of a task and that nobody has now; for a mirror only."""
    if context.migration.options.deletes is not Deletes.MIRROR or ids_noted_in(context.state, task.key) <= set(written):
        return []
    unwaiting = set(task.record_range.ids).difference(waiting)
    return [i for i in noted_under(context, task.key, unwaiting).values() if i not in written]


def take_away(context: MigrationContext, task: RangeTask, part: Receipt, waiting: Collection[RecordId] = ()) -> None:
    """Delete what has no owner any more from the target, and see to it that it is gone.

    What stays there without an owner is noted: it is the migration's. Under ``deletes: mirror`` what an attempt that
    was cut short wrote of a record, which changed since and is not written any more, goes as well.

    Args:
        context: The migration.
        task: What was to be done.
        part: The receipt of what was carried.
        waiting: Records, as the source names them, that failed: what was written for them before stays theirs.

    Raises:
        ValidationError: The target still has some of them; names them.
    """
    pending = task.pending or Pending()
    before = {} if task.is_whole else written_under(context.state, task.key, pending.touched)
    written = {*part.ids, *(before[record_id] for record_id in waiting if record_id in before)}
    vain = _written_in_vain(context, task, written, waiting)
    doomed = [i for i in dict.fromkeys((*pending.delete, *pending.stale, *vain)) if i not in written]
    kept = set(before.values()) - written - set(doomed)
    # Noted too: what a look at the target may not take for somebody else's deletion after a kill.
    ours = context.known_ids.intersection(doomed).union(i for i in pending.stale if i not in written)
    if kept or ours:
        Journal(context.state, task.key).note(sorted(kept | ours, key=id_text))
    mark_gone(context, [record_id for record_id in pending.mark if record_id not in written])
    if not doomed:
        return
    name = context.migration.target_collection
    context.target.delete(name, doomed)
    there = there_of(context, doomed)
    left = [record_id for record_id in doomed if record_id in there]
    if left:
        raise ValidationError(
            f"{len(left)} records are still in {context.target.address}, collection {name!r}, after they were deleted: "
            f"{', '.join(map(id_text, left[:SHOWN]))}.",
            todo="Find out who else writes there, then run the range again.",
        )
