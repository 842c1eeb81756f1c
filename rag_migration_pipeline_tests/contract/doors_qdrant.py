"""Back doors of Qdrant: the vendor's client (server, local folder) and the vendor's engine, in their plainest use.

Belongs here: row upserts and scrolls as the vendor's documentation shows them. Does not belong here: anything of the
adapters; the stores only lend the open client of an embedded folder, which nobody else can open beside them.
"""

import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge
from qdrant_client import QdrantClient, models

from rag_migration_pipeline.records import (
    CollectionSpec,
    DenseColumn,
    Metric,
    RecordBatch,
    RecordId,
    VectorSpec,
)
from rag_migration_pipeline.stores.base import VectorStore

_DISTANCES = {
    Metric.COSINE: models.Distance.COSINE,
    Metric.DOT: models.Distance.DOT,
    Metric.L2: models.Distance.EUCLID,
    Metric.MANHATTAN: models.Distance.MANHATTAN,
}
_PAGE = 7


class QdrantDoor:
    """A client of its own for a server; the store's client for a local folder."""

    def __init__(self, settings: Any, store: VectorStore | None = None) -> None:
        self._own = None
        if settings.path:
            if store is None:
                raise ValueError("the door of a local folder needs the open store, whose client it shares")
            self._client: QdrantClient = store.client  # type: ignore[attr-defined]
        else:
            self._own = self._client = _connect(settings)

    def raw_create(self, spec: CollectionSpec) -> None:
        """Create a collection."""
        params = {
            vector.name: models.VectorParams(size=vector.dimension, distance=_DISTANCES[vector.metric])
            for vector in spec.vectors
        }
        self._client.create_collection(spec.name, vectors_config=params.get("", params), metadata=dict(spec.metadata))

    def raw_collections(self) -> list[str]:
        """Return all names."""
        return [collection.name for collection in self._client.get_collections().collections]

    def raw_write(self, collection: str, batch: RecordBatch) -> None:
        """Upsert one point after the other."""
        for row, record_id in enumerate(batch.ids):
            point = models.PointStruct(id=_plain_id(record_id), vector=_vector(batch, row), payload=batch.payloads[row])
            self._client.upsert(collection, [point], wait=True)

    def raw_read(self, collection: str) -> RecordBatch:
        """Scroll through everything."""
        records: list[Any] = []
        offset = None
        while True:
            page, offset = self._client.scroll(
                collection, limit=_PAGE, offset=offset, with_payload=True, with_vectors=True
            )
            records += page
            if offset is None:
                break
        params = self._client.get_collection(collection).config.params.vectors
        sizes = {"": params.size} if isinstance(params, models.VectorParams) else {k: v.size for k, v in params.items()}
        return _batch(records, sizes)

    def close(self) -> None:
        """Close the door's own client."""
        if self._own is not None:
            self._own.close()


class QdrantEdgeDoor:
    """The engine's shards, which the open store lends."""

    def __init__(self, settings: Any, store: VectorStore) -> None:
        self._path = Path(settings.path)
        self._folder = store.folder  # type: ignore[attr-defined]

    def raw_create(self, spec: CollectionSpec) -> None:
        """Create a shard folder."""
        params = {vector.name: _edge_params(vector) for vector in spec.vectors}
        config = qdrant_edge.EdgeConfig(vectors=params)
        qdrant_edge.EdgeShard.create(str(self._path / spec.name), config).close()

    def raw_collections(self) -> list[str]:
        """Return the folders' names."""
        return [folder.name for folder in self._path.iterdir()]

    def raw_write(self, collection: str, batch: RecordBatch) -> None:
        """Upsert one point after the other."""
        shard = self._folder.shard(collection)
        for row, record_id in enumerate(batch.ids):
            point = qdrant_edge.Point(record_id, _vector(batch, row), batch.payloads[row])
            shard.update(qdrant_edge.UpdateOperation.upsert_points([point]))

    def raw_read(self, collection: str) -> RecordBatch:
        """Scroll through everything."""
        shard = self._folder.shard(collection)
        records: list[Any] = []
        offset = None
        while True:
            page, offset = shard.scroll(
                qdrant_edge.ScrollRequest(offset=offset, limit=_PAGE, with_payload=True, with_vector=True)
            )
            records += page
            if offset is None:
                break
        return _batch(records, {name: 0 for record in records for name in _named(record.vector)})

    def close(self) -> None:
        """Nothing was opened."""


def _edge_params(vector: VectorSpec) -> Any:
    distances = {
        Metric.COSINE: qdrant_edge.Distance.Cosine,
        Metric.DOT: qdrant_edge.Distance.Dot,
        Metric.L2: qdrant_edge.Distance.Euclid,
        Metric.MANHATTAN: qdrant_edge.Distance.Manhattan,
    }
    return qdrant_edge.EdgeVectorParams(size=vector.dimension, distance=distances[vector.metric])


def _connect(settings: Any) -> QdrantClient:
    options: dict[str, Any] = {}
    if settings.ca_file:
        options["verify"] = settings.ca_file
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the client warns of an api key without TLS
        return QdrantClient(
            url=f"{'https' if settings.is_tls else 'http'}://{settings.host}:{settings.port}",
            api_key=settings.api_key.get_secret_value() if settings.api_key else None,
            prefer_grpc=False,
            check_compatibility=False,
            timeout=60,
            **options,
        )


def _plain_id(record_id: RecordId) -> int | str:
    return str(record_id) if isinstance(record_id, uuid.UUID) else record_id


def _vector(batch: RecordBatch, row: int) -> Any:
    named = {}
    for name, column in batch.vectors.items():
        if not isinstance(column, DenseColumn):
            raise TypeError("the door writes dense vectors only")
        if column.present is None or column.present[row]:
            named[name] = [float(component) for component in column.values[row]]
    return named.get("", named)


def _named(vector: Any) -> dict[str, Any]:
    return vector if isinstance(vector, dict) else {"": vector}


def _batch(records: list[Any], sizes: dict[str, int]) -> RecordBatch:
    columns = {}
    for name, size in sizes.items():
        rows = [_named(record.vector).get(name) for record in records]
        width = max([size, *(len(row) for row in rows if row is not None)])
        values = np.zeros((len(rows), width), dtype=np.float32)
        for position, row in enumerate(rows):
            if row is not None:
                values[position] = row
        columns[name] = DenseColumn(values, np.array([row is not None for row in rows], dtype=bool))
    ids = [uuid.UUID(record.id) if isinstance(record.id, str) else record.id for record in records]
    return RecordBatch(ids, columns, [record.payload or {} for record in records])
