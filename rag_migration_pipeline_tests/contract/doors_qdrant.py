"""Back doors of Qdrant: the vendor's client (server, local folder) and the vendor's engine, in their plainest use.

Belongs here: row upserts and scrolls as the vendor's documentation shows them. Does not belong here: anything of the
adapters; the stores only lend the open client of an embedded folder, which nobody else can open beside them.
"""

import json
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
    MultiColumn,
    RecordBatch,
    RecordId,
    SparseColumn,
    VectorColumn,
    VectorKind,
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
        params = {vector.name: _params(vector) for vector in spec.vectors if vector.kind is not VectorKind.SPARSE}
        sparse = {v.name: models.SparseVectorParams() for v in spec.vectors if v.kind is VectorKind.SPARSE}
        self._client.create_collection(
            spec.name,
            vectors_config=params.get("", params),
            sparse_vectors_config=sparse or None,
            metadata=dict(spec.metadata),
        )

    def raw_collections(self) -> list[str]:
        """Return all names."""
        return [collection.name for collection in self._client.get_collections().collections]

    def raw_write(self, collection: str, batch: RecordBatch) -> None:
        """Upsert one point after the other."""
        for row, record_id in enumerate(batch.ids):
            vector = _vector(batch, row, models.SparseVector)
            point = models.PointStruct(id=_plain_id(record_id), vector=vector, payload=batch.payloads[row])
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
        params = self._client.get_collection(collection).config.params
        vectors = {"": params.vectors} if isinstance(params.vectors, models.VectorParams) else params.vectors
        shapes = {}
        for name, vector in (vectors or {}).items():
            kind = VectorKind.MULTI if vector.multivector_config else VectorKind.DENSE
            shapes[name] = (kind, _NUMBERS.get((vector.datatype or "float32").lower(), np.float32), vector.size)
        shapes.update(dict.fromkeys(params.sparse_vectors or {}, _SPARSE))
        return _batch(records, shapes)

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
        params = {vector.name: _edge_params(vector) for vector in spec.vectors if vector.kind is not VectorKind.SPARSE}
        sparse = {v.name: qdrant_edge.EdgeSparseVectorParams() for v in spec.vectors if v.kind is VectorKind.SPARSE}
        config = qdrant_edge.EdgeConfig(vectors=params, sparse_vectors=sparse)
        qdrant_edge.EdgeShard.create(str(self._path / spec.name), config).close()

    def raw_collections(self) -> list[str]:
        """Return the folders' names."""
        return [folder.name for folder in self._path.iterdir()]

    def raw_write(self, collection: str, batch: RecordBatch) -> None:
        """Upsert one point after the other."""
        shard = self._folder.shard(collection)
        for row, record_id in enumerate(batch.ids):
            point = qdrant_edge.Point(record_id, _vector(batch, row, qdrant_edge.SparseVector), batch.payloads[row])
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
        config = json.loads((self._path / collection / "edge_config.json").read_text())
        shapes = {}
        for name, vector in (config.get("vectors") or {}).items():
            kind = VectorKind.MULTI if vector.get("multivector_config") else VectorKind.DENSE
            shapes[name] = (kind, _NUMBERS.get(vector.get("datatype"), np.float32), vector["size"])
        shapes.update(dict.fromkeys(config.get("sparse_vectors") or {}, _SPARSE))
        return _batch(records, shapes)

    def close(self) -> None:
        """Nothing was opened."""


def _edge_params(vector: VectorSpec) -> Any:
    distances = {
        Metric.COSINE: qdrant_edge.Distance.Cosine,
        Metric.DOT: qdrant_edge.Distance.Dot,
        Metric.L2: qdrant_edge.Distance.Euclid,
        Metric.MANHATTAN: qdrant_edge.Distance.Manhattan,
    }
    types = {
        "float16": qdrant_edge.VectorStorageDatatype.Float16,
        "uint8": qdrant_edge.VectorStorageDatatype.Uint8,
    }
    multi = qdrant_edge.MultiVectorConfig(qdrant_edge.MultiVectorComparator.MaxSim)
    return qdrant_edge.EdgeVectorParams(
        size=vector.dimension,
        distance=distances[vector.metric],
        multivector_config=multi if vector.kind is VectorKind.MULTI else None,
        datatype=types.get(vector.dtype),
    )


def _params(vector: VectorSpec) -> models.VectorParams:
    multi = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    return models.VectorParams(
        size=vector.dimension,
        distance=_DISTANCES[vector.metric],
        multivector_config=multi if vector.kind is VectorKind.MULTI else None,
        datatype=None if vector.dtype == "float32" else models.Datatype(vector.dtype),
    )


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


def _vector(batch: RecordBatch, row: int, make_sparse: Any) -> Any:
    named: dict[str, Any] = {}
    for name, column in batch.vectors.items():
        value = column.values[row]
        if isinstance(column, SparseColumn):
            indices = column.indices[row]
            if indices is not None:
                named[name] = make_sparse(indices=[int(i) for i in indices], values=[float(v) for v in value])
        elif isinstance(column, MultiColumn):
            if value is not None:
                named[name] = [[float(component) for component in part] for part in value]
        elif column.present is None or column.present[row]:
            named[name] = [float(component) for component in value]
    return named[""] if list(named) == [""] else named


def _named(vector: Any) -> dict[str, Any]:
    return vector if isinstance(vector, dict) else {"": vector}


_SPARSE = (VectorKind.SPARSE, np.float32, 0)
_NUMBERS = {"float16": np.float16, "uint8": np.uint8}


def _batch(records: list[Any], shapes: dict[str, tuple[VectorKind, Any, int]]) -> RecordBatch:
    columns: dict[str, VectorColumn] = {}
    for name, (kind, numbers, size) in shapes.items():
        rows = [_named(record.vector).get(name) for record in records]
        if kind is VectorKind.SPARSE:
            indices = tuple(None if row is None else np.array(row.indices, np.uint32) for row in rows)
            columns[name] = SparseColumn(
                indices, tuple(None if r is None else np.array(r.values, np.float32) for r in rows)
            )
        elif kind is VectorKind.MULTI:
            columns[name] = MultiColumn(tuple(None if row is None else np.array(row, numbers) for row in rows))
        else:
            values = np.zeros((len(rows), size), dtype=numbers)
            for position, row in enumerate(rows):
                if row is not None:
                    values[position] = row
            columns[name] = DenseColumn(values, np.array([row is not None for row in rows], dtype=bool))
    ids = [uuid.UUID(record.id) if isinstance(record.id, str) else record.id for record in records]
    return RecordBatch(ids, columns, [record.payload or {} for record in records])
