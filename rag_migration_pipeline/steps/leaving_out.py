"""Leaving out: records that were planned and that the source has lost before they were carried.

Belongs here: noting what a range did not find, and planning on without it. Does not belong here: finding it
(``steps/extract.py``), what a sync makes of records that were carried and are gone since (``steps/syncing.py``).

A range that does not find all its records fails by their names. What it noted is looked at when the migration is
planned again (the first step of a run): what is still gone then leaves the plan, loudly, and the range goes on without
it. Otherwise a source that loses a record between its listing and its reading would stop a migration for good.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from rag_migration_pipeline.digests import digest_ids, digest_texts
from rag_migration_pipeline.errors import SchemaCompatibilityError, SourceChangedError
from rag_migration_pipeline.events import RecordsGone
from rag_migration_pipeline.options import Deletes
from rag_migration_pipeline.records import RecordId, id_from_text, id_text
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.state_files import damaged, staging_errors, write_atomically
from rag_migration_pipeline.steps.context import MigrationContext, context_of, refuse_many_gone
from rag_migration_pipeline.steps.journal import ids_noted_in
from rag_migration_pipeline.steps.manifest import (
    Manifest,
    RangeEntry,
    proven_keys,
    read_known_ids,
    read_left_ids,
    read_range_ids,
    store_manifest,
)
from rag_migration_pipeline.steps.pending import Pending, read_pending, write_pending
from rag_migration_pipeline.steps.targets import written_under

SHOWN = 10


@contextmanager
def noting_gone(state: StateFolder, range_key: str) -> Iterator[None]:
    """Note which records a range did not find, where that is what the block fails with."""
    try:
        yield
    except SourceChangedError as error:
        texts = json.dumps(list(error.facts.get("ids", ()))).encode()
        write_atomically(state.gone(range_key), lambda path: _write(path, texts))
        raise


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
        gone = _still_gone(context, _noted(context))
        if gone:
            count = sum(map(len, gone.values()))
            refuse_many_gone(context, count, "and were not carried yet: they would be left out")
            manifest = _store_without(context, gone)
            named = sorted((record_id for ids in gone.values() for record_id in ids), key=id_text)
            context.emit(RecordsGone(context.migration.name, tuple(named)))
            stores = context.source, context.target
            context = context_of(context.migration, manifest, context.state, *stores, context.emit)
        _forget(context)
    return context


def _noted(context: MigrationContext) -> dict[str, list[RecordId]]:
    """Return what ranges that are not proven did not find."""
    done = set(proven_keys(context.state, context.manifest))
    keys = [entry.key for entry in context.manifest.ranges if entry.key not in done]
    return {key: _read(context.state.gone(key)) for key in keys if context.state.gone(key).exists()}


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


def _store_without(context: MigrationContext, gone: Mapping[str, set[RecordId]]) -> Manifest:
    """Store the next generation, which has the same ranges without these records, and return its manifest.

    What is pending counts under both generations until the manifest is there: a kill in between must not make a range
    seem proven.
    """
    state, before = context.state, context.manifest
    done = set(proven_keys(state, before))
    parts: list[list[RecordId]] = []
    entries: list[RangeEntry] = []
    for entry in before.ranges:
        lost = gone.get(entry.key, set())
        ids = [i for i in read_range_ids(state, before, entry.key).ids if i not in lost]
        parts.append(ids)
        entries.append(replace(entry, count=len(ids), ids_digest=digest_ids(ids)) if lost else entry)
        if entry.key in done:
            continue
        pending = read_pending(state, entry.key, before.generation)
        left = _pending_without(context, entry.key, pending, lost) if lost else pending
        if left is not None:
            write_pending(state, entry.key, before.generation + 1, left, also=before.generation)
    manifest = replace(
        before,
        generation=before.generation + 1,
        count=sum(map(len, parts)),
        ids_digest=digest_ids([i for ids in parts for i in ids]),
        ranges=tuple(entries),
    )
    store_manifest(state, manifest, parts, read_known_ids(state, before), read_left_ids(state, before))
    return manifest


def _pending_without(
    context: MigrationContext, key: str, pending: Pending | None, lost: set[RecordId]
) -> Pending | None:
    """Return what is left to be done in a range, or None where that is all of it.

    What was changed and is gone now is gone like any other record, and so is what an attempt that was cut short wrote.
    """
    was_changed = [record_id for record_id in pending.changed if record_id in lost] if pending is not None else []
    has_receipt = context.state.receipt(key).exists()
    owned = [*written_under(context.state, key, was_changed).values()] if has_receipt else []
    owned = [*dict.fromkeys((*owned, *_written_in_vain(context, key, lost)))]
    policy = context.migration.options.deletes
    if policy is Deletes.KEEP or (context.mapping is not None and context.mapping.sets_ids):
        owned = []  # where a mapping sets ids another record may have got one of these: they are counted as left over
    if pending is None and not owned:
        return None
    before = pending or Pending()
    return replace(
        before,
        load=[record_id for record_id in before.load if record_id not in lost],
        changed=[record_id for record_id in before.changed if record_id not in lost],
        gone=[*before.gone, *was_changed],
        delete=[*before.delete, *(owned if policy is Deletes.MIRROR else ())],
        mark=[*before.mark, *(owned if policy is Deletes.TOMBSTONE else ())],
    )


def _written_in_vain(context: MigrationContext, key: str, lost: Collection[RecordId]) -> Iterator[RecordId]:
    """Yield the ids in the target of those of the lost records that an attempt may have written."""
    noted = ids_noted_in(context.state, key)
    for record_id in sorted(lost, key=id_text) if noted else ():
        with suppress(SchemaCompatibilityError):  # it had another id than it was planned with, before it was packed
            native = context.target_layout.id_rule.native(record_id)
            if native in noted:
                yield native


def _forget(context: MigrationContext) -> None:
    for path in context.state.all_gone.glob("*/*.json"):
        with staging_errors(path):
            path.unlink(missing_ok=True)


def _read(path: Path) -> list[RecordId]:
    try:
        return [id_from_text(text) for text in json.loads(path.read_bytes())]
    except (ValueError, TypeError) as error:
        todo = "Remove it; the range then says again what is gone."
        raise damaged(path, f"{type(error).__name__}: {error}", todo) from error


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
