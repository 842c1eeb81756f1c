"""Chroma: a folder with the engine in this process, or a server over HTTP.

Belongs here: each promise of ``base.py``. Does not belong here: settings (``chroma_settings.py``), reaching Chroma
(``chroma_connection.py``), what a collection is (``chroma_schema.py``), the requests about its records
(``chroma_collection.py``, ``chroma_records.py``, ``chroma_writing.py``), what errors mean (``chroma_errors.py``).

Reading goes by ids and never by offset: ``get(ids)`` is as fast as ``get(limit, offset)`` (9-10 against 9-10 thousand
records/s at 384 dimensions over HTTP, 10-15 against 10-15 in a folder, chromadb 1.5.9) and cannot skip or repeat a
record when others are deleted meanwhile.
"""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

from rag_migration_pipeline.batching import concatenate, cut
from rag_migration_pipeline.errors import (
    CollectionExistsError,
    CollectionNotFoundError,
    RecordRejectedError,
    SchemaCompatibilityError,
    StoreRequestError,
)
from rag_migration_pipeline.filters.nodes import Filter
from rag_migration_pipeline.payloads import ENVELOPE_KEY
from rag_migration_pipeline.records import CollectionInfo, CollectionSpec, RecordBatch, RecordId, RecordRange, Rejection
from rag_migration_pipeline.stores import chroma_records as records
from rag_migration_pipeline.stores import chroma_schema as schema
from rag_migration_pipeline.stores.base import VectorStore, WriteResult
from rag_migration_pipeline.stores.chroma_collection import ChromaCollection
from rag_migration_pipeline.stores.chroma_connection import Connection, connect_folder
from rag_migration_pipeline.stores.chroma_errors import driver_errors
from rag_migration_pipeline.stores.chroma_filter import ChromaDialect
from rag_migration_pipeline.stores.chroma_index_files import IndexFiles
from rag_migration_pipeline.stores.chroma_settings import ChromaSettings, settings_from_locator
from rag_migration_pipeline.stores.chroma_writing import write_part
from rag_migration_pipeline.stores.folder_lock import FolderLock
from rag_migration_pipeline.stores.in_order import run_in_order
from rag_migration_pipeline.stores.narrowing import Narrowing, narrow, not_narrowed, query_of
from rag_migration_pipeline.stores.screening import STAGE, check_vectors_fit, screen

__all__ = ["ChromaSettings", "ChromaStore", "settings_from_locator"]

_COLLECTIONS_PAGE_COUNT = 100
_IDS_PAGE_COUNT = 10_000
_VALUES_PAGE_COUNT = 10_000
_SAMPLE_COUNT = 100
_MAX_IDS_COUNT = 10_000
"""Most ids of one request to read: at 32,766 SQLite runs out of variables (20,000 work, 40,000 fail on 1.5.9)."""

_PAGE_VECTOR_BYTES = 16 * 2**20


class ChromaStore(VectorStore):
    """Collections of one Chroma database."""

    settings: ChromaSettings

    def __init__(self, settings: ChromaSettings, form: str, connection: Connection) -> None:
        """Keep the connection, which the store closes."""
        super().__init__(settings, schema.capabilities(form, connection.max_batch_count))
        self._connection: Connection | None = connection
        self._models: dict[str, Any] = {}
        self._index_files = IndexFiles()
        self._closing = threading.Lock()
        self._holding = threading.Lock()
        self._held: set[str] = set()
        self._place = {"tenant": settings.tenant, "database": settings.database}

    # -- collections ------------------------------------------------------------------------------------------

    def list_collections(self) -> list[str]:
        """See `VectorStore.list_collections`."""
        names: list[str] = []
        while True:
            with self._driver() as api:
                page = api.list_collections(limit=_COLLECTIONS_PAGE_COUNT, offset=len(names), **self._place)
            names += [model.name for model in page]
            if len(page) < _COLLECTIONS_PAGE_COUNT:
                return sorted(set(names))

    def exists(self, collection: str) -> bool:
        """See `VectorStore.exists`."""
        with suppress(CollectionNotFoundError):
            self._find(collection)
            return True
        return False

    def describe(self, collection: str) -> CollectionInfo:
        """See `VectorStore.describe`."""
        spec = schema.spec_of(self._model(collection, is_fresh=True))
        return CollectionInfo(spec, self.count(collection))

    def create(self, spec: CollectionSpec) -> None:
        """See `VectorStore.create`."""
        problems = schema.problems_of(spec)
        if problems:
            raise SchemaCompatibilityError(
                f"Chroma cannot have the collection {spec.name!r}: {'; '.join(problems)}.",
                todo="Change the target's name, vectors or ids in the migration's spec.",
                collection=spec.name,
            )
        if self.exists(spec.name):
            raise CollectionExistsError(
                f"there is a collection {spec.name!r} in {self.address} already.",
                todo="Choose another name, or drop it.",
                collection=spec.name,
                address=self.address,
            )
        self._forget(spec.name)
        configuration = schema.configuration_for(spec)
        if self.capabilities.is_embedded:
            self._index_files.hold_new(spec.name, configuration["hnsw"])
        with self._driver(spec.name) as api:
            api.create_collection(
                name=spec.name,
                configuration=configuration,
                metadata=schema.metadata_for(spec),
                **self._place,
            )

    def drop(self, collection: str) -> None:
        """See `VectorStore.drop`."""
        self._forget(collection)
        self._index_files.forget(collection)
        self._held.discard(collection)
        if schema.is_name(collection):
            with suppress(CollectionNotFoundError), self._driver(collection) as api:
                api.delete_collection(name=collection, **self._place)

    # -- reading ----------------------------------------------------------------------------------------------

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
        """See `VectorStore.read_contents`."""
        ids = [str(record_id) for record_id in record_range.ids if records.can_be_id(record_id)]
        size = min(page_count, _MAX_IDS_COUNT)
        for start in range(0, len(ids), size):
            page = ids[start : start + size]
            with self._using(collection) as held:
                batch = records.contents_of(page, held.read(page, records.CONTENTS))
            if len(batch):
                yield batch

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
        schema_keys = schema.keys_of(self._model(collection, is_fresh=True))
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

    # -- writing ----------------------------------------------------------------------------------------------

    def upsert(self, collection: str, batch: RecordBatch) -> WriteResult:
        """See `VectorStore.upsert`; also rejects what only a look at vectors and documents shows."""
        self._hold_index_files(collection)
        spec = self.spec(collection)
        check_vectors_fit(batch, spec)
        records.require_vectors(batch, collection)
        reasons = records.reasons_against(batch, spec.vectors[0])
        possible = batch.take(row for row in range(len(batch)) if row not in reasons) if reasons else batch
        accepted, rejections = screen(possible, spec, self.capabilities, self.screen_payload)
        rejections += [Rejection(batch.ids[row], STAGE, reason) for row, reason in reasons.items()]
        too_large = self._write(collection, accepted)
        rejections += too_large
        return WriteResult(len(accepted) - len(too_large), records.in_order_of(batch, rejections))

    def write(self, collection: str, batch: RecordBatch) -> None:
        """See `VectorStore.write`; replaces records completely, see ``chroma_writing.py``.

        Raises:
            RecordRejectedError: A record alone is larger than a request may be; the others are written.
        """
        self._hold_index_files(collection)
        too_large = self._write(collection, batch)
        if too_large:
            raise RecordRejectedError(
                f"{len(too_large)} records are larger than {self.address} takes in one request.",
                todo="Raise the server's limit, or filter them out.",
                rejections=tuple(too_large),
            )

    def _write(self, collection: str, batch: RecordBatch) -> list[Rejection]:
        too_large: list[Rejection] = []
        for part in cut(batch, self.capabilities.max_batch_count, self.capabilities.max_batch_bytes):
            with self._using(collection) as held:
                try:
                    too_large += write_part(held, part)
                except StoreRequestError as error:
                    self._explain(collection, part, error)
                    raise
        return too_large

    def _threshold_of(self, collection: str) -> tuple[Any, Callable[[int], None]]:
        """Return the collection as it is now, and how its sync threshold is set."""
        model = self._model(collection, is_fresh=True)

        def set_threshold(records_count: int) -> None:
            with self._driver(collection) as api:
                api._modify(model.id, new_configuration={"hnsw": {"sync_threshold": records_count}}, **self._place)

        return model, set_threshold

    def _hold_index_files(self, collection: str) -> None:
        """Let an engine in this process write no index file before the load is finished (``chroma_index_files.py``)."""
        if not self.capabilities.is_embedded or collection in self._held:
            return
        with self._holding:  # the first of several writers; the others wait before their first request
            if collection in self._held:
                return
            model, set_threshold = self._threshold_of(collection)
            if self._index_files.hold(collection, model, set_threshold):
                self._open_anew()
            self._held.add(collection)

    def _open_anew(self) -> None:
        """Open the folder again; where another store of this process has it open, too, its engine goes on."""
        path = self.settings.path or ""
        lock = FolderLock(path)  # kept over the gap, so that nobody comes between
        try:
            with self._closing:
                old, self._connection = self._connection, None
                if old is not None:
                    old.release()
                    self._connection = connect_folder(path, self.address, create=False)
        finally:
            lock.release()
        self._models.clear()

    def finish_loading(self, collection: str) -> None:
        """See `VectorStore.finish_loading`; a folder's engine may write its index files again."""
        if self.capabilities.is_embedded:
            self._held.discard(collection)
            self._index_files.release(collection, *self._threshold_of(collection))

    def _explain(self, collection: str, part: RecordBatch, error: StoreRequestError) -> None:
        """Raise a better error where the collection got another dimension since it was described."""
        expected = schema.spec_of(self._model(collection, is_fresh=True)).vectors[0].dimension
        got = part.dense().values.shape[1]
        if expected is None or expected == got:
            return
        self.forget_spec(collection)
        raise SchemaCompatibilityError(
            f"the batch does not fit collection {collection!r}: expected dimension {expected}, got {got}.",
            todo="Choose another target collection, or create it with the source's vectors.",
            collection=collection,
        ) from error

    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """See `VectorStore.delete`."""
        possible = [str(record_id) for record_id in dict.fromkeys(ids) if records.can_be_id(record_id)]
        if not possible:
            self._model(collection, is_fresh=True)
        for start in range(0, len(possible), self.capabilities.max_batch_count):
            with self._using(collection) as held:
                held.delete(possible[start : start + self.capabilities.max_batch_count])

    # -- end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """See `VectorStore.close`."""
        with self._closing:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    # -- how --------------------------------------------------------------------------------------------------

    @property
    def api(self) -> Any:
        """The client's ``ServerAPI``.

        Raises:
            StoreRequestError: The store is closed.
        """
        connection = self._connection
        if connection is None:
            raise StoreRequestError(f"the store {self.address} is closed.", address=self.address, concerns_all=True)
        return connection.api

    @contextmanager
    def _driver(self, collection: str | None = None) -> Iterator[Any]:
        """Give the client's API, and let only our errors out."""
        api = self.api
        with driver_errors(self.address, collection):
            yield api

    @contextmanager
    def _using(self, collection: str) -> Iterator[ChromaCollection]:
        """Give the collection's requests; a collection that is gone is forgotten, and the error says what there is."""
        model = self._model(collection)
        try:
            yield ChromaCollection(self.api, model, self._place, self.address)
        except CollectionNotFoundError as error:
            self._forget(collection)
            raise self.not_found(collection) from error

    def _model(self, collection: str, *, is_fresh: bool = False) -> Any:
        if is_fresh or collection not in self._models:
            try:
                self._models[collection] = self._find(collection)
            except CollectionNotFoundError as error:
                self._forget(collection)
                raise self.not_found(collection) from error
        return self._models[collection]

    def _find(self, collection: str) -> Any:
        if not schema.is_name(collection):
            raise self.not_found(collection)
        with self._driver(collection) as api:
            return api.get_collection(name=collection, **self._place)

    def _forget(self, collection: str) -> None:
        self._models.pop(collection, None)
        self.forget_spec(collection)
