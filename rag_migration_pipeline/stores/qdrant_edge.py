"""Qdrant's real engine embedded in this process (qdrant-edge-py): one shard folder per collection in a base folder.

Belongs here: describing and making collections, points on their way. Does not belong here: the base folder
(``qdrant_edge_folder.py``), reading by key (``qdrant_reading.py``), Qdrant through its client (``qdrant.py``).

    qdrant+edge:///dir/docs

A shard describes itself in its ``edge_config.json``; only the user's metadata needs a file of ours beside that. A write
is in the engine's log when the call returns: it survives a kill of the process (tried with SIGKILL on qdrant-edge-py
0.9.0), and a crash of the machine after `finish_loading`.

The first load after a write empties the shard's payload journal and completes its ``edge_config.json``; later loads
touch nothing (qdrant-edge-py 0.9.0). A store that has written does that load itself when it closes, so that reading the
folder as a source leaves every file as it was; a shard that another program wrote is settled by its first reader.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rag_migration_pipeline.errors import (
    CollectionExistsError,
    CollectionNotFoundError,
    SpecError,
    StoreRequestError,
)
from rag_migration_pipeline.locators import Locator
from rag_migration_pipeline.names import NameRule
from rag_migration_pipeline.records import (
    CollectionInfo,
    CollectionSpec,
    Payload,
    RecordBatch,
    RecordId,
)
from rag_migration_pipeline.stores import qdrant_schema as schema
from rag_migration_pipeline.stores import qdrant_tuning as tuning
from rag_migration_pipeline.stores.base import StoreSettings
from rag_migration_pipeline.stores.new_folder import make_folder
from rag_migration_pipeline.stores.qdrant_edge_folder import (
    CONFIG_FILE,
    OUR_FILE,
    EdgeFolder,
    folders,
    holds_shards,
    read_json,
)
from rag_migration_pipeline.stores.qdrant_errors import driver_errors
from rag_migration_pipeline.stores.qdrant_filter import Query, edge_filter
from rag_migration_pipeline.stores.qdrant_reading import KeyedStore, Page, PointTransport
from rag_migration_pipeline.stores.qdrant_vectors import client_batch, listed
from rag_migration_pipeline.stores.readiness import Readiness

_UPSERT_COUNT = 1_000  # measured: 250 to 5,000 make no difference; smaller keeps the copies small


@dataclass(frozen=True, kw_only=True)
class QdrantEdgeSettings(StoreSettings):
    """How to reach an edge folder.

    Attributes:
        path: Absolute base folder; every collection is a shard in a folder of its name.
        optimize_at_end: Build the index when a load is finished, as a server does in the background.
    """

    name_rule: ClassVar[NameRule] = schema.NAME_RULE

    path: str
    optimize_at_end: bool = True

    @property
    def address(self) -> str:
        """See `StoreSettings.address`."""
        return f"qdrant+edge://{Path(self.path).resolve()}"

    def open(self, *, create: bool = False) -> "QdrantEdgeStore":
        """See `StoreSettings.open`."""
        return QdrantEdgeStore(self, create=create)


def settings_from_locator(locator: Locator) -> QdrantEdgeSettings:
    """Return the settings that a ``qdrant+edge`` URL describes.

    Raises:
        SpecError: Unknown option.
    """
    locator.refuse_unknown()
    return QdrantEdgeSettings(path=locator.path)


class EdgeTransport(PointTransport):
    """Points in the shards of a base folder. The engine's calls may come from several threads."""

    def __init__(self, folder: EdgeFolder) -> None:
        """Keep the folder."""
        self._folder = folder

    @contextmanager
    def _calling(self, operation: str, collection: str, *, is_write: bool = False) -> Iterator[Any]:
        with driver_errors(self._folder.address, operation, collection):
            yield self._folder.shard(collection, is_written=is_write)

    def page(self, spec: CollectionSpec, start: RecordId | None, count: int) -> Page:
        """See `PointTransport.page`."""
        records, next_id = self._scroll(spec.name, start, count, has_values=True, has_vectors=bool(spec.vectors))
        return Page(client_batch(spec, records), next_id)

    def id_page(
        self, collection: str, start: RecordId | None, count: int, where: Query | None = None
    ) -> tuple[list[RecordId], RecordId | None]:
        """See `PointTransport.id_page`."""
        records, next_id = self._scroll(collection, start, count, has_values=False, where=where)
        return [record.id for record in records], next_id

    def value_page(
        self, collection: str, key: str, start: RecordId | None, count: int, where: Query | None = None
    ) -> tuple[list[RecordId], list[Payload], RecordId | None]:
        """See `PointTransport.value_page`."""
        records, next_id = self._scroll(collection, start, count, has_values=False, keys=[key], where=where)
        return [record.id for record in records], [record.payload or {} for record in records], next_id

    def _scroll(
        self,
        collection: str,
        start: RecordId | None,
        count: int,
        *,
        has_values: bool,
        has_vectors: bool = False,
        keys: list[str] | None = None,
        where: Query | None = None,
    ) -> tuple[list[Any], RecordId | None]:
        import qdrant_edge

        with self._calling("scroll", collection) as shard:
            request = qdrant_edge.ScrollRequest(
                offset=start,
                limit=count,
                with_payload=keys or has_values,
                with_vector=has_vectors,
                filter=edge_filter(where),
            )
            records, next_id = shard.scroll(request)
        return records, next_id

    def retrieve(self, spec: CollectionSpec, ids: Sequence[RecordId]) -> RecordBatch:
        """See `PointTransport.retrieve`."""
        with self._calling("retrieve", spec.name) as shard:
            return client_batch(spec, shard.retrieve(list(ids), True, bool(spec.vectors)))

    def count(self, collection: str, where: Query | None = None) -> int:
        """See `PointTransport.count`."""
        import qdrant_edge

        with self._calling("count", collection) as shard:
            return int(shard.count(qdrant_edge.CountRequest(exact=True, filter=edge_filter(where))))

    def upsert(self, spec: CollectionSpec, batch: RecordBatch) -> None:
        """See `PointTransport.upsert`."""
        import qdrant_edge

        with self._calling("upsert", spec.name, is_write=True) as shard:
            for start in range(0, len(batch), _UPSERT_COUNT):
                part = batch.slice(start, start + _UPSERT_COUNT)
                rows = zip(part.ids, listed(part, qdrant_edge.SparseVector), part.payloads, strict=True)
                points = [qdrant_edge.Point(record_id, vector, payload) for record_id, vector, payload in rows]
                shard.update(qdrant_edge.UpdateOperation.upsert_points(points))

    def delete(self, collection: str, ids: Sequence[RecordId]) -> None:
        """See `PointTransport.delete`."""
        import qdrant_edge

        with self._calling("delete", collection, is_write=True) as shard:
            shard.update(qdrant_edge.UpdateOperation.delete_points(list(ids)))


class QdrantEdgeStore(KeyedStore):
    """A base folder of edge shards."""

    settings: QdrantEdgeSettings

    def __init__(self, settings: QdrantEdgeSettings, *, create: bool) -> None:
        """Open the folder; shards are loaded when they are first used.

        Raises:
            SpecError: The package qdrant-edge-py is not installed.
            CollectionNotFoundError: The folder is missing or holds no shard, and must not be created.
            StoreLockedError: Another process uses the folder.
        """
        super().__init__(settings, schema.capabilities("edge"))
        if importlib.util.find_spec("qdrant_edge") is None:
            raise SpecError(
                "qdrant+edge:// needs the package qdrant-edge-py.",
                todo="Run: pip install 'rag_migration_pipeline[edge]'",
            )
        if not create and not holds_shards(Path(settings.path)):
            raise CollectionNotFoundError(
                f"there is no Qdrant edge folder at {settings.path} (no shard in it).", todo="Check the path."
            )
        if create:
            make_folder(settings.path)
        self._folder: EdgeFolder | None = folders.acquire(settings.path)
        if create:
            try:
                with driver_errors(self.address, "tidying the folder"):
                    self._folder.sweep()
            except StoreRequestError:
                self.close()
                raise

    @property
    def folder(self) -> Any:
        """The open base folder; its ``shard(name)`` is the vendor's ``EdgeShard``.

        Raises:
            StoreRequestError: The store is closed.
        """
        if self._folder is None:
            raise StoreRequestError(f"the store {self.address} is closed.", todo="Open it again.", concerns_all=True)
        return self._folder

    def points(self) -> PointTransport:
        """See `KeyedStore.points`."""
        return EdgeTransport(self.folder)

    def list_collections(self) -> list[str]:
        """See `VectorStore.list_collections`."""
        with driver_errors(self.address, "list collections"):
            names: list[str] = self.folder.names()
            return names

    def describe(self, collection: str) -> CollectionInfo:
        """See `VectorStore.describe`."""
        with self._known(collection), driver_errors(self.address, "describe", collection):
            info = self.folder.shard(collection).info()
            config = read_json(self.folder.path / collection / CONFIG_FILE)
            ours = read_json(self.folder.path / collection / OUR_FILE)
            # The binding's enum has no name; its text is "PayloadSchemaType.Keyword" (qdrant-edge-py 0.9.0).
            indexes = {name: str(index.data_type).split(".")[-1].lower() for name, index in info.payload_schema.items()}
            spec = CollectionSpec(
                name=collection,
                vectors=schema.vectors_from_config(config.get("vectors"), config.get("sparse_vectors")),
                id_kinds=schema.ID_KINDS,
                fields=schema.fields_from_schema(indexes),
                settings=tuning.settings_from_config(config, indexes),
                metadata=ours.get("metadata", {}),
            )
        return CollectionInfo(spec, self.count(collection))

    def create(self, spec: CollectionSpec) -> None:
        """See `VectorStore.create`."""
        import qdrant_edge

        schema.check_creatable(spec, self.capabilities)
        if spec.name in self.list_collections():
            raise CollectionExistsError(
                f"there is already a collection {spec.name!r} in {self.address}.",
                todo="Choose another name, or write into the existing one.",
                collection=spec.name,
            )
        with driver_errors(self.address, "create", spec.name):
            config = tuning.engine_config(qdrant_edge, spec)
            self.folder.create(spec.name, config, {"metadata": dict(spec.metadata)})
            for name, kind in schema.indexes_for(spec).items():
                index_type = tuning.engine_index_type(qdrant_edge, spec, name, kind)
                self.folder.shard(spec.name).update(qdrant_edge.UpdateOperation.create_field_index(name, index_type))
        self.forget_spec(spec.name)

    def drop(self, collection: str) -> None:
        """See `VectorStore.drop`."""
        self.forget_spec(collection)
        with driver_errors(self.address, "drop", collection):
            self.folder.drop(collection)

    def finish_loading(self, collection: str) -> None:
        """See `VectorStore.finish_loading`: flush, and build the index, which nobody else does here."""
        with self._known(collection), driver_errors(self.address, "finish loading", collection):
            shard = self.folder.shard(collection, is_written=True)
            if self.settings.optimize_at_end:
                shard.optimize()
            shard.flush()

    def readiness(self, collection: str) -> Readiness:
        """See `VectorStore.readiness`; the engine says how many vectors are indexed, and of its optimizer nothing."""
        with self._known(collection), driver_errors(self.address, "readiness", collection):
            info = self.folder.shard(collection).info()
        indexed, total = int(info.indexed_vectors_count), int(info.points_count)
        detail = f"{indexed} vectors of {total} records are in an index; a search compares all others one by one"
        return Readiness(is_ready=True, total=total, indexed=indexed, detail=detail)

    def close(self) -> None:
        """See `VectorStore.close`."""
        folder, self._folder = self._folder, None
        if folder is not None:
            with driver_errors(self.address, "close"):
                folders.release(self.settings.path)
