"""Reading Chroma: ids by offset, records by id.

Belongs here: pages, limits and order of what is read. Does not belong here: the requests (``chroma_collection.py``),
what an answer holds (``chroma_records.py``), everything that writes (``chroma.py``).

Records are read by ids and never by offset: ``get(ids)`` is as fast as ``get(limit, offset)`` (9-10 against 9-10
thousand records/s at 384 dimensions over HTTP, 10-15 against 10-15 in a folder, chromadb 1.5.9) and cannot skip or
repeat a record when others are deleted meanwhile.
"""

from abc import abstractmethod
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any

from rag_migration_pipeline.batching import concatenate
from rag_migration_pipeline.filters.nodes import Filter
from rag_migration_pipeline.payloads import ENVELOPE_KEY
from rag_migration_pipeline.records import RecordBatch, RecordId, RecordRange
from rag_migration_pipeline.stores import chroma_records as records
from rag_migration_pipeline.stores import chroma_schema as schema
from rag_migration_pipeline.stores.base import VectorStore
from rag_migration_pipeline.stores.chroma_collection import ChromaCollection
from rag_migration_pipeline.stores.chroma_filter import ChromaDialect
from rag_migration_pipeline.stores.in_order import run_in_order
from rag_migration_pipeline.stores.narrowing import Narrowing, narrow, not_narrowed, query_of

_IDS_PAGE_COUNT = 10_000
_VALUES_PAGE_COUNT = 10_000
_SAMPLE_COUNT = 100
_MAX_IDS_COUNT = 10_000
"""Most ids of one request to read: at 32,766 SQLite runs out of variables (20,000 work, 40,000 fail on 1.5.9)."""

_PAGE_VECTOR_BYTES = 16 * 2**20


class ReadableChroma(VectorStore):
    """The reading part of a Chroma store."""

    @abstractmethod
    def _using(self, collection: str) -> AbstractContextManager[ChromaCollection]:
        """Give the collection's requests."""

    @abstractmethod
    def _fresh_model(self, collection: str) -> Any:
        """Return the client's model of the collection as it is now."""

    def narrow(self, collection: str, parts: Sequence[Filter]) -> Narrowing:
        """See `VectorStore.narrow`; Chroma cannot ask for a key, so beside envelopes nothing can be narrowed."""
        return narrow(parts, ChromaDialect()) if self._has_never_held(collection, ENVELOPE_KEY) else not_narrowed(parts)

    def count(self, collection: str, where: Narrowing | None = None) -> int:
        """See `VectorStore.count`; what a filter selects is counted by listing it."""
        if query_of(where) is not None:
            return sum(map(len, self.iter_ids(collection, where=where)))
        with self._using(collection) as held:
            return held.count()

    def iter_ids(
        self, collection: str, page_count: int = _IDS_PAGE_COUNT, where: Narrowing | None = None
    ) -> Iterator[list[RecordId]]:
        """See `VectorStore.iter_ids`; the order is that of the first write of each record.

        Chroma lists by offset only: when records are deleted meanwhile, others are skipped. The manifest lists twice.
        """
        offset = 0
        while True:
            with self._using(collection) as held:
                ids: list[RecordId] = [*held.list_ids(page_count, offset, query_of(where))]
            if ids:
                yield ids
            if len(ids) < page_count:
                return
            offset += len(ids)

    def iter_field(
        self, collection: str, key: str, where: Narrowing | None = None
    ) -> Iterator[tuple[list[RecordId], list[Any]]]:
        """See `VectorStore.iter_field`; reads payloads without vectors and documents, or no payloads at all."""
        if self._has_never_held(collection, key):
            for ids_only in self.iter_ids(collection, where=where):
                yield ids_only, [None] * len(ids_only)
            return
        offset = 0
        while True:
            with self._using(collection) as held:
                ids, values = held.list_values(key, _VALUES_PAGE_COUNT, offset, query_of(where))
            if ids:
                yield [*ids], values
            if len(ids) < _VALUES_PAGE_COUNT:
                return
            offset += len(ids)

    def read_range(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_range`; reads the range's ids."""
        pages = self._pages(collection, record_range.ids, page_count)
        with closing(self._run_in_order(collection, pages)) as found:
            yield from (batch for batch in found if len(batch))

    def read_contents(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_contents`; reads the range's ids."""
        size = min(page_count, _MAX_IDS_COUNT)
        pages = [record_range.ids[start : start + size] for start in range(0, record_range.count, size)]
        readers = max(1, min(self.capabilities.concurrent_readers, len(pages)))
        with closing(run_in_order(lambda ids: self.fetch_contents(collection, ids), pages, readers)) as found:
            yield from (batch for batch in found if len(batch))

    def fetch_contents(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch_contents`."""
        wanted = [str(record_id) for record_id in ids if records.can_be_id(record_id)]
        parts = [RecordBatch([], {}, [], [])]
        with self._using(collection) as held:
            for start in range(0, len(wanted), _MAX_IDS_COUNT):
                page = wanted[start : start + _MAX_IDS_COUNT]
                parts.append(records.contents_of(page, held.read(page, records.CONTENTS)))
        return concatenate(parts)

    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch`."""
        pages = self._pages(collection, [*dict.fromkeys(ids)], self.capabilities.page_count) or [[]]
        batch = concatenate(list(self._run_in_order(collection, pages)))
        position = {record_id: row for row, record_id in enumerate(batch.ids)}
        if list(batch.ids) == list(ids):
            return batch
        return batch.take(position[record_id] for record_id in ids if record_id in position)

    def _has_never_held(self, collection: str, key: str) -> bool:
        """Return whether no record ever had that key, by the keys that the collection's schema lists.

        A write adds its keys before it is acknowledged (folder and server, 1.5.9). Collections filled by versions
        before schemas list fewer keys than they hold, so the first records must not contradict it.
        """
        schema_keys = schema.keys_of(self._fresh_model(collection))
        if schema_keys is None or key in schema_keys or key == schema.URI_KEY:
            return False
        with self._using(collection) as held:
            return all(payload.keys() <= schema_keys for payload in held.first_payloads(_SAMPLE_COUNT))

    def _pages(self, collection: str, ids: Sequence[RecordId], page_count: int) -> list[list[str]]:
        """Cut ids into pages within the limits; ids that cannot exist in Chroma are left out."""
        dimension = self.spec(collection).vectors[0].dimension or 1
        size = max(1, min(page_count, _MAX_IDS_COUNT, _PAGE_VECTOR_BYTES // (4 * dimension)))
        possible = [str(record_id) for record_id in ids if records.can_be_id(record_id)]
        return [possible[start : start + size] for start in range(0, len(possible), size)]

    def _run_in_order(self, collection: str, pages: list[list[str]]) -> Generator[RecordBatch, None, None]:
        # A page alone is read in the caller's thread: threads that come and go leave memory behind in malloc's arenas.
        readers = max(1, min(self.capabilities.concurrent_readers, len(pages)))
        return run_in_order(lambda ids: self._get(collection, ids), pages, readers)

    def _get(self, collection: str, ids: list[str]) -> RecordBatch:
        vector = self.spec(collection).vectors[0]
        with self._using(collection) as held:
            return records.batch_of(ids, held.read(ids, records.EVERYTHING), vector)
