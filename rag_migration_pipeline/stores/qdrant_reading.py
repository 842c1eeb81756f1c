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
from dataclasses import dataclass
from typing import Any

import numpy as np

from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.errors import CollectionNotFoundError, StoreRequestError
from rag_migration_pipeline.records import (
    UINT64_MAX,
    CollectionSpec,
    DenseColumn,
    Float32Array,
    Metric,
    Payload,
    RecordBatch,
    RecordId,
    RecordRange,
    VectorColumn,
)
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.qdrant_schema import check_dense_float32

_PAGE_BYTES = 32 * 2**20
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
        """Return up to ``count`` records with ``id >= start`` in the order of ids."""

    @abstractmethod
    def id_page(self, collection: str, start: RecordId | None, count: int) -> tuple[list[RecordId], RecordId | None]:
        """Return up to ``count`` ids from ``start`` on, and the id after them."""

    @abstractmethod
    def value_page(
        self, collection: str, key: str, start: RecordId | None, count: int
    ) -> tuple[list[RecordId], list[Payload], RecordId | None]:
        """Return up to ``count`` ids from ``start`` on, payloads with that key only, and the id after them."""

    @abstractmethod
    def retrieve(self, spec: CollectionSpec, ids: Sequence[RecordId]) -> RecordBatch:
        """Return the records with these ids in any order."""

    @abstractmethod
    def count(self, collection: str) -> int:
        """Return the exact number of points."""

    @abstractmethod
    def upsert(self, spec: CollectionSpec, batch: RecordBatch) -> None:
        """Write records, acknowledged; vectors are float32, those of cosine collections of length 1."""

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

    def count(self, collection: str) -> int:
        """See `VectorStore.count`."""
        with self._known(collection):
            return self.points().count(collection)

    def iter_ids(self, collection: str, page_count: int = 10_000) -> Iterator[list[RecordId]]:
        """See `VectorStore.iter_ids`."""
        next_id: RecordId | None = None
        while True:
            with self._known(collection):
                ids, next_id = self.points().id_page(collection, next_id, page_count)
            if ids:
                yield ids
            if next_id is None:
                return

    def iter_field(self, collection: str, key: str) -> Iterator[tuple[list[RecordId], list[Any]]]:
        """See `VectorStore.iter_field`; a key that Qdrant would take for a path is read with whole records."""
        if not _PLAIN_KEY.fullmatch(key):
            yield from super().iter_field(collection, key)
            return
        next_id: RecordId | None = None
        while True:
            with self._known(collection):
                ids, payloads, next_id = self.points().value_page(collection, key, next_id, _VALUES_PAGE_COUNT)
            if ids:
                yield ids, [payload.get(key) for payload in payloads]
            if next_id is None:
                return

    def read_range(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_range`; the first id need not exist any more."""
        yield from self._read(collection, record_range.start, record_range.stop, page_count, record_range.count)

    def scan(self, collection: str, page_count: int | None = None) -> Iterator[RecordBatch]:
        """See `VectorStore.scan`."""
        yield from self._read(collection, None, None, page_count or self.capabilities.page_count, 0)

    def _read(
        self, collection: str, start: RecordId | None, stop: RecordId | None, page_count: int, expected_count: int
    ) -> Iterator[RecordBatch]:
        """Yield records with ``start <= id < stop``; the expected count only keeps the last page small."""
        spec = self._readable_spec(collection)
        limit = min(page_count, _page_limit(spec))
        next_id, left = start, expected_count
        while True:
            with self._known(collection):
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
        spec = self._readable_spec(collection)
        wanted = [record_id for record_id in dict.fromkeys(ids) if is_point_id(record_id)]
        limit = min(self.capabilities.page_count, _page_limit(spec))
        with self._known(collection):
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
        check_dense_float32(spec, "write")
        if len(batch):
            with self._known(collection):
                self.points().upsert(spec, normalised(batch, spec))

    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """See `VectorStore.delete`."""
        known = [record_id for record_id in ids if is_point_id(record_id)]
        with self._known(collection):
            if not known:
                self.points().count(collection)  # a missing collection is an error, even with nothing to delete
            for start in range(0, len(known), _DELETE_COUNT):
                self.points().delete(collection, known[start : start + _DELETE_COUNT])

    def _readable_spec(self, collection: str) -> CollectionSpec:
        spec = self.spec(collection)
        check_dense_float32(spec, "read")
        return spec


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
    """Return how many records keep a page within 32 MiB of vectors."""
    return max(1, _PAGE_BYTES // max(1, sum(4 * (vector.dimension or 0) for vector in spec.vectors)))


def normalised(batch: RecordBatch, spec: CollectionSpec) -> RecordBatch:
    """Return the batch with C-contiguous float32 vectors, those of cosine collections divided by their length.

    Qdrant does so itself, but leaves vectors shorter than 3.45e-4 as they are and makes zeros of those longer than
    1.8e19, whose squared length overflows float32 (tried on qdrant-edge-py 0.9.0). It leaves vectors of length 1 alone.
    """
    columns: dict[str, VectorColumn] = dict(batch.vectors)
    for name, column in batch.vectors.items():
        if isinstance(column, DenseColumn):
            is_cosine = spec.vector(name).metric is Metric.COSINE
            values = _unit_rows(column.values) if is_cosine else column.values
            columns[name] = DenseColumn(np.ascontiguousarray(values, dtype=np.float32), column.present)
    return batch.with_columns(vectors=columns)


def _unit_rows(values: Float32Array) -> Float32Array:
    """Return rows of length 1; zero rows, which have no direction, stay zero."""
    wide = values.astype(np.float64)
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
    unit: Float32Array = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0).astype(np.float32)
    return unit


def rows_to_batch(
    spec: CollectionSpec, ids: list[RecordId], payloads: list[Payload], vectors: Sequence[dict[str, Any]]
) -> RecordBatch:
    """Return a batch from one dict of vectors per record.

    Args:
        spec: The collection; only dense vectors.
        ids: Ids of the records.
        payloads: Payloads of the records.
        vectors: Per record, a sequence of floats by vector name; names may be missing.
    """
    columns: dict[str, VectorColumn] = {}
    for vector in spec.vectors:
        dimension = vector.dimension or 0
        rows = [record.get(vector.name) for record in vectors]
        present = np.fromiter((row is not None for row in rows), dtype=np.bool_, count=len(rows))
        if present.all():
            values = np.array(rows, dtype=np.float32).reshape(len(rows), dimension)
            columns[vector.name] = DenseColumn(values)
        else:
            values = np.zeros((len(rows), dimension), dtype=np.float32)
            for position in np.flatnonzero(present):
                values[position] = rows[position]
            columns[vector.name] = DenseColumn(values, present)
    return RecordBatch(ids, columns, payloads)
