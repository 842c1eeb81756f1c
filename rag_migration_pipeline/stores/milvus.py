"""Milvus in all forms: a Lite folder in this process, a Lite server, a real server.

Belongs here: the operations of `VectorStore`. Does not belong here: settings (``milvus_settings.py``), the channel
(``milvus_connection.py``), schemas (``milvus_schema.py``, ``milvus_types.py``, ``milvus_creation.py``,
``milvus_indexes.py``), reading and writing (``milvus_reading.py``, ``milvus_writing.py``), columns and expressions
(``milvus_wire.py``, ``milvus_vectors.py``), loading and waiting (``milvus_loading.py``), what fits a collection
(``milvus_capabilities.py``, ``milvus_screening.py``), codes (``milvus_errors.py``).

Tried on Milvus 2.3.5, Milvus Lite 3.2.2, pymilvus 3.0.2. A server counts duplicate keys but answers each once per
partition: ``count`` above the number of keys means duplicates.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from rag_migration_pipeline.batching import cut
from rag_migration_pipeline.errors import (
    CollectionExistsError,
    CollectionNotFoundError,
    SchemaCompatibilityError,
    StoreRequestError,
    StoreUnavailableError,
)
from rag_migration_pipeline.filters.nodes import Filter
from rag_migration_pipeline.records import (
    INT64_MAX,
    CollectionInfo,
    CollectionSpec,
    RecordBatch,
    RecordId,
    RecordRange,
    Rejection,
)
from rag_migration_pipeline.stores import milvus_creation, milvus_indexes, milvus_loading, milvus_schema, milvus_wire
from rag_migration_pipeline.stores.base import VectorStore, WriteResult
from rag_migration_pipeline.stores.in_order import run_in_order
from rag_migration_pipeline.stores.milvus_capabilities import MAX_REQUEST_BYTES, capabilities_of, field_rules
from rag_migration_pipeline.stores.milvus_connection import connect, open_folder
from rag_migration_pipeline.stores.milvus_errors import COLLECTION_NOT_LOADED
from rag_migration_pipeline.stores.milvus_filter import narrow_records
from rag_migration_pipeline.stores.milvus_reading import FETCH_COUNT, MAX_WINDOW, KeyRange, Moment, Reader
from rag_migration_pipeline.stores.milvus_schema import Layout
from rag_migration_pipeline.stores.milvus_screening import payload_problem
from rag_migration_pipeline.stores.milvus_settings import MilvusSettings, settings_from_locator
from rag_migration_pipeline.stores.milvus_vectors import READABLE
from rag_migration_pipeline.stores.milvus_wire import is_readable
from rag_migration_pipeline.stores.milvus_writing import Writer, missing_partitions, refuse_unwritable
from rag_migration_pipeline.stores.narrowing import Narrowing, query_of
from rag_migration_pipeline.stores.readiness import Readiness
from rag_migration_pipeline.stores.screening import STAGE

__all__ = ["MilvusSettings", "MilvusStore", "settings_from_locator"]


class MilvusStore(VectorStore):
    """Milvus collections, read by key and written as columns.

    Attributes:
        endpoint: ``host:port`` of what answers, also for a folder.
    """

    settings: MilvusSettings

    def __init__(self, settings: MilvusSettings, *, create: bool) -> None:
        """Open; see `StoreSettings.open`."""
        self._is_target = create
        self._layouts: dict[str, Layout] = {}
        self._readable: set[str] = set()
        self._loaded_here: list[str] = []
        # Milvus Lite takes one writer per collection (``adapter/grpc/server.py`` of 3.2.2).
        self.endpoint, self._write_turn = settings.endpoint, threading.Lock()
        with ExitStack() as opened:
            if settings.path:
                self.endpoint, self._write_turn = open_folder(settings, opened, create=create)
            self._connection = connect(settings, self.endpoint)
            opened.callback(self._connection.close)
            opened.callback(self._release_loaded)
            self._opened = opened.pop_all()
        self._reader = Reader(self._connection)
        self._writer = Writer(self._connection, self._reader)
        is_lite, version = self._connection.is_lite, self._connection.version
        self._field_rules = field_rules(is_lite=is_lite, version=version)
        super().__init__(settings, capabilities_of(is_lite=is_lite, is_embedded=bool(settings.path), version=version))

    # -- collections ---------------------------------------------------------------------------------------------------

    def list_collections(self) -> list[str]:
        """See `VectorStore.list_collections`."""
        from pymilvus.grpc_gen import milvus_pb2

        answer = self._connection.call("ShowCollections", milvus_pb2.ShowCollectionsRequest(), "listing collections")
        return sorted(answer.collection_names)

    def exists(self, collection: str) -> bool:
        """See `VectorStore.exists`; an alias exists too."""
        try:
            self._describe_schema(collection)
        except CollectionNotFoundError:
            return False
        return True

    def describe(self, collection: str) -> CollectionInfo:
        """See `VectorStore.describe`.

        Raises:
            StoreRequestError: A vector field has no index and so no metric, or the collection is not loaded.
        """
        return CollectionInfo(self._read_spec(collection), self.count(collection))

    def _read_spec(self, collection: str) -> CollectionSpec:
        """See `VectorStore._read_spec`; a count would wait for a moment at which all writes are seen, about 0.3 s."""
        with self._naming(collection):
            layout, consistency = self._describe_schema(collection)
            self._layouts[collection] = layout
            indexes = self._describe_indexes(collection)
            if not indexes and self._is_target and layout.plan.get("index"):
                milvus_loading.finish_creation(self._connection, layout, self.settings.finish_timeout_s)
                indexes = self._describe_indexes(collection)
            return replace(milvus_schema.read_spec(layout, indexes, consistency), name=collection)

    def create(self, spec: CollectionSpec) -> None:
        """See `VectorStore.create`; the index is made and loaded while empty, so that queries work from the start.

        Indexing after the load instead takes as long in the end: 20,000 x 384 on 2.3.5, four rounds, 27 to 36 s both.
        """
        is_lite, version = self._connection.is_lite, self._connection.version
        store = "Milvus Lite" if is_lite else f"Milvus {'.'.join(map(str, version))}"
        milvus_creation.refuse_unfit(spec, self.capabilities, self._field_rules, store)
        # Asked first: the server calls a second creation with the same schema a success (2.3.5).
        if self.exists(spec.name):
            raise CollectionExistsError(
                f"there is a collection {spec.name!r} in {self.address} already.",
                todo="Choose another name, or drop it first.",
                collection=spec.name,
            )
        self._forget(spec.name)
        request = milvus_creation.build_request(spec, is_lite=is_lite, is_old=not is_lite and version < (2, 4))
        self._connection.call("CreateCollection", request, f"creating collection {spec.name!r}")
        for partition in milvus_creation.new_partitions(spec):
            self._writer.create_partition(spec.name, partition)
        layout, _ = self._describe_schema(spec.name)
        milvus_loading.finish_creation(self._connection, layout, self.settings.finish_timeout_s)
        self._readable.add(spec.name)

    def drop(self, collection: str) -> None:
        """See `VectorStore.drop`."""
        from pymilvus.grpc_gen import milvus_pb2

        self._forget(collection)
        request = milvus_pb2.DropCollectionRequest(collection_name=collection)
        try:
            self._connection.call("DropCollection", request, f"dropping collection {collection!r}")
        except CollectionNotFoundError:
            return

    # -- reading -------------------------------------------------------------------------------------------------------

    def begin_reading(self) -> None:
        """See `VectorStore.begin_reading`: reads that follow need not wait up to 200 ms each (2.3.5)."""
        self._reader.begin()

    def narrow(self, collection: str, parts: Sequence[Filter]) -> Narrowing:
        """See `VectorStore.narrow`."""
        with self._naming(collection):
            layout = self._layout(collection)
        return narrow_records(parts, layout, self.settings.document_key, is_lite=self._connection.is_lite)

    def count(self, collection: str, where: Narrowing | None = None) -> int:
        """See `VectorStore.count`; records that share a key are counted one by one."""
        with self._naming(collection):
            self._make_readable(collection)
            return self._reader.count(collection, query_of(where))

    def iter_ids(
        self, collection: str, page_count: int = 10_000, where: Narrowing | None = None
    ) -> Iterator[list[RecordId]]:
        """See `VectorStore.iter_ids`; of records that share a key, a server answers one."""
        with self._naming(collection):
            layout = self._layout(collection)
            self._make_readable(collection)
            yield from self._reader.ids(KeyRange(layout, collection, where=query_of(where)), page_count)

    def iter_field(
        self, collection: str, key: str, where: Narrowing | None = None
    ) -> Iterator[tuple[list[RecordId], list[Any]]]:
        """See `VectorStore.iter_field`."""
        with self._naming(collection):
            layout = self._layout(collection)
            self._make_readable(collection)
            yield from self._reader.values(KeyRange(layout, collection, where=query_of(where)), key, MAX_WINDOW)

    def read_range(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_range`; by key, in the order of the keys."""
        with self._naming(collection):
            layout = self._readable_layout(collection)
            keys = KeyRange(layout, collection, record_range.start, record_range.stop)
            yield from self._reader.batches(keys, page_count)

    def read_contents(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_contents`."""
        with self._naming(collection):
            layout = replace(self._readable_layout(collection), vectors={})
            keys = KeyRange(layout, collection, record_range.start, record_range.stop)
            yield from self._reader.batches(keys, page_count)

    def scan(self, collection: str, page_count: int | None = None) -> Iterator[RecordBatch]:
        """See `VectorStore.scan`."""
        with self._naming(collection):
            keys = KeyRange(self._readable_layout(collection), collection)
            yield from self._reader.batches(keys, page_count or self.capabilities.page_count)

    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch`."""
        return self._fetch(collection, ids, Moment(self._reader))

    def fetch_contents(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch_contents`."""
        return self._fetch(collection, ids, Moment(self._reader), has_vectors=False)

    def fetch_pages(self, collection: str, pages: Iterable[Sequence[RecordId]]) -> Iterator[RecordBatch]:
        """See `VectorStore.fetch_pages`; all pages at one moment, because a server lets a fresh one wait (200 ms)."""
        moment = Moment(self._reader)
        readers = self.capabilities.concurrent_readers
        yield from run_in_order(lambda ids: self._fetch(collection, ids, moment), pages, readers)

    def _fetch(
        self, collection: str, ids: Sequence[RecordId], moment: Moment, *, has_vectors: bool = True
    ) -> RecordBatch:
        with self._naming(collection):
            layout = self._readable_layout(collection)
            layout = layout if has_vectors else replace(layout, vectors={})
            wanted = list(dict.fromkeys(milvus_wire.holdable(layout.key, ids)))
            batch = self._reader.fetch(layout, collection, wanted, moment)
        if list(batch.ids) == list(ids):
            return batch
        position = {record_id: row for row, record_id in enumerate(batch.ids)}
        return batch.take(position[record_id] for record_id in ids if record_id in position)

    # -- writing -------------------------------------------------------------------------------------------------------

    def upsert(self, collection: str, batch: RecordBatch) -> WriteResult:
        """See `VectorStore.upsert`."""
        if self._connection.is_lite or INT64_MAX not in batch.ids:
            return super().upsert(collection, batch)
        # 2.3.5 accepts this key and counts it, but never answers it: its own reading takes it for the end (tried).
        reason = f"Milvus cannot read the key {INT64_MAX} back"
        rows = [row for row, record_id in enumerate(batch.ids) if record_id != INT64_MAX]
        rejected = tuple(Rejection(INT64_MAX, STAGE, reason) for _ in range(len(batch) - len(rows)))
        result = super().upsert(collection, batch.take(rows))
        return WriteResult(result.written, result.rejections + rejected)

    def screen_payload(self, spec: CollectionSpec, payload: dict[str, Any]) -> str | None:
        """See `VectorStore.screen_payload`."""
        return payload_problem(self._layout(spec.name), payload, self._field_rules)

    def write(self, collection: str, batch: RecordBatch) -> None:
        """See `VectorStore.write`."""
        with self._naming(collection):
            layout = self._layout(collection)
            refuse_unwritable(layout, batch)
            new = missing_partitions(layout, batch)
            for partition in new:
                self._writer.create_partition(collection, partition)
            if new:
                self._forget(collection)
                layout = self._layout(collection)
            for part in cut(batch, self.capabilities.max_batch_count, MAX_REQUEST_BYTES):
                with self._turn():
                    self._writer.write(layout, collection, part)

    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """See `VectorStore.delete`."""
        with self._naming(collection):
            layout = self._layout(collection)
            wanted = milvus_wire.holdable(layout.key, ids)
            for start in range(0, len(wanted), FETCH_COUNT):
                with self._turn():
                    self._writer.delete(layout, collection, wanted[start : start + FETCH_COUNT])

    def finish_loading(self, collection: str) -> None:
        """See `VectorStore.finish_loading`: flush, and wait for index and load state."""
        with self._naming(collection):
            milvus_loading.finish_loading(self._connection, self._layout(collection), self.settings.finish_timeout_s)

    def readiness(self, collection: str) -> Readiness:
        """See `VectorStore.readiness`: the states of its indexes, and whether it is loaded."""
        with self._naming(collection):
            fields = [column.name for column in self._layout(collection).vectors.values()]
            return milvus_loading.readiness(
                self._connection, collection, fields, lambda: self._reader.count(collection, None)
            )

    def close(self) -> None:
        """See `VectorStore.close`; collections that were loaded for reading are released."""
        self._opened.close()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _describe_schema(self, collection: str) -> tuple[Layout, str]:
        from pymilvus.grpc_gen import common_pb2, milvus_pb2

        request = milvus_pb2.DescribeCollectionRequest(collection_name=collection)
        described = self._connection.call("DescribeCollection", request, f"describing collection {collection!r}")
        asked = milvus_pb2.ShowPartitionsRequest(collection_name=collection)
        partitions = self._connection.call("ShowPartitions", asked, f"listing the partitions of {collection!r}")
        layout = milvus_schema.read_layout(described, partitions.partition_names)
        return layout, common_pb2.ConsistencyLevel.Name(described.consistency_level)

    def _describe_indexes(self, collection: str) -> dict[str, dict[str, Any]]:
        return milvus_indexes.read_indexes(milvus_loading.describe_index(self._connection, collection))

    def _layout(self, collection: str) -> Layout:
        if collection not in self._layouts:
            self._layouts[collection] = self._describe_schema(collection)[0]
        return self._layouts[collection]

    def _readable_layout(self, collection: str) -> Layout:
        layout = self._layout(collection)
        unread = [
            column.name for column in layout.vectors.values() if column.type not in READABLE or column.is_nullable
        ]
        unread += [name for name, column in layout.fields.items() if not is_readable(column)]
        if unread:
            raise SchemaCompatibilityError(
                f"collection {collection!r} has fields of types that are not read here, or vectors that may be null: "
                f"{', '.join(unread)}.",
                todo="Copy the collection without these fields first.",
                collection=collection,
            )
        self._make_readable(collection)
        return layout

    def _forget(self, collection: str) -> None:
        self.forget_spec(collection)
        self._layouts.pop(collection, None)
        self._readable.discard(collection)

    def _make_readable(self, collection: str) -> None:
        """Wait until a collection is loaded; load it where that is ours to do (see `MilvusSettings.load_source`)."""
        if collection in self._readable:
            return
        # A folder that is opened anew has nothing loaded (Lite 3.2.2), and loading it concerns this process only.
        may_load = self._is_target or self.settings.load_source or bool(self.settings.path)
        has_loaded = milvus_loading.make_readable(
            self._connection, collection, may_load=may_load, timeout_s=self.settings.finish_timeout_s
        )
        if has_loaded and not self._is_target and not self.settings.path:
            self._loaded_here.append(collection)
        self._readable.add(collection)

    def _release_loaded(self) -> None:
        while self._loaded_here:
            milvus_loading.release(self._connection, self._loaded_here.pop())

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._connection.is_lite:
            yield
            return
        with self._write_turn:
            yield

    @contextmanager
    def _naming(self, collection: str) -> Iterator[None]:
        """Say more about a collection that does not exist, or was loaded and is not any more."""
        try:
            yield
        except CollectionNotFoundError as error:
            self._forget(collection)
            raise self.not_found(collection) from error
        except StoreRequestError as error:
            if error.facts.get("code") != COLLECTION_NOT_LOADED or collection not in self._readable:
                raise
            # A server that restarts loads its collections again, Milvus Lite's does not: the next try looks.
            self._readable.discard(collection)
            raise StoreUnavailableError(
                f"collection {collection!r} in {self.address} was loaded and is not any more: {error.what}",
                todo="Check whether the server was restarted or the collection released.",
                collection=collection,
            ) from error
