"""Points as gRPC messages: batches in, batches out, vectors as packed bytes and never as Python floats.

Belongs here: the wire form of ids, payload values and vectors. Does not belong here: sending (the transports).

Measured with qdrant-client 1.20 on 384 dimensions: 15-20 microseconds per point written (client's own conversion from
lists: 45), 13 per point read (client's own: 60); vectors cost 2 of them.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rag_migration_pipeline.errors import StoreRequestError
from rag_migration_pipeline.records import (
    DEFAULT_VECTOR,
    UINT64_MAX,
    CollectionSpec,
    DenseColumn,
    MultiColumn,
    Payload,
    RecordBatch,
    RecordId,
    SparseColumn,
    VectorColumn,
    VectorKind,
    VectorSpec,
)
from rag_migration_pipeline.uuids import parse_uuid
from rag_migration_pipeline.vectors import column_of, element_type

_FLOAT = np.dtype("<f4")  # the wire's byte order
_DATA_TAG = b"\x0a"  # field 1, length-delimited: DenseVector.data; also Vectors.vector
_DENSE_TAG = b"\xaa\x06"  # field 101, length-delimited: Vector.dense


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _vector_prefix(dimension: int) -> bytes:
    """Return the bytes of a ``Vector`` with a dense vector that come before its packed floats."""
    data = _DATA_TAG + _varint(4 * dimension)
    return _DENSE_TAG + _varint(len(data) + 4 * dimension) + data


def id_fields(record_id: RecordId) -> dict[str, Any]:
    """Return the arguments of a ``PointId``."""
    return {"uuid": str(record_id)} if isinstance(record_id, uuid.UUID) else {"num": record_id}


def id_of(message: Any) -> RecordId:
    """Return the id that a ``PointId`` holds."""
    if message.WhichOneof("point_id_options") == "uuid":
        return parse_uuid(message.uuid)
    number: int = message.num
    return number


def encode_points(batch: RecordBatch) -> Iterator[Any]:
    """Yield a ``PointStruct`` per record; dense and multi-vectors are float32."""
    from qdrant_client import grpc

    only = batch.vectors.get(DEFAULT_VECTOR) if list(batch.vectors) == [DEFAULT_VECTOR] else None
    rows = _unnamed_rows(only) if isinstance(only, DenseColumn) else _named_rows(batch.vectors, len(batch))
    for record_id, payload, vectors in zip(batch.ids, batch.payloads, rows, strict=True):
        values = {key: _value_fields(value) for key, value in payload.items()}
        yield grpc.PointStruct(id=id_fields(record_id), vectors=vectors, payload=values)


def _unnamed_rows(column: DenseColumn) -> Iterator[Any]:
    from qdrant_client import grpc

    inner = _vector_prefix(column.values.shape[1])
    prefix = _DATA_TAG + _varint(len(inner) + 4 * column.values.shape[1]) + inner
    nothing = grpc.Vectors(vectors=grpc.NamedVectors())
    for row, raw in enumerate(_row_bytes(column.values)):
        is_present = column.present is None or column.present[row]
        yield grpc.Vectors.FromString(prefix + raw) if is_present else nothing


def _named_rows(columns: Mapping[str, VectorColumn], count: int) -> Iterator[Any]:
    """Yield each record's vectors by name; the unnamed vector is the one whose name is empty."""
    from qdrant_client import grpc

    vectors = {name: _vectors(column) for name, column in columns.items()}
    for _ in range(count):
        found = {name: next(rows) for name, rows in vectors.items()}
        named = {name: vector for name, vector in found.items() if vector is not None}
        yield grpc.Vectors(vectors=grpc.NamedVectors(vectors=named))


def _vectors(column: VectorColumn) -> Iterator[Any]:
    """Yield a ``Vector`` per record, or None."""
    from qdrant_client import grpc

    if isinstance(column, SparseColumn):
        for indices, values in zip(column.indices, column.values, strict=True):
            is_present = indices is not None and values is not None
            yield grpc.Vector(sparse=_sparse_message(indices, values)) if is_present else None
    elif isinstance(column, MultiColumn):
        for item in column.values:
            yield None if item is None else grpc.Vector(multi_dense=_multi_message(item))
    else:
        prefix = _vector_prefix(column.values.shape[1])
        for row, raw in enumerate(_row_bytes(column.values)):
            is_present = column.present is None or column.present[row]
            yield grpc.Vector.FromString(prefix + raw) if is_present else None


def _sparse_message(indices: Any, values: Any) -> Any:
    from qdrant_client import grpc

    raw = np.ascontiguousarray(values, dtype=_FLOAT).tobytes()
    message = grpc.SparseVector.FromString(_DATA_TAG + _varint(len(raw)) + raw)  # its values are field 1, too
    message.indices.extend(indices.tolist())
    return message


def _multi_message(values: Any) -> Any:
    from qdrant_client import grpc

    size_bytes = 4 * values.shape[1]
    data = _DATA_TAG + _varint(size_bytes)
    prefix = _DATA_TAG + _varint(len(data) + size_bytes) + data  # MultiDenseVector.vectors is field 1 again
    return grpc.MultiDenseVector.FromString(b"".join(prefix + raw for raw in _row_bytes(values)))


def _row_bytes(values: Any) -> Iterator[bytes]:
    plain = np.ascontiguousarray(values, dtype=_FLOAT)
    return (row.tobytes() for row in plain)


def _value_fields(value: Any) -> dict[str, Any]:
    """Return the arguments of a ``Value``; protobuf builds the whole tree from them at once."""
    kind = type(value)
    if kind is str:
        return {"string_value": value}
    if kind is bool:
        return {"bool_value": value}
    if kind is int:
        return {"integer_value": value}
    if kind is float:
        return {"double_value": value}
    if kind is list:
        return {"list_value": {"values": [_value_fields(item) for item in value]}}
    if kind is dict:
        return {"struct_value": {"fields": {key: _value_fields(item) for key, item in value.items()}}}
    return {"null_value": 0}


def decode_points(points: Sequence[Any], spec: CollectionSpec) -> tuple[RecordBatch, list[int]]:
    """Return the records of ``RetrievedPoint`` messages.

    Returns:
        The batch, and the rows whose payload holds a double that may have been a larger integer (see `_Decoder`).
    """
    decoder = _Decoder()
    payloads: list[Payload] = []
    doubtful = []
    for row, point in enumerate(points):
        decoder.is_doubtful = False
        payloads.append({key: decoder.value(value) for key, value in point.payload.items()})
        if decoder.is_doubtful:
            doubtful.append(row)
    columns = {vector.name: _decode_column(points, vector) for vector in spec.vectors}
    return RecordBatch([id_of(point.id) for point in points], columns, payloads), doubtful


class _Decoder:
    """Turns payload values into Python's.

    The server answers integers from 2**63 to 2**64-1, which it does keep, as doubles over gRPC (over REST they are
    right). Source: qdrant/qdrant lib/api/src/conversions/json.rs, json_to_proto. Such doubles are in doubt.
    """

    def __init__(self) -> None:
        self.is_doubtful = False

    def value(self, message: Any) -> Any:
        kind = message.WhichOneof("kind")
        if kind == "string_value":
            return message.string_value
        if kind == "integer_value":
            return message.integer_value
        if kind == "double_value":
            number = message.double_value
            if 2.0**63 <= number <= float(UINT64_MAX):
                self.is_doubtful = True
            return number
        if kind == "bool_value":
            return message.bool_value
        if kind == "list_value":
            return [self.value(item) for item in message.list_value.values]
        if kind == "struct_value":
            return {key: self.value(item) for key, item in message.struct_value.fields.items()}
        return None


def _decode_column(points: Sequence[Any], vector: VectorSpec) -> VectorColumn:
    """Return one vector of all points."""
    if vector.kind is VectorKind.DENSE:
        return _decode_dense(points, vector)
    decode = _sparse_entries if vector.kind is VectorKind.SPARSE else _multi_rows
    found = [_vector_of(point, vector.name) for point in points]
    return column_of(vector, [None if message is None else decode(message, vector) for message in found])


def _decode_dense(points: Sequence[Any], vector: VectorSpec) -> DenseColumn:
    """Return a column in the vector's element type; a server sends float32 whatever it keeps."""
    from qdrant_client import grpc

    dimension = vector.dimension or 0
    size_bytes = 4 * dimension
    parts: list[bytes] = []
    missing = []
    for row, point in enumerate(points):
        message = _vector_of(point, vector.name)
        if message is None:
            missing.append(row)
            parts.append(bytes(size_bytes))
        else:
            # Servers before 1.16 fill the flat fields only.
            is_flat = message.WhichOneof("vector") != "dense"
            parts.append(_packed(grpc.DenseVector(data=message.data) if is_flat else message.dense, vector))
    values = np.frombuffer(bytearray().join(parts), dtype=_FLOAT).reshape(len(points), dimension)
    values = values.astype(element_type(vector.dtype), copy=False)
    if not missing:
        return DenseColumn(values)
    present = np.ones(len(points), dtype=np.bool_)
    present[missing] = False
    return DenseColumn(values, present)


def _sparse_entries(message: Any, vector: VectorSpec) -> tuple[Any, Any]:
    kind = message.WhichOneof("vector")
    if kind == "sparse":
        return message.sparse.indices[:], message.sparse.values[:]
    if kind is None and message.HasField("indices"):
        return message.indices.data[:], message.data[:]
    raise _unexpected(vector.name, "sparse")


def _multi_rows(message: Any, vector: VectorSpec) -> Any:
    dimension = vector.dimension or 0
    if message.WhichOneof("vector") == "multi_dense":
        raw = b"".join(_packed(row, vector) for row in message.multi_dense.vectors)
        return np.frombuffer(raw, dtype=_FLOAT).reshape(-1, dimension)
    if message.WhichOneof("vector") is None and message.vectors_count * dimension == len(message.data):
        return np.array(message.data[:], dtype=_FLOAT).reshape(-1, dimension)
    raise _unexpected(vector.name, f"a multi-vector with dimension {dimension}")


def _unexpected(name: str, expected: str) -> StoreRequestError:
    return StoreRequestError(
        f"the server sent a vector {name!r} that is not {expected}, as the collection says.",
        todo="Check the collection; was it changed while it was read?",
    )


def _vector_of(point: Any, name: str) -> Any:
    kind = point.vectors.WhichOneof("vectors_options")
    if kind == "vector":
        return point.vectors.vector if name == DEFAULT_VECTOR else None
    if kind == "vectors" and name in point.vectors.vectors.vectors:
        return point.vectors.vectors.vectors[name]
    return None


def _packed(message: Any, vector: VectorSpec) -> bytes:
    """Return the floats of a ``DenseVector`` as they lie on the wire."""
    raw: bytes = message.SerializeToString()
    size_bytes = 4 * (vector.dimension or 0)
    if len(raw) != len(_DATA_TAG) + len(_varint(size_bytes)) + size_bytes:
        raise _unexpected(vector.name, f"dense with dimension {vector.dimension}")
    return raw[len(raw) - size_bytes :]


def cut_by_size(points: Iterable[Any], max_count: int, max_bytes: int) -> Iterator[list[Any]]:
    """Group messages into requests of at most that many messages and bytes; a larger one travels alone."""
    group: list[Any] = []
    size = 0
    for point in points:
        point_bytes = point.ByteSize() + 8  # its tag and length in the request
        if group and (len(group) >= max_count or size + point_bytes > max_bytes):
            yield group
            group, size = [], 0
        group.append(point)
        size += point_bytes
    if group:
        yield group
