"""Listing: the ids of a source, as soon as they hold still.

Belongs here: which ids there are that a migration may take, and that two passes over them agree. Does not belong here:
what is made of them (``steps/planning.py``, ``steps/changes.py``, ``steps/verification.py``).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rag_migration_pipeline.envelope import ENVELOPE_KEY, original_id
from rag_migration_pipeline.errors import SourceChangedError, StoreRequestError
from rag_migration_pipeline.filters import parse_filter
from rag_migration_pipeline.filters.meaning import select_ids
from rag_migration_pipeline.filters.nodes import EVERYTHING
from rag_migration_pipeline.records import RecordId, id_text
from rag_migration_pipeline.spec import Migration
from rag_migration_pipeline.steps.push_down import (
    NOTHING_PUSHED_DOWN,
    PushDown,
    describe_push_down,
    not_pushed_down,
    refuse_mistyped,
)
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.narrowing import Narrowing

MAX_PASSES = 5
"""Passes over the ids before a source counts as changing; two neighbouring ones must agree."""


@dataclass(frozen=True)
class IdListing:
    """Ids of a source, in its order.

    Attributes:
        ids: As the source names them now.
        originals: As they were before a migration packed them; the same objects where none did. Where the migration
            gives other ids, those, of the records that get one. Empty where they were not asked for.
        push_down: How the filter was divided to find them.
        has_new_ids: Whether the migration gives other ids; then ``originals`` are of records that the filter takes.
    """

    ids: list[RecordId]
    originals: list[RecordId]
    push_down: PushDown = NOTHING_PUSHED_DOWN
    has_new_ids: bool = False


def list_selected(migration: Migration, source: VectorStore, *, with_originals: bool = True) -> IdListing:
    """Return the ids of the records that the migration's filter may take.

    A store that refuses the question (a server may forbid filters on fields without an index) is asked for all ids.

    Args:
        migration: The migration.
        source: Its source store.
        with_originals: Whether the ids of before a migration packed them are wanted; they are read from the payloads,
            which takes several times as long as the ids alone.

    Raises:
        SourceChangedError: See `list_ids`.
        SpecError: The filter contradicts the source's schema.
    """
    collection, wanted = migration.source_collection, parse_filter(migration.options.filter)
    if wanted == EVERYTHING:
        return list_ids(source, collection, with_originals=with_originals)
    refuse_mistyped(wanted, source.spec(collection), migration.source.document_key)
    pushed = not_pushed_down(wanted)
    if migration.options.push_down:
        pushed = describe_push_down(source, collection, wanted)
    asked = with_originals or pushed.on_ids != EVERYTHING
    try:
        listing = list_ids(source, collection, pushed.where, with_originals=asked)
    except StoreRequestError:
        if pushed.where is None:
            raise
        pushed = not_pushed_down(wanted)
        listing = list_ids(source, collection, with_originals=with_originals)
    if pushed.on_ids == EVERYTHING:
        return IdListing(listing.ids, listing.originals, pushed)
    rows = select_ids(listing.originals, pushed.on_ids)
    return IdListing([listing.ids[row] for row in rows], [listing.originals[row] for row in rows], pushed)


def list_ids(
    source: VectorStore, collection: str, where: Narrowing | None = None, *, with_originals: bool = True
) -> IdListing:
    """Return all ids in the source's order, or those of what the source is asked for.

    They are listed until two passes in a row are the same, id by id.

    Args:
        source: The source store.
        collection: Its collection.
        where: What is asked for.
        with_originals: See `list_selected`.

    Raises:
        SourceChangedError: They never are, or ids come twice.
    """
    before = [record_id for page in source.iter_ids(collection, where=where) for record_id in page]
    for _ in range(MAX_PASSES - 1):
        ids, originals = _once_more(before, _pages(source, collection, where, with_originals=with_originals))
        if ids == before:
            _refuse_duplicates(source, collection, ids, where)
            return IdListing(ids, originals)
        before = ids
    raise SourceChangedError(
        f"the source is changing: {MAX_PASSES} passes over the ids of {source.address}, collection {collection!r}, "
        f"gave different ids each time (last count {len(before)}).",
        todo="Stop the writers while the ids are listed; the copy itself tolerates additions.",
    )


def _pages(
    source: VectorStore, collection: str, where: Narrowing | None, *, with_originals: bool
) -> Iterator[tuple[list[RecordId], list[Any]]]:
    """Yield ids, with the envelope of each where those are wanted."""
    if with_originals:
        yield from source.iter_field(collection, ENVELOPE_KEY, where)
        return
    for page in source.iter_ids(collection, where=where):
        yield page, []


def _once_more(
    before: Sequence[RecordId], pages: Iterable[tuple[list[RecordId], list[Any]]]
) -> tuple[list[RecordId], list[RecordId]]:
    """Return ids and originals of a pass; an id that the pass before had at its place is the same object."""
    ids: list[RecordId] = []
    originals: list[RecordId] = []
    for page, envelopes in pages:
        known = before[len(ids) : len(ids) + len(page)]
        same = known if known == page else page
        ids += same
        if envelopes:
            originals += map(original_id, same, envelopes)
    return ids, originals


def _refuse_duplicates(source: VectorStore, collection: str, ids: Sequence[RecordId], where: Narrowing | None) -> None:
    distinct = set(ids)
    count = source.count(collection, where)
    if len(distinct) == len(ids) and count == len(ids):
        return
    twice = sorted(id_text(record_id) for record_id, times in Counter(ids).items() if times > 1)
    raise SourceChangedError(
        f"{source.address}, collection {collection!r} says it holds {count} records, but {len(distinct)} different ids "
        f"were found{', these more than once: ' + ', '.join(twice[:10]) if twice else ''}.",
        todo="Remove records with duplicate ids, or stop the writers, then plan again.",
    )
