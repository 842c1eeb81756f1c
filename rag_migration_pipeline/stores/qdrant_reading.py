"""What all forms of Qdrant share: records read by key, page by page, and written after normalising.

Belongs here: the order of ids, ranges, fetching in the order asked, the check before a write. Does not belong here:
requests (the transports), collections (``qdrant.py``, ``qdrant_edge.py``).
"""

import re
import uuid
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.errors import CollectionNotFoundError, StoreRequestError
from rag_migration_pipeline.filters.nodes import Filter
from rag_migration_pipeline.records import (
    UINT64_MAX,
    CollectionSpec,
    Payload,
    RecordBatch,
    RecordId,
    RecordRange,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.narrowing import Narrowing, query_of
from rag_migration_pipeline.stores.qdrant_filter import Query, narrow_points
from rag_migration_pipeline.stores.qdrant_vectors import in_float32, rows_to_batch

_PAGE_BYTES = 32 * 2**20
_MULTI_VECTORS = 256  # vectors of one record: a passage in a late-interaction model
_SPARSE_ENTRIES = 256  # entries of one record: the terms of a passage
_DELETE_COUNT = 10_000
_VALUES_PAGE_COUNT = 5_000
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True)
class Page:
    """Consecutive records and the id that comes after them (None: there is none)."""

    batch: RecordBatch
    next_id: RecordId | None


class PointTransport(ABC):
    """How points reach one form of Qdrant; raises our errors only."""

    @abstractmethod
    def page(self, spec: CollectionSpec, start: RecordId | None, count: int) -> Page:
        """Return up to ``count`` records with ``id >= start`` in the order of ids, with the spec's vectors."""

    @abstractmethod
    def id_page(
        self, collection: str, start: RecordId | None, count: int, where: Query | None = None
    ) -> tuple[list[RecordId], RecordId | None]:
        """Return up to ``count`` ids from ``start`` on, all or those that a filter selects, and the id after them."""

    @abstractmethod
    def value_page(
        self, collection: str, key: str, start: RecordId | None, count: int, where: Query | None = None
    ) -> tuple[list[RecordId], list[Payload], RecordId | None]:
        """Return the same as `id_page`, with payloads that have that key only."""

    @abstractmethod
    def retrieve(self, spec: CollectionSpec, ids: Sequence[RecordId]) -> RecordBatch:
        """Return the records with these ids in any order, with the spec's vectors."""

    @abstractmethod
    def count(self, collection: str, where: Query | None = None) -> int:
        """Return the exact number of points, all or those that a filter selects."""

    @abstractmethod
    def upsert(self, spec: CollectionSpec, batch: RecordBatch) -> None:
        """Write records, acknowledged; dense and multi-vectors are as `qdrant_vectors.in_float32` makes them."""

    @abstractmethod
    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """Delete points, acknowledged."""


class KeyedStore(VectorStore):
    """The part of a Qdrant store that does not depend on its form."""

    @abstractmethod
    def points(self) -> PointTransport:
        """Return the transport.

        Raises:
            StoreRequestError: The store is closed.
        """

    @contextmanager
    def _known(self, collection: str) -> Iterator[None]:
        """Let an error about a missing collection say what exists, and forget what was remembered of it."""
        try:
            yield
        except CollectionNotFoundError as error:
            self.forget_spec(collection)
            raise self.not_found(collection) from error

    def narrow(self, collection: str, parts: Sequence[Filter]) -> Narrowing:
        """See `VectorStore.narrow`."""
        return narrow_points(parts, self.spec(collection).fields, self.settings.document_key)

    def count(self, collection: str, where: Narrowing | None = None) -> int:
        """See `VectorStore.count`."""
        with self._known(collection):
            return self.points().count(collection, query_of(where))

    def iter_ids(
        self, collection: str, page_count: int = 10_000, where: Narrowing | None = None
    ) -> Iterator[list[RecordId]]:
        """See `VectorStore.iter_ids`."""
        next_id: RecordId | None = None
        while True:
            with self._known(collection):
                ids, next_id = self.points().id_page(collection, next_id, page_count, query_of(where))
            if ids:
                yield ids
            if next_id is None:
                return

    def iter_field(
        self, collection: str, key: str, where: Narrowing | None = None
    ) -> Iterator[tuple[list[RecordId], list[Any]]]:
        """See `VectorStore.iter_field`; a key that Qdrant would take for a path is read with whole records."""
        if not _PLAIN_KEY.fullmatch(key):
            yield from super().iter_field(collection, key, where)
            return
        query = query_of(where)
        next_id: RecordId | None = None
        while True:
            with self._known(collection):
                ids, payloads, next_id = self.points().value_page(collection, key, next_id, _VALUES_PAGE_COUNT, query)
            if ids:
                yield ids, [payload.get(key) for payload in payloads]
            if next_id is None:
                return

    def read_range(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_range`; the first id need not exist any more."""
        yield from self._read(self.spec(collection), record_range, page_count)

    def read_contents(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_contents`."""
        yield from self._read(replace(self.spec(collection), vectors=()), record_range, page_count)

    def scan(self, collection: str, page_count: int | None = None) -> Iterator[RecordBatch]:
        """See `VectorStore.scan`."""
        yield from self._read(self.spec(collection), None, page_count or self.capabilities.page_count)

    def _read(self, spec: CollectionSpec, part: RecordRange | None, page_count: int) -> Iterator[RecordBatch]:
        """Yield records with ``start <= id < stop``, or all; the range's count only keeps the last page small."""
        limit = min(page_count, _page_limit(spec))
        next_id, stop, left = (None, None, 0) if part is None else (part.start, part.stop, part.count)
        while True:
            with self._known(spec.name):
                page = self.points().page(spec, next_id, min(limit, left) if left > 0 else limit)
            batch = _before(page.batch, stop)
            if len(batch):
                yield batch
            left -= len(batch)
            next_id = page.next_id
            if next_id is None or (stop is not None and id_order(next_id) >= id_order(stop)):
                return

    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch`."""
        return self._fetch(self.spec(collection), ids)

    def fetch_contents(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch_contents`."""
        return self._fetch(replace(self.spec(collection), vectors=()), ids)

    def _fetch(self, spec: CollectionSpec, ids: Sequence[RecordId]) -> RecordBatch:
        wanted = [record_id for record_id in dict.fromkeys(ids) if is_point_id(record_id)]
        limit = min(self.capabilities.page_count, _page_limit(spec))
        with self._known(spec.name):
            parts = [
                self.points().retrieve(spec, wanted[position : position + limit])
                for position in range(0, len(wanted), limit)
            ]
        found = concatenate(parts) if parts else rows_to_batch(spec, [], [], [])
        rows = {record_id: row for row, record_id in enumerate(found.ids)}
        return found.take(rows[record_id] for record_id in ids if is_point_id(record_id) and record_id in rows)

    def write(self, collection: str, batch: RecordBatch) -> None:
        """See `VectorStore.write`."""
        spec = self.spec(collection)
        if len(batch):
            with self._known(collection):
                self.points().upsert(spec, in_float32(batch, spec, self.capabilities))

    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """See `VectorStore.delete`."""
        known = [record_id for record_id in ids if is_point_id(record_id)]
        with self._known(collection):
            if not known:
                self.points().count(collection)  # a missing collection is an error, even with nothing to delete
            for start in range(0, len(known), _DELETE_COUNT):
                self.points().delete(collection, known[start : start + _DELETE_COUNT])


def id_order(record_id: RecordId) -> tuple[bool, int]:
    """Return the sort key of Qdrant's order: integers first, then UUIDs by their 128 bits.

    Source: ``ExtendedPointId`` derives its order from its variants; tried on qdrant-edge-py 0.9.0.
    """
    if isinstance(record_id, uuid.UUID):
        return True, record_id.int
    if isinstance(record_id, int):
        return False, record_id
    raise StoreRequestError(f"the id {record_id!r} cannot be in Qdrant, whose ids are uint64 or UUID.")


def is_point_id(record_id: RecordId) -> bool:
    """Return whether Qdrant can have the id; one that it cannot have does not exist there."""
    if isinstance(record_id, uuid.UUID):
        return True
    return isinstance(record_id, int) and not isinstance(record_id, bool) and 0 <= record_id <= UINT64_MAX


def _before(batch: RecordBatch, stop: RecordId | None) -> RecordBatch:
    if stop is None or not len(batch) or id_order(batch.ids[-1]) < id_order(stop):
        return batch
    return batch.slice(0, bisect_left(batch.ids, id_order(stop), key=id_order))


def _page_limit(spec: CollectionSpec) -> int:
    """Return how many records keep a page within 32 MiB of vectors, guessing how long the longer ones are."""
    return max(1, _PAGE_BYTES // max(1, sum(map(_vector_bytes, spec.vectors))))


def _vector_bytes(vector: VectorSpec) -> int:
    if vector.kind is VectorKind.SPARSE:
        return 8 * _SPARSE_ENTRIES
    return 4 * (vector.dimension or 0) * (_MULTI_VECTORS if vector.kind is VectorKind.MULTI else 1)
