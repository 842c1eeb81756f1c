"""The manifest: the source cut into fixed half-open ranges, once, and stored with the plan before the first write.

Belongs here: listing ids until they hold still, cutting, storing, taking up again. Does not belong here: what the
target will look like (``plan.py``), what happens to a range (the other steps).
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticValidationError

from rag_migration_pipeline.arrow import reading_errors
from rag_migration_pipeline.digests import digest_ids
from rag_migration_pipeline.envelope import ENVELOPE_KEY, original_id
from rag_migration_pipeline.errors import (
    CollectionExistsError,
    ManifestError,
    SchemaCompatibilityError,
    SourceChangedError,
)
from rag_migration_pipeline.events import EventSink, ManifestMade
from rag_migration_pipeline.payloads import encode
from rag_migration_pipeline.plan import Plan, make_plan, refuse_collisions, refuse_conflicts
from rag_migration_pipeline.records import (
    CollectionSpec,
    RecordId,
    RecordRange,
    id_from_text,
    id_text,
)
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import StateFolder, staging_errors, write_atomically
from rag_migration_pipeline.stores.base import VectorStore

VERSION = 1
MAX_PASSES = 5
"""Passes over the ids before a source counts as changing; two neighbouring ones must agree."""


@dataclass(frozen=True)
class RangeEntry:
    """One range as the manifest stores it; ids are texts of `records.id_text`, the ids themselves are in Parquet."""

    key: str
    ordinal: int
    start: str
    stop: str | None
    offset: int
    count: int
    ids_digest: str


@dataclass(frozen=True)
class Manifest:
    """A migration, planned.

    Attributes:
        identity: Identity of the migration that it belongs to.
        facts: What the identity is the digest of, for messages.
        plan_digest: First 6 hex digits of the partition keys.
        generation: 0 for the first manifest of a migration; one more each time a finished migration starts again.
        target_existed: Whether the target collection was there before the migration's first write.
        known_count: Records in the target before the first write.
        ids_digest: Digest of all source ids in order; with the plan digest, what was planned.
    """

    version: int
    identity: str
    facts: dict[str, object]
    plan_digest: str
    generation: int
    created_at: datetime
    source_spec: CollectionSpec
    target_spec: CollectionSpec
    target_existed: bool
    known_count: int
    count: int
    ids_digest: str
    ranges: tuple[RangeEntry, ...]

    def entry(self, key: str) -> RangeEntry:
        """Return the range with this partition key.

        Raises:
            ManifestError: The key is of another plan, or unknown.
        """
        for entry in self.ranges:
            if entry.key == key:
                return entry
        raise ManifestError(
            f"range key {key!r} is not of this plan: its keys are {self.plan_digest}_000000 to "
            f"{self.plan_digest}_{max(len(self.ranges) - 1, 0):06d}.",
            todo="Materialize the source manifest again and choose its partitions.",
        )


_CODEC = TypeAdapter(Manifest)


def open_manifest(state: StateFolder, migration: Migration) -> Manifest:
    """Return the stored manifest of a migration.

    Raises:
        ManifestError: There is none, it is damaged, or it belongs to another migration.
    """
    if not state.manifest.exists():
        raise ManifestError(
            f"migration {migration.name!r} has no manifest yet.", todo="Materialize source_manifest first."
        )
    with staging_errors(state.manifest):
        text = state.manifest.read_bytes()
    try:
        manifest = _CODEC.validate_json(text)
    except PydanticValidationError as error:
        raise ManifestError(
            f"the manifest {state.manifest} is damaged: {_first_problem(error)}.",
            todo="Remove the migration's state folder to start afresh; the target's records are overwritten.",
        ) from error
    if manifest.version != VERSION:
        raise ManifestError(
            f"the manifest {state.manifest} is of another version: expected {VERSION}, got {manifest.version}.",
            todo="Finish the migration with the version that began it, or remove the migration's state folder.",
        )
    if manifest.identity != migration.identity:
        raise ManifestError(
            f"the manifest {state.manifest} belongs to another migration: expected {migration.identity_facts()}, "
            f"got {manifest.facts}.",
            todo="Use another state folder, or remove that one.",
        )
    return manifest


def _first_problem(error: PydanticValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"])) or "the whole file"
    return f"{error.error_count()} problems, the first in {place}: {first['msg']}"


def make_manifest(
    migration: Migration, source: VectorStore, target: VectorStore, state: StateFolder, emit: EventSink
) -> Manifest:
    """Return the migration's manifest: the stored one, or a new one, planned, checked and stored.

    A stored manifest is taken up as it is, so that ranges never move, unless all its ranges are proven and the
    source's ids have changed since: then a new generation is cut, which copies everything again, idempotently.

    Raises:
        SourceChangedError: The source's ids do not hold still.
        SchemaCompatibilityError: The target cannot hold the source, or ids would meet there.
        ConflictError: The target is not empty and the conflict policy forbids it.
    """
    stored = open_manifest(state, migration) if state.manifest.exists() else None
    if stored is not None and not _is_finished(state, stored):
        return _announce(stored, migration, emit, is_resumed=True)
    listing = list_ids(source, migration.source_collection)
    if stored is not None and stored.ids_digest == digest_ids(listing.ids):
        return _announce(stored, migration, emit, is_resumed=True)
    manifest = _plan_and_store(migration, source, target, state, listing, stored)
    return _announce(manifest, migration, emit, is_resumed=False)


def _announce(manifest: Manifest, migration: Migration, emit: EventSink, *, is_resumed: bool) -> Manifest:
    emit(ManifestMade(migration.name, len(manifest.ranges), manifest.count, is_resumed))
    return manifest


@dataclass(frozen=True)
class IdListing:
    """All ids of a source, in its order.

    Attributes:
        ids: As the source names them now.
        originals: As they were before a migration packed them; the same objects where none did.
    """

    ids: list[RecordId]
    originals: list[RecordId]


def list_ids(source: VectorStore, collection: str) -> IdListing:
    """Return all ids in the source's order, listed until two passes in a row agree in count and digest.

    Raises:
        SourceChangedError: They never do, or ids come twice.
    """
    digest = digest_ids(record_id for page in source.iter_ids(collection) for record_id in page)
    for _ in range(MAX_PASSES - 1):
        ids: list[RecordId] = []
        originals: list[RecordId] = []
        for page, envelopes in source.iter_field(collection, ENVELOPE_KEY):
            ids += page
            originals += map(original_id, page, envelopes)
        before, digest = digest, digest_ids(ids)
        if digest == before:
            _refuse_duplicates(source, collection, ids)
            return IdListing(ids, originals)
    raise SourceChangedError(
        f"the source is changing: {MAX_PASSES} passes over the ids of {source.address}, collection {collection!r}, "
        f"gave different ids each time (last count {len(ids)}).",
        todo="Stop the writers while the ids are listed; the copy itself tolerates additions.",
    )


def _refuse_duplicates(source: VectorStore, collection: str, ids: Sequence[RecordId]) -> None:
    distinct = set(ids)
    count = source.count(collection)
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
    collection = migration.target_collection
    existing = target.describe(collection) if target.exists(collection) else None
    plan = make_plan(
        migration,
        source.describe(migration.source_collection),
        source.capabilities,
        listing.originals,
        existing,
        target.capabilities,
    )
    rule = plan.target_layout.id_rule
    refuse_collisions(listing.originals, rule)
    known: set[RecordId] = set()
    if previous is not None:  # what this migration wrote in earlier generations is neither a conflict nor known
        known = set(read_known_ids(state, previous))
    elif existing is not None and existing.count:
        known = {record_id for page in target.iter_ids(collection) for record_id in page}
        refuse_conflicts({rule.native(i) for i in listing.originals}, known, migration.options.conflict, migration)
    manifest = _cut(migration, plan, source, listing.ids, previous, len(known))
    _store(state, manifest, listing.ids, known)
    return manifest


def _cut(
    migration: Migration,
    plan: Plan,
    source: VectorStore,
    ids: Sequence[RecordId],
    previous: Manifest | None,
    known_count: int,
) -> Manifest:
    generation = 0 if previous is None else previous.generation + 1
    digest = digest_ids([migration.identity, generation])[:6]
    size = migration.options.range_count
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
        created_at=datetime.now(UTC),
        source_spec=source.spec(migration.source_collection),
        target_spec=plan.target_spec,
        target_existed=previous.target_existed if previous is not None else not plan.creates_target,
        known_count=known_count,
        count=len(ids),
        ids_digest=digest_ids(ids),
        ranges=tuple(ranges),
    )


def _store(state: StateFolder, manifest: Manifest, ids: Sequence[RecordId], known: Iterable[RecordId]) -> None:
    """Store the ids first and the manifest last: its rename is the commit point."""
    size = manifest.ranges[0].count if manifest.ranges else 1
    with staging_errors(state.report):
        state.report.unlink(missing_ok=True)  # of an earlier generation
    write_atomically(state.ids(manifest.generation), lambda path: _write_ids(path, ids, size))
    write_atomically(
        state.known(manifest.generation), lambda path: _write_ids(path, sorted(known, key=id_text), 50_000)
    )
    write_atomically(state.manifest, lambda path: _write_bytes(path, _CODEC.dump_json(manifest, indent=1)))


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _write_ids(path: Path, ids: Sequence[RecordId], row_group_count: int) -> None:
    """Write ids with one row group per range, so that a range reads only its own."""
    texts = [id_text(record_id).encode("utf-8", "surrogatepass") for record_id in ids]
    pq.write_table(pa.table({"id": pa.array(texts, pa.large_binary())}), path, row_group_size=row_group_count)


def read_known_ids(state: StateFolder, manifest: Manifest) -> list[RecordId]:
    """Return the target's ids from before the first write."""
    if not manifest.known_count:
        return []
    with reading_errors(state.known(manifest.generation)):
        return _ids(pq.read_table(state.known(manifest.generation)))


def read_range_ids(state: StateFolder, manifest: Manifest, key: str) -> RecordRange:
    """Return a range with the ids that the manifest recorded.

    Raises:
        ManifestError: The key is of another plan, or the ids are not those that the manifest was made with.
    """
    entry = manifest.entry(key)
    path = state.ids(manifest.generation)
    with reading_errors(path):
        ids = _ids(pq.ParquetFile(path).read_row_group(entry.ordinal))
    if digest_ids(ids) != entry.ids_digest:
        raise ManifestError(
            f"the ids of range {key} in {path} are damaged: expected digest {entry.ids_digest}, got {digest_ids(ids)}.",
            todo="Remove the migration's state folder to start afresh.",
        )
    stop = None if entry.stop is None else id_from_text(entry.stop)
    return RecordRange(entry.key, entry.ordinal, id_from_text(entry.start), stop, ids, entry.offset)


def _ids(table: pa.Table) -> list[RecordId]:
    return [id_from_text(value.decode("utf-8", "surrogatepass")) for value in table["id"].to_pylist()]


def proven_keys(state: StateFolder, manifest: Manifest) -> list[str]:
    """Return the keys of the ranges that have a receipt, in order."""
    return [entry.key for entry in manifest.ranges if state.receipt(entry.key).exists()]


def _is_finished(state: StateFolder, manifest: Manifest) -> bool:
    return state.report.exists() and len(proven_keys(state, manifest)) == len(manifest.ranges)


def prepare_target(manifest: Manifest, migration: Migration, target: VectorStore, state: StateFolder) -> None:
    """Create the target collection as planned, where the migration is to create it and has not yet.

    Raises:
        ManifestError: The collection was there when the migration was planned, or ranges are proven, and it is gone.
        SchemaCompatibilityError: The collection is no longer what was planned.
    """
    name = migration.target_collection
    if not target.exists(name):
        if manifest.target_existed or proven_keys(state, manifest):
            raise ManifestError(
                f"collection {name!r} has vanished from {target.address} since the migration was planned "
                f"({len(proven_keys(state, manifest))} of {len(manifest.ranges)} ranges were proven in it).",
                todo="Remove the migration's state folder to start afresh.",
            )
        try:
            target.create(manifest.target_spec)
        except CollectionExistsError:
            target.forget_spec(name)  # another range's run was faster
    found = target.spec(name).vectors
    if set(found) != set(manifest.target_spec.vectors):
        raise SchemaCompatibilityError(
            f"collection {name!r} in {target.address} is not what was planned: expected vectors "
            f"{manifest.target_spec.vectors}, got {found}.",
            todo="Drop it, or remove the migration's state folder and plan again.",
        )


def manifest_fingerprint(manifest: Manifest) -> str:
    """Return a digest of everything that the ranges depend on; Dagster's data version of the manifest."""
    return digest_ids([encode([manifest.plan_digest, manifest.ids_digest, len(manifest.ranges)])])
