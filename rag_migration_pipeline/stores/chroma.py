"""Chroma: a folder with the engine in this process, or a server over HTTP.

Belongs here: each promise of ``base.py``. Does not belong here: settings (``chroma_settings.py``), reaching Chroma
(``chroma_connection.py``), what a collection is (``chroma_schema.py``), reading (``chroma_reading.py``), the requests
about records (``chroma_collection.py``, ``chroma_records.py``, ``chroma_writing.py``), what errors mean
(``chroma_errors.py``).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from rag_migration_pipeline.batching import cut
from rag_migration_pipeline.errors import (
    CollectionExistsError,
    CollectionNotFoundError,
    RecordRejectedError,
    SchemaCompatibilityError,
    StoreRequestError,
)
from rag_migration_pipeline.records import CollectionInfo, CollectionSpec, RecordBatch, RecordId, Rejection
from rag_migration_pipeline.stores import chroma_records as records
from rag_migration_pipeline.stores import chroma_schema as schema
from rag_migration_pipeline.stores.base import WriteResult
from rag_migration_pipeline.stores.chroma_collection import ChromaCollection
from rag_migration_pipeline.stores.chroma_connection import Connection, connect_folder
from rag_migration_pipeline.stores.chroma_errors import driver_errors
from rag_migration_pipeline.stores.chroma_index_files import IndexFiles
from rag_migration_pipeline.stores.chroma_reading import ReadableChroma
from rag_migration_pipeline.stores.chroma_settings import ChromaSettings, settings_from_locator
from rag_migration_pipeline.stores.chroma_writing import write_part
from rag_migration_pipeline.stores.folder_lock import FolderLock
from rag_migration_pipeline.stores.readiness import Readiness
from rag_migration_pipeline.stores.screening import STAGE, check_vectors_fit, screen

__all__ = ["ChromaSettings", "ChromaStore", "settings_from_locator"]

_COLLECTIONS_PAGE_COUNT = 100


class ChromaStore(ReadableChroma):
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
        spec = schema.spec_of(self._fresh_model(collection))
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
        model = self._fresh_model(collection)

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

    def readiness(self, collection: str) -> Readiness:
        """See `VectorStore.readiness`; an index that lags behind is brought up to date by the search that needs it."""
        self._fresh_model(collection)
        detail = "Chroma searches what is acknowledged at once, and does not say how much of it is in its index"
        return Readiness(is_ready=True, total=self.count(collection), detail=detail)

    def _explain(self, collection: str, part: RecordBatch, error: StoreRequestError) -> None:
        """Raise a better error where the collection got another dimension since it was described."""
        expected = schema.spec_of(self._fresh_model(collection)).vectors[0].dimension
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
            self._fresh_model(collection)
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

    def _fresh_model(self, collection: str) -> Any:
        return self._model(collection, is_fresh=True)

    def _find(self, collection: str) -> Any:
        if not schema.is_name(collection):
            raise self.not_found(collection)
        with self._driver(collection) as api:
            return api.get_collection(name=collection, **self._place)

    def _forget(self, collection: str) -> None:
        self._models.pop(collection, None)
        self.forget_spec(collection)
