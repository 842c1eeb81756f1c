"""Vanished: records of the target that no range claims, that were there when they were noted, and are gone.

Belongs here: what follows for the plan. Does not belong here: finding them, and failing for them (``steps/report.py``).

They are of two kinds. What the migration left over (``deletes: keep``, say) may be tidied away by anybody. What others
had there before is none of the migration's business either, but who loses records must hear of it: that fails one
proof. In both cases they are not expected any more afterwards, or no later proof could succeed.
"""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.records import RecordId
from rag_migration_pipeline.sightings import Fate, read_sightings
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.manifest import (
    open_manifest,
    read_known_ids,
    read_left_ids,
    store_outside,
)


def forget_vanished(context: MigrationContext, vanished: Collection[RecordId]) -> None:
    """Expect these ids no longer, neither as others' nor as left over; nothing where another run has planned on.

    Raises:
        StagingError: The folder cannot be written.
    """
    with context.state.planning_lock():
        manifest = open_manifest(context.state, context.migration)
        if manifest.generation != context.manifest.generation:
            return
        known = set(read_known_ids(context.state, manifest)).difference(vanished)
        left = set(read_left_ids(context.state, manifest)).difference(vanished)
        store_outside(context.state, replace(manifest, known_count=len(known), left_count=len(left)), known, left)


def ranges_that_skipped(context: MigrationContext, vanished: Collection[RecordId]) -> list[str]:
    """Return the ranges that left records to others that are gone now: what the source has is in the target no more.

    Where a mapping sets ids, all ranges that skipped any.
    """
    sets_ids = context.mapping is not None and context.mapping.sets_ids
    return [
        entry.key
        for entry in context.manifest.ranges
        if (skipped := _skipped(context, entry.key)) and (sets_ids or not skipped.isdisjoint(vanished))
    ]


def _skipped(context: MigrationContext, key: str) -> set[RecordId]:
    """Return the ids in the target of the records of a range that were left as others had them."""
    seen = read_sightings(context.state.sightings(key))
    found: set[RecordId] = set()
    for source_id, fate in zip(seen.source_ids, seen.fates.tolist(), strict=True) if seen is not None else ():
        if fate == Fate.SKIPPED:
            with suppress(SchemaCompatibilityError):  # a mapping gave it another one
                found.add(context.target_layout.id_rule.native(source_id))
    return found
