"""Leaving out: records that were planned and that the source has lost before they were carried.

Belongs here: noting what a range did not find, and planning on without it. Does not belong here: finding it
(``steps/extract.py``), what a sync makes of records that were carried and are gone since (``steps/syncing.py``).

A range that does not find all its records fails by their names. What it noted is looked at when the migration is
planned again (the first step of a run): what is still gone then leaves the plan, loudly, and the range goes on without
it. Otherwise a source that loses a record between its listing and its reading would stop a migration for good.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from rag_migration_pipeline.digests import digest_ids, digest_texts
from rag_migration_pipeline.errors import SourceChangedError
from rag_migration_pipeline.events import RecordsGone
from rag_migration_pipeline.options import Deletes
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.records import RecordId, id_text
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.state_files import staging_errors
from rag_migration_pipeline.steps.context import MigrationContext, as_stored, refuse_many_gone, with_manifest
from rag_migration_pipeline.steps.id_notes import read_note, write_note
from rag_migration_pipeline.steps.journal import Journal
from rag_migration_pipeline.steps.manifest import (
    Manifest,
    RangeEntry,
    iter_range_ids,
    proven_keys,
    read_known_ids,
    read_left_ids,
    read_range_ids,
    store_next_manifest,
)
from rag_migration_pipeline.steps.pending import Pending, read_pending
from rag_migration_pipeline.steps.targets import noted_under, written_under

_IF_DAMAGED = "Remove it; the range then says again what is gone."


@contextmanager
def noting_gone(state: StateFolder, range_key: str) -> Iterator[None]:
    """Note which records a range did not find, where that is what the block fails with; else what was noted is over."""
    try:
        yield
    except SourceChangedError as error:
        write_note(state.gone(range_key), error.facts.get("ids", ()))
        raise
    with staging_errors(state.gone(range_key)):
        state.gone(range_key).unlink(missing_ok=True)


def gone_digest(state: StateFolder) -> str:
    """Return a digest of what ranges noted as gone; empty where none did."""
    texts = [path.name.encode() + path.read_bytes() for path in sorted(state.all_gone.glob("*/*.json"))]
    return digest_texts(texts) if texts else ""


def without_gone(context: MigrationContext) -> MigrationContext:
    """Return a migration without the records that its ranges did not find and that are still gone; else as it is.

    Only for whoever begins a run: steps that are under way have the manifest of before.

    Raises:
        SourceChangedError: More records are gone than ``max_deletes`` allows to be taken away.
        StagingError: The folder cannot be written.
    """
    if not context.state.all_gone.exists():
        return context
    with context.state.planning_lock():
        context = as_stored(context)
        done = set(proven_keys(context.state, context.manifest))
        gone = _still_gone(context, _noted(context, done))
        if gone:
            refuse_many_gone(context, sum(map(len, gone.values())), context.manifest.count, "and would be left out")
            manifest = _store_without(context, gone, done)
            named = sorted((record_id for ids in gone.values() for record_id in ids), key=id_text)
            context.emit(RecordsGone(context.migration.name, tuple(named)))
            context = with_manifest(context, manifest)
        _forget(context)
    return context


def _noted(context: MigrationContext, done: Collection[str]) -> dict[str, list[RecordId]]:
    """Return what ranges that are not proven did not find."""
    keys = [entry.key for entry in context.manifest.ranges if entry.key not in done]
    return {key: read_note(context.state.gone(key), _IF_DAMAGED) for key in keys if context.state.gone(key).exists()}


def _still_gone(context: MigrationContext, noted: Mapping[str, Sequence[RecordId]]) -> dict[str, set[RecordId]]:
    """Return which of these records are planned, and not in the source now either."""
    name, size = context.migration.source_collection, context.source.capabilities.page_count
    gone: dict[str, set[RecordId]] = {}
    for key, ids in noted.items():
        missing = set(ids).intersection(read_range_ids(context.state, context.manifest, key).ids)
        for start in range(0, len(ids), size):
            missing.difference_update(context.source.fetch_contents(name, ids[start : start + size]).ids)
        if missing:
            gone[key] = missing
    return gone


def _store_without(context: MigrationContext, gone: Mapping[str, set[RecordId]], done: Collection[str]) -> Manifest:
    """Store the next generation, which has the same ranges without these records, and return its manifest.

    A range that lost some is carried whole, whatever was carried of it before: what is known of its records may be from
    two moments by now. Its receipt goes before the manifest comes: a kill in between never makes it seem proven.
    """
    state, before = context.state, context.manifest
    parts: list[list[RecordId]] = []
    entries: list[RangeEntry] = []
    pending: dict[str, Pending] = {}
    for entry, planned in zip(before.ranges, iter_range_ids(state, before), strict=True):
        lost = gone.get(entry.key, set())
        ids = [i for i in planned.ids if i not in lost]
        parts.append(ids)
        entries.append(replace(entry, count=len(ids), ids_digest=digest_ids(ids)) if lost else entry)
        left = None if entry.key in done else read_pending(state, entry.key, before.generation)
        left = _pending_without(context, entry.key, left, lost) if lost else left
        if left is not None:
            pending[entry.key] = left
    known = set(read_known_ids(state, before)).difference(*(item.delete for item in pending.values()))
    manifest = replace(
        before,
        generation=before.generation + 1,
        known_count=len(known),
        count=sum(map(len, parts)),
        ids_digest=digest_ids([i for ids in parts for i in ids]),
        ranges=tuple(entries),
    )
    for key in gone:
        Journal(state, key).withdraw_receipt()
    store_next_manifest(state, manifest, parts, known, read_left_ids(state, before), pending)
    return manifest


def _pending_without(
    context: MigrationContext, key: str, pending: Pending | None, lost: set[RecordId]
) -> Pending | None:
    """Return what is to be done in a range besides carrying it, or None where nothing is.

    What was written of a record that is gone now goes the way of any other such record.
    """
    policy = context.migration.options.deletes
    owned = [] if policy is Deletes.KEEP else _written_for(context, key, lost)
    if pending is None and not owned:
        return None
    before = pending or Pending()
    return replace(
        before,
        load=[record_id for record_id in before.load if record_id not in lost],
        changed=[record_id for record_id in before.changed if record_id not in lost],
        delete=[*dict.fromkeys((*before.delete, *(owned if policy is Deletes.MIRROR else ())))],
        mark=[*dict.fromkeys((*before.mark, *(owned if policy is Deletes.TOMBSTONE else ())))],
    )


def _written_for(context: MigrationContext, key: str, lost: Collection[RecordId]) -> list[RecordId]:
    """Return the ids in the target that the migration gave to these records, or was about to when it was cut short.

    None where a mapping sets ids, because another record may have got one of these since: they count as left over.
    """
    if context.mapping is not None and context.mapping.sets_ids:
        return []
    state, written = context.state, noted_under(context, key, lost)
    if state.receipt(key).exists():
        receipt = read_receipt(state.receipt(key))
        pairs = zip(receipt.source_ids, receipt.ids, strict=True)  # also of what the sightings do not know yet
        written |= {source_id: target_id for source_id, target_id in pairs if source_id in lost}
        written |= written_under(state, key, lost)
    return sorted(set(written.values()), key=id_text)


def _forget(context: MigrationContext) -> None:
    for path in context.state.all_gone.glob("*/*.json"):
        with staging_errors(path):
            path.unlink(missing_ok=True)
