"""gRPC messages to engine values and back: ids, vectors, payloads, records.

What belongs here: the hot path of the gRPC door, and whatever the vendor's converters do otherwise than the server.
The rest is converted by the vendor's own ``GrpcToRest`` and ``RestToGrpc``.
"""

import math
from typing import Any
from uuid import UUID

import qdrant_edge as edge
from qdrant_client import grpc as messages
from qdrant_client.conversions.conversion import GrpcToRest, payload_to_grpc
from qdrant_client.http import models as rest

from rag_migration_pipeline_tests.servers.qdrant_double import points
from rag_migration_pipeline_tests.servers.qdrant_double.refusals import Refusal, unsupported

_INT64_BOUND = 2**63


def value_from_message(value: Any) -> Any:
    """Read a payload value.

    The vendor's converter turns a non-finite number into a string; the server refuses it.
    Source: qdrant/qdrant `lib/api/src/conversions/json.rs`.
    """
    kind = value.WhichOneof("kind")
    if kind is None or kind == "null_value":
        return None
    if kind == "struct_value":
        return payload_from_message(value.struct_value.fields)
    if kind == "list_value":
        return [value_from_message(part) for part in value.list_value.values]
    content = getattr(value, kind)
    if kind == "double_value" and not math.isfinite(content):
        raise Refusal("format", "cannot convert to json number")
    return content


def payload_from_message(fields: Any) -> dict[str, Any]:
    """Read a payload."""
    return {key: value_from_message(fields[key]) for key in fields}


def _within_int64(value: Any) -> Any:
    """Give integers that gRPC's int64 cannot hold as doubles, as the server does."""
    if isinstance(value, dict):
        return {key: _within_int64(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_within_int64(part) for part in value]
    if isinstance(value, int) and not -_INT64_BOUND <= value < _INT64_BOUND:
        return float(value)
    return value


def payload_to_message(payload: dict[str, Any] | None) -> dict[str, Any]:
    """Give a payload as constructor arguments of a message."""
    return payload_to_grpc(_within_int64(payload)) if payload else {}


def id_from_message(point_id: Any) -> Any:
    """Read an id: int or text."""
    kind = point_id.WhichOneof("point_id_options")
    if kind == "num":
        return point_id.num
    if kind != "uuid":
        raise Refusal("format", "No ID options provided")
    try:
        points.check_id(point_id.uuid)
    except Refusal as refusal:
        raise Refusal("format", f"Unable to parse UUID: {point_id.uuid}") from refusal
    return point_id.uuid


def id_to_message(point_id: Any) -> dict[str, Any]:
    """Give an id as constructor arguments of a message."""
    return {"uuid": str(point_id)} if isinstance(point_id, UUID | str) else {"num": point_id}


def _vector(vector: Any) -> Any:
    kind = vector.WhichOneof("vector")
    if kind == "dense":
        return vector.dense.data[:]
    if kind == "multi_dense":
        return [part.data[:] for part in vector.multi_dense.vectors]
    if kind == "sparse":
        return points.sparse_vector(vector.sparse.indices[:], vector.sparse.values[:])
    if kind is not None:
        raise unsupported("inference: a vector given as a document, image or object")
    # The layout before 1.12, which clients may still send.
    flat = GrpcToRest.convert_vector(vector)
    return points.sparse_vector(flat.indices, flat.values) if isinstance(flat, rest.SparseVector) else flat


def vectors_from_message(vectors: Any) -> Any:
    """Read a point's vectors: one unnamed vector, or vectors by name."""
    kind = vectors.WhichOneof("vectors_options")
    if kind == "vector":
        return _vector(vectors.vector)
    if kind != "vectors":
        raise Refusal("format", "Expected some vectors")
    named = vectors.vectors.vectors
    return {name: _vector(named[name]) for name in named}


def point_from_message(point: Any) -> edge.Point:
    """Read a point to be written."""
    if not point.HasField("id"):
        raise Refusal("format", "Empty ID is not allowed")
    vectors = vectors_from_message(point.vectors)
    return points.new_point(id_from_message(point.id), vectors, payload_from_message(point.payload))


class RecordWriter:
    """Writes records as messages, in the current vector layout or in the one that servers before 1.16 answer with.

    Attributes:
        legacy_vectors: Flat ``data`` with ``indices`` and ``vectors_count``, not the ``dense``/``sparse`` variants.
    """

    def __init__(self, legacy_vectors: bool) -> None:
        self.legacy_vectors = legacy_vectors

    def _one(self, vector: Any) -> dict[str, Any]:
        if isinstance(vector, edge.SparseVector):
            if self.legacy_vectors:
                return {"data": vector.values, "indices": {"data": vector.indices}}
            return {"sparse": {"values": vector.values, "indices": vector.indices}}
        if vector and isinstance(vector[0], list):
            if self.legacy_vectors:
                return {"data": [number for row in vector for number in row], "vectors_count": len(vector)}
            return {"multi_dense": {"vectors": [{"data": row} for row in vector]}}
        return {"data": vector} if self.legacy_vectors else {"dense": {"data": vector}}

    def _vectors(self, vector: Any) -> dict[str, Any]:
        if isinstance(vector, dict):
            named = {name: messages.VectorOutput(**self._one(part)) for name, part in vector.items()}
            return {"vectors": {"vectors": named}}
        return {"vector": self._one(vector)}

    def _fields(self, record: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {"id": id_to_message(record.id), "payload": payload_to_message(record.payload)}
        if record.vector is not None:
            fields["vectors"] = self._vectors(record.vector)
        if record.order_value is not None:
            kind = "int" if isinstance(record.order_value, int) else "float"
            fields["order_value"] = {kind: record.order_value}
        return fields

    def record(self, record: Any) -> Any:
        """Write a retrieved point."""
        return messages.RetrievedPoint(**self._fields(record))

    def scored(self, point: Any) -> Any:
        """Write a found point."""
        return messages.ScoredPoint(score=point.score, version=point.version, **self._fields(point))
