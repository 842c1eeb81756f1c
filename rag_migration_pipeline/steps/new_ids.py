"""New ids: which ids the records of a source will have, worked out and proven one to one before the first write.

Belongs here: ids that a mapping or the option ``ids`` gives, for all records of a source. Does not belong here: listing
the source's own ids (``steps/planning.py``), how a target writes an id (``ids.py``).

Where an id comes from one field as the source has it, that field alone is read. Otherwise (a filter, a path into an
object, a hook or an earlier mapping has a say) the records are read once more, completely.
"""

from collections.abc import Iterator

from rag_migration_pipeline.envelope import ENVELOPE_KEY, Layout, unpack
from rag_migration_pipeline.errors import SchemaCompatibilityError, SourceChangedError
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.filters.meaning import select_rows
from rag_migration_pipeline.mapping.mapper import Mapper, MappingPlan
from rag_migration_pipeline.records import RecordBatch, RecordId, id_text
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.stores.base import VectorStore

SHOWN = 10


def new_ids(migration: Migration, source: VectorStore, layout: Layout, mapping: MappingPlan) -> list[RecordId]:
    """Return the ids that the records have after their mapping, which sets them.

    Records that get no id, because their field is missing or wrong, are left out: the transform sets them aside.

    Args:
        migration: The migration.
        source: Its source store.
        layout: How the source collection holds records.
        mapping: What is done to the records.

    Raises:
        SchemaCompatibilityError: Two records would get the same id; names the first pairs.
        SourceChangedError: The source changed while the field was read.
    """
    seen: dict[RecordId, RecordId] = {}
    meetings = []
    for old, new in old_and_new_ids(migration, source, layout, mapping):
        if new in seen:
            meetings.append(f"{id_text(seen[new])!r} and {id_text(old)!r} -> {id_text(new)!r}")
        seen.setdefault(new, old)
    if meetings:
        raise SchemaCompatibilityError(
            f"{len(meetings)} records would get an id that another one has: {'; '.join(meetings[:SHOWN])}.",
            todo="Take the id from a field that is different in every record, or filter one of each pair out.",
        )
    return list(seen)


def old_and_new_ids(
    migration: Migration, source: VectorStore, layout: Layout, mapping: MappingPlan
) -> Iterator[tuple[RecordId, RecordId]]:
    """Yield the id of each record of the source, and the one that its mapping gives it; arguments as of `new_ids`.

    Raises:
        SourceChangedError: The source changed while the field was read.
    """
    mapper = mapping.id_mapper
    if mapper is not None and _is_one_key(mapper, layout) and not migration.options.filter:
        return _by_field(migration, source, layout, mapper)
    return _by_record(migration, source, layout, mapping)


def _is_one_key(mapper: Mapper, layout: Layout) -> bool:
    path = mapper.id_path
    return path is not None and len(path.keys) == 1 and path.keys[0] != layout.document_key


def _by_field(
    migration: Migration, source: VectorStore, layout: Layout, mapper: Mapper
) -> Iterator[tuple[RecordId, RecordId]]:
    """Yield from the one field and the envelope, which may hold it."""
    assert mapper.id_path is not None
    key, collection = mapper.id_path.keys[0], migration.source_collection
    ids: list[RecordId] = []
    found: list[dict[str, object]] = []
    for page, values in source.iter_field(collection, key):
        ids += page
        found += [{} if value is None else {key: value} for value in values]
    start = 0
    for page, values in source.iter_field(collection, ENVELOPE_KEY):
        if page != ids[start : start + len(page)]:
            raise _changed(source, collection, key)
        for row, envelope in enumerate(values, start=start):
            found[row].update({} if envelope is None else {ENVELOPE_KEY: envelope})
        start += len(page)
    if start != len(ids):
        raise _changed(source, collection, key)
    batch = unpack(RecordBatch(ids, {}, found), layout)
    for old, payload in zip(batch.ids, batch.payloads, strict=True):
        try:
            yield old, mapper.map_id(payload)
        except ValueError:
            continue


def _changed(source: VectorStore, collection: str, key: str) -> SourceChangedError:
    return SourceChangedError(
        f"{source.address}, collection {collection!r} changed while the field {key!r} was read.",
        todo="Stop the writers, then plan again.",
    )


def _by_record(
    migration: Migration, source: VectorStore, layout: Layout, mapping: MappingPlan
) -> Iterator[tuple[RecordId, RecordId]]:
    """Yield from the whole records, those that the filter takes."""
    wanted = parse_filter(migration.options.filter)
    for stored in source.scan(migration.source_collection):
        batch = unpack(stored, layout)
        mapped = mapping.apply(batch.take(select_rows(batch, wanted))).batch
        yield from zip(mapped.source_ids or mapped.ids, mapped.ids, strict=True)
