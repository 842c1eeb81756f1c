"""The manifest: the source cut into fixed half-open ranges, stored with the plan before the first write.

Belongs here: what a manifest says, storing it, taking it up again. Does not belong here: making one
(``steps/planning.py``), what happens to a range (the other steps).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter
from pydantic import ValidationError as PydanticValidationError

from rag_migration_pipeline.arrow import reading_errors, text_array
from rag_migration_pipeline.digests import digest_ids, digest_texts
from rag_migration_pipeline.errors import (
    CollectionExistsError,
    ManifestError,
)
from rag_migration_pipeline.plan import PlanFacts
from rag_migration_pipeline.receipts import is_receipt_of
from rag_migration_pipeline.records import (
    CollectionSpec,
    RecordId,
    RecordRange,
    id_from_text,
    id_text,
)
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.state import StateFolder
from rag_migration_pipeline.state_files import staging_errors, write_atomically, write_content
from rag_migration_pipeline.steps.pending import Pending, forget_pending, write_pending
from rag_migration_pipeline.stores.base import VectorStore

VERSION = 1


@dataclass(frozen=True)
class RangeEntry:
    """One range as the manifest stores it; ids are texts of `records.id_text`, the ids themselves are in Parquet.

    Attributes:
        ordinal: Position among all ranges, from 0: its row group in the file of ids.
        is_listed: See `RecordRange.is_listed`.
    """

    key: str
    ordinal: int
    start: str
    stop: str | None
    offset: int
    count: int
    ids_digest: str
    is_listed: bool = False


@dataclass(frozen=True)
class Manifest:
    """A migration, planned.

    Attributes:
        identity: Identity of the migration that it belongs to.
        facts: What the identity is the digest of, for messages.
        plan_digest: First 6 hex digits of the partition keys.
        generation: 0 for the first manifest of a migration; one more each time a finished migration starts again.
        target_existed: Whether the target collection was there before the migration's first write.
        known_count: Records in the target that are not the migration's, as of the manifest.
        left_count: Records in the target that earlier generations wrote; without a filter, only those that the source
            no longer has.
        ids_digest: Digest of all source ids in order; with the plan digest, what was planned.
        plan: Verdicts and what else was planned; empty in manifests of before there were any.
        is_narrowed: Whether ids were left out because the filter takes no such records; then ranges are read by id.
        next_number: Number in the key of the next range that is added; 0 stands for the number of ranges.
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
    left_count: int
    count: int
    ids_digest: str
    ranges: tuple[RangeEntry, ...]
    plan: PlanFacts = field(default_factory=PlanFacts)
    is_narrowed: bool = False
    next_number: int = 0

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
            f"migration {migration.name!r} has no manifest yet.",
            todo="Run it first; under Dagster, materialize source_manifest.",
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


def store_manifest(
    state: StateFolder,
    manifest: Manifest,
    ids: Iterable[Sequence[RecordId]],
    known: Iterable[RecordId],
    left: Iterable[RecordId],
) -> None:
    """Store the ids of each range first and the manifest last: its rename is the commit point."""
    write_atomically(state.ids(manifest.generation), lambda path: _write_ids(path, ids))
    store_outside(state, manifest, known, left)


def store_outside(state: StateFolder, manifest: Manifest, known: Iterable[RecordId], left: Iterable[RecordId]) -> None:
    """Store a manifest with the target's ids that no range claims, the manifest last."""
    for path, others in ((state.known(manifest.generation), known), (state.left(manifest.generation), left)):
        write_atomically(path, partial(_write_ids, parts=[sorted(others, key=id_text)]))
    write_content(state.manifest, _CODEC.dump_json(manifest, indent=1))


def store_next_manifest(
    state: StateFolder,
    manifest: Manifest,
    ids: Iterable[Sequence[RecordId]],
    known: Iterable[RecordId],
    left: Iterable[RecordId],
    pending: Mapping[str, Pending],
) -> None:
    """Store the manifest of the generation after the stored one, with what is pending in it.

    The stored one holds until then, with what is pending in that; who calls holds the planning lock.

    Args:
        state: The migration's state.
        manifest: The next manifest.
        ids: The ids of each range.
        known: The target's ids that others wrote.
        left: The target's ids that the migration wrote and that the source no longer has.
        pending: Range -> what is to be done in it.
    """
    forget_pending(state, manifest.generation - 1)
    for key, item in pending.items():
        write_pending(state, key, manifest.generation, item)
    store_manifest(state, manifest, ids, known, left)


def _write_ids(path: Path, parts: Iterable[Sequence[RecordId]]) -> None:
    """Write ids with one row group per range, so that a range reads only its own."""
    schema = pa.schema([("id", pa.large_binary())])
    with pq.ParquetWriter(path, schema) as writer:
        for ids in parts:
            table = pa.table([text_array(map(id_text, ids))], schema=schema)
            writer.write_table(table, row_group_size=max(1, len(ids)))


def read_known_ids(state: StateFolder, manifest: Manifest) -> list[RecordId]:
    """Return the target's ids that others wrote, as of the manifest."""
    return _read_ids(state.known(manifest.generation)) if manifest.known_count else []


def read_left_ids(state: StateFolder, manifest: Manifest) -> list[RecordId]:
    """Return the target's ids that earlier generations wrote, at least those that the source no longer has."""
    return _read_ids(state.left(manifest.generation)) if manifest.left_count else []


def _read_ids(path: Path) -> list[RecordId]:
    with reading_errors(path):
        return _ids(_id_texts(pq.read_table(path)))


def iter_range_ids(state: StateFolder, manifest: Manifest) -> Iterator[RecordRange]:
    """Yield all ranges with the ids that the manifest recorded, in order; the file is opened once.

    Raises:
        ManifestError: The ids are not those that the manifest was made with.
    """
    path = state.ids(manifest.generation)
    with reading_errors(path), pq.ParquetFile(path) as file:
        for entry in manifest.ranges:
            yield _range_of(entry, _id_texts(file.read_row_group(entry.ordinal)), path)


def read_range_ids(state: StateFolder, manifest: Manifest, key: str) -> RecordRange:
    """Return a range with the ids that the manifest recorded.

    Raises:
        ManifestError: The key is of another plan, or the ids are not those that the manifest was made with.
    """
    entry = manifest.entry(key)
    path = state.ids(manifest.generation)
    with reading_errors(path):
        texts = _id_texts(pq.ParquetFile(path).read_row_group(entry.ordinal))
    return _range_of(entry, texts, path)


def _range_of(entry: RangeEntry, texts: list[bytes], path: Path) -> RecordRange:
    digest = digest_texts(texts)
    if digest != entry.ids_digest:
        raise ManifestError(
            f"the ids of range {entry.key} in {path} are damaged: expected digest {entry.ids_digest}, got {digest}.",
            todo="Remove the migration's state folder to start afresh.",
        )
    stop = None if entry.stop is None else id_from_text(entry.stop)
    start = id_from_text(entry.start)
    return RecordRange(entry.key, entry.ordinal, start, stop, _ids(texts), entry.offset, is_listed=entry.is_listed)


def _id_texts(table: pa.Table) -> list[bytes]:
    texts: list[bytes] = table["id"].to_pylist()
    return texts


def _ids(texts: Iterable[bytes]) -> list[RecordId]:
    return [id_from_text(text.decode("utf-8", "surrogatepass")) for text in texts]


def proven_keys(state: StateFolder, manifest: Manifest) -> list[str]:
    """Return the keys of the ranges that have a receipt of their own and nothing pending, in order."""
    return [
        entry.key
        for entry in manifest.ranges
        if is_receipt_of(state.receipt(entry.key), entry.ids_digest)
        and not state.pending(entry.key, manifest.generation).exists()
    ]


def prepare_target(manifest: Manifest, migration: Migration, target: VectorStore, state: StateFolder) -> None:
    """Create the target collection as planned, where the migration is to create it and has not yet.

    Raises:
        ManifestError: The collection was there when the migration was planned, or ranges are proven, and it is gone.
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


def manifest_fingerprint(manifest: Manifest) -> str:
    """Return what all ranges depend on, Dagster's data version of the manifest: it changes when all are cut anew.

    A sync leaves it as it is: it carries the ranges that it changes, and the others stay fresh.
    """
    return digest_ids([manifest.plan_digest])
