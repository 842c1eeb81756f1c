"""Planning: cuts the source's ids into ranges, and stores the manifest.

Belongs here: making a manifest, once or once per generation. Does not belong here: listing the ids
(``steps/listing.py``), what a manifest says (``steps/manifest.py``), what the target will look like (``plan.py``).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rag_migration_pipeline.digests import digest_ids
from rag_migration_pipeline.envelope import layout_of
from rag_migration_pipeline.errors import MigrationError
from rag_migration_pipeline.events import EventSink, ManifestMade
from rag_migration_pipeline.ids import find_collisions
from rag_migration_pipeline.options import Conflict
from rag_migration_pipeline.plan import (
    Plan,
    make_plan,
    planned_mapping,
    refuse_collisions,
    refuse_conflicts,
    refuse_plan,
)
from rag_migration_pipeline.receipts import read_receipt
from rag_migration_pipeline.records import RecordId, id_text
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.state_files import read_facts
from rag_migration_pipeline.steps.journal import noted_ids
from rag_migration_pipeline.steps.listing import IdListing, list_selected
from rag_migration_pipeline.steps.manifest import (
    VERSION,
    Manifest,
    RangeEntry,
    iter_range_ids,
    open_manifest,
    proven_keys,
    read_known_ids,
    read_left_ids,
    store_manifest,
)
from rag_migration_pipeline.steps.new_ids import new_ids
from rag_migration_pipeline.steps.repairs import carry_repairs
from rag_migration_pipeline.steps.sample import read_sample
from rag_migration_pipeline.steps.suspects import without_untaken
from rag_migration_pipeline.stores.base import VectorStore


def make_manifest(
    migration: Migration,
    source: VectorStore,
    target: VectorStore,
    state: StateFolder,
    emit: EventSink,
    *,
    fresh: bool = False,
) -> Manifest:
    """Return the migration's manifest: the stored one, or a new one, planned, checked and stored.

    A stored manifest is taken up as it is, so that ranges never move, unless all its ranges are proven and the
    source's ids have changed since: then a new generation is cut, which copies everything again, idempotently.

    Args:
        migration: The migration.
        source: Its source store.
        target: Its target store.
        state: Its state.
        emit: Takes the event.
        fresh: Cut a new generation whatever there is.

    Raises:
        SourceChangedError: The source's ids do not hold still.
        SchemaCompatibilityError: The target cannot hold the source, or ids would meet there.
        ConflictError: The target is not empty and the conflict policy forbids it.
    """
    with state.planning_lock():  # two starts at once must end with one manifest
        stored = open_manifest(state, migration) if state.manifest.exists() else None
        if stored is not None and not fresh and not is_finished(state, stored):
            return _announce(stored, migration, emit, is_resumed=True)
        if stored is not None and not fresh:
            ids = list_selected(migration, source, with_originals=False).ids
            if has_the_same_ids(state, stored, ids):
                return _announce(stored, migration, emit, is_resumed=True)
        listing = list_selected(migration, source)
        manifest = _plan_and_store(migration, source, target, state, listing, stored)
    return _announce(manifest, migration, emit, is_resumed=False)


def _announce(manifest: Manifest, migration: Migration, emit: EventSink, *, is_resumed: bool) -> Manifest:
    emit(ManifestMade(migration.name, len(manifest.ranges), manifest.count, is_resumed))
    return manifest


def _plan_and_store(
    migration: Migration,
    source: VectorStore,
    target: VectorStore,
    state: StateFolder,
    listing: IdListing,
    previous: Manifest | None,
) -> Manifest:
    draft = draft_manifest(migration, source, target, state, listing, previous)
    for refusal in draft.refusals:
        raise refusal
    if previous is not None:
        carry_repairs(state, previous.plan_digest, _unpacked_ids(draft.manifest, listing))
    parts = (listing.ids[entry.offset : entry.offset + entry.count] for entry in draft.manifest.ranges)
    store_manifest(state, draft.manifest, parts, draft.known, draft.left)
    return draft.manifest


def _unpacked_ids(manifest: Manifest, listing: IdListing) -> Iterator[tuple[str, Sequence[RecordId]]]:
    for entry in manifest.ranges:
        yield entry.key, listing.originals[entry.offset : entry.offset + entry.count]


@dataclass(frozen=True)
class Draft:
    """A manifest that is not stored yet.

    Attributes:
        known: The target's ids that are not the migration's.
        left: The target's ids that earlier generations wrote and that the source no longer has.
        refusals: Why it must not be stored; the first is what planning fails with.
    """

    manifest: Manifest
    known: set[RecordId]
    left: set[RecordId]
    refusals: tuple[MigrationError, ...]


def draft_manifest(
    migration: Migration,
    source: VectorStore,
    target: VectorStore,
    state: StateFolder,
    listing: IdListing,
    previous: Manifest | None,
) -> Draft:
    """Read both sides, decide how the target will hold the source, and judge it; nothing is written."""
    listing = _with_new_ids(migration, source, listing)
    plan = _plan(migration, source, target, listing)
    refusals = _refusals(lambda: refuse_plan(plan, migration))
    rule = plan.target_layout.id_rule
    present: set[RecordId] = set()
    if not plan.creates_target and target.count(migration.target_collection):
        present = {record_id for page in target.iter_ids(migration.target_collection) for record_id in page}
    ours, known = _told_apart(state, previous, present)
    ids: Sequence[RecordId] = [] if plan.refused_ids else listing.originals
    natives = {rule.native(record_id) for record_id in ids}
    suspects: set[RecordId] = set()
    if len(natives) < len(ids):
        suspects |= {record_id for pair in find_collisions(ids, rule) for record_id in pair[:2]}
    if migration.options.conflict is Conflict.FAIL and not natives.isdisjoint(known):
        suspects |= {record_id for record_id in ids if rule.native(record_id) in known}
    if suspects and migration.options.filter is not None and not listing.has_new_ids:
        ids = without_untaken(migration, source, plan.source_layout, (listing.ids, listing.originals), suspects)
        natives = {rule.native(record_id) for record_id in ids}
    if suspects:
        refusals += _refusals(lambda: refuse_collisions(ids, rule))
    refusals += _refusals(lambda: refuse_conflicts(natives, known, migration.options.conflict, migration))
    # With a filter, only the ranges' receipts tell which of the planned ids are written again.
    left = (ours & present) - (natives if migration.options.filter is None else set())
    manifest = _cut(migration, plan, source, listing, previous, known_count=len(known), left_count=len(left))
    return Draft(manifest, known, left, refusals)


def _with_new_ids(migration: Migration, source: VectorStore, listing: IdListing) -> IdListing:
    """Return the listing with the ids that a mapping or the option ids gives, proven one to one."""
    spec = source.spec(migration.source_collection)
    mapping = planned_mapping(migration, spec, datetime.now(UTC))
    if mapping is None or not mapping.sets_ids:
        return listing
    layout = layout_of(spec, source.capabilities, migration.source.document_key)
    return replace(listing, originals=new_ids(migration, source, layout, mapping), has_new_ids=True)


def _plan(migration: Migration, source: VectorStore, target: VectorStore, listing: IdListing) -> Plan:
    described = source.describe(migration.source_collection)
    layout = layout_of(described.spec, source.capabilities, migration.source.document_key)
    collection = migration.target_collection
    existing = target.describe(collection) if target.exists(collection) else None
    return make_plan(
        migration,
        described,
        source.capabilities,
        listing.originals,
        existing,
        target.capabilities,
        read_sample(migration, source, listing.ids, layout, target.capabilities),
        None if existing is None else target.screen_payload,
    )


def _refusals(check: Callable[[], None]) -> tuple[MigrationError, ...]:
    try:
        check()
    except MigrationError as refusal:
        return (refusal,)
    return ()


def _told_apart(
    state: StateFolder, previous: Manifest | None, present: set[RecordId]
) -> tuple[set[RecordId], set[RecordId]]:
    """Return which of the target's ids earlier generations wrote, and which are somebody else's."""
    if previous is None:
        return set(), present
    ours = noted_ids(state).union(read_left_ids(state, previous))
    for receipt in state.receipts.glob("*/*.arrow"):  # also of ranges in which something is pending
        ours.update(read_receipt(receipt).ids)
    return ours, set(read_known_ids(state, previous)) | (present - ours)


def _cut(
    migration: Migration,
    plan: Plan,
    source: VectorStore,
    listing: IdListing,
    previous: Manifest | None,
    *,
    known_count: int,
    left_count: int,
) -> Manifest:
    generation = 0 if previous is None else previous.generation + 1
    created_at = datetime.now(UTC)
    # The time makes the keys of a migration that starts afresh others than those that Dagster shows as loaded.
    digest = digest_ids([migration.identity, generation, created_at.isoformat()])[:6]
    size = migration.options.range_count
    ids = listing.ids
    ranges = []
    for ordinal in range(math.ceil(len(ids) / size)):
        part = ids[ordinal * size : (ordinal + 1) * size]
        following = ids[(ordinal + 1) * size] if (ordinal + 1) * size < len(ids) else None
        ranges.append(
            RangeEntry(
                key=f"{digest}_{ordinal:06d}",
                ordinal=ordinal,
                start=id_text(part[0]),
                stop=None if following is None else id_text(following),
                offset=ordinal * size,
                count=len(part),
                ids_digest=digest_ids(part),
            )
        )
    return Manifest(
        version=VERSION,
        identity=migration.identity,
        facts=migration.identity_facts(),
        plan_digest=digest,
        generation=generation,
        created_at=created_at,
        source_spec=source.spec(migration.source_collection),
        target_spec=plan.target_spec,
        target_existed=previous.target_existed if previous is not None else not plan.creates_target,
        known_count=known_count,
        left_count=left_count,
        count=len(ids),
        ids_digest=digest_ids(ids),
        ranges=tuple(ranges),
        plan=replace(plan.facts, push_down=listing.push_down.lines),
        is_narrowed=listing.push_down.is_narrowed,
    )


def has_the_same_ids(state: StateFolder, manifest: Manifest, ids: Sequence[RecordId]) -> bool:
    """Return whether a manifest is of these ids, in whatever order."""
    if manifest.ids_digest == digest_ids(ids):
        return True
    planned = {i for item in iter_range_ids(state, manifest) for i in item.ids}
    return len(ids) == manifest.count and planned == set(ids)


def is_finished(state: StateFolder, manifest: Manifest) -> bool:
    """Return whether the whole was proven (or contradicted) under this manifest, and no range is to be loaded."""
    if not state.report.exists():
        return False
    report = read_facts(state.report, "Remove it and run again: the whole is proven anew.")
    is_of_it = report.get("plan") == manifest.plan_digest and report.get("generation", -1) in (-1, manifest.generation)
    return is_of_it and len(proven_keys(state, manifest)) == len(manifest.ranges)
