"""Planning: lists the source's ids until they hold still, cuts them into ranges, and stores the manifest.

Belongs here: making a manifest, once or once per generation. Does not belong here: what a manifest says
(``steps/manifest.py``), what the target will look like (``plan.py``).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from rag_migration_pipeline.digests import digest_ids
from rag_migration_pipeline.envelope import ENVELOPE_KEY, layout_of, original_id
from rag_migration_pipeline.errors import MigrationError, SourceChangedError, StoreRequestError
from rag_migration_pipeline.events import EventSink, ManifestMade
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.filters.meaning import select_ids
from rag_migration_pipeline.filters.nodes import EVERYTHING
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
from rag_migration_pipeline.state import StateFolder, read_facts
from rag_migration_pipeline.steps.journal import noted_ids
from rag_migration_pipeline.steps.manifest import (
    VERSION,
    Manifest,
    RangeEntry,
    open_manifest,
    proven_keys,
    read_known_ids,
    read_left_ids,
    read_range_ids,
    store_manifest,
)
from rag_migration_pipeline.steps.new_ids import new_ids
from rag_migration_pipeline.steps.push_down import (
    NOTHING_PUSHED_DOWN,
    PushDown,
    describe_push_down,
    not_pushed_down,
    refuse_mistyped,
)
from rag_migration_pipeline.steps.repairs import carry_repairs
from rag_migration_pipeline.steps.sample import read_sample
from rag_migration_pipeline.steps.suspects import without_untaken
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.narrowing import Narrowing

MAX_PASSES = 5
"""Passes over the ids before a source counts as changing; two neighbouring ones must agree."""


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
        listing = list_selected(migration, source)
        if stored is not None and not fresh and has_the_same_ids(state, stored, listing.ids):
            return _announce(stored, migration, emit, is_resumed=True)
        manifest = _plan_and_store(migration, source, target, state, listing, stored)
    return _announce(manifest, migration, emit, is_resumed=False)


def _announce(manifest: Manifest, migration: Migration, emit: EventSink, *, is_resumed: bool) -> Manifest:
    emit(ManifestMade(migration.name, len(manifest.ranges), manifest.count, is_resumed))
    return manifest


@dataclass(frozen=True)
class IdListing:
    """Ids of a source, in its order.

    Attributes:
        ids: As the source names them now.
        originals: As they were before a migration packed them; the same objects where none did. Where the migration
            gives other ids, those, of the records that get one.
        push_down: How the filter was divided to find them.
        has_new_ids: Whether the migration gives other ids; then ``originals`` are of records that the filter takes.
    """

    ids: list[RecordId]
    originals: list[RecordId]
    push_down: PushDown = NOTHING_PUSHED_DOWN
    has_new_ids: bool = False


def list_selected(migration: Migration, source: VectorStore) -> IdListing:
    """Return the ids of the records that the migration's filter may take.

    A store that refuses the question (a server may forbid filters on fields without an index) is asked for all ids.

    Raises:
        SourceChangedError: See `list_ids`.
        SpecError: The filter contradicts the source's schema.
    """
    collection, wanted = migration.source_collection, parse_filter(migration.options.filter)
    if wanted == EVERYTHING:
        return list_ids(source, collection)
    refuse_mistyped(wanted, source.spec(collection), migration.source.document_key)
    pushed = not_pushed_down(wanted)
    if migration.options.push_down:
        pushed = describe_push_down(source, collection, wanted)
    try:
        listing = list_ids(source, collection, pushed.where)
    except StoreRequestError:
        if pushed.where is None:
            raise
        pushed = not_pushed_down(wanted)
        listing = list_ids(source, collection)
    rows = select_ids(listing.originals, pushed.on_ids) if pushed.on_ids != EVERYTHING else range(len(listing.ids))
    return IdListing([listing.ids[row] for row in rows], [listing.originals[row] for row in rows], pushed)


def list_ids(source: VectorStore, collection: str, where: Narrowing | None = None) -> IdListing:
    """Return all ids in the source's order, or those of what the source is asked for.

    They are listed until two passes in a row agree in count and digest.

    Raises:
        SourceChangedError: They never do, or ids come twice.
    """
    digest = digest_ids(record_id for page in source.iter_ids(collection, where=where) for record_id in page)
    for _ in range(MAX_PASSES - 1):
        ids: list[RecordId] = []
        originals: list[RecordId] = []
        for page, envelopes in source.iter_field(collection, ENVELOPE_KEY, where):
            ids += page
            originals += map(original_id, page, envelopes)
        before, digest = digest, digest_ids(ids)
        if digest == before:
            _refuse_duplicates(source, collection, ids, where)
            return IdListing(ids, originals)
    raise SourceChangedError(
        f"the source is changing: {MAX_PASSES} passes over the ids of {source.address}, collection {collection!r}, "
        f"gave different ids each time (last count {len(ids)}).",
        todo="Stop the writers while the ids are listed; the copy itself tolerates additions.",
    )


def _refuse_duplicates(source: VectorStore, collection: str, ids: Sequence[RecordId], where: Narrowing | None) -> None:
    distinct = set(ids)
    count = source.count(collection, where)
    if len(distinct) == len(ids) and count == len(ids):
        return
    seen: set[RecordId] = set()
    twice = sorted({id_text(i) for i in ids if i in seen or seen.add(i)})  # type: ignore[func-returns-value]
    raise SourceChangedError(
        f"{source.address}, collection {collection!r} says it holds {count} records, but {len(distinct)} different ids "
        f"were found{', these more than once: ' + ', '.join(twice[:10]) if twice else ''}.",
        todo="Remove records with duplicate ids, or stop the writers, then plan again.",
    )


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
    suspects = {record_id for pair in find_collisions(ids, rule) for record_id in pair[:2]}
    if migration.options.conflict is Conflict.FAIL:
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
    for key in proven_keys(state, previous):
        ours.update(read_receipt(state.receipt(key)).ids)
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
    planned = {i for entry in manifest.ranges for i in read_range_ids(state, manifest, entry.key).ids}
    return len(ids) == manifest.count and planned == set(ids)


def is_finished(state: StateFolder, manifest: Manifest) -> bool:
    """Return whether the whole was proven (or contradicted) under this manifest, and no range is to be loaded."""
    if not state.report.exists():
        return False
    report = read_facts(state.report, "Remove it and run again: the whole is proven anew.")
    is_of_it = report.get("plan") == manifest.plan_digest and report.get("generation", -1) in (-1, manifest.generation)
    return is_of_it and len(proven_keys(state, manifest)) == len(manifest.ranges)
