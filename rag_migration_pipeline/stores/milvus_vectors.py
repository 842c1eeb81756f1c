"""Vector columns as Milvus' messages and back, for every kind of vector that some form has.

Belongs here: ``schema.VectorField`` <-> `VectorColumn`. Does not belong here: scalar fields (``milvus_wire.py``), which
vectors a collection may have (``milvus_creation.py``), which values it holds (``milvus_screening.py``).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from rag_migration_pipeline.records import DenseColumn, SparseColumn, VectorColumn
from rag_migration_pipeline.stores.milvus_types import Column, FieldType
from rag_migration_pipeline.vectors import converted, in_order

Array = npt.NDArray[Any]

SPARSE_DIMENSION = 2**32 - 1
"""No index reaches it, in any form."""
# Field 1 of ``schema.FloatArray``, length-delimited: what stands before the packed floats.
_FLOATS_TAG = b"\x0a"
_ENTRY = np.dtype([("index", "<u4"), ("value", "<f4")])


def encode_vectors(column: Column, vectors: VectorColumn) -> Any:
    """Return the ``schema.FieldData`` of a vector column; every record has its vector."""
    from pymilvus.grpc_gen import schema_pb2

    data = schema_pb2.FieldData(field_name=column.name, type=column.type)
    if isinstance(vectors, SparseColumn):
        data.vectors.dim = data.vectors.sparse_float_vector.dim = SPARSE_DIMENSION
        data.vectors.sparse_float_vector.contents.extend(_encode_sparse(vectors))
    elif isinstance(vectors, DenseColumn) and column.type == FieldType.FLOAT_VECTOR:
        packed = np.ascontiguousarray(vectors.values, dtype="<f4").tobytes()
        data.vectors.dim = vectors.values.shape[1]
        data.vectors.float_vector.MergeFromString(_FLOATS_TAG + _varint(len(packed)) + packed)
    elif isinstance(vectors, DenseColumn):
        slot, dtype, element = _PACKED[column.type]
        held = converted(vectors, element)
        data.vectors.dim = column.dimension or 0
        if isinstance(held, DenseColumn):
            setattr(data.vectors, slot, np.ascontiguousarray(held.values, dtype=dtype).tobytes())
    return data


def decode_vectors(column: Column, data: Any, count: int) -> VectorColumn:
    """Return the vectors of ``count`` records."""
    if column.type == FieldType.SPARSE_VECTOR:
        return _decode_sparse(data.vectors.sparse_float_vector.contents)
    if column.type == FieldType.FLOAT_VECTOR:
        return DenseColumn(_decode_floats(column, data, count))
    slot, dtype, _ = _PACKED[column.type]
    values = np.frombuffer(getattr(data.vectors, slot), dtype).reshape(count, _width(column))
    return DenseColumn(values.astype(np.dtype(dtype).newbyteorder("="), copy=False))


def empty_column(column: Column) -> VectorColumn:
    """Return a column of no records."""
    if column.type == FieldType.SPARSE_VECTOR:
        return SparseColumn((), ())
    dtype = np.float32 if column.type == FieldType.FLOAT_VECTOR else np.dtype(_PACKED[column.type][1])
    return DenseColumn(np.empty((0, _width(column)), dtype))


_PACKED = {
    FieldType.FLOAT16_VECTOR: ("float16_vector", "<f2", "float16"),
    FieldType.BINARY_VECTOR: ("binary_vector", "u1", "binary"),
}
"""Field type -> the slot of ``schema.VectorField`` that carries it as bytes, the bytes' type, the element type."""

READABLE = frozenset({FieldType.FLOAT_VECTOR, FieldType.SPARSE_VECTOR, *_PACKED})
"""Types of vector fields that are read and written here."""


def row_bytes(column: Column) -> int:
    """Return the size of one record's vector in bytes; an estimate where it is sparse."""
    if column.type == FieldType.SPARSE_VECTOR:
        return 1_024
    return np.dtype(_PACKED.get(column.type, ("", "<f4", ""))[1]).itemsize * _width(column)


def _width(column: Column) -> int:
    dimension = column.dimension or 0
    return dimension // 8 if column.type == FieldType.BINARY_VECTOR else dimension


def _decode_floats(column: Column, data: Any, count: int) -> npt.NDArray[np.float32]:
    message = data.vectors.float_vector.SerializeToString()
    # The message is one tag, the length, and the floats, of which we know the size.
    size = 4 * count * (column.dimension or 0)
    packed = np.frombuffer(message, "<f4", offset=len(message) - size) if count else np.empty(0, "<f4")
    return packed.reshape(count, column.dimension or 0).astype(np.float32, copy=False)


def _encode_sparse(vectors: SparseColumn) -> list[bytes]:
    rows = []
    for given, weights in zip(vectors.indices, vectors.values, strict=True):
        indices, values = in_order(given, weights) if given is not None and weights is not None else ((), ())
        row = np.empty(len(indices), _ENTRY)
        row["index"], row["value"] = indices, values
        rows.append(row.tobytes())
    return rows


def _decode_sparse(contents: Any) -> SparseColumn:
    rows = [np.frombuffer(text, _ENTRY) for text in contents]
    return SparseColumn(
        tuple(row["index"].astype(np.uint32) for row in rows), tuple(row["value"].astype(np.float32) for row in rows)
    )


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
