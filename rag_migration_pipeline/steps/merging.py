"""Merging: a range of which only some records were carried, made one with what was known of the others.

Belongs here: receipts, sightings and counts of the whole range, and taking away from the target what has no owner any
more. Does not belong here: carrying records (the steps before), what is to be done (``steps/pending.py``).
"""

from collections.abc import Collection
from dataclasses import replace

from rag_migration_pipeline.errors import ValidationError
from rag_migration_pipeline.quarantine import read_quarantine_if_any
from rag_migration_pipeline.receipts import Receipt, join_receipts, read_receipt
from rag_migration_pipeline.records import RecordId, id_text
from rag_migration_pipeline.sightings import Fate, Sightings, join_sightings, read_sightings
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.journal import Journal
from rag_migration_pipeline.steps.pending import Pending
from rag_migration_pipeline.steps.repairs import read_repairs
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
    receipt = join_receipts([earlier.without(written_for(context.state, task.key, task.pending.touched)), part])
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


def written_for(state: StateFolder, range_key: str, ids: Collection[RecordId]) -> set[RecordId]:
    """Return the ids in the target under which records of a range were written.

    Args:
        state: The migration's state.
        range_key: The range, which has a receipt and sightings.
        ids: The records, as the source names them.
    """
    known = read_sightings(state.sightings(range_key))
    if known is None or not ids:
        return set()
    wanted = {known.source_ids[row] for row, record_id in enumerate(known.ids) if record_id in ids}
    receipt = read_receipt(state.receipt(range_key))
    found = {target for source, target in zip(receipt.source_ids, receipt.ids, strict=True) if source in wanted}
    repairs = read_repairs(state.repairs(range_key))
    targets = (repairs.target_ids[row] for source, row in repairs.rows.items() if source in wanted)
    return found | {target for target in targets if target is not None}


def take_away(context: MigrationContext, task: RangeTask, part: Receipt) -> int:
    """Delete what has no owner any more from the target, and see to it that it is gone; return how many there were.

    What stays there without an owner is noted: it is the migration's.

    Raises:
        ValidationError: The target still has some of them; names them.
    """
    pending = task.pending or Pending()
    written = set(part.ids)
    doomed = [i for i in (*pending.delete, *pending.stale) if i not in written]
    kept = written_for(context.state, task.key, pending.touched) - written - set(doomed) if not task.is_whole else set()
    if kept:
        Journal(context.state, task.key).note(sorted(kept, key=id_text))
    if not doomed:
        return 0
    name = context.migration.target_collection
    context.target.delete(name, doomed)
    left = [record_id for record_id in doomed if record_id in set(context.target.fetch(name, doomed).ids)]
    if left:
        raise ValidationError(
            f"{len(left)} records are still in {context.target.address}, collection {name!r}, after they were deleted: "
            f"{', '.join(map(id_text, left[:SHOWN]))}.",
            todo="Find out who else writes there, then run the range again.",
        )
    return len(doomed)
