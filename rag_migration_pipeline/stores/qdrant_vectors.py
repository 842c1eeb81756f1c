"""Vectors of every kind as Qdrant's clients, its engine and its JSON give and take them.

Belongs here: columns <-> lists, dicts and the JSON of points. Does not belong here: gRPC messages
(``qdrant_points.py``), requests (``qdrant_transports.py``).

A bare list is the unnamed vector: dense where it holds numbers, a multi-vector where it holds lists. Sparse vectors
always have a name; the engine gives their entries in the order of the indices, and keeps zeros.
"""

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson

from rag_migration_pipeline.errors import StoreRequestError
from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    CollectionSpec,
    DenseColumn,
    Float32Array,
    MultiColumn,
    Payload,
    RecordBatch,
    RecordId,
    SparseColumn,
    VectorColumn,
    VectorKind,
)
from rag_migration_pipeline.stores.capabilities import Capabilities
from rag_migration_pipeline.uuids import parse_uuid
from rag_migration_pipeline.vectors import all_entries, all_vectors, column_of, with_vectors


def id_from_json(value: Any) -> RecordId:
    """Return an id from its JSON form: a number or a UUID's text."""
    return value if isinstance(value, int | uuid.UUID) else parse_uuid(str(value))


def in_float32(batch: RecordBatch, spec: CollectionSpec, capabilities: Capabilities) -> RecordBatch:
    """Return the batch with C-contiguous float32 vectors, those of which only the direction is kept at length 1.

    Qdrant normalises itself, but leaves vectors shorter than 3.45e-4 as they are and makes zeros of those longer than
    1.8e19, whose squared length overflows float32 (tried on qdrant-edge-py 0.9.0). It leaves vectors of length 1 alone.
    Every form of Qdrant is given float32 and turns it into the collection's element type.
    """
    columns: dict[str, VectorColumn] = dict(batch.vectors)
    for name, column in batch.vectors.items():
        if not isinstance(column, SparseColumn):
            values, _ = all_vectors(column)
            if capabilities.is_normalised(spec.vector(name)):
                values = _unit_rows(values)
            columns[name] = with_vectors(column, np.ascontiguousarray(values, dtype=np.float32))
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
        spec: The collection.
        ids: Ids of the records.
        payloads: Payloads of the records.
        vectors: Per record by vector name: numbers, rows of numbers, or something with indices and values (JSON's dict,
            the client's or the engine's ``SparseVector``). Names may be missing.
    """
    columns: dict[str, VectorColumn] = {}
    for vector in spec.vectors:
        rows = [record.get(vector.name) for record in vectors]
        if vector.kind is VectorKind.SPARSE:
            rows = [None if row is None else _entries(row) for row in rows]
        columns[vector.name] = column_of(vector, rows)
    return RecordBatch(ids, columns, payloads)


def _entries(row: Any) -> tuple[Any, Any]:
    return (row["indices"], row["values"]) if isinstance(row, dict) else (row.indices, row.values)


def client_batch(spec: CollectionSpec, records: Sequence[Any]) -> RecordBatch:
    """Return a batch from objects with ``id``, ``payload`` and ``vector``: the client's or qdrant-edge's records."""
    return rows_to_batch(
        spec,
        [id_from_json(record.id) for record in records],
        [record.payload or {} for record in records],
        [_by_name(record.vector) for record in records],
    )


def json_batch(spec: CollectionSpec, records: Sequence[dict[str, Any]]) -> RecordBatch:
    """Return a batch from points as JSON.

    Raises:
        StoreRequestError: A vector has NaN or infinite components, for which a server writes null.
    """
    batch = rows_to_batch(
        spec,
        [id_from_json(record["id"]) for record in records],
        [record.get("payload") or {} for record in records],
        [_by_name(record.get("vector")) for record in records],
    )
    for name, column in batch.vectors.items():
        values = all_entries(column)[1] if isinstance(column, SparseColumn) else all_vectors(column)[0]
        if values.dtype.kind == "f" and np.isnan(values).any():
            raise StoreRequestError(
                f"collection {spec.name!r}: vector {name!r} has NaN or infinite components, which JSON cannot carry.",
                todo="Read over gRPC: leave prefer_grpc out of the URL, and open the gRPC port.",
                collection=spec.name,
            )
    return batch


def _by_name(vector: Any) -> dict[str, Any]:
    """Return a record's vectors by name; a bare list is the unnamed vector."""
    if vector is None:
        return {}
    return vector if isinstance(vector, dict) else {DEFAULT_VECTOR: vector}


def listed(batch: RecordBatch, make_sparse: Callable[..., Any]) -> Iterator[Any]:
    """Yield each record's vectors as clients take them: a list of floats, or vectors by name.

    Args:
        batch: The records.
        make_sparse: Makes a sparse vector of ``indices`` and ``values``.
    """
    if list(batch.vectors) == [DEFAULT_VECTOR]:
        column = batch.vectors[DEFAULT_VECTOR]
        if isinstance(column, DenseColumn) and column.present is None:
            yield from (row.tolist() for row in column.values)  # all rows at once are a fifth slower (edge)
            return
    for row in range(len(batch)):
        named: dict[str, Any] = {}
        for name, column in batch.vectors.items():
            if isinstance(column, SparseColumn):
                indices, values = column.indices[row], column.values[row]
                if indices is not None and values is not None:
                    named[name] = make_sparse(indices=indices.tolist(), values=values.tolist())
            elif (values := _dense_row(column, row)) is not None:
                named[name] = values.tolist()
        yield named[DEFAULT_VECTOR] if list(named) == [DEFAULT_VECTOR] else named


def _dense_row(column: DenseColumn | MultiColumn, row: int) -> Any:
    if isinstance(column, DenseColumn) and column.present is not None and not column.present[row]:
        return None
    return column.values[row]


def json_points(batch: RecordBatch) -> Iterator[bytes]:
    """Yield each record as the JSON of a point; orjson writes float32 rows in their shortest exact form."""
    is_named = list(batch.vectors) != [DEFAULT_VECTOR]
    for row, record_id in enumerate(batch.ids):
        named: dict[str, Any] = {}
        for name, column in batch.vectors.items():
            if isinstance(column, SparseColumn):
                indices, values = column.indices[row], column.values[row]
                if indices is not None and values is not None:
                    named[name] = {"indices": np.ascontiguousarray(indices), "values": np.ascontiguousarray(values)}
            elif (values := _dense_row(column, row)) is not None:
                named[name] = values
        vector = named if is_named or not named else named[DEFAULT_VECTOR]
        point = {"id": record_id, "vector": vector, "payload": batch.payloads[row]}
        yield orjson.dumps(point, option=orjson.OPT_SERIALIZE_NUMPY)
