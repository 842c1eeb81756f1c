"""Qdrant through its Python client: collections of every form, and the client's local folder.

Belongs here: listing, describing, creating and dropping collections; opening a folder. Does not belong here: settings
(``qdrant_settings.py``), connecting to a server (``qdrant_server.py``), points on their way (``qdrant_transports.py``),
reading by key (``qdrant_reading.py``), the engine embedded without the client (``qdrant_edge.py``).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag_migration_pipeline.errors import (
    CollectionExistsError,
    CollectionNotFoundError,
    StoreLockedError,
    StoreRequestError,
)
from rag_migration_pipeline.records import (
    CollectionInfo,
    CollectionSpec,
)
from rag_migration_pipeline.stores import qdrant_schema as schema
from rag_migration_pipeline.stores import qdrant_tuning as tuning
from rag_migration_pipeline.stores.new_folder import make_folder
from rag_migration_pipeline.stores.qdrant_errors import driver_errors
from rag_migration_pipeline.stores.qdrant_reading import KeyedStore, PointTransport
from rag_migration_pipeline.stores.qdrant_settings import QdrantSettings, settings_from_locator
from rag_migration_pipeline.stores.qdrant_transports import LocalTransport
from rag_migration_pipeline.stores.readiness import Readiness
from rag_migration_pipeline.stores.shared_handles import SharedHandles

__all__ = ["QdrantFolderStore", "QdrantSettings", "QdrantStore", "settings_from_locator"]

_MARKER = "meta.json"  # qdrant-client 1.20 local/qdrant_local.py: META_INFO_FILENAME


class QdrantStore(KeyedStore):
    """Collections through the client; the server's and the folder's store say how it is opened."""

    settings: QdrantSettings

    def __init__(self, settings: QdrantSettings, form: str) -> None:
        """Keep the settings; subclasses open the client."""
        super().__init__(settings, schema.capabilities(form))
        self._client: Any = None
        self._transport: PointTransport | None = None

    @property
    def client(self) -> Any:
        """The vendor's open ``QdrantClient``.

        Raises:
            StoreRequestError: The store is closed.
        """
        if self._client is None:
            raise StoreRequestError(f"the store {self.address} is closed.", todo="Open it again.", concerns_all=True)
        return self._client

    def points(self) -> PointTransport:
        """See `KeyedStore.points`."""
        if self._transport is None:
            raise StoreRequestError(f"the store {self.address} is closed.", todo="Open it again.", concerns_all=True)
        return self._transport

    @contextmanager
    def _calling(self, operation: str, collection: str | None = None) -> Iterator[Any]:
        """Give the client for one call."""
        with driver_errors(self.address, operation, collection):
            yield self.client

    def list_collections(self) -> list[str]:
        """See `VectorStore.list_collections`; aliases are not listed."""
        with self._calling("list collections") as client:
            return sorted(item.name for item in client.get_collections().collections)

    def exists(self, collection: str) -> bool:
        """See `VectorStore.exists`; an alias exists too."""
        with self._calling("look up", collection) as client:
            return bool(client.collection_exists(collection))

    def describe(self, collection: str) -> CollectionInfo:
        """See `VectorStore.describe`."""
        with self._known(collection), self._calling("describe", collection) as client:
            if not client.collection_exists(collection):
                raise CollectionNotFoundError(f"there is no collection {collection!r} in {self.address}.")
            info = client.get_collection(collection)
        config = info.config.model_dump(mode="json", exclude_none=True)
        metadata = config.pop("metadata", {})
        parameters = config.get("params", {})
        schemas = info.payload_schema or {}
        indexes = {name: str(index.data_type) for name, index in schemas.items()}
        tuned = {
            name: indexes[name] if index.params is None else index.params.model_dump(mode="json", exclude_none=True)
            for name, index in schemas.items()
        }
        spec = CollectionSpec(
            name=collection,
            vectors=schema.vectors_from_config(
                parameters.get("vectors"),
                parameters.get("sparse_vectors"),
                has_types=bool(self.capabilities.other_types),
            ),
            id_kinds=schema.ID_KINDS,
            fields=schema.fields_from_schema(indexes),
            settings=tuning.settings_from_config(config, tuned),
            metadata=metadata,
        )
        return CollectionInfo(spec, self.count(collection))

    def create(self, spec: CollectionSpec) -> None:
        """See `VectorStore.create`."""
        from qdrant_client import models

        schema.check_creatable(spec, self.capabilities)
        if self.exists(spec.name):
            raise self._exists_error(spec.name)
        arguments = tuning.creation_arguments(models, spec)
        with self._calling("create", spec.name) as client:
            client.create_collection(spec.name, metadata=dict(spec.metadata) or None, **arguments)
        self.forget_spec(spec.name)
        kinds = schema.indexes_for(spec).items()
        self._create_indexes(spec.name, {key: tuning.index_schema(models, spec, key, kind) for key, kind in kinds})

    def _exists_error(self, collection: str) -> CollectionExistsError:
        return CollectionExistsError(
            f"there is already a collection {collection!r} in {self.address}.",
            todo="Choose another name, or write into the existing one.",
            collection=collection,
        )

    def _create_indexes(self, collection: str, indexes: dict[str, Any]) -> None:
        """Make payload indexes."""
        for name, wanted in indexes.items():
            with self._calling("index", collection) as client:
                client.create_payload_index(collection, name, field_schema=wanted, wait=True)

    def drop(self, collection: str) -> None:
        """See `VectorStore.drop`."""
        self.forget_spec(collection)
        with self._calling("drop", collection) as client:
            if client.collection_exists(collection):
                client.delete_collection(collection)


@dataclass(frozen=True)
class _LocalClient:
    client: Any
    lock: threading.RLock


def _open_local(path: str) -> _LocalClient:
    from qdrant_client import QdrantClient

    address = f"qdrant+file://{path}"
    make_folder(path)
    try:
        # The connection is shared by threads; the lock beside it lets only one in at a time.
        client = QdrantClient(path=path, force_disable_check_same_thread=True)
    except RuntimeError as error:
        # qdrant-client 1.20 local/qdrant_local.py raises RuntimeError for nothing else than its own lock.
        raise StoreLockedError(
            f"the folder {path} is in use by another Qdrant client.", todo="Close it first.", folder=path
        ) from error
    except (ValueError, OSError) as error:
        raise StoreRequestError(f"{address} cannot be opened: {error}.", todo="Is it a folder of Qdrant's?") from error
    return _LocalClient(client, threading.RLock())


_local_clients: SharedHandles[_LocalClient] = SharedHandles(_open_local, lambda handle: handle.client.close())


class QdrantFolderStore(QdrantStore):
    """A folder in the client's local mode: small, slow (one SQLite commit per point), one call at a time.

    Opening a folder to read it creates nothing in it but the client's own ``.lock`` file, if that is missing.
    """

    def __init__(self, settings: QdrantSettings, *, create: bool) -> None:
        """Open the folder.

        Raises:
            CollectionNotFoundError: There is no Qdrant folder and none may be created.
            StoreLockedError: Another process uses it.
        """
        super().__init__(settings, "folder")
        if not create and not (Path(settings.path) / _MARKER).is_file():
            raise CollectionNotFoundError(
                f"there is no Qdrant folder at {settings.path} (no {_MARKER} in it).", todo="Check the path."
            )
        self._handle = _local_clients.acquire(settings.path)
        self._client = self._handle.client
        self._transport = LocalTransport(self._client, self._handle.lock, self.address)

    @contextmanager
    def _calling(self, operation: str, collection: str | None = None) -> Iterator[Any]:
        with self._handle.lock, super()._calling(operation, collection) as client:
            yield client

    def _create_indexes(self, collection: str, indexes: dict[str, Any]) -> None:
        """Local mode has no payload indexes (and warns)."""

    def readiness(self, collection: str) -> Readiness:
        """See `VectorStore.readiness`."""
        detail = "the client's folder has no index: a search compares all vectors"
        return Readiness(is_ready=True, total=self.count(collection), detail=detail)

    def close(self) -> None:
        """See `VectorStore.close`."""
        client, self._client, self._transport = self._client, None, None
        if client is not None:
            _local_clients.release(self.settings.path)
