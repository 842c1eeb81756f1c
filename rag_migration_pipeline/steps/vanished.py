"""Vanished: records of the target that no range claims, that were there when they were noted, and are gone.

Belongs here: what follows for the plan. Does not belong here: finding them, and failing for them (``steps/report.py``).

They are of two kinds. What was the migration's once (``deletes: keep`` left it over, say) may be tidied away by
anybody: it is expected no longer. What others had there before is none of the migration's business either, but who
loses records must hear of it: that fails a proof and is noted. Whoever begins the next run looks once more: what is
back is others' as before; what is still gone is expected no longer, and what was skipped for its sake is carried.
"""

from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.receipts import read_counts
from rag_migration_pipeline.records import RecordId, id_text
from rag_migration_pipeline.sightings import Fate, read_sightings
from rag_migration_pipeline.state import EARLIER
from rag_migration_pipeline.state_files import staging_errors
from rag_migration_pipeline.steps.context import MigrationContext, as_stored, with_manifest
from rag_migration_pipeline.steps.id_notes import read_note, write_note
from rag_migration_pipeline.steps.journal import Journal
from rag_migration_pipeline.steps.manifest import open_manifest, read_known_ids, read_left_ids, store_outside
from rag_migration_pipeline.steps.targets import there_of


def forget_vanished(context: MigrationContext, ids: Collection[RecordId]) -> None:
    """Expect ids that were the migration's no longer; they stay known as such. Nothing where another run planned on.

    Raises:
        StagingError: The folder cannot be written.
    """
    state = context.state
    with state.planning_lock():
        manifest = open_manifest(state, context.migration)
        if manifest.generation == context.manifest.generation:
            Journal(state, f"{EARLIER}_left").note(sorted(ids, key=id_text))
            known, left = (set(read(state, manifest)).difference(ids) for read in (read_known_ids, read_left_ids))
            store_outside(state, replace(manifest, known_count=len(known), left_count=len(left)), known, left)


def note_vanished(context: MigrationContext, ids: Iterable[RecordId]) -> None:
    """Note which records of others a proof missed.

    Raises:
        StagingError: The folder cannot be written.
    """
    write_note(context.state.vanished, sorted(map(id_text, ids)))


def without_vanished(context: MigrationContext) -> MigrationContext:
    """Return a migration that expects no longer what the last proof missed of others' records and is still gone.

    Only for whoever begins a run.

    Raises:
        StagingError: The folder cannot be written.
    """
    state = context.state
    if not state.vanished.exists():
        return context
    with state.planning_lock():
        context = as_stored(context)
        known = set(read_known_ids(state, context.manifest))
        noted = known.intersection(read_note(state.vanished, "Remove it; the next proof names again what is gone."))
        gone = noted - there_of(context, list(noted))
        if gone:
            for key in _ranges_that_skipped(context, gone):
                Journal(state, key).withdraw_receipt()
            left = read_left_ids(state, context.manifest)
            manifest = replace(context.manifest, known_count=len(known - gone))
            store_outside(state, manifest, known - gone, left)
            context = with_manifest(context, manifest)
        with staging_errors(state.vanished):
            state.vanished.unlink(missing_ok=True)
    return context


def _ranges_that_skipped(context: MigrationContext, gone: Collection[RecordId]) -> list[str]:
    """Return the proven ranges that left records to others that are gone; those too of which it is not known which."""
    sets_ids = context.mapping is not None and context.mapping.sets_ids
    found = []
    for entry in context.manifest.ranges:
        receipt = context.state.receipt(entry.key)
        if receipt.exists() and read_counts(receipt).get("skipped"):
            skipped = None if sets_ids else _skipped(context, entry.key)
            if skipped is None or not skipped.isdisjoint(gone):
                found.append(entry.key)
    return found


def _skipped(context: MigrationContext, key: str) -> set[RecordId] | None:
    """Return the ids in the target of the records of a range that were left as others had them; None if unknown."""
    seen = read_sightings(context.state.sightings(key))
    if seen is None:
        return None
    found: set[RecordId] = set()
    for source_id, fate in zip(seen.source_ids, seen.fates.tolist(), strict=True):
        if fate == Fate.SKIPPED:
            with suppress(SchemaCompatibilityError):  # it has another id than it was planned with
                found.add(context.target_layout.id_rule.native(source_id))
    return found
