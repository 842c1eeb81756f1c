"""Milvus in all forms: a Lite folder in this process, a Lite server, a real server.

Belongs here: settings, capabilities and the operations of `VectorStore`. Does not belong here: the channel
(``milvus_connection.py``), schemas (``milvus_schema.py``), columns and expressions (``milvus_wire.py``), loading and
waiting (``milvus_loading.py``), codes (``milvus_errors.py``).

Tried on Milvus 2.3.5, Milvus Lite 3.2.2, pymilvus 3.0.2. What a reader should know:
- A server answers reads at a timestamp. Each reading takes a fresh one from the server (``AllocTimestamp``), so that
  it sees every write acknowledged before; that costs up to 200 ms once, and nothing for the pages that follow.
- A server keeps two records with one key if they are *inserted*, so writes are upserts; Milvus Lite's upsert merges
  dynamic fields, but its insert replaces, so there writes are inserts.
- A server counts duplicate keys but answers each once: ``count`` above the number of keys means duplicates.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from rag_migration_pipeline.errors import (
    CollectionExistsError,
    CollectionNotFoundError,
    SchemaCompatibilityError,
    SpecError,
    StopError,
    StoreRequestError,
)
from rag_migration_pipeline.locators import Locator
from rag_migration_pipeline.records import (
    INT64_MAX,
    INT64_MIN,
    CollectionInfo,
    CollectionSpec,
    IdKind,
    Metric,
    RecordBatch,
    RecordId,
    RecordRange,
    Rejection,
    VectorKind,
    concatenate,
    cut,
)
from rag_migration_pipeline.stores import milvus_loading, milvus_schema, milvus_wire
from rag_migration_pipeline.stores.base import StoreSettings, VectorStore, WriteResult
from rag_migration_pipeline.stores.capabilities import Capabilities, PayloadRules
from rag_migration_pipeline.stores.folder_lock import FolderLock
from rag_migration_pipeline.stores.milvus_connection import Connection, start_lite, stop_lite
from rag_migration_pipeline.stores.milvus_schema import Layout
from rag_migration_pipeline.stores.milvus_screening import MAX_JSON_BYTES, payload_problem
from rag_migration_pipeline.stores.screening import STAGE

DEFAULT_PORT = 19_530
MAX_WINDOW = 16_384
"""Most records of one answer (``quotaAndLimits.limits.maxQueryResultWindow`` of 2.3.5)."""
# A server stops at 64 MiB per request and 100 MiB per answer (``maxOutputSize``); JSON may grow on its way.
MAX_REQUEST_BYTES = 16 * 2**20
MAX_ANSWER_BYTES = 24 * 2**20
# What a record is taken to weigh beside its vectors before the first page has told.
ASSUMED_PAYLOAD_BYTES = 4_096
FETCH_COUNT = 2_000


@dataclass(frozen=True, kw_only=True)
class MilvusSettings(StoreSettings):
    """How to reach Milvus: a server by ``host`` and ``port``, or a Milvus Lite folder by ``path``.

    Attributes:
        database: The database; ``default`` where none is named.
        is_tls: Whether the server is spoken to over TLS.
        ca_file: File of trusted roots (PEM), empty for the system's.
        tls_server_name: The name on the server's certificate, where it differs from the host.
        load_source: Whether a released collection may be loaded for reading; it is released again at the end.
        finish_timeout_s: Longest wait for flushing, indexing and loading.
    """

    host: str = ""
    port: int = DEFAULT_PORT
    path: str = ""
    database: str = "default"
    is_tls: bool = False
    ca_file: str = ""
    tls_server_name: str = ""
    token: SecretStr | None = None
    user: SecretStr | None = None
    password: SecretStr | None = None
    load_source: bool = False
    finish_timeout_s: float = 1800.0

    @property
    def address(self) -> str:
        """Canonical address without secrets."""
        query = "" if self.database == "default" else f"?database={self.database}"
        if self.path:
            return f"milvus+file://{os.path.realpath(self.path)}{query}"
        return f"milvus://{self.host.lower()}:{self.port}{query}"

    @property
    def credentials(self) -> str:
        """What goes into the authorization header; a secret."""
        if self.token is not None:
            return self.token.get_secret_value()
        if self.user is not None and self.password is not None:
            return f"{self.user.get_secret_value()}:{self.password.get_secret_value()}"
        return ""

    def open(self, *, create: bool = False) -> "MilvusStore":
        """See `StoreSettings.open`."""
        return MilvusStore(self, create=create)


def settings_from_locator(locator: Locator) -> MilvusSettings:
    """Return the settings of ``milvus://`` and ``milvus+file://`` URLs.

    Raises:
        SpecError: An unknown option.
    """
    is_file = locator.scheme == "milvus+file"
    server_options = () if is_file else ("tls", "ca_file", "tls_server_name")
    locator.refuse_unknown("database", "load_source", *server_options)
    return MilvusSettings(
        host=locator.host,
        port=locator.port or DEFAULT_PORT,
        path=locator.path,
        database=locator.options.get("database") or "default",
        is_tls=locator.is_tls,
        ca_file=locator.options.get("ca_file", ""),
        tls_server_name=locator.options.get("tls_server_name", ""),
        load_source=locator.flag("load_source"),
        token=locator.secrets.get("token"),
        user=locator.secrets.get("user"),
        password=locator.secrets.get("password"),
    )


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
        self._has_timestamps = True
        # Milvus Lite takes one writer per collection (``adapter/grpc/server.py`` of 3.2.2).
        self._write_turn = threading.Lock()
        with ExitStack() as opened:
            self.endpoint = _open_folder(settings, opened, create=create) if settings.path else _endpoint(settings)
            self._connection = _connect(settings, self.endpoint)
            opened.callback(self._connection.close)
            opened.callback(self._release_loaded)
            self._refuse_missing_database(settings)
            self._opened = opened.pop_all()
        super().__init__(settings, capabilities_of(self._connection, is_embedded=bool(settings.path)))

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
        with self._naming(collection):
            layout, consistency = self._describe_schema(collection)
            self._layouts[collection] = layout
            indexes = self._describe_indexes(collection)
            if not indexes and self._is_target and layout.plan.get("index"):
                milvus_loading.finish_creation(self._connection, layout, self.settings.finish_timeout_s)
                indexes = self._describe_indexes(collection)
            spec = replace(milvus_schema.read_spec(layout, indexes, consistency), name=collection)
            return CollectionInfo(spec, self.count(collection))

    def create(self, spec: CollectionSpec) -> None:
        """See `VectorStore.create`; the index is made and loaded while empty, so that queries work from the start."""
        from pymilvus.grpc_gen import milvus_pb2

        is_lite, version = self._connection.is_lite, self._connection.version
        milvus_schema.refuse_unfit(
            spec,
            has_nullable=is_lite or version >= (2, 5),
            store="Milvus Lite" if is_lite else f"Milvus {'.'.join(map(str, version))}",
        )
        # Asked first: the server calls a second creation with the same schema a success (2.3.5).
        if self.exists(spec.name):
            raise CollectionExistsError(
                f"there is a collection {spec.name!r} in {self.address} already.",
                todo="Choose another name, or drop it first.",
                collection=spec.name,
            )
        self._forget(spec.name)
        request = milvus_pb2.CreateCollectionRequest(
            collection_name=spec.name, schema=milvus_schema.build_schema(spec).SerializeToString(), shards_num=1
        )
        request.properties.add(key=milvus_schema.PROPERTY, value=milvus_schema.plan_text(spec))
        self._connection.call("CreateCollection", request, f"creating collection {spec.name!r}")
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

    def count(self, collection: str) -> int:
        """See `VectorStore.count`; records that share a key are counted one by one."""
        with self._naming(collection):
            self._make_readable(collection)
            answer = self._query(collection, "", ["count(*)"], self._timestamp())
            return int(answer.fields_data[0].scalars.long_data.data[0])

    def iter_ids(self, collection: str, page_count: int = 10_000) -> Iterator[list[RecordId]]:
        """See `VectorStore.iter_ids`; of records that share a key, Milvus answers one."""
        with self._naming(collection):
            layout = self._layout(collection)
            for answer in self._pages(layout, collection, None, None, min(page_count, MAX_WINDOW), ids_only=True):
                yield milvus_wire.decode_ids(layout, answer)

    def read_range(self, collection: str, record_range: RecordRange, page_count: int) -> Iterator[RecordBatch]:
        """See `VectorStore.read_range`; by key, in the order of the keys."""
        yield from self._read(collection, record_range.start, record_range.stop, page_count)

    def scan(self, collection: str, page_count: int | None = None) -> Iterator[RecordBatch]:
        """See `VectorStore.scan`."""
        yield from self._read(collection, None, None, page_count or self.capabilities.page_count)

    def fetch(self, collection: str, ids: Sequence[RecordId]) -> RecordBatch:
        """See `VectorStore.fetch`."""
        with self._naming(collection):
            layout = self._readable_layout(collection)
            wanted = list(dict.fromkeys(milvus_wire.holdable(layout.key, ids)))
            step = _rows_within(layout.row_bytes + ASSUMED_PAYLOAD_BYTES, FETCH_COUNT)
            timestamp = self._timestamp() if wanted else 0
            found = [
                self._fetch_some(layout, collection, wanted[start : start + step], timestamp)
                for start in range(0, len(wanted), step)
            ]
        batch = concatenate(found) if found else milvus_wire.empty_batch(layout)
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
        limit = None if self._connection.is_lite else MAX_JSON_BYTES
        return payload_problem(self._layout(spec.name), payload, limit)

    def write(self, collection: str, batch: RecordBatch) -> None:
        """See `VectorStore.write`."""
        with self._naming(collection):
            layout = self._layout(collection)
            _refuse_unwritable(layout, batch)
            for part in cut(batch, self.capabilities.max_batch_count, MAX_REQUEST_BYTES):
                with self._turn():
                    self._write_part(layout, collection, part)

    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """See `VectorStore.delete`."""
        with self._naming(collection):
            layout = self._layout(collection)
            wanted = milvus_wire.holdable(layout.key, ids)
            for start in range(0, len(wanted), FETCH_COUNT):
                with self._turn():
                    self._delete_some(layout, collection, wanted[start : start + FETCH_COUNT])

    def finish_loading(self, collection: str) -> None:
        """See `VectorStore.finish_loading`: flush, and wait for index and load state."""
        with self._naming(collection):
            milvus_loading.finish_loading(self._connection, self._layout(collection), self.settings.finish_timeout_s)

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
        return milvus_schema.read_indexes(milvus_loading.describe_index(self._connection, collection))

    def _layout(self, collection: str) -> Layout:
        if collection not in self._layouts:
            self._layouts[collection] = self._describe_schema(collection)[0]
        return self._layouts[collection]

    def _readable_layout(self, collection: str) -> Layout:
        layout = self._layout(collection)
        unread = [
            column.name for column in layout.vectors.values() if column.type != milvus_schema.FieldType.FLOAT_VECTOR
        ]
        if unread or any(column.is_nullable for column in layout.vectors.values()):
            raise SchemaCompatibilityError(
                f"collection {collection!r} has vector fields that are not dense float32 in every record: "
                f"{', '.join(unread) or 'nullable vectors'}.",
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
        if has_loaded and not self._is_target:
            self._loaded_here.append(collection)
        self._readable.add(collection)

    def _release_loaded(self) -> None:
        while self._loaded_here:
            milvus_loading.release(self._connection, self._loaded_here.pop())

    def _timestamp(self) -> int:
        """Return the server's time, so that reads at it see every write acknowledged before; 0 asks for a fresh one."""
        from pymilvus.grpc_gen import milvus_pb2

        if self._connection.is_lite or not self._has_timestamps:
            return 0
        try:
            return int(self._connection.call("AllocTimestamp", milvus_pb2.AllocTimestampRequest()).timestamp)
        except StopError:  # not in every server, and not allowed to every user: then each page pays for its own
            self._has_timestamps = False
            return 0

    def _query(
        self, collection: str, expression: str, fields: Sequence[str], timestamp: int, limit: int | None = None
    ) -> Any:
        from pymilvus.grpc_gen import common_pb2, milvus_pb2

        request = milvus_pb2.QueryRequest(collection_name=collection, expr=expression, output_fields=fields)
        levels = common_pb2.ConsistencyLevel
        request.consistency_level = levels.Customized if timestamp else levels.Strong
        request.guarantee_timestamp = timestamp
        if limit is not None:
            request.query_params.add(key="limit", value=str(limit))
            # Both ask for keys in order; without the second, a server fills a page past the point where order holds.
            request.query_params.add(key="iterator", value="True")
            request.query_params.add(key="reduce_stop_for_best", value="True")
        return self._connection.call("Query", request, f"reading collection {collection!r}")

    def _read(
        self, collection: str, start: RecordId | None, stop: RecordId | None, page_count: int
    ) -> Iterator[RecordBatch]:
        with self._naming(collection):
            layout = self._readable_layout(collection)
            for answer in self._pages(layout, collection, start, stop, page_count, ids_only=False):
                yield milvus_wire.decode_batch(layout, answer)

    def _pages(
        self,
        layout: Layout,
        collection: str,
        start: RecordId | None,
        stop: RecordId | None,
        page_count: int,
        *,
        ids_only: bool,
    ) -> Iterator[Any]:
        """Yield the answers of a reading by key; a short page is no end, only an empty one is."""
        self._make_readable(collection)
        fields = [layout.key.name] if ids_only else _all_fields(layout)
        timestamp = self._timestamp()
        row_bytes = 32 if ids_only else layout.row_bytes + ASSUMED_PAYLOAD_BYTES
        after: RecordId | None = None
        largest = page_count
        while True:
            limit = _rows_within(row_bytes, largest)
            expression = milvus_wire.key_range(layout.key, start=start, after=after, stop=stop)
            try:
                answer = self._query(collection, expression, fields, timestamp, limit)
            except StoreRequestError:
                # Records may be far larger than those before, and servers limit answers (``maxOutputSize``) without a
                # code of its own: ask for less, and let the last one say what it is.
                if limit <= 1:
                    raise
                largest = limit // 4 or 1
                continue
            ids = milvus_wire.decode_ids(layout, answer)
            if not ids:
                return
            milvus_wire.refuse_disorder(ids, after, collection)
            yield answer
            row_bytes = max(answer.ByteSize() // len(ids), 1)
            after = ids[-1]

    def _fetch_some(self, layout: Layout, collection: str, ids: Sequence[RecordId], timestamp: int) -> RecordBatch:
        try:
            answer = self._query(collection, milvus_wire.key_in(layout.key, ids), _all_fields(layout), timestamp)
        except StoreRequestError:  # larger than an answer may be; see `_pages`
            if len(ids) <= 1:
                raise
            middle = len(ids) // 2
            halves = (ids[:middle], ids[middle:])
            return concatenate([self._fetch_some(layout, collection, half, timestamp) for half in halves])
        return milvus_wire.decode_batch(layout, answer)

    def _write_part(self, layout: Layout, collection: str, part: RecordBatch) -> None:
        from pymilvus.grpc_gen import milvus_pb2

        what = f"writing {len(part)} records to collection {collection!r}"
        if len(layout.partitions) > 1 and layout.partition_key is None:
            # An upsert replaces within its own partition only.
            self._delete_some(layout, collection, part.ids)
        fields = milvus_wire.encode(layout, part)
        if self._connection.is_lite:
            insert = milvus_pb2.InsertRequest(collection_name=collection, fields_data=fields, num_rows=len(part))
            answer = self._connection.call("Insert", insert, what)
            written = int(answer.insert_cnt)
        else:
            request = milvus_pb2.UpsertRequest(collection_name=collection, fields_data=fields, num_rows=len(part))
            answer = self._connection.call("Upsert", request, what)
            written = int(answer.upsert_cnt)
        if written != len(part):
            raise StoreRequestError(
                f"{what} at {self.address}: {written} were acknowledged.",
                todo="Write them again.",
                collection=collection,
            )

    def _delete_some(self, layout: Layout, collection: str, ids: Sequence[RecordId]) -> None:
        from pymilvus.grpc_gen import milvus_pb2

        request = milvus_pb2.DeleteRequest(collection_name=collection, expr=milvus_wire.key_in(layout.key, ids))
        self._connection.call("Delete", request, f"deleting {len(ids)} records of collection {collection!r}")

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._connection.is_lite:
            yield
            return
        with self._write_turn:
            yield

    @contextmanager
    def _naming(self, collection: str) -> Iterator[None]:
        """Add what exists to the error about a collection that does not."""
        try:
            yield
        except CollectionNotFoundError as error:
            self._forget(collection)
            raise self.not_found(collection) from error

    def _refuse_missing_database(self, settings: MilvusSettings) -> None:
        from pymilvus.grpc_gen import milvus_pb2

        if settings.database == "default":
            return
        names = self._connection.call("ListDatabases", milvus_pb2.ListDatabasesRequest(), "listing databases").db_names
        if settings.database not in names:
            raise CollectionNotFoundError(
                f"there is no database {settings.database!r} in {settings.address}; databases there: "
                f"{', '.join(sorted(names))}.",
                todo="Check the name, or create the database.",
                address=settings.address,
            )


def capabilities_of(connection: Connection, *, is_embedded: bool) -> Capabilities:
    """Return what this Milvus can hold."""
    # Lite uses these names for columns of its own, and loses a dynamic field of the same name (3.2.2, tried).
    reserved = {milvus_schema.DYNAMIC_FIELD} | ({"_seq", "_partition"} if connection.is_lite else set())
    return Capabilities(
        store="milvus",
        form="file" if is_embedded else "server",
        id_kinds=frozenset({IdKind.STRING, IdKind.INT64}),
        metrics=frozenset({Metric.COSINE, Metric.DOT, Metric.L2}),
        # Dynamic fields keep JSON as it was sent: all of 64 bits, signed and unsigned.
        payload=PayloadRules(int_min=INT64_MIN, int_max=2**64 - 1, reserved_keys=frozenset(reserved)),
        vector_kinds=frozenset({VectorKind.DENSE}),
        has_typed_text_fields=True,
        max_text_field_bytes=milvus_schema.MAX_VARCHAR_BYTES,
        max_id_length_bytes=milvus_schema.MAX_VARCHAR_BYTES,
        max_dimension=milvus_schema.MAX_DIMENSION,
        collection_name_pattern=milvus_schema.NAME_PATTERN,
        max_batch_count=5_000,
        max_batch_bytes=MAX_REQUEST_BYTES,
        page_count=1_000,
        concurrent_readers=1 if connection.is_lite else 2,
        concurrent_writers=1 if connection.is_lite else 2,
        is_embedded=is_embedded,
    )


def _all_fields(layout: Layout) -> list[str]:
    names = [layout.key.name, *(column.name for column in layout.vectors.values()), *layout.fields]
    return [*names, milvus_schema.DYNAMIC_FIELD] if layout.has_dynamic else names


def _rows_within(row_bytes: int, count: int) -> int:
    return max(1, min(count, MAX_WINDOW, MAX_ANSWER_BYTES // row_bytes))


def _refuse_unwritable(layout: Layout, batch: RecordBatch) -> None:
    absent = sorted(set(layout.vectors) - set(batch.vectors))
    if absent:
        raise SchemaCompatibilityError(
            f"the batch lacks vectors that every record of collection {layout.collection!r} has: {absent}.",
            todo="Give every record all vectors of the target.",
            collection=layout.collection,
        )
    if layout.is_auto_id:
        raise SchemaCompatibilityError(
            f"collection {layout.collection!r} gives its own ids (auto_id): records could not keep theirs.",
            todo="Choose a collection without auto_id as target.",
            collection=layout.collection,
        )


def _endpoint(settings: MilvusSettings) -> str:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"{host}:{settings.port}"


def _connect(settings: MilvusSettings, endpoint: str) -> Connection:
    tls: bytes | None = None
    if settings.is_tls:
        try:
            tls = Path(settings.ca_file).read_bytes() if settings.ca_file else b""
        except OSError as error:
            raise SpecError(f"ca_file={settings.ca_file!r} cannot be read: {error.strerror}.") from error
    return Connection(
        endpoint,
        settings.address,
        credentials=settings.credentials,
        database="" if settings.database == "default" else settings.database,
        tls=tls,
        tls_server_name=settings.tls_server_name,
        timeout_s=settings.timeout_s,
    )


def _open_folder(settings: MilvusSettings, opened: ExitStack, *, create: bool) -> str:
    """Lock and start a Milvus Lite folder, and return its endpoint.

    Opening it writes to it only where the last user was killed: Lite then turns its log into data files. A first load
    adds index files. Neither changes a record.
    """
    path = Path(os.path.realpath(settings.path))
    is_database = (path / "collections").is_dir()
    if not create and not is_database:
        raise CollectionNotFoundError(
            f"there is no Milvus Lite folder at {path}.",
            todo="Check the path; files of Milvus Lite before 3.0 must be converted first.",
            address=settings.address,
        )
    if path.exists() and not is_database and (not path.is_dir() or any(path.iterdir())):
        raise SpecError(
            f"{path} holds something else than a Milvus Lite folder.", todo="Choose a new path, e.g. one ending in .db."
        )
    opened.callback(FolderLock(path).release)
    endpoint = start_lite(str(path))
    opened.callback(stop_lite, str(path))
    return endpoint
