"""Targets: which id in the target a record of the source has or will have.

Belongs here: reading that off receipts, and working it out for records that are yet to be carried. Does not belong
here: how an id is written in a target (``ids.py``), the ids of all records before the first write
(``steps/new_ids.py``).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from rag_migration_pipeline.envelope import ENVELOPE_KEY, original_id, unpack
from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.filters.meaning import select_rows
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.records import RecordId
from rag_migration_pipeline.sightings import read_sightings
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.journal import ids_noted_in
from rag_migration_pipeline.steps.repairs import read_repairs
from rag_migration_pipeline.steps.transform import transform_batch


def written_under(state: StateFolder, range_key: str, ids: Collection[RecordId]) -> dict[RecordId, RecordId]:
    """Return the ids in the target under which records of a range were written; those that were not are left out.

    Args:
        state: The migration's state.
        range_key: The range, which has a receipt and sightings.
        ids: The records, as the source names them.
    """
    seen = read_sightings(state.sightings(range_key)) if ids else None
    if seen is None:
        return {}
    receipt = read_receipt(state.receipt(range_key))
    targets = dict(zip(receipt.source_ids, receipt.ids, strict=True))
    repairs = read_repairs(state.repairs(range_key))
    for source_id, row in repairs.rows.items():  # a repaired record may have got another name
        booked = repairs.target_ids[row]
        if booked is not None:
            targets[source_id] = booked
    pairs = zip(seen.ids, seen.source_ids, strict=True)
    return {stored: targets[source] for stored, source in pairs if stored in ids and source in targets}


def noted_under(context: MigrationContext, range_key: str, ids: Iterable[RecordId]) -> dict[RecordId, RecordId]:
    """Return the ids in the target that a range was about to write records under, and of which no receipt says so.

    None where a mapping sets ids, because another record may have got one of these since; nor one that others had
    before: whether it was written over is not known. Nor of a record that had another id before it was packed.

    Args:
        context: The migration.
        range_key: The range.
        ids: Records of the range, as the source names them; looked at where something was noted only.
    """
    noted = ids_noted_in(context.state, range_key)
    if not noted or (context.mapping is not None and context.mapping.sets_ids):
        return {}
    noted -= context.known_ids
    found: dict[RecordId, RecordId] = {}
    for record_id in ids if noted else ():
        with suppress(SchemaCompatibilityError):  # it had another id than it was planned with, before it was packed
            native = context.target_layout.id_rule.native(record_id)
            if native in noted:
                found[record_id] = native
    return found


def targets_of(
    context: MigrationContext, ids: Sequence[RecordId], originals: Mapping[RecordId, RecordId]
) -> dict[RecordId, RecordId]:
    """Return the ids in the target that records will have; those that a filter or a mapping leaves out may be missing.

    Where a mapping sets the ids, the records are read; otherwise the ids alone decide, and the filter is not asked.

    Args:
        context: The migration.
        ids: The records, as the source names them.
        originals: Some of them -> as they were named before an earlier migration packed them; of the others the source
            is asked.

    Raises:
        SchemaCompatibilityError: The target cannot have one of the ids.
    """
    rule = context.target_layout.id_rule
    if context.mapping is None or not context.mapping.sets_ids:
        known = {**_originals_of(context, [i for i in ids if i not in originals]), **originals}
        return {stored: rule.native(known.get(stored, stored)) for stored in ids}
    wanted = parse_filter(context.migration.options.filter)
    found: dict[RecordId, RecordId] = {}
    for page in context.source.fetch_pages(context.migration.source_collection, _pages(context, ids)):
        unpacked = unpack(page, context.source_layout)
        stored_of = dict(zip(unpacked.ids, page.ids, strict=True))
        taken = unpacked.take(select_rows(unpacked, wanted))
        mapped = transform_batch(taken, context.mapping, lambda _records, _rejections: None)[0]
        pairs = zip(mapped.source_ids or mapped.ids, mapped.ids, strict=True)
        found.update({stored_of[source]: rule.native(new) for source, new in pairs})
    return found


def _originals_of(context: MigrationContext, ids: Sequence[RecordId]) -> dict[RecordId, RecordId]:
    """Return the ids that records had before they were packed; a record that is gone by now is missing."""
    name = context.migration.source_collection
    batches = (context.source.fetch_contents(name, page) for page in _pages(context, ids))
    rows = (row for batch in batches for row in zip(batch.ids, batch.payloads, strict=True))
    return {record_id: original_id(record_id, payload.get(ENVELOPE_KEY)) for record_id, payload in rows}


def there_of(context: MigrationContext, ids: Sequence[RecordId]) -> set[RecordId]:
    """Return which of these ids the target has."""
    size, name = context.target.capabilities.page_count, context.migration.target_collection
    pages = (ids[start : start + size] for start in range(0, len(ids), size))
    return {record_id for page in pages for record_id in context.target.fetch_contents(name, page).ids}


def left_filter(context: MigrationContext, ids: Sequence[RecordId]) -> frozenset[RecordId]:
    """Return which of these records of the source the filter does not take now; none where there is no filter."""
    if context.migration.options.filter is None or not ids:
        return frozenset()
    return frozenset(ids).difference(taken_of(context, ids))


def taken_of(context: MigrationContext, ids: Sequence[RecordId]) -> set[RecordId]:
    """Return which of these records of the source the filter takes now."""
    wanted = parse_filter(context.migration.options.filter)
    taken: set[RecordId] = set()
    for ids_of_page in _pages(context, ids):
        page = context.source.fetch_contents(context.migration.source_collection, ids_of_page)
        taken.update(page.ids[row] for row in select_rows(unpack(page, context.source_layout), wanted))
    return taken


def _pages(context: MigrationContext, ids: Sequence[RecordId]) -> list[Sequence[RecordId]]:
    return [ids[start : start + context.page_count] for start in range(0, len(ids), context.page_count)]
