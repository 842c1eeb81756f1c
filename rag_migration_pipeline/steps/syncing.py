"""Syncing: the next generation of a proven migration, in which only what changed is to be done.

Belongs here: which ids belong to whom now, what is pending in each range, what forbids it. Does not belong here:
finding out what changed (``steps/changes.py``), how ranges are cut (``steps/recutting.py``), doing it
(``steps/range.py``), the first generation (``steps/planning.py``).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from rag_migration_pipeline.digests import digest_ids
from rag_migration_pipeline.errors import SchemaCompatibilityError
from rag_migration_pipeline.events import BothSidesChanged, ManifestMade
from rag_migration_pipeline.options import Deletes
from rag_migration_pipeline.plan import refuse_conflicts
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.records import RecordId, id_text
from rag_migration_pipeline.sightings import read_sightings
from rag_migration_pipeline.steps.both_changed import both_changed, refuse_both_changed
from rag_migration_pipeline.steps.changes import Changes
from rag_migration_pipeline.steps.context import (
    MigrationContext,
    refuse_many_gone,
    refuse_planned_anew,
    refuse_unproven,
)
from rag_migration_pipeline.steps.journal import noted_ids
from rag_migration_pipeline.steps.manifest import (
    Manifest,
    read_known_ids,
    read_left_ids,
    store_next_manifest,
)
from rag_migration_pipeline.steps.pending import Pending
from rag_migration_pipeline.steps.recutting import cut_anew, first_number
from rag_migration_pipeline.steps.targets import left_filter, taken_of, targets_of, there_of, written_under

SHOWN = 10


def plan_changes(context: MigrationContext, changes: Changes) -> Manifest:
    """Store the next generation of a migration, with what is pending in it, and return its manifest.

    Nothing is stored where something forbids it.

    Args:
        context: The migration, all ranges of which are proven.
        changes: What is other in the source.

    Raises:
        ManifestError: Ranges are not proven yet: what was pending in them would be forgotten.
        SchemaCompatibilityError: New records would meet others in the target.
        ConflictError: Ids of others are in the target, and the conflict policy forbids writing them; or records changed
            on both sides, and ``both_changed`` is fail.
        SourceChangedError: More records would be deleted than ``max_deletes`` allows.
    """
    with context.state.planning_lock():
        refuse_unproven(context)
        refuse_planned_anew(context)
        owners = _Owners(context, changes)
        _tell_both_changed(context, owners)
        owners.refuse_meetings()
        foreign = owners.foreign()
        ranges = cut_anew(context, changes)
        pending = {item.key: owners.pending_in(item.key, item.added) for item in ranges}
        doomed = {record_id for item in pending.values() for record_id in item.delete}
        count = len(doomed) + sum(len(item.mark) for item in pending.values())
        left_filter = "" if context.migration.options.filter is None else "or left the filter, "
        consequence = f"{left_filter}and would be deleted from the target, or marked there"
        refuse_many_gone(context, count, owners.carried, consequence, "raise max_deletes, or set deletes to keep")
        known = (set(read_known_ids(context.state, context.manifest)) | foreign) - doomed
        left = owners.left() - doomed
        ids = [record_id for item in ranges for record_id in item.ids]
        manifest = replace(
            context.manifest,
            generation=context.manifest.generation + 1,
            known_count=len(known),
            left_count=len(left),
            count=len(ids),
            ids_digest=digest_ids(ids),
            ranges=tuple(item.entry for item in ranges),
            next_number=first_number(context.manifest) + sum(not item.is_kept for item in ranges),
        )
        touched = {key: item for key, item in pending.items() if item.touched}
        store_next_manifest(context.state, manifest, [item.ids for item in ranges], known, left, touched)
    context.emit(ManifestMade(context.migration.name, len(manifest.ranges), manifest.count, is_resumed=False))
    return manifest


@dataclass(frozen=True)
class _Owners:
    """Which ids of the target belong to whom, before and after what changed is carried.

    All ids of records are as the source names them.
    """

    context: MigrationContext
    changes: Changes

    @cached_property
    def before(self) -> Mapping[str, Mapping[RecordId, RecordId]]:
        """Range -> record that changed or went -> id under which it was written."""
        keys = self.changes.changed.keys() | self.changes.gone.keys()
        state = self.context.state
        return {
            key: written_under(state, key, {*self.changes.changed.get(key, ()), *self.changes.gone.get(key, ())})
            for key in keys
        }

    @cached_property
    def others(self) -> set[RecordId]:
        """Ids of the records that stay as they are."""
        ids: set[RecordId] = set()
        for entry in self.context.manifest.ranges:
            ids.update(read_receipt(self.context.state.receipt(entry.key)).ids)
        return ids.difference(*(pairs.values() for pairs in self.before.values()))

    @property
    def carried(self) -> int:
        """How many records the target has of the migration."""
        return len(self.others) + sum(map(len, self.before.values()))

    @cached_property
    def after(self) -> Mapping[RecordId, RecordId]:
        """Record that is new or changed -> id that it will have."""
        ids = list(self.changes.added)
        originals: dict[RecordId, RecordId] = {}
        for key, changed in self.changes.changed.items():
            ids += changed
            seen = read_sightings(self.context.state.sightings(key))
            of_range = {} if seen is None else dict(zip(seen.ids, seen.source_ids, strict=True))
            originals |= {record_id: of_range[record_id] for record_id in changed if record_id in of_range}
        targets = targets_of(self.context, ids, originals)
        meeting = self._meeting(targets)
        if meeting and self.context.migration.options.filter is not None:
            taken = taken_of(self.context, meeting)
            targets = {i: target for i, target in targets.items() if i in taken or i not in set(meeting)}
        return targets

    def _meeting(self, targets: Mapping[RecordId, RecordId]) -> list[RecordId]:
        """Return the records whose id another one has or will have."""
        times = Counter(targets.values())
        return [record_id for record_id, target in targets.items() if times[target] > 1 or target in self.others]

    def refuse_meetings(self) -> None:
        """Refuse records that would meet in the target."""
        meeting = self._meeting(self.after)
        if meeting:
            shown = ", ".join(f"{id_text(i)!r} -> {id_text(self.after[i])}" for i in meeting[:SHOWN])
            raise SchemaCompatibilityError(
                f"{len(meeting)} new or changed records would get an id in the target that another one has: {shown}.",
                todo="Give them other ids at the source, or filter them out.",
            )

    def foreign(self) -> set[RecordId]:
        """Return the ids of others that are in the target and that new records would get.

        Raises:
            ConflictError: The conflict policy forbids writing them.
        """
        context = self.context
        ours = self.others | noted_ids(context.state) | set(read_left_ids(context.state, context.manifest))
        ours = ours.union(*(pairs.values() for pairs in self.before.values()))
        known = set(read_known_ids(context.state, context.manifest))
        candidates = [i for i in self.after.values() if i not in ours and i not in known]
        found = there_of(context, candidates)
        policy = context.migration.options.conflict
        wanted = set(self.after.values())
        refuse_conflicts(wanted, (known | found) & wanted, policy, context.migration)
        return found

    def pending_in(self, key: str, added: Sequence[RecordId]) -> Pending:
        """Return what is to be done in a range."""
        changed, gone = self.changes.changed.get(key, ()), self.changes.gone.get(key, ())
        before = self.before.get(key, {})
        policy = self.context.migration.options.deletes
        mirrors = policy is Deletes.MIRROR
        free = {i: before[i] for i in (*gone, *changed) if i in before and self._is_free(before[i], i)}
        lost = [free[i] for i in free if i in self.lost]
        delete = lost if mirrors else []
        kept = [i for i in changed if i in free and i not in self.dropped]
        stale = [free[i] for i in kept if mirrors or self.after.get(i, free[i]) != free[i]]
        return Pending(added, changed, gone, delete, stale, lost if policy is Deletes.TOMBSTONE else [])

    @cached_property
    def dropped(self) -> frozenset[RecordId]:
        """Changed records that the filter does not take any more: lost to the target as those that are gone are."""
        changed = [record_id for ids in self.changes.changed.values() for record_id in ids]
        return left_filter(self.context, changed)

    @cached_property
    def lost(self) -> frozenset[RecordId]:
        """Records that are gone from the source, or that the filter does not take any more."""
        return self.dropped.union(*self.changes.gone.values())

    def _is_free(self, target: RecordId, record_id: RecordId) -> bool:
        """Return whether nobody but this record has that id in the target, or will have it."""
        return target not in self.others and self._owner_after.get(target, record_id) == record_id

    @cached_property
    def _owner_after(self) -> Mapping[RecordId, RecordId]:
        return {target: record_id for record_id, target in self.after.items()}

    def left(self) -> set[RecordId]:
        """Return the ids that the migration wrote for records that it no longer has, and that nobody has now."""
        left = set(read_left_ids(self.context.state, self.context.manifest))
        for key, ids in self.changes.gone.items():
            left |= {self.before[key][record_id] for record_id in ids if record_id in self.before[key]}
        left -= self.others | self._owner_after.keys()
        noted = noted_ids(self.context.state) - left - self.others - self._owner_after.keys()
        return left | there_of(self.context, list(noted))


def _tell_both_changed(context: MigrationContext, owners: _Owners) -> None:
    """Tell which records changed on both sides.

    Raises:
        ConflictError: There are some, and the options forbid writing over them.
    """
    ids = tuple(both_changed(context, owners.before, owners.lost))
    refuse_both_changed(context, ids)
    if ids:
        context.emit(BothSidesChanged(context.migration.name, ids))
