"""Changes: what of a proven migration's source is new, other or gone since its records were read.

Belongs here: comparing the source with the sightings, and with the receipts where vectors count. Does not belong here:
what is done about it (``steps/syncing.py``), the sightings themselves (``sightings.py``).

    ids        which ids came and which went; no record is read
    payload    ids, payloads, documents and partitions; no vector is read
    watermark  which ids came and which went, and records whose field is at least what it was at most the last time
    full       everything, vectors as well: what would be written now against what the receipt says was written
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rag_migration_pipeline.batching import cut
from rag_migration_pipeline.digests import digest_contents, digest_ids, is_same_sketch
from rag_migration_pipeline.envelope import unpack
from rag_migration_pipeline.errors import SpecError
from rag_migration_pipeline.options import Conflict, Detect
from rag_migration_pipeline.receipts import Receipt, make_receipt, read_receipt
from rag_migration_pipeline.records import RecordBatch, RecordId, RecordRange
from rag_migration_pipeline.sightings import Fate, Sightings, read_sightings
from rag_migration_pipeline.steps.context import MigrationContext
from rag_migration_pipeline.steps.extract import read_records
from rag_migration_pipeline.steps.listing import IdListing, list_selected
from rag_migration_pipeline.steps.load import PackedBatch, pack_batch
from rag_migration_pipeline.steps.manifest import RangeEntry, iter_range_ids
from rag_migration_pipeline.steps.repairs import read_repairs
from rag_migration_pipeline.steps.transform import transform_batch


@dataclass(frozen=True)
class Changes:
    """What is other in a source than it was; ids as the source names them.

    Attributes:
        added: Records that were not planned before, in the source's order.
        changed: Range -> its records that are to be carried once more.
        gone: Range -> its records that the source no longer has, or the filter no longer takes.
        listing: All ids now, without originals.
        compared: How many records were compared with what was seen of them.
    """

    added: Sequence[RecordId]
    changed: Mapping[str, Sequence[RecordId]] = field(default_factory=dict)
    gone: Mapping[str, Sequence[RecordId]] = field(default_factory=dict)
    listing: IdListing = field(default_factory=lambda: IdListing([], []))
    compared: int = 0

    @property
    def count(self) -> int:
        """How many records are concerned."""
        return len(self.added) + sum(map(len, self.changed.values())) + sum(map(len, self.gone.values()))


def detect_changes(context: MigrationContext, detect: Detect) -> Changes:
    """Compare the source with what was seen of it, by ids, by contents, or by everything.

    Ranges of which nothing was noted, because an earlier version of this program proved them, count as changed as a
    whole unless only ids are compared.

    Args:
        context: A migration all ranges of which are proven.
        detect: How; not `Detect.WATERMARK`, see `detect_by_watermark`.

    Raises:
        SourceChangedError: The source's ids do not hold still.
    """
    listing = list_selected(context.migration, context.source, with_originals=False)
    if detect is Detect.IDS and digest_ids(listing.ids) == context.manifest.ids_digest:
        return Changes([], listing=listing)
    present = set(listing.ids)
    planned: set[RecordId] = set()
    changed: dict[str, list[RecordId]] = {}
    gone: dict[str, list[RecordId]] = {}
    compared = 0
    for entry, ids in zip(context.manifest.ranges, iter_range_ids(context.state, context.manifest), strict=True):
        planned.update(ids.ids)
        left = [record_id for record_id in ids.ids if record_id in present]
        if len(left) < len(ids.ids):
            gone[entry.key] = [record_id for record_id in ids.ids if record_id not in present]
        if detect is not Detect.IDS and left:
            found = _changed_in(context, entry, replace(ids, ids=left), detect)
            compared += len(left)
            if found:
                changed[entry.key] = found
    added = [record_id for record_id in listing.ids if record_id not in planned]
    return Changes(added, changed, gone, listing, compared=compared)


def detect_by_watermark(context: MigrationContext, name: str, value: Any) -> tuple[Changes, Any]:
    """Compare those records of the source whose field is at least a value with what was seen of them, and all ids.

    A new record is one whatever its field says: it may have none, or a smaller value.

    Args:
        context: A migration all ranges of which are proven.
        name: The field: a key of the payload.
        value: The largest value that the field had when the source was read the last time.

    Returns:
        What changed, and the largest value that the field has now.

    Raises:
        SourceChangedError: The source's ids do not hold still.
        SpecError: The field has values that cannot be ordered.
    """
    options = context.migration.options
    later: dict[str, Any] = {name: {"$gte": value}}
    wanted = later if options.filter is None else {"$and": [options.filter, later]}
    chosen = replace(context.migration, options=options.model_copy(update={"filter": wanted}))
    listing = list_selected(chosen, context.source, with_originals=False)
    planned = iter_range_ids(context.state, context.manifest)
    ranges = {record_id: item.key for item in planned for record_id in item.ids}
    found = _Later(context, name, value, ranges)
    for start in range(0, len(listing.ids), context.page_count):
        page = listing.ids[start : start + context.page_count]
        found.take(context.source.fetch_contents(context.migration.source_collection, page))
    everything = detect_changes(context, Detect.IDS)
    return replace(everything, changed=found.changed, compared=len(listing.ids)), found.newest


class _Later:
    """Records that are later than a watermark, compared with what was seen of them.

    Attributes:
        changed: Range -> its records that are other than they were.
        newest: The largest value so far.
    """

    def __init__(self, context: MigrationContext, name: str, value: Any, ranges: Mapping[RecordId, str]) -> None:
        self.changed: dict[str, list[RecordId]] = {}
        self.newest = value
        self._context = context
        self._name = name
        self._ranges = ranges
        self._seen: dict[str, Mapping[RecordId, bytes]] = {}

    def take(self, batch: RecordBatch) -> None:
        for record_id, digest, payload in zip(batch.ids, digest_contents(batch), batch.payloads, strict=True):
            self.newest = later_of(self.newest, payload.get(self._name), self._name)
            key = self._ranges.get(record_id)
            if key is not None and self._contents_of(key).get(record_id) != digest:
                self.changed.setdefault(key, []).append(record_id)

    def _contents_of(self, key: str) -> Mapping[RecordId, bytes]:
        if key not in self._seen:
            seen = read_sightings(self._context.state.sightings(key))
            self._seen[key] = {} if seen is None else dict(zip(seen.ids, seen.contents, strict=True))
        return self._seen[key]


def newest_value(context: MigrationContext, name: str) -> Any:
    """Return the largest value of a field in the source, None where no record has it.

    Args:
        context: The migration.
        name: The field: a key of the payload.

    Raises:
        SpecError: Its values are not all numbers, or all texts.
    """
    newest: Any = None
    for _, values in context.source.iter_field(context.migration.source_collection, name):
        for value in values:
            newest = later_of(newest, value, name)
    return newest


def later_of(newest: Any, value: Any, name: str) -> Any:
    """Return the larger of two values of a watermark's field; None is smaller than all.

    Raises:
        SpecError: They cannot be ordered.
    """
    if value is None:
        return newest
    if not _is_ordered(value) or (newest is not None and isinstance(value, str) != isinstance(newest, str)):
        beside = "" if newest is None else f" beside a {type(newest).__name__}"
        raise SpecError(
            f"the field {name!r} cannot be a watermark: it has a {type(value).__name__}{beside}.",
            todo="Choose a field that holds numbers only, or texts only (ISO 8601 dates, say).",
        )
    return value if newest is None or value > newest else newest


def _is_ordered(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _changed_in(context: MigrationContext, entry: RangeEntry, present: RecordRange, detect: Detect) -> list[RecordId]:
    """Return the records of a range that are other than they were."""
    seen = read_sightings(context.state.sightings(entry.key))
    if seen is None:
        return list(present.ids)
    contents = dict(zip(seen.ids, seen.contents, strict=True))
    if detect is Detect.PAYLOAD:
        return [i for batch in _contents(context, present) for i in _others(batch, contents)]
    comparison = _Written(context, entry.key, seen)
    wanted = set(present.ids)
    changed: list[RecordId] = []
    for page in read_records(context, present):
        rows = [row for row, record_id in enumerate(page.ids) if record_id in wanted]
        for part in cut(page.take(rows), context.page_count, context.migration.options.batch_bytes):
            changed += comparison.others(part, _others(part, contents))
    return changed


def _contents(context: MigrationContext, present: RecordRange) -> Iterator[RecordBatch]:
    """Yield the records of a range without vectors."""
    name, count = context.migration.source_collection, context.page_count
    if not (context.manifest.is_narrowed or present.is_listed):
        yield from context.source.read_contents(name, present, count)
        return
    for start in range(0, present.count, count):
        yield context.source.fetch_contents(name, present.ids[start : start + count])


def _others(batch: RecordBatch, contents: Mapping[RecordId, bytes]) -> list[RecordId]:
    """Return the ids of the records that have other contents than were seen; what was not seen is passed over."""
    pairs = zip(batch.ids, digest_contents(batch), strict=True)
    return [record_id for record_id, digest in pairs if contents.get(record_id, digest) != digest]


def pack_anew(context: MigrationContext, unpacked: RecordBatch) -> PackedBatch:
    """Return records as they would be written now; who else had one is not asked: it is compared with what was written.

    Args:
        context: The migration.
        unpacked: Records that the filter takes, as they left the extract.
    """
    mapping, migration = context.mapping, context.migration
    kept = unpacked if mapping is None else transform_batch(unpacked, mapping, lambda _records, _rejections: None)[0]
    overwriting = migration.options.model_copy(update={"conflict": Conflict.OVERWRITE})
    return pack_batch(replace(context, migration=replace(migration, options=overwriting)), kept)


class _Written:
    """Compares what would be written now with what the receipt of a range says was written."""

    def __init__(self, context: MigrationContext, range_key: str, seen: Sightings) -> None:
        self._context = context
        self._receipt = read_receipt(context.state.receipt(range_key))
        self._rows = {source_id: row for row, source_id in enumerate(self._receipt.source_ids)}
        self._repaired = frozenset(read_repairs(context.state.repairs(range_key)).rows)
        pairs = zip(seen.ids, seen.fates, strict=True)
        self._left_out = {record_id for record_id, fate in pairs if fate != Fate.TAKEN}

    def others(self, stored: RecordBatch, known: Sequence[RecordId]) -> list[RecordId]:
        """Return the ids of the records to be carried once more.

        Args:
            stored: Records as the source holds them.
            known: Those of them that have other contents, which settles it. Records that a filter left out, that were
                skipped, set aside or repaired are told apart by their contents only.
        """
        unpacked = unpack(stored, self._context.source_layout)
        settled = {*known, *self._left_out}
        rows = [
            row
            for row, (stored_id, source_id) in enumerate(zip(stored.ids, unpacked.ids, strict=True))
            if stored_id not in settled and source_id in self._rows and source_id not in self._repaired
        ]
        differing = self._differing(unpacked.take(rows)) if rows else set()
        return [*known, *(stored.ids[row] for row in rows if unpacked.ids[row] in differing)]

    def _differing(self, batch: RecordBatch) -> set[RecordId]:
        """Return the source ids of the records that would be written otherwise."""
        packed = pack_anew(self._context, batch)
        now = make_receipt(packed.records, packed.source_ids, inexact=self._context.inexact_vectors)
        same = {
            source_id
            for row, source_id in enumerate(now.source_ids)
            if _is_same(now, row, self._receipt, self._rows[source_id])
        }
        return set(batch.ids) - same


def _is_same(now: Receipt, row: int, before: Receipt, earlier: int) -> bool:
    """Return whether two receipts say the same of a record."""
    return (
        now.ids[row] == before.ids[earlier]
        and now.contents[row] == before.contents[earlier]
        and now.vectors.keys() == before.vectors.keys()
        and all(digests[row] == before.vectors[name][earlier] for name, digests in now.vectors.items())
        and now.sketches.keys() == before.sketches.keys()
        and all(
            is_same_sketch(sketches[row], before.sketches[name][earlier]) for name, sketches in now.sketches.items()
        )
    )
