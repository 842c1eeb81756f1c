"""Rollback: takes away what a migration made, and brings back what it overwrote, as far as that was kept.

Belongs here: which records are the migration's, refusing where something would be lost, the order in which things go.
Does not belong here: noting what is written (``steps/journal.py``), keeping what is overwritten
(``steps/pre_images.py``).

Where the migration made the target collection, the collection goes. Elsewhere exactly the records go that the migration
wrote, and those of others that it overwrote come back from their pre-images. The migration's state goes last, and at
once, so that a rollback that was killed is repeated, and a migration that runs afterwards starts afresh.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rag_migration_pipeline.errors import ConflictError, ManifestError, ValidationError
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.records import RecordBatch, RecordId, id_text
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.steps.journal import noted_ids
from rag_migration_pipeline.steps.manifest import Manifest, open_manifest, read_known_ids, read_left_ids
from rag_migration_pipeline.steps.pre_images import pre_images
from rag_migration_pipeline.steps.validate import compare_batches
from rag_migration_pipeline.stores.base import VectorStore

SHOWN = 10
_AT_ONCE = 10_000


@dataclass(frozen=True)
class RollbackReport:
    """What a rollback did.

    Attributes:
        dropped: Whether the target collection was dropped.
        deleted: Records that were deleted.
        restored: Records of others that were brought back.
        lost: Ids of others' records that could not be brought back; they stay as the migration wrote them.
    """

    dropped: bool = False
    deleted: int = 0
    restored: int = 0
    lost: tuple[RecordId, ...] = ()


def rollback(migration: Migration, state: StateFolder, target: VectorStore, *, force: bool = False) -> RollbackReport:
    """Make the target what it was before the migration's first write, and remove the migration's state.

    Args:
        migration: The migration; its source is not needed.
        state: Its state.
        target: The target store.
        force: Drop the collection although it holds records of others; leave overwritten records as they are.

    Raises:
        ManifestError: There is no manifest, so nothing is known of what was there before; or the collection is gone.
        ConflictError: Something of others would be lost; names it. Nothing is changed.
        MigrationLockedError: A run works on the migration.
        ValidationError: The target does not hold what was brought back; the state is kept.
    """
    with state.in_use(alone=True), state.planning_lock():
        manifest = open_manifest(state, migration)
        if not target.exists(migration.target_collection):
            report = _without_collection(manifest, migration, force=force)
        elif not manifest.target_existed:
            report = _drop(manifest, migration, state, target, force=force)
        else:
            report = _take_away(manifest, migration, state, target, force=force)
        state.remove()
    return report


def written_ids(state: StateFolder, manifest: Manifest) -> set[RecordId]:
    """Return the ids under which the migration wrote, or was about to write, in this and in earlier generations."""
    receipts = (read_receipt(path).ids for path in state.receipts.glob("*/*.arrow"))
    return noted_ids(state).union(read_left_ids(state, manifest), *receipts)


def _without_collection(manifest: Manifest, migration: Migration, *, force: bool) -> RollbackReport:
    if manifest.target_existed and not force:
        raise ManifestError(
            f"collection {migration.target_collection!r} was in {migration.target.address} before the migration, and "
            "is gone: there is nothing to roll back.",
            todo="Bring it back first, or roll back with force, which removes the migration's state only.",
        )
    return RollbackReport()


def _drop(
    manifest: Manifest, migration: Migration, state: StateFolder, target: VectorStore, *, force: bool
) -> RollbackReport:
    name = migration.target_collection
    written = written_ids(state, manifest)
    present = _present(target, name)
    foreign = present - written
    if foreign and not force:
        raise ConflictError(
            f"collection {name!r} in {target.address} was made by migration {migration.name!r}, and holds "
            f"{len(foreign)} records now that are not the migration's: {_named(foreign)}.",
            todo="Copy them elsewhere first, or roll back with force, which drops them with the collection.",
            ids=sorted(map(id_text, foreign)),
        )
    target.drop(name)
    return RollbackReport(dropped=True, deleted=len(present))


def _take_away(
    manifest: Manifest, migration: Migration, state: StateFolder, target: VectorStore, *, force: bool
) -> RollbackReport:
    """Put the pre-images back, then delete what is the migration's alone."""
    name = migration.target_collection
    written = written_ids(state, manifest)
    known = set(read_known_ids(state, manifest))
    absent = {record_id for _, gone in pre_images(state) for record_id in gone}
    kept = {record_id for batch, _ in pre_images(state) for record_id in batch.ids}
    lost: set[RecordId] = set()
    if state.overwritten_unkept.exists():  # under the migration's own policy, or under that of a launch
        lost = (written & known) - kept - absent
    if lost and not force:
        raise ConflictError(
            f"migration {migration.name!r} overwrote {len(lost)} records of others in {target.address}, collection "
            f"{name!r}, and did not keep them (keep_overwritten was not set): {_named(lost)}.",
            todo="Restore them from a backup, or roll back with force, which leaves them as the migration wrote them.",
            ids=sorted(map(id_text, lost)),
        )
    restored = sum(_restore(target, name, batch) for batch, _ in pre_images(state))
    doomed = list(_present(target, name) & ((written - known) | absent) - kept)
    for start in range(0, len(doomed), _AT_ONCE):
        target.delete(name, doomed[start : start + _AT_ONCE])
    target.finish_loading(name)
    left = _present(target, name) & set(doomed)
    if left:
        raise ValidationError(
            f"{len(left)} records are still in {target.address}, collection {name!r}, after they were deleted: "
            f"{_named(left)}.",
            todo="Find out who writes there, then roll back again.",
        )
    return RollbackReport(deleted=len(doomed), restored=restored, lost=tuple(sorted(lost, key=id_text)))


def _restore(target: VectorStore, name: str, batch: RecordBatch) -> int:
    """Put records back and read them back.

    Raises:
        ValidationError: They are not as they were; names them.
    """
    if not len(batch):
        return 0
    target.write(name, batch)  # what came out of the store goes back in unscreened
    found = target.fetch(name, batch.ids)
    vectors, held = target.spec(name).vectors, target.capabilities
    normalised = frozenset(vector.name for vector in vectors if vector.metric in held.normalised_metrics)
    tolerances = {vector.name: held.tolerance_of(vector) for vector in vectors}
    findings = compare_batches(batch, found, normalised, tolerances)
    if not findings.is_clean:
        raise ValidationError(
            f"records that were brought back into {target.address}, collection {name!r}, are not as they were: "
            f"{findings.summary()}.",
            todo="Find out who else writes there, then roll back again; the pre-images are kept.",
            report=findings,
        )
    return len(batch)


def _present(target: VectorStore, name: str) -> set[RecordId]:
    return {record_id for page in target.iter_ids(name) for record_id in page}


def _named(ids: Iterable[RecordId]) -> str:
    return ", ".join(sorted(map(id_text, ids))[:SHOWN])
